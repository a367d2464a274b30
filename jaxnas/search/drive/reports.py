"""Reading the folder of a search, from any process, while it runs or afterwards.

Nothing is locked or written. A line that the searching process is writing at the moment
is left out.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.pareto.dominance import non_dominated
from jaxnas.pareto.objectives import Objective, optimised, validate_objectives
from jaxnas.search.drive import journal
from jaxnas.search.drive import record as records
from jaxnas.search.drive.history import Asked, Evaluation, Event
from jaxnas.search.drive.objective_scores import is_feasible, scores_of, violations
from jaxnas.search.drive.record import Record
from jaxnas.spaces.base import Space


class Status(NamedTuple):
    """How far a search has come."""

    done: int  # evaluations with a score, results from outside included
    failed: int  # evaluations without a score
    in_flight: int  # asked for and not finished, whether or not a process runs
    # the incumbent: of the evaluations within all bounds the one of highest score, by the
    # first objective that is optimised; None before there is one
    best: Evaluation | None
    seconds: float  # wall-clock time of all evaluations, summed
    # Wall-clock seconds of the search itself, in `tell` and `ask`: their compilation, and
    # the replay of the history after a restart, included.
    overhead: float
    last: float | None  # seconds since 1970 of the last event
    settings: dict[str, Any]  # `space`, `choices`, `key` and `batch` of the search


def status(folder: str | os.PathLike) -> Status:
    """Reports how far the search in a folder has come.

    Args:
      folder: of a search, which may be running and is not disturbed.

    Raises: `ValueError` if it is not the folder of a search, or its history is damaged.
    """
    settings, events, record = _checked(Path(folder))
    evaluations = _evaluations(events)
    scored = [e for e in evaluations if not math.isnan(e.score)]
    queries = [e for e in events if isinstance(e, Asked)]
    times = [*(q.time for q in queries), *(e.end for e in evaluations if e.end)]
    return Status(
        done=len(scored),
        failed=len(evaluations) - len(scored),
        in_flight=sum(len(records.open_slots(record, step)) for step in record.open),
        best=_incumbent(evaluations, settings),
        seconds=sum(e.end - e.begin for e in evaluations),
        overhead=sum(q.seconds for q in queries),
        last=max(times, default=None),
        settings=settings,
    )


def _incumbent(
    evaluations: Sequence[Evaluation], settings: dict[str, Any]
) -> Evaluation | None:
    """The best evaluation so far, within the bounds of several objectives."""
    objectives = [Objective(*values) for values in settings.get("objectives", ())]
    if not objectives:
        scored = [e for e in evaluations if not math.isnan(e.score)]
        return max(scored, key=lambda e: e.score, default=None)
    scores = scores_of(evaluations, objectives)
    first = scores[:, optimised(objectives)[0]]
    within = is_feasible(scores, objectives) & np.isfinite(first)
    if not within.any():
        return None
    return evaluations[int(np.argmax(np.where(within, first, -np.inf)))]


def read(folder: str | os.PathLike) -> list[Evaluation]:
    """Reads the finished evaluations in a folder, in the order of `optimise`.

    Args:
      folder: of a search, which may be running and is not disturbed.

    Raises: `ValueError` if it is not the folder of a search, or its history is damaged.
    """
    return _evaluations(_checked(Path(folder))[1])


def best(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Finds the incumbent: the evaluation of highest score, the first among equals.

    Args:
      evaluations: as from `read` or `optimise`.

    Raises: `ValueError` if there is none, or if all failed.
    """
    scored = [e for e in evaluations if not math.isnan(e.score)]
    if not scored:
        why = f": {evaluations[0].error}" if evaluations else ""
        raise ValueError(f"none of {len(evaluations)} evaluations has a score{why}")
    return max(scored, key=lambda e: e.score)


def front(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective]
) -> list[Evaluation]:
    """Finds the evaluations that no other feasible one dominates.

    Args:
      evaluations: as from `read` or `optimise`.
      objectives: as `optimise` was given them.

    Returns: the front in ascending order of the score of the first objective that is
      optimised. Evaluations that lack an objective are not in it.
    Raises: `ValueError` for objectives that `validate_objectives` refuses, and if no
      evaluation has all objectives within their bounds, with the closest.
    """
    objectives = validate_objectives(objectives)
    scores = scores_of(evaluations, objectives)
    complete = np.flatnonzero(np.isfinite(scores).all(1))
    if not len(complete):
        names = " and ".join(o.name for o in objectives)
        names = f"both {names}" if len(objectives) == 2 else names
        values = [e.metrics.items() for e in evaluations]
        given = dict.fromkeys(n for of in values for n, v in of if math.isfinite(v))
        others = f": they have {', '.join(given)}" if given else ""
        raise ValueError(f"none of {len(evaluations)} evaluations has {names}{others}")
    feasible = complete[is_feasible(scores[complete], objectives)]
    if not len(feasible):
        beyond = violations(scores[complete], objectives)
        closest = evaluations[complete[np.argmin(beyond)]]
        bounded = [o for o in objectives if o.bound is not None]
        has = " and ".join(
            f"{o.name} {closest.metrics[o.name]:g} (bound {o.bound:g})" for o in bounded
        )
        raise ValueError(
            f"no evaluation is feasible: the closest, {closest.arch}, has {has}"
        )
    goals = scores[feasible][:, optimised(objectives)]
    # Their order, which single precision keeps: the values may differ by less.
    goals = [np.unique(column, return_inverse=True)[1] for column in goals.T]
    index = feasible[np.asarray(non_dominated(jnp.stack(goals, 1)))]
    first = scores[index, optimised(objectives)[0]]
    return [evaluations[i] for i in index[np.argsort(first, kind="stable")]]


def _checked(folder: Path) -> tuple[dict[str, Any], list[Event], Record]:
    """Settings, events and record of a folder.

    Events must follow on each other, as far as can be checked without the search and the
    notation of its space.
    """
    settings, events = journal.settings(folder), journal.read(folder)
    shape: Any = settings["space"], tuple(settings["choices"])
    space = Space(*shape, identity=_unknown, to_string=_unknown, from_string=_unknown)
    record = Record(space, settings["batch"], notation=False)
    records.replay(record, events, lambda arch: True, folder)
    return settings, events, record


def _unknown(arch: Any) -> Any:
    raise ValueError("a folder does not hold the notation of its space")


def _evaluations(events: Iterable[Event]) -> list[Evaluation]:
    """Evaluations in the order in which their queries finished, and by slot in each."""
    finished = [e for e in events if isinstance(e, Evaluation)]
    groups = itertools.groupby(finished, key=lambda e: e.step)
    return [
        e
        for step, group in groups
        for e in (group if step is None else sorted(group, key=lambda e: e.slot))
    ]
