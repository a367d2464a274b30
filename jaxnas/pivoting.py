"""Cholesky factorisation with pivots that are chosen step by step, and random choices.

The greedy maximum, exact draws and probabilities of a determinantal point process (`dpp`)
are this one recursion with different rules for the next pivot. No column is eliminated:
the factor grows by one row a step (Tremblay et al., 2018, algorithm 3; Chen et al., 2018,
algorithm 1), and takes O(n k^2) in all.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnas.types import Array


def pivoted_cholesky(
    row: Callable[[Array], Array],
    diagonal: Array,
    k: int,
    choose: Callable[[Array, Array], Array],
) -> tuple[Array, Array]:
    """Takes k steps of the Cholesky factorisation of a matrix (n, n), choosing pivots.

    Args:
      row: index () -> (n,), a row of the matrix.
      diagonal: (n,) of the matrix, non-negative.
      k: number of steps, at most n, static.
      choose: (step (), weight (n,)) -> index () of positive weight. Weights are residuals
        of the diagonal; if all of these are 0, the diagonal; if that is 0, ones. They are
        0 for pivots of earlier steps.

    Returns: pivots (k,) int32, different indices; and the residuals (k,) of the diagonal
      there before each step, exactly 0 if nothing but rounding is left.
    """
    num, dtype = diagonal.shape[0], diagonal.dtype
    index = jnp.arange(num, dtype=jnp.int32)
    rounding = 4 * k * jnp.finfo(dtype).eps * diagonal
    has_any = (diagonal > 0).astype(jnp.int32)

    def step(state: tuple, number: Array) -> tuple[tuple, tuple]:
        factor, residual, free = state
        tier = jnp.where(free, has_any + (residual > 0), -1)
        weight = jnp.where(residual > 0, residual, jnp.where(has_any, diagonal, 1.0))
        i = choose(number, jnp.where(tier == tier.max(), weight, 0.0))
        pivot = residual[i]
        column = row(i) - product(factor.T, factor[:, i])
        # A pivot without a residual explains nothing.
        column = jnp.where(pivot > 0, column * jax.lax.rsqrt(or_one(pivot)), 0.0)
        residual = residual - column**2
        residual = jnp.where(residual > rounding, residual, 0.0)
        state = factor.at[number].set(column), residual, free & (index != i)
        return state, (i, pivot)

    state = jnp.zeros((k, num), dtype), diagonal, index >= 0
    return jax.lax.scan(step, state, jnp.arange(k, dtype=jnp.int32), unroll=5)[1]


def weighted_choice(uniform: Array, weight: Array) -> Array:
    """Chooses an index with a probability proportional to its weight.

    Args:
      uniform: (2,) uniform numbers in [0, 1).
      weight: (n,) non-negative, one of them positive.

    Returns: () int32, never of weight 0.
    """
    # A block, then an index in it: cumulative sums over all would take most of the time.
    width = math.isqrt(len(weight) - 1) + 1
    blocks = jnp.pad(weight, (0, width**2 - len(weight))).reshape(width, width)
    i = _inverse(uniform[0], blocks.sum(1))
    return i * width + _inverse(uniform[1], blocks[i])


def _inverse(uniform: Array, weight: Array) -> Array:
    """The first index at which cumulative weights (n,) exceed `uniform` of their sum."""
    positive = weight > 0
    # Cumulative sums in parallel need not ascend after rounding, hence the maximum.
    below = jnp.where(positive, jnp.cumsum(weight), 0.0)
    reached = positive & (below > uniform * below.max())
    return jnp.argmax(positive.astype(jnp.int32) + reached).astype(jnp.int32)


def product(x: Array, y: Array) -> Array:
    """Multiplies x (n, k) by y (k,), in full precision.

    A dot product would have the reduced precision of an accelerator's matrix units.
    """
    return jnp.sum(x * y, axis=1)


def or_one(x: Array) -> Array:
    """Makes a divisor: `x` where it is positive, else 1."""
    return jnp.where(x > 0, x, jnp.ones_like(x))
