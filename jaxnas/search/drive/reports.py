"""What a folder of a search holds, for any process that can read it."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnas.search.drive import journal, progress
from jaxnas.search.drive.history import Asked, Evaluation, Event
from jaxnas.search.drive.progress import Record
from jaxnas.spaces.base import Space


class Status(NamedTuple):
    """How far a search is."""

    done: int  # evaluations with a score, those told in from outside among them
    failed: int
    in_flight: int  # asked for and not finished, whether or not a process works on it
    best: Evaluation | None  # of highest score
    seconds: float  # that all evaluations took together
    last: float | None  # seconds since 1970 of the last event
    settings: dict[str, Any]  # what the history belongs to


def status(folder: str | os.PathLike) -> Status:
    """How far the search in a folder is; it may be running, and is not disturbed.

    Raises: `ValueError` if that is no folder of a search, or its history is damaged.
    """
    settings, events, record = _checked(Path(folder))
    evaluations = _evaluations(events)
    scored = [e for e in evaluations if not math.isnan(e.score)]
    queries = [e for e in events if isinstance(e, Asked)]
    times = [*(q.time for q in queries), *(e.end for e in evaluations if e.end)]
    return Status(
        done=len(scored),
        failed=len(evaluations) - len(scored),
        in_flight=sum(len(progress.open_slots(record, step)) for step in record.open),
        best=max(scored, key=lambda e: e.score, default=None),
        seconds=sum(e.end - e.begin for e in evaluations),
        last=max(times, default=None),
        settings=settings,
    )


def read(folder: str | os.PathLike) -> list[Evaluation]:
    """The finished evaluations in a folder, as `optimise` returns them, and raises."""
    return _evaluations(_checked(Path(folder))[1])


def best(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The evaluation of highest score. Raises `ValueError` if all failed."""
    scored = [e for e in evaluations if not math.isnan(e.score)]
    if not scored:
        why = f": {evaluations[0].error}" if evaluations else ""
        raise ValueError(f"none of {len(evaluations)} evaluations has a score{why}")
    return max(scored, key=lambda e: e.score)


def _checked(folder: Path) -> tuple[dict[str, Any], list[Event], Record]:
    """Settings, and events that follow on each other, as far as that shows without the
    search and the notation of its space."""
    settings, events = journal.settings(folder), journal.read(folder)
    shape: Any = settings["space"], tuple(settings["choices"])
    space = Space(*shape, identity=_unknown, to_string=_unknown, from_string=_unknown)
    record = Record(space, settings["batch"], notation=False)
    progress.replay(record, events, lambda arch: True, folder)
    return settings, events, record


def _unknown(arch: Any) -> Any:
    raise ValueError("a folder does not hold the notation of its space")


def _evaluations(events: Iterable[Event]) -> list[Evaluation]:
    """In the order in which queries finished, and of the slots in each."""
    found = [e for e in events if isinstance(e, Evaluation)]
    groups = itertools.groupby(found, key=lambda e: e.step)
    return [
        e
        for step, group in groups
        for e in (group if step is None else sorted(group, key=lambda e: e.slot))
    ]
