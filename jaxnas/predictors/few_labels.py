"""What all architectures of a pool are worth, from the labels of a few.

Features that cost next to nothing, such as scores of untrained networks, tell a model more
than many labels do. `gaussian_process` takes them as parts of its distance, beside any
other; `ridge` is linear in them.

    features = [
        live_tree_wasserstein_features(SPACE),
        features_by_architecture(SPACE, arch, ranked_scores),
    ]
    pool = make_pool(SPACE, features, arch=arch)
    mean, std = gaussian_process(pool, pool_index, normal_scores(accuracy))
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from jaxnas import ranks
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.predictors import pool_gp
from jaxnas.predictors.pool import Pool
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.spaces import base, identity
from jaxnas.spaces.base import Space
from jaxnas.types import Array

# Penalties that `ridge` chooses from, as shares of the variance of a feature.
_PENALTIES = 10.0 ** np.arange(-4, 4.1, 0.5)


def normal_scores(score: Array) -> Array:
    """Standard normal quantiles (n,) in the order of scores (n,), ties by position.

    Where only order counts: networks that failed to train are bad, and how bad does not
    matter; a failed one (NaN) is the worst. The i-th of n has the quantile (i - 1/2) / n.
    """
    place = jnp.argsort(jnp.argsort(nan_to_neg_inf(score)))
    return ndtri((place + 0.5) / score.shape[0])


def ranked(scores: np.ndarray) -> np.ndarray:
    """Features (n, f) float32 from 0 to 1: the ranks of scores (n, f) in each column."""
    columns = [ranks.average_ranks(ranks.ordinal(column)) for column in scores.T]
    return np.stack([np.asarray(c) for c in columns], 1) / np.float32(len(scores))


def savage_scores(scores: np.ndarray) -> np.ndarray:
    """Features (n, f) float32 above 0: -ln(1 - (rank - 1/2) / n) in each column.

    The ranks of scores (n, f) as quantiles of an exponential distribution, close to the
    scores of Savage (1956): the best are far apart, the bad close together. For a search,
    which has to tell the best from the good; `ranked` is for who ranks all alike.
    """
    shares = ranked(scores) - np.float32(0.5 / len(scores))
    return -np.log1p(-shares)


def features_by_architecture(
    space: Space, arch: np.ndarray, values: np.ndarray
) -> FeatureMap:
    """A part of a distance that is known by architecture, as scores are.

    Args:
      arch: (n, d) all architectures that will be asked for.   values: (n, f).

    Returns: the part; NaN for an architecture that is not among them, which `make_pool`
      refuses.
    """
    if len(arch) != len(values) or np.ndim(values) != 2:
        raise ValueError(
            f"wanted values ({len(arch)}, f) of the architectures, not {values.shape}"
        )
    keys, first = np.unique(base.identify(space, arch), return_index=True)
    known, column = identity.words(keys), jnp.asarray(values[first], jnp.float32)

    def part(arch: Array) -> tuple[Array]:
        row = identity.search(jnp.asarray(known), space.identity(arch))
        return (jnp.where(row >= 0, column[row], jnp.nan),)

    return part


def gaussian_process(
    pool: Pool, place: Array, score: Array, *, clip_below: float = jnp.inf
) -> tuple[Array, Array]:
    """Conditions a Gaussian process on labels; hyper-parameters are fitted to them.

    Args:
      place: (m,) which architectures of the pool are labelled.   score: (m,).
      clip_below: as for `gp.fit_standardisation`.

    Returns: mean and standard deviation (n,) at all architectures, in units of the score.
    """
    state = pool_gp.empty(pool, place.shape[0])

    def record(state: pool_gp.PoolGPState, label: tuple[Array, Array]):
        return pool_gp.record(pool, state, *label), None

    state, _ = jax.lax.scan(record, state, (place, score))
    state = pool_gp.refit(pool, state, clip_below)
    mean, std = pool_gp.marginal_posterior(state)
    row, target = pool.embeddings.column, state.standardisation
    return target.mean + target.std * mean[row], target.std * std[row]


def ridge(feature: Array, place: Array, score: Array) -> Array:
    """Ridge regression (Hoerl and Kennard, 1970), penalty by leave-one-out error.

    The error is exact and needs one fit (Golub, Heath and Wahba, 1979, eq. 1.3).

    Args:
      feature: (n, f).   place: (m,), the rows that are labelled.   score: (m,), finite.

    Returns: (n,) predictions.
    """
    x = feature[place]
    mean, scale = x.mean(0), jnp.maximum(x.std(0), 1e-6)
    x, centre = (x - mean) / scale, score.mean()
    left, size, right = jnp.linalg.svd(x, full_matrices=False)
    projected = left.T @ (score - centre)

    def error(penalty: Array) -> Array:
        shrink = size**2 / (size**2 + penalty)
        # The mean is fitted as well: 1 / m of each label is its own.
        leverage = (left**2) @ shrink + 1 / score.shape[0]
        residual = score - centre - left @ (shrink * projected)
        return jnp.mean((residual / (1 - leverage)) ** 2)

    penalties = jnp.asarray(_PENALTIES, x.dtype) * score.shape[0]
    penalty = penalties[jnp.argmin(jax.vmap(error)(penalties))]
    weights = right.T @ (size / (size**2 + penalty) * projected)
    return centre + (feature - mean) / scale @ weights
