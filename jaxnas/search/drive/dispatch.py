"""The loop of a search that is driven from Python: ask, run, record, tell.

Several queries may be in flight. Whatever finishes is recorded first, and then the free
worker gets the next query, which knows of those in flight; so the order in which
evaluations finish is all that the queries depend on.
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
from jaxnas.search.drive.progress import (
    Plan,
    Progress,
    Record,
    ask,
    begin,
    check_curve,
    open_slots,
    scores,
    seeds,
    told,
)
from jaxnas.search.drive.scale import fitting_scale
from jaxnas.search.drive.workers import Task, evaluation
from jaxnas.types import FULL_TRAINING

Place = tuple[int, int]  # step, slot


@dataclass(frozen=True)
class Job:
    """A search that is being driven."""

    plan: Plan
    record: Record
    runner: Runner
    write: Callable[[Event], None]  # to the disk and to the record
    folder_of: Callable[[np.ndarray, int], str]  # (architecture, seed) -> its folder
    on_evaluation: Callable[[Evaluation], object]
    num_steps: int
    workers: int
    retries: int
    started: dict[Place, Task] = field(default_factory=dict)
    attempts: Counter[Place] = field(default_factory=Counter)  # that failed


def complete(job: Job) -> None:
    """Runs what is in flight and asks for the rest, up to `num_steps` queries.

    Raises: `RuntimeError` if the executor breaks or is out of reach.
    """
    record, progress = job.record, None
    try:
        _resume(job)
        while True:
            while len(record.open) < job.workers and len(record.asks) < job.num_steps:
                progress = _caught_up(job, progress)
                query = ask(job.plan, progress, record)
                step = len(record.asks)
                job.write(Asked(step, query, time.time()))
                for task in _tasks(job, step):
                    _start(job, task)
            if not job.started:
                return
            _finish(job)
    finally:
        job.runner.stop()


def _resume(job: Job) -> None:
    """Starts what was in flight; first, and alone, those that workers have died of."""
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


def _caught_up(job: Job, progress: Progress | None) -> Progress:
    """The search after all that was to be told, on a scale that tells it apart."""
    record = job.record
    scale = fitting_scale(scores(record.tells), record.scale)
    if scale != record.scale:
        job.write(scale)
        progress = None  # replay the whole history on the new scale
    if progress is None:
        progress = begin(job.plan)
    return told(job.plan, progress, record.tells, record.scale)


def _tasks(job: Job, step: int) -> list[Task]:
    """Those of a query that are not done."""
    record = job.record
    if step not in record.open:
        return []  # it asked for nothing
    query, repetition = record.asks[step], seeds(record.asks[step])
    tasks = []
    for slot in open_slots(record, step):
        arch, epoch = query.arch[slot], int(query.epoch[slot])
        seed = int(repetition[slot])
        task = Task(
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


def _start(job: Job, task: Task) -> None:
    try:
        job.runner.start(task)
    except BrokenExecutor as error:
        raise _died(job) from error
    job.started[task.step, task.slot] = task


def _finish(job: Job) -> None:
    try:
        task, found = job.runner.finished()
    except BrokenExecutor as error:
        raise _died(job) from error
    place = task.step, task.slot
    del job.started[place]
    # What has no worker was given up by the executor, after attempts of its own.
    if found.error and found.worker and job.attempts[place] < job.retries:
        job.attempts[place] += 1
        _start(job, task)
        return
    check_curve(found, job.plan.points)
    found = found._replace(retries=job.attempts[place])
    job.write(found)
    job.on_evaluation(found)


def _died(job: Job) -> RuntimeError:
    """The error for a broken executor, after its suspects were recorded."""
    started = job.started
    if not started:
        return RuntimeError(
            "the executor is broken: the same call goes on with a new one"
        )
    job.write(Died(tuple(sorted(started))))
    names = ", ".join(task.arch for task in started.values())
    (place, task), *others = started.items()
    if others or job.record.deaths[place] < 2:
        return RuntimeError(
            f"a worker of the executor died while it evaluated one of {names}: the same "
            "call with a new executor runs each of them alone"
        )
    failed = evaluation(task, "its worker died twice")
    job.write(failed)
    job.on_evaluation(failed)
    return RuntimeError(
        f"a worker of the executor died of {names} again, which has failed: the same "
        "call with a new executor goes on"
    )
