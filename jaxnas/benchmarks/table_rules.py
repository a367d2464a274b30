"""The table of trained architectures and the rules of its format, see `files`.

`validate_table` and `validate_rows` raise `ValueError` for the first rule that is broken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnas.benchmarks.base import PERCENT, Target
from jaxnas.spaces.base import Space

_NAME, _EPOCHS = r"[A-Za-z0-9][A-Za-z0-9._-]*", r"[1-9][0-9]{0,8}"
ACCURACY = re.compile(rf"({_NAME})/(train|valid|test|valtest)/({_EPOCHS})")
_SECONDS = re.compile(rf"seconds/({_NAME})/({_EPOCHS})")
CURVE = re.compile(rf"(curve|loss|time|elapsed)/{ACCURACY.pattern}")
_RUN = re.compile(rf"(latency|total)/({_NAME})/({_EPOCHS})")
_SIZE = re.compile(rf"(flops|params)/({_NAME})")
SCORE = re.compile(rf"score/({_NAME})/({_NAME})")
_SCORING = re.compile(rf"scoring/({_NAME})/({_NAME})")
_DESCRIBED = {"source": str, "sha256": str, "columns": dict}


@dataclass(frozen=True, eq=False)
class BenchmarkTable:
    """Architectures and what is known of them; see the module for the rules.

    Attributes:
      name: what results call it.
      space: the `Space.name` of the architectures.
      arch: (n, d) int8 or int32.
      columns: arrays by column name.
      manifest: `source`, `sha256`, `columns` (their meaning), and whatever else.
    """

    name: str
    space: str
    arch: np.ndarray
    columns: dict[str, np.ndarray]
    manifest: dict[str, Any]


def is_name(text: str) -> bool:
    """Whether a dataset or score can be called so in the names of columns."""
    return re.fullmatch(_NAME, text) is not None


def target(table: BenchmarkTable, dataset: str) -> Target:
    """The target whose values are in the columns `<dataset>/...` and their curves."""
    return _targets(table.manifest).get(dataset, PERCENT)


def _targets(manifest: Mapping[str, Any]) -> dict[str, Target]:
    given = manifest.get("targets", {})
    fields = sorted(Target._fields)
    if not isinstance(given, dict):
        raise ValueError(f"wanted 'targets' in the manifest as a dict, found {given!r}")
    for dataset, told in given.items():
        if not isinstance(told, dict) or sorted(told) != fields:
            wanted = ", ".join(fields)
            raise ValueError(
                f"the target of {dataset} in the manifest must say {wanted}, "
                f"and says {told!r}"
            )
    named = {part for column in manifest["columns"] for part in column.split("/")[:2]}
    if unknown := sorted(set(given) - named):
        raise ValueError(
            f"the manifest has a target of {unknown[0]}, but no such dataset"
        )
    return {dataset: Target(**told).validated() for dataset, told in given.items()}


def validate_table(table: BenchmarkTable) -> BenchmarkTable:
    """Returns `table`, or raises `ValueError` for the first rule it breaks."""
    if not table.name or not table.space:
        raise ValueError("wanted the name of the table and of its space, found none")
    for key, kind in _DESCRIBED.items():
        if not isinstance(table.manifest.get(key), kind):
            found = ", ".join(sorted(table.manifest)) or "nothing"
            if key in table.manifest:
                found = f"a {type(table.manifest[key]).__name__}"
            raise ValueError(
                f"wanted {key!r} in the manifest, a {kind.__name__}, found {found}"
            )
    arch = table.arch
    if arch.ndim != 2 or not arch.size or arch.dtype not in (np.int8, np.int32):
        raise ValueError(
            f"wanted arch as (n, d) int8 or int32, found {arch.shape} {arch.dtype}"
        )
    if not any(is_accuracy(c) or SCORE.fullmatch(c) for c in table.columns):
        raise ValueError(
            "wanted a column <dataset>/<split>/<epochs> or score/<what>/<dataset>, "
            "found none"
        )
    of_datasets = _targets(table.manifest)
    for name, column in table.columns.items():
        if name not in table.manifest["columns"]:
            raise ValueError(f"the manifest does not say what column {name} means")
        if SCORE.fullmatch(name) or _SCORING.fullmatch(name):
            _check_score(name, column, len(arch))
        elif CURVE.fullmatch(name) or _RUN.fullmatch(name) or _SIZE.fullmatch(name):
            dataset = name.split("/")[1]
            what = of_datasets.get(dataset, PERCENT)
            _check_detail(name, column, len(arch), what)
        else:
            what = of_datasets.get(name.split("/")[0], PERCENT)
            _check_column(name, column, len(arch), what)
    return table


def _is_cost(name: str) -> bool:
    return _SECONDS.fullmatch(name) is not None


def is_accuracy(name: str) -> bool:
    """Whether a column has the values of a target, `<dataset>/<split>/<epochs>`."""
    others = (_SECONDS, _RUN, CURVE, _SIZE, SCORE, _SCORING)
    return not any(p.fullmatch(name) for p in others) and bool(ACCURACY.fullmatch(name))


def _check_score(name: str, column: np.ndarray, num: int) -> None:
    cost = bool(_SCORING.fullmatch(name))
    kind = "float32" if cost else "float64"
    if column.shape != (num,) or column.dtype != kind:
        raise ValueError(
            f"wanted column {name} as ({num},) {kind}, "
            f"found {column.shape} {column.dtype}"
        )
    if np.isnan(column).all():
        raise ValueError(f"column {name} is NaN for all of {num} rows")
    low, high = np.nanmin(column), np.nanmax(column)
    if np.isposinf(high) or (cost and low < 0):
        wanted = "seconds of at least 0" if cost else "less than infinity"
        raise ValueError(f"column {name} holds {low}..{high}, wanted {wanted}")


def _check_detail(name: str, column: np.ndarray, num: int, target: Target) -> None:
    size = bool(_SIZE.fullmatch(name))
    ndim = 1 if size else 2 if _RUN.fullmatch(name) else 3
    kind = "float64" if size else "float32"
    if column.shape[:1] != (num,) or column.ndim != ndim or column.dtype != kind:
        axes = ", ".join(("", "seeds", "points")[:ndim])
        raise ValueError(
            f"wanted column {name} as ({num}{axes}) {kind}, "
            f"found {column.shape} {column.dtype}"
        )
    if not column.size or name.startswith("loss/"):
        return  # A loss can be anything, after training that diverged.
    # Unlike nanmin these say nothing where all is NaN, and make no copy.
    low, high = np.fmin.reduce(column, axis=None), np.fmax.reduce(column, axis=None)
    curve = name.startswith("curve/")
    if curve and target.unit != "percent":
        _check_finite(name, low, high, target)
        return
    top = 100 if curve else np.inf
    if low < 0 or high > top or np.isinf(high):
        raise ValueError(f"column {name} holds {low}..{high}, wanted 0 to {top}")


def _check_finite(name: str, low: Any, high: Any, target: Target) -> None:
    if np.isinf(low) or np.isinf(high):
        raise ValueError(
            f"column {name} holds {low}..{high}, wanted finite numbers "
            f"({target.name}, {target.unit})"
        )


def _check_column(name: str, column: np.ndarray, num: int, target: Target) -> None:
    cost = _is_cost(name)
    if not cost and not ACCURACY.fullmatch(name):
        raise ValueError(
            f"wanted columns <dataset>/<train|valid|test|valtest>/<epochs> and "
            f"seconds/<dataset>/<epochs>, found {name!r}"
        )
    per_seed = column.ndim == 2 and column.shape[1] > 0 and not cost
    shaped = column.shape == (num,) or (per_seed and len(column) == num)
    if not shaped or column.dtype != np.float32:
        wanted = f"({num},)" if cost else f"({num},) or ({num}, seeds)"
        raise ValueError(
            f"wanted column {name} as {wanted} float32, "
            f"found {column.shape} {column.dtype}"
        )
    missing = np.isnan(column)
    if missing.ndim == 2:
        missing = missing.all(1)
    if missing.any():
        raise ValueError(
            f"column {name} is NaN for {missing.sum()} of {num} rows, the first of them "
            f"{np.argmax(missing)}: wanted a number in every row"
        )
    low, high = np.nanmin(column), np.nanmax(column)
    if not cost and target.unit != "percent":
        _check_finite(name, low, high, target)
        return
    top = np.inf if cost else 100
    if low < 0 or high > top or np.isinf(high):
        wanted = "seconds of at least 0" if cost else "percentages from 0 to 100"
        raise ValueError(f"column {name} holds {low}..{high}, wanted {wanted}")
    if not cost and 0 < high <= 1:
        raise ValueError(
            f"column {name} holds {low}..{high}, wanted percentages, not fractions"
        )


def validate_rows(table: BenchmarkTable, space: Space, keys: np.ndarray) -> None:
    """Raises `ValueError` unless the table has each architecture of `space` once.

    With `"part": true` in the manifest, or if the size of the space is not known, any
    number of them may be missing.

    Args:
      keys: (n,) the identity of each row of the table.
    """
    if table.space != space.name:
        raise ValueError(
            f"table {table.name} is of the space {table.space!r}, not {space.name!r}"
        )
    num, wanted = len(table.arch), len(space.choices)
    if table.arch.shape[1] != wanted:
        raise ValueError(
            f"table {table.name}: wanted {wanted} numbers for each architecture of "
            f"{space.name}, found {table.arch.shape[1]}"
        )
    outside = ((table.arch < 0) | (table.arch >= np.array(space.choices))).any(1)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(
            f"table {table.name}: {outside.sum()} of {num} rows have choices that "
            f"{space.name} does not; the first is row {row}, {table.arch[row].tolist()}"
        )
    different = 1 + np.count_nonzero(np.diff(np.sort(keys)))
    part = table.manifest.get("part") is True or space.size is None
    missing = 0 if part or space.size is None else space.size - different
    if num > different:
        and_missing = f", and {missing} of {space.size} are missing" if missing else ""
        raise ValueError(
            f"table {table.name}: {num - different} of {num} rows are architectures that "
            f"other rows have too{and_missing}"
        )
    if missing:
        raise ValueError(
            f"table {table.name}: wanted each of the {space.size} architectures of "
            f"{space.name} once, found {num} rows with {num - different} duplicates "
            f"and {missing} missing (a table that is to have a part of "
            'the space says "part": true in its manifest)'
        )
