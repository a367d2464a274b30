"""The scale of the scores that a search sees, where single precision would lose them.

The history, and the incumbent in it, are double precision on the host, but a search
computes in float32. Ordinary scores, such as accuracies, are unchanged. Scores whose
differences are small relative to their size (losses near 1e6, say), or that are very large
or small, are shifted by their median, divided by a power of two, or both. Each of several
objectives has a scale of its own; one with a bound, which a search knows in its own
units, keeps its values, and those that float32 cannot distinguish are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from jaxnas.pareto.objectives import Objective
from jaxnas.search.drive.history import MAX_SCORE, Evaluation, Scale
from jaxnas.search.drive.objective_scores import scores_of

UNSCALED = Scale(0.0, 1.0)
# Scores keep their scale while their median deviation from the median is at least 2^-16
# of the median (256 float32 steps) and between 2^-20 and 2^20.
_STEPS, _SIZE = 2.0**-16, 2.0**20
_ENOUGH = 3  # scores that differ from the median, below which no scale is chosen


def on_scale(scores: np.ndarray, scale: Scale | None) -> np.ndarray:
    """Scores on a scale, in double precision; None leaves them unscaled."""
    shift, size, _ = UNSCALED if scale is None else scale
    return np.clip((scores - shift) / size, -MAX_SCORE, MAX_SCORE)


def changed_scales(
    done: Sequence[Evaluation],
    objectives: Sequence[Objective],
    scales: Mapping[str, Scale],
) -> list[Scale]:
    """Chooses the scales of the score and of the objectives that do not fit any more.

    Args:
      done: all evaluations so far.
      objectives: of a search for several.
      scales: the present ones, by objective; "" is that of the score.

    Raises: `ValueError` for an objective with a bound whose values differ by less than
      the floats of the search distinguish.
    """
    columns = {"": [e.score for e in done]}
    for objective, scores in zip(
        objectives, scores_of(done, objectives).T, strict=True
    ):
        if objective.bound is None:
            columns[objective.name] = scores.tolist()
        else:
            _require_distinct(objective, scores.tolist())
    now = {
        name: scales.get(name, UNSCALED._replace(objective=name)) for name in columns
    }
    new = {name: fitting_scale(column, now[name]) for name, column in columns.items()}
    return [scale for name, scale in new.items() if scale != now[name]]


def _require_distinct(objective: Objective, scores: Sequence[float]) -> None:
    """Raises `ValueError` for scores of a bounded objective that rounding makes equal."""
    median, deviation = _median_and_deviation(scores)
    dtype = jnp.zeros(0).dtype
    if deviation is not None and deviation < abs(median) * 2 * jnp.finfo(dtype).eps:
        raise ValueError(
            f"values of {objective.name} near {abs(median):g} differ by {deviation:g}, "
            f"which {dtype} does not distinguish: subtract a constant from them and from "
            "the bound"
        )


def _median_and_deviation(scores: Sequence[float]) -> tuple[float, float | None]:
    """The median of finite scores, and the median deviation from it.

    Returns: None as deviation where too few scores differ from the median.
    """
    finite = sorted(x for x in scores if math.isfinite(x))
    if len(finite) <= _ENOUGH:
        return 0.0, None
    median = finite[(len(finite) - 1) // 2]
    deviations = sorted(abs(x - median) for x in finite if x != median)
    if len(deviations) < _ENOUGH:
        return median, None
    return median, deviations[(len(deviations) - 1) // 2]


def fitting_scale(scores: Sequence[float], now: Scale) -> Scale:
    """Chooses a scale on which single precision distinguishes scores.

    Args:
      scores: all scores so far, NaN for failed evaluations.
      now: the present scale.

    Returns: `now` while it fits, or while there are too few scores; else the first
      that fits of: unscaled, divided, shifted, shifted and divided.
    """
    median, deviation = _median_and_deviation(scores)
    if deviation is None:
        return now

    def fits(scale: Scale) -> bool:
        centre = abs(median - scale.shift) / scale.size
        typical = deviation / scale.size
        return centre * _STEPS <= typical and 1 / _SIZE <= typical <= _SIZE

    size = math.ldexp(1.0, math.frexp(deviation)[1])
    for shift in (0.0, median):
        for unit in (1.0, size):
            scale = Scale(shift, unit, now.objective)
            if fits(now) or fits(scale):
                return now if fits(now) else scale
    return now
