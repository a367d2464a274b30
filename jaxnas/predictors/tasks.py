"""Kernels between classification tasks that are drawn from a common set of classes.

What a task does to accuracies is, to first order, a sum over its classes: some are harder
than others. Beyond it, tasks whose classes resemble each other are harder. Three kernels
state this: of shared classes, of the embeddings of classes, and of the similarities of
the classes within a task.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.precision import full_precision
from jaxnas.types import Array


class TaskKernels(NamedTuple):
    """Kernels between t tasks; the mean of the diagonal is 1 in each."""

    shared: Array  # (t, t) share of the classes that both tasks have
    embedding: Array  # (t, t) Gaussian kernel of the mean embeddings of the classes
    similarity: Array  # (t, t) linear kernel of `similarity_statistics`


def task_kernels(classes: np.ndarray, embeddings: np.ndarray) -> TaskKernels:
    """Computes the kernels of tasks with equal numbers of classes.

    Args:
      classes: (t, c) integers, the classes of each task, all different; c >= 2.
      embeddings: (k, f) of the classes, in any unit.

    Raises: `ValueError` for another form of `classes` or `embeddings`, for repeated
      classes, and for classes that have no embedding.
    """
    classes, embeddings = _validated(np.asarray(classes), np.asarray(embeddings))
    return _kernels(jnp.asarray(classes), jnp.asarray(embeddings, jnp.float32))


def similarity_statistics(classes: Array, cosines: Array) -> Array:
    """Statistics of the similarities of the classes of a task.

    Args:
      classes: (c,) int32, all different.
      cosines: (k, k) similarities of all classes.

    Returns: (3,) mean similarity of two classes, mean square of it, and mean similarity of
      a class and the most similar other one.
    """
    num = classes.shape[0]
    pairs = cosines[classes[:, None], classes]
    own = jnp.eye(num, dtype=bool)
    others = jnp.where(own, 0.0, pairs)
    nearest = jnp.where(own, -jnp.inf, pairs).max(1).mean()
    total = num * (num - 1)
    return jnp.stack([others.sum() / total, (others**2).sum() / total, nearest])


@jax.jit
@full_precision
def _kernels(classes: Array, embeddings: Array) -> TaskKernels:
    unit = embeddings - embeddings.mean(0)
    # An embedding that equals the mean has no direction: similar to none.
    length = jnp.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit / jnp.maximum(length, 1e-12)

    num_tasks, num = classes.shape
    tasks = jnp.arange(num_tasks)[:, None]
    member = jnp.zeros((num_tasks, len(embeddings))).at[tasks, classes].set(1.0)
    mean = unit[classes].mean(1)
    square = jnp.sum(mean**2, 1)
    distance = jnp.maximum(square[:, None] + square - 2 * mean @ mean.T, 0.0)
    # Tasks that are all the same have the scale 0.
    scale = jnp.maximum(distance.mean(), 1e-12)

    cosines = unit @ unit.T
    statistics = jax.vmap(similarity_statistics, (0, None))(classes, cosines)
    centred = statistics - statistics.mean(0)
    deviation = jnp.sqrt(jnp.mean(centred**2, 0))
    centred = jnp.where(deviation > 1e-6, centred / jnp.maximum(deviation, 1e-6), 0.0)
    return TaskKernels(
        member @ member.T / num,
        jnp.exp(-distance / scale),
        centred @ centred.T / statistics.shape[1],
    )


def _validated(
    classes: np.ndarray, embeddings: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The arguments of `task_kernels`, or `ValueError`."""
    if classes.ndim != 2 or classes.dtype.kind not in "iu" or classes.shape[1] < 2:
        raise ValueError(
            "classes must be integers (tasks, classes) with at least two classes, not "
            f"{classes.dtype} {classes.shape}"
        )
    if embeddings.ndim != 2 or not np.isfinite(embeddings).all():
        raise ValueError(
            f"embeddings must be finite (classes, width), not {embeddings.shape}"
        )
    if classes.size and not (classes.min() >= 0 and classes.max() < len(embeddings)):
        raise ValueError(
            f"classes must be from 0 to {len(embeddings) - 1}, not {classes.min()} to "
            f"{classes.max()}"
        )
    ordered = np.sort(classes, 1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    if repeated.any():
        raise ValueError(f"task {np.argmax(repeated)} has a class twice")
    return classes.astype(np.int32), embeddings
