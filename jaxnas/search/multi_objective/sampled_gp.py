"""Posteriors of several objectives at arbitrary candidates, given a history.

Every objective has hyperparameters of its own, and all share the distances: these are the
larger part of the work. An evaluation that lacks an objective is an observation of the
others; one that lacks all of them has failed, and counts as the worst so far in each.

Shapes: t is the capacity of the history, m the number of objectives, q that of candidates;
embeddings are `Points` of `gp.sampled_gp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import gp
from jaxnas.kernels import gram
from jaxnas.pareto.objectives import Objective
from jaxnas.search.common import append_slots, filled
from jaxnas.search.gp import sampled_gp
from jaxnas.search.gp.sampled_gp import Points
from jaxnas.search.multi_objective.ordering import preference
from jaxnas.types import Array, Query, asked


class SampledObjectivesState(NamedTuple):
    """The evaluations, in order, and the hyperparameters of m objectives."""

    arch: Array  # (t, d) int32
    identity: Array  # (t, 2) uint32
    points: Points  # (f_j, t)
    objectives: Array  # (t, m), NaN where missing
    score: Array  # (t,) minus the position by `preference`: 0 is the best
    count: Array  # () int32, of evaluations, and of those expected
    fitted: Array  # () bool, whether there has been a fit
    hyper: gp.Hyperparameters  # (m, ...)
    standardisation: gp.Standardisation  # (m,)


def empty(
    arch: Array, points: Points, prior: gp.HyperparameterPrior, num: int
) -> SampledObjectivesState:
    """Returns the prior, with a history of capacity 0.

    Args:
      arch: (0, d) int32, for the length of an architecture.
      points: (f_j, 0), for the coordinates of each part.
      prior: of the hyperparameters, for their number and precision.
      num: m, objectives.
    """
    one = sampled_gp.empty(arch, points, prior)
    hyper, standardisation = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (num, *x.shape)), (one.hyper, one.standardisation)
    )
    none = jnp.zeros((0, num), one.score.dtype)
    shared = one.arch, one.identity, points, none, one.score, one.count, one.fitted
    return SampledObjectivesState(*shared, hyper, standardisation)


def grow(state: SampledObjectivesState, size: int) -> SampledObjectivesState:
    """Pads the arrays of a state to a capacity of at least `size` evaluations."""
    more = max(0, size - len(state.score))
    rows = ((0, more), (0, 0))
    return state._replace(
        arch=jnp.pad(state.arch, rows),
        identity=jnp.pad(state.identity, rows),
        points=tuple(jnp.pad(part, rows[::-1]) for part in state.points),
        objectives=jnp.pad(state.objectives, rows, constant_values=jnp.nan),
        score=jnp.pad(state.score, rows[0], constant_values=-jnp.inf),
    )


def append(
    objectives: Sequence[Objective],
    state: SampledObjectivesState,
    query: Query,
    ids: Array,
    points: Points,
    scores: Array,
) -> SampledObjectivesState:
    """Appends the slots of a query that are not idle to the history.

    Args:
      objectives: of the scores.
      state: with room for them.
      query: of b slots.
      ids: (b, 2) uint32 identities of the query's architectures.
      points: (f_j, b) their embeddings.
      scores: (b, m), NaN where missing.
    """
    active = asked(query)
    rows = append_slots(state.count, active, len(state.score))
    put = lambda old, new: old.at[rows].set(new.astype(old.dtype), mode="drop")  # noqa: E731
    both = zip(state.points, points, strict=True)
    new = state._replace(
        arch=put(state.arch, query.arch),
        identity=put(state.identity, ids),
        points=tuple(put(old.T, part.T).T for old, part in both),
        objectives=put(state.objectives, scores),
        count=state.count + active.sum(dtype=jnp.int32),
    )
    position = preference(objectives, new.objectives, filled(new))
    return new._replace(score=-position.astype(state.score.dtype))


def observations(state: SampledObjectivesState) -> tuple[Array, Array]:
    """Standardised targets (m, t), and which rows (m, t) bool an objective observes."""
    missing = jnp.isnan(state.objectives)
    failed = missing.all(1, keepdims=True)
    seen = (filled(state)[:, None] & (~missing | failed)).T
    target = jax.vmap(gp.standardise)(state.standardisation, state.objectives.T)
    return jnp.where(seen, target, 0.0), seen


def posteriors_at(state: SampledObjectivesState, points: Points) -> tuple[Array, Array]:
    """Computes the posterior of an evaluation of candidates, in standardised units.

    Of the evaluation, not of the latent function, as in `posteriors.of_candidates`.

    Args:
      state: the history.
      points: (f_j, q) embeddings of candidates.

    Returns: means (m, q) and standard deviations (m, q).
    """
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), state.points, points)
    parts = sampled_gp.distances(state.points, joined)
    target, seen = observations(state)

    def one(
        hyper: gp.Hyperparameters, target: Array, seen: Array
    ) -> tuple[Array, Array]:
        mean, white = sampled_gp.condition(parts, hyper, target, seen)
        left = jnp.maximum(1 - jnp.sum(white**2, axis=0), 0.0)
        return mean, jnp.sqrt(hyper.amplitude * (left + hyper.noise))

    return jax.vmap(one)(state.hyper, target, seen)


def refit(
    prior: gp.HyperparameterPrior, state: SampledObjectivesState
) -> SampledObjectivesState:
    """Fits standardisation and hyperparameters of every objective to the history.

    Args:
      prior: of the hyperparameters.
      state: the history.
    """
    seen = observations(state)[1]
    fitted = jax.vmap(gp.fit_standardisation)(state.objectives.T, seen)
    new = state._replace(standardisation=fitted)
    parts = sampled_gp.distances(state.points, state.points)

    def one(target: Array, seen: Array) -> gp.Hyperparameters:
        return gp.fit(gram.laplace, parts, target, seen, prior)

    new = new._replace(hyper=jax.vmap(one)(*observations(new)), fitted=jnp.bool_(True))
    # The fit may promote: keep the precision of the prior.
    return jax.tree.map(lambda x, old: x.astype(old.dtype), new, state)
