"""The checkpoint of a meta-training, from which only the same training continues.

Besides the progress it has a record of all that the epochs depend on: the data, the
settings, the key and the initial parameters, of which the large ones are digests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas.io import checkpoints, records
from jaxnas.io.cache import array_digest
from jaxnas.models import checkpoint
from jaxnas.models.checkpoint import Progress
from jaxnas.models.model import Model
from jaxnas.types import Array

_ENDS = ("epochs", "patience")  # settings that decide only when a training ends
_REMEDY = "give another folder"


class Saved(NamedTuple):
    """A training on disk."""

    model: Model  # after the last epoch
    progress: Progress
    record: Mapping[str, Any]  # empty in checkpoints of earlier versions


def record(key: Array, model: Model, training: Mapping[str, Any]) -> dict[str, Any]:
    """Describes all that the epochs of a training depend on.

    Args:
      key: of the training.
      model: with its initial parameters.
      training: data and settings by name.

    Returns: JSON values by name; digests of data and parameters.
    """
    named = {name: v for name, v in training.items() if name not in _ENDS}
    named = {
        name: value if isinstance(value, int | float) else _digest(value)
        for name, value in named.items()
    }
    words = np.asarray(jax.random.key_data(key)).tolist()
    return named | {"key": words, "parameters": _digest(model.variables)}


def _digest(tree: Any) -> str:
    """Hashes the names, shapes and contents of the arrays of a tree."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = [f"{jax.tree_util.keystr(path)} {np.shape(x)}" for path, x in found]
    return array_digest(np.array(names), *(x for _, x in found))


def read(folder: str | os.PathLike, model: Model) -> Saved | None:
    """Reads the checkpoint of a model of the same configuration; None if there is none.

    Raises: `ValueError` for one that is damaged, of another model or without progress.
    """
    if not checkpoints.exists(folder):
        return None
    found = checkpoint.load(folder, config=model.network.config)
    if found.progress is None:
        raise ValueError(f"{folder} has no progress of a training")
    return Saved(found.model, found.progress, found.origin)


def require_same(
    folder: str | os.PathLike,
    saved: Saved,
    requested: Mapping[str, Any],
    finished: Callable[[Progress], bool],
) -> None:
    """Checks that a checkpoint is of the training that is to continue.

    Args:
      folder: of the checkpoint.
      saved: what it holds.
      requested: the record of the training.
      finished: whether the training ends with some progress.

    Raises: `ValueError` that names what differs, and for one that has more epochs.
    """
    if saved.record:
        records.require_identity(folder, saved.record, requested, _REMEDY)
    curve = saved.progress.curve
    for count in range(1, len(curve)):
        if finished(saved.progress._replace(curve=curve[:count])):
            raise ValueError(
                f"{folder} has {len(curve)} epochs, and this training ends after "
                f"{count}: {_REMEDY}"
            )
