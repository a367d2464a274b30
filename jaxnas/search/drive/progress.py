"""What the events of a history say of a search, and the state that follows from them.

Asking and telling are pure, so the state is a function of what was told, in order: a
search that is taken up again, or whose scores need another scale, is told once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.search.base import Search, Stage
from jaxnas.search.drive import journal
from jaxnas.search.drive.history import (
    LARGEST,
    Asked,
    Died,
    Evaluation,
    Event,
    Scale,
    query_of,
)
from jaxnas.search.drive.scale import UNSCALED
from jaxnas.spaces import base
from jaxnas.spaces.base import Space
from jaxnas.types import FULL_TRAINING, Array, Query, Result, State, asked, seed_of


class Tell(NamedTuple):
    """What the search is told at once."""

    query: Query  # NumPy arrays
    done: list[Evaluation]  # of its slots that asked for something


@dataclass
class Record:
    """What has happened, event by event; see `take`."""

    space: Space
    batch: int
    notation: bool = True  # whether the space can read and write architectures
    asks: list[Query] = field(default_factory=list)
    open: dict[int, int] = field(default_factory=dict)  # step -> place in flight
    found: dict[int, dict[int, Evaluation]] = field(default_factory=dict)
    tells: list[Tell] = field(default_factory=list)
    outside: list[Evaluation] = field(default_factory=list)  # told in
    history: list[Evaluation] = field(default_factory=list)
    deaths: Counter[tuple[int, int]] = field(default_factory=Counter)
    scale: Scale = UNSCALED
    last: Event | None = None


def take(record: Record, event: Event, accepts: Callable[[np.ndarray], bool]) -> None:
    """Adds an event to the record.

    Args:
      accepts: arch (d,) -> whether the search can be told it.

    Raises: `ValueError` if it does not follow on those before.
    """
    if isinstance(event, Asked):
        _take_query(record, event, accepts)
    elif isinstance(event, Scale):
        record.scale = event
    elif isinstance(event, Died):
        record.deaths.update(event.tasks)
    elif event.step is None:
        _take_outside(record, event, accepts)
    else:
        _take_evaluation(record, event)
    record.last = event


def replay(
    record: Record, events: Sequence[Event], accepts: Callable, path: Path
) -> None:
    """Takes the events of a folder. Raises `ValueError` that names the damaged line."""
    for number, event in enumerate(events, 1):
        try:
            take(record, event, accepts)
        except ValueError as error:
            raise journal.damaged(path / journal.HISTORY, number, error) from None


def _take_query(record: Record, event: Asked, accepts: Callable) -> None:
    query, wanted = event.query, (record.batch, len(record.space.choices))
    if event.step != len(record.asks):
        raise ValueError(f"query {event.step} follows {len(record.asks)} queries")
    if query.arch.shape != wanted:
        raise ValueError(f"it asks {query.arch.shape} and not {wanted}")
    for arch in query.arch[np.asarray(asked(query))]:
        base.as_choices(record.space, arch)
        if not accepts(arch):
            raise ValueError(
                f"the search cannot be told {record.space.to_string(arch)}"
            )
    taken = set(record.open.values())
    record.asks.append(query)
    record.open[event.step] = next(i for i in range(len(taken) + 1) if i not in taken)
    record.found[event.step] = {}
    _close(record, event.step)


def _take_evaluation(record: Record, event: Evaluation) -> None:
    step, slot = event.step, event.slot
    if step not in record.open or slot not in open_slots(record, step):
        raise ValueError(f"slot {slot} of query {step} is not in flight")
    query = record.asks[step]
    row = (query.epoch[slot], query.start[slot], seeds(query)[slot])
    epoch = FULL_TRAINING if event.epoch is None else event.epoch
    arch = record.space.to_string(query.arch[slot]) if record.notation else event.arch
    if (event.arch, epoch, event.start, event.seed) != (arch, *row):
        raise ValueError(f"slot {slot} of query {step} asked for something else")
    record.found[step][slot] = event
    _close(record, step)


def _close(record: Record, step: int) -> None:
    if open_slots(record, step):
        return
    done = [e for _, e in sorted(record.found.pop(step).items())]
    record.tells.append(Tell(record.asks[step], done))
    record.history += done
    del record.open[step]


def open_slots(record: Record, step: int) -> list[int]:
    """The slots of a query that asked for something and have no evaluation."""
    wanted = np.flatnonzero(np.asarray(asked(record.asks[step])))
    return [int(slot) for slot in wanted if slot not in record.found[step]]


def _take_outside(record: Record, event: Evaluation, accepts: Callable) -> None:
    arch = record.space.from_string(event.arch) if record.notation else None
    record.history.append(event)
    record.outside.append(event)
    if arch is None or not accepts(arch):
        return
    epoch = FULL_TRAINING if event.epoch is None else event.epoch
    last = record.last
    follows = isinstance(last, Evaluation) and last.step is None and record.tells
    if follows and len(record.tells[-1].done) < record.batch:
        before = record.tells.pop()
    else:
        rows = np.zeros((3, record.batch), np.int32)
        archs = np.repeat(np.asarray(arch, np.int32)[None], record.batch, 0)
        before = Tell(query_of(archs, *rows), [])
    query, slot = jax.tree.map(np.copy, before.query), len(before.done)
    query.arch[slot], query.seed[slot] = arch, event.seed
    query.epoch[slot], query.start[slot] = epoch, event.start
    record.tells.append(Tell(query, [*before.done, event._replace(slot=slot)]))


@dataclass(frozen=True)
class Plan:
    """What is fixed while a search runs."""

    search: Search
    stages: tuple[Stage, ...]
    key_init: Array
    key_run: Array
    ahead: int  # queries in flight beside the one that is asked for
    points: int  # length of the learning curves that the search is told; 0: as they are


class Progress(NamedTuple):
    """A search after some tells."""

    state: State
    tells: int
    ready: bool  # whether the state has grown and been refreshed for what comes next


@jax.jit
def apply(function: Callable, *args: Any) -> Any:
    """`function` is an argument, as the large arrays that it holds are data."""
    return function(*args)


def begin(plan: Plan) -> Progress:
    """The search before anything was told."""
    return Progress(apply(plan.search.init, plan.key_init), 0, False)


def readied(plan: Plan, progress: Progress) -> Progress:
    """Grows and refreshes the state, as the stages say, once after each tell."""
    if progress.ready:
        return progress
    (state, tells, _), first = progress, 0
    for end, every in plan.stages:
        if tells < end:
            if tells == first:
                state = plan.search.grow(state, end + plan.ahead)
            if (tells - first) % every == 0:
                state = apply(plan.search.refresh, state)
            break
        first = end
    return Progress(state, tells, True)


def told(
    plan: Plan, progress: Progress, tells: Sequence[Tell], scale: Scale
) -> Progress:
    """The search after all `tells`, of which it knows the first ones already."""
    for tell in tells[progress.tells :]:
        progress = readied(plan, progress)
        query, result = tell.query, _result(tell, scale, plan.points)
        state = apply(plan.search.tell, progress.state, query, result)
        progress = Progress(state, progress.tells + 1, False)
    return readied(plan, progress)


def ask(plan: Plan, progress: Progress, record: Record) -> Query:
    """The next query, as NumPy arrays, which knows of those in flight."""
    step = np.int32(len(record.asks))
    flight = in_flight(record, plan.ahead + 1) if plan.ahead else None
    functions = plan.search.ask, plan.search.expect
    query = _ask(*functions, plan.key_run, step, progress.state, flight)
    return jax.tree.map(np.asarray, query)


@jax.jit
def _ask(ask, expect, key, step, state, flight):
    if flight is not None:
        state = expect(state, flight)
    # As in `loop.run`, which has no use for the second key.
    return ask(jax.random.split(jax.random.fold_in(key, step))[0], state)


def in_flight(record: Record, size: int) -> Query | None:
    """The open queries, each at its place among `size`; other places are idle."""
    width, seeded = len(record.space.choices), False
    if record.asks:
        seeded = record.asks[-1].seed is not None
    columns = np.zeros((3, size), np.int32)
    arch = np.zeros((size, width), np.int32)
    rows = query_of(arch, *columns[: 3 if seeded else 2])
    queries = {place: record.asks[step] for step, place in record.open.items()}
    for place, query in queries.items():
        for row, value in zip(
            jax.tree.leaves(rows), jax.tree.leaves(query), strict=True
        ):
            row[place] = value[0]
    return rows


def _result(tell: Tell, scale: Scale, points: int) -> Result:
    """What the search is told: scores on its scale, as floats of JAX's default width."""
    slots = np.flatnonzero(np.asarray(asked(tell.query)))
    num, dtype = len(tell.query.epoch), jnp.zeros(0).dtype
    score, cost = np.full(num, np.nan), np.zeros(num)
    points = points or max([1, *(len(e.curve) for e in tell.done)])
    curve = np.full((num, points), np.nan)
    for slot, e in zip(slots, tell.done, strict=True):
        score[slot], cost[slot] = e.score, e.cost
        values = (e.curve or (e.score,)) if points > 1 else (e.score,)
        check_curve(e, points)  # a history may be of more points
        curve[slot, : len(values)] = values
    shift, size = scale
    parts: list[Any] = [
        np.clip((x - shift) / size, -LARGEST, LARGEST).astype(dtype)
        for x in (score, curve)
    ]
    parts.append(cost.astype(dtype))
    return Result(*parts)


def check_curve(found: Evaluation, points: int) -> None:
    """Raises `ValueError` for a curve that is longer than what the search is told."""
    if 1 < points < len(found.curve):
        raise ValueError(
            f"the curve of {found.arch} has {len(found.curve)} values: wanted at most "
            f"points = {points}"
        )


def scores(tells: Sequence[Tell]) -> list[float]:
    """All scores that a search was told, in order."""
    return [e.score for tell in tells for e in tell.done]


def seeds(query: Query) -> np.ndarray:
    """The repetitions (b,) that a query asks for."""
    return np.asarray(seed_of(query))
