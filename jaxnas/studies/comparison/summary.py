"""Statistics of a comparison of searches, on the terminal and as csv files.

Every method has runs (seeds, t) of percent accuracies. A curve is the mean and the
standard error over the seeds of what the incumbent has, by evaluation or by cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from jaxnas import metrics
from jaxnas.io import files
from jaxnas.studies import terminal
from jaxnas.studies.figures import Curve

# Evaluations after which the curves are read off, as far as they reach.
MARKS = (30, 50, 100, 150, 200, 300)
# Shares of the largest cost at which the curves are read off.
COST_SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


class Summary(NamedTuple):
    """One method over all its runs.

    Curves are (mean, standard error), each (t,) by evaluation or (g,) by budget.
    """

    fed_back: Curve  # percent error of the incumbent, by the accuracy fed back
    reported: Curve  # percent error of the same cell, by the accuracy reported
    regret: Curve  # points between the incumbent and the best cell of the table
    # (seeds,), evaluations until the best cell is trained to the end; inf for never
    queries: np.ndarray
    # Points between the best cell of the table and the best candidate of the method: above
    # 0 where cells of the same function count once and another copy scored best.
    out_of_reach: float


def summarise(
    score: np.ndarray,
    truth: np.ndarray,
    other: np.ndarray,
    optimum: float,
    *,
    reachable: float | None = None,
    cost: np.ndarray | None = None,
    budgets: np.ndarray | None = None,
) -> Summary:
    """Computes the statistics of one method.

    Args:
      score: (seeds, t) accuracy in percent that the search was given; NaN is a failure.
      truth: (seeds, t) the same without noise, where the table has noise.
      other: (seeds, t) the accuracy to report of the same architectures, percent.
      optimum: the best `truth` of the table, percent.
      reachable: the best `truth` of the method's candidates. Default: the optimum.
      cost: (seeds, t) of each evaluation, in the unit of the table.
      budgets: (g,) cumulative costs at which curves are read, NaN until every run has
        finished an evaluation. Default: curves are (t,), after each evaluation.

    Returns: the statistics; the incumbent is chosen by `score`, which the search saw.
    """

    def curve(runs: np.ndarray) -> Curve:
        if cost is not None and budgets is not None:
            runs = metrics.at_cost(cost, runs, budgets)
        return metrics.mean_and_sem(runs)

    best = metrics.at_incumbent(score, truth).astype(np.float64)
    other = metrics.at_incumbent(score, other).astype(np.float64)
    return Summary(
        fed_back=curve(100 - best),
        reported=curve(100 - other),
        regret=curve(optimum - best),
        queries=metrics.queries_to(np.where(np.isnan(score), np.nan, truth), optimum),
        out_of_reach=max(0.0, optimum - (optimum if reachable is None else reachable)),
    )


def marks(evaluations: int) -> list[int]:
    """Evaluations at which tables read curves: those of `MARKS` in reach, and the last."""
    return sorted({m for m in MARKS if m < evaluations} | {evaluations})


def which_numbers(fed_back: str, reported: str) -> str:
    """Describes the accuracy that searches saw and the one that is reported."""
    if fed_back == reported:
        return f"fed back and reported: {fed_back}"
    return f"fed back: {fed_back}\nreported: {reported}"


def count_runs(summaries: Mapping[str, Summary]) -> str:
    """The number of runs of each method, as text: "5 runs", or "2 to 5 runs"."""
    numbers = sorted({len(s.queries) for s in summaries.values()})
    return " to ".join(map(str, dict.fromkeys((numbers[0], numbers[-1])))) + " runs"


def show(
    console: Console,
    summaries: Mapping[str, Summary],
    fed_back: str,
    reported: str,
    part: str = "",
) -> None:
    """Prints the tables of a comparison.

    Args:
      console: where.
      summaries: by method, with curves by evaluation.
      fed_back: the name of the accuracy that the searches saw.
      reported: the name of the accuracy that is reported.
      part: what the table has of its space, in words; empty for all.
    """
    console.print(which_numbers(fed_back, reported), highlight=False, soft_wrap=True)
    of = f"mean ± standard error of {count_runs(summaries)}"
    after = marks(len(next(iter(summaries.values())).regret[0]))
    where = [m - 1 for m in after], ("after", *map(str, after))
    title = f"percent error of the best cell so far, {of}"
    _show_curves(console, title, {n: s.fed_back for n, s in summaries.items()}, *where)
    if fed_back != reported:
        curves = {n: s.reported for n, s in summaries.items()}
        title = f"percent error reported of that cell, {of}"
        _show_curves(console, title, curves, *where)
    rows = [
        (name, _median(s), _tail(s), f"{np.isfinite(s.queries).mean():.0%}")
        for name, s in summaries.items()
    ]
    header = ("evaluations until it", "median", "90th percentile", "runs that found it")
    counts = f" ({part})" if part else ""
    best = f"\nthe best cell of the table{counts}, by the number fed back"
    terminal.show_rows(console, header, rows, best)
    for name, s in summaries.items():
        if s.out_of_reach > 0:
            line = (
                f"{name} cannot ask the best cell of the table: the best that can be "
                f"asked is {s.out_of_reach:.2f} points below it (--copies True)"
            )
            console.print(line, highlight=False, soft_wrap=True)


def show_by_cost(
    console: Console,
    summaries: Mapping[str, Summary],
    budgets: np.ndarray,
    unit: str,
    fed_back: str,
    reported: str,
    costs: Sequence[float] = (),
    *,
    part: str = "",
) -> None:
    """Prints the error and the regret of a comparison at some costs.

    Args:
      console: where.
      summaries: by method, with curves (g,) by budget.
      budgets: (g,) cumulative costs, increasing.
      unit: of the costs.
      fed_back: the name of the accuracy that the searches saw.
      reported: the name of the accuracy that is reported.
      costs: of the columns; default: shares of the largest budget.
      part: as for `show`.
    """
    console.print(which_numbers(fed_back, reported), highlight=False, soft_wrap=True)
    if part:
        console.print(f"the table has {part}", highlight=False, soft_wrap=True)
    of = f"mean ± standard error of {count_runs(summaries)}"
    wanted = np.asarray(costs or np.asarray(COST_SHARES) * budgets[-1])
    at = np.maximum(np.searchsorted(budgets, wanted * (1 + 1e-9), side="right") - 1, 0)
    heads = tuple(f"{cost:,.0f}" for cost in wanted)
    for title, curves in (
        (
            "percent error reported of the incumbent",
            {n: s.reported for n, s in summaries.items()},
        ),
        (
            "regret by the accuracy fed back, points",
            {n: s.regret for n, s in summaries.items()},
        ),
    ):
        _show_curves(console, f"{title}, {of}", curves, at, (f"after {unit}", *heads))


def _show_curves(
    console: Console,
    title: str,
    curves: Mapping[str, Curve],
    at: Sequence[int] | np.ndarray,
    header: Sequence[str],
) -> None:
    """Prints curves at the given indices, a row for each method."""
    rows = [
        (name, *(_plus_minus(mean[i], error[i]) for i in at))
        for name, (mean, error) in curves.items()
    ]
    terminal.show_rows(console, header, rows, f"\n{title}")


def _plus_minus(mean: float, error: float) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.2f}" if np.isnan(error) else f"{mean:.2f} ± {error:.2f}"


def _median(summary: Summary) -> str:
    return _count(summary, float(metrics.median(summary.queries)))


def _tail(summary: Summary) -> str:
    return _count(summary, np.quantile(summary.queries, 0.9, method="higher"))


def _count(summary: Summary, queries: float) -> str:
    """A number of evaluations as text, inf as more than there were."""
    return f"{queries:g}" if np.isfinite(queries) else f"> {len(summary.regret[0])}"


def write_csv(path: str | Path, summaries: Mapping[str, Summary]) -> None:
    """Writes a csv file with a row for each method and mark, atomically.

    Args:
      path: the file; its folder must exist.
      summaries: by method, with curves by evaluation.

    Raises: `ValueError` if the file cannot be written.
    """
    header = ("median_queries_to_optimum", "runs_at_optimum", "runs")
    header = (*header, "best_that_can_be_asked_below_optimum")
    header, rows = ["method", "evaluations", *_CURVE_COLUMNS, *header], []
    for name, s in summaries.items():
        median = f"{float(metrics.median(s.queries)):g}"
        for mark in marks(len(s.regret[0])):
            at_optimum = (s.queries <= mark).sum()
            counts = [median, at_optimum, len(s.queries), f"{s.out_of_reach:.6g}"]
            rows.append([name, mark, *_at(s, mark - 1), *counts])
    files.write_csv(path, header, rows)


def write_cost_csv(
    path: str | Path, summaries: Mapping[str, Summary], budgets: np.ndarray
) -> None:
    """Writes a csv file with a row for each method and budget, atomically.

    Args:
      path: the file; its folder must exist.
      summaries: by method, with curves (g,) by budget.
      budgets: (g,) cumulative costs, in the unit of the table.

    Raises: `ValueError` if the file cannot be written.
    """
    header, rows = ["method", "cost", *_CURVE_COLUMNS, "runs"], []
    for name, s in summaries.items():
        for index, budget in enumerate(budgets):
            rows.append([name, f"{budget:.6g}", *_at(s, index), len(s.queries)])
    files.write_csv(path, header, rows)


def write_overhead(path: str | Path, overhead: Mapping[str, float]) -> None:
    """Writes a csv file with a row for each method, atomically.

    Args:
      path: the file; its folder must exist.
      overhead: by method, wall-clock seconds of the search itself for an evaluation, its
        compilation included; NaN where they were not measured.

    Raises: `ValueError` if the file cannot be written.
    """
    rows = [[name, f"{seconds:.6g}"] for name, seconds in overhead.items()]
    files.write_csv(path, ["method", "overhead_seconds"], rows)


_CURVE_COLUMNS = [
    f"{curve}_{what}"
    for curve in ("fed_back", "reported", "regret")
    for what in ("mean", "standard_error")
]


def _at(s: Summary, index: int) -> list[str]:
    """The cells of `_CURVE_COLUMNS` at an index of the curves."""
    return [f"{c[index]:.6g}" for c in (*s.fed_back, *s.reported, *s.regret)]
