"""Rank statistics of scores: correlations, recall, bootstrap.

Scores may span fifty decades, or be -inf or NaN, and only their order counts. So they
first become integers on the host, in whatever precision they are (`ordinal`). All else is
a pure function of these integers: on the device in float32, exact for counts below 2^24,
and on the host in float64 (`kendall`, `top`, `recall`).

    x, y = ordinal(score), ordinal(accuracy)
    spearman(x, y), kendall(x, y)
    weights = bootstrap_weights(jax.random.key(0), 200, len(x))
    np.quantile(kendall(x, y, weights), (0.025, 0.975))
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnas.types import Array


def ordinal(score: ArrayLike) -> np.ndarray:
    """Converts scores to integers of the same order, on the host.

    Positive scores become 1, 2 and so on, all others 0 and below, so that a search can
    still tell whether a score is positive.

    Args:
      score: (n,), n >= 1; NaN and -inf count alike, as the worst.

    Returns: (n,) int32, equal for equal scores.
    Raises: `ValueError` for another shape.
    """
    score = np.asarray(score)
    if score.ndim != 1 or not score.size:
        raise ValueError(f"scores must be a vector (n,), not of shape {score.shape}")
    score = np.where(np.isnan(score), -np.inf, score)
    values, index = np.unique(score, return_inverse=True)
    return (index - np.count_nonzero(values <= 0) + 1).astype(np.int32).reshape(-1)


def average_ranks(order: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Computes ranks from 1, the worst, to n; equal scores have their mean rank.

    Args:
      order: (n,) as from `ordinal`.
      weights: (n,), how many times each counts; default: once.

    Returns: (n,) float.
    """
    weights = jnp.ones(jnp.shape(order)) if weights is None else jnp.asarray(weights)
    return _weighted_ranks(_groups(order), weights)


def _weighted_ranks(group: Array, weights: Array) -> Array:
    """Mean ranks (n,) in a sample in which entry i occurs `weights[i]` times."""
    size = jax.ops.segment_sum(weights, group, weights.shape[0])
    return (jnp.cumsum(size) - (size - 1) / 2)[group]


def spearman(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Computes Spearman's rank correlation.

    Args:
      x: (n,) as from `ordinal`.
      y: (n,) as from `ordinal`.
      weights: (n,) or (b, n), how many times each counts; default: once.

    Returns: () or (b,) float; NaN if all of `x` or all of `y` are equal.
    Raises: `ValueError` unless x and y are integer vectors of one length from 2.
    """
    x, y = _checked_pair(x, y)
    weights = jnp.ones(x.shape) if weights is None else jnp.asarray(weights)
    return _spearman(x, y, jnp.atleast_2d(weights))[... if weights.ndim == 2 else 0]


@jax.jit
def _spearman(x: Array, y: Array, weights: Array) -> Array:
    groups = _groups(x), _groups(y)

    def one(w: Array) -> Array:
        # Centred and scaled: float32 would lose digits in the squares of ranks.
        total = w.sum()
        u, v = (
            (_weighted_ranks(group, w) - (total + 1) / 2) / total for group in groups
        )
        return (w * u * v).sum() / jnp.sqrt((w * u * u).sum() * (w * v * v).sum())

    return jax.lax.map(one, weights)


def kendall(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> np.ndarray:
    """Computes Kendall's rank correlation with correction for ties, tau-b (Kendall, 1945).

    By SciPy, on the host, in O(n log n).

    Args:
      x: (n,) as from `ordinal`.
      y: (n,) as from `ordinal`.
      weights: (n,) or (b, n) whole numbers, how many times each counts; default: once.

    Returns: () or (b,) float64; NaN if all of `x` or all of `y` that count are equal.
    Raises: `ValueError` for weights of another shape, and for fractions as weights.
    """
    x, y = map(np.asarray, _checked_pair(x, y))
    counts = np.ones(x.shape) if weights is None else np.asarray(weights)
    if counts.shape[-1:] != x.shape or counts.ndim > 2:
        raise ValueError(
            f"weights must be ({len(x)},) or (b, {len(x)}), not {counts.shape}"
        )
    if not ((counts >= 0) & (counts == np.floor(counts))).all():
        raise ValueError("weights of kendall must be whole numbers from 0")
    rows = counts.reshape(-1, len(x)).astype(np.int64)
    tau = [_tau(np.repeat(x, each), np.repeat(y, each)) for each in rows]
    return np.array(tau, np.float64).reshape(counts.shape[:-1])


def _tau(x: np.ndarray, y: np.ndarray) -> Any:
    # SciPy takes longer to import than all of this library.
    from scipy.stats import kendalltau

    return kendalltau(x, y)[0] if len(x) > 1 else np.nan


def bootstrap_weights(key: Array, num: int, size: int) -> Array:
    """Draws bootstrap samples, as weights of the entries (Efron, 1979).

    Args:
      key: () PRNG key.
      num: number of samples.
      size: number of entries, and of draws with replacement in each sample.

    Returns: (num, size) float, how often each entry is drawn; rows sum to `size`.
    """
    drawn = jax.random.randint(key, (num, size), 0, size)
    count = lambda d: jnp.zeros(size).at[d].add(1.0)  # noqa: E731
    return jax.vmap(count)(drawn)


def top(order: ArrayLike, count: int) -> np.ndarray:
    """Finds the best entries, the best first; ties go to the first.

    Args:
      order: (n,) as from `ordinal`.
      count: how many, 1 to n.

    Returns: (count,) int64 indices.
    Raises: `ValueError` for another count.
    """
    order = np.asarray(order)
    if not 1 <= count <= len(order):
        raise ValueError(f"count must be 1 to {len(order)}, not {count}")
    return np.argsort(-order.astype(np.int64), kind="stable")[:count]


def recall(x: ArrayLike, y: ArrayLike, chosen: int, relevant: int) -> float:
    """Computes the share of the best by `x` that are among the best by `y`.

    Args:
      x: (n,) predicted order, as from `ordinal`.
      y: (n,) true order.
      chosen: how many count as the best by `x`.
      relevant: how many count as the best by `y`.
    """
    return float(np.isin(top(x, chosen), top(y, relevant)).mean())


def _checked_pair(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Two integer vectors of one length from 2, or `ValueError`."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.shape != y.shape or x.ndim != 1 or x.shape[0] < 2:
        raise ValueError(
            f"wanted two vectors of one length from 2, not {x.shape} and {y.shape}"
        )
    if not all(jnp.issubdtype(z.dtype, jnp.integer) for z in (x, y)):
        raise ValueError(
            f"wanted integers, as from `ordinal`, not {x.dtype} and {y.dtype}"
        )
    return x, y


def _groups(order: ArrayLike) -> Array:
    """The number of the group of equal entries (n,), ascending, below n."""
    order = jnp.asarray(order)
    # The number of smaller entries is the same for equal ones.
    return jnp.searchsorted(jnp.sort(order), order)


def nan_to_neg_inf(score: Array) -> Array:
    """Prepares scores (...) for comparison: a failed evaluation (NaN) loses to all."""
    return jnp.where(jnp.isnan(score), -jnp.inf, score)
