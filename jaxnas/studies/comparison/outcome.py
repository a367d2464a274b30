"""Results of a comparison of searches: the record, its figures and its tables.

`runs.run` makes an `Outcome` and writes its arrays; `show` draws curves.png and
curves_by_cost.png, and prints the tables. `show_by_cost` leaves out what is by evaluations,
for searches whose evaluations are parts of trainings. Errors and regrets are in percent and
points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxnas.io.run_folder import RunFolder
from jaxnas.studies import figures
from jaxnas.studies.comparison import summary

FILES = (
    "results.npz, table.csv, table_by_cost.csv, overhead.csv, curves.png, "
    "curves_by_cost.png"
)


class Outcome(NamedTuple):
    """The runs of all methods and their statistics.

    Methods are in the order of the table of methods, whichever of them ran last, so that
    tables, legends and colours stay as they are when methods are added.
    """

    arrays: dict[str, np.ndarray]  # by `METHOD/NAME`, as in results.npz
    summaries: dict[str, summary.Summary]  # by method, curves by evaluation
    by_cost: dict[str, summary.Summary]  # by method, curves at the budgets `grid`
    grid: np.ndarray  # (g,) cumulative cost, in `unit`
    unit: str  # of the cost: "seconds" or "epochs"
    folder: RunFolder
    fed_back: str  # name of the accuracy that the searches saw
    reported: str  # name of the accuracy that is reported
    optimum: float  # percent error reported of the best cell of the table
    overhead: dict[str, float]  # by method, seconds of the search itself an evaluation
    index: dict[str, int]  # of the method of each label among all; selects its colour
    part: str = ""  # what the table has of its space, where it is not all of it


def show(
    done: Outcome,
    *,
    evaluations: int,
    budget: float | None,
    batch: Mapping[str, int] | None = None,
) -> None:
    """Draws the figures into the folder and prints the tables.

    Args:
      done: the results.
      evaluations: the largest number of evaluations of a run.
      budget: the largest cost of a run, in the unit of the table; None: no limit.
      batch: architectures in a step of every method, for a panel by steps; default: the
        panels are by evaluations.

    Raises: `ValueError` if a figure cannot be written.
    """
    console = Console()
    sizes = {_names(done)[n]: b for n, b in batch.items()} if batch else None
    _draw(done, "curves.png", done.summaries, batch=sizes)
    _draw_by_cost(done)
    summary.show(console, done.summaries, done.fed_back, done.reported, done.part)
    if budget is not None:
        _show_limits(console, done, evaluations, budget)
    _show_overhead(console, done)
    line = f"{done.folder.path}: {FILES}"
    console.print(line, highlight=False, soft_wrap=True)


def show_by_cost(
    done: Outcome,
    costs: Sequence[float] = (),
    *,
    evaluations: int = 0,
    budget: float | None = None,
) -> None:
    """Draws curves_by_cost.png into the folder and prints the errors by cost.

    Args:
      done: the results.
      costs: at which errors are printed; default: shares of the largest cost.
      evaluations: the largest number of evaluations of a run.
      budget: as for `show`.

    Raises: `ValueError` if the figure cannot be written.
    """
    console = Console()
    _draw_by_cost(done)
    curves = done.by_cost, done.grid, done.unit
    names = done.fed_back, done.reported
    summary.show_by_cost(console, *curves, *names, costs, part=done.part)
    if budget is not None:
        _show_limits(console, done, evaluations, budget)
    _show_overhead(console, done)
    files = "results.npz, table_by_cost.csv, overhead.csv, curves_by_cost.png"
    line = f"{done.folder.path}: {files}"
    console.print(line, highlight=False, soft_wrap=True)


def _names(done: Outcome) -> dict[str, str]:
    """The names of methods in legends: marked if the best cell is not a candidate."""
    return {n: f"{n} *" if s.out_of_reach > 0 else n for n, s in done.summaries.items()}


def _draw_by_cost(done: Outcome) -> None:
    label = f"{done.unit} of training, one after another"
    file = "curves_by_cost.png"
    _draw(done, file, done.by_cost, budgets=done.grid, budget_label=label)


def _draw(
    done: Outcome, file: str, summaries: Mapping[str, summary.Summary], **axis: Any
) -> None:
    """Draws the errors and regrets of all methods.

    Args:
      done: the results. A method that cannot ask the best cell of the table has a mark in
        the legend, which the title explains.
      file: name of the png in the folder.
      summaries: by method, the curves.
      **axis: arguments of `figures.search_curves` for the horizontal axes.

    Raises: `ValueError` if the figure cannot be written.
    """
    of = summary.which_numbers(done.fed_back, done.reported)
    title = f"{of}; mean of {summary.count_runs(done.summaries)}"
    below, names = max(s.out_of_reach for s in done.summaries.values()), _names(done)
    if below > 0:
        title += f"\n* the best cell is not a candidate: {below:.2f} points below it"
    figures.search_curves(
        done.folder.path / file,
        {names[n]: s.reported for n, s in summaries.items()},
        {names[n]: s.regret for n, s in summaries.items()},
        title=title,
        reported_label="reported error of the best cell so far, %",
        regret_label="regret fed back, percentage points; 0 after a dot",
        optimum=done.optimum,
        index={names[n]: i for n, i in done.index.items()},
        **axis,
    )


def _show_overhead(console: Console, done: Outcome) -> None:
    """Prints the seconds of each search itself, apart from the cost of evaluations."""
    measured = {n: s for n, s in done.overhead.items() if np.isfinite(s)}
    texts = [f"{name} {_milliseconds(s)}" for name, s in measured.items()]
    if texts:
        line = "milliseconds of the search itself for an evaluation, compilation included: "
        console.print(line + ", ".join(texts), highlight=False, soft_wrap=True)


def _milliseconds(seconds: float) -> str:
    """A time of two digits, without an exponent."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def _show_limits(
    console: Console, done: Outcome, evaluations: int, budget: float
) -> None:
    """Names the methods of which runs ended before their budget was spent.

    Args:
      console: where.
      done: the results; the cost of an evaluation that a run did not make is NaN.
      evaluations: as for `show`.
      budget: as for `show`.
    """
    for label in done.summaries:
        finished = ~np.isnan(done.arrays[f"{label}/cost"][:, -1])
        if finished.any():
            line = (
                f"{label}: {finished.sum()} of {len(finished)} runs reached "
                f"--evaluations {evaluations} before --budget {budget:g}"
            )
            console.print(line, highlight=False, soft_wrap=True)
