"""Results of a comparison of searches: the record, its figures and its tables.

`runs.run` makes an `Outcome` and writes its arrays; `show` draws curves.png and
curves_by_cost.png, and prints the tables. Errors and regrets are in percent and points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxnas.io.run_folder import RunFolder
from jaxnas.studies import figures
from jaxnas.studies.comparison import summary

FILES = "results.npz, table.csv, table_by_cost.csv, curves.png, curves_by_cost.png"


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
    index: dict[str, int]  # of the method of each label among all; selects its colour


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
    _draw(done, batch)
    summary.show(console, done.summaries, done.fed_back, done.reported)
    if budget is not None:
        _show_limits(console, done, evaluations, budget)
    line = f"{done.folder.path}: {FILES}"
    console.print(line, highlight=False, soft_wrap=True)


def _draw(done: Outcome, batch: Mapping[str, int] | None) -> None:
    """Draws curves.png, by evaluation, and curves_by_cost.png.

    Args:
      done: the results. A method that cannot ask the best cell of the table has a mark in
        the legend, which the title explains.
      batch: as for `show`.

    Raises: `ValueError` if a figure cannot be written.
    """
    of = summary.which_numbers(done.fed_back, done.reported)
    title = f"{of}; mean of {summary.count_runs(done.summaries)}"
    far = {n: s.out_of_reach for n, s in done.summaries.items() if s.out_of_reach > 0}
    names = {n: f"{n} *" if n in far else n for n in done.summaries}
    if far:
        below = max(far.values())
        title += f"\n* the best cell is no candidate: {below:.2f} points below it"
    by_cost: dict[str, Any] = {
        "budgets": done.grid,
        "budget_label": f"{done.unit} of training, one after another",
    }
    sizes = {names[n]: b for n, b in batch.items()} if batch else None
    by_evaluation: dict[str, Any] = {"batch": sizes}
    for file, summaries, axis in (
        ("curves.png", done.summaries, by_evaluation),
        ("curves_by_cost.png", done.by_cost, by_cost),
    ):
        figures.search_curves(
            done.folder.path / file,
            {names[n]: s.reported for n, s in summaries.items()},
            {names[n]: s.regret for n, s in summaries.items()},
            title=title,
            reported_label="reported error of the incumbent, %",
            regret_label="regret by the accuracy fed back, %",
            optimum=done.optimum,
            index={names[n]: i for n, i in done.index.items()},
            **axis,
        )


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
