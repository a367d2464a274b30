"""Tasks of a meta-database as the data that MetaD2A's models are trained on.

    data = examples(database, "train")
    validation = examples(database, "validation")
"""

from __future__ import annotations

import jax
import numpy as np

from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.datasets.tasks import PARTS
from jaxnas.models.meta_data import MetaData
from jaxnas.models.nasbench201 import types_of


def examples(database: MetaDatabase, part: str) -> MetaData:
    """Collects the records of the tasks of one part.

    Args:
      database: of the tasks.
      part: one of `tasks.PARTS`.

    Returns: the records; accuracies are those on test images after the last epoch.
    Raises:
      ValueError: if the part has no task with a finite accuracy.
    """
    wanted = PARTS.index(part)
    rows = [n for n, task in enumerate(database.tasks) if task.part == wanted]
    accuracy = database.test[rows, :, -1]
    if not np.isfinite(accuracy).any():
        raise ValueError(
            f"the meta-database has no finished trainings of tasks for {part}: let "
            "`experiments.build_meta_database` make more"
        )
    x, starts = _joined(database)
    width = max(len(database.tasks[n].classes) for n in rows)
    first, counts = np.zeros((2, len(rows), width), np.int32)
    for row, number in enumerate(rows):
        task = database.tasks[number]
        images = database.features[task.pool].shape[1]
        first[row, : len(task.classes)] = starts[task.pool] + images * np.array(
            task.classes
        )
        counts[row, : len(task.classes)] = images
    types = jax.vmap(jax.vmap(types_of))(database.arch[rows])
    present = np.isfinite(accuracy)
    return MetaData(
        x, first, counts, np.asarray(types), np.where(present, accuracy, 0), present
    )


def _joined(database: MetaDatabase) -> tuple[np.ndarray, dict[str, int]]:
    """Joins the features of all pools: (m, F), and the first row of each pool."""
    blocks, starts, row = [], {}, 0
    for pool, features in sorted(database.features.items()):
        starts[pool] = row
        blocks.append(np.float32(features).reshape(-1, features.shape[-1]))
        row += len(blocks[-1])
    return np.concatenate(blocks), starts
