"""Measurements of architectures on devices, from the reference files, as tables.

    table = named.open_table("nb201-devices")
    latency = table_files.device_column(table, "latency", "pixel3")

Latencies are in milliseconds, of one batch: a name that ends in a number, such as
`titan_rtx_32`, says the batch size. What was not measured is NaN, whatever the files have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.benchmarks import sources
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import npz
from jaxnas.spaces import base, mobilenetv3
from jaxnas.spaces.block_chains import FBNET, MNASNET
from jaxnas.spaces.mobilenetv3_formats import from_ofa

_TARGETS = {
    "latency": {"name": "latency", "unit": "milliseconds", "direction": "minimise"},
    "energy": {"name": "energy", "unit": "millijoules", "direction": "minimise"},
    "throughput": {
        "name": "throughput",
        "unit": "images per second",
        "direction": "maximise",
    },
}
_HELP, _HELP_FILE = "HELP (Lee et al., 2021)", "help_ofa_fbnet_latency.npz"


def nasbench201_devices_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """NAS-Bench-201 with latencies on 27 devices (HELP; Lee et al., 2021), and energies.

    The columns of `sources.nasbench201_table`, `device/latency/<device>` of HELP, and of
    HW-NAS-Bench (Li et al., 2021) for CIFAR-10 the latencies of `edgegpu` and `edgetpu`,
    which lacks 4,699 cells, and the energies of `edgegpu`, `eyeriss` and `fpga`.

    Args:
      path: the reference file nb201_hardware.npz; default: see `sources`. The file
        nb201_accuracy.npz has to be beside it.

    Raises: `ValueError` if one is missing, damaged, or holds something else.
    """
    path = sources.reference_file("nb201_hardware.npz", path)
    table = sources.nasbench201_table(path.with_name("nb201_accuracy.npz"))
    names = ("help_latency", "help_devices", "hwnasbench_cifar10", "hwnasbench_columns")
    arrays, sha256 = npz.read_npz_and_digest(path, names)
    latency, devices, values, labels = arrays.values()
    columns = _device_columns("latency", devices, latency)
    for label, column in zip(labels, values.T, strict=True):
        device, _, quantity = str(label).partition("_")
        # Four latencies are in both; the arithmetic intensity is no measurement.
        if quantity in _TARGETS and f"device/{quantity}/{device}" not in columns:
            columns |= _device_columns(quantity, [device], column[:, None])
    manifest = table.manifest | {
        "source": f"{_HELP} and HW-NAS-Bench, with {table.manifest['source']}",
        "sha256": sha256,
        "sha256_accuracies": table.manifest["sha256"],
        "targets": _targets(columns),
        "columns": table.manifest["columns"] | dict.fromkeys(columns, "on a device"),
    }
    made = BenchmarkTable(
        "nb201-devices", table.space, table.arch, table.columns | columns, manifest
    )
    return sources.validated(path, made)


def ofa_latency_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """Latencies of 5,000 once-for-all networks on four GPUs with three batch sizes.

    The networks are of 25 input resolutions, the 46th position of an architecture. No
    accuracies were measured of them.

    Args:
      path: the reference file help_ofa_fbnet_latency.npz; default: see `sources`.

    Raises: `ValueError` if it is missing, damaged, or holds something else.
    """
    names = [f"ofa_{name}" for name in ("ks", "e", "d", "r", "devices", "latency")]
    path, arrays, sha256 = _read(_HELP_FILE, path, names)
    *settings, pixels, devices, latency = arrays.values()
    archs = from_ofa(dict(zip(("ks", "e", "d"), settings, strict=True)))
    index = np.searchsorted(mobilenetv3.RESOLUTIONS, pixels)
    archs = np.concatenate([archs, index[:, None]], 1)
    columns = _device_columns("latency", devices, latency)
    space = mobilenetv3.SPACE_WITH_RESOLUTION
    return _table(path, "ofa-latency", space, archs, columns, _HELP, sha256)


def fbnet_latency_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """Latencies of 5,000 FBNet architectures on 27 devices; no accuracies are known.

    Args:
      path: the reference file help_ofa_fbnet_latency.npz; default: see `sources`.

    Raises: `ValueError` if it is missing, damaged, or holds something else.
    """
    names = ["fbnet_op_idx", "fbnet_devices", "fbnet_latency"]
    path, arrays, sha256 = _read(_HELP_FILE, path, names)
    archs, devices, latency = arrays.values()
    columns = _device_columns("latency", devices, latency)
    return _table(path, "fbnet-latency", FBNET, archs, columns, _HELP, sha256)


def mnasnet_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """Accel-NASBench (Ahmad et al., 2024): 5,125 MnasNet architectures on accelerators.

    ImageNet accuracies after a short training, `imagenet/valid/1` and
    `imagenet-top5/valid/1` (1 stands for its whole schedule, whose length the file does
    not say), the seconds that it took, latencies and throughputs. Of rows with the same
    architecture the mean counts. Up to 44 measurements of a device are missing.

    Args:
      path: the reference file accel_nasbench_5k.npz; default: see `sources`.

    Raises: `ValueError` if it is missing, damaged, or holds something else.
    """
    names = ["arch", "arch_columns", "val_top1", "val_top5", "train_time"]
    names += ["macs", "params", "perf", "perf_columns"]
    path, arrays, sha256 = _read("accel_nasbench_5k.npz", path, names)
    archs, rows = np.unique(
        _mnasnet_choices(arrays["arch"], arrays["arch_columns"]),
        axis=0,
        return_inverse=True,
    )
    rows = rows.reshape(-1)
    columns = {
        "imagenet/valid/1": mean_by(rows, arrays["val_top1"]),
        "imagenet-top5/valid/1": mean_by(rows, arrays["val_top5"]),
        "seconds/imagenet/1": mean_by(rows, arrays["train_time"]),
        "flops/imagenet": mean_by(rows, arrays["macs"]).astype(np.float64),
        "params/imagenet": mean_by(rows, arrays["params"]).astype(np.float64),
    }
    for label, column in zip(arrays["perf_columns"], arrays["perf"].T, strict=True):
        quantity, _, device = str(label).partition("_")
        columns |= _device_columns(quantity, [device], mean_by(rows, column)[:, None])
    source = "Accel-NASBench"
    return _table(path, "mnasnet", MNASNET, archs, columns, source, sha256)


def mean_by(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Averages the values of each group, without those that are NaN.

    Args:
      rows: (n,) group of each value, from 0.
      values: (n,) float.

    Returns: (groups,) float32; NaN for a group without a value.
    """
    measured, num = ~np.isnan(values), rows.max() + 1
    total = np.bincount(rows, np.where(measured, values, 0), num)
    count = np.bincount(rows, measured, num)
    with np.errstate(invalid="ignore"):
        return (total / count).astype(np.float32)


def _mnasnet_choices(values: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Settings (n, 28) of MnasNet, such as expansion 6, as choices from 0."""
    by_setting = {"e": (1, 4, 6), "k": (3, 5), "l": (1, 2, 3, 4), "se": (0, 1)}
    settings = [by_setting[str(name).rpartition("_")[2]] for name in names]
    columns = [
        np.searchsorted(setting, column)
        for setting, column in zip(settings, values.T, strict=True)
    ]
    return np.stack(columns, 1)


def _read(
    name: str, path: str | os.PathLike | None, arrays: Sequence[str]
) -> tuple[Path, dict[str, np.ndarray], str]:
    """The path of a reference file, the arrays by name, and its SHA-256."""
    path = sources.reference_file(name, path)
    return path, *npz.read_npz_and_digest(path, arrays)


def _device_columns(
    quantity: str, devices: Sequence[str] | np.ndarray, values: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns (n,) of values (n, devices) by name; a negative one was not measured."""
    values = np.where(values < 0, np.nan, values).astype(np.float32)
    names = (f"device/{quantity}/{device}" for device in devices)
    return dict(zip(names, values.T, strict=True))


def _targets(columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, str]]:
    """The targets of the quantities that device columns have."""
    named = {column.split("/")[1] for column in columns if column.startswith("device/")}
    return {quantity: _TARGETS[quantity] for quantity in _TARGETS if quantity in named}


def _table(
    path: Path,
    name: str,
    space: base.Space,
    archs: np.ndarray,
    columns: dict[str, np.ndarray],
    source: str,
    sha256: str,
) -> BenchmarkTable:
    """A table of a part of its space, validated."""
    manifest: dict[str, Any] = {
        "source": f"{source}, {path.name}",
        "sha256": sha256,
        "part": True,
        "targets": _targets(columns),
        "columns": dict.fromkeys(columns, source),
    }
    archs = archs.astype(np.int8)
    return sources.validated(
        path, BenchmarkTable(name, space.name, archs, columns, manifest)
    )
