"""Tasks of a meta-database as the data that MetaD2A's models are trained on.

data = examples(database, "train")
validation = examples(database, "validation")
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.datasets.tasks import PARTS
from jaxnas.models.codecs import codec_of
from jaxnas.models.meta_data import MetaData


def examples(database: MetaDatabase, part: str) -> MetaData:
    """Collects the records of the tasks of one part.

    Args:
      database: of the tasks.
      part: one of `tasks.PARTS`.

    Returns: the records; accuracies are those on test images after the last epoch.
    Raises: `ValueError` if the part has no task with a finite accuracy.
    """
    wanted = PARTS.index(part)
    rows = [n for n, task in enumerate(database.tasks) if task.part == wanted]
    accuracy = database.test[rows, :, -1]
    if not np.isfinite(accuracy).any():
        raise ValueError(
            f"the meta-database has no finished trainings of tasks for {part}: let "
            "`experiments.build_meta_database` make more"
        )
    return _records(database, np.array(rows), database.arch[rows], accuracy)


def _records(
    database: MetaDatabase, rows: np.ndarray, arch: np.ndarray, accuracy: np.ndarray
) -> MetaData:
    """Joins cells and accuracies with the features of their tasks.

    Args:
      database: of the tasks.
      rows: (t,) numbers of the tasks.
      arch: (t, n, d).
      accuracy: (t, n) percent; NaN: no such record.
    """
    x, starts = _joined(database)
    width = max(len(database.tasks[n].classes) for n in rows)
    first, counts = np.zeros((2, len(rows), width), np.int32)
    for row, number in enumerate(rows):
        _, pool, classes = database.tasks[number]
        images = database.features[pool].shape[1]
        first[row, : len(classes)] = starts[pool] + images * np.array(classes)
        counts[row, : len(classes)] = images
    types_of = codec_of(database.manifest).types_of
    types = np.asarray(jax.vmap(jax.vmap(types_of))(jnp.asarray(arch)))
    present = np.isfinite(accuracy)
    return MetaData(x, first, counts, types, np.where(present, accuracy, 0), present)


def _joined(database: MetaDatabase) -> tuple[np.ndarray, dict[str, int]]:
    """Joins the features of all pools: (m, F), and the first row of each pool."""
    blocks, starts, row = [], {}, 0
    for pool, features in sorted(database.features.items()):
        starts[pool] = row
        blocks.append(np.float32(features).reshape(-1, features.shape[-1]))
        row += len(blocks[-1])
    return np.concatenate(blocks), starts


def grid_examples(database: MetaDatabase, seed: int) -> MetaData:
    """Collects the grid: every cell of it on each task for tests.

    Args:
      database: of the grid.
      seed: of the trainings: 0, by which architectures are chosen, or 1, to report.

    Returns: the records of the tasks on which the grid is complete from both seeds.
    Raises: `ValueError` if there is no such task.
    """
    complete = np.isfinite(database.grid_test).all((0, 2))
    if not complete.any() or not database.grid_test.size:
        raise ValueError(
            "the meta-database has no complete grid of cells on a task for tests"
        )
    rows = database.grid_task[complete]
    accuracy = database.grid_test[seed][complete]
    arch = np.broadcast_to(database.grid_arch, (len(rows), *database.grid_arch.shape))
    return _records(database, rows, arch, accuracy)
