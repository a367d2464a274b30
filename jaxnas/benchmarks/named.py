"""Tables, surrogates and benchmarks by name or by file, with their space.

    benchmark = open_benchmark("analog", dataset="cifar10", split="test", epochs=200)
    benchmark = open_surrogate("fashion-surrogate", noise="draws")

`NAMES` lists the tables that the library can open by name, `SURROGATES` the surrogates
that are part of it, `SPACES` the spaces that files can be of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jaxnas.benchmarks import (
    devices,
    jahs,
    ofa,
    reference_scores,
    sources,
    surrogate_tables,
    table_files,
    trained,
)
from jaxnas.benchmarks.base import Benchmark
from jaxnas.benchmarks.importers import analog, curve_csv
from jaxnas.benchmarks.surrogate import surrogate_benchmark
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.benchmarks.tabular import tabular_benchmark
from jaxnas.io import files
from jaxnas.spaces import darts, mobilenetv3, nasbench101, nasbench201, nlp
from jaxnas.spaces.base import Space
from jaxnas.spaces.block_chains import FBNET, MNASNET

NAMES: dict[str, Callable[[], BenchmarkTable]] = {
    "analog": analog.analog_table,
    "fashion": trained.fashion_table,
    "fashion-curves": trained.fashion_curves_table,
    "nb201": sources.nasbench201_table,
    "nb201-seeds": sources.nasbench201_seeds_table,
    "nb101": sources.nasbench101_table,
    "jahs201": jahs.jahs201_table,
    "jahs201-seconds": partial(jahs.jahs201_table, seconds=True),
    "zerocost": reference_scores.zero_cost_table,
    "nb201-devices": devices.nasbench201_devices_table,
    "ofa": ofa.subnet_table,
    "ofa-latency": devices.ofa_latency_table,
    "fbnet-latency": devices.fbnet_latency_table,
    "mnasnet": devices.mnasnet_table,
}
"""Opener of each named table."""

SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        *(module.SPACE for module in (nasbench101, nasbench201, darts, nlp)),
        *(mobilenetv3.SPACE, mobilenetv3.SPACE_WITH_RESOLUTION, FBNET, MNASNET),
    )
}
"""The spaces of tables, by `Space.name`."""

SURROGATES = ("fashion-surrogate",)
"""The surrogates that are part of the library, folders of `checkpoints/`."""


def open_table(
    name_or_path: str | os.PathLike, *, curves: Sequence[str] | None = ()
) -> BenchmarkTable:
    """Opens a table of `NAMES`, or a file.

    The table of a surrogate has its predictions for a whole space, see `surrogate_tables`.

    Args:
      name_or_path: a name of `NAMES` or `SURROGATES`, or the path of a table file or of a
        surrogate's (`.npz`), or of learning curves (`.csv`, see `importers.curve_csv`).
      curves: the columns with three axes to read from a table file; None: all of them.
        All other tables come with theirs.

    Raises: `ValueError` for an unknown name, and as the source of the table does: for a
      file or package that is missing, damaged, or holds something else.
    """
    name = os.fspath(name_or_path)
    if name in NAMES:
        return NAMES[name]()
    path = _surrogate_file(name)
    if path is not None:
        saved = surrogate_tables.read(path)
        space = _library_space(name, saved.surrogate.info.space)
        label = name if name in SURROGATES else Path(name).stem
        return surrogate_tables.as_table(label, saved, space)
    if name.endswith(".csv"):
        return curve_csv.read(name, SPACES)
    if not os.path.exists(name) and not name.endswith(".npz"):
        raise ValueError(
            f"unknown benchmark {name!r}: wanted {', '.join((*NAMES, *SURROGATES))}, or a "
            "file (.npz, or .csv of learning curves)"
        )
    return table_files.load(name, curves)


def _surrogate_file(name: str) -> Path | None:
    """The file of a surrogate by its name or path; None for anything else."""
    if name in SURROGATES:
        return files.shipped_checkpoint(name) / "surrogate.npz"
    return Path(name) if surrogate_tables.is_surrogate(name) else None


def library_space(table: BenchmarkTable) -> Space:
    """Finds the space of a table by its name.

    Raises: `ValueError` if the library has no such space; `tabular_benchmark` takes any
      space that is given to it.
    """
    return _library_space(table.name, table.space)


def part_of_space(table: BenchmarkTable) -> str:
    """Counts the architectures of a table that has a part of its space.

    Returns: "4,484 of the 15,625 architectures of nasbench201"; empty for a table of all
      of its space, and for a space of unknown size.
    Raises: `ValueError` as `library_space`.
    """
    space, num = library_space(table), len(table.arch)
    if space.size is None or num >= space.size:
        return ""
    size = f"{space.size:,}" if space.size < 10**9 else f"{float(space.size):.2g}"
    return f"{num:,} of the {size} architectures of {space.name}"


def _library_space(owner: str, space: str) -> Space:
    """The space of a name; `ValueError` that names its owner if the library has none."""
    if space not in SPACES:
        raise ValueError(
            f"{owner} is of the space {space!r}: wanted one of {', '.join(SPACES)}"
        )
    return SPACES[space]


def open_surrogate(
    name_or_path: str | os.PathLike, *, noise: Literal["none", "draws"] = "none"
) -> Benchmark:
    """Opens a surrogate of learning curves as a benchmark of its space.

    Args:
      name_or_path: a name of `SURROGATES`, or a file that `surrogate_files` or
        `released_files` wrote.
      noise: "none" for mean curves; "draws" for curves as single trainings have them, see
        `surrogate_benchmark`.

    Raises: `ValueError` for an unknown name, a file that is missing, damaged or not a
      surrogate, and for a space or an encoding that the library does not have.
    """
    name = os.fspath(name_or_path)
    if not (name in SURROGATES or name.endswith(".npz") or os.path.exists(name)):
        raise ValueError(
            f"unknown surrogate {name!r}: wanted {', '.join(SURROGATES)}, or a file (.npz)"
        )
    surrogate, _, _ = surrogate_tables.read(_surrogate_file(name) or name)
    space = _library_space(name, surrogate.info.space)
    encode = surrogate_tables.require_encoding(surrogate.info)
    return surrogate_benchmark(surrogate, space, encode, noise=noise)


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
    """Opens a table, or the predictions of a surrogate, as a benchmark of its space.

    Args:
      name_or_path: as for `open_table`.
      dataset: the images, as the table's columns call them.
      split: "train", "valid", "test" or "valtest".
      epochs: a training schedule, or several in ascending order.
      seed: "mean" of the runs, "random" for one of them, or its index. Surrogates have
        no runs: `open_surrogate` draws noisy curves.
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
