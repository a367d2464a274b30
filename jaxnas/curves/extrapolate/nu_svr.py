"""The dual of nu-support-vector regression, solved by sequential minimal optimisation.

    minimise  1/2 d' K d - y' d,   d = a - a*,
    0 <= a, a* <= C,   sum a = sum a* = C nu n / 2

(Schoelkopf et al., 2000; Chang and Lin, 2011, section 2.5, which is what libsvm solves.)
Each step moves weight between the two entries of a, or of a*, that violate the optimality
conditions most by second-order selection (Fan, Chen and Lin, 2005). The prediction at x is
k(x, X) d + b.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.types import Array, check_shapes


class Dual(NamedTuple):
    """A solution of the dual."""

    coef: Array  # (n,) d
    intercept: Array  # () b
    gap: Array  # () largest violation of the optimality conditions
    steps: Array  # () int32, that were made


class _State(NamedTuple):
    """An iterate."""

    alpha: Array  # (2, n) a and a*
    residual: Array  # (n,) y - K d
    gap: Array  # ()
    step: Array  # () int32


def solve(
    gram: Array,
    y: Array,
    valid: Array,
    cost: Array,
    nu: Array,
    *,
    tolerance: float = 1e-3,
    max_steps: int = 5000,
) -> Dual:
    """Solves the dual for one cost and one nu.

    Args:
      gram: (n, n) kernel matrix; rows that are not valid hold anything finite.
      y: (n,) targets.
      valid: (n,) bool, the rows of the problem; the others have C = 0.
      cost: () C, bound of the entries.
      nu: () in (0, 1], bound of the share of points outside of the tube.
      tolerance: violation of the optimality conditions at which the iteration ends, in
        units of y; the default is libsvm's.
      max_steps: largest number of steps.

    Returns: the solution; `gap` says how far it is from the optimum.
    Raises: `ValueError` for shapes that do not fit together.
    """
    check_shapes(gram=(gram, "nn"), y=(y, "n"), valid=(valid, "n"))
    gram, y = jnp.asarray(gram), jnp.asarray(y)
    bound = jnp.where(valid, cost, 0.0).astype(y.dtype)
    # Filled from the first row on, as libsvm does: d = 0.
    before = jnp.cumsum(bound) - bound
    start = jnp.clip(cost * nu * valid.sum() / 2 - before, 0.0, bound)
    # A rounding error beside a bound would count as an entry between its bounds.
    start = jnp.where(start < 1e-6 * bound, 0.0, start)
    start = jnp.where(start > (1 - 1e-6) * bound, bound, start)
    residual = jnp.where(valid, y, 0.0).astype(y.dtype)
    gap = jnp.asarray(jnp.inf, y.dtype)
    begin = _State(jnp.stack([start, start]), residual, gap, jnp.int32(0))
    diagonal = jnp.diagonal(gram)

    def unfinished(state: _State) -> Array:
        return (state.gap > tolerance) & (state.step < max_steps)

    def step(state: _State) -> _State:
        side, up, down, gap = _pair(state, gram, diagonal, bound)
        curvature = diagonal[up] + diagonal[down] - 2 * gram[up, down]
        sign = jnp.where(side == 0, 1.0, -1.0).astype(y.dtype)
        descent = sign * (state.residual[up] - state.residual[down])
        move = descent / jnp.maximum(curvature, 1e-12)
        rise = bound[up] - state.alpha[side, up]
        room = jnp.minimum(rise, state.alpha[side, down])
        move = jnp.where(gap > tolerance, jnp.clip(move, 0.0, room), 0.0)
        # Exactly at its bound: a rounding error beside it would be chosen again and again.
        top = jnp.where(move >= rise, bound[up], state.alpha[side, up] + move)
        alpha = state.alpha.at[side, up].set(top).at[side, down].add(-move)
        residual = state.residual - sign * move * (gram[up] - gram[down])
        return _State(alpha, residual, gap, state.step + 1)

    end = jax.lax.while_loop(unfinished, step, begin)
    intercept = _intercept(end, bound)
    return Dual(end.alpha[0] - end.alpha[1], intercept, end.gap, end.step)


def _directions(state: _State, bound: Array) -> tuple[Array, Array, Array]:
    """Computes the directional derivatives of the objective and the feasible directions.

    Returns: the decrease (2, n) of the objective per unit increase of each entry of a and
      a*, and whether each can be increased and decreased, (2, n) bool each.
    """
    descent = jnp.stack([state.residual, -state.residual])
    return descent, state.alpha < bound, state.alpha > 0


def _pair(
    state: _State, gram: Array, diagonal: Array, bound: Array
) -> tuple[Array, Array, Array, Array]:
    """Chooses two entries by second-order selection (Fan, Chen and Lin, 2005).

    Args:
      state: the iterate.
      gram: (n, n) kernel matrix.
      diagonal: (n,) of the kernel matrix.
      bound: (n,) upper bounds of the entries.

    Returns: the row () of alpha, 0 for a and 1 for a*; the entries () to raise and to
      lower; and the largest violation () of the optimality conditions.
    """
    descent, can_rise, can_fall = _directions(state, bound)
    highest = jnp.where(can_rise, descent, -jnp.inf)
    up = jnp.argmax(highest, 1)
    best = jnp.max(highest, 1)
    gaps = best - jnp.min(jnp.where(can_fall, descent, jnp.inf), 1)
    # The decrease of the objective by the best move of each entry with `up`.
    slope = best[:, None] - descent
    curvature = diagonal[up][:, None] + diagonal[None] - 2 * gram[up]
    gain = slope**2 / jnp.maximum(curvature, 1e-12)
    gain = jnp.where(can_fall & (slope > 0), gain, -jnp.inf)
    down = jnp.argmax(gain, 1)
    side = jnp.argmax(jnp.max(gain, 1))
    return side, up[side], down[side], jnp.max(gaps)


def _intercept(state: _State, bound: Array) -> Array:
    """The intercept b (), with the width eps of the tube eliminated.

    y - K d is b + eps where a is free, and b - eps where a* is. If no entry of a row is
    free, its level is the middle of the interval that the optimality conditions leave, as
    in libsvm.
    """
    descent, can_rise, can_fall = _directions(state, bound)
    free = can_rise & can_fall
    count = free.sum(1)
    mean = jnp.where(free, descent, 0.0).sum(1) / jnp.maximum(count, 1)
    low = jnp.max(jnp.where(can_rise, descent, -jnp.inf), 1)
    high = jnp.min(jnp.where(can_fall, descent, jnp.inf), 1)
    # With all entries at one bound the interval has one end.
    low, high = (
        jnp.where(jnp.isfinite(a), a, b) for a, b in ((low, high), (high, low))
    )
    level = jnp.where(count > 0, mean, (low + high) / 2)
    level = jnp.where(jnp.isfinite(level), level, 0.0)
    return (level[0] - level[1]) / 2
