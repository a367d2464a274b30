"""The order of evaluations by several objectives and bounds, for evolutionary searches."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from jaxnas.pareto.dominance import constrained_rank, crowding_distance
from jaxnas.pareto.objectives import (
    Objective,
    optimised,
    score_bounds,
    violation,
)
from jaxnas.types import Array, Result


def preference(
    objectives: Sequence[Objective], scores: Array, valid: Array | None = None
) -> Array:
    """Orders evaluations as NSGA-II does: by bounds, front, and crowding.

    Feasible evaluations come first, front by front, and within a front those with the
    most room around them; infeasible ones follow by their violation. An objective that is
    missing counts as the worst, and a bounded one as infinitely infeasible.

    Args:
      objectives: of the scores, validated.
      scores: (n, m), NaN where missing.
      valid: (n,) bool, rows that count; the others come last. Default: all.

    Returns: (n,) int32, the position of each evaluation, from 0, the best.
    """
    beyond = violation(scores, score_bounds(objectives))
    goals = scores[:, optimised(objectives)]
    rank = constrained_rank(goals, beyond, valid)
    order = jnp.lexsort((-crowding_distance(goals, rank), rank))
    return jnp.zeros(len(rank), jnp.int32).at[order].set(jnp.arange(len(rank)))


def require_scores(objectives: Sequence[Objective], result: Result) -> Array:
    """The scores (b, m) of a result.

    Raises: `ValueError` for a result of other objectives than those of the search.
    """
    scores = result.objectives
    given = "one score" if scores is None else f"{scores.shape[-1]} objectives"
    if scores is None or scores.shape[-1] != len(objectives):
        names = ", ".join(objective.name for objective in objectives)
        raise ValueError(
            f"the search has the objectives {names}, and its results have {given}"
        )
    return scores
