"""Trainings that have stopped before the end of their schedule, in memory and on disk.

On disk they are orbax checkpoints whose manifest has the format, the identity of the
training (all that it depends on, see `runs.training_identity`) and the epochs so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.io import checkpoints, files, records

FORMAT = 2  # of the manifest
OTHER_TRAINING = "give another folder, or the settings it was made with"
Curves = dict[str, np.ndarray]


class PartialTraining(NamedTuple):
    """Trainings side by side that have reached the same epoch."""

    epochs: int
    state: Any  # leading axis (a,); donated by `train`; None if it cannot be resumed
    curves: Curves  # (a, recipe.epochs), NaN past the epoch


def save(folder: Path, identity: Mapping[str, Any], partial: PartialTraining) -> None:
    """Writes a checkpoint, which replaces the one before.

    Args:
      folder: of the checkpoint; its parents are made.
      identity: what the training depends on, as JSON values.
      partial: state, curves and epochs.

    Raises: `ValueError` if it cannot be written.
    """
    files.make_folder(folder.parent)
    manifest = {**identity, "format": FORMAT, "epochs": partial.epochs}
    checkpoints.save(
        folder, {"state": partial.state, "curves": partial.curves}, manifest
    )


def read_manifest(folder: Path) -> tuple[int, dict[str, Any]]:
    """Reads what a checkpoint is of.

    Returns: the epochs so far, and the identity of the training.
    Raises: `ValueError` if it is damaged or of another format.
    """
    identity = checkpoints.manifest(folder)
    version, epochs = identity.pop("format", None), identity.pop("epochs", None)
    records.require_format(folder, version, FORMAT, records.OTHER_VERSION)
    if type(epochs) is not int or epochs < 1:
        raise ValueError(
            f"{folder} is a checkpoint after {epochs!r:.80} epochs: wanted at least one"
        )
    return epochs, identity


def restore(folder: Path, epochs: int, like: Any, curves: Curves) -> PartialTraining:
    """Reads the arrays of a checkpoint.

    Args:
      folder: of the checkpoint.
      epochs: as `read_manifest` gives them.
      like: shapes and dtypes of the state.
      curves: arrays of the curves' shapes.

    Raises: `ValueError` if it is damaged or has other shapes.
    """
    both = checkpoints.restore(folder, {"state": like, "curves": curves})
    read = {name: np.array(values) for name, values in both["curves"].items()}
    return PartialTraining(epochs, both["state"], read)
