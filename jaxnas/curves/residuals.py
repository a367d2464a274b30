"""Residuals of held-out curves, to which the noise is fitted.

Residuals of the training curves themselves would be far too small. Bagged members of an
ensemble predict the curves that are not in their bags, which costs no further fit; for a
single member there is cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.curves import splits
from jaxnas.curves import surrogate as surrogates
from jaxnas.curves.surrogate import Surrogate
from jaxnas.types import Array

# Folds are held out until there are at least this many residuals.
MIN_RESIDUALS = 300
_CHUNK = 2048
_member_chunk = jax.jit(surrogates.member_curve)

# (key, features (n, d), curves (n, E), groups (n,)) -> a predictor, and the rows (m, r)
# that each of its members was fitted on.
FitPredictor = Callable[
    [Array, np.ndarray, np.ndarray, np.ndarray], tuple[Surrogate, np.ndarray]
]


class Residuals(NamedTuple):
    """Residuals of m curves."""

    rows: np.ndarray  # (m,) of the curves
    residual: np.ndarray  # (m, E), the curves minus their predictions


def held_out(
    key: Array,
    features: np.ndarray,
    curves: np.ndarray,
    groups: np.ndarray,
    fit: FitPredictor,
    folds: int,
) -> tuple[Residuals, list[Surrogate]]:
    """Residuals of the folds of a cross-validation.

    Args:
      key: random key; it draws the folds.
      features: (n, d).
      curves: (n, E).
      groups: (n, ...) curves of one group are held out together.
      fit: fits a predictor to the other folds.
      folds: number of folds, which are held out until there are `MIN_RESIDUALS` residuals.

    Returns: the residuals, and the predictor of each fold that was held out.
    """
    key_fold, key = jax.random.split(key)
    part = splits.folds(key_fold, groups, folds)
    parts: list[Residuals] = []
    predictors: list[Surrogate] = []
    for fold in range(folds):
        if sum(len(one.rows) for one in parts) >= MIN_RESIDUALS:
            break
        out, rest = np.flatnonzero(part == fold), np.flatnonzero(part != fold)
        one = jax.random.fold_in(key, fold)
        predictor, _ = fit(one, features[rest], curves[rest], groups[rest])
        predictors.append(predictor)
        parts.append(Residuals(out, curves[out] - predict(predictor, features[out])))
    return Residuals(*map(np.concatenate, zip(*parts, strict=True))), predictors


def out_of_bag(
    predictor: Surrogate,
    bags: np.ndarray,
    features: np.ndarray,
    curves: np.ndarray,
    groups: np.ndarray,
) -> Residuals:
    """Computes out-of-bag residuals.

    The mean of the q out-of-bag members of a curve has more error than the mean of all m.
    For given training curves the bags are independent draws, so that the mean of q has
    the variance v / q around the mean over all bags, although bags overlap. The variance
    v of a member is estimated from curves with q >= 2, and residuals are scaled at each
    epoch by the square root of 1 - v (1 / q - 1 / m) / s, with their mean square s.

    Args:
      predictor: of m >= 2 members.
      bags: (m, r) the rows that each member was fitted on.
      features: (n, d).
      curves: (n, E).
      groups: (n,) a member tests curves whose group is not in its bag.

    Returns: the residuals of the curves that are out of at least one bag.
    Raises: `ValueError` if there is none.
    """
    unseen = np.stack([~np.isin(groups, groups[bag]) for bag in bags])
    count = unseen.sum(0)
    rows = np.flatnonzero(count)
    if not len(rows):
        raise ValueError(
            f"each of {len(bags)} bags has curves of all {len(np.unique(groups))} "
            "architectures, so that the noise has no residuals: wanted more "
            "architectures, a smaller bagging, or no noise"
        )
    each = _member_curves(predictor, features[rows])
    weight = unseen[:, rows, None] / count[rows, None]
    mean = (weight * each).sum(0)
    several = count[rows] > 1
    square = (weight * (each - mean) ** 2).sum(0)[several]
    # Unbiased: a mean of q squares around their own mean lacks a q-th of the variance.
    degrees = count[rows][several, None]
    variance = (square * degrees / (degrees - 1)).mean(0) if several.any() else 0.0
    residual = curves[rows] - np.clip(mean, predictor.info.low, predictor.info.high)
    more = (1 / count[rows]).mean() - 1 / len(bags)
    total = np.maximum((residual**2).mean(0), np.finfo(float).tiny)
    # At least one half: the ratio of two estimates from few curves may be far off.
    scale = np.sqrt(np.maximum(1 - variance * more / total, 0.25))
    return Residuals(rows, residual * scale)


def predict(predictor: Surrogate, features: np.ndarray) -> np.ndarray:
    """Predictions (n, E), as of `surrogate.predict`."""
    mean = _member_curves(predictor, features).mean(0)
    return np.clip(mean, predictor.info.low, predictor.info.high)


def _member_curves(predictor: Surrogate, features: np.ndarray) -> np.ndarray:
    """The curves (m, n, E) of the members, not clipped.

    A member after another, and in chunks of one size: members mostly have one shape, so
    that one of them is compiled, and not all in a program that no other fit can use.
    """
    num = len(features)
    size = _CHUNK if num > _CHUNK // 8 else _CHUNK // 8
    padded = np.pad(features, ((0, -num % size), (0, 0)), mode="edge")
    chunks = padded.reshape(-1, size, features.shape[1])
    curves = [
        np.concatenate([np.asarray(_member_chunk(m, chunk), float) for chunk in chunks])
        for m in predictor.members
    ]
    return np.stack(curves)[:, :num]
