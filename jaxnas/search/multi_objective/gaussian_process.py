"""Bayesian optimisation of several objectives over a candidate pool.

Every objective has a posterior of its own over the pool, see `posteriors`, and may have a
distance of its own: accuracy depends on the function of a network, latency on its
operations.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas import acquisition
from jaxnas.pareto.objectives import Objective, score_bounds, validate_objectives
from jaxnas.predictors.pool import Pool
from jaxnas.search.base import Search, Stage
from jaxnas.search.common import require_rules, train_from_scratch
from jaxnas.search.gp import pool_search
from jaxnas.search.gp import schedule as schedules
from jaxnas.search.gp.schedule import Schedule
from jaxnas.search.multi_objective import acquire as acquisitions
from jaxnas.search.multi_objective import batches, posteriors
from jaxnas.search.multi_objective.acquire import Acquire
from jaxnas.search.multi_objective.ordering import require_scores
from jaxnas.search.multi_objective.posteriors import ObjectivesState, Pools
from jaxnas.types import FULL_TRAINING, Array, Query, Result


def bayesopt(
    pool: Pool | Sequence[Pool],
    objectives: Sequence[Objective],
    *,
    init: int = 10,
    batch: int = 1,
    acquire: Acquire | None = None,
    select: batches.Select = batches.kriging_believer,
    capacity: int | None = None,
    epoch: int | None = None,
) -> Search:
    """Gaussian-process search for the front of several objectives.

    Args:
      pool: the candidate pool, from `make_pool`; or one for each objective, of the same
        architectures with other distances.
      objectives: of the results, in their order.
      init: evaluations of uniformly random architectures at the start, at least 2; the
        last step of them is a whole batch.
      batch: architectures in each step.
      acquire: utility of a candidate, see `acquire`. Default: the exact expected
        hypervolume improvement of two objectives, the expected improvement of one under
        bounds, and random scalarisations of more.
      select: how a batch is chosen, see `batches`. Default: one after another, each as
        if those before it had their posterior means.
      capacity: evaluations that there is room for, as for `gp.pool_search.bayesopt`.
      epoch: the epoch to which each architecture is trained; default: the last one.

    Raises: `ValueError` for objectives that `validate_objectives` refuses, for pools of
      different architectures, for sizes that do not fit the pool, and for rules that
      cannot be called, such as `batches.kdpp` in place of `batches.kdpp()`.
    """
    objectives = validate_objectives(objectives)
    pools = _one_for_each(pool, objectives)
    epoch = FULL_TRAINING if epoch is None else epoch
    num = len(pools[0].arch)
    pool_search.validate_sizes(num, init, batch, capacity, epoch)
    rule = acquisitions.default_acquire(objectives) if acquire is None else acquire
    require_rules(4, acquire=rule)
    require_rules(5, select=select)
    schedule = schedules.make_schedule(init, batch, capacity)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        return schedules.stages(schedule, num_steps, num, "the pool")

    def initial(pools: Pools, key: Array) -> ObjectivesState:
        del key
        return posteriors.empty(pools, capacity or 0)

    def ask(pools: Pools, key: Array, state: ObjectivesState) -> Query:
        key_learned, key_random = jax.random.split(key)

        def random() -> Array:
            lots = jnp.where(state.seen, -jnp.inf, 0.0)
            return acquisition.top(key_random, lots, batch)

        def learned() -> Array:
            utility = functools.partial(_utility, objectives, rule, pools)
            return batches.select(select, utility, pools, key_learned, state, batch)

        fitted = _is_fitted(schedule, state)
        chosen = schedules.random_or_learned(schedule, state, fitted, random, learned)
        return train_from_scratch(pools[0].arch[chosen], epoch)

    def tell(
        pools: Pools, state: ObjectivesState, query: Query, result: Result
    ) -> ObjectivesState:
        scores = require_scores(objectives, result)
        index, active = pool_search.slots(pools[0], query)

        def one(i: Array | int, state: ObjectivesState) -> ObjectivesState:
            fitted = state.count + active[i] > schedule.num_random
            slot = index[i], scores[i], fitted, active[i]
            return posteriors.observe(pools, state, *slot)

        return pool_search.for_each_slot(one, len(index), state)

    def expect(pools: Pools, state: ObjectivesState, query: Query) -> ObjectivesState:
        index, active = pool_search.slots(pools[0], query)
        fitted = _is_fitted(schedule, state)

        def one(i: Array | int, state: ObjectivesState) -> ObjectivesState:
            return posteriors.expect(pools, state, index[i], fitted, active[i])

        return pool_search.for_each_slot(one, len(index), state)

    def grow(pools: Pools, state: ObjectivesState, end: int) -> ObjectivesState:
        del pools
        return schedules.grow(schedule, posteriors.grow, state, end)

    def refresh(pools: Pools, state: ObjectivesState) -> ObjectivesState:
        refit = functools.partial(posteriors.refit, pools)
        return schedules.refresh(schedule, refit, state)

    def accepts(pools: Pools, arch: Array) -> Array:
        return pool_search.accepts(pools[0], arch)

    functions = (initial, ask, tell, grow, refresh, expect, accepts)
    return Search(
        *(Partial(f, pools) for f in functions),
        candidates=pools[0].arch,
        stages=stages,
        space=pools[0].space,
        objectives=objectives,
    )


def _one_for_each(
    pool: Pool | Sequence[Pool], objectives: Sequence[Objective]
) -> Pools:
    """A pool for each objective; `ValueError` if they do not fit together."""
    if isinstance(pool, Pool):
        return (pool,) * len(objectives)
    if len(pool) != len(objectives):
        raise ValueError(f"{len(objectives)} objectives have {len(pool)} pools")
    for other in pool[1:]:
        if not np.array_equal(other.arch, pool[0].arch):
            raise ValueError("the pools of the objectives hold different architectures")
    return tuple(pool)


def _is_fitted(schedule: Schedule, state: ObjectivesState) -> Array:
    """Whether all random evaluations are finished, none in flight, () bool."""
    return state.count - state.expected >= schedule.num_random


def _utility(
    objectives: tuple[Objective, ...],
    acquire: Acquire,
    pools: Pools,
    key: Array,
    state: ObjectivesState,
) -> Array:
    """Utility (n,) of every architecture of the pool; -inf where it is seen."""
    pairs = zip(pools, state.models, strict=True)
    parts = [posteriors.of_candidates(pool, model) for pool, model in pairs]
    mean, std = (jnp.stack(part) for part in zip(*parts, strict=True))
    centre = jnp.stack([m.standardisation.mean for m in state.models])
    unit = jnp.stack([m.standardisation.std for m in state.models])
    scores = (state.score - centre) / unit
    bounds = (jnp.asarray(score_bounds(objectives), unit.dtype) - centre) / unit
    value = acquisitions.utility(acquire, objectives, key, (mean, std), scores, bounds)
    # NaN counts as the smallest number, above the -inf of what may not be asked.
    value = jnp.fmax(value, jnp.finfo(value.dtype).min)
    return jnp.where(state.seen, -jnp.inf, value)
