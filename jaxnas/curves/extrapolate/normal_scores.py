"""Monotone maps of values to normal scores, which tame skewed and heavy-tailed values.

Accuracies of networks have a long lower tail and crowd at the top; their normal scores
(van der Waerden) have neither, and a Gaussian process or a kernel with one length-scale
fits them. Only the order of the values matters, but for values beyond the fitted ones,
which are extrapolated on a line.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from jaxnas.precision import full_precision
from jaxnas.types import Array

# Nodes and weights of Gauss-Hermite quadrature of a standard normal distribution.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


class NormalScores(NamedTuple):
    """A piecewise linear, non-decreasing map of values to scores."""

    values: Array  # (n,) ascending; past the valid ones the last of them is repeated
    scores: Array  # (n,) standard normal quantiles of their average ranks
    ends: Array  # (2,) values per unit of score below the first and above the last


def fit_normal_scores(values: Array, valid: Array) -> NormalScores:
    """Fits the map of values to the normal quantiles of (rank - 1/2) / count.

    Ties have their average rank. Beyond either end the map continues with the mean slope
    between the median and that end.

    Args:
      values: (n,); where not valid, anything.
      valid: (n,) bool, the values that are ranked. Without any, every score is 0.
    """
    count = valid.sum()
    ordered = jnp.sort(jnp.where(valid, values, jnp.inf))
    top = jnp.where(count > 0, ordered[jnp.maximum(count - 1, 0)], 0.0)
    ordered = jnp.where(jnp.arange(len(values)) < count, ordered, top)
    # Counted by comparisons, which compile to less than binary searches.
    below = (ordered < ordered[:, None]).sum(1)
    up_to = jnp.minimum((ordered <= ordered[:, None]).sum(1), count)
    size = jnp.maximum(count, 1)
    rank = (below + up_to) / (2 * size)
    scores = ndtri(jnp.clip(rank, 0.5 / size, 1 - 0.5 / size))
    median = ordered[count // 2]
    gaps = jnp.stack([median - ordered[0], ordered[-1] - median])
    heights = jnp.maximum(jnp.stack([-scores[0], scores[-1]]), 0.1)
    return NormalScores(ordered, scores, gaps / heights)


def to_scores(normal: NormalScores, values: Array) -> Array:
    """Maps values (...) to normal scores (...); NaN for NaN."""
    inside = _interpolate(values, normal.values, normal.scores)
    # Without spread on a side, scores do not continue beyond its end.
    rate = jnp.where(normal.ends > 0, 1 / jnp.where(normal.ends > 0, normal.ends, 1), 0)
    low = jnp.minimum(values - normal.values[0], 0) * rate[0]
    return inside + low + jnp.maximum(values - normal.values[-1], 0) * rate[1]


def fit_columns(values: Array, valid: Array) -> NormalScores:
    """Fits one map to each column of values (n, c); their leading axis is (c,)."""
    return jax.vmap(fit_normal_scores, (1, None))(values, valid)


def score_columns(columns: NormalScores, values: Array) -> Array:
    """Maps each column of values (n, c) to normal scores by the map of its own."""
    return jax.vmap(to_scores, (0, 1), 1)(columns, values)


def to_values(normal: NormalScores, scores: Array) -> Array:
    """Maps normal scores (...) to values (...): the inverse of `to_scores`."""
    inside = _interpolate(scores, normal.scores, normal.values)
    low = jnp.minimum(scores - normal.scores[0], 0) * normal.ends[0]
    return inside + low + jnp.maximum(scores - normal.scores[-1], 0) * normal.ends[1]


def _interpolate(x: Array, knots: Array, values: Array) -> Array:
    """Linear interpolation at x (...) between knots (n,), ascending; NaN for NaN."""
    right = jnp.clip((knots <= x[..., None]).sum(-1), 1, len(knots) - 1)
    left = right - 1
    width = knots[right] - knots[left]
    share = (x - knots[left]) / jnp.where(width > 0, width, 1.0)
    return values[left] + jnp.clip(share, 0, 1) * (values[right] - values[left])


@full_precision
def value_moments(normal: NormalScores, mean: Array, std: Array) -> tuple[Array, Array]:
    """Computes mean () and deviation () of the value of a normally distributed score.

    By Gauss-Hermite quadrature with 12 nodes.

    Args:
      normal: the map.
      mean: () of the score.
      std: () of the score; infinite gives an infinite deviation around the value of the
        mean.
    """
    finite = jnp.isfinite(std)
    nodes = mean + jnp.where(finite, std, 0.0) * jnp.asarray(_NODES, mean.dtype)
    weights = jnp.asarray(_WEIGHTS, mean.dtype)
    values = to_values(normal, nodes)
    centre = weights @ values
    variance = weights @ (values - centre) ** 2
    return centre, jnp.where(finite, jnp.sqrt(variance), std)
