"""The names of a table's columns, and the rules for their values; see `table_files`.

The name of a column says its kind: each kind has a pattern, a shape, a number type and a
range. `validate_column` raises `ValueError` for the first rule that is broken.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from jaxnas.benchmarks.base import Target

_NAME, _EPOCHS = r"[A-Za-z0-9][A-Za-z0-9._-]*", r"[1-9][0-9]{0,8}"
ACCURACY = re.compile(rf"({_NAME})/(train|valid|test|valtest)/({_EPOCHS})")
"""`<dataset>/<split>/<epochs>`; other kinds match it too, see `is_accuracy`."""
CURVE = re.compile(rf"(curve|loss|time|elapsed)/{ACCURACY.pattern}")
"""`<what>/<dataset>/<split>/<epochs>`, the columns of three axes."""
SCORE = re.compile(rf"score/({_NAME})/({_NAME})")
"""`score/<what>/<dataset>`, of a zero-cost proxy."""
DEVICE = re.compile(rf"device/({_NAME})/({_NAME})")
"""`device/<quantity>/<device>`, what was measured on a device."""
_SCORING = re.compile(rf"scoring/({_NAME})/({_NAME})")
_SECONDS = re.compile(rf"seconds/({_NAME})/({_EPOCHS})")
_RUN = re.compile(rf"(latency|total)/({_NAME})/({_EPOCHS})")
_SIZE = re.compile(rf"(flops|params)/({_NAME})")


def is_name(text: str) -> bool:
    """Whether a dataset or score can be called so in the names of columns."""
    return re.fullmatch(_NAME, text) is not None


def is_accuracy(name: str) -> bool:
    """Whether a column has the values of a target, `<dataset>/<split>/<epochs>`."""
    others = (_SECONDS, _RUN, CURVE, _SIZE, SCORE, _SCORING, DEVICE)
    return not any(p.fullmatch(name) for p in others) and bool(ACCURACY.fullmatch(name))


def dataset_of(name: str) -> str:
    """The dataset of a column, or the quantity of one `device/<quantity>/<device>`."""
    details = (CURVE, _RUN, _SIZE, DEVICE)
    detail = any(pattern.fullmatch(name) for pattern in details)
    return name.split("/")[1 if detail else 0]


def validate_column(name: str, column: np.ndarray, num: int, target: Target) -> None:
    """Checks one column against the rules of its kind.

    Args:
      name: of the column.
      column: its values.
      num: rows of the table.
      target: of the column's dataset; its values are percentages if that is its unit.

    Raises: `ValueError` that names the column, for an unknown kind of name, another shape
      or number type, values out of range, and NaN where there must be a number.
    """
    if SCORE.fullmatch(name) or _SCORING.fullmatch(name):
        _validate_score(name, column, num)
    elif DEVICE.fullmatch(name):
        _validate_device(name, column, num)
    elif CURVE.fullmatch(name) or _RUN.fullmatch(name) or _SIZE.fullmatch(name):
        _validate_detail(name, column, num, target)
    elif _SECONDS.fullmatch(name):
        _validate_seconds(name, column, num)
    else:
        _validate_accuracy(name, column, num, target)


def _validate_score(name: str, column: np.ndarray, num: int) -> None:
    """Scores may be -inf, their costs not negative; some rows of both may be NaN."""
    cost = bool(_SCORING.fullmatch(name))
    kind = "float32" if cost else "float64"
    _require_form(name, column, column.shape == (num,), f"({num},)", kind)
    if np.isnan(column).all():
        raise ValueError(f"column {name} is NaN for all of {num} rows")
    low, high = np.nanmin(column), np.nanmax(column)
    if np.isposinf(high) or (cost and low < 0):
        rule = "seconds of at least 0" if cost else "less than infinity"
        raise ValueError(f"column {name} holds {low}..{high}, wanted {rule}")


def _validate_device(name: str, column: np.ndarray, num: int) -> None:
    """Measurements are finite; some rows may be NaN, and -1 may not stand for it."""
    _require_form(name, column, column.shape == (num,), f"({num},)", "float32")
    if np.isnan(column).all():
        raise ValueError(f"column {name} is NaN for all of {num} rows")
    low, high = np.nanmin(column), np.nanmax(column)
    if low < 0 or np.isinf(high):
        raise ValueError(
            f"column {name} holds {low}..{high}, wanted numbers of at least 0, and NaN "
            "where nothing was measured"
        )


def _validate_detail(name: str, column: np.ndarray, num: int, target: Target) -> None:
    """Curves, times and sizes: any part may be NaN, losses may be anything."""
    size = bool(_SIZE.fullmatch(name))
    ndim = 1 if size else 2 if _RUN.fullmatch(name) else 3
    axes = ", ".join(("", "seeds", "points")[:ndim])
    fits = column.shape[:1] == (num,) and column.ndim == ndim
    _require_form(
        name, column, fits, f"({num}{axes})", "float64" if size else "float32"
    )
    if not column.size or name.startswith("loss/"):
        return  # A loss can be anything, after training that diverged.
    # Unlike nanmin these are silent where all is NaN, and make no copy.
    low, high = np.fmin.reduce(column, axis=None), np.fmax.reduce(column, axis=None)
    curve = name.startswith("curve/")
    if curve and target.unit != "percent":
        _require_finite(name, low, high, target)
        return
    top = 100 if curve else np.inf
    if low < 0 or high > top or np.isinf(high):
        raise ValueError(f"column {name} holds {low}..{high}, wanted 0 to {top}")


def _validate_seconds(name: str, column: np.ndarray, num: int) -> None:
    """Costs are finite and not negative in every row."""
    _require_form(name, column, column.shape == (num,), f"({num},)", "float32")
    low, high = _range_of_rows(name, column)
    if low < 0 or np.isinf(high):
        raise ValueError(
            f"column {name} holds {low}..{high}, wanted seconds of at least 0"
        )


def _validate_accuracy(name: str, column: np.ndarray, num: int, target: Target) -> None:
    """Values of the target, of one seed at least in every row."""
    if not ACCURACY.fullmatch(name):
        raise ValueError(
            f"wanted columns <dataset>/<train|valid|test|valtest>/<epochs> and "
            f"seconds/<dataset>/<epochs>, found {name!r}"
        )
    per_seed = column.ndim == 2 and column.shape[1] > 0 and len(column) == num
    fits = column.shape == (num,) or per_seed
    _require_form(name, column, fits, f"({num},) or ({num}, seeds)", "float32")
    low, high = _range_of_rows(name, column)
    if target.unit != "percent":
        _require_finite(name, low, high, target)
        return
    if low < 0 or high > 100:
        rule = "percentages from 0 to 100"
        raise ValueError(f"column {name} holds {low}..{high}, wanted {rule}")
    if 0 < high <= 1:
        raise ValueError(
            f"column {name} holds {low}..{high}, wanted percentages, not fractions"
        )


def _require_form(
    name: str, column: np.ndarray, fits: bool, shape: str, kind: str
) -> None:
    """Raises `ValueError` unless the shape `fits` and the number type is `kind`."""
    if not fits or column.dtype != kind:
        raise ValueError(
            f"wanted column {name} as {shape} {kind}, "
            f"found {column.shape} {column.dtype}"
        )


def _range_of_rows(name: str, column: np.ndarray) -> tuple[Any, Any]:
    """The least and the greatest value; `ValueError` if a row has none."""
    missing = np.isnan(column).reshape(len(column), -1).all(1)
    if missing.any():
        raise ValueError(
            f"column {name} is NaN for {missing.sum()} of {len(column)} rows, the first "
            f"of them {np.argmax(missing)}: wanted a number in every row"
        )
    return np.nanmin(column), np.nanmax(column)


def _require_finite(name: str, low: Any, high: Any, target: Target) -> None:
    if np.isinf(low) or np.isinf(high):
        raise ValueError(
            f"column {name} holds {low}..{high}, wanted finite numbers "
            f"({target.name}, {target.unit})"
        )
