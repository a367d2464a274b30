"""AnalogNAS-Bench, from the data file of the installed package analog-nasbench.

The package stores its records as a pickle. It is read as data, admitting only the two
record classes, so nothing of the package is imported or run. The table is cached as a table
file.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import pickles
from jaxnas.io.cache import cached
from jaxnas.io.streams import ByteStream

# Part of the name of a cached table: raise it when `_build_table` changes.
_CACHE_VERSION = 1
# The package's keys have the edges of the cell as 0-1, 0-2, 0-3, 1-2, 1-3, 2-3 and the
# operations as skip_connect, none, nor_conv_3x3, nor_conv_1x1, avg_pool_3x3; ours have
# 0-1, 0-2, 1-2, 0-3, 1-3, 2-3 and none, skip_connect, 1x1, 3x3, avg_pool.
_ANALOG_EDGE = [0, 1, 3, 2, 4, 5]
_ANALOG_OPERATION = np.array([1, 0, 3, 2, 4], np.int8)
_CIRCUIT = "on a simulated analog chip"
_ANALOG_ACCURACY = {
    "baseline_accuracy": ("cifar10", "in full precision"),
    "ptq_accuracy": ("cifar10-ptq", "quantised after training"),
    "qat_accuracy": ("cifar10-qat", "after 20 epochs more with quantisation"),
    "noisy_accuracy": ("cifar10-noisy", f"{_CIRCUIT}, weights as they were trained"),
    "analog_accuracy": ("cifar10-analog", f"{_CIRCUIT}, trained on with its noise"),
}
_ANALOG_DRIFT = {
    f"{field}_drift_{s}": (f"{name}-drift-{s}", f"as cifar10-{like}, {s} s later")
    for field, name, like in (
        ("baseline", "cifar10", "noisy"),
        ("analog", "cifar10-analog", "analog"),
    )
    for s in (60, 3600, 86400, 2592000)
}


_ADMITTED = {
    ("analognasbench.data", name): functools.partial(pickles.PickledObject, name)
    for name in ("Architecture", "DriftMeasurement")
}


def analog_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """AnalogNAS-Bench (2025): all NAS-Bench-201 cells trained on CIFAR-10 once more.

    Every cell has one run of 200 epochs on all 50,000 training images. Its authors'
    training script evaluates on test images that are cropped and flipped at random, and
    takes the mean of 25 passes: accuracies, in percent, are a little below those of
    NAS-Bench-201. They are in full precision, quantised, and on a simulated analog chip,
    also after its weights have drifted.

    Args:
      path: the data file; default: that of the installed package analog-nasbench.

    Raises: `ValueError` if the file is missing, holds something else, or asks for any
      class but its two record classes.
    """
    path = _package_file() if path is None else Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()

    def load(file: Path) -> BenchmarkTable | None:
        table = table_files.load(file)
        same = table.name == "analog" and table.manifest["sha256"] == digest
        return table if same else None

    return cached(
        f"analog-{_CACHE_VERSION}",
        digest,
        make=lambda: _build_table(path, data, digest),
        load=load,
        save=table_files.save,
    )


def _package_file() -> Path:
    """The data file of the package, which is not imported: its code needs pandas."""
    spec = importlib.util.find_spec("analognasbench")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "analog-nasbench is not installed: pip install analog-nasbench"
        )
    return Path(list(spec.submodule_search_locations)[0]) / "data.anb"


def _build_table(path: Path, data: bytes, digest: str) -> BenchmarkTable:
    """Makes the table of a data file.

    Args:
      path: of the file, for messages.
      data: its content.
      digest: SHA-256 of its content.
    """
    try:
        keys, fields = _analog_fields(data)
    except ValueError as error:
        raise ValueError(
            f"{path} is not a data file of analog-nasbench: {error}"
        ) from error
    described = _ANALOG_ACCURACY | _ANALOG_DRIFT
    columns = {f"{d}/test/200": fields[f] for f, (d, _) in described.items()}
    meaning = {
        f"{d}/test/200": f"CIFAR-10 test accuracy, one run of 200 epochs; {what}"
        for d, what in described.values()
    }
    manifest = {
        "source": "analog-nasbench, data.anb",
        "sha256": digest,
        "columns": meaning,
        "epochs": "200 by the authors' training script; the package does not say",
        "evaluation": "mean of 25 passes over randomly cropped and flipped test "
        "images, by the same script",
    }
    arch = _ANALOG_OPERATION[keys[:, _ANALOG_EDGE]]
    try:
        return table_files.validate_table(
            BenchmarkTable("analog", "nasbench201", arch, columns, manifest)
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _analog_fields(data: bytes) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reads the records and checks their types.

    Returns: the keys (n, 6) int8, operations in the package's order, and each field (n,)
      float32 by name.
    Raises: `ValueError` for a record or field of another type.
    """
    records = pickles.load(ByteStream(io.BytesIO(data)), _ADMITTED)
    if type(records) is not dict or not records:
        raise ValueError(f"wanted a dict of records, found {type(records).__name__}")
    for key, record in records.items():
        is_cell = type(key) is tuple and len(key) == 6
        if not is_cell or any(type(o) is not int or not 0 <= o < 5 for o in key):
            raise ValueError(f"wanted six operations 0..4 as a key, found {key!r}")
        if not _is(record, "Architecture"):
            raise ValueError(f"wanted a record, found {type(record).__name__}")
        if record.fields.get("architecture") != key:
            raise ValueError(f"the record of {key} is of another architecture")
    rows = [record.fields for record in records.values()]
    fields = {f: _field(f, [row.get(f) for row in rows]) for f in _ANALOG_ACCURACY}
    for f in _ANALOG_DRIFT:
        drifts = [row.get(f) for row in rows]
        if not all(_is(x, "DriftMeasurement") for x in drifts):
            raise ValueError(f"wanted a drift measurement as {f} of every record")
        fields[f] = _field(f, [x.fields.get("value") for x in drifts])
    return np.array(list(records), np.int8), fields


def _is(value: Any, kind: str) -> bool:
    """Whether a value is a record of the class `kind`."""
    return type(value) is pickles.PickledObject and value.kind == kind


def _field(name: str, values: list[Any]) -> np.ndarray:
    """The values of a field as an array; `ValueError` unless all are floats."""
    others = [x for x in values if type(x) is not float]
    if others:
        raise ValueError(f"wanted a float as {name}, found {type(others[0]).__name__}")
    return np.array(values, np.float32)
