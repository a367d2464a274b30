"""Tables of networks that this project trains: one network for each function.

Cells of NAS-Bench-201 compute 5,260 different functions (see `nasbench201_classes`). One
network is trained for each, and stands for all cells of that function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnas.benchmarks import files
from jaxnas.benchmarks.files import Table
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.spaces.nasbench201_classes import function_classes

# What a training gives, (architectures, epochs) each.
CURVES = ("loss", "train", "valid", "test", "seconds")


def representatives(seed: int = 0) -> np.ndarray:
    """A cell of each function, (5,260, 6) int32, in random order."""
    _, first = np.unique(function_classes(keep_dead=False), return_index=True)
    return base.every(SPACE)[np.random.default_rng(seed).permutation(first)]


def table(
    archs: np.ndarray,
    runs: Sequence[Mapping[str, np.ndarray]],
    dataset: str,
    manifest: Mapping[str, Any],
) -> Table:
    """The table of all cells that compute what one of the trained ones does.

    Args:
      archs: (n, 6), cells of different functions.
      runs: of each seed, `CURVES` by name, (m, epochs) for the first m of the cells; NaN
        from where a network has diverged.
      dataset: what the columns call the images.
      manifest: JSON that the table's manifest has as well.

    Returns: accuracies `<dataset>/<split>/<epochs>` (cells, runs), of the last epoch; of
      every epoch `curve/...`, `loss/...` and `time/...` (cells, runs, epochs), where a
      network that has diverged has an accuracy of 0; and `seconds/...`.
    Raises: `ValueError` if two of the cells compute the same function.
    """
    rows, cells = _cells(archs)
    arrays = {name: _joined([run[name] for run in runs], len(archs)) for name in CURVES}
    epochs = arrays["loss"].shape[2]
    columns: dict[str, np.ndarray] = {}
    meaning: dict[str, str] = {}

    def add(name: str, values: np.ndarray, what: str) -> None:
        columns[name], meaning[name] = np.asarray(values, np.float32)[rows], what

    trained = ~np.isnan(arrays["seconds"])
    for split in ("train", "valid", "test"):
        curve = np.where(trained & np.isnan(arrays[split]), 0, arrays[split])
        add(f"{dataset}/{split}/{epochs}", curve[..., -1], "of the last epoch")
        add(f"curve/{dataset}/{split}/{epochs}", curve, "of every epoch")
    add(f"loss/{dataset}/train/{epochs}", arrays["loss"], "mean over an epoch's steps")
    time = arrays["seconds"]
    add(f"time/{dataset}/train/{epochs}", time, "of an epoch with its evaluation")
    mean = np.asarray(np.nanmean(time.sum(2), 1, dtype=np.float64))
    add(f"seconds/{dataset}/{epochs}", mean, "mean of the runs, evaluation included")
    digest = hashlib.sha256(b"".join(arrays[name].tobytes() for name in CURVES))
    told = {
        "source": f"trained by jaxnas on {dataset}",
        "sha256": digest.hexdigest(),
        "columns": meaning,
        "points": {str(epochs): list(range(1, epochs + 1))},
    }
    name = f"{dataset}-{len(archs)}"
    return files.check(Table(name, SPACE.name, cells, columns, told | dict(manifest)))


def _joined(runs: Sequence[np.ndarray], num: int) -> np.ndarray:
    """(num, runs, epochs) float32, NaN for what was not run."""
    full = np.full((num, len(runs), runs[0].shape[1]), np.nan, np.float32)
    for index, values in enumerate(runs):
        full[: len(values), index] = values
    return full


def _cells(archs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every cell (n, 6) int8 that is covered, which of `archs` stands for it (n,)."""
    classes, every = function_classes(keep_dead=False), base.every(SPACE)
    codes = np.ravel_multi_index(np.asarray(archs).T, SPACE.choices)
    row = np.full(len(every), -1)
    row[classes[codes]] = np.arange(len(archs))
    if np.count_nonzero(row >= 0) != len(archs):
        raise ValueError("two of the cells compute the same function")
    of_cell = row[classes]
    covered = of_cell >= 0
    return of_cell[covered], every[covered].astype(np.int8)
