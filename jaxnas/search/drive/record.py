"""State of a run so far: the sum of the events of its history.

`apply_event` checks that an event follows on those before it and adds it to the `Record`;
`replay` does so for a whole history. A query is open, that is in flight, until every slot
that is not idle has an evaluation. Then it becomes a `Tell`: `tell` of the search receives
these in the order in which queries finished.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.search.drive import journal
from jaxnas.search.drive.history import (
    Asked,
    Died,
    Evaluation,
    Event,
    Scale,
    numpy_query,
)
from jaxnas.spaces import base
from jaxnas.spaces.base import Space
from jaxnas.types import FULL_TRAINING, Query, asked, seed_of

# arch (d,) int32 -> whether `tell` of the search takes it.
Accepts = Callable[[np.ndarray], bool]


class Tell(NamedTuple):
    """A query and its evaluations, the arguments of one call of `tell`."""

    query: Query  # NumPy arrays
    done: list[Evaluation]  # of the slots that are not idle, by slot


@dataclass
class Record:
    """The state of a driven search on the host; see `apply_event`."""

    space: Space
    batch: int  # architectures of a query
    notation: bool = True  # whether the space can read and write architectures
    asks: list[Query] = field(default_factory=list)  # by step
    open: dict[int, int] = field(default_factory=dict)  # step -> lane of an open query
    results: dict[int, dict[int, Evaluation]] = field(
        default_factory=dict
    )  # step of an open query -> slot -> its evaluation
    tells: list[Tell] = field(default_factory=list)
    external: list[Evaluation] = field(default_factory=list)  # from outside
    history: list[Evaluation] = field(default_factory=list)  # closed, and from outside
    deaths: Counter[tuple[int, int]] = field(default_factory=Counter)  # by (step, slot)
    scales: dict[str, Scale] = field(default_factory=dict)  # by objective, see `Scale`
    last: Event | None = None


def apply_event(record: Record, event: Event, accepts: Accepts) -> None:
    """Adds an event to the record, in place.

    Args:
      record: after the events before this one.
      event: the next one.
      accepts: whether `tell` of the search takes an architecture.

    Raises: `ValueError` if the event cannot follow on those before it.
    """
    if isinstance(event, Asked):
        _apply_query(record, event, accepts)
    elif isinstance(event, Scale):
        record.scales[event.objective] = event
    elif isinstance(event, Died):
        record.deaths.update(event.tasks)
    elif event.step is None:
        _apply_external(record, event, accepts)
    else:
        _apply_evaluation(record, event)
    record.last = event


def replay(
    record: Record, events: Sequence[Event], accepts: Accepts, path: Path
) -> None:
    """Adds the events of a folder to the record.

    Args:
      record: an empty one.
      events: all events of the folder, one for each line of its history.
      accepts: whether `tell` of the search takes an architecture.
      path: the folder.

    Raises: `ValueError` that names the line which does not follow on those before it.
    """
    for number, event in enumerate(events, 1):
        try:
            apply_event(record, event, accepts)
        except ValueError as error:
            raise journal.damaged(path / journal.HISTORY, number, error) from None


def open_slots(record: Record, step: int) -> list[int]:
    """Lists the slots of an open query that are neither idle nor evaluated."""
    active = np.flatnonzero(np.asarray(asked(record.asks[step])))
    return [int(slot) for slot in active if slot not in record.results[step]]


def all_done(tells: Sequence[Tell]) -> list[Evaluation]:
    """Lists all evaluations of the tells, in order."""
    return [e for tell in tells for e in tell.done]


def repetitions(query: Query) -> np.ndarray:
    """The repetition (b,) that each slot of a query asks for, on the host."""
    return np.asarray(seed_of(query))


def _apply_query(record: Record, event: Asked, accepts: Accepts) -> None:
    """Opens a query in the first free lane, so that lanes are few and reused."""
    query, shape = event.query, (record.batch, len(record.space.choices))
    if event.step != len(record.asks):
        raise ValueError(f"query {event.step} follows {len(record.asks)} queries")
    if query.arch.shape != shape:
        raise ValueError(f"it asks {query.arch.shape} and not {shape}")
    for arch in query.arch[np.asarray(asked(query))]:
        base.as_choices(record.space, arch)
        if not accepts(arch):
            raise ValueError(
                f"the search does not accept {record.space.to_string(arch)}"
            )
    taken = set(record.open.values())
    record.asks.append(query)
    record.open[event.step] = next(i for i in range(len(taken) + 1) if i not in taken)
    record.results[event.step] = {}
    _close_if_done(record, event.step)


def _apply_evaluation(record: Record, event: Evaluation) -> None:
    """Adds the evaluation of an open slot; its training must be that of the query."""
    step, slot = event.step, event.slot
    if step not in record.open or slot not in open_slots(record, step):
        raise ValueError(f"slot {slot} of query {step} is not in flight")
    query = record.asks[step]
    asked_for = (query.epoch[slot], query.start[slot], repetitions(query)[slot])
    epoch = FULL_TRAINING if event.epoch is None else event.epoch
    arch = record.space.to_string(query.arch[slot]) if record.notation else event.arch
    if (event.arch, epoch, event.start, event.seed) != (arch, *asked_for):
        raise ValueError(f"slot {slot} of query {step} asked for something else")
    record.results[step][slot] = event
    _close_if_done(record, step)


def _close_if_done(record: Record, step: int) -> None:
    """Turns a query into a `Tell` once all of its slots are evaluated."""
    if open_slots(record, step):
        return
    done = [e for _, e in sorted(record.results.pop(step).items())]
    record.tells.append(Tell(record.asks[step], done))
    record.history += done
    del record.open[step]


def _apply_external(record: Record, event: Evaluation, accepts: Accepts) -> None:
    """Adds a result from outside, in a query of its own or beside the one before.

    Results that follow on each other share queries of the batch size of the search.
    Results that the search does not accept are in the history alone.
    """
    arch = record.space.from_string(event.arch) if record.notation else None
    record.history.append(event)
    record.external.append(event)
    if arch is None or not accepts(arch):
        return
    epoch = FULL_TRAINING if event.epoch is None else event.epoch
    last = record.last
    follows = isinstance(last, Evaluation) and last.step is None and record.tells
    if follows and len(record.tells[-1].done) < record.batch:
        tell = record.tells.pop()
    else:
        idle = np.zeros((3, record.batch), np.int32)  # epoch, start and seed
        archs = np.repeat(np.asarray(arch, np.int32)[None], record.batch, 0)
        tell = Tell(numpy_query(archs, *idle), [])
    query, slot = jax.tree.map(np.copy, tell.query), len(tell.done)
    query.arch[slot], query.seed[slot] = arch, event.seed
    query.epoch[slot], query.start[slot] = epoch, event.start
    record.tells.append(Tell(query, [*tell.done, event._replace(slot=slot)]))
