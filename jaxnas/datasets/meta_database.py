"""A meta-database: tasks, cells trained on them, and features of their images, as a file.

    database = load("free-images")  # the one that is part of the library
    database = load("results/meta/database.npz")
    features = task_features(database, 0)  # what `jaxnas.models` takes
    noise = label_noise(database)

`python -m experiments.build_meta_database` makes one from any images. The manifest states
package, version and licence of every pool of images, and the settings of the trainings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnas.datasets.tasks import PARTS, Task
from jaxnas.io import files, npz, records
from jaxnas.models.features import ClassFeatures, join_classes
from jaxnas.types import FeatureKind

SHIPPED = "free-images"
"""The meta-database that is part of the library, a folder of `checkpoints/`."""
_FORMAT = 1  # version of the file
# Significant bits of features in files. Half precision has 11, of which the last do not
# compress.
_BITS = 7
_FEATURES = "features/"
# The arrays of a file that are fields of `MetaDatabase`, with their types: with an axis of
# tasks, and of the grid.
_RECORDS = {
    "arch": np.int8,
    "train": np.float32,
    "test": np.float32,
    "seconds": np.float32,
    "repeat": np.float32,
    "repeat_cell": np.int16,
}
_DTYPES = _RECORDS | {
    "grid_arch": np.int8,
    "grid_task": np.int16,
    "grid_test": np.float32,
}


class MetaDatabase(NamedTuple):
    """Records of t tasks with n cells each, a grid of c cells on g of the tasks."""

    tasks: tuple[Task, ...]  # (t,)
    arch: np.ndarray  # (t, n, d) of the space of the manifest, see `models.codecs`
    train: np.ndarray  # (t, n, epochs) accuracy in percent; NaN from divergence on
    test: np.ndarray  # (t, n, epochs)
    seconds: np.ndarray  # (t, n) of a training
    repeat: (
        np.ndarray
    )  # (t, epochs) test accuracy of one cell from another seed, or NaN
    repeat_cell: np.ndarray  # (t,) number of that cell; -1: none was trained twice
    grid_arch: np.ndarray  # (c, d)
    grid_task: np.ndarray  # (g,) numbers of tasks
    grid_test: np.ndarray  # (2, g, c) test accuracy by seed; NaN where it is missing
    # By pool, (classes, images, width) of the training images of each class.
    features: Mapping[str, np.ndarray]
    kind: FeatureKind
    manifest: Mapping[str, Any]


class LabelNoise(NamedTuple):
    """Noise of the accuracies of single trainings, and the correlations that it allows.

    A ceiling is the correlation of expected accuracies with those of single trainings:
    sqrt(1 - noise variance / variance).
    """

    pairs: int  # cells that were trained twice
    deviation: float  # standard deviation of an accuracy over seeds, percent
    ceiling: float  # of the correlation over all records
    ceiling_within: float  # of that within tasks


def task_features(database: MetaDatabase, number: int) -> ClassFeatures:
    """Returns the features of a task's training images, class by class.

    Args:
      database: of the task.
      number: of the task.
    """
    task = database.tasks[number]
    classes = database.features[task.pool][list(task.classes)]
    return join_classes(list(classes), database.kind)


def label_noise(database: MetaDatabase) -> LabelNoise:
    """Estimates the noise of accuracies from the cells that were trained twice.

    Args:
      database: without such cells all estimates are NaN.
    """
    rows = np.flatnonzero(database.repeat_cell >= 0)
    last = database.test[..., -1]
    first, second = last[rows, database.repeat_cell[rows]], database.repeat[rows, -1]
    sound = np.isfinite(first) & np.isfinite(second)
    if not sound.any():
        return LabelNoise(0, np.nan, np.nan, np.nan)
    noise = np.mean((first - second)[sound] ** 2) / 2
    within = np.nanmean(np.nanvar(last, 1, ddof=1)) if last.shape[1] > 1 else np.nan
    ceilings = [
        float(np.sqrt(max(0.0, 1 - noise / max(v, 1e-12))))
        for v in (np.nanvar(last), within)
    ]
    return LabelNoise(int(sound.sum()), float(np.sqrt(noise)), *ceilings)


def grid_reliability(database: MetaDatabase) -> np.ndarray:
    """Computes the rank correlation of the grid's two seeds over cells, on each task.

    It tells tasks on which cells differ from those on which all do equally well. The linear
    correlation would not: it is near 1 wherever a few cells have no path to the output.

    Returns:
      (g,) Spearman's correlation over the cells trained from both seeds; NaN without two
      different accuracies.
    """
    from scipy.stats import spearmanr  # slow to import

    both = np.logical_and(*np.isfinite(database.grid_test))
    pairs = [
        seeds[:, cells]
        for seeds, cells in zip(database.grid_test.swapaxes(0, 1), both, strict=True)
    ]
    constant = [x.shape[1] < 2 or (np.ptp(x, axis=1) == 0).any() for x in pairs]
    return np.array(
        [
            np.nan if skip else np.asarray(spearmanr(*x))[0]
            for x, skip in zip(pairs, constant, strict=True)
        ]
    )


def join(first: MetaDatabase, second: MetaDatabase) -> MetaDatabase:
    """Adds the records of a second database to the first, after its own.

    Features and grid remain those of the first; its manifest lists what was `added`. Tasks
    of the second whose classes and cells the first has too are left out: they are the same
    trainings.

    Args:
      first: a database.
      second: one of the same pools and settings except the numbers of tasks. Both divide
        classes alike: no class of a test task of one is in a training task of the other.

    Raises: `ValueError` naming a setting that differs.
    """
    require_same_settings(first.manifest, second.manifest)
    trained = set(_trainings(first))
    new = [row for row, key in enumerate(_trainings(second)) if key not in trained]
    records = {
        name: np.concatenate([getattr(first, name), getattr(second, name)[new]])
        for name in _RECORDS
    }
    added = {
        "tasks": second.manifest["settings"]["tasks"], "hours": second.manifest["hours"]
    }  # fmt: skip
    manifest = {**first.manifest, "added": [*first.manifest.get("added", ()), added]}
    tasks = first.tasks + tuple(second.tasks[row] for row in new)
    return first._replace(tasks=tasks, manifest=manifest, **records)


def _trainings(database: MetaDatabase) -> list[tuple[Task, bytes]]:
    """What identifies the trainings of each task: its classes, and its cells in order."""
    cells = [np.asarray(arch, np.int8).tobytes() for arch in database.arch]
    return list(zip(database.tasks, cells, strict=True))


def require_same_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Requires that two databases can be joined.

    Args:
      first: manifest of a database.
      second: manifest of another one.

    Raises: `ValueError` naming a pool or setting, other than the numbers of tasks, that
      differs.
    """
    ours, theirs = ({**m["settings"], **m["pools"]} for m in (first, second))
    differing = [
        k for k in ours | theirs if k != "tasks" and ours.get(k) != theirs.get(k)
    ]
    if differing:
        raise ValueError(f"the databases differ in {', '.join(sorted(differing))}")


def save(path: str | os.PathLike, database: MetaDatabase) -> None:
    """Writes a meta-database as one npz, atomically.

    Features are in half precision and rounded to 7 significant bits: by 0.8 % at most, far
    less than they differ between images of a class.

    Raises: `ValueError` for features beyond half precision, and if it cannot be
      written.
    """
    pools = sorted(database.features)
    width = max((len(task.classes) for task in database.tasks), default=0)
    classes = np.full((len(database.tasks), width), -1, np.int16)
    for row, task in zip(classes, database.tasks, strict=True):
        row[: len(task.classes)] = task.classes
    arrays = {name: getattr(database, name) for name in _DTYPES}
    arrays = {name: np.asarray(a, _DTYPES[name]) for name, a in arrays.items()}
    arrays |= {
        "task_part": np.array([task.part for task in database.tasks], np.int8),
        "task_pool": np.array(
            [pools.index(task.pool) for task in database.tasks], np.int16
        ),
        "task_classes": classes,
    }
    for pool in pools:
        arrays[_FEATURES + pool] = _rounded(pool, database.features[pool])
    manifest = {"format": _FORMAT, "kind": database.kind._asdict()}
    manifest["manifest"] = dict(database.manifest)
    npz.save_arrays(path, arrays, manifest)


def _rounded(pool: str, features: np.ndarray) -> np.ndarray:
    """Rounds to `_BITS` significant bits, as float16; see `save` for errors."""
    mantissa, exponent = np.frexp(np.asarray(features, np.float32))
    scale = np.float32(2**_BITS)
    rounded = np.ldexp(np.round(mantissa * scale) / scale, exponent)
    if not (np.abs(rounded) <= np.finfo(np.float16).max).all():
        largest = np.abs(features).max()
        raise ValueError(f"features of {pool} exceed half precision: {largest:g}")
    return rounded.astype(np.float16)


def load(path: str | os.PathLike) -> MetaDatabase:
    """Reads what `save` wrote.

    Args:
      path: of a file, or `SHIPPED`.

    Raises: `ValueError` naming the file, if it is missing, damaged, of another version
      or not a meta-database.
    """
    if path == SHIPPED:
        path = files.shipped_checkpoint(SHIPPED) / "database.npz"
    arrays, content = npz.load_arrays(path)
    if "kind" in content:
        remedy = "write it again with `experiments.build_meta_database --export-only`"
        records.require_format(path, content.get("format"), _FORMAT, remedy)
    try:
        database = _assembled(arrays, content)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{path} holds no meta-database: {error}") from error
    return database


def _assembled(
    arrays: dict[str, np.ndarray], content: Mapping[str, Any]
) -> MetaDatabase:
    """Makes a meta-database of the contents of a file.

    Raises: `KeyError`, `TypeError`, `IndexError` or `ValueError` for contents that do
      not fit together.
    """
    features = {
        name.removeprefix(_FEATURES): array
        for name, array in arrays.items()
        if name.startswith(_FEATURES)
    }
    pools, kind = sorted(features), FeatureKind(**content["kind"])
    rows = zip(
        *(arrays[f"task_{name}"].tolist() for name in ("part", "pool", "classes")),
        strict=True,
    )
    tasks = tuple(
        Task(part, pools[pool], tuple(c for c in classes if c >= 0))
        for part, pool, classes in rows
    )
    fields = {name: arrays[name] for name in _DTYPES}
    count, cells = fields["test"].shape[:2]
    rows, length = fields["grid_arch"].shape
    grid = 2, len(fields["grid_task"]), rows
    if fields["arch"].shape != (count, cells, length) or len(tasks) != count:
        raise ValueError("numbers of tasks or cells differ between arrays")
    if fields["grid_test"].shape != grid or not isinstance(content["manifest"], dict):
        raise ValueError("the grid or the manifest is damaged")
    if not all(np.isfinite(x).all() for x in features.values()):
        raise ValueError("it has features that are not finite")
    for task in tasks:
        classes, _, width = features[task.pool].shape
        if (
            max(task.classes) >= classes
            or width != kind.width
            or task.part >= len(PARTS)
        ):
            raise ValueError(f"the features of {task.pool} are not those of its tasks")
    return MetaDatabase(
        tasks, features=features, kind=kind, manifest=content["manifest"], **fields
    )
