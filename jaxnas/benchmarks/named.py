"""Tables and benchmarks by name or by file, with the space found for them.

    benchmark = open_benchmark("analog", dataset="cifar10", split="test", epochs=200)

`NAMES` lists the tables that the library knows how to find, `SPACES` the spaces that
table files can be of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxnas.benchmarks import reference_scores, sources, table_files, trained
from jaxnas.benchmarks.base import Benchmark
from jaxnas.benchmarks.importers import analog
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.benchmarks.tabular import tabular_benchmark
from jaxnas.spaces import darts, nasbench101, nasbench201, nlp
from jaxnas.spaces.base import Space

NAMES: dict[str, Callable[[], BenchmarkTable]] = {
    "analog": analog.analog_table,
    "fashion": trained.fashion_table,
    "fashion-curves": trained.fashion_curves_table,
    "nb201": sources.nasbench201_table,
    "nb101": sources.nasbench101_table,
    "zerocost": reference_scores.zero_cost_table,
}
"""Opener of each named table."""

SPACES: dict[str, Space] = {
    module.SPACE.name: module.SPACE for module in (nasbench101, nasbench201, darts, nlp)
}
"""The spaces of tables, by `Space.name`."""


def open_table(
    name_or_path: str | os.PathLike, *, curves: Sequence[str] | None = ()
) -> BenchmarkTable:
    """Opens a table of `NAMES`, or a table file.

    Args:
      name_or_path: a name, or the path of a table file, which ends in `.npz` or exists.
      curves: the columns with three axes to read from a table file; None: all of them.
        Tables that have a name come with theirs.

    Raises: `ValueError` for an unknown name, and as the source of the table does: for a
      file or package that is missing, damaged, or holds something else.
    """
    name = os.fspath(name_or_path)
    if name in NAMES:
        return NAMES[name]()
    if not os.path.exists(name) and not name.endswith(".npz"):
        raise ValueError(
            f"unknown benchmark {name!r}: wanted {', '.join(NAMES)}, or a table file "
            "(.npz)"
        )
    return table_files.load(name, curves)


def library_space(table: BenchmarkTable) -> Space:
    """Finds the space of a table by its name.

    Raises: `ValueError` if the library has no such space; `tabular_benchmark` takes any
      space that is given to it.
    """
    if table.space not in SPACES:
        raise ValueError(
            f"table {table.name} is of the space {table.space!r}: wanted one of "
            f"{', '.join(SPACES)}"
        )
    return SPACES[table.space]


def open_benchmark(
    name_or_path: str | os.PathLike,
    *,
    dataset: str,
    split: str,
    epochs: int | Sequence[int],
    seed: str | int = "mean",
    curves: bool = False,
    truth: Mapping[str, Any] | None = None,
) -> Benchmark:
    """Opens a table as a benchmark of the space that the table names.

    Args:
      name_or_path: as for `open_table`.
      dataset: the images, as the table's columns call them.
      split: "train", "valid", "test" or "valtest".
      epochs: a training schedule, or several in ascending order.
      seed: "mean" of the runs, "random" for one of them, or its index.
      curves: whether the stored epochs of the schedule are fidelity levels.
      truth: what differs in the column of true scores, as `dict(split="test")`.

    Returns: the benchmark that `tabular_benchmark` makes.
    Raises: `ValueError` as `open_table`, `library_space` and `tabular_benchmark` do.
    """
    table = open_table(name_or_path, curves=None if curves else ())
    return tabular_benchmark(
        library_space(table),
        table,
        dataset=dataset,
        split=split,
        epochs=epochs,
        seed=seed,
        curves=curves,
        truth=truth,
    )
