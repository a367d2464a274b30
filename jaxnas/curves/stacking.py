"""Stacking: weights of several regressors by the rows that they were not fitted on.

Smooth functions suit perceptrons, few and noisy curves suit trees and strong weight
decay; the rows that a bagged member was not fitted on tell which (Breiman, 1996, Stacked
Regressions).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from jaxnas.curves import members
from jaxnas.curves.regress_boosting import FitTask, Regress
from jaxnas.types import Array

# Parts of less weight are dropped: they cost time and change little.
_LEAST_WEIGHT = 0.1


def stacked(*regressors: Regress) -> Regress:
    """Combines several regressors, with weights for each member of an ensemble.

    Weights are not negative and add up to 1; they minimise the squared error of the
    curves of the rows that the member was not fitted on. A member that was fitted on all
    rows weighs its parts alike.

    Args:
      *regressors: at least one.

    Returns: a function that fits `members.Mean`.
    Raises: `ValueError` for no regressor.
    """
    if not regressors:
        raise ValueError("stacking needs at least one regressor")

    def fit(keys: Array, task: FitTask) -> tuple[members.Mean, ...]:
        features, targets, rows, importance = task
        parts = [
            regress(jax.vmap(jax.random.fold_in, (0, None))(keys, i), task)
            for i, regress in enumerate(regressors)
        ]
        each = zip(zip(*parts, strict=True), targets, rows, importance, strict=True)
        return tuple(_combined(features, *member) for member in each)

    return fit


def _combined(
    features: np.ndarray,
    parts: tuple,
    target: np.ndarray,
    rows: np.ndarray,
    importance: np.ndarray,
) -> members.Mean:
    """The parts of one member with their weights.

    Args:
      features: (n, d).
      parts: p regressors.
      target: (n, k) components.
      rows: (r,) that the parts were fitted on.
      importance: (k,) of the components.
    """
    out = np.setdiff1d(np.arange(len(features)), rows)
    weight = np.full(len(parts), 1 / len(parts))
    if len(out):
        x = jnp.asarray(features[out])
        predictions = [np.asarray(members.regress(part, x), float) for part in parts]
        weight = weights(np.stack(predictions), np.asarray(target)[out], importance)
    kept = np.flatnonzero(weight)
    return members.Mean(tuple(parts[i] for i in kept), jnp.asarray(weight[kept], float))


def weights(
    predictions: np.ndarray, target: np.ndarray, importance: np.ndarray
) -> np.ndarray:
    """Weights (p,) of p predictions, by least squares without negative weights.

    Args:
      predictions: (p, m, k), of p regressors.
      target: (m, k) what they should be.
      importance: (k,) of each component in the squared error.

    Returns: weights that add up to 1; 0 for parts that would have little.
    """
    size = len(predictions)
    a = (predictions * importance).reshape(size, -1).T
    # A heavy row holds the sum near 1, so that what is left out shrinks nothing.
    heavy = 1e3 * np.abs(a).max(initial=1.0)
    a = np.concatenate([a, np.full((1, size), heavy)])
    b = np.concatenate([(target * importance).reshape(-1), [heavy]])
    weight = nnls(a, b)[0]
    weight = np.where(weight >= _LEAST_WEIGHT * weight.sum(), weight, 0.0)
    return weight / weight.sum()
