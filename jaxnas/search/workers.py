"""Calling an objective for the architectures of a step, here or in an executor's workers.

Whatever an objective raises is a failure of its architecture. A worker that dies may
have been killed for another reason, so its architectures are asked again, one at a time;
who takes a worker down twice has failed as well, and is not asked for ever.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from pathlib import Path
from typing import NamedTuple

import jax

from jaxnas import checkpoints
from jaxnas.search.history import LARGEST, Evaluation

# (architecture in the space's notation, last epoch) -> score, higher is better.
Objective = Callable[[str, int], float]


class Asked(NamedTuple):
    """One evaluation to be done; fields as of `Evaluation`."""

    step: int
    slot: int
    arch: str
    epoch: int


def evaluate(
    asked: Sequence[Asked],
    objective: Objective,
    executor: Executor | None,
    folder: Path,
) -> Iterator[Evaluation]:
    """The evaluations of a step, as they finish.

    Args:
      folder: of the search, where `died.json` remembers whom a worker died of.

    Raises: `RuntimeError` if a worker dies, `ValueError` for an objective that returns no
      number or that the executor cannot run.
    """
    if executor is None:
        for one in asked:
            yield _evaluation(one, *_call(objective, one.arch, one.epoch))
        return
    suspects = _suspects(folder, asked)
    rest = [one for one in asked if one not in suspects]
    for group in (*([one] for one in suspects), rest):
        try:
            yield from _side_by_side(group, objective, executor)
        except BrokenExecutor as error:
            names = ", ".join(one.arch for one in group)
            if group is rest:
                kept = json.dumps(group).encode()
                checkpoints.atomic_write(folder / "died.json", kept)
                said = (
                    f"one of {names}: the same call with a new executor asks each alone"
                )
            else:
                yield _evaluation(group[0], math.nan, 0.0, "its worker died twice")
                said = f"{names}, again: it has failed, and the same call goes on"
            step = group[0].step
            raise RuntimeError(
                f"a worker of the executor died in step {step}, of {said}"
            ) from error


def _suspects(folder: Path, asked: Sequence[Asked]) -> list[Asked]:
    """Those of whom a worker died before."""
    try:
        found = json.loads((folder / "died.json").read_bytes())
        return [one for one in asked if list(one) in found]
    except (OSError, ValueError, TypeError, RecursionError):
        return []  # the file is missing, or somebody has changed it


def _side_by_side(
    asked: Sequence[Asked], objective: Objective, executor: Executor
) -> Iterator[Evaluation]:
    running: dict[Future, Asked] = {}
    try:
        for one in asked:
            running[executor.submit(_call, objective, one.arch, one.epoch)] = one
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield _evaluation(running.pop(future), *_outcome(future))
    finally:
        for future in running:
            future.cancel()


def _evaluation(asked: Asked, score: float, seconds: float, error: str) -> Evaluation:
    return Evaluation(*asked, score, seconds, error)


def _outcome(future: Future) -> tuple[float, float, str]:
    """Of a call in another thread or process, where all errors of its own are caught."""
    try:
        return future.result()
    except (ValueError, BrokenExecutor):
        raise
    except Exception as error:
        raise ValueError(
            f"the executor cannot run the objective: {type(error).__name__}: {error}"
        ) from error


def _call(objective: Objective, arch: str, epoch: int) -> tuple[float, float, str]:
    """Score, seconds, and why there is no score."""
    begin = time.perf_counter()
    try:
        score = jax.block_until_ready(objective(arch, epoch))
    except (Exception, SystemExit) as error:
        return math.nan, time.perf_counter() - begin, _described(error)
    seconds = time.perf_counter() - begin
    try:
        score = float(score)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"the objective returned {type(score).__name__} for {arch}: wanted a number"
        ) from None
    if not abs(score) <= LARGEST:  # nor is it where it is NaN
        return math.nan, seconds, f"the score is {score}"
    return score, seconds, ""


def _described(error: BaseException) -> str:
    with contextlib.suppress(Exception):  # its text is the user's own code
        return f"{type(error).__name__}: {error}"
    return type(error).__name__
