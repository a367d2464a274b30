"""Calling an objective for one architecture, wherever that runs.

An objective takes as much as it wants to know, and may return more than its score.
Whatever it raises is a failure of its architecture.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxnas.search.drive.history import LARGEST, Evaluation

# (architecture[, epoch[, start[, folder]]]) -> a score, higher is better, or a mapping
# with "score", and perhaps "cost", "curve" and metrics of other names.
Objective = Callable[..., Any]
# What an objective may take, in this order, or by these names in any.
TAKEN = ("arch", "epoch", "start", "folder", "seed")


class Task(NamedTuple):
    """One evaluation to be done; fields as of `Evaluation`."""

    step: int
    slot: int
    arch: str
    epoch: int | None
    start: int
    seed: int
    folder: str  # of the architecture's own, for its checkpoints


class Takes(NamedTuple):
    """What an objective is called with, by the names of `TAKEN`."""

    places: tuple[str, ...]  # positional, in order
    names: tuple[str, ...]  # by keyword

    def __contains__(self, name: object) -> bool:
        return name in self.places + self.names


def takes(objective: Objective) -> Takes:
    """What an objective takes, by its signature.

    Parameters that are called epoch, start, folder or seed get these. Others without a
    default get, by their place, the architecture, epoch, start and folder. What is taken
    by keyword alone, as after an argument that `functools.partial` gave by its name, is
    known by the names of `TAKEN`.

    Raises: `ValueError` if it takes something else.
    """
    try:
        parameters = list(inspect.signature(objective).parameters.values())
    except (ValueError, TypeError):  # not every function says what it takes
        return Takes(("arch",), ())
    places, names = [], []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            places += [n for n in TAKEN[:4] if n not in places][: 4 - len(places)]
        elif p.kind is p.KEYWORD_ONLY and (p.name in TAKEN or p.default is p.empty):
            names.append(p.name)
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            known = p.name in TAKEN[1:] and len(places) > 0
            if p.default is not p.empty and places:
                # A setting of the objective's own, unless its name says otherwise.
                if known and p.kind is p.POSITIONAL_OR_KEYWORD:
                    names.append(p.name)
            else:
                by_place = (*TAKEN[:4], p.name)[min(len(places), 4)]
                places.append(p.name if known else by_place)
    found = [*places, *names]
    if (
        "arch" not in found
        or len(set(found)) < len(found)
        or not set(found) <= set(TAKEN)
    ):
        raise ValueError(
            f"the objective takes {inspect.signature(objective)}: wanted (architecture), "
            "(architecture, epoch), (architecture, epoch, start) or (architecture, "
            "epoch, start, folder); arch must be positional, or a keyword of that name"
        )
    return Takes(tuple(places), tuple(names))


class Pickled(NamedTuple):
    """An objective on its way to another process."""

    content: bytes


class Unusable(NamedTuple):
    """Why an objective cannot be called at all."""

    why: str


def call(
    objective: Objective | Pickled, takes: Takes, task: Task
) -> Evaluation | Unusable:
    """Evaluates one architecture, in the process that calls this; raises nothing."""
    try:
        if isinstance(objective, Pickled):
            objective = pickle.loads(objective.content)
    except Exception as error:
        return Unusable(f"workers cannot load the objective: {described(error)}")
    try:
        return _called(objective, takes, task)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        return Unusable(str(error))


def _called(objective: Objective, takes: Takes, task: Task) -> Evaluation:
    """Raises `ValueError` if the objective returns no number."""
    given = {name: getattr(task, name) for name in TAKEN}
    begin, clock = time.time(), time.perf_counter()
    try:
        if "folder" in takes:
            given["folder"] = Path(task.folder)
            given["folder"].mkdir(parents=True, exist_ok=True)
        places = [given[name] for name in takes.places]
        names = {name: given[name] for name in takes.names}
        returned, error = jax.block_until_ready(objective(*places, **names)), ""
    except (Exception, SystemExit) as raised:
        returned, error = math.nan, described(raised)
    seconds = time.perf_counter() - clock
    found = evaluation(task)._replace(
        cost=seconds, worker=host(), begin=begin, end=begin + seconds, error=error
    )
    return found if error else _with(found, returned)


def evaluation(task: Task, error: str = "") -> Evaluation:
    """The evaluation of a task, with nothing known of it but an error."""
    return Evaluation(
        task.arch,
        epoch=task.epoch,
        start=task.start,
        seed=task.seed,
        step=task.step,
        slot=task.slot,
        error=error,
        metrics={},
    )


def judged(found: Evaluation, score: float) -> Evaluation:
    """The evaluation with its score, which has failed if that is NaN or too large."""
    if abs(score) <= LARGEST:  # nor is it where it is NaN
        return found._replace(score=score)
    return found._replace(error=f"the score is {score}")


def _with(found: Evaluation, returned: Any) -> Evaluation:
    if not isinstance(returned, Mapping):
        return judged(found, _number(found.arch, "", returned))
    if not returned:
        raise ValueError(
            f"the objective returned an empty mapping for {found.arch}: wanted a 'score'"
        )
    if "score" not in returned:
        raise ValueError(
            f"the objective returned a mapping without 'score' for {found.arch}, only "
            f"{', '.join(map(str, returned))}"
        )
    known = ("score", "cost", "curve")
    metrics = {
        str(name): _number(found.arch, f" as {name}", value)
        for name, value in returned.items()
        if name not in known
    }
    cost = _number(found.arch, " as cost", returned.get("cost", found.cost))
    if not 0 <= cost < math.inf:
        raise ValueError(f"the objective returned a cost of {cost} for {found.arch}")
    curve = _curve(found.arch, returned.get("curve", ()))
    found = found._replace(cost=cost, curve=curve, metrics=metrics)
    return judged(found, _number(found.arch, " as score", returned["score"]))


def _curve(arch: str, values: Any) -> tuple[float, ...]:
    try:
        if isinstance(values, str | bytes | Mapping | Set):
            raise TypeError  # these can be iterated, but not as numbers in order
        listed = tuple(values)
    except Exception:  # whatever the user's own type raises
        raise ValueError(
            f"the objective returned {type(values).__name__} as the curve of {arch}: "
            "wanted a list of numbers"
        ) from None
    return tuple(_number(arch, " in its curve", x) for x in listed)


def _number(arch: str, where: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"the objective returned {type(value).__name__}{where} for {arch}: wanted a "
            "number, or a mapping of names to numbers with a 'score'"
        ) from None


def described(error: BaseException) -> str:
    """An exception in words; the beginning of long ones."""
    with contextlib.suppress(Exception):  # its text is the user's own code
        return f"{type(error).__name__}: {error}"[:2000]
    return type(error).__name__


def host() -> str:
    """Host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"
