"""Where evaluations run: here one by one, together, or in an executor of any kind.

A `Runner` hides the difference. An executor is anything whose `submit(function, *args)`
returns an object with `done()` and `result()`: of `concurrent.futures`, a
`dask.distributed.Client`, submitit's, and Ray's through `ray_executor`.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import pickle
import queue
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any, NamedTuple

from jaxnas.search.drive.history import Evaluation
from jaxnas.search.drive.workers import (
    Objective,
    Pickled,
    Takes,
    Task,
    Unusable,
    call,
    described,
    evaluation,
)

# Seconds between two looks at results that do not report themselves: a fiftieth of the
# time waited so far, between these.
_SOONEST, _LATEST, _SHARE = 0.001, 0.5, 0.02
# What an executor raises where it cannot send or read a task; and, by name, submitit and
# Ray, where a task has raised anything, which `call` never does.
_UNUSABLE = (ValueError, TypeError, AttributeError, ImportError, pickle.PickleError)
_RAISED = {"FailedJobError", "RayTaskError"}
_AWAY = {"RaySystemError", "LocalRayletDiedError"}
# Modules of executors whose workers are other processes.
_FAR = ("distributed.", "submitit.", __name__, "concurrent.futures.process")


class Runner(NamedTuple):
    """Runs tasks, in any order."""

    start: Callable[[Task], None]
    # Waits for one that was started. Raises `BrokenExecutor` if workers are gone, when no
    # other result is left, and `RuntimeError` if the executor cannot be reached.
    finished: Callable[[], tuple[Task, Evaluation]]
    stop: Callable[[], None]  # gives up what is not running yet


def here(objective: Objective, takes: Takes) -> Runner:
    """Runs one task after another in this process."""
    waiting: deque[Task] = deque()

    def finished() -> tuple[Task, Evaluation]:
        task = waiting.popleft()
        return task, _usable(call(objective, takes, task))

    return Runner(waiting.append, finished, waiting.clear)


def together(evaluate: Callable[[list[Task]], list[Evaluation]]) -> Runner:
    """Runs all tasks that were started as one."""
    waiting: list[Task] = []
    ready: deque[tuple[Task, Evaluation]] = deque()

    def finished() -> tuple[Task, Evaluation]:
        if not ready:
            ready.extend(zip(waiting, evaluate(list(waiting)), strict=True))
            waiting.clear()
        return ready.popleft()

    return Runner(waiting.append, finished, waiting.clear)


def outside(executor: Any, objective: Objective, takes: Takes) -> Runner:
    """Runs tasks in an executor that was checked."""
    sent = _sent(executor, objective)
    running: dict[int, tuple[Any, Task]] = {}
    reported: queue.SimpleQueue[int] = queue.SimpleQueue()
    silent: set[int] = set()  # those that have to be asked
    broken: list[BrokenExecutor] = []
    numbers = itertools.count()

    def start(task: Task) -> None:
        try:
            job = _submit(executor, call, sent, takes, task)
        except BrokenExecutor:
            raise
        except Exception as error:
            raise ValueError(
                f"the executor takes no work: {described(error)}"
            ) from error
        number = next(numbers)
        running[number] = job, task
        if callable(getattr(job, "add_done_callback", None)):
            job.add_done_callback(lambda _: reported.put(number))
        elif callable(getattr(job, "done", None)) and hasattr(job, "result"):
            silent.add(number)
        else:
            raise ValueError(
                f"what the executor's submit returns has no done() and result(): {job!r}"
            )

    def finished() -> tuple[Task, Evaluation]:
        while True:
            number = _next(running, reported, silent, block=not broken)
            if number is None:
                raise broken[0]
            try:
                found = _outcome(*running[number])
            except BrokenExecutor as error:
                broken.append(error)  # but what others have finished is not lost
                continue
            return running.pop(number)[1], found

    def stop() -> None:
        for job, _ in running.values():
            if callable(getattr(job, "cancel", None)):
                job.cancel()

    return Runner(start, finished, stop)


def _next(
    running: dict, reported: queue.SimpleQueue, silent: set[int], *, block: bool
) -> int | None:
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


def _usable(found: Evaluation | Unusable) -> Evaluation:
    if isinstance(found, Unusable):
        raise ValueError(found.why)
    return found


def _outcome(job: Any, task: Task) -> Evaluation:
    """What a job gives; errors of the objective itself were caught where it ran."""
    try:
        found = job.result()
    except BrokenExecutor:
        raise
    except Exception as error:
        names = {c.__name__ for c in type(error).__mro__}
        if names & _RAISED or isinstance(error, _UNUSABLE):
            raise ValueError(
                f"the executor cannot run the objective: {described(error)}"
            ) from error
        if names & _AWAY or isinstance(error, (OSError, CancelledError)):
            raise RuntimeError(
                f"the executor is out of reach ({described(error)}): the same call goes "
                "on once it is back"
            ) from error
        # The executor has given up this task, and no other.
        now = time.time()
        return evaluation(task, described(error))._replace(begin=now, end=now)
    ours = isinstance(found, Evaluation) and (
        (found.arch, found.step, found.slot) == (task.arch, task.step, task.slot)
    )
    if not ours and not isinstance(found, Unusable):
        raise ValueError(
            f"the executor's result() gave {type(found).__name__} for {task.arch}: "
            "wanted what the submitted function returned for it"
        )
    return _usable(found)


def _is_dask(executor: Any) -> bool:
    return any(
        c.__name__ == "Client" and c.__module__.startswith("distributed")
        for c in type(executor).__mro__
    )


def _submit(executor: Any, *args: Any) -> Any:
    # Dask takes equal calls for one, and a second attempt would be the first one.
    return executor.submit(*args, **({"pure": False} if _is_dask(executor) else {}))


def require_executor(executor: Any, objective: Objective) -> None:
    """Raises `ValueError` for what cannot be an executor, before anything is submitted."""
    submit = None if isinstance(executor, type) else getattr(executor, "submit", None)
    if not callable(submit):
        hint = (
            ": give ray_executor()"
            if getattr(executor, "__name__", "") == "ray"
            else ""
        )
        raise ValueError(
            "the executor must be an object with submit(function, *args), such as one "
            f"of concurrent.futures or a dask Client, not {executor!r}{hint}"
        )
    if inspect.iscoroutinefunction(submit) or getattr(executor, "asynchronous", False):
        raise ValueError(
            f"the executor ({type(executor).__name__}) is for asyncio: wanted one whose "
            "submit and result() can be called as they are"
        )
    try:
        inspect.signature(submit).bind(call, objective)
    except ValueError:
        pass  # not every function says what it takes
    except TypeError as error:
        raise ValueError(
            f"the executor's submit cannot be called with a function and its arguments: "
            f"{error}"
        ) from None
    _sent(executor, objective)


def _sent(executor: Any, objective: Objective) -> Objective | Pickled:
    """The objective as workers get it: to other processes it goes as bytes, which are
    read inside the task, so that one that cannot be read is not taken for a failure."""
    if not any(c.__module__.startswith(_FAR) for c in type(executor).__mro__):
        return objective
    try:
        return Pickled(_pickle()(objective))
    except Exception as error:
        raise ValueError(
            "the executor cannot run the objective, which other processes must be able "
            f"to import: {described(error)}"
        ) from None


def _pickle() -> Callable[[Any], bytes]:
    try:
        import cloudpickle  # also for functions of a notebook; clusters have it
    except ImportError:
        return pickle.dumps
    return cloudpickle.dumps


def num_workers(executor: Any) -> int:
    """How many tasks an executor runs at a time; else one for each core."""
    if _is_dask(executor):
        return max(1, sum(executor.nthreads().values()))
    for name in ("num_workers", "_max_workers"):
        number = getattr(executor, name, None)
        if isinstance(number, int) and number > 0:
            return number
    return os.cpu_count() or 1


class _Ray(NamedTuple):
    """Ray's tasks as an executor."""

    options: dict[str, Any]

    @property
    def num_workers(self) -> int:
        import ray  # pyright: ignore[reportMissingImports]

        each = self.options.get("num_cpus", 1) or 1
        return max(1, int(ray.cluster_resources().get("CPU", 1) / each))

    def submit(self, function: Callable, *args: Any) -> Any:
        remote = _remote(function)
        if self.options:
            remote = remote.options(**self.options)
        return remote.remote(*args).future()


@functools.cache
def _remote(function: Callable) -> Any:
    import ray  # pyright: ignore[reportMissingImports]

    return ray.remote(function)


def ray_executor(**options: Any) -> Any:
    """An executor of the Ray cluster that `ray.init` has connected to.

    Args:
      options: of each task, as for `ray.remote`, such as `num_cpus=4`, `num_gpus=1` or
        `max_retries=1` (how often Ray itself runs a task again whose worker died).

    Raises: `ImportError` without Ray.
    """
    import ray  # noqa: F401 # pyright: ignore[reportMissingImports]

    return _Ray(options)
