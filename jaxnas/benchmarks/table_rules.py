"""The table of trained architectures, and the rules of its format; see `table_files`.

`validate_table` checks a table by itself, `validate_rows` its architectures against their
space; both raise `ValueError` for the first rule that is broken. The rules of columns are
in `column_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnas.benchmarks.base import PERCENT, Target
from jaxnas.benchmarks.column_rules import (
    DEVICE,
    SCORE,
    dataset_of,
    is_accuracy,
    validate_column,
)
from jaxnas.spaces.base import Space

# Keys that every manifest has, and the types of their values.
_REQUIRED = {"source": str, "sha256": str, "columns": dict}


@dataclass(frozen=True, eq=False)
class BenchmarkTable:
    """Architectures and what was measured of them; see `table_files` for the rules.

    Attributes:
      name: what results call it.
      space: the `Space.name` of the architectures.
      arch: (n, d) int8 or int32.
      columns: arrays by column name, whose first axis is that of the architectures.
      manifest: `source`, `sha256`, `columns` (their meaning), and whatever else.
    """

    name: str
    space: str
    arch: np.ndarray
    columns: dict[str, np.ndarray]
    manifest: dict[str, Any]


def target(table: BenchmarkTable, dataset: str) -> Target:
    """The target whose values are in the columns `<dataset>/...` and their curves.

    Args:
      table: one whose manifest may have `targets`.
      dataset: the images, as the table's columns call them.

    Returns: accuracy in percent, unless the manifest says otherwise.
    """
    return _targets(table.manifest).get(dataset, PERCENT)


def _targets(manifest: Mapping[str, Any]) -> dict[str, Target]:
    """The targets in a manifest, by dataset.

    Raises: `ValueError` if one is incomplete, or of a dataset without columns.
    """
    given = manifest.get("targets", {})
    fields = sorted(Target._fields)
    if not isinstance(given, dict):
        raise ValueError(f"wanted 'targets' in the manifest as a dict, found {given!r}")
    for dataset, entry in given.items():
        if not isinstance(entry, dict) or sorted(entry) != fields:
            raise ValueError(
                f"the target of {dataset} in the manifest must say {', '.join(fields)}, "
                f"and says {entry!r}"
            )
    named = {part for column in manifest["columns"] for part in column.split("/")[:2]}
    if unknown := sorted(set(given) - named):
        raise ValueError(
            f"the manifest has a target of {unknown[0]}, but no such dataset"
        )
    return {dataset: Target(**entry).validated() for dataset, entry in given.items()}


def validate_table(table: BenchmarkTable) -> BenchmarkTable:
    """Returns `table`, or raises `ValueError` for the first rule it breaks."""
    if not table.name or not table.space:
        raise ValueError("wanted the name of the table and of its space, found none")
    _validate_manifest(table.manifest)
    arch = table.arch
    if arch.ndim != 2 or not arch.size or arch.dtype not in (np.int8, np.int32):
        raise ValueError(
            f"wanted arch as (n, d) int8 or int32, found {arch.shape} {arch.dtype}"
        )
    if not any(map(_is_main, table.columns)):
        raise ValueError(
            "wanted a column <dataset>/<split>/<epochs>, score/<what>/<dataset> or "
            "device/<quantity>/<device>, found none"
        )
    targets = _targets(table.manifest)
    for name, column in table.columns.items():
        if name not in table.manifest["columns"]:
            raise ValueError(f"the manifest does not say what column {name} means")
        of_dataset = targets.get(dataset_of(name), PERCENT)
        validate_column(name, column, len(arch), of_dataset)
    return table


def _is_main(name: str) -> bool:
    """Whether a column is of a kind that a table can consist of."""
    return is_accuracy(name) or any(p.fullmatch(name) for p in (SCORE, DEVICE))


def _validate_manifest(manifest: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a required key that is missing or of another type."""
    for key, kind in _REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            content = ", ".join(sorted(manifest)) or "nothing"
            if key in manifest:
                content = f"a {type(manifest[key]).__name__}"
            raise ValueError(
                f"wanted {key!r} in the manifest, a {kind.__name__}, found {content}"
            )


def validate_rows(table: BenchmarkTable, space: Space, keys: np.ndarray) -> None:
    """Checks that the table has each architecture of `space` once.

    With `"part": true` in the manifest, or if the size of the space is not known, any
    number of them may be missing.

    Args:
      table: the table, with n rows.
      space: the space whose name the table has.
      keys: (n,) the identity of each row of the table.

    Raises: `ValueError` for a table of another space, for vectors of another length or
      with choices outside of the space, and that counts the architectures that are
      duplicated or missing.
    """
    if table.space != space.name:
        raise ValueError(
            f"table {table.name} is of the space {table.space!r}, not {space.name!r}"
        )
    num, length = len(table.arch), len(space.choices)
    if table.arch.shape[1] != length:
        raise ValueError(
            f"table {table.name}: wanted {length} numbers for each architecture of "
            f"{space.name}, found {table.arch.shape[1]}"
        )
    outside = ((table.arch < 0) | (table.arch >= np.array(space.choices))).any(1)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(
            f"table {table.name}: {outside.sum()} of {num} rows have choices that "
            f"{space.name} does not; the first is row {row}, {table.arch[row].tolist()}"
        )
    distinct = 1 + np.count_nonzero(np.diff(np.sort(keys)))
    part = table.manifest.get("part") is True or space.size is None
    missing = 0 if part or space.size is None else space.size - distinct
    if num > distinct:
        and_missing = f", and {missing} of {space.size} are missing" if missing else ""
        raise ValueError(
            f"table {table.name}: {num - distinct} of {num} rows are architectures that "
            f"other rows have too{and_missing}"
        )
    if missing:
        raise ValueError(
            f"table {table.name}: wanted each of the {space.size} architectures of "
            f"{space.name} once, found {num} rows with {num - distinct} duplicates "
            f"and {missing} missing (a table that is to have a part of "
            'the space says "part": true in its manifest)'
        )
