"""Densities that are constant in bars, with half-normal tails (Mueller et al., 2022).

Borders b_0 < ... < b_k cut the line into k bars, whose probabilities are a softmax of
logits. Inside a bar the density is uniform; the first and the last bar are half-normals
that reach outwards, half of whose mass is within the bar.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from jaxnas.precision import full_precision
from jaxnas.types import Array

# Median and mean of a half-normal of scale 1; its second moment is 1.
_MEDIAN = 0.6744897501960817
_MEAN = 0.7978845608028654


def equal_mass_borders(values: Array, num: int) -> Array:
    """Computes borders of bars that hold equal shares of some values.

    Borders that coincide, as where values repeat, are moved apart by 1e-6 of the range.

    Args:
      values: (...) finite, not all equal.
      num: number k of bars.

    Returns: (k + 1,) ascending borders, the first and last the least and largest value.
    """
    borders = jnp.quantile(values.reshape(-1), jnp.linspace(0, 1, num + 1))
    apart = 1e-6 * (borders[-1] - borders[0]) * jnp.arange(num + 1)
    return jax.lax.cummax(borders - apart) + apart


def log_density(logits: Array, borders: Array, value: Array) -> Array:
    """Computes the log-density () at a value () of the Riemann distribution.

    Args:
      logits: (k,) of the bars' probabilities.
      borders: (k + 1,) ascending.
      value: () any real number.
    """
    widths = jnp.diff(borders)
    num = len(widths)
    bar = jnp.clip((borders <= value).sum() - 1, 0, num - 1)
    inside = -jnp.log(widths[bar])
    scale = widths[bar] / _MEDIAN
    edge = jnp.where(bar == 0, borders[1] - value, value - borders[-2])
    tail = jnp.log(2 / scale) + jax.scipy.stats.norm.logpdf(edge / scale)
    outer = (bar == 0) | (bar == num - 1)
    return jax.nn.log_softmax(logits)[bar] + jnp.where(outer, tail, inside)


@full_precision
def moments(logits: Array, borders: Array) -> tuple[Array, Array]:
    """Computes mean () and standard deviation () of the density, in closed form.

    Args:
      logits: (k,) of the bars' probabilities.
      borders: (k + 1,) ascending.
    """
    weight, widths = jax.nn.softmax(logits), jnp.diff(borders)
    centre = (borders[1:] + borders[:-1]) / 2
    variance = widths**2 / 12
    scale = widths[jnp.array([0, -1])] / _MEDIAN
    ends = jnp.stack([borders[1] - _MEAN * scale[0], borders[-2] + _MEAN * scale[1]])
    centre = centre.at[jnp.array([0, -1])].set(ends)
    variance = variance.at[jnp.array([0, -1])].set((1 - _MEAN**2) * scale**2)
    mean = weight @ centre
    return mean, jnp.sqrt(weight @ (variance + (centre - mean) ** 2))


@full_precision
def probability_below(logits: Array, borders: Array, value: Array) -> Array:
    """Computes the probability () of smaller values than `value` ()."""
    weight, widths = jax.nn.softmax(logits), jnp.diff(borders)
    share = jnp.clip((value - borders[:-1]) / widths, 0, 1)
    scale = widths[jnp.array([0, -1])] / _MEDIAN
    low = 2 * ndtr(jnp.minimum(value - borders[1], 0) / scale[0])
    high = 2 * ndtr(jnp.maximum(value - borders[-2], 0) / scale[1]) - 1
    share = share.at[jnp.array([0, -1])].set(jnp.stack([low, high]))
    return weight @ share


def quantile(logits: Array, borders: Array, level: Array) -> Array:
    """Computes the value () below which a share `level` () of the mass is.

    The inverse of `probability_below`, except that within a bar the share is kept between
    1e-6 and 1 - 1e-6: quantiles of levels 0 and 1 are finite.
    """
    weight, widths = jax.nn.softmax(logits), jnp.diff(borders)
    before = jnp.cumsum(weight) - weight
    bar = jnp.clip((before <= level).sum() - 1, 0, len(widths) - 1)
    share = jnp.clip((level - before[bar]) / jnp.maximum(weight[bar], 1e-30), 0, 1)
    share = jnp.clip(share, 1e-6, 1 - 1e-6)
    scale = widths[bar] / _MEDIAN
    low = borders[1] + scale * ndtri(share / 2)
    high = borders[-2] + scale * ndtri((1 + share) / 2)
    inside = borders[bar] + share * widths[bar]
    return jnp.where(bar == 0, low, jnp.where(bar == len(widths) - 1, high, inside))
