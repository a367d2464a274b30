"""Posteriors of several objectives over every architecture of a pool.

Each objective has a posterior of its own, see `predictors.pool_gp`. An evaluation that
lacks an objective is an observation of the others; one that lacks all of them has failed,
and counts as the worst so far in each.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxnas.predictors import pool_gp
from jaxnas.predictors.pool import Pool
from jaxnas.predictors.pool_gp import PoolGPState
from jaxnas.types import Array

# One pool for each objective, of the same architectures.
Pools = tuple[Pool, ...]


class ObjectivesState(NamedTuple):
    """The evaluations, in order, and a posterior for each of m objectives."""

    index: Array  # (t,) int32, pool indices
    score: Array  # (t, m), NaN where missing
    count: Array  # () int32, of evaluations and of what is expected
    expected: Array  # () int32, the last of them, which are in flight
    seen: Array  # (n,) bool, architectures that were evaluated or are expected
    models: tuple[PoolGPState, ...]  # m, each with the evaluations that have it


def empty(pools: Pools, size: int) -> ObjectivesState:
    """Returns the prior of all objectives.

    Args:
      pools: of the objectives, which hold the same architectures.
      size: evaluations that there is room for.
    """
    models = tuple(pool_gp.empty(pool, size) for pool in pools)
    first = models[0]
    scores = jnp.full((size, len(pools)), jnp.nan, first.score.dtype)
    return ObjectivesState(
        first.index, scores, first.count, first.expected, first.seen, models
    )


def grow(state: ObjectivesState, size: int) -> ObjectivesState:
    """Pads the arrays of a state.

    Args:
      state: of any capacity.
      size: evaluations that there is room for afterwards, at least.
    """
    more = max(0, size - len(state.index))
    return state._replace(
        index=jnp.pad(state.index, (0, more)),
        score=jnp.pad(state.score, ((0, more), (0, 0)), constant_values=jnp.nan),
        models=tuple(pool_gp.grow(model, size) for model in state.models),
    )


def refit(pools: Pools, state: ObjectivesState) -> ObjectivesState:
    """Fits standardisation and hyperparameters of every objective anew.

    Takes O(t^3) for each objective, see `pool_gp.refit`. No score is clipped: how bad the
    worst ones are counts towards the hypervolume.
    """
    pairs = zip(pools, state.models, strict=True)
    fitted = tuple(pool_gp.refit(pool, model, jnp.inf) for pool, model in pairs)
    return state._replace(models=fitted)


def _append(
    state: ObjectivesState, index: Array, scores: Array, active: Array
) -> ObjectivesState:
    """Appends scores (m,) of one architecture to the history alone."""
    row = jnp.where(active, state.count, len(state.index))  # out of bounds: dropped
    seen = jnp.where(active, index, len(state.seen))
    return state._replace(
        index=state.index.at[row].set(index, mode="drop"),
        score=state.score.at[row].set(scores.astype(state.score.dtype), mode="drop"),
        count=state.count + active,
        seen=state.seen.at[seen].set(True, mode="drop"),
    )


def observe(
    pools: Pools,
    state: ObjectivesState,
    index: Array,
    scores: Array,
    fitted: Array,
    active: Array,
) -> ObjectivesState:
    """Appends an evaluation, and conditions the objectives that it has.

    Args:
      pools: of the objectives.
      state: with room for one more evaluation.
      index: () int32, pool index of the architecture.
      scores: (m,), NaN where missing.
      fitted: () bool, whether hyperparameters have been fitted; see `pool_gp.condition`.
      active: () bool; False for an idle slot, which changes nothing.
    """
    missing = jnp.isnan(scores)
    used = active & (~missing | missing.all())
    models = []
    for j, (pool, model) in enumerate(zip(pools, state.models, strict=True)):
        model = pool_gp.append(pool, model, index, scores[j], used[j])
        models.append(pool_gp.condition(pool, model, fitted, used[j]))
    return _append(state, index, scores, active)._replace(models=tuple(models))


def expect(
    pools: Pools, state: ObjectivesState, index: Array, fitted: Array, active: Array
) -> ObjectivesState:
    """Conditions every objective on its posterior mean at an architecture in flight.

    The kriging believer (Ginsbourger et al., 2010). The means also enter the history, so
    that what is in flight counts as a point of the front.

    Args:
      pools: of the objectives.
      state: with room for one more evaluation.
      index: () int32, pool index of the architecture.
      fitted: () bool, as for `observe`.
      active: () bool, as for `observe`.
    """
    believed, models = [], []
    for pool, model in zip(pools, state.models, strict=True):
        centre, unit = model.standardisation.mean, model.standardisation.std
        mean = model.mean[pool.embeddings.column[index]]
        believed.append(centre + unit * mean)
        models.append(pool_gp.expect(pool, model, index, fitted, active))
    state = _append(state, index, jnp.stack(believed), active)
    return state._replace(models=tuple(models), expected=state.expected + active)


def of_candidates(pool: Pool, model: PoolGPState) -> tuple[Array, Array]:
    """Mean (n,) and standard deviation (n,) of an evaluation of every architecture.

    Of the evaluation, not of the latent function: fronts are made of evaluations, and what
    a model takes for noise may be the architecture's own.
    """
    mean, std = pool_gp.marginal_posterior(model)
    std = jnp.sqrt(std**2 + model.hyper.noise * model.hyper.amplitude)
    return mean[pool.embeddings.column], std[pool.embeddings.column]
