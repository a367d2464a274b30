"""Measured costs of the cells of NAS-Bench-201 on hardware, as columns of objectives.

    objective, values = hardware_column("raspi4")
    benchmark = with_objectives(benchmark, {objective: values})

Rows are in the order of NAS-Bench-201, as those of the table `nb201`. The latencies of the
27 devices are those of HELP (Lee et al., 2021), other columns are of HW-NAS-Bench (Li et
al., 2021) and HW-NAS-Bench-360. The values of a column are in the unit of its source, which
is milliseconds for most.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from jaxnas.benchmarks import sources
from jaxnas.io import npz
from jaxnas.pareto.objectives import Objective

_FILE = "nb201_hardware.npz"
_QUANTITIES = {"latency": "milliseconds", "energy": "millijoules"}
# HW-NAS-Bench-360 names its columns `nb360_DEVICE_RUNTIME_DATASET_QUANTITY_UNIT`.
_PREFIX, _SUFFIXES = "nb360_", {"_lat_ms": "latency", "_energy_mj": "energy"}


def hardware_devices(path: str | os.PathLike | None = None) -> tuple[str, ...]:
    """The names of the devices with a latency of HELP, in the order of its file.

    Args:
      path: the reference file; default: see `sources`.

    Raises: `ValueError` if the file is missing or damaged.
    """
    names = npz.read_npz(sources.reference_file(_FILE, path), ["help_devices"])
    return tuple(map(str, names["help_devices"]))


def hardware_column(
    name: str, dataset: str = "cifar10", path: str | os.PathLike | None = None
) -> tuple[Objective, np.ndarray]:
    """Reads a cost of all cells.

    Args:
      name: a device of HELP, such as "1080ti_1" (the card and the batch size); a column of
        HW-NAS-Bench, such as "edgegpu_energy"; or one of HW-NAS-Bench-360 without its
        prefix, such as "pi5_onnx_cifar100_lat_ms".
      dataset: of HW-NAS-Bench, whose networks differ in the size of images and the number
        of classes: "cifar10", "cifar100" or "ImageNet16-120".
      path: the reference file; default: see `sources`.

    Returns: the objective, a latency or energy to minimise, and its values (n,).
    Raises: `ValueError` for a device or dataset that is not in the file, and if the file
      is missing or damaged.
    """
    arrays = npz.read_npz(sources.reference_file(_FILE, path))
    columns = _columns(arrays, dataset)
    if name not in columns:
        raise ValueError(
            f"no costs of {name!r} on {dataset}: wanted one of {', '.join(columns)}"
        )
    quantity, values = columns[name]
    objective = Objective(quantity, _QUANTITIES[quantity], "minimise")
    return objective, np.asarray(values, np.float64)


def _columns(
    arrays: Mapping[str, np.ndarray], dataset: str
) -> dict[str, tuple[str, np.ndarray]]:
    """All costs of the file for a dataset by name, each a quantity and values (n,)."""
    devices = map(str, arrays["help_devices"])
    columns = dict(zip(devices, arrays["help_latency"].T, strict=True))
    costs = {device: ("latency", values) for device, values in columns.items()}
    names = map(str, arrays["hwnasbench_columns"])
    of_dataset = arrays.get(f"hwnasbench_{dataset}")
    pairs = () if of_dataset is None else zip(names, of_dataset.T, strict=True)
    for name, values in pairs:
        quantity = name.rpartition("_")[2]
        if quantity in _QUANTITIES:  # an arithmetic intensity is no cost
            costs[name] = quantity, values
    for name, values in arrays.items():
        for suffix, quantity in _SUFFIXES.items():
            if name.startswith(_PREFIX) and name.endswith(suffix):
                costs[name.removeprefix(_PREFIX)] = quantity, values
    return costs
