"""Acquisitions for several objectives, from an independent posterior for each.

An acquisition ranks candidates by what they add to the front. Bounds enter in two ways,
both exact for independent posteriors: an objective that is optimised and bounded has its
bound as reference, so that what violates it adds nothing; and the utility is multiplied by
the probability that the other bounds hold (Gardner et al., 2014).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.pareto import improvement
from jaxnas.pareto.objectives import Objective, optimised
from jaxnas.types import Array


class Front(NamedTuple):
    """The evaluations that an acquisition compares candidates with."""

    scores: Array  # (t, g), of the g objectives that are optimised
    valid: Array  # (t,) bool, rows that are feasible and lack nothing
    reference: Array  # (g,)


# Acquire = (key, mean (g, u), std (g, u), Front) -> utility (u,), at least 0.
Acquire = Callable[[Array, Array, Array, Front], Array]


def expected_improvement(key: Array, mean: Array, std: Array, front: Front) -> Array:
    """Exact expected hypervolume improvement, of one or two objectives."""
    del key
    return improvement.expected_hypervolume_improvement(
        mean, std, front.scores, front.reference, front.valid
    )


def confidence_bound(beta: float = 1.0) -> Acquire:
    """Makes the hypervolume improvement of the upper confidence bound.

    The improvement of mean + sqrt(beta) std, of one or two objectives: optimism in each
    objective, as in `jaxnas.acquisition.confidence_bound` (Srinivas et al., 2010). It
    explores for longer than the expected improvement.

    Args:
      beta: squared weight of the standard deviation.

    Raises: `ValueError` for a negative beta.
    """
    weight = _weight(beta)

    def acquire(key: Array, mean: Array, std: Array, front: Front) -> Array:
        del key
        return improvement.hypervolume_improvement(
            mean + weight * std, front.scores, front.reference, front.valid
        )

    return acquire


def _weight(beta: float) -> float:
    """The weight sqrt(beta) of a standard deviation; `ValueError` for a negative beta."""
    if not beta >= 0:
        raise ValueError(f"beta must not be negative, not {beta}")
    return math.sqrt(beta)


def random_scalarisation(beta: float = 2.25) -> Acquire:
    """Makes the upper confidence bound of a random scalarisation in each step.

    The improvement of s(mean + sqrt(beta) std) on the best evaluation by the hypervolume
    scalarisation s of a random direction (Zhang and Golovin, 2020, algorithm 1), for any
    number of objectives. Where no candidate improves on the best, the bounds are ranked
    below any improvement.

    Args:
      beta: squared weight of the standard deviation.

    Raises: `ValueError` for a negative beta.
    """
    weight = _weight(beta)

    def acquire(key: Array, mean: Array, std: Array, front: Front) -> Array:
        bound = mean + weight * std
        value, _ = improvement.hypervolume_scalarisation(key, bound, front.reference)
        seen = improvement.hypervolume_scalarisation(
            key, front.scores.T, front.reference
        )[0]
        best = jnp.where(front.valid, seen, 0.0).max(initial=0.0)
        return jnp.maximum(value - best, 0.0) + 1e-6 * value

    return acquire


def default_acquire(objectives: Sequence[Objective]) -> Acquire:
    """Expected improvement of up to two objectives, random scalarisations of more."""
    few = len(optimised(objectives)) <= 2
    return expected_improvement if few else random_scalarisation()


def utility(
    acquire: Acquire,
    objectives: Sequence[Objective],
    key: Array,
    posterior: tuple[Array, Array],
    scores: Array,
    bounds: Array,
) -> Array:
    """Ranks candidates by an acquisition, under bounds.

    Before an evaluation is feasible, by the probability that all bounds hold alone.

    Args:
      acquire: of the objectives that are optimised.
      objectives: m of them.
      key: of the acquisition.
      posterior: mean (m, u) and standard deviation (m, u) of u candidates.
      scores: (t, m) evaluations, in the unit of the posterior; NaN where missing.
      bounds: (m,) smallest feasible scores, -inf without a bound.

    Returns: (u,), at least 0.
    """
    goals, (mean, std) = optimised(objectives), posterior
    bounded = np.array([o.bound is not None for o in objectives])
    only_bounds = bounded & ~np.isin(np.arange(len(objectives)), goals)
    valid = (scores >= bounds)[:, bounded].all(1) & ~jnp.isnan(scores[:, goals]).any(1)
    front = scores[:, goals]
    # What is feasible counts, and nothing else: a bound is the reference of its objective.
    limit = bounds[goals]
    reference = jnp.where(jnp.isfinite(limit), limit, observed_reference(front))
    gain = acquire(key, mean[goals], std[goals], Front(front, valid, reference))
    if not bounded.any():
        return gain
    holds = jax.scipy.stats.norm.cdf((mean - bounds[:, None]) / jnp.maximum(std, 1e-9))
    under_bounds = gain * holds[only_bounds].prod(0)
    return jnp.where(valid.any(), under_bounds, holds[bounded].prod(0))


def observed_reference(scores: Array) -> Array:
    """The reference point (g,), a tenth of the range beyond the worst evaluation.

    The worst of all evaluations, not that of their front: the ends of a front that is
    still short would otherwise be worth next to nothing.

    Args:
      scores: (t, g), NaN where missing and in rows that are not filled.
    """
    worst, best = jnp.nanmin(scores, axis=0), jnp.nanmax(scores, axis=0)
    reference = worst - 0.1 * (best - worst)
    return jnp.where(jnp.isnan(reference), 0.0, reference)
