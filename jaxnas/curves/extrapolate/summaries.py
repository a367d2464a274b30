"""Numbers that describe the first epochs of a learning curve, as inputs of regressions."""

from __future__ import annotations

import jax.numpy as jnp

from jaxnas.types import Array


def levels_and_slope(start: Array) -> Array:
    """Five numbers of the first epochs (F,) of a curve: levels and a slope.

    The last value; the mean of the last quarter; the mean and the maximum of all; and the
    mean of the last quarter minus that of the quarter before, 0 for a single value. Each
    averages noise as far as it can, and none measures the roughness of the curve.
    """
    quarter = max(1, len(start) // 4)
    late = start[-quarter:].mean()
    before = start[-2 * quarter : -quarter].mean() if len(start) > 1 else late
    return jnp.stack([start[-1], late, start.mean(), start.max(), late - before])


def values_and_differences(start: Array) -> Array:
    """The 3F - 1 inputs of Baker et al. (2018): (F,) values, differences, mean, deviation.

    All F values, first differences, second differences, and mean and standard deviation
    of the values.
    """
    first = jnp.diff(start)
    ends = jnp.stack([start.mean(), start.std()])
    return jnp.concatenate([start, first, jnp.diff(first), ends])
