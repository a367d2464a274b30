"""What a comparison of searches came to: its figures, and its tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from rich.console import Console

from jaxnas.io.run_folder import RunFolder
from jaxnas.studies import figures
from jaxnas.studies.comparison import summary


class Outcome(NamedTuple):
    """What all runs came to."""

    arrays: dict[str, np.ndarray]  # as they are in results.npz
    summaries: dict[str, summary.Summary]
    by_cost: dict[str, summary.Summary]  # at the budgets `grid`
    grid: np.ndarray  # (g,) of cumulative cost
    unit: str  # of the cost
    folder: RunFolder
    fed_back: str  # which number
    reported: str  # which number
    optimum: float  # percent error reported of the best architecture


def show(
    done: Outcome,
    *,
    evaluations: int,
    budget: float | None,
    batch: Mapping[str, int] | None = None,
) -> None:
    """Draws the figures and prints the tables.

    Args:
      evaluations, budget: what the runs were limited by.
      batch: as for `plots.search_curves`.
    """
    of = summary.which_numbers(done.fed_back, done.reported)
    seeds = len(next(iter(done.summaries.values())).queries)
    title = f"{of}; mean of {seeds} runs"
    # A method that cannot reach the optimum has a mark in the legend.
    far = {n: s.out_of_reach for n, s in done.summaries.items() if s.out_of_reach > 0}
    names = {n: f"{n} *" if n in far else n for n in done.summaries}
    if far:
        title += (
            f"\n* cannot ask the best cell: {max(far.values()):.2f} points below it"
        )
    by_cost = {
        "budgets": done.grid,
        "budget_label": f"{done.unit} of training, one after another",
    }
    sizes = {names[n]: b for n, b in batch.items()} if batch else None
    for file, summaries, axis in (
        ("curves.png", done.summaries, {"batch": sizes}),
        ("curves_by_cost.png", done.by_cost, by_cost),
    ):
        figures.search_curves(
            done.folder.path / file,
            {names[n]: s.reported for n, s in summaries.items()},
            {names[n]: s.regret for n, s in summaries.items()},
            title=title,
            reported_label="reported error of the best cell so far, %",
            regret_label="fed-back error above the best of all cells, %",
            optimum=done.optimum,
            **axis,
        )
    console = Console()
    summary.show(console, done.summaries, done.fed_back, done.reported)
    for label in done.summaries if budget is not None else ():
        asked = ~np.isnan(done.arrays[f"{label}/cost"][:, -1])
        if asked.any():
            line = (
                f"{label}: {asked.sum()} of {seeds} runs reached --evaluations "
                f"{evaluations} before --budget {budget:g}"
            )
            console.print(line, highlight=False, soft_wrap=True)
    written = (
        "results.npz, table.csv, table_by_cost.csv, curves.png, curves_by_cost.png"
    )
    console.print(f"{done.folder.path}: {written}", highlight=False, soft_wrap=True)
