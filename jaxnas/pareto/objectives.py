"""Named objectives with directions and bounds, and their values as scores.

Values are what people read: milliseconds, percent. Scores are what the library compares:
higher is better, NaN is missing. Both are arrays (..., m) in the order of the objectives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array, Direction, Target, as_score


class Objective(NamedTuple):
    """A quantity with a direction, a bound, or both.

    Objective("accuracy", "percent")
    Objective("latency", "milliseconds", "minimise", bound=20.0)
    Objective("parameters", "millions", "minimise", bound=1.5, optimised=False)
    """

    name: str
    unit: str = "1"  # "1" for a number without a unit
    direction: Direction = "maximise"
    # The worst value that is feasible: the largest one if the objective is minimised.
    bound: float | None = None
    optimised: bool = True  # False: only the bound matters

    @property
    def target(self) -> Target:
        """The quantity without its bound."""
        return Target(self.name, self.unit, self.direction)


def validate_objectives(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Checks the objectives of a search or a benchmark.

    Args:
      objectives: in the order of the values.

    Returns: the objectives.
    Raises: `ValueError` for two of one name, for a wrong direction or an empty name, for
      a bound that is not finite, for an objective that is neither optimised nor bounded,
      and unless one is optimised.
    """
    objectives = tuple(objectives)
    for objective in objectives:
        if not isinstance(objective, Objective):
            raise ValueError(f"an objective must be an Objective, not {objective!r}")
        objective.target.validated()
        name, bound = objective.name, objective.bound
        if bound is not None and not math.isfinite(bound):
            raise ValueError(f"the bound of {name} must be finite, not {bound}")
        if bound is None and not objective.optimised:
            raise ValueError(f"{name} is neither optimised nor bounded")
    names = [objective.name for objective in objectives]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the objective {name} is given {names.count(name)} times")
    if not any(objective.optimised for objective in objectives):
        given = ", ".join(names) or "none"
        raise ValueError(f"at least one objective must be optimised, found {given}")
    return objectives


def as_scores(objectives: Sequence[Objective], values: Array | np.ndarray) -> Array:
    """Converts values (..., m) to scores: higher is better."""
    columns = jnp.moveaxis(jnp.asarray(values), -1, 0)
    pairs = zip(objectives, columns, strict=True)
    return jnp.stack([as_score(o.target, column) for o, column in pairs], -1)


def as_values(objectives: Sequence[Objective], scores: Array | np.ndarray) -> Array:
    """Converts scores (..., m) to values, for display; inverse of `as_scores`."""
    return as_scores(objectives, scores)


def score_bounds(objectives: Sequence[Objective]) -> np.ndarray:
    """The smallest feasible score of each objective, (m,); -inf without a bound."""
    bounds = [
        -math.inf if o.bound is None else as_score(o.target, float(o.bound))
        for o in objectives
    ]
    return np.array(bounds)


def optimised(objectives: Sequence[Objective]) -> np.ndarray:
    """Indices of the objectives that are optimised, ascending."""
    return np.flatnonzero([objective.optimised for objective in objectives])


def violation(scores: Array, bounds: Array | np.ndarray) -> Array:
    """Measures how far scores are beyond the bounds, each relative to its bound.

    Args:
      scores: (..., m); a value that is missing violates its bound infinitely.
      bounds: (m,) as from `score_bounds`.

    Returns: (...), the sum over the objectives; 0 for feasible points.
    """
    bounds = jnp.asarray(bounds, jnp.asarray(scores).dtype)
    bounded = jnp.isfinite(bounds)
    unit = jnp.where(bounded & (bounds != 0), jnp.abs(bounds), 1.0)
    excess = jnp.maximum(bounds - scores, 0.0) / unit
    excess = jnp.where(jnp.isnan(scores), jnp.inf, excess)
    return jnp.where(bounded, excess, 0.0).sum(-1)
