"""How much signal has a table with learning curves and several runs?

    python -m experiments.table_report --benchmark results/train_table/table.npz

Prints, and writes to --out as table.csv and curves.png, for each epoch: how the cells
rank by it, compared with the last epoch of another run, and the spread between cells.
Each function that cells compute counts once, and cells that connect nothing are left out.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments.common import curve_figures
from jaxnas import ranks
from jaxnas.benchmarks import columns, named, table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import files
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.spaces.nasbench201_classes import function_classes
from jaxnas.studies import cli, terminal


@dataclass(frozen=True)
class Config:
    """Which table, and what to compare it with."""

    benchmark: str = "fashion"
    """fashion, fashion-curves, or a table file with columns curve/DATASET/SPLIT/EPOCHS."""
    split: str = "valid"
    """Whose accuracies."""
    other: str | None = None
    """A table of the same space to compare the last epoch with, such as nb201."""
    other_column: str = "cifar10/test/200"
    """Its accuracy."""
    out: str = "results/table_report"
    """Folder for the results."""


class Signal(NamedTuple):
    """What the epochs (e,) of a table say."""

    curves: (
        np.ndarray
    )  # (n, e) percent, mean of the runs; functions in the table's order
    between: np.ndarray  # (e,) Spearman between two runs at the same epoch
    final: np.ndarray  # (e,) Spearman of an epoch with the last one of another run
    compared: int  # functions with at least two runs
    other: float  # Spearman of the last epoch with the other table; NaN: none given


def signal(
    table: BenchmarkTable, curves: np.ndarray, other: np.ndarray | None = None
) -> Signal:
    """Measures the signal of curves (cells, runs, epochs), NaN for what was not run.

    Args:
      other: (cells,) an accuracy of another table.

    Raises: `ValueError` if fewer than three functions have two runs.
    """
    codes = np.ravel_multi_index(table.arch.T, SPACE.choices)
    classes = function_classes(keep_dead=False)
    _, first = np.unique(classes[codes], return_index=True)
    # The cell of rank 0 connects nothing.
    first = np.sort(first[classes[codes[first]] != classes[0]])
    curves = curves[first]
    both = curves[:, :2]
    both = both[~np.isnan(both).any((1, 2))] if both.shape[1] == 2 else both[:0]
    if len(both) < 3:
        raise ValueError(f"table {table.name} has two runs of {len(both)} functions")
    one, two = both[:, 0], both[:, 1]
    mean = np.nanmean(curves, 1)
    return Signal(
        mean,
        np.array([_spearman(a, b) for a, b in zip(one.T, two.T, strict=True)]),
        np.array([_spearman(a, two[:, -1]) for a in one.T]),
        len(both),
        np.nan if other is None else _spearman(mean[:, -1], other[first]),
    )


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    known = ~np.isnan(a) & ~np.isnan(b)
    return float(ranks.spearman(*(ranks.ordinal(x[known]) for x in (a, b))))


def main(config: Config) -> Signal:
    """Measures, prints and writes.

    Raises: `ValueError` for bad input, before anything is written.
    """
    table, names = _with_curves(config)
    if table.space != SPACE.name:
        raise ValueError(f"wanted a table of {SPACE.name}, not of {table.space}")
    found = signal(table, table.columns[names[0]], _other(config, table))
    out = cli.folder(config.out, "table.csv")
    console, shown, text = Console(), terminal.plain(), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("epoch", "best", "median", "worst", "other run", "other run's last")
    writer.writerow(columns)
    for column in columns:
        shown.add_column(column, justify="right", no_wrap=True)
    for epoch, accuracy in enumerate(found.curves.T):
        spread = (accuracy.max(), np.median(accuracy), accuracy.min())
        told = (*spread, found.between[epoch], found.final[epoch])
        writer.writerow([epoch + 1, *(f"{x:.6g}" for x in told)])
        percent = [f"{x:.2f}" for x in spread]
        shown.add_row(str(epoch + 1), *percent, *(f"{x:.2f}" for x in told[3:]))
    line = f"{names[0]}: {len(found.curves)} functions, {found.compared} with two runs"
    console.print(f"{line}; Spearman's correlation", highlight=False, soft_wrap=True)
    terminal.show(console, shown)
    if config.other is not None:
        line = f"with {config.other} {config.other_column}: {found.other:.2f}"
        console.print(line, highlight=False, soft_wrap=True)
    files.atomic_write(out / "table.csv", text.getvalue().encode())
    label = f"{config.split} accuracy, percent"
    ranked = found.between, found.final
    curve_figures.table_signal(out / "curves.png", found.curves, *ranked, label=label)
    console.print(f"{out}: table.csv, curves.png", highlight=False, soft_wrap=True)
    return found


def _with_curves(config: Config) -> tuple[BenchmarkTable, list[str]]:
    """The table, and its one column of curves of the split."""
    known = config.benchmark in named.NAMES
    open_it = named.open_table if known else partial(table_files.load, curves=None)
    table = open_it(config.benchmark)
    curves = [name for name in table.columns if name.startswith("curve/")]
    names = [name for name in curves if name.split("/")[2] == config.split]
    if len(names) != 1:
        raise ValueError(
            f"{config.benchmark}: wanted one column curve/DATASET/{config.split}/EPOCHS, "
            f"found {len(names)}"
        )
    return table, names


def _other(config: Config, table: BenchmarkTable) -> np.ndarray | None:
    """The other table's accuracy of the same cells."""
    if config.other is None:
        return None
    other = named.open_table(config.other)
    if other.space != table.space or config.other_column.count("/") != 2:
        raise ValueError(
            f"wanted a table of {table.space} as --other and DATASET/SPLIT/EPOCHS as "
            f"--other-column, not {other.name} and {config.other_column}"
        )
    dataset, split, epochs = config.other_column.split("/")
    if not epochs.isdecimal():
        raise ValueError(f"--other-column {config.other_column} has no epochs")
    which = {"dataset": dataset, "split": split, "epochs": int(epochs)}
    values = columns.column(other, **which, seed="mean")[:, 0]
    known = dict(zip(map(tuple, other.arch.tolist()), values, strict=True))
    cells = map(tuple, table.arch.tolist())
    return np.array([known.get(cell, np.nan) for cell in cells])


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: nothing was written")
