"""Searching with a function of the user's, in Python, and never losing an evaluation.

The folder of a search holds `settings.json` and `history.jsonl`, one line for each query
and each finished evaluation, written before `tell` sees it. `ask` and `tell` are pure, so
the lines are the whole state: resuming replays them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.search.base import Search, checked_stages
from jaxnas.search.common import evaluation_key
from jaxnas.search.drive import checks, executors, history, journal, progress
from jaxnas.search.drive.checks import BatchObjective
from jaxnas.search.drive.dispatch import Job, complete
from jaxnas.search.drive.executors import Runner
from jaxnas.search.drive.history import Evaluation, Event
from jaxnas.search.drive.progress import Plan, Record
from jaxnas.search.drive.workers import Objective, Takes, Task, evaluation, host, judged
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Evaluate, Query, Result


def optimise(
    key: Array,
    search: Search,
    objective: Objective | BatchObjective,
    num_steps: int,
    folder: str | os.PathLike,
    *,
    executor: Any = None,
    workers: int | None = None,
    retries: int = 0,
    given: Iterable[Evaluation] = (),
    points: int = 1,
    on_evaluation: Callable[[Evaluation], object] = lambda evaluation: None,
) -> list[Evaluation]:
    """Runs a search of `num_steps` queries, or goes on with the one that is in `folder`.

    It asks what `loop.run` asks with the same key, the same scores and workers that
    finish in the same order. An objective that raises, or returns NaN or an infinity,
    has failed: `tell` gets NaN, and the evaluation is not repeated. A killed process
    loses the evaluations in flight, which the same call runs again. The same call with a
    larger `num_steps` makes a search longer.

    Args:
      key: () PRNG key.  search: it knows its space.
      objective: what is maximised: `objective(arch)`, `(arch, epoch)`, `(arch, epoch,
        start)` or `(arch, epoch, start, folder)`. `arch` is a string; the training goes
        from epoch `start` to `epoch`; `folder` is the architecture's own, for its
        checkpoints. Parameters called epoch, start, folder or seed may come in any
        order. It returns a number, or a mapping with "score" and, if it likes, "cost",
        "curve" (score by epoch) and further numbers, which the history keeps. A
        `BatchObjective` takes the query of a step.
      folder: where the history is kept; made where it is missing.
      executor: runs evaluations side by side: one of `concurrent.futures`, a
        `dask.distributed.Client`, submitit's, `ray_executor()`, or anything whose
        `submit(function, *args)` returns an object with `done()` and `result()`.
        Default: one after another, in this process.
      workers: evaluations in flight at a time, for a search that asks one architecture
        a step: as soon as one is finished the next is asked, with those in flight known.
        Default: as many as the executor has. The batch of a search of batches is in
        flight as one, and the next one is asked when all of it is finished.
      retries: how often a failed evaluation is repeated before it counts as failed.
      given: results from outside, such as `read` of another folder. They become history,
        once, and the search is told those that it accepts.
      points: length of the learning curves that the search is told, padded with NaN.
        Default: the score alone.
      on_evaluation: called with every new evaluation, once it is on disk.

    Returns: the history in the order of finishing; in a batch, of slots.
    Raises: `ValueError` for a folder that holds something else, or the history of another
      space, key or batch (a history of another search of these, or of another objective,
      is taken up as it is), for a damaged history, an executor that cannot work, an
      objective that returns no number or wants an epoch that the search does not have;
      `RuntimeError` if a worker takes the executor down, or it is out of reach. An
      architecture whose worker dies is then run alone by the next call, and has failed
      if its worker dies again.
    """
    space, batch, called = checks.arguments(key, search, objective, folder)
    in_flight = checks.num_workers(executor, objective, workers, batch)
    retries = checks.whole("retries", retries, 0)
    points = checks.whole("points", points, 1)
    key_init, key_run = jax.random.split(key)
    stages = checked_stages(search, num_steps)
    points = 0 if isinstance(objective, BatchObjective) else points
    plan = Plan(search, stages, key_init, key_run, in_flight - 1, points)
    checks.room(key, plan)
    record = Record(space, batch)
    first = progress.ask(plan, progress.readied(plan, progress.begin(plan)), record)
    checks.epochs(first, called)
    given = [_outside(one, space) for one in given]
    for one in given:
        progress.check_curve(one, points)
    path = Path(os.path.abspath(folder))
    journal.open_or_create(path, _identity(key, space, batch))
    with journal.opened(path) as (file, events), _told_how_to_go_on(path):
        accepts = _accepts(search)
        progress.replay(record, events, accepts, path)
        if record.asks:
            checks.same_epochs(record.asks[0], first, path)

        def write(event: Event) -> None:
            journal.append(file, event, durable=isinstance(event, Evaluation))
            progress.take(record, event, lambda arch: True)

        known = {_without_times(e) for e in record.outside}
        for one in (e for e in given if _without_times(e) not in known):
            journal.append(file, one)
            progress.take(record, one, accepts)
        plan = _longer(plan, record, num_steps, in_flight)
        runner = _runner(objective, called, executor, evaluation_key(key_run), record)
        folder_of = _folders(space, path, "folder" in called)
        complete(
            Job(
                plan=plan,
                record=record,
                runner=runner,
                write=write,
                folder_of=folder_of,
                on_evaluation=on_evaluation,
                num_steps=int(num_steps),
                workers=in_flight,
                retries=retries,
            )
        )
    return [e for e in record.history if e.step is None or e.step < num_steps]


def _accepts(search: Search) -> Callable[[np.ndarray], bool]:
    return lambda arch: bool(progress.apply(search.accepts, np.asarray(arch, np.int32)))


def _longer(plan: Plan, record: Record, num_steps: int, workers: int) -> Plan:
    """The plan with room for what was told in, and for what is in flight already."""
    outside = sum(tell.done[0].step is None for tell in record.tells if tell.done)
    stages = checked_stages(plan.search, num_steps + outside)
    places = max(record.open.values(), default=0) + 1
    ahead = max(workers, places) - 1 if workers > 1 else 0
    return dataclasses.replace(plan, stages=stages, ahead=ahead)


def _outside(one: Any, space: Space) -> Evaluation:
    """A result that was given, as it is kept."""
    if not isinstance(one, Evaluation):
        raise ValueError(f"what is given must be evaluations, not {one!r}")
    try:
        found = one._replace(step=None, slot=0, score=float(one.score))
        found = found if found.error else judged(found, found.score)
        space.from_string(found.arch)
        return history.decode(history.encode(found))  # pyright: ignore[reportReturnType]
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot take {one!r}: {error}") from error


def _without_times(e: Evaluation) -> tuple:
    return e.arch, repr(e.score), e.epoch, e.start, e.seed


def _folders(
    space: Space, path: Path, wanted: bool
) -> Callable[[np.ndarray, int], str]:
    """(architecture, seed) -> the folder of its checkpoints, by its identity."""
    identity = jax.jit(space.identity)

    def folder_of(arch: np.ndarray, seed: int) -> str:
        if not wanted:
            return ""
        high, low = np.asarray(identity(arch)).tolist()
        return str(path / "checkpoints" / f"{high:08x}{low:08x}-{seed}")

    return folder_of


def _runner(
    objective: Objective | BatchObjective,
    called: Takes,
    executor: Any,
    key: Array,
    record: Record,
) -> Runner:
    if isinstance(objective, BatchObjective):
        evaluate = objective.evaluate
        return executors.together(
            lambda tasks: _at_once(evaluate, key, record.asks[tasks[0].step], tasks)
        )
    if executor is None:
        return executors.here(objective, called)
    return executors.outside(executor, objective, called)


def _at_once(
    evaluate: Evaluate, key: Array, query: Query, tasks: list[Task]
) -> list[Evaluation]:
    """The evaluations of the tasks of a query, whose other slots are made idle."""
    slots = [task.slot for task in tasks]
    start = np.array(query.epoch)
    start[slots] = query.start[slots]
    begin = time.time()
    result = evaluate(key, jax.tree.map(jnp.asarray, query._replace(start=start)))
    score, cost, curve = _arrays(result)
    end = time.time()
    if score.shape != start.shape or cost.shape != start.shape:
        raise ValueError(
            f"the evaluation returned scores {score.shape} and costs {cost.shape}: "
            f"wanted {start.shape} of each"
        )
    if curve.ndim != 2 or len(curve) != len(start):
        raise ValueError(
            f"the evaluation returned curves {curve.shape}: wanted ({len(start)}, points)"
        )
    if not np.isfinite(cost[slots]).all():
        raise ValueError(f"the evaluation returned costs {cost.tolist()}")
    found = []
    for task in tasks:
        slot, curves = task.slot, curve.shape[1] > 1
        one = evaluation(task)._replace(
            cost=float(cost[slot]),
            curve=tuple(curve[slot].tolist()) if curves else (),
            worker=host(),
            begin=begin,
            end=end,
        )
        found.append(judged(one, float(score[slot])))
    return found


def _arrays(result: Any) -> list[np.ndarray]:
    """Scores, costs and curves, as floats."""
    if not isinstance(result, Result):
        raise ValueError(
            f"what is evaluated together returned {type(result).__name__}: wanted a Result"
        )
    try:
        return [np.asarray(x, float) for x in (result.score, result.cost, result.curve)]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"what is evaluated together returned no numbers: {error}"
        ) from None


@contextlib.contextmanager
def _told_how_to_go_on(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: the same call goes on with what is in {folder}"
        ) from None


def _identity(key: Array, space: Space, batch: int) -> dict[str, Any]:
    """What a history belongs to: with another of these, other queries are asked."""
    return {
        "space": space.name,
        "choices": [int(c) for c in space.choices],
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "batch": batch,
    }
