"""Objectives that evaluate a whole query at once, as benchmarks do."""

from __future__ import annotations

import inspect
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.pareto.objectives import Objective
from jaxnas.search.drive.history import Evaluation
from jaxnas.search.drive.returned import with_score
from jaxnas.search.drive.workers import (
    EvaluationTask,
    empty_evaluation,
    worker_name,
)
from jaxnas.types import Array, Evaluate, Query, Result, as_value


class BatchObjective(NamedTuple):
    """An objective that evaluates a whole query at once.

    It is the `evaluate` of a benchmark: architectures of a batch are, say, trained side by
    side on one GPU. Slots of the query with `epoch <= start` are idle.
    """

    evaluate: Evaluate  # (key, Query) -> Result


def require_signature(objective: BatchObjective) -> None:
    """Raises `ValueError` unless the objective can be called with a key and a query."""
    try:
        signature = inspect.signature(objective.evaluate)
    except (ValueError, TypeError):  # not every function has a signature
        return
    try:
        signature.bind("key", "query")
    except TypeError as error:
        raise ValueError(
            f"the function of a BatchObjective takes {signature}: wanted (key, query)"
        ) from error


def evaluate_tasks(
    objective: BatchObjective,
    key: Array,
    query: Query,
    tasks: list[EvaluationTask],
    objectives: tuple[Objective, ...] = (),
) -> list[Evaluation]:
    """Evaluates the tasks of one query in one call.

    Args:
      objective: with the function that is called.
      key: () PRNG key of the run, the same for every query of it.
      query: of b slots, as the search asked it.
      tasks: of the slots that are not evaluated yet; the others are made idle.
      objectives: of `Result.objectives`, whose values become metrics of the evaluations.

    Returns: their evaluations, in the order of `tasks`. Each has the time of the whole
      call as its begin and end.
    Raises: `ValueError` for tasks of several steps, and if the function returns something
      other than a `Result` of scores (b,), finite costs (b,) and curves (b, points), and
      objectives (b, m).
    """
    steps = sorted({task.step for task in tasks})
    if len(steps) > 1:
        raise ValueError(f"wanted tasks of one query, not of steps {steps}")
    slots = [task.slot for task in tasks]
    start = np.array(query.epoch)
    start[slots] = query.start[slots]
    begin = time.time()
    result = objective.evaluate(
        key, jax.tree.map(jnp.asarray, query._replace(start=start))
    )
    score, cost, curve = _as_arrays(result)
    end = time.time()
    _require_shapes(score, cost, curve, len(start))
    if not np.isfinite(cost[slots]).all():
        raise ValueError(f"the evaluation returned costs {cost.tolist()}")
    metrics = _values(result.objectives, objectives, len(start))
    evaluations = []
    for task in tasks:
        slot, has_curve = task.slot, curve.shape[1] > 1
        evaluation = empty_evaluation(task)._replace(
            cost=float(cost[slot]),
            curve=tuple(curve[slot].tolist()) if has_curve else (),
            metrics=metrics[slot],
            worker=worker_name(),
            begin=begin,
            end=end,
        )
        evaluations.append(with_score(evaluation, float(score[slot])))
    return evaluations


def _values(
    scores: Any, objectives: tuple[Objective, ...], num: int
) -> list[dict[str, float]]:
    """The values of the objectives of each of `num` slots, by name."""
    if not objectives:
        return [{} for _ in range(num)]
    scores = np.asarray(np.nan if scores is None else scores, float)
    if scores.shape != (num, len(objectives)):
        names = ", ".join(objective.name for objective in objectives)
        raise ValueError(
            f"the evaluation returned objectives {scores.shape}: wanted {num} of {names}"
        )
    pairs = [(o.name, o.target) for o in objectives]
    return [
        {n: float(as_value(t, x)) for (n, t), x in zip(pairs, row, strict=True)}
        for row in scores
    ]


def _as_arrays(result: Any) -> list[np.ndarray]:
    """Scores, costs and curves on the host, in double precision."""
    if not isinstance(result, Result):
        raise ValueError(
            f"the function of a BatchObjective returned {type(result).__name__}: wanted a "
            "Result"
        )
    try:
        return [np.asarray(x, float) for x in (result.score, result.cost, result.curve)]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the function of a BatchObjective returned a Result that does not hold "
            f"numbers: {error}"
        ) from None


def _require_shapes(
    score: np.ndarray, cost: np.ndarray, curve: np.ndarray, num: int
) -> None:
    if score.shape != (num,) or cost.shape != (num,):
        raise ValueError(
            f"the evaluation returned scores {score.shape} and costs {cost.shape}: "
            f"wanted {(num,)} of each"
        )
    if curve.ndim != 2 or len(curve) != num:
        raise ValueError(
            f"the evaluation returned curves {curve.shape}: wanted ({num}, points)"
        )
