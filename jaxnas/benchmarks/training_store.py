"""Trainings on disk: curves of finished ones, checkpoints of unfinished ones.

Each training of an architecture has its own files, `ARCH-EPOCHS` or `ARCH-EPOCHS-SEED`. A
finished one is an npz of its curves. One that stopped before the end of its schedule is an
orbax checkpoint with the curves so far, which is replaced when the training is resumed and
removed when it ends. Besides the curves, a folder therefore takes the state of one network
(weights, running statistics and momentum) for each architecture that was started and not
finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.io import checkpoints, files, npz, records
from jaxnas.networks import partial, runs
from jaxnas.networks.partial import PartialTraining

Curves = dict[str, np.ndarray]
"""Curves (epochs,) by name: loss, accuracies in percent, and seconds of each epoch."""


class Training(NamedTuple):
    """The identity of a training."""

    arch: tuple[int, ...]  # the cell
    seed: int = 0  # of the query: another repetition of the training
    slot: int = 0  # of the query, where slots do not share equal trainings


class Store(NamedTuple):
    """A folder of trainings of one schedule, and what identifies them."""

    folder: Path
    # All that trainings depend on besides architecture, seed and epochs, as JSON values.
    record: dict[str, Any]
    epochs: int  # of the schedule
    like: Any  # shapes of the state of one architecture

    def described(self, key: jax.Array) -> dict[str, Any]:
        """The manifest of a training from this key."""
        record = self.record | {"key": np.asarray(jax.random.key_data(key)).tolist()}
        return records.plain(record)


def save(
    store: Store, training: Training, key: jax.Array, begun: PartialTraining
) -> None:
    """Writes a training; it replaces an earlier state of the same training.

    Args:
      store: the folder, which is made if it is missing.
      training: the identity.
      key: of the training.
      begun: its state and curves (1, ...), up to any epoch of the schedule.

    Raises: `ValueError` if it cannot be written.
    """
    path, record = _path(store, training), store.described(key)
    files.make_folder(path.parent)
    if begun.epochs < store.epochs:
        partial.save(path, record, begun)
        return
    curves = {name: values[0] for name, values in begun.curves.items()}
    arrays = curves | {"arch": np.array(training.arch, np.int32)}
    npz.save_arrays(_finished(path), arrays, record | {"format": partial.FORMAT})
    checkpoints.remove(path)


def read(store: Store, training: Training, key: jax.Array) -> PartialTraining | None:
    """Reads a training as far as it has got.

    Args:
      store: the folder, which need not exist.
      training: the identity.
      key: of the training.

    Returns: None if there is no file. A file that is damaged, or of another format,
      counts as missing: the training restarts and overwrites it.
    Raises: `ValueError` for a file with another manifest: other data, recipe or key.
    """
    path, record = _path(store, training), store.described(key)
    if (finished := _finished(path)).exists():
        try:
            arrays, manifest = npz.load_arrays(finished)
            existing = manifest.pop("format", None)
            records.require_format(
                finished, existing, partial.FORMAT, records.OTHER_VERSION
            )
        except ValueError:
            return _unfinished(store, path, record)
        records.require_identity(finished, manifest, record, partial.OTHER_TRAINING)
        checkpoints.remove(path)  # left over if a process was killed in `save`
        names = (*runs.METRICS, "seconds")
        return PartialTraining(store.epochs, None, {n: arrays[n][None] for n in names})
    return _unfinished(store, path, record)


def _unfinished(
    store: Store, path: Path, record: dict[str, Any]
) -> PartialTraining | None:
    """Reads the checkpoint of a training, if there is a usable one."""
    if not checkpoints.exists(path):
        return None
    try:
        done, existing = partial.read_manifest(path)
    except ValueError:
        return None
    if done >= store.epochs:
        return None
    records.require_identity(path, existing, record, partial.OTHER_TRAINING)
    empty = np.zeros((1, store.epochs), np.float32)
    curves = dict.fromkeys((*runs.METRICS, "seconds"), empty)
    try:
        return partial.restore(path, done, store.like, curves)
    except ValueError:
        return None


def load_curves(folder: str | Path, arch: np.ndarray, epochs: int) -> Curves:
    """Reads the curves of a finished training of seed 0.

    Args:
      folder: the `folder` of a `training_benchmark`.
      arch: (6,) the cell.
      epochs: of the schedule.

    Returns: (epochs,) each.
    Raises: `ValueError` if they are missing or damaged.
    """
    training = Training(tuple(np.asarray(arch).tolist()))
    path = _path(Store(Path(folder), {}, epochs, None), training)
    return npz.load_arrays(_finished(path))[0]


def _path(store: Store, training: Training) -> Path:
    """The checkpoint of a training; that of a finished one has the suffix `.npz`."""
    repetition = f"-{training.seed}" if training.seed else ""
    name = f"{''.join(map(str, training.arch))}-{store.epochs}{repetition}"
    return store.folder / name


def _finished(path: Path) -> Path:
    return path.with_name(path.name + ".npz")
