"""Running tasks: one after another, all of a query at once, or in an executor.

A `Runner` hides the difference from the loop in `dispatch`. Exceptions of the objective
were caught where it ran (`workers.call`); errors of the executor itself are classified
here: its workers died, it is out of reach, it cannot run the objective, or it has given up
one task.
"""

from __future__ import annotations

import itertools
import pickle
import queue
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any, NamedTuple

from jaxnas.search.drive import clusters
from jaxnas.search.drive.history import Evaluation
from jaxnas.search.drive.workers import (
    EvaluationTask,
    Objective,
    Parameters,
    Unusable,
    call,
    describe,
    empty_evaluation,
)

# Seconds between two looks at futures without callbacks: a fiftieth of the time waited so
# far, within these bounds.
_SOONEST, _LATEST, _SHARE = 0.001, 0.5, 0.02
# Errors of executors that cannot send or read a task. Submitit and Ray raise an error
# of their own, known here by its name, for any exception in a task; `call` raises none.
_UNUSABLE = (ValueError, TypeError, AttributeError, ImportError, pickle.PickleError)
_RAISED_IN_TASK = {"FailedJobError", "RayTaskError"}
_OUT_OF_REACH = {"RaySystemError", "LocalRayletDiedError"}


class Runner(NamedTuple):
    """Runs tasks, and returns their evaluations in any order."""

    # Starts a task. Raises `BrokenExecutor` if the workers are gone.
    start: Callable[[EvaluationTask], None]
    # Waits until one of the tasks has finished. Raises `BrokenExecutor` if workers are gone
    # and no result of others is left, `RuntimeError` if the executor is out of reach, and
    # `ValueError` if the objective cannot be used.
    finished: Callable[[], tuple[EvaluationTask, Evaluation]]
    stop: Callable[[], None]  # cancels the tasks that are not running yet


def serial_runner(objective: Objective, parameters: Parameters) -> Runner:
    """Runs one task after another in this process.

    Args:
      objective: called in `finished`.
      parameters: what it takes.
    """
    waiting: deque[EvaluationTask] = deque()

    def finished() -> tuple[EvaluationTask, Evaluation]:
        task = waiting.popleft()
        return task, _require_usable(call(objective, parameters, task))

    return Runner(waiting.append, finished, waiting.clear)


def batch_runner(
    evaluate: Callable[[list[EvaluationTask]], list[Evaluation]],
) -> Runner:
    """Runs all tasks of a query that were started in one call, in this process.

    Args:
      evaluate: the evaluations of tasks of one step, in their order.
    """
    waiting: list[EvaluationTask] = []
    ready: deque[tuple[EvaluationTask, Evaluation]] = deque()

    def finished() -> tuple[EvaluationTask, Evaluation]:
        if not ready:
            # An earlier call with an executor may have left several queries open.
            tasks = [task for task in waiting if task.step == waiting[0].step]
            ready.extend(zip(tasks, evaluate(tasks), strict=True))
            waiting[:] = [task for task in waiting if task not in tasks]
        return ready.popleft()

    return Runner(waiting.append, finished, waiting.clear)


def executor_runner(
    executor: Any, objective: Objective, parameters: Parameters
) -> Runner:
    """Runs tasks side by side in an executor.

    Args:
      executor: one that `clusters.require_executor` accepts.
      objective: called in its workers.
      parameters: what it takes.
    """
    sent = clusters.portable(executor, objective)
    running: dict[int, tuple[Any, EvaluationTask]] = {}
    reported: queue.SimpleQueue[int] = queue.SimpleQueue()
    silent: set[int] = set()  # futures without callbacks, which have to be polled
    broken: list[BrokenExecutor] = []
    numbers = itertools.count()

    def start(task: EvaluationTask) -> None:
        try:
            future = clusters.submit(executor, call, sent, parameters, task)
        except BrokenExecutor:
            raise
        except Exception as error:
            raise ValueError(
                f"the executor takes no work: {describe(error)}"
            ) from error
        number = next(numbers)
        running[number] = future, task
        if callable(getattr(future, "add_done_callback", None)):
            future.add_done_callback(lambda _: reported.put(number))
        elif callable(getattr(future, "done", None)) and hasattr(future, "result"):
            silent.add(number)
        else:
            raise ValueError(
                f"what the executor's submit returns has no done() and result(): {future!r}"
            )

    def finished() -> tuple[EvaluationTask, Evaluation]:
        while True:
            number = _next(running, reported, silent, block=not broken)
            if number is None:
                raise broken[0]
            try:
                evaluation = _outcome(*running[number])
            except BrokenExecutor as error:
                broken.append(error)  # first return what others have finished
                continue
            return running.pop(number)[1], evaluation

    def stop() -> None:
        for future, _ in running.values():
            if callable(getattr(future, "cancel", None)):
                future.cancel()

    return Runner(start, finished, stop)


def _next(
    running: dict, reported: queue.SimpleQueue, silent: set[int], *, block: bool
) -> int | None:
    """Waits for the number of a future that is done.

    Args:
      running: number -> (future, task).
      reported: numbers of futures whose callback was called.
      silent: numbers of futures that must be polled.
      block: whether to wait; otherwise None is returned if none is done.
    """
    begin, pause = time.monotonic(), _SOONEST
    while True:
        for number in sorted(silent):
            if running[number][0].done():
                silent.discard(number)
                return number
        try:
            if not block:
                return reported.get_nowait()
            return reported.get(timeout=pause if silent else None)
        except queue.Empty:
            if not block:
                return None
        waited = time.monotonic() - begin
        pause = min(max(_SHARE * waited, _SOONEST), _LATEST)


def _require_usable(result: Evaluation | Unusable) -> Evaluation:
    """The evaluation, or `ValueError` if the objective cannot be used."""
    if isinstance(result, Unusable):
        raise ValueError(result.reason)
    return result


def _outcome(future: Any, task: EvaluationTask) -> Evaluation:
    """The evaluation of a future that is done.

    Returns: what the worker returned; or a failed evaluation, without a worker, if the
      executor has given up this task and no other.
    Raises: `BrokenExecutor`, `RuntimeError` and `ValueError` as `Runner.finished`.
    """
    try:
        result = future.result()
    except BrokenExecutor:
        raise
    except Exception as error:
        names = {c.__name__ for c in type(error).__mro__}
        if names & _RAISED_IN_TASK or isinstance(error, _UNUSABLE):
            raise ValueError(
                f"the executor cannot run the objective: {describe(error)}"
            ) from error
        if names & _OUT_OF_REACH or isinstance(error, (OSError, CancelledError)):
            raise RuntimeError(
                f"the executor is out of reach ({describe(error)}): the same call goes "
                "on once it is back"
            ) from error
        now = time.time()
        return empty_evaluation(task, describe(error))._replace(begin=now, end=now)
    fits = isinstance(result, Evaluation) and (
        (result.arch, result.step, result.slot) == (task.arch, task.step, task.slot)
    )
    if not fits and not isinstance(result, Unusable):
        raise ValueError(
            f"the executor's result() gave {type(result).__name__} for {task.arch}: "
            "wanted what the submitted function returned for it"
        )
    return _require_usable(result)
