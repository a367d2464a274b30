"""Stacking: weights of several regressors by the rows that they were not fitted on.

Smooth functions suit perceptrons, few and noisy curves suit trees; the rows that bagged
members were not fitted on tell which, for each component (Breiman, 1996, Stacked
Regressions). Few rows tell little: the first regressor stays alone unless the stack is
better by more than the rows' chance, in the manner of the one-standard-error rule
(Breiman et al., 1984, Classification and Regression Trees, section 3.4.3).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from jaxnas.curves import members
from jaxnas.curves.regress_boosting import FitTask, Regress
from jaxnas.types import Array

# Smaller weights are dropped: their parts cost time and change little.
_LEAST_WEIGHT = 0.1
# Standard errors by which a stack has to be better than its first part.
_LEAST_GAIN = 2.0


def stacked(*regressors: Regress) -> Regress:
    """Combines several regressors, with weights for each component.

    Weights are not negative and add up to 1; they minimise the squared error of the rows
    that each member was not fitted on, over all members together: few curves leave too
    few rows to each. Where they gain less than two standard errors over the first
    regressor, that one is taken alone. Members that were fitted on all rows weigh their
    parts alike.

    Args:
      *regressors: at least one; the first is the one to trust where rows are few.

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
    """Predictions of rows that members were not fitted on.

    Targets are cut off at the range of the rows that the member was fitted on: what lies
    beyond it no part could learn, and a single diverged training, whose components may
    be a hundred times those of all others, would decide the weights by chance.

    Args:
      parts: p regressors of each of m members.
      task: what they were fitted to.

    Returns: (p, r, k) predictions, (r, k) targets and the rows (r,), of all members one
      after another.
    """
    predictions, targets, unseen = [], [], []
    for member, (rows, target) in enumerate(zip(task.rows, task.targets, strict=True)):
        target = np.asarray(target)
        out = np.setdiff1d(np.arange(len(target)), rows)
        x = jnp.asarray(task.features[out])
        each = [np.asarray(members.regress(part[member], x), float) for part in parts]
        predictions.append(np.stack(each))
        low, high = target[rows].min(0), target[rows].max(0)
        targets.append(np.clip(target[out], low, high))
        unseen.append(out)
    joined = np.concatenate(predictions, 1), np.concatenate(targets)
    return *joined, np.concatenate(unseen)


def weights(
    predictions: np.ndarray, target: np.ndarray, rows: np.ndarray | None = None
) -> np.ndarray:
    """Weights (p, k) of p predictions, by least squares without negative weights.

    Args:
      predictions: (p, r, k) predictions.
      target: (r, k) what they should be.
      rows: (r,) those of one number are one row, predicted by several members. Default:
        all are different.

    Returns: weights of which those of each component add up to 1; 0 for parts that would
      have little, 1 for the first where the gain over it may be chance, and equal ones
      without rows.
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
    """Whether the mean of gains (r, k) is more than their chance, for each component.

    Args:
      gain: what each prediction gains.
      rows: (r,) gains of one row are not independent, so that their sum counts as one.
    """
    centred = gain - gain.mean(0)
    sums = np.zeros((rows.max() + 1, gain.shape[1]))
    np.add.at(sums, rows, centred)
    error = np.sqrt((sums**2).sum(0)) / len(gain)
    return gain.mean(0) > _LEAST_GAIN * error


def _weights(predictions: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights (p,) of predictions (r, p) of a target (r,), which add up to 1."""
    # A heavy row holds the sum near 1, so that what is left out shrinks nothing.
    heavy = 1e3 * np.abs(predictions).max(initial=1.0)
    a = np.concatenate([predictions, np.full((1, predictions.shape[1]), heavy)])
    weight = nnls(a, np.append(target, heavy))[0]
    return weight / weight.sum()
