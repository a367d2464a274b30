"""Stacking: regressors weighted by their errors on out-of-bag rows.

Perceptrons suit smooth functions, trees suit few and noisy curves. The weights of each
component minimise the error on out-of-bag rows (Breiman, 1996, Stacked Regressions). To
avoid overfitting them to few rows, the first regressor is used alone unless the stack is
significantly better, similar to the one-standard-error rule (Breiman et al., 1984,
Classification and Regression Trees, section 3.4.3).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from jaxnas.curves import members
from jaxnas.curves.regress_boosting import FitTask, Regress
from jaxnas.types import Array

# Smaller weights are dropped: their regressors cost time and change little.
_LEAST_WEIGHT = 0.1
# Minimum gain of a stack over its first regressor, in standard errors.
_LEAST_GAIN = 2.0


def stacked(*regressors: Regress) -> Regress:
    """Combines several regressors, with weights for each component.

    Weights are non-negative and sum to 1. They minimise the squared error on out-of-bag
    rows, pooled over all members because each member has few. A component on which the
    stack gains less than two standard errors over the first regressor uses that regressor
    alone. Members without out-of-bag rows have equal weights.

    Args:
      *regressors: at least one; the first is the one that is used alone.

    Returns: a function that fits `members.Mean`.
    Raises: `ValueError` for no regressor.
    """
    if not regressors:
        raise ValueError("stacking needs at least one regressor")

    def fit(keys: Array, task: FitTask) -> tuple[members.Mean, ...]:
        parts = [
            regress(jax.vmap(jax.random.fold_in, (0, None))(keys, i), task)
            for i, regress in enumerate(regressors)
        ]
        weight = weights(*_unseen(parts, task))
        kept = np.flatnonzero(weight.any(1))
        array = jnp.asarray(weight[kept], float)
        by_member = zip(*(parts[i] for i in kept), strict=True)
        return tuple(members.Mean(part, array) for part in by_member)

    return fit


def _unseen(
    parts: list[tuple], task: FitTask
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes out-of-bag predictions.

    Targets are clipped to the range of the rows that the member was fitted on. Otherwise
    a single diverged training, whose components may be a hundred times larger than all
    others, would determine the weights.

    Args:
      parts: p regressors of each of m members.
      task: their training data.

    Returns: (p, r, k) predictions, (r, k) targets and the rows (r,), concatenated over
      members.
    """
    predictions, targets, unseen = [], [], []
    for member, (rows, target) in enumerate(zip(task.rows, task.targets, strict=True)):
        target = np.asarray(target)
        out = np.setdiff1d(np.arange(len(target)), rows)
        x = jnp.asarray(task.features[out])
        each = [
            np.asarray(members.regress_compiled(part[member], x), float)
            for part in parts
        ]
        predictions.append(np.stack(each))
        low, high = target[rows].min(0), target[rows].max(0)
        targets.append(np.clip(target[out], low, high))
        unseen.append(out)
    joined = np.concatenate(predictions, 1), np.concatenate(targets)
    return *joined, np.concatenate(unseen)


def weights(
    predictions: np.ndarray, target: np.ndarray, rows: np.ndarray | None = None
) -> np.ndarray:
    """Computes weights (p, k) of p predictions by non-negative least squares.

    Args:
      predictions: (p, r, k) predictions.
      target: (r, k) true values.
      rows: (r,) int; equal numbers mark predictions of one row by several members.
        Default: all are different.

    Returns: weights that sum to 1 for each component. Weights below 0.1 are set to 0; the
      first is 1 where the gain over it is not significant; all are equal if r = 0.
    """
    size, num, outputs = predictions.shape
    if not num:
        return np.full((size, outputs), 1 / size)
    weight = np.stack(
        [_weights(predictions[..., k].T, target[:, k]) for k in range(outputs)]
    )
    weight = np.where(weight >= _LEAST_WEIGHT, weight, 0.0)
    weight = (weight / weight.sum(1, keepdims=True)).T
    mean = (weight[:, None] * predictions).sum(0)
    gain = (predictions[0] - target) ** 2 - (mean - target) ** 2
    rows = np.arange(num) if rows is None else rows
    first = np.eye(size)[:, :1]
    return np.where(_is_clear(gain, rows), weight, first)


def _is_clear(gain: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Whether the mean gain of each component is significant, (k,) bool.

    Args:
      gain: (r, k) decrease of the squared error of each prediction.
      rows: (r,) gains of one row are dependent, so that their sum counts once.
    """
    centred = gain - gain.mean(0)
    sums = np.zeros((rows.max() + 1, gain.shape[1]))
    np.add.at(sums, rows, centred)
    error = np.sqrt((sums**2).sum(0)) / len(gain)
    return gain.mean(0) > _LEAST_GAIN * error


def _weights(predictions: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights (p,) of predictions (r, p) of a target (r,), which add up to 1."""
    # A row of large weight enforces a sum near 1, so that dropped weights shrink nothing.
    heavy = 1e3 * np.abs(predictions).max(initial=1.0)
    a = np.concatenate([predictions, np.full((1, predictions.shape[1]), heavy)])
    weight = nnls(a, np.append(target, heavy))[0]
    return weight / weight.sum()
