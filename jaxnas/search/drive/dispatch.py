"""The loop of a driven search: ask, start, wait, record.

Several queries may be in flight. A finished evaluation is recorded first; then the free
worker gets the next query, for which the search takes the queries in flight into account.
So queries depend on the key, the scores and the order in which evaluations finish alone.

An executor that breaks cannot say which evaluation killed its worker. All evaluations in
flight are recorded as suspects (`history.Died`), and the next call runs each suspect
alone. An architecture that kills a worker twice is recorded as failed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field

import numpy as np

from jaxnas.search.drive.executors import Runner
from jaxnas.search.drive.history import Asked, Died, Evaluation, Event
from jaxnas.search.drive.record import Record, all_done, open_slots, repetitions
from jaxnas.search.drive.scale import changed_scales
from jaxnas.search.drive.search_state import (
    Plan,
    SearchProgress,
    ask,
    begin,
    require_curve_length,
    tell_all,
)
from jaxnas.search.drive.workers import EvaluationTask, empty_evaluation
from jaxnas.types import FULL_TRAINING

SlotId = tuple[int, int]  # step, slot


@dataclass(frozen=True)
class Job:
    """A running search, and the functions that run it."""

    plan: Plan
    record: Record
    runner: Runner
    write: Callable[[Event], None]  # writes to disk and to the record
    folder_of: Callable[[np.ndarray, int], str]  # (architecture, seed) -> its folder
    on_evaluation: Callable[[Evaluation], object]  # called once it is written
    num_steps: int  # queries in all, including earlier calls
    workers: int  # most queries in flight
    retries: int  # further attempts of a failed evaluation
    started: dict[SlotId, EvaluationTask] = field(default_factory=dict)
    attempts: Counter[SlotId] = field(default_factory=Counter)  # that failed


def complete(job: Job) -> None:
    """Runs the evaluations in flight, and asks the rest of `num_steps` queries.

    Args:
      job: with the record of earlier calls; its record and its file grow.

    Raises: `RuntimeError` if the executor breaks or is out of reach; `ValueError` from an
      objective that cannot be used, or for a learning curve that is too long.
    """
    record, progress = job.record, None
    try:
        _resume(job)
        while True:
            while len(record.open) < job.workers and len(record.asks) < job.num_steps:
                progress = _ask_next(job, progress)
                for task in _tasks(job, len(record.asks) - 1):
                    _start(job, task)
            if not job.started:
                return
            _finish(job)
    finally:
        job.runner.stop()


def _resume(job: Job) -> None:
    """Starts the evaluations that an earlier call left in flight.

    Suspects, which were in flight when a worker died, run first and one at a time.
    """
    steps = [step for step in sorted(job.record.open) if step < job.num_steps]
    tasks = [task for step in steps for task in _tasks(job, step)]
    suspects = [t for t in tasks if job.record.deaths[t.step, t.slot]]
    for task in suspects:
        _start(job, task)
        while job.started:
            _finish(job)
    for task in tasks:
        if task not in suspects:
            _start(job, task)


def _ask_next(job: Job, progress: SearchProgress | None) -> SearchProgress:
    """Asks the next query and records it, with the seconds that the search took.

    Args:
      job: with the record, which gets the query.
      progress: as for `_catch_up`.

    Returns: the search after all queries that have finished.
    """
    begin = time.perf_counter()
    progress = _catch_up(job, progress)
    query = ask(job.plan, progress, job.record)
    seconds = time.perf_counter() - begin
    job.write(Asked(len(job.record.asks), query, time.time(), seconds))
    return progress


def _catch_up(job: Job, progress: SearchProgress | None) -> SearchProgress:
    """Updates the search by all queries that have finished since its last `tell`.

    Args:
      job: with the record.
      progress: the search after its last `tell`; None: `tell` has not been called.

    Returns: the search, ready to ask. If float32 cannot distinguish the scores on the
      present scale, a new scale is recorded and the whole history is replayed on it.
    Raises: `ValueError` for a bounded objective whose values float32 cannot distinguish.
    """
    record, objectives = job.record, job.plan.objectives
    for scale in changed_scales(all_done(record.tells), objectives, record.scales):
        job.write(scale)
        progress = None  # replay the whole history on the new scale
    if progress is None:
        progress = begin(job.plan)
    return tell_all(job.plan, progress, record.tells, record.scales)


def _tasks(job: Job, step: int) -> list[EvaluationTask]:
    """Lists the evaluations of a query that are not done."""
    record = job.record
    if step not in record.open:
        return []  # every slot of the query is idle
    query, seeds = record.asks[step], repetitions(record.asks[step])
    tasks = []
    for slot in open_slots(record, step):
        arch, epoch = query.arch[slot], int(query.epoch[slot])
        seed = int(seeds[slot])
        task = EvaluationTask(
            step=step,
            slot=slot,
            arch=record.space.to_string(arch),
            epoch=None if epoch == FULL_TRAINING else epoch,
            start=int(query.start[slot]),
            seed=seed,
            folder=job.folder_of(np.asarray(arch), seed),
        )
        tasks.append(task)
    return tasks


def _start(job: Job, task: EvaluationTask) -> None:
    """Hands a task to the runner."""
    try:
        job.runner.start(task)
    except BrokenExecutor as error:
        raise _died(job) from error
    job.started[task.step, task.slot] = task


def _finish(job: Job) -> None:
    """Waits for one evaluation and records it, or starts it once more if it failed.

    Raises: `ValueError` for a learning curve that is too long, once it is recorded.
    """
    try:
        task, result = job.runner.finished()
    except BrokenExecutor as error:
        raise _died(job) from error
    slot_id = task.step, task.slot
    del job.started[slot_id]
    # A result without a worker: the executor gave up, after attempts of its own.
    if result.error and result.worker and job.attempts[slot_id] < job.retries:
        job.attempts[slot_id] += 1
        _start(job, task)
        return
    result = result._replace(retries=job.attempts[slot_id])
    job.write(result)
    job.on_evaluation(result)
    # Only now: the evaluation is kept, for a call with more points.
    require_curve_length(result, job.plan.points)


def _died(job: Job) -> RuntimeError:
    """Records the suspects of a broken executor.

    A suspect that ran alone, and was one before, has killed its worker: it is recorded as
    failed.

    Returns: the error to raise, which says what the next call does.
    """
    started = job.started
    if not started:
        return RuntimeError(
            "the executor is broken: the same call with a new one resumes the search"
        )
    job.write(Died(tuple(sorted(started))))
    names = ", ".join(task.arch for task in started.values())
    (slot_id, task), *others = started.items()
    if others or job.record.deaths[slot_id] < 2:
        return RuntimeError(
            f"a worker of the executor died while it evaluated one of {names}: the same "
            "call with a new executor runs each of them alone"
        )
    failed = empty_evaluation(task, "its worker died twice")
    job.write(failed)
    job.on_evaluation(failed)
    return RuntimeError(
        f"{names} killed a worker of the executor again and is recorded as failed: the "
        "same call with a new executor resumes the search"
    )
