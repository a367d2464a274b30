"""Asynchronous successive halving (ASHA; Li et al., 2020).

No rung waits until it is complete: a free worker continues a training that is among the
best of its rung so far, or begins a new one. Two rules select the trainings to continue:
`promotion` compares whenever a worker is free and may promote a training much later,
`stopping` decides once, when a training reaches a rung.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.search.base import Search
from jaxnas.search.common import append_slots, growing_stages
from jaxnas.search.fidelity.brackets import require_eta, require_levels
from jaxnas.search.fidelity.samplers import Observations, Sampler, uniform_sampler
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Query, Result, asked, check_sizes

# Added before rounding down, as in `brackets`; larger, since this is single precision.
_ROUNDING = 1e-4


class HalvingState(NamedTuple):
    """All trainings, in the order in which their first rungs finished.

    Those in flight to their first rung follow, in a state to ask from (`Search.expect`).
    """

    arch: Array  # (n, d) int32
    score: Array  # (n, k) at each level, NaN if it failed or has not been reached
    top: Array  # (n,) int32, the highest level reached; -1 before the first one
    moving: Array  # (n,) bool, whether the training is in flight to its next level
    passed: Array  # (n,) bool, whether it was among the best as it reached its level
    count: Array  # () int32, trainings


# Rule = (state, eta) -> (n,) bool, trainings that may continue; a free worker continues the
# first of those at the highest level.
Rule = Callable[[HalvingState, float], Array]


def promotion(state: HalvingState, eta: float) -> Array:
    """The best training that waits in each rung, if it is among its best 1 / eta.

    These are floor(m / eta) of the m trainings that reached the rung, the earlier one
    among equals (Li et al., 2020, Algorithm 2).

    Returns: (n,) bool, at most one training a rung; the last rung promotes none.
    """
    num, num_levels = state.score.shape
    may = jnp.zeros(num, bool)
    for level in range(num_levels - 1):
        waits = (state.top == level) & ~state.moving & ~jnp.isnan(state.score[:, level])
        best = jnp.argmax(jnp.where(waits, state.score[:, level], -jnp.inf))
        may = may.at[best].max(waits.any() & _among_best(state, level, best, eta))
    return may


def stopping(state: HalvingState, eta: float) -> Array:
    """The trainings that were among the best 1 / eta as they reached their rung.

    A rung with fewer than eta trainings stops none. Each training is decided on once per
    rung, when it arrives: later ones change nothing for it.

    Returns: (n,) bool.
    """
    del eta
    last = state.score.shape[1] - 1
    return state.passed & ~state.moving & (state.top < last)


def asynchronous_halving(
    space: Space,
    levels: Sequence[int],
    *,
    eta: float = 3,
    rule: Rule = promotion,
    sampler: Sampler | None = None,
    batch: int = 1,
) -> Search:
    """Asynchronous successive halving (ASHA; Li et al., 2020).

    Of the trainings that may continue, one at the highest level is next; a new
    architecture begins only if no training may continue. Failed trainings never do.

    Args:
      space: of the architectures.
      levels: epochs of the rungs, as from `brackets.geometric_levels`.
      eta: about 1 / eta of the trainings of a rung continue.
      rule: `promotion`, as published, or `stopping`.
      sampler: of new architectures, `samplers.uniform_sampler` or `kde.kde_sampler`;
        default: uniform.
      batch: architectures per step.

    Raises: `ValueError` for levels that do not ascend from epoch 1, an `eta` of 1 or
      less, and a batch below 1.
    """
    levels = require_levels(levels)
    require_eta(eta)
    check_sizes(batch=batch)
    draw = uniform_sampler(space) if sampler is None else sampler
    epochs = jnp.asarray(levels, jnp.int32)

    def init(key: Array) -> HalvingState:
        del key
        return _empty(len(space.choices), len(levels), batch)

    def ask(key: Array, state: HalvingState) -> Query:
        def one(state: HalvingState, key: Array) -> tuple[HalvingState, Query]:
            may = rule(state, eta)
            row, continues = jnp.argmax(jnp.where(may, state.top, -1)), may.any()
            past = _observations(state, epochs)
            arch = jax.lax.cond(
                continues,
                lambda: state.arch[row],
                lambda: draw(key, past, jnp.int32(0)),
            )
            level = jnp.where(continues, state.top[row], -1)
            start = jnp.where(continues, epochs[level], 0)
            query = Query(arch, epochs[level + 1], start)
            return _begin(state, row, arch, ~continues), query

        return jax.lax.scan(one, state, jax.random.split(key, batch))[1]

    def expect(state: HalvingState, query: Query) -> HalvingState:
        def one(state: HalvingState, training: tuple) -> tuple[HalvingState, None]:
            arch, start, active = training
            row = _row_of(state, rule(state, eta), epochs, arch, start)
            row = jnp.where(active & (start > 0), row, len(state.top))
            return _begin(state, row, arch, active & (start == 0)), None

        return jax.lax.scan(one, state, (query.arch, query.start, asked(query)))[0]

    def tell(state: HalvingState, query: Query, result: Result) -> HalvingState:
        def one(state: HalvingState, evaluation: tuple) -> tuple[HalvingState, None]:
            row = _row_of(state, rule(state, eta), epochs, *evaluation[:2])
            return _add(state, row, epochs, eta, *evaluation), None

        evaluations = (query.arch, query.start, query.epoch, asked(query), result.score)
        return jax.lax.scan(one, state, evaluations)[0]

    def grow(state: HalvingState, end: int) -> HalvingState:
        more = max(0, end * batch - len(state.top))
        empty = _empty(len(space.choices), len(levels), more)
        join = lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]) if a.ndim else a  # noqa: E731
        return jax.tree.map(join, state, empty)

    return Search(
        init, ask, tell, grow, expect=expect, stages=growing_stages, space=space
    )


def _empty(width: int, num_levels: int, size: int) -> HalvingState:
    """State without trainings and with room for `size`.

    Args:
      width: d, positions of an architecture.
      num_levels: k.
      size: n, rows.
    """
    return HalvingState(
        arch=jnp.zeros((size, width), jnp.int32),
        score=jnp.full((size, num_levels), jnp.nan),
        top=jnp.full(size, -1, jnp.int32),
        moving=jnp.zeros(size, bool),
        passed=jnp.zeros(size, bool),
        count=jnp.int32(0),
    )


def _begin(state: HalvingState, row: Array, arch: Array, new: Array) -> HalvingState:
    """Marks a training as in flight, so that no other slot asks for it.

    Args:
      state: before it.
      row: () of the training that continues, n if there is none.
      arch: (d,) int32, its architecture.
      new: () bool, whether it begins instead, in a row of its own.
    """
    size = len(state.top)
    row = jnp.where(new, append_slots(state.count, new[None], size)[0], row)
    return state._replace(
        arch=state.arch.at[row].set(arch, mode="drop"),
        moving=state.moving.at[row].set(True, mode="drop"),
        count=state.count + new,
    )


def _among_best(
    state: HalvingState, level: int | Array, row: Array, eta: float
) -> Array:
    """Whether a row () is among the best 1 / eta of those that reached a level, () bool.

    Args:
      state: with at least the row.
      level: () index of a level.
      row: () of a training that reached it and did not fail there; callers exclude NaN.
      eta: the best floor(m / eta) of m count, the earlier row first among equals.
    """
    reached = _told(state)[:, level]
    score = jnp.where(reached, state.score[:, level], jnp.nan)
    earlier = jnp.arange(len(score)) < row
    rank = jnp.sum((score > score[row]) | ((score == score[row]) & earlier))
    return rank < jnp.floor(reached.sum() / eta + _ROUNDING)


def _told(state: HalvingState) -> Array:
    """Which levels of which trainings have a result, (n, k) bool.

    A result from outside may be of a training straight to a later level. A failed
    training never continues, so below the level reached NaN stands for no result.
    """
    levels, top = jnp.arange(state.score.shape[1]), state.top[:, None]
    return (levels == top) | ((levels < top) & ~jnp.isnan(state.score))


def _row_of(
    state: HalvingState, may: Array, epochs: Array, arch: Array, start: Array
) -> Array:
    """The row () of the training of an architecture that waits at epoch `start`, or n.

    Several trainings of one architecture are identical; one that may continue (`may`,
    (n,) bool) is preferred to the first.
    """
    at_start = (state.top >= 0) & (epochs[state.top] == start)
    fits = at_start & ~state.moving & (state.arch == arch).all(-1)
    row = jnp.argmax(fits.astype(jnp.int32) + (fits & may))
    return jnp.where(fits.any(), row, len(fits))


def _add(
    state: HalvingState,
    old: Array,
    epochs: Array,
    eta: float,
    arch: Array,
    start: Array,
    epoch: Array,
    active: Array,
    score: Array,
) -> HalvingState:
    """Adds one finished evaluation.

    Args:
      state: before it.
      old: () row of the training that was continued.
      epochs: (k,) levels.
      eta: of the halving.
      arch: (d,) int32.
      start: () epoch from which it was trained; at 0 the training gets a new row.
      epoch: () to which it was trained; an epoch that is not a level changes nothing.
      active: () bool; False for an idle slot, which changes nothing.
      score: (), NaN if it failed.

    Returns: the state after it. `passed` compares the training with those that reached
      the level before it, once.
    """
    size = len(state.top)
    level = jnp.argmax(epochs == epoch)
    active &= (epochs == epoch).any()
    new = active & (start == 0)
    row = jnp.where(new, append_slots(state.count, new[None], size)[0], old)
    row = jnp.where(active, row, size)
    state = state._replace(
        arch=state.arch.at[row].set(arch, mode="drop"),
        score=state.score.at[row, level].set(
            score.astype(state.score.dtype), mode="drop"
        ),
        top=state.top.at[row].set(level, mode="drop"),
        count=state.count + new,
    )
    few = jnp.sum(_told(state)[:, level]) < eta - _ROUNDING
    best = few | _among_best(state, level, jnp.minimum(row, size - 1), eta)
    passed = best & ~jnp.isnan(score)
    return state._replace(passed=state.passed.at[row].set(passed, mode="drop"))


def _observations(state: HalvingState, epochs: Array) -> Observations:
    """The evaluations, one slot for each training and level.

    Args:
      state: n trainings.
      epochs: (k,) levels.

    Returns: n k slots, done at the levels of which there are results; an architecture
      has begun at all levels.
    """
    num, num_levels = state.score.shape
    levels = jnp.tile(jnp.arange(num_levels, dtype=jnp.int32), num)
    done = _told(state).ravel()
    arch = jnp.repeat(state.arch, num_levels, axis=0)
    begun = jnp.repeat(jnp.arange(num) < state.count, num_levels)
    return Observations(arch, state.score.ravel(), levels, done, begun, epochs)
