"""DEHB (Awad et al., 2021): Hyperband whose architectures come from differential evolution.

Every level has a population. The first iteration of the brackets is Hyperband and fills
them; from then on each slot of a bracket is a child by rand/1/bin, which replaces its
parent in the population of its level if it is no worse. Architectures are points of
[0, 1]^d, position by position cut into as many equal parts as there are choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.base import Search
from jaxnas.search.fidelity.brackets import Bracket
from jaxnas.search.fidelity.hyperband import (
    DONE,
    READY,
    TAKEN,
    HyperbandState,
    Schedule,
    empty_slots,
    fill_slot,
    make_schedule,
    promote,
    slot_of,
)
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import sample
from jaxnas.types import Array, Query, Result, asked, check_sizes

_DONORS = 3  # of a mutant of rand/1


class DehbState(NamedTuple):
    """The slots of the first iteration, and the population of each level."""

    slots: HyperbandState
    point: Array  # (k, p, d), members by level; the largest population has p
    score: Array  # (k, p), -inf for failed trainings and in slots without a member
    member: Array  # (k, p) bool, whether a finished training is a member
    count: Array  # (k,) int32, evaluations so far; `expect` adds those in flight
    children: Array  # () int32, children so far


def dehb(
    space: Space,
    brackets: Sequence[Bracket],
    *,
    factor: float = 0.5,
    crossover: float = 0.5,
    early: bool = False,
    batch: int = 1,
) -> Search:
    """DEHB (Awad et al., 2021, Algorithm 1).

    A child of a bracket's first rung is bred from the population of its level, a child of
    a later rung of m slots from the m best members of the level below, and from all
    populations if these have fewer than three members; it is random while all populations
    together have fewer. Children are trained from epoch 0; only the promotions of the
    first iteration continue a training.

    Args:
      space: of the architectures. A child that is not valid is replaced by a random one.
      brackets: as from `brackets.hyperband_brackets`.
      factor: F, the weight of the difference of two members.
      crossover: probability of a position to come from the mutant; at least one does.
      early: whether brackets after the first begin with children already in the first
        iteration, as in the authors' program; otherwise all of it is random.
      batch: architectures per step.

    Raises: `ValueError` for no brackets, a batch below 1, fewer than three evaluations in
      an iteration, a factor that is not positive and a crossover outside of [0, 1].
    """
    check_sizes(batch=batch)
    schedule = make_schedule(brackets)
    _validate(factor, crossover, schedule)
    breed = partial(_child, space, schedule, (factor, crossover))
    bred = jnp.asarray(schedule.opens & (schedule.first > 0) & early)

    def init(key: Array) -> DehbState:
        del key
        return _empty(space, schedule)

    def ask(key: Array, state: DehbState) -> Query:
        def one(state: DehbState, key: Array) -> tuple[DehbState, Query]:
            ready = state.slots.status == READY
            slot, first = jnp.argmax(ready), ready.any()
            index = jnp.where(first, slot, state.children % len(schedule.epoch))
            query = jax.lax.cond(
                first & ~bred[slot],
                lambda: _first_iteration(space, schedule, key, state.slots, slot),
                lambda: breed(key, state, index),
            )
            query = jax.tree.map(lambda x: x[None], query)
            # The next slot of the step is asked as if this one were in flight.
            return expect(state, query), jax.tree.map(lambda x: x[0], query)

        return jax.lax.scan(one, state, jax.random.split(key, batch))[1]

    def expect(state: DehbState, query: Query) -> DehbState:
        def one(state: DehbState, training: tuple) -> tuple[DehbState, None]:
            arch, epoch, start, active = training
            slot = slot_of(schedule, state.slots, arch, epoch, start)
            slots = fill_slot(state.slots, slot, arch, jnp.nan, active, TAKEN)
            child = active & (slot == len(state.slots.status))
            count = state.count + (active & (jnp.asarray(schedule.epochs) == epoch))
            children = state.children + child
            return state._replace(slots=slots, count=count, children=children), None

        return jax.lax.scan(one, state, (*query[:3], asked(query)))[0]

    def tell(state: DehbState, query: Query, result: Result) -> DehbState:
        def one(state: DehbState, evaluation: tuple) -> tuple[DehbState, None]:
            return _tell(space, schedule, state, *evaluation), None

        evaluations = (*query[:3], asked(query), result.score)
        return jax.lax.scan(one, state, evaluations)[0]

    return Search(init, ask, tell, expect=expect, space=space)


def _validate(factor: float, crossover: float, schedule: Schedule) -> None:
    """Raises `ValueError` for arguments of `dehb` that are out of range."""
    if not 0 < factor < float("inf"):
        raise ValueError(f"factor must be above 0, not {factor}")
    if not 0 <= crossover <= 1:
        raise ValueError(f"crossover must be between 0 and 1, not {crossover}")
    if len(schedule.epoch) < _DONORS:
        raise ValueError(
            f"the brackets have {len(schedule.epoch)} evaluations: wanted at least "
            f"{_DONORS}, of which a child is bred"
        )


def population_sizes(schedule: Schedule) -> np.ndarray:
    """The size (k,) int32 of the population of each level: the size of its largest rung.

    Populations of smaller rungs are padded to the largest, which `_pool` masks.
    """
    levels = np.arange(len(schedule.epochs))[:, None]
    return np.max(np.where(schedule.level == levels, schedule.size, 0), axis=1)


def _empty(space: Space, schedule: Schedule) -> DehbState:
    """State without evaluations: one iteration of slots, and empty populations."""
    sizes = population_sizes(schedule)
    shape, width = (len(sizes), int(sizes.max())), len(space.choices)
    return DehbState(
        slots=empty_slots(schedule, width, len(schedule.epoch)),
        point=jnp.zeros((*shape, width)),
        score=jnp.full(shape, -jnp.inf),
        member=jnp.zeros(shape, bool),
        count=jnp.zeros(len(sizes), jnp.int32),
        children=jnp.int32(0),
    )


def _first_iteration(
    space: Space, schedule: Schedule, key: Array, slots: HyperbandState, slot: Array
) -> Query:
    """The query of Hyperband in a slot (): a random architecture, or a promoted one.

    Returns: a training () to the epoch of the slot, from the epoch of the rung before.
    """
    opens, epoch, start = (
        jnp.asarray(x)[slot] for x in (schedule.opens, schedule.epoch, schedule.start)
    )
    return Query(jnp.where(opens, sample(key, space), slots.arch[slot]), epoch, start)


def _child(
    space: Space,
    schedule: Schedule,
    rates: tuple[float, float],
    key: Array,
    state: DehbState,
    index: Array,
) -> Query:
    """Breeds the child of a slot: mutation and binomial crossover.

    Args:
      space: of the architectures.
      schedule: of the brackets.
      rates: weight of the difference of two members, and probability of crossover.
      key: PRNG key.
      state: with the populations.
      index: () of the slot in an iteration.

    Returns: a training () from epoch 0. Coordinates of the mutant outside of [0, 1] are
      drawn anew, uniformly, as in the published program, and so is a parent that the
      population does not have yet.
    """
    factor, crossover = rates
    key_donors, key_outside, key_cross, key_one, key_random = jax.random.split(key, 5)
    level, epoch, opens, size = (
        jnp.asarray(x)[index]
        for x in (schedule.level, schedule.epoch, schedule.opens, schedule.size)
    )
    sizes = jnp.asarray(population_sizes(schedule))
    pool = _pool(state, level, opens, size)
    utility = jnp.where(pool, jax.random.gumbel(key_donors, pool.shape), -jnp.inf)
    donors = jax.lax.top_k(utility.ravel(), _DONORS)[1]
    a, b, c = state.point.reshape(-1, state.point.shape[-1])[donors]
    mutant = a + factor * (b - c)
    outside = (mutant < 0) | (mutant > 1)
    mutant = jnp.where(outside, jax.random.uniform(key_outside, mutant.shape), mutant)
    row = level, state.count[level] % sizes[level]
    width = state.point.shape[-1]
    new = jax.random.uniform(jax.random.fold_in(key_one, 1), (width,))
    parent = jnp.where(state.member[row], state.point[row], new)
    takes = jax.random.uniform(key_cross, parent.shape) < crossover
    takes = takes.at[jax.random.randint(key_one, (), 0, width)].set(True)
    arch = to_arch(space, jnp.where(takes, mutant, parent))
    bred = space.is_valid(arch) & (pool.sum() >= _DONORS)
    arch = jnp.where(bred, arch, sample(key_random, space))
    return Query(arch, epoch, jnp.zeros_like(epoch))


def _pool(state: DehbState, level: Array, opens: Array, size: Array) -> Array:
    """Members (k, p) bool from which a child at a level () is bred.

    Args:
      state: with the populations.
      level: of the child.
      opens: () bool, whether its rung is the first of its bracket.
      size: () slots of its rung.
    """
    num_levels, largest = state.score.shape
    at = jnp.where(opens, level, level - 1)
    score = jnp.where(state.member[at], state.score[at], -jnp.inf)
    index = jnp.arange(largest)
    # Comparing the few pairs is faster than sorting. Among equals the earlier is ahead.
    ties = (score == score[:, None]) & (index < index[:, None])
    rank = ((score > score[:, None]) | ties).sum(1)
    chosen = state.member[at] & (opens | (rank < size))
    pool = (jnp.arange(num_levels) == at)[:, None] & chosen
    return jnp.where(pool.sum() >= _DONORS, pool, state.member)


def to_arch(space: Space, point: Array) -> Array:
    """The architecture (d,) int32 of a point (d,) of [0, 1]^d."""
    choices = jnp.asarray(space.choices)
    return jnp.clip(jnp.floor(point * choices), 0, choices - 1).astype(jnp.int32)


def to_point(space: Space, arch: Array) -> Array:
    """The centre (d,) of the part of [0, 1]^d that is an architecture (d,)."""
    return (arch + 0.5) / jnp.asarray(space.choices)


def _tell(
    space: Space,
    schedule: Schedule,
    state: DehbState,
    arch: Array,
    epoch: Array,
    start: Array,
    active: Array,
    score: Array,
) -> DehbState:
    """The state after one evaluation; an epoch that is not a level changes nothing.

    Args:
      space: of the architectures.
      schedule: of the brackets.
      state: before it.
      arch: (d,) int32.
      epoch: () to which it was trained.
      start: () from which.
      active: () bool; False for an idle slot.
      score: (), NaN if it failed.
    """
    of_level = jnp.asarray(schedule.epochs) == epoch
    level, active = jnp.argmax(of_level), active & of_level.any()
    slot = slot_of(schedule, state.slots, arch, epoch, start)
    slots = fill_slot(state.slots, slot, arch, score, active, DONE)
    slots = promote(schedule, slots, slot, active)
    child = active & (slot == len(state.slots.status))
    # `ask` took this member as the parent if evaluations finish in the order of asking.
    size = jnp.asarray(population_sizes(schedule))[level]
    parent = state.count[level] % size
    new = nan_to_neg_inf(score).astype(state.score.dtype)
    missing = state.count[level] < size
    wins = active & (missing | (new >= state.score[level, parent]))
    row = jnp.where(wins, level, len(of_level))
    return DehbState(
        slots=slots,
        point=state.point.at[row, parent].set(to_point(space, arch), mode="drop"),
        score=state.score.at[row, parent].set(new, mode="drop"),
        member=state.member.at[row, parent].set(True, mode="drop"),
        count=state.count + (active & of_level),
        children=state.children + child,
    )
