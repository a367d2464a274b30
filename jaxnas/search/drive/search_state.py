"""The state of a search as a function of its history.

`ask` and `tell` are pure, so the state is never stored: when a search is resumed, or its
scores need another scale, its whole history is replayed (`tell_all`). The steps and
their random numbers are those of `loop.run`: query number i draws from
`fold_in(key_run, i)`, and the state grows and is refreshed as the stages of the search say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.pareto.objectives import Objective
from jaxnas.search.base import Search, Stage
from jaxnas.search.drive.history import Evaluation, Scale, numpy_query
from jaxnas.search.drive.objective_scores import scores_of
from jaxnas.search.drive.record import Record, Tell, all_done
from jaxnas.search.drive.scale import on_scale
from jaxnas.types import Array, Query, Result, State, asked


@dataclass(frozen=True)
class Plan:
    """The constants of a running search."""

    search: Search
    stages: tuple[Stage, ...]  # (end, refresh every) of each, in tells
    key_init: Array  # () key of the initial state
    key_run: Array  # () key of the queries
    ahead: int  # queries in flight beside the one that is asked for
    points: int  # length of the learning curves that `tell` receives; 0: unchanged
    objectives: tuple[Objective, ...] = ()  # of the results; empty: one score


class SearchProgress(NamedTuple):
    """The state of a search after a part of its history."""

    state: State
    tells: int  # number of tells in it
    ready: bool  # whether the state has grown and been refreshed for the next step


@jax.jit
def apply(function: Callable, *args: Any) -> Any:
    """Calls a function in a compiled program.

    The function is an argument: the large arrays that a `Partial` holds are data, not
    constants of the program.
    """
    return function(*args)


def begin(plan: Plan) -> SearchProgress:
    """Initialises the search."""
    return SearchProgress(apply(plan.search.init, plan.key_init), 0, False)


def prepare_next(plan: Plan, progress: SearchProgress) -> SearchProgress:
    """Grows and refreshes the state where the stages say so.

    Args:
      plan: with the stages.
      progress: after any number of tells; it is returned as it is if it is ready.

    Returns: the search, ready for `ask` and `tell`.
    """
    if progress.ready:
        return progress
    (state, tells, _), first = progress, 0
    for end, every in plan.stages:
        if tells < end:
            if tells == first:
                state = plan.search.grow(state, end + plan.ahead)
            if (tells - first) % every == 0:
                state = apply(plan.search.refresh, state)
            break
        first = end
    return SearchProgress(state, tells, True)


def tell_all(
    plan: Plan,
    progress: SearchProgress,
    tells: Sequence[Tell],
    scales: Mapping[str, Scale],
) -> SearchProgress:
    """Calls `tell` for the rest of the history.

    Args:
      plan: of the search.
      progress: the search after the first `progress.tells` of `tells`.
      tells: the whole history.
      scales: of the scores and of objectives by name, as in `Record`, the same for all
        tells so far.

    Returns: the search after all tells, ready to ask.
    Raises: `ValueError` for a learning curve that is longer than `plan.points`.
    """
    for tell in tells[progress.tells :]:
        progress = prepare_next(plan, progress)
        query, result = tell.query, _result(tell, scales, plan)
        state = apply(plan.search.tell, progress.state, query, result)
        progress = SearchProgress(state, progress.tells + 1, False)
    return prepare_next(plan, progress)


def ask(plan: Plan, progress: SearchProgress, record: Record) -> Query:
    """Asks the next query.

    Args:
      plan: of the search.
      progress: the search, ready to ask.
      record: gives the number of the query, and the queries in flight, which the search
        takes into account without their scores (`Search.expect`).

    Returns: the query, as NumPy arrays.
    """
    step = np.int32(len(record.asks))
    flight = in_flight(record, plan.ahead + 1) if plan.ahead else None
    functions = plan.search.ask, plan.search.expect
    query = _ask(*functions, plan.key_run, step, progress.state, flight)
    return jax.tree.map(np.asarray, query)


@jax.jit
def _ask(
    ask: Callable,
    expect: Callable,
    key: Array,
    step: Array | np.integer,
    state: State,
    flight: Query | None,
) -> Query:
    """Asks query number `step` (), given the queries in flight, if any."""
    if flight is not None:
        state = expect(state, flight)
    # As in `loop.run`, which does not use the second key.
    return ask(jax.random.split(jax.random.fold_in(key, step))[0], state)


def in_flight(record: Record, size: int) -> Query:
    """Puts the open queries, of one slot each, into one query of `size` slots.

    Args:
      record: with the open queries.
      size: largest number of queries in flight. Each has the slot of its lane; the other
        slots are idle.
    """
    width, seeded = len(record.space.choices), False
    if record.asks:
        seeded = record.asks[-1].seed is not None
    columns = np.zeros((3, size), np.int32)
    arch = np.zeros((size, width), np.int32)
    together = numpy_query(arch, *columns[: 3 if seeded else 2])
    for step, lane in record.open.items():
        leaves = map(jax.tree.leaves, (together, record.asks[step]))
        for column, value in zip(*leaves, strict=True):
            column[lane] = value[0]
    return together


def _result(tell: Tell, scales: Mapping[str, Scale], plan: Plan) -> Result:
    """Makes the result that `tell` receives.

    Args:
      tell: query and evaluations.
      scales: of the scores and curves, and of objectives.
      plan: with the length of the curves, which are padded with NaN, and the objectives.

    Returns: a result of NumPy arrays, floats of JAX's default width.
    """
    slots = np.flatnonzero(np.asarray(asked(tell.query)))
    num, dtype = len(tell.query.epoch), jnp.zeros(0).dtype
    score, cost = np.full(num, np.nan), np.zeros(num)
    points = plan.points or max([1, *(len(e.curve) for e in tell.done)])
    curve = np.full((num, points), np.nan)
    for slot, e in zip(slots, tell.done, strict=True):
        score[slot], cost[slot] = e.score, e.cost
        values = (e.curve or (e.score,)) if points > 1 else (e.score,)
        require_curve_length(e, points)
        curve[slot, : len(values)] = values
    parts: list[Any] = [
        on_scale(x, scales.get("")).astype(dtype) for x in (score, curve)
    ]
    parts.append(cost.astype(dtype))
    if plan.objectives:
        several = _objective_scores(tell, plan.objectives, scales)
        parts.append(several.astype(dtype))
    return Result(*parts)


def _objective_scores(
    tell: Tell, objectives: tuple[Objective, ...], scales: Mapping[str, Scale]
) -> np.ndarray:
    """Scores (b, m) of the named objectives; NaN in idle slots and where missing."""
    scores = np.full((len(tell.query.epoch), len(objectives)), np.nan)
    slots = np.flatnonzero(np.asarray(asked(tell.query)))
    scores[slots] = scores_of(tell.done, objectives)
    columns = zip(objectives, scores.T, strict=True)
    return np.stack([on_scale(x, scales.get(o.name)) for o, x in columns], 1)


def require_curve_lengths(record: Record, points: int) -> None:
    """Raises `ValueError` for the first evaluation so far whose curve is too long.

    Args:
      record: with evaluations, such as an earlier call with more `points` recorded.
      points: as in `Plan`.
    """
    open_results = (e for done in record.results.values() for e in done.values())
    for evaluation in (*all_done(record.tells), *open_results):
        require_curve_length(evaluation, points)


def require_curve_length(evaluation: Evaluation, points: int) -> None:
    """Raises `ValueError` for a curve that is longer than `points`.

    Args:
      evaluation: with its curve.
      points: as in `Plan`; with 0 any length fits, with 1 `tell` receives no curve.
    """
    if 1 < points < len(evaluation.curve):
        raise ValueError(
            f"the curve of {evaluation.arch} has {len(evaluation.curve)} values: wanted at "
            f"most points = {points}"
        )
