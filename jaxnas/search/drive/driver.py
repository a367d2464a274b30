"""Driving a search with an objective in Python, so that no evaluation is ever lost.

`optimise` checks its arguments (`checks`), opens the folder (`journal`), replays the
history that it finds there (`record`), and runs the loop (`dispatch`) on what is missing.
The folder of a search holds `settings.json` and `history.jsonl`, one line for each query
and each finished evaluation, written before `tell` is called. `ask` and `tell` are pure,
so these lines are the whole state: a search is resumed by replaying them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas.pareto.objectives import Objective as NamedObjective
from jaxnas.search.base import Search, checked_stages
from jaxnas.search.common import evaluation_key
from jaxnas.search.drive import (
    batch_objective,
    checks,
    executors,
    history,
    journal,
    search_state,
)
from jaxnas.search.drive.batch_objective import BatchObjective
from jaxnas.search.drive.dispatch import Job, complete
from jaxnas.search.drive.executors import Runner
from jaxnas.search.drive.history import Evaluation, Event
from jaxnas.search.drive.record import Accepts, Record, apply_event, replay
from jaxnas.search.drive.returned import names_checked_once, with_score
from jaxnas.search.drive.search_state import Plan
from jaxnas.search.drive.workers import Objective, Parameters
from jaxnas.spaces.base import Space
from jaxnas.types import Array


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
    objectives: Sequence[NamedObjective] = (),
    on_evaluation: Callable[[Evaluation], object] = lambda evaluation: None,
) -> list[Evaluation]:
    """Runs a search of `num_steps` queries, or resumes the one in `folder`.

    It asks what `loop.run` asks with the same key, the same scores and workers that
    finish in the same order. An objective that raises, or returns NaN or an infinity, has
    failed: `tell` gets NaN, and the evaluation is not repeated. A killed process
    loses the evaluations in flight, which the same call runs again. The same call with a
    larger `num_steps` makes a search longer.

    Args:
      key: () PRNG key.
      search: one that knows its space.
      objective: what is maximised: `objective(arch)`, `(arch, epoch)`, `(arch, epoch,
        start)` or `(arch, epoch, start, folder)`. `arch` is a string; the training goes
        from epoch `start` to `epoch`; `folder` belongs to this architecture alone, for
        its checkpoints. Parameters named epoch, start, folder or seed may come in any
        order. It returns a number, or a mapping with "score" and, optionally, "cost",
        "curve" (score by epoch) and further numbers, which the history keeps. A
        `BatchObjective` takes the query of a step.
      num_steps: queries in all, including earlier calls.
      folder: where the history is kept; made if it is missing.
      executor: runs evaluations side by side: one of `concurrent.futures`, a
        `dask.distributed.Client`, submitit's, `ray_executor()`, or anything whose
        `submit(function, *args)` returns an object with `done()` and `result()`.
        Default: one after another, in this process.
      workers: evaluations in flight at a time, for a search that asks one architecture a
        step: as soon as one is finished the next is asked, and the search takes those in
        flight into account. Default: the number that the executor runs at a time. A
        search that asks batches has one batch in flight.
      retries: how often a failed evaluation is repeated before it counts as failed.
      given: results from outside, such as `read` of another folder. They enter the
        history once; `tell` receives the results that the search accepts, for which it
        must have room.
      points: length of the learning curves that `tell` receives, padded with NaN. A
        longer one is kept, and ends the call. Default: the score alone.
      objectives: those that the search was made for, in their order. The objective
        then returns a mapping with a value for each by name, NaN or none where it is
        missing, in place of "score", which is that of the first.
      on_evaluation: called with every new evaluation, once it is on disk. An exception
        in it ends the call; the history is complete.

    Returns: the history in the order of finishing, and by slot within a batch.
    Raises: `ValueError` for a folder that holds something else, or the history of another
      space, key or batch (a history of another search of these, or of another objective,
      is continued as it is), for a damaged history, an executor that cannot be used, an
      objective that returns something other than a number or takes an epoch that the
      search does not have, `objectives` that are not those of the search; `RuntimeError`
      if a worker takes the executor down, or it is out of reach. An architecture whose
      worker dies is then run alone by the next call, and is recorded as failed if its
      worker dies again.
    """
    space, batch, parameters = checks.check_arguments(key, search, objective, folder)
    objectives = checks.named_objectives(objectives, search)
    parameters = parameters._replace(objectives=objectives)
    in_flight = checks.queries_in_flight(executor, objective, workers, batch)
    retries = checks.whole_number("retries", retries, 0)
    points = checks.whole_number("points", points, 1)
    points = 0 if isinstance(objective, BatchObjective) else points
    key_init, key_run = jax.random.split(key)
    stages = checked_stages(search, num_steps)
    plan = Plan(search, stages, key_init, key_run, in_flight - 1, points, objectives)
    checks.require_capacity(key, plan)
    record = Record(space, batch)
    start = search_state.prepare_next(plan, search_state.begin(plan))
    first_query = search_state.ask(plan, start, record)
    checks.require_epochs(first_query, parameters)
    checks.require_told(plan, start, first_query)
    external = _external_results(given, space, points)
    path = Path(os.path.abspath(folder))
    journal.open_journal(path, _identity(key, space, batch, objectives))
    with journal.open_history(path) as (file, events), _explain_interrupt(path):
        accepts = _accepts(search)
        replay(record, events, accepts, path)
        if record.asks:
            checks.require_same_epochs(record.asks[0], first_query, path)
        search_state.require_curve_lengths(record, points)

        check_names = names_checked_once(record.history, objectives)

        def write(event: Event) -> None:
            journal.append(file, event, durable=isinstance(event, Evaluation))
            check_names(event)
            apply_event(record, event, lambda arch: True)

        new = _not_recorded(external, record)
        for result in new:
            apply_event(record, result, accepts)
        longer = _lengthened(plan, record, num_steps, in_flight)
        if new:
            # Before they are written: the folder must not hold more than fits the search.
            checks.require_capacity(key, longer)
        for result in new:
            journal.append(file, result)
        complete(
            Job(
                plan=longer,
                record=record,
                runner=_runner(
                    objective, parameters, executor, evaluation_key(key_run), record
                ),
                write=write,
                folder_of=_checkpoint_folders(space, path, "folder" in parameters),
                on_evaluation=on_evaluation,
                num_steps=int(num_steps),
                workers=in_flight,
                retries=retries,
            )
        )
    return [e for e in record.history if e.step is None or e.step < num_steps]


def _accepts(search: Search) -> Accepts:
    """Whether `tell` of the search takes an architecture (d,)."""
    return lambda arch: bool(
        search_state.apply(search.accepts, np.asarray(arch, np.int32))
    )


def _lengthened(plan: Plan, record: Record, num_steps: int, workers: int) -> Plan:
    """The plan with room for results from outside, and for queries in flight already.

    An earlier call may have had more workers: their queries keep their lanes.
    """
    external = sum(tell.done[0].step is None for tell in record.tells if tell.done)
    stages = checked_stages(plan.search, num_steps + external)
    lanes = max(record.open.values(), default=0) + 1
    ahead = max(workers, lanes) - 1 if workers > 1 else 0
    return dataclasses.replace(plan, stages=stages, ahead=ahead)


def _external_results(
    given: Iterable[Evaluation], space: Space, points: int
) -> list[Evaluation]:
    """Results from outside as events; `ValueError` for one that the history cannot hold.

    Args:
      given: as in `optimise`.
      space: of the architectures.
      points: largest length of a learning curve, as in `Plan`.
    """
    external = [_external(result, space) for result in given]
    for result in external:
        search_state.require_curve_length(result, points)
    return external


def _not_recorded(external: list[Evaluation], record: Record) -> list[Evaluation]:
    """The results from outside that an earlier call did not record."""
    recorded = {_without_times(e) for e in record.external}
    return [e for e in external if _without_times(e) not in recorded]


def _external(result: Any, space: Space) -> Evaluation:
    """A result from outside as an event of the history; `ValueError` if it cannot be."""
    if not isinstance(result, Evaluation):
        raise ValueError(f"given must hold evaluations, not {result!r}")
    try:
        event = result._replace(step=None, slot=0, score=float(result.score))
        event = event if event.error else with_score(event, event.score)
        space.from_string(event.arch)
        return history.decode(history.encode(event))  # pyright: ignore[reportReturnType]
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot take {result!r}: {error}") from error


def _without_times(e: Evaluation) -> tuple:
    """Key by which external results are deduplicated; NaN equals NaN in `repr`."""
    return e.arch, repr(e.score), e.epoch, e.start, e.seed


def _checkpoint_folders(
    space: Space, path: Path, used: bool
) -> Callable[[np.ndarray, int], str]:
    """(architecture, seed) -> the folder of its checkpoints, named by its identity.

    Args:
      space: whose identity names the folders.
      path: the folder of the search.
      used: whether the objective takes a folder; otherwise all are "".
    """
    identity = jax.jit(space.identity)

    def folder_of(arch: np.ndarray, seed: int) -> str:
        if not used:
            return ""
        high, low = np.asarray(identity(arch)).tolist()
        return str(path / "checkpoints" / f"{high:08x}{low:08x}-{seed}")

    return folder_of


def _runner(
    objective: Objective | BatchObjective,
    parameters: Parameters,
    executor: Any,
    key: Array,
    record: Record,
) -> Runner:
    """The runner for this objective and executor; `key` is that of evaluations."""
    if isinstance(objective, BatchObjective):
        return executors.batch_runner(
            lambda tasks: batch_objective.evaluate_tasks(
                objective,
                key,
                record.asks[tasks[0].step],
                tasks,
                parameters.objectives,
            )
        )
    if executor is None:
        return executors.serial_runner(objective, parameters)
    return executors.executor_runner(executor, objective, parameters)


@contextlib.contextmanager
def _explain_interrupt(folder: Path) -> Iterator[None]:
    """Makes an interrupt say how the search is continued."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: the same call resumes the search in {folder}"
        ) from None


def _identity(
    key: Array, space: Space, batch: int, objectives: tuple[NamedObjective, ...]
) -> dict[str, Any]:
    """The identity of a history: other values of these lead to other queries."""
    several = {"objectives": [list(o) for o in objectives]} if objectives else {}
    return several | {
        "space": space.name,
        "choices": [int(c) for c in space.choices],
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "batch": batch,
    }
