"""Tables of trained architectures, and the one file format that the library reads.

A table file is an npz (`numpy.load(path, allow_pickle=False)` reads it) of

* `arch`: (n, d) int8 or int32, one architecture of the space in each row;
* accuracy columns called `<dataset>/<split>/<epochs>`, such as `cifar100/valid/12`:
  float32 (n,), or (n, seeds) where each training run has its own number, in percent
  unless the manifest says otherwise. The split is `train`, `valid` or `test`. `<epochs>`
  is the length of the training schedule; the accuracy is that of its end. A run that was
  not done is NaN, and each architecture has at least one; a column (n,) has no NaN;
* optional cost columns called `seconds/<dataset>/<epochs>`: float32 (n,), the time that
  the whole schedule takes;
* score columns called `score/<what>/<dataset>`: float64 (n,), the scores of a proxy for
  the untrained networks; higher is better, -inf the worst, NaN means not measured.
  `<what>` is the proxy, such as `synflow`;
* optional costs of scores called `scoring/<what>/<dataset>`: float32 (n,), the seconds
  that scoring takes, NaN where the score is;
* optional details, as the importers write them; the split can also be `valtest`, the
  official test images of which the valid and test images are the halves. NaN means not
  measured; the seeds are those of the accuracy column;

  * `<what>/<dataset>/<split>/<epochs>`: float32 (n, seeds, points), or (n, seeds, 1) for
    values that are the same at all points. The manifest has in `points`, by schedule, the
    number of epochs before each point. What: `curve`, the target of the dataset; `loss`;
    `time`, the seconds that the epoch before the point took to train (split `train`) or
    to evaluate; `elapsed`, the seconds trained up to the point;
  * `<what>/<dataset>/<epochs>`: float32 (n, seeds). What: `latency`, the seconds of one
    batch; `total`, the seconds of the whole run with all of its evaluations;
  * `flops/<dataset>` and `params/<dataset>`: float64 (n,), in millions;
* `manifest`: a () string array, a JSON object with `format` ("jaxnas-table"),
  `version` (1), `name` (what results call the table), `space` (the `Space.name` of its
  architectures), `source` (where the numbers come from), `sha256` (of the file they
  were read from), `columns` (what each column means: which training set and how many
  seeds), and anything else that is worth knowing. A table that intentionally has a part
  of its space says `"part": true`: searches are then restricted to it, and refused
  otherwise. Columns that are not accuracies in percent, but any finite numbers, have an
  entry in `targets` by dataset, such as
  `{"wikitext": {"name": "loss", "unit": "nats", "direction": "minimise"}}`; the other
  direction is "maximise".

A table has accuracies, scores, measurements on devices, or several of them.

`save` writes this, `load` reads it, and both refuse a table that breaks a rule. Columns
with three axes are large: `load` leaves them unread unless it is asked for them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from jaxnas.benchmarks.column_rules import (
    ACCURACY,
    CURVE,
    DEVICE,
    SCORE,
    is_accuracy,
    is_name,
)
from jaxnas.benchmarks.table_rules import (
    BenchmarkTable,
    target,
    validate_rows,
    validate_table,
)
from jaxnas.io import npz, records

__all__ = [
    "BenchmarkTable",
    "accuracies",
    "validate_table",
    "validate_rows",
    "curves",
    "device_column",
    "devices",
    "digest",
    "is_name",
    "load",
    "save",
    "scores",
    "scoring_seconds",
    "seconds",
    "target",
]

FORMAT, VERSION = "jaxnas-table", 1
# Keys of the manifest that are not in that of a `BenchmarkTable`.
_ENVELOPE = ("format", "version", "name", "space")


def digest(table: BenchmarkTable) -> str:
    """The SHA-256 of all names and numbers, whatever file they come from."""
    sha256 = hashlib.sha256(table.arch.tobytes())
    for name in sorted(table.columns):
        sha256.update(name.encode() + table.columns[name].tobytes())
    return sha256.hexdigest()


def accuracies(table: BenchmarkTable) -> dict[tuple[str, str, int], np.ndarray]:
    """The accuracy columns by (dataset, split, epochs)."""
    matches = {c: ACCURACY.fullmatch(c) for c in table.columns if is_accuracy(c)}
    return {(m[1], m[2], int(m[3])): table.columns[c] for c, m in matches.items() if m}


def curves(table: BenchmarkTable) -> dict[tuple[str, str, int], np.ndarray]:
    """The curves (n, seeds, points) that were read, by (dataset, split, epochs)."""
    matches = {c: CURVE.fullmatch(c) for c in table.columns}
    return {
        (m[2], m[3], int(m[4])): table.columns[c]
        for c, m in matches.items()
        if m and m[1] == "curve"
    }


def seconds(table: BenchmarkTable, dataset: str, epochs: int) -> np.ndarray | None:
    """Training time (n,) of a schedule in seconds; None if the table lacks it."""
    return table.columns.get(f"seconds/{dataset}/{epochs}")


def scores(table: BenchmarkTable) -> dict[tuple[str, str], np.ndarray]:
    """The score columns by (what, dataset)."""
    matches = {c: SCORE.fullmatch(c) for c in table.columns}
    return {(m[1], m[2]): table.columns[c] for c, m in matches.items() if m}


def scoring_seconds(
    table: BenchmarkTable, what: str, dataset: str
) -> np.ndarray | None:
    """The time (n,) that scoring takes in seconds; None if the table lacks it."""
    return table.columns.get(f"scoring/{what}/{dataset}")


def devices(table: BenchmarkTable, quantity: str) -> dict[str, np.ndarray]:
    """The measurements (n,) of a quantity, such as `latency`, by device."""
    matches = {c: DEVICE.fullmatch(c) for c in table.columns}
    named = {m[2]: c for c, m in matches.items() if m and m[1] == quantity}
    return {device: table.columns[column] for device, column in named.items()}


def device_column(table: BenchmarkTable, quantity: str, device: str) -> np.ndarray:
    """Reads what was measured on one device.

    Args:
      table: the numbers.
      quantity: such as `latency`, `energy` or `throughput`; `target(table, quantity)` has
        its unit and direction.
      device: its name in the table.

    Returns: (n,) float32 by row of the table, NaN where nothing was measured.
    Raises: `ValueError` that lists the quantities, or the devices, that the table has.
    """
    available = devices(table, quantity)
    if device in available:
        return available[device]
    if available:
        raise ValueError(
            f"{table.name} has no {quantity} of {device!r}: choose from "
            f"{', '.join(available)}"
        )
    quantities = sorted({m[1] for c in table.columns if (m := DEVICE.fullmatch(c))})
    raise ValueError(
        f"{table.name} has no {quantity!r} of devices: it has "
        f"{', '.join(quantities) or 'nothing that was measured on devices'}"
    )


def save(path: str | os.PathLike, table: BenchmarkTable) -> None:
    """Writes a table, atomically; `ValueError` if it breaks a rule of the format."""
    validate_table(table)
    envelope = (FORMAT, VERSION, table.name, table.space)
    manifest = dict(zip(_ENVELOPE, envelope, strict=True)) | table.manifest
    npz.save_arrays(path, {"arch": table.arch, **table.columns}, manifest)


def load(path: str | os.PathLike, curves: Sequence[str] | None = ()) -> BenchmarkTable:
    """Reads a table.

    Args:
      path: the file.
      curves: the columns of three axes to read as well; None: all.

    Raises: `ValueError`, in one line that names the file, what was wanted and what was
      found, for a file that is missing, damaged, foreign, of another version, or whose
      content breaks a rule of the format.
    """

    def skip(name: str) -> bool:
        return curves is not None and bool(CURVE.fullmatch(name)) and name not in curves

    arrays, manifest = npz.load_arrays(path, skip=skip)
    form, version, name, space = (manifest.pop(key, None) for key in _ENVELOPE)
    for existing, supported in ((form, FORMAT), (version, VERSION)):
        wanted = f"wanted a table file of version {VERSION}"
        records.require_format(path, existing, supported, wanted)
    if "arch" not in arrays:
        names = ", ".join(sorted(arrays)) or "none"
        raise ValueError(f"{path}: wanted an array 'arch', found {names}")
    arch = arrays.pop("arch")
    if missing := [name for name in curves or () if name not in arrays]:
        raise ValueError(f"{path}: wanted {missing[0]}, and it has no such column")
    try:
        return validate_table(
            BenchmarkTable(str(name or ""), str(space or ""), arch, arrays, manifest)
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
