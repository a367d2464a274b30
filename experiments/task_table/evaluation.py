"""Divisions of records, metrics of predictions, and their bootstrap errors by task."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import ranks

METRICS = ("pearson", "spearman", "pairs")


class Pairs(NamedTuple):
    """All p pairs of records that belong to one task."""

    first: np.ndarray  # (p,) rows of records
    second: np.ndarray  # (p,)


def task_folds(task: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Divides tasks at random into folds of equal numbers of tasks.

    Args:
      task: (n,) the task of each record.
      num: of folds.
      seed: of the permutation of the tasks.

    Returns: (n,) the fold of each record.
    """
    distinct, number = np.unique(task, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(distinct))
    return (order % num)[number.reshape(-1)]


def pairs_within(task: np.ndarray) -> Pairs:
    """Lists the pairs of records of the same task.

    Args:
      task: (n,) the task of each record.
    """
    first, second = np.triu_indices(len(task), 1)
    same = task[first] == task[second]
    return Pairs(first[same], second[same])


def metrics(
    predicted: np.ndarray,
    accuracy: np.ndarray,
    task: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Correlations, and the share of pairs within a task that are in the right order.

    Args:
      predicted: (n,) predictions.
      accuracy: (n,) labels.
      task: (n,) the task of each record.
      weights: (b, n) how many times each record counts, the same within a task; default:
        once.

    Returns: (b, 3) in the order of `METRICS`, (3,) without weights; a tie of predictions
      or of labels is half a correct pair.
    """
    counts = np.ones((1, len(task))) if weights is None else np.asarray(weights)
    x, y = ranks.ordinal(predicted), ranks.ordinal(accuracy)
    spearman = np.asarray(ranks.spearman(x, y, jnp.asarray(counts, jnp.float32)))
    pairs = pairs_within(task)
    sign = [np.sign(v[pairs.first] - v[pairs.second]) for v in (predicted, accuracy)]
    correct = (1 + sign[0] * sign[1]) / 2
    by_pair = counts[:, pairs.first]
    # Without a pair of records of one task there is nothing to order.
    total = np.where(by_pair.sum(1) > 0, by_pair.sum(1), np.nan)
    values = [pearson(predicted, accuracy, counts), spearman, by_pair @ correct / total]
    stacked = np.stack(values, 1)
    return stacked[0] if weights is None else stacked


def bootstrap_by_task(task: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Draws samples of tasks with replacement.

    Args:
      task: (n,) the task of each record.
      num: of samples.
      seed: of the draws.

    Returns: (num, n) how many times each record's task is drawn.
    """
    distinct, number = np.unique(task, return_inverse=True)
    key = jax.random.key(seed)
    weights = ranks.bootstrap_weights(key, num, len(distinct))
    return np.asarray(weights)[:, number.reshape(-1)]


def pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's correlations (b,) of weighted samples.

    Args:
      x: (n,) values.
      y: (n,) values.
      weights: (b, n) how many times each counts.
    """
    total = weights.sum(1, keepdims=True)
    values = [np.asarray(z, np.float64) for z in (x, y)]
    u, v = (z - weights @ z[:, None] / total for z in values)
    covariance = (weights * u * v).sum(1)
    return covariance / np.sqrt((weights * u**2).sum(1) * (weights * v**2).sum(1))
