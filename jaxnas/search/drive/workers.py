"""Calling an objective for one architecture, wherever that runs.

An objective may take further arguments, and may return more than its score.
`required_parameters` reads the arguments from its signature. Workers execute `call`, in
this process or another: it converts the return value or the exception of the objective to
an `Evaluation`.

An exception is a failure of the architecture: it is recorded, and the search continues. An
objective that returns something other than a number has a bug, and the search ends:
`call` returns `Unusable`, which crosses processes where exceptions may not.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxnas.pareto.objectives import Objective as NamedObjective
from jaxnas.search.drive.history import Evaluation
from jaxnas.search.drive.returned import with_returned

# (architecture[, epoch[, start[, folder]]]) -> a score, higher is better, or a mapping
# with "score", and perhaps "cost", "curve" and metrics of other names.
Objective = Callable[..., Any]
# Possible arguments of an objective, in this order, or by these names in any order.
ARGUMENTS = ("arch", "epoch", "start", "folder", "seed")


class EvaluationTask(NamedTuple):
    """One evaluation to be done; the fields are those of `Evaluation`."""

    step: int
    slot: int
    arch: str
    epoch: int | None
    start: int
    seed: int
    folder: str  # for checkpoints of this architecture and seed; "": none


class Parameters(NamedTuple):
    """Arguments of an objective, by the names of `ARGUMENTS`."""

    positional: tuple[str, ...]  # in order
    keyword: tuple[str, ...]
    objectives: tuple[NamedObjective, ...] = ()  # that it returns; empty: one score

    def __contains__(self, name: object) -> bool:
        """Whether the objective takes an argument of this name."""
        return name in self.positional + self.keyword


def required_parameters(objective: Objective) -> Parameters:
    """Finds the arguments of an objective, by its signature.

    Parameters named epoch, start, folder or seed get these. Others without a default get,
    by position, the architecture, epoch, start and folder. A parameter that can only be
    given by keyword, such as one that follows an argument bound by `functools.partial`,
    must have a name in `ARGUMENTS`.

    Args:
      objective: any callable; one without a signature gets the architecture alone.

    Raises: `ValueError` if it takes something else.
    """
    try:
        parameters = list(inspect.signature(objective).parameters.values())
    except (ValueError, TypeError):  # not every function has a signature
        return Parameters(("arch",), ())
    positional, keyword = [], []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            rest = [n for n in ARGUMENTS[:4] if n not in positional]
            positional += rest[: 4 - len(positional)]
        elif p.kind is p.KEYWORD_ONLY and (p.name in ARGUMENTS or p.default is p.empty):
            keyword.append(p.name)
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            by_name = p.name in ARGUMENTS[1:] and len(positional) > 0
            if p.default is not p.empty and positional:
                # A setting of the objective itself, unless its name is an argument's.
                if by_name and p.kind is p.POSITIONAL_OR_KEYWORD:
                    keyword.append(p.name)
            else:
                by_position = (*ARGUMENTS[:4], p.name)[min(len(positional), 4)]
                positional.append(p.name if by_name else by_position)
    names = [*positional, *keyword]
    if (
        "arch" not in names
        or len(set(names)) < len(names)
        or not set(names) <= set(ARGUMENTS)
    ):
        raise ValueError(
            f"the objective takes {inspect.signature(objective)}: wanted (architecture), "
            "(architecture, epoch), (architecture, epoch, start) or (architecture, "
            "epoch, start, folder); arch must be positional, or a keyword of that name"
        )
    return Parameters(tuple(positional), tuple(keyword))


class Pickled(NamedTuple):
    """An objective as bytes, for another process; see `clusters.portable`."""

    content: bytes


class Unusable(NamedTuple):
    """Says that an objective cannot be used for any architecture."""

    reason: str


def call(
    objective: Objective | Pickled, parameters: Parameters, task: EvaluationTask
) -> Evaluation | Unusable:
    """Evaluates one architecture, in the process that calls this; raises nothing.

    Args:
      objective: itself or as bytes.
      parameters: what it takes, as `required_parameters` found before it was pickled.
      task: the architecture and its training.

    Returns: the evaluation, failed if the objective raised an exception or returned a score
      that is not finite; or `Unusable`.
    """
    try:
        if isinstance(objective, Pickled):
            objective = pickle.loads(objective.content)
    except Exception as error:
        return Unusable(f"workers cannot load the objective: {describe(error)}")
    try:
        return _evaluate(objective, parameters, task)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        return Unusable(str(error))


def _evaluate(
    objective: Objective, parameters: Parameters, task: EvaluationTask
) -> Evaluation:
    """Calls the objective; `ValueError` if what it returns is not a number."""
    arguments = {name: getattr(task, name) for name in ARGUMENTS}
    begin, clock = time.time(), time.perf_counter()
    try:
        if "folder" in parameters:
            arguments["folder"] = Path(task.folder)
            arguments["folder"].mkdir(parents=True, exist_ok=True)
        positional = [arguments[name] for name in parameters.positional]
        keyword = {name: arguments[name] for name in parameters.keyword}
        returned, error = objective(*positional, **keyword), ""
        # Names of several types cannot be sorted, as JAX would in a mapping.
        mapping = isinstance(returned, Mapping)
        jax.block_until_ready(list(returned.values()) if mapping else returned)
    except (Exception, SystemExit) as raised:
        returned, error = math.nan, describe(raised)
    seconds = time.perf_counter() - clock
    evaluation = empty_evaluation(task)._replace(
        cost=seconds,
        worker=worker_name(),
        begin=begin,
        end=begin + seconds,
        error=error,
    )
    if error:
        return evaluation
    return with_returned(evaluation, returned, parameters.objectives)


def empty_evaluation(task: EvaluationTask, error: str = "") -> Evaluation:
    """Makes the evaluation of a task, with a NaN score.

    Args:
      task: the evaluation to be done.
      error: why it failed, if it did.
    """
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


def describe(error: BaseException) -> str:
    """Describes an exception in one text of its type and the first 2,000 characters."""
    with contextlib.suppress(Exception):  # str(error) is the user's own code
        return f"{type(error).__name__}: {error}"[:2000]
    return type(error).__name__


def worker_name() -> str:
    """Names the present process: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"
