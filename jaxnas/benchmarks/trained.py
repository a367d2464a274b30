"""The embedded table: networks of NAS-Bench-201 trained by this project, with curves.

One network was trained for each function that cells can compute (5,260, see
`nasbench201_classes`), and stands for all cells of that function. The file has a row for
each function; the table that is made of it one for each cell.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas import checkpoints
from jaxnas.benchmarks import files
from jaxnas.benchmarks.files import Table
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.spaces.nasbench201_classes import function_classes

EMBEDDED = Path(__file__).parent / "data" / "fashion.npz"
FORMAT, VERSION = "jaxnas-trained", 1
# (functions, runs, epochs) float32 each; NaN for a run that was not done.
CURVES = ("loss", "train", "valid", "test", "seconds")


def representatives(seed: int = 0) -> np.ndarray:
    """A cell of each function, (5,260, 6) int32, in random order."""
    _, first = np.unique(function_classes(keep_dead=False), return_index=True)
    return base.every(SPACE)[np.random.default_rng(seed).permutation(first)]


def save(
    path: str | os.PathLike,
    archs: np.ndarray,
    runs: Sequence[Mapping[str, np.ndarray]],
    manifest: Mapping[str, Any],
) -> None:
    """Writes what was trained, atomically.

    Args:
      archs: (n, 6), cells of different functions.
      runs: of each seed, `CURVES` by name, (m, epochs) for the first m of the cells.
      manifest: JSON; `dataset` names the images.
    """
    arrays: dict[str, np.ndarray] = {"arch": np.asarray(archs, np.int8)}
    for name in CURVES:
        epochs = runs[0][name].shape[1]
        full = np.full((len(archs), len(runs), epochs), np.nan, np.float32)
        for run, curves in enumerate(runs):
            full[: len(curves[name]), run] = curves[name]
        arrays[name] = full
    envelope = {"format": FORMAT, "version": VERSION}
    checkpoints.save_arrays(path, arrays, envelope | dict(manifest))


def load(path: str | os.PathLike = EMBEDDED) -> Table:
    """The table of a file that `save` wrote, by default the embedded one.

    Columns are `<dataset>/<split>/<epochs>` of the last epoch, (n, runs), and
    `curve/...`, `loss/...` and `time/...` of every epoch, (n, runs, epochs), of the n
    cells whose function was trained. A run that diverged has an accuracy of 0.

    Raises: `ValueError`, in one line, if the file is missing, damaged or foreign.
    """
    arrays, manifest = checkpoints.load_arrays(path)
    if (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{path}: wanted a file of {FORMAT}, version {VERSION}")
    dataset = manifest.get("dataset")
    if missing := [name for name in ("arch", *CURVES) if name not in arrays]:
        raise ValueError(f"{path}: wanted an array {missing[0]!r}, and it has none")
    shape = arrays["loss"].shape
    if len(shape) != 3 or {arrays[name].shape for name in CURVES} != {shape}:
        raise ValueError(
            f"{path}: wanted curves (functions, runs, epochs) of one shape"
        )
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    rows, cells = _cells(path, arrays["arch"], shape[0])
    columns, meaning = _columns(arrays, rows, str(dataset))
    told = {
        "source": f"trained by jaxnas.networks on {dataset}",
        "sha256": digest,
        "columns": meaning,
        "points": {str(shape[2]): list(range(1, shape[2] + 1))},
        "trained": {
            k: v for k, v in manifest.items() if k not in ("format", "version")
        },
    }
    try:
        return files.check(Table(str(dataset), SPACE.name, cells, columns, told))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _cells(path: Any, archs: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The row of the file for each of the cells (n, 6) int8 that it covers."""
    choices = np.array(SPACE.choices)
    good = archs.ndim == 2 and archs.shape == (num, len(choices))
    if not good or (archs < 0).any() or (archs >= choices).any():
        raise ValueError(f"{path}: wanted cells ({num}, 6) with operations 0..4")
    every = base.every(SPACE)
    classes = function_classes(keep_dead=False)
    weights = np.append(np.cumprod(choices[:0:-1])[::-1], 1)
    trained = classes[archs.astype(np.int64) @ weights]
    if len(np.unique(trained)) != num:
        raise ValueError(f"{path}: two of its cells compute the same function")
    row = np.full(len(every), -1)
    row[trained] = np.arange(num)
    of_cell = row[classes]
    covered = of_cell >= 0
    return of_cell[covered], every[covered].astype(np.int8)


def _columns(
    arrays: Mapping[str, np.ndarray], rows: np.ndarray, dataset: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    loss, time = (np.asarray(arrays[n], np.float32)[rows] for n in ("loss", "seconds"))
    epochs = loss.shape[2]
    done = ~np.isnan(time[..., -1])  # a run that diverged has seconds and no accuracy
    columns, meaning = {}, {}

    def add(name: str, values: np.ndarray, what: str) -> None:
        columns[name], meaning[name] = values, what

    for split in ("train", "valid", "test"):
        curve = np.asarray(arrays[split], np.float32)[rows]
        curve = np.where(done[..., None] & np.isnan(curve), 0, curve)
        add(f"{dataset}/{split}/{epochs}", curve[..., -1], "of the last epoch")
        add(f"curve/{dataset}/{split}/{epochs}", curve, "of every epoch")
    add(f"loss/{dataset}/train/{epochs}", loss, "mean over the epoch's steps")
    add(f"time/{dataset}/train/{epochs}", time, "of an epoch with its evaluation")
    mean = np.nanmean(time.sum(2), 1, dtype=np.float64)
    add(
        f"seconds/{dataset}/{epochs}",
        np.asarray(mean, np.float32),
        "mean of the runs, evaluation included",
    )
    return columns, meaning


@functools.cache
def embedded() -> Table:
    """The table that ships with the package."""
    return load()
