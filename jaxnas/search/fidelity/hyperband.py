"""Successive halving and Hyperband on any schedule of brackets, with any sampler.

The schedule is laid out as a line of slots, one for each evaluation, rung after rung and
bracket after bracket, repeated without end. A slot of a first rung is always ready; a slot
of a later rung is ready when the rung before it is complete. A search asks for the first
ready slots: this is the published order for one worker, and with several workers or in
batches the next bracket begins while a rung waits for its last evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.base import Search
from jaxnas.search.common import growing_stages
from jaxnas.search.fidelity.brackets import (
    Bracket,
    halving_bracket,
    hyperband_brackets,
)
from jaxnas.search.fidelity.samplers import Observations, Sampler, uniform_sampler
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Query, Result, asked, check_sizes

# Status of a slot: a slot of a later rung is `WAITING`; `TAKEN` means in flight.
WAITING, READY, TAKEN, DONE = range(4)


class Schedule(NamedTuple):
    """The slots of one iteration, which is every bracket once, as NumPy arrays (t,)."""

    epoch: np.ndarray  # int32, to which a slot trains
    start: np.ndarray  # int32, from which it continues a training; 0: from scratch
    level: np.ndarray  # int32, index of `epoch` among all levels
    first: np.ndarray  # int32, the first slot of its rung
    size: np.ndarray  # int32, slots of its rung
    promoted: np.ndarray  # int32, slots of the next rung; 0 in a bracket's last one
    opens: np.ndarray  # bool, whether its rung is the first of a bracket
    epochs: np.ndarray  # (k,) int32, the levels


class HyperbandState(NamedTuple):
    """The slots of whole iterations; `grow` appends more."""

    arch: Array  # (n, d) int32; of a ready slot only if it continues a training
    score: Array  # (n,), NaN where the evaluation failed
    status: Array  # (n,) int32, WAITING, READY, TAKEN or DONE


def successive_halving(
    space: Space,
    levels: Sequence[int],
    *,
    size: int | None = None,
    eta: float = 3,
    sampler: Sampler | None = None,
    batch: int = 1,
) -> Search:
    """Successive halving (Jamieson & Talwalkar, 2016), one bracket after another.

    Args:
      space: of the architectures.
      levels: epochs of the rungs, as from `brackets.geometric_levels`.
      size: architectures of the first rung; default: the size at which the last rung has
        one.
      eta: the best 1 / eta of a rung are promoted.
      sampler: of new architectures; default: uniform.
      batch: architectures per step.

    Raises: `ValueError` as `halving_bracket` does.
    """
    if size is None:
        return hyperband(
            space, hyperband_brackets(levels, eta)[:1], sampler=sampler, batch=batch
        )
    bracket = halving_bracket(size, levels, eta)
    return hyperband(space, (bracket,), sampler=sampler, batch=batch)


def hyperband(
    space: Space,
    brackets: Sequence[Bracket],
    *,
    sampler: Sampler | None = None,
    batch: int = 1,
) -> Search:
    """Hyperband (Li et al., 2018): the brackets one after another, repeated.

    With `kde.kde_sampler` this is BOHB (Falkner et al., 2018), with
    `priorband.priorband_sampler` PriorBand (Mallik et al., 2023). The
    trainings of largest score are promoted, the earlier slot among equals, and failed
    ones last.

    Args:
      space: of the architectures.
      brackets: as from `brackets.hyperband_brackets`.
      sampler: of new architectures; default: uniform.
      batch: architectures per step.

    Raises: `ValueError` for no brackets, and for a batch below 1.
    """
    check_sizes(batch=batch)
    schedule = make_schedule(brackets)
    draw = uniform_sampler(space) if sampler is None else sampler
    room = partial(_room, brackets, batch)

    def init(key: Array) -> HyperbandState:
        del key
        return empty_slots(schedule, len(space.choices), room(0))

    def ask(key: Array, state: HyperbandState) -> Query:
        def one(state: HyperbandState, key: Array) -> tuple[HyperbandState, Query]:
            slot, past = (
                jnp.argmax(state.status == READY),
                observations(schedule, state),
            )
            index = slot % len(schedule.epoch)
            columns = schedule.opens, schedule.level, schedule.epoch, schedule.start
            opens, level, epoch, start = (jnp.asarray(x)[index] for x in columns)
            arch = jax.lax.cond(
                opens, lambda: draw(key, past, level), lambda: state.arch[slot]
            )
            state = fill_slot(state, slot, arch, jnp.nan, True, TAKEN)
            return state, Query(arch, epoch, start)

        # Not vmapped: under vmap a condition computes both branches.
        return jax.lax.scan(one, state, jax.random.split(key, batch))[1]

    def tell(state: HyperbandState, query: Query, result: Result) -> HyperbandState:
        def one(
            state: HyperbandState, evaluation: tuple
        ) -> tuple[HyperbandState, None]:
            arch, epoch, start, active, score = evaluation
            slot = slot_of(schedule, state, arch, epoch, start)
            state = fill_slot(state, slot, arch, score, active, DONE)
            return promote(schedule, state, slot, active), None

        evaluations = (*query[:3], asked(query), result.score)
        return jax.lax.scan(one, state, evaluations)[0]

    def expect(state: HyperbandState, query: Query) -> HyperbandState:
        def one(state: HyperbandState, training: tuple) -> tuple[HyperbandState, None]:
            arch, epoch, start, active = training
            slot = slot_of(schedule, state, arch, epoch, start)
            return fill_slot(state, slot, arch, jnp.nan, active, TAKEN), None

        return jax.lax.scan(one, state, (*query[:3], asked(query)))[0]

    def grow(state: HyperbandState, end: int) -> HyperbandState:
        return _grow(schedule, state, room(end))

    return Search(
        init, ask, tell, grow, expect=expect, stages=growing_stages, space=space
    )


def make_schedule(brackets: Sequence[Bracket]) -> Schedule:
    """Lays out the slots of one iteration.

    Raises: `ValueError` if there are no brackets, or one without rungs.
    """
    if not brackets or not all(brackets):
        raise ValueError("wanted at least one bracket, each with at least one rung")
    epochs = np.unique([rung.epoch for bracket in brackets for rung in bracket])
    rows: list[tuple] = []
    for bracket in brackets:
        following = (*(rung.size for rung in bracket[1:]), 0)
        for number, (rung, promoted) in enumerate(zip(bracket, following, strict=True)):
            level = int(np.searchsorted(epochs, rung.epoch))
            row = (rung.epoch, rung.start, level, len(rows), rung.size, promoted)
            rows += [(*row, number == 0)] * rung.size
    epoch, start, level, first, size, promoted, opens = (
        np.asarray(column, np.int32) for column in zip(*rows, strict=True)
    )
    return Schedule(
        epoch,
        start,
        level,
        first,
        size,
        promoted,
        opens.astype(bool),
        epochs.astype(np.int32),
    )


def observations(schedule: Schedule, state: HyperbandState) -> Observations:
    """The evaluations of a state, one for each of its slots (n,), for samplers."""
    level = jnp.asarray(np.resize(schedule.level, len(state.score)))
    done, begun = state.status == DONE, state.status >= TAKEN
    epochs = jnp.asarray(schedule.epochs)
    return Observations(state.arch, state.score, level, done, begun, epochs)


def _room(brackets: Sequence[Bracket], batch: int, steps: int) -> int:
    """Number of slots with which one is ready after any `steps` steps.

    A waiting slot that was skipped is in a bracket whose first rung has been asked in
    full, so the sizes of brackets bound the skipped slots by the asked ones.
    """
    ratio = max(sum(r.size for r in b) / b[0].size for b in brackets)
    iteration = sum(r.size for b in brackets for r in b)
    iterations = math.ceil((steps + 1) * batch * ratio / iteration) + 1
    return iterations * iteration


def empty_slots(schedule: Schedule, width: int, size: int) -> HyperbandState:
    """State of `size` slots; the slots of first rungs are ready."""
    opens = np.resize(schedule.opens, size)
    return HyperbandState(
        jnp.zeros((size, width), jnp.int32),
        jnp.full(size, jnp.nan),
        jnp.where(opens, READY, WAITING).astype(jnp.int32),
    )


def _grow(schedule: Schedule, state: HyperbandState, size: int) -> HyperbandState:
    """Appends slots up to `size`, a multiple of an iteration: the next whole iterations."""
    old = len(state.score)
    more = empty_slots(schedule, state.arch.shape[1], max(0, size - old))
    more = more._replace(score=more.score.astype(state.score.dtype))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), state, more)


def slot_of(
    schedule: Schedule, state: HyperbandState, arch: Array, epoch: Array, start: Array
) -> Array:
    """The first slot () that is ready for a training; out of bounds if no slot is.

    Slots of first rungs at one level are exchangeable, and so are slots of one
    architecture, so an evaluation does not have to state its slot.
    """
    size = len(state.score)
    epochs, starts, opens = (
        jnp.asarray(np.resize(x, size))
        for x in (schedule.epoch, schedule.start, schedule.opens)
    )
    same = opens | (state.arch == arch).all(-1)
    fits = (state.status == READY) & (epochs == epoch) & (starts == start) & same
    return jnp.where(fits.any(), jnp.argmax(fits), size)


def fill_slot(
    state: HyperbandState,
    slot: Array,
    arch: Array,
    score: Array | float,
    active: Array | bool,
    status: int,
) -> HyperbandState:
    """Fills a slot (), if the evaluation is `active` (), with an evaluation."""
    slot = jnp.where(active, slot, len(state.score))
    score = jnp.asarray(score, state.score.dtype)
    return HyperbandState(
        state.arch.at[slot].set(arch, mode="drop"),
        state.score.at[slot].set(score, mode="drop"),
        state.status.at[slot].set(status, mode="drop"),
    )


def promote(
    schedule: Schedule, state: HyperbandState, slot: Array, active: Array
) -> HyperbandState:
    """Makes the slots of the next rung ready if the rung of `slot` () is complete.

    The next rung gets the best of this one (top-k of Li et al., 2018, Algorithm 1, line
    9) in the order of their scores.
    """
    size, widest = len(state.score), int(schedule.size.max())
    index = slot % len(schedule.size)
    first, count, promoted = (
        jnp.asarray(x)[index]
        for x in (schedule.first, schedule.size, schedule.promoted)
    )
    first += slot - index
    slots = first + jnp.arange(widest)
    inside = jnp.arange(widest) < count
    read = jnp.minimum(slots, size - 1)
    complete = active & (slot < size) & ((state.status[read] == DONE) | ~inside).all()
    # Slots past the rung come last, after failed trainings: the sort is stable.
    score = nan_to_neg_inf(jnp.where(inside, state.score[read], jnp.nan))
    best = read[jnp.argsort(-score, stable=True)]
    reached = complete & (jnp.arange(widest) < promoted)
    target = jnp.where(reached, first + count + jnp.arange(widest), size)
    return state._replace(
        arch=state.arch.at[target].set(state.arch[best], mode="drop"),
        status=state.status.at[target].set(READY, mode="drop"),
    )
