"""A benchmark table as a comparison of searches needs it, read once.

Searches see one accuracy of the table (fed back) and are judged by another (reported);
`Opened` has both as columns over the table's rows.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from jaxnas.benchmarks import columns, named, tabular
from jaxnas.benchmarks.base import PERCENT, Benchmark
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.search.base import Search
from jaxnas.studies.comparison.settings import Config, table_columns, validate


class Opened(NamedTuple):
    """A table as a benchmark, and the columns by which its architectures are judged."""

    benchmark: Benchmark
    truth: np.ndarray  # (n,) percent by table row: what is fed back, without noise
    reported: np.ndarray  # (n,) percent by table row: what is reported
    sha256: str  # of the table
    fed_back_name: str  # "analog cifar10/test/200, seed mean"
    reported_name: str
    part: str  # counts, as of `named.part_of_space`; empty for a table of all of its space

    def rows(self, archs: Any) -> np.ndarray:
        """Finds the table rows of architectures.

        Args:
          archs: (..., d) integers.

        Returns: (...) int, -1 where the table has none.
        """
        return np.asarray(tabular.table_rows(self.benchmark, archs))

    def reachable(self, search: Search) -> float:
        """The best truth, in percent, of the architectures that a search can ask for.

        Args:
          search: without `candidates` it can ask for all of the table.
        """
        if search.candidates is None:
            return float(self.truth.max())
        row = self.rows(search.candidates)
        return float(self.truth[row[row >= 0]].max())


def open_table(
    config: Config, *, curves: bool = False, low: tuple[str, int] | None = None
) -> Opened:
    """Opens the table of a comparison.

    Args:
      config: which table and columns, and how long the searches are.
      curves: whether the epochs of its schedule are levels that searches can train to.
      low: dataset and epochs of separate short trainings, which are a level below.

    Raises: `ValueError` for settings that are wrong in themselves or that the table
      cannot fulfil, for a budget below the cost of every complete training, and for a
      table of a target other than accuracy in percent.
    """
    validate(config)
    table = named.open_table(config.benchmark, curves=None if curves else ())
    space = named.library_space(table)
    # With several levels an architecture has several evaluations.
    if config.evaluations > len(table.arch) and not curves and low is None:
        raise ValueError(
            f"--evaluations must be at most the {len(table.arch)} architectures of "
            f"{table.name}, not {config.evaluations}"
        )
    fed_back, reported = table_columns(config)
    levels = fed_back
    if low is not None:
        table, epochs = _with_level(table, fed_back, *low), (low[1], config.epochs)
        levels = {**fed_back, "epochs": epochs}
    benchmark = tabular.tabular_benchmark(space, table, **levels, curves=curves)
    if benchmark.target != PERCENT:
        raise ValueError(
            f"comparisons are of accuracies in percent, not of {benchmark.target.name} "
            f"in {benchmark.target.unit}, as {table.name} has for {config.dataset}"
        )
    least = tabular.least_cost(benchmark)
    if config.budget is not None and least.dtype.type(config.budget) < least:
        raise ValueError(
            f"--budget {config.budget:g} pays for no complete training: the cheapest "
            f"costs {least:g} {benchmark.cost_unit}"
        )
    # Random runs are judged by their mean.
    truth = dict(fed_back)
    if config.run == "random":
        truth["seed"] = "mean"
    return Opened(
        benchmark,
        truth=columns.column(table, **truth)[:, 0],
        reported=columns.column(table, **reported)[:, 0],
        sha256=table.manifest["sha256"],
        fed_back_name=columns.describe(table, **levels),
        reported_name=columns.describe(table, **reported),
        part=named.part_of_space(table),
    )


def _with_level(
    table: BenchmarkTable, fed_back: dict[str, Any], dataset: str, epochs: int
) -> BenchmarkTable:
    """The table with a schedule of another dataset as one of the dataset fed back.

    Tables call one dataset differently where schedules have other splits.
    """
    read = {**fed_back, "dataset": dataset, "epochs": epochs, "seed": "mean"}
    values = columns.column(table, **read)[:, 0]
    name = f"{fed_back['dataset']}/{fed_back['split']}/{epochs}"
    return dataclasses.replace(table, columns={name: values, **table.columns})


def count_copies(config: Config) -> bool:
    """Whether cells that compute the same function are different candidates."""
    imported = config.benchmark not in (*named.NAMES, *named.SURROGATES)
    return imported if config.copies is None else config.copies
