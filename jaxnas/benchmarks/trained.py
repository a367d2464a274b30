"""Tables of networks that this project trains: one network for each function.

The cells of NAS-Bench-201 compute 5,260 different functions (see `nasbench201_classes`).
One network is trained for each, and represents all cells that compute that function.
`Trainings` are the results by function, as they are saved; `as_table` spreads them over
the cells.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import npz, records
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import NUM_CELLS, SPACE
from jaxnas.spaces.nasbench201_classes import function_classes

CURVES = ("loss", "train", "valid", "test", "seconds")
"""The results of a training, (architectures, epochs) each."""

_FORMAT = 1  # version of the file of trainings

SHIPPED = {
    "fashion": Path(__file__).parent / "data" / "fashion.npz",
    "fashion-curves": Path(__file__).parent / "data" / "fashion_curves.npz",
}
"""Trainings that the package contains, by the name of the benchmark."""


def fashion_table() -> BenchmarkTable:
    """Networks of NAS-Bench-201 that this project trained on small Fashion-MNIST.

    It has the accuracies and whole learning curves of train, valid and test, losses and
    seconds, for the cells of a random subset of all functions, some of them with three
    runs. The manifest has the settings; `python -m experiments.train_table` trains them,
    and extends the table.
    """
    return as_table(load(SHIPPED["fashion"]))


def fashion_curves_table() -> BenchmarkTable:
    """As `fashion_table`, but smaller networks with curves of 12 epochs in place of 4.

    Early epochs rank the cells imperfectly, and the last epochs of two runs rank them
    alike. Seconds are CPU seconds of one core.
    """
    return as_table(load(SHIPPED["fashion-curves"]))


def representatives(seed: int = 0) -> np.ndarray:
    """A cell of each function, in random order.

    Args:
      seed: of the order; a table is extended by cells later in the same order.

    Returns: (5,260, 6) int32.
    """
    _, first = np.unique(function_classes(keep_dead=False), return_index=True)
    return base.every(SPACE)[np.random.default_rng(seed).permutation(first)]


class Trainings(NamedTuple):
    """Results of trainings, one cell for each function."""

    archs: np.ndarray  # (n, 6), cells of different functions
    # By seed, `CURVES` by name: (m, epochs) float32 for the first m of the cells, NaN from
    # the epoch on in which a network has diverged.
    runs: Sequence[Mapping[str, np.ndarray]]
    dataset: str  # what columns call the images
    manifest: Mapping[str, Any]  # JSON that becomes a part of the table's manifest


def save(path: str | os.PathLike, trainings: Trainings) -> None:
    """Writes trainings as one npz, atomically; `ValueError` if that cannot be done."""
    arrays = {"archs": np.asarray(trainings.archs, np.int8)}
    for index, run in enumerate(trainings.runs):
        arrays |= {f"{index}/{name}": run[name] for name in CURVES}
    manifest = {"format": _FORMAT, "dataset": trainings.dataset}
    manifest["manifest"] = dict(trainings.manifest)
    npz.save_arrays(path, arrays, manifest)


def load(path: str | os.PathLike) -> Trainings:
    """Reads what `save` wrote.

    Raises: `ValueError` that names the file, if it is missing, damaged, of another
      version, or holds something else.
    """
    arrays, content = npz.load_arrays(path)
    # The first files state no version.
    version, remedy = content.get("format", _FORMAT), "make it again"
    records.require_format(path, version, _FORMAT, remedy)
    archs, num_seeds = arrays.pop("archs", np.zeros(0)), len(arrays) // len(CURVES)
    names = {f"{seed}/{name}" for seed in range(num_seeds) for name in CURVES}
    shapes = {array.shape for array in arrays.values()}
    sound = (
        num_seeds >= 1
        and names == arrays.keys()
        and archs.shape == (len(archs), 6)
        and all(len(s) == 2 and s[0] <= len(archs) and s[1] > 0 for s in shapes)
        and isinstance(content.get("dataset"), str)
        and isinstance(content.get("manifest"), dict)
    )
    if not sound:
        raise ValueError(f"{path} holds no trainings of NAS-Bench-201")
    runs = [{name: arrays[f"{i}/{name}"] for name in CURVES} for i in range(num_seeds)]
    archs = archs.astype(np.int32)
    return Trainings(archs, runs, content["dataset"], content["manifest"])


def as_table(trainings: Trainings) -> BenchmarkTable:
    """Makes a table of all cells that compute the function of a trained one.

    Args:
      trainings: the results by function.

    Returns: accuracies `<dataset>/<split>/<epochs>` (cells, runs), of the last epoch; of
      every epoch `curve/...`, `loss/...` and `time/...` (cells, runs, epochs), where a
      network that has diverged has an accuracy of 0; and `seconds/...`. Seconds are
      in the unit of the manifest's `clock`, by default wall-clock seconds.
    Raises: `ValueError` if two of the cells compute the same function.
    """
    archs, runs, dataset, manifest = trainings
    rows, cells = _cells(archs)
    arrays = {name: _joined([run[name] for run in runs], len(archs)) for name in CURVES}
    epochs = arrays["loss"].shape[2]
    columns: dict[str, np.ndarray] = {}
    meaning: dict[str, str] = {}

    def add(name: str, values: np.ndarray, description: str) -> None:
        columns[name] = np.asarray(values, np.float32)[rows]
        meaning[name] = description

    trained = ~np.isnan(arrays["seconds"])
    for split in ("train", "valid", "test"):
        curve = np.where(trained & np.isnan(arrays[split]), 0, arrays[split])
        add(f"{dataset}/{split}/{epochs}", curve[..., -1], "of the last epoch")
        add(f"curve/{dataset}/{split}/{epochs}", curve, "of every epoch")
    add(f"loss/{dataset}/train/{epochs}", arrays["loss"], "mean over an epoch's steps")
    time = arrays["seconds"]
    clock = manifest.get("clock", "wall-clock seconds")
    add(f"time/{dataset}/train/{epochs}", time, f"{clock}, an epoch and its evaluation")
    mean = np.asarray(np.nanmean(time.sum(2), 1, dtype=np.float64))
    add(
        f"seconds/{dataset}/{epochs}",
        mean,
        f"{clock}, evaluation included, mean of runs",
    )
    digest = hashlib.sha256(b"".join(arrays[name].tobytes() for name in CURVES))
    generated = {
        "source": f"trained by jaxnas on {dataset}",
        "sha256": digest.hexdigest(),
        "columns": meaning,
        "points": {str(epochs): list(range(1, epochs + 1))},
        "part": len(cells) < NUM_CELLS,
    }
    name = f"{dataset}-{len(archs)}"
    return table_files.validate_table(
        BenchmarkTable(name, SPACE.name, cells, columns, generated | dict(manifest))
    )


def _joined(runs: Sequence[np.ndarray], num: int) -> np.ndarray:
    """Stacks the curves of all runs as (num, runs, epochs) float32, NaN for no run."""
    full = np.full((num, len(runs), runs[0].shape[1]), np.nan, np.float32)
    for index, values in enumerate(runs):
        full[: len(values), index] = values
    return full


def _cells(archs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells whose function has been trained.

    Args:
      archs: (m, 6) trained cells.

    Returns: (n,) the index in `archs` of the cell with the same function, and (n, 6) int8
      the cells.
    Raises: `ValueError` if two of `archs` compute the same function.
    """
    classes, every = function_classes(keep_dead=False), base.every(SPACE)
    codes = np.ravel_multi_index(np.asarray(archs).T, SPACE.choices)
    index_of_class = np.full(len(every), -1)
    index_of_class[classes[codes]] = np.arange(len(archs))
    if np.count_nonzero(index_of_class >= 0) != len(archs):
        raise ValueError("two of the cells compute the same function")
    index = index_of_class[classes]
    trained = index >= 0
    return index[trained], every[trained].astype(np.int8)
