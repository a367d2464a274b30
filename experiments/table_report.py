"""How much signal does a table with learning curves and several runs have?

    python -m experiments.table_report
    python -m experiments.table_report --other analog
    python -m experiments.table_report --benchmark results/train_table/table.npz

The first reports on the embedded table. Prints, and writes to --out as table.csv and
curves.png, for each epoch: the spread between cells, and Spearman's correlation with the
same and with the last epoch of another run. Each function that cells compute counts once,
and cells that do not connect their input to their output are left out. --other compares
the last epoch with the accuracies of another table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments.common import curve_figures
from jaxnas import ranks
from jaxnas.benchmarks import columns, named
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
    """Accuracies of train, valid or test."""
    other: str | None = None
    """A table of the same space to compare the last epoch with, such as analog, which is
    embedded, or a table file of import_benchmark."""
    other_column: str = "cifar10/test/200"
    """The accuracies of that table, as DATASET/SPLIT/EPOCHS."""
    out: str = "results/table_report"
    """Folder for the results."""


class Signal(NamedTuple):
    """How well the e epochs of a table rank its n functions."""

    curves: np.ndarray  # (n, e) percent, mean of the runs, in the table's order
    between: np.ndarray  # (e,) Spearman between two runs at the same epoch
    final: np.ndarray  # (e,) Spearman of an epoch with the last one of another run
    compared: int  # functions with at least two runs
    other: float  # Spearman of the last epoch with the other table; NaN: none given


def signal(
    table: BenchmarkTable, curves: np.ndarray, other: np.ndarray | None = None
) -> Signal:
    """Measures how well epochs rank architectures.

    Args:
      table: of cells of NAS-Bench-201.
      curves: (cells, runs, epochs) percent; NaN where a cell has fewer runs.
      other: (cells,) accuracies of another table; NaN for cells that it lacks.

    Raises: `ValueError` if fewer than three functions have two runs.
    """
    cells = np.ravel_multi_index(table.arch.T, SPACE.choices)
    classes = function_classes(keep_dead=False)
    _, first = np.unique(classes[cells], return_index=True)
    # The cell of rank 0 has no connections.
    first = np.sort(first[classes[cells[first]] != classes[0]])
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
    """Spearman's correlation of the functions that have both values (n,)."""
    both = ~np.isnan(a) & ~np.isnan(b)
    return float(ranks.spearman(*(ranks.ordinal(x[both]) for x in (a, b))))


def main(config: Config) -> Signal:
    """Measures, prints and writes.

    Raises: `ValueError` for bad input, before anything is written.
    """
    table, column = _with_curves(config)
    if table.space != SPACE.name:
        raise ValueError(f"wanted a table of {SPACE.name}, not of {table.space}")
    measured = signal(table, table.columns[column], _other(config, table))
    out = cli.folder(config.out, "table_report")
    console = Console()
    line = (
        f"{column}: {len(measured.curves)} functions, {measured.compared} with two runs"
    )
    console.print(f"{line}; Spearman's correlation", highlight=False, soft_wrap=True)
    _write_table(console, out, measured)
    if config.other is not None:
        line = f"with {config.other} {config.other_column}: {measured.other:.2f}"
        console.print(line, highlight=False, soft_wrap=True)
    curve_figures.table_signal(
        out / "curves.png",
        measured.curves,
        measured.between,
        measured.final,
        label=f"{config.split} accuracy, percent",
    )
    console.print(f"{out}: table.csv, curves.png", highlight=False, soft_wrap=True)
    return measured


def _write_table(console: Console, out: Path, measured: Signal) -> None:
    """Prints a line for each epoch, and writes table.csv."""
    header = ("epoch", "best", "median", "worst", "other run", "other run's last")
    lines = []
    for epoch, accuracy in enumerate(measured.curves.T):
        spread = (accuracy.max(), np.median(accuracy), accuracy.min())
        lines.append((*spread, measured.between[epoch], measured.final[epoch]))
    shown = [[f"{i + 1}", *(f"{x:.2f}" for x in line)] for i, line in enumerate(lines)]
    terminal.show_rows(console, header, shown)
    written = [[i + 1, *(f"{x:.6g}" for x in line)] for i, line in enumerate(lines)]
    files.write_csv(out / "table.csv", header, written)


def _with_curves(config: Config) -> tuple[BenchmarkTable, str]:
    """The table, and the name of its one column of curves of the split."""
    table = named.open_table(config.benchmark, curves=None)
    curves = [name for name in table.columns if name.startswith("curve/")]
    names = [name for name in curves if name.split("/")[2] == config.split]
    if len(names) != 1:
        raise ValueError(
            f"{config.benchmark}: wanted one column curve/DATASET/{config.split}/EPOCHS, "
            f"found {len(names)}"
        )
    return table, names[0]


def _other(config: Config, table: BenchmarkTable) -> np.ndarray | None:
    """The accuracies (n,) of the other table, NaN for cells that it lacks."""
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
    value_of = dict(zip(map(tuple, other.arch.tolist()), values, strict=True))
    cells = map(tuple, table.arch.tolist())
    return np.array([value_of.get(cell, np.nan) for cell in cells])


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: nothing was written")
