"""Tables of trained architectures, and the one file format that the library reads.

A table file is an npz (`numpy.load(path, allow_pickle=False)` reads it) of

* `arch`: (n, d) int8 or int32, one architecture of the space in each row;
* accuracy columns called `<dataset>/<split>/<epochs>`, such as `cifar100/valid/12`:
  float32 (n,), or (n, seeds) where each training run has its own number, in percent.
  The split is `train`, `valid` or `test`. `<epochs>` is the length of the training
  schedule; the accuracy is that of its end. A run that was not done is NaN, and each
  architecture has at least one; a column (n,) has no NaN;
* optional cost columns called `seconds/<dataset>/<epochs>`: float32 (n,), the time that
  the whole schedule takes;
* score columns called `score/<what>/<dataset>`: float64 (n,), what a proxy says of the
  untrained networks; higher is better. -inf is the worst there is, NaN what was not
  measured. `<what>` is the proxy, such as `synflow`;
* optional costs of scores called `scoring/<what>/<dataset>`: float32 (n,), the seconds
  that scoring takes, NaN where the score is;
* optional details, as the importers write them; the split can also be `valtest`, the
  official test images of which the valid and test images are the halves. NaN is what
  was not measured; the seeds are those of the accuracy column;

  * `<what>/<dataset>/<split>/<epochs>`: float32 (n, seeds, points), or (n, seeds, 1) for
    what is the same at all points. The manifest says in `points`, by schedule, after how
    many epochs each point is. What: `curve`, the accuracy in percent; `loss`; `time`,
    the seconds that the epoch before the point took to train (split `train`) or to
    evaluate; `elapsed`, the seconds trained up to the point;
  * `<what>/<dataset>/<epochs>`: float32 (n, seeds). What: `latency`, the seconds of one
    batch; `total`, the seconds of the whole run with all of its evaluations;
  * `flops/<dataset>` and `params/<dataset>`: float64 (n,), in millions;
* `manifest`: a () string array, a JSON object with `format` ("jaxnas-table"),
  `version` (1), `name` (what results call the table), `space` (the `Space.name` of its
  architectures), `source` (where the numbers come from), `sha256` (of the file they
  were read from), `columns` (what each column means: which training set and how many
  seeds), and anything else that is worth knowing. One that has a part of its space by
  intent says `"part": true`: searches stay in it, where they refuse others.

A table has accuracies, scores, or both.

`save` writes this, `load` reads it, and both refuse what breaks a rule above. What has
three axes is large: `load` leaves it unread unless it is asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnas import checkpoints
from jaxnas.spaces.base import Space

FORMAT, VERSION = "jaxnas-table", 1
_NAME, _EPOCHS = r"[A-Za-z0-9][A-Za-z0-9._-]*", r"[1-9][0-9]{0,8}"
_ACCURACY = re.compile(rf"({_NAME})/(train|valid|test|valtest)/({_EPOCHS})")
_SECONDS = re.compile(rf"seconds/({_NAME})/({_EPOCHS})")
_CURVE = re.compile(rf"(curve|loss|time|elapsed)/{_ACCURACY.pattern}")
_RUN = re.compile(rf"(latency|total)/({_NAME})/({_EPOCHS})")
_SIZE = re.compile(rf"(flops|params)/({_NAME})")
_SCORE = re.compile(rf"score/({_NAME})/({_NAME})")
_SCORING = re.compile(rf"scoring/({_NAME})/({_NAME})")
# Keys of the manifest that a `Table` has no need to repeat.
_ENVELOPE = ("format", "version", "name", "space")
_DESCRIBED = {"source": str, "sha256": str, "columns": dict}


@dataclass(frozen=True, eq=False)
class Table:
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


def digest(table: Table) -> str:
    """The sha256 of all numbers, whatever they were made of."""
    found = hashlib.sha256(table.arch.tobytes())
    for name in sorted(table.columns):
        found.update(name.encode() + table.columns[name].tobytes())
    return found.hexdigest()


def accuracies(table: Table) -> dict[tuple[str, str, int], np.ndarray]:
    """The accuracy columns by (dataset, split, epochs)."""
    matches = {c: _ACCURACY.fullmatch(c) for c in table.columns if _is_accuracy(c)}
    return {(m[1], m[2], int(m[3])): table.columns[c] for c, m in matches.items() if m}


def seconds(table: Table, dataset: str, epochs: int) -> np.ndarray | None:
    """Training time (n,) of the schedule in seconds; None if the table has no such."""
    return table.columns.get(f"seconds/{dataset}/{epochs}")


def scores(table: Table) -> dict[tuple[str, str], np.ndarray]:
    """The score columns by (what, dataset)."""
    matches = {c: _SCORE.fullmatch(c) for c in table.columns}
    return {(m[1], m[2]): table.columns[c] for c, m in matches.items() if m}


def scoring_seconds(table: Table, what: str, dataset: str) -> np.ndarray | None:
    """How long scoring (n,) takes in seconds; None if the table does not say."""
    return table.columns.get(f"scoring/{what}/{dataset}")


def save(path: str | os.PathLike, table: Table) -> None:
    """Writes a table, atomically; `ValueError` if it breaks a rule of the format."""
    check(table)
    envelope = (FORMAT, VERSION, table.name, table.space)
    manifest = dict(zip(_ENVELOPE, envelope, strict=True)) | table.manifest
    checkpoints.save_arrays(path, {"arch": table.arch, **table.columns}, manifest)


def load(path: str | os.PathLike, curves: Sequence[str] | None = ()) -> Table:
    """Reads a table.

    Args:
      curves: the columns of three axes to read as well; None: all.

    Raises: `ValueError`, in one line that names the file, what was wanted and what was
      found, for a file that is missing, damaged, foreign, of another version, or whose
      content breaks a rule of the format.
    """

    def skip(name: str) -> bool:
        return (
            curves is not None and bool(_CURVE.fullmatch(name)) and name not in curves
        )

    arrays, manifest = checkpoints.load_arrays(path, skip=skip)
    form, version, name, space = (manifest.pop(key, None) for key in _ENVELOPE)
    if form != FORMAT:
        raise ValueError(f"{path}: wanted the format {FORMAT!r}, found {form!r}")
    if version != VERSION:
        raise ValueError(
            f"{path}: wanted version {VERSION} of the table format, found {version!r}"
        )
    if "arch" not in arrays:
        found = ", ".join(sorted(arrays)) or "none"
        raise ValueError(f"{path}: wanted an array 'arch', found {found}")
    arch = arrays.pop("arch")
    if missing := [name for name in curves or () if name not in arrays]:
        raise ValueError(f"{path}: wanted {missing[0]}, and it has no such column")
    try:
        return check(Table(str(name or ""), str(space or ""), arch, arrays, manifest))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check(table: Table) -> Table:
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
    if not any(_is_accuracy(c) or _SCORE.fullmatch(c) for c in table.columns):
        raise ValueError(
            "wanted a column <dataset>/<split>/<epochs> or score/<what>/<dataset>, "
            "found none"
        )
    for name, column in table.columns.items():
        if name not in table.manifest["columns"]:
            raise ValueError(f"the manifest does not say what column {name} means")
        if _SCORE.fullmatch(name) or _SCORING.fullmatch(name):
            _check_score(name, column, len(arch))
        elif _CURVE.fullmatch(name) or _RUN.fullmatch(name) or _SIZE.fullmatch(name):
            _check_detail(name, column, len(arch))
        else:
            _check_column(name, column, len(arch))
    return table


def _is_cost(name: str) -> bool:
    return _SECONDS.fullmatch(name) is not None


def _is_accuracy(name: str) -> bool:
    others = (_SECONDS, _RUN, _CURVE, _SIZE, _SCORE, _SCORING)
    return not any(p.fullmatch(name) for p in others) and bool(
        _ACCURACY.fullmatch(name)
    )


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


def _check_detail(name: str, column: np.ndarray, num: int) -> None:
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
    top = 100 if name.startswith("curve/") else np.inf
    if low < 0 or high > top or np.isinf(high):
        raise ValueError(f"column {name} holds {low}..{high}, wanted 0 to {top}")


def _check_column(name: str, column: np.ndarray, num: int) -> None:
    cost = _is_cost(name)
    if not cost and not _ACCURACY.fullmatch(name):
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
    top = np.inf if cost else 100
    low, high = np.nanmin(column), np.nanmax(column)
    if low < 0 or high > top or np.isinf(high):
        wanted = "seconds of at least 0" if cost else "percentages from 0 to 100"
        raise ValueError(f"column {name} holds {low}..{high}, wanted {wanted}")
    if not cost and 0 < high <= 1:
        raise ValueError(
            f"column {name} holds {low}..{high}, wanted percentages, not fractions"
        )


def check_rows(table: Table, space: Space, keys: np.ndarray) -> None:
    """Raises `ValueError` unless the table has each architecture of `space` once.

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
    size = different if space.size is None else space.size
    if num > different:
        raise ValueError(
            f"table {table.name}: {num - different} of {num} rows are architectures that "
            f"other rows have too, and {size - different} of {size} are missing"
        )
    if num < size:
        raise ValueError(
            f"table {table.name}: wanted each of the {size} architectures of "
            f"{space.name} once, found {num} rows with {num - different} duplicates "
            f"and {size - different} missing (a table that is to have a part of "
            'the space says "part": true in its manifest)'
        )
