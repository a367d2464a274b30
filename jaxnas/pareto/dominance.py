"""Pareto dominance: non-dominated points, non-dominated sorting, crowding.

A point dominates another if it is at least as good in every objective and better in one.
Equal points do not dominate each other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnas.ranks import nan_to_neg_inf
from jaxnas.types import Array, check_shapes

# Points whose dominators are searched for side by side: bounds the memory.
_CHUNK = 256
# Points of two objectives from which sorting them is quicker than comparing all pairs.
_SORTED = 1000


def non_dominated(scores: Array, valid: Array | None = None) -> Array:
    """Finds the points that no other dominates, the front.

    Args:
      scores: (n, m), higher is better. A point whose values are all missing is dominated
        by every other.
      valid: (n,) bool, rows that count; default: all.

    Returns: (n,) bool, False for rows that do not count. Equal points are all in it.
    Raises: `ValueError` for shapes that do not fit together.
    """
    scores, valid = _checked(scores, valid)
    if scores.shape[1] == 2 and len(scores) >= _SORTED:
        return _front_by_sorting(scores, valid)

    def free(i: Array) -> Array:
        return ~(_dominates(scores, scores[i]) & valid).any()

    return valid & jax.lax.map(free, jnp.arange(len(scores)), batch_size=_CHUNK)


def _front_by_sorting(scores: Array, valid: Array) -> Array:
    """`non_dominated` of two objectives in O(n log n), from the best first value on.

    A point is dominated by a point of its own first value and a better second one, or by
    one of a better first value and a second one that is as good.
    """
    scores = jnp.where(valid[:, None], scores, -jnp.inf)
    order = jnp.lexsort((-scores[:, 1], -scores[:, 0]))
    first, second = scores[order].T
    # Where the points of each first value begin, and with their best second value.
    begins = jnp.append(True, first[1:] != first[:-1])
    begin = jax.lax.cummax(jnp.where(begins, jnp.arange(len(first)), 0))
    best = jax.lax.cummax(second)
    beaten = (begin > 0) & (best[begin - 1] >= second)
    dominated = beaten | (second[begin] > second)
    return valid & jnp.zeros_like(valid).at[order].set(~dominated)


def domination_rank(scores: Array, valid: Array | None = None) -> Array:
    """Sorts points into fronts (Deb et al., 2002, fast non-dominated sorting).

    Front 0 is that of all points, front 1 that of the rest, and so on.

    Args:
      scores: (n, m), higher is better.
      valid: (n,) bool, rows that count; default: all.

    Returns: (n,) int32, the front of each point; n for rows that do not count.
    Raises: `ValueError` for shapes that do not fit together.
    """
    scores, valid = _checked(scores, valid)
    num = len(scores)
    dominates = jax.vmap(_dominates, (None, 0), 1)(scores, scores)  # [i, j]: i over j

    def peel(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        front, rank = carry
        left = valid & (rank == num)
        first = left & ~(dominates & left[:, None]).any(0)
        return front + 1, jnp.where(first, front, rank)

    def unfinished(carry: tuple[Array, Array]) -> Array:
        return (valid & (carry[1] == num)).any()

    start = jnp.int32(0), jnp.full(num, num, jnp.int32)
    return jax.lax.while_loop(unfinished, peel, start)[1]


def constrained_rank(
    scores: Array, violation: Array, valid: Array | None = None
) -> Array:
    """Ranks points under bounds (Deb et al., 2002, definition 1).

    Feasible points come before infeasible ones, in the order of their fronts; infeasible
    ones follow by their violation.

    Args:
      scores: (n, m), of the objectives that are optimised.
      violation: (n,), 0 for feasible points, inf where it is not known.
      valid: (n,) bool, rows that count; default: all.

    Returns: (n,) int32; lower is better, and equal ranks are equally good. Rows that do
      not count have the largest, 2 n.
    Raises: `ValueError` for shapes that do not fit together.
    """
    scores, valid = _checked(scores, valid)
    check_shapes(scores=(scores, "nm"), violation=(violation, "n"))
    num = len(scores)
    feasible = valid & (violation <= 0)
    infeasible = valid & ~feasible
    smaller = (violation[:, None] < violation[None]) & infeasible[:, None]
    rank = domination_rank(scores, feasible)
    rank = jnp.where(infeasible, num + smaller.sum(0, dtype=jnp.int32), rank)
    return jnp.where(valid, rank, 2 * num)


def crowding_distance(scores: Array, rank: Array) -> Array:
    """Measures how far apart the neighbours of each point in its front are.

    The sum over objectives of the difference between the two neighbours, relative to the
    range of the front (Deb et al., 2002, section III-B).

    Args:
      scores: (n, m), higher is better.
      rank: (n,) int32, the front of each point.

    Returns: (n,), inf for the ends of a front in any objective.
    Raises: `ValueError` for shapes that do not fit together.
    """
    check_shapes(scores=(scores, "nm"), rank=(rank, "n"))
    scores = nan_to_neg_inf(scores)
    num = len(rank)

    def of_objective(value: Array) -> Array:
        order = jnp.lexsort((value, rank))
        value, front = value[order], rank[order]
        same = front[1:] == front[:-1]
        first = jnp.append(True, ~same)
        last = jnp.append(~same, True)
        before, after = jnp.roll(value, 1), jnp.roll(value, -1)
        # The ends of each front: the smallest value before it, the largest after.
        group = jnp.cumsum(first) - 1
        low = value[jnp.searchsorted(group, group, side="left")]
        high = value[jnp.searchsorted(group, group, side="right") - 1]
        width = (after - before) / jnp.where(high > low, high - low, 1.0)
        # Where a value is missing, the range of the front is not finite.
        width = jnp.where(jnp.isfinite(width), width, 0.0)
        width = jnp.where(first | last, jnp.inf, width)
        return jnp.zeros(num, value.dtype).at[order].set(width)

    return jax.vmap(of_objective, 1)(scores).sum(0)


def _dominates(scores: Array, point: Array) -> Array:
    """Which of the points (n, m) dominate `point` (m,), (n,) bool."""
    return (scores >= point).all(-1) & (scores > point).any(-1)


def _checked(scores: Array, valid: Array | None) -> tuple[Array, Array]:
    """Scores without NaN and the rows that count; `ValueError` for wrong shapes."""
    scores = jnp.asarray(scores)
    if scores.ndim != 2 or not scores.shape[1]:
        raise ValueError(f"scores must be (n, m), not {scores.shape}")
    if valid is None:
        valid = jnp.ones(len(scores), bool)
    check_shapes(scores=(scores, "nm"), valid=(valid, "n"))
    return nan_to_neg_inf(scores), jnp.asarray(valid)
