"""Records of many tasks as arrays: what the models of MetaD2A are meta-trained on.

data = jaxnas.datasets.meta_examples.examples(database, "train")
pairs = best_graphs(data, 1)  # what a generator imitates
task = draw_task(key, data, 0, 20)
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.models.features import draw_rows
from jaxnas.types import Array


class MetaData(NamedTuple):
    """Records of t tasks, with up to C classes and n graphs each; all arrays are padded.

    The tasks share the features of their classes, so x holds every class once.
    """

    x: Array | np.ndarray  # (m, F) float32, features of images, sorted by class
    first: np.ndarray  # (t, C) int32, the first row of each class of a task
    counts: np.ndarray  # (t, C) int32, images of the class; 0 for padding
    types: np.ndarray  # (t, n, N) int32, vertices of the graphs
    accuracy: np.ndarray  # (t, n) float32, percent
    present: np.ndarray  # (t, n) bool; False: no such record


class TaskBatch(NamedTuple):
    """A task with the features of a random subset of its images."""

    features: Array  # (C, S, F)
    mask: Array  # (C, S) bool, False for padding
    types: Array  # (n, N) int32
    accuracy: Array  # (n,) percent
    present: Array  # (n,) bool


def best_graphs(data: MetaData, count: int) -> MetaData:
    """Keeps the records of the highest accuracies of each task.

    Args:
      data: all records.
      count: records of a task; a task with fewer keeps all of them.
    """
    score = np.where(data.present, data.accuracy, -np.inf)
    order = np.argsort(-score, 1, kind="stable")[:, :count]
    rows = np.arange(len(order))[:, None]
    kept = (data.types[rows, order], data.accuracy[rows, order])
    return MetaData(*data[:3], *kept, data.present[rows, order])


def draw_task(key: Array, data: MetaData, number: Array, num_images: int) -> TaskBatch:
    """Draws images of each class of a task.

    Args:
      key: random key.
      data: of all tasks, on the device.
      number: () int32 of the task; -1 gives a task without records.
      num_images: S.
    """
    first, counts, types, accuracy, present = (array[number] for array in data[1:])
    rows, mask = draw_rows(key, first, counts, num_images)
    features = jnp.asarray(data.x)[rows]
    return TaskBatch(features, mask, types, accuracy, present & (number >= 0))


def moments(data: MetaData) -> tuple[float, float]:
    """Computes mean and standard deviation (n - 1) of the accuracies, in percent.

    Raises: `ValueError` for records without variation.
    """
    accuracy = data.accuracy[data.present].astype(np.float64)
    if len(accuracy) < 2 or not (std := accuracy.std(ddof=1)) > 0:
        raise ValueError("the accuracies of the training records are all the same")
    return float(accuracy.mean()), float(std)
