"""Prediction of the scores of a whole pool from the labels of a few architectures.

Features that are nearly free, such as zero-cost scores of untrained networks, help a model
more than many labels do. `gaussian_process` takes them as parts of its distance, beside
others; `ridge` is linear in them (`fit_ridge` returns
the linear function). `ranked` and `savage_scores` turn raw scores into
features, `normal_scores` turns labels into targets.

    features = [
        live_tree_wasserstein_features(SPACE),
        features_by_architecture(SPACE, arch, ranked_scores),
    ]
    pool = make_pool(SPACE, features, arch=arch)
    mean, std = gaussian_process(pool, pool_index, normal_scores(accuracy))
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from jaxnas import ranks
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.precision import full_precision
from jaxnas.predictors import pool_gp
from jaxnas.predictors.pool import Pool
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.spaces import base, identity
from jaxnas.spaces.base import Space
from jaxnas.types import Array

# Penalties of `ridge`, as shares of the variance of a feature.
_PENALTIES = 10.0 ** np.arange(-4, 4.1, 0.5)


def normal_scores(score: Array) -> Array:
    """Replaces scores by the standard normal quantiles of their ranks.

    For targets of which only the order counts: how bad a network that failed to train is
    does not matter. The i-th lowest of n has the quantile (i - 1/2) / n.

    Args:
      score: (n,); NaN (a failed evaluation) is the lowest, ties are broken by position.

    Returns: (n,) quantiles.
    """
    position = jnp.argsort(jnp.argsort(nan_to_neg_inf(score)))
    return ndtri((position + 0.5) / score.shape[0])


def ranked(scores: np.ndarray) -> np.ndarray:
    """Ranks of each of f scores among n architectures, scaled to 0..1.

    Args:
      scores: (n, f), one score a column.

    Returns: (n, f) float32 average ranks divided by n.
    """
    columns = [ranks.average_ranks(ranks.ordinal(column)) for column in scores.T]
    return np.stack([np.asarray(c) for c in columns], 1) / np.float32(len(scores))


def savage_scores(scores: np.ndarray) -> np.ndarray:
    """Exponential quantiles of ranks, close to the scores of Savage (1956).

    The best architectures are far apart and the bad ones close together. Use for search
    (emphasises the top); use `ranked` for global rank prediction.

    Args:
      scores: (n, f), one score a column.

    Returns: (n, f) float32, -ln(1 - (rank - 1/2) / n), above 0.
    """
    shares = ranked(scores) - np.float32(0.5 / len(scores))
    return -np.log1p(-shares)


def features_by_architecture(
    space: Space, arch: np.ndarray, values: np.ndarray
) -> FeatureMap:
    """Feature map that looks up stored features, such as zero-cost scores.

    Args:
      space: of the architectures.
      arch: (n, d) all architectures whose features will be looked up.
      values: (n, f) their features.

    Returns: a feature map with one part (f,); NaN, which `make_pool` refuses, for an
      architecture that is not among `arch`.
    Raises: `ValueError` for values of another shape.
    """
    if len(arch) != len(values) or np.ndim(values) != 2:
        raise ValueError(
            f"values must be ({len(arch)}, f), one row an architecture, not "
            f"{np.shape(values)}"
        )
    keys, first = np.unique(base.identify(space, arch), return_index=True)
    identities, rows = (
        identity.from_uint64(keys),
        jnp.asarray(values[first], jnp.float32),
    )

    def feature_map(arch: Array) -> tuple[Array]:
        row = identity.find(jnp.asarray(identities), space.identity(arch))
        return (jnp.where(row >= 0, rows[row], jnp.nan),)

    return feature_map


def gaussian_process(
    pool: Pool, pool_index: Array, score: Array, *, clip_below: float = jnp.inf
) -> tuple[Array, Array]:
    """Fits a Gaussian process to labels and predicts the whole pool.

    Args:
      pool: n architectures with their embeddings.
      pool_index: (m,) int32, the labelled architectures.
      score: (m,) labels; NaN counts as the lowest.
      clip_below: as for `gp.fit_standardisation`.

    Returns: mean (n,) and standard deviation (n,) of the latent function, in units of
      the score.
    """
    state = pool_gp.empty(pool, pool_index.shape[0])

    def append(state: pool_gp.PoolGPState, label: tuple[Array, Array]):
        return pool_gp.append(pool, state, *label), None

    state, _ = jax.lax.scan(append, state, (pool_index, score))
    state = pool_gp.refit(pool, state, clip_below)
    mean, std = pool_gp.marginal_posterior(state)
    column, unit = pool.embeddings.column, state.standardisation
    return unit.mean + unit.std * mean[column], unit.std * std[column]


class RidgeModel(NamedTuple):
    """A linear function of f features: centre + (feature - mean) / scale . weight."""

    mean: Array  # (f,)
    scale: Array  # (f,)
    weight: Array  # (f,)
    centre: Array  # ()


@full_precision
def fit_ridge(feature: Array, score: Array) -> RidgeModel:
    """Fits ridge regression (Hoerl and Kennard, 1970), penalty by leave-one-out error.

    The error is exact and needs one fit (Golub, Heath and Wahba, 1979, eq. 1.3).

    Args:
      feature: (m, f).
      score: (m,) labels, finite.

    Returns: the model, whose inputs are features on their own scale.
    """
    mean, scale = feature.mean(0), jnp.maximum(feature.std(0), 1e-6)
    x, centre = (feature - mean) / scale, score.mean()
    left, size, right = jnp.linalg.svd(x, full_matrices=False)
    projected = left.T @ (score - centre)

    def error(penalty: Array) -> Array:
        shrink = size**2 / (size**2 + penalty)
        # The mean is fitted as well, which adds 1 / m to each leverage.
        leverage = (left**2) @ shrink + 1 / score.shape[0]
        residual = score - centre - left @ (shrink * projected)
        return jnp.mean((residual / (1 - leverage)) ** 2)

    penalties = jnp.asarray(_PENALTIES, x.dtype) * score.shape[0]
    penalty = penalties[jnp.argmin(jax.vmap(error)(penalties))]
    weight = right.T @ (size / (size**2 + penalty) * projected)
    return RidgeModel(mean, scale, weight, centre)


@full_precision
def predict_ridge(model: RidgeModel, feature: Array) -> Array:
    """Predictions (...) of a linear model for features (..., f)."""
    return model.centre + (feature - model.mean) / model.scale @ model.weight


def ridge(feature: Array, labelled: Array, score: Array) -> Array:
    """Ridge regression from the labels of a part of the architectures; see `fit_ridge`.

    Args:
      feature: (n, f) of all architectures.
      labelled: (m,) int32 rows of `feature` that have a label.
      score: (m,) labels, finite.

    Returns: (n,) predictions.
    """
    return predict_ridge(fit_ridge(feature[labelled], score), feature)
