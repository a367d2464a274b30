"""Scores of evaluations in several objectives, in double precision on the host.

Used by the reports on a folder and for the results passed to `Search.tell`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jaxnas.pareto.objectives import Objective, score_bounds
from jaxnas.search.drive.history import Evaluation
from jaxnas.types import as_score


def scores_of(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective]
) -> np.ndarray:
    """Scores (n, m) of evaluations; NaN where an objective is missing."""
    values = [
        [e.metrics.get(o.name, math.nan) for o in objectives] for e in evaluations
    ]
    scores = np.array(values, float).reshape(len(evaluations), len(objectives))
    scores = np.where(np.isfinite(scores), scores, np.nan)
    return scores * [as_score(o.target, 1.0) for o in objectives]


def is_feasible(scores: np.ndarray, objectives: Sequence[Objective]) -> np.ndarray:
    """Which of the scores (n, m) are within all bounds, (n,) bool; missing ones are not.

    In double precision, unlike `violation` of a search: a bound is exact.
    """
    bounds = score_bounds(objectives)
    return np.all((scores >= bounds) | np.isneginf(bounds), axis=1)


def violations(scores: np.ndarray, objectives: Sequence[Objective]) -> np.ndarray:
    """How far scores (n, m) are beyond the bounds, (n,), as `pareto.violation`."""
    bounds = score_bounds(objectives)
    bounded = np.isfinite(bounds)
    unit = np.where(bounded & (bounds != 0), np.abs(bounds), 1.0)
    with np.errstate(invalid="ignore"):
        excess = np.maximum(bounds - scores, 0.0) / unit
    excess = np.where(np.isnan(scores), np.inf, excess)
    return np.where(bounded, excess, 0.0).sum(1)
