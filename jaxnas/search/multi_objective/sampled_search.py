"""Bayesian optimisation of several objectives over candidates that are sampled anew.

For spaces that are too large for a pool, as `gp.sampled_search` is for one objective:

    latency = Objective("latency", "milliseconds", "minimise", bound=20.0, optimised=False)
    benchmark = with_objectives(predicted_accuracy_benchmark(), {latency: fitted.predict})
    features = [ordinal_features(benchmark.space, mobilenetv3.PARTS)]
    search = bayesopt_sampled(benchmark.space, features, benchmark.objectives)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas import acquisition, gp
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.pareto.objectives import Objective, score_bounds, validate_objectives
from jaxnas.search.base import Search
from jaxnas.search.common import (
    filled,
    require_rules,
    sample_new,
    train_from_scratch,
)
from jaxnas.search.gp import sampled_search
from jaxnas.search.gp import schedule as schedules
from jaxnas.search.gp.proposals import Proposals
from jaxnas.search.gp.sampled_gp import Points
from jaxnas.search.gp.sampled_search import new_candidates
from jaxnas.search.multi_objective import acquire as acquisitions
from jaxnas.search.multi_objective import sampled_gp
from jaxnas.search.multi_objective.acquire import Acquire
from jaxnas.search.multi_objective.ordering import require_scores
from jaxnas.search.multi_objective.sampled_gp import SampledObjectivesState
from jaxnas.spaces.base import Space
from jaxnas.types import FULL_TRAINING, Array, Query, Result


def bayesopt_sampled(
    space: Space,
    features: Sequence[FeatureMap],
    objectives: Sequence[Objective],
    candidates: Proposals | None = None,
    *,
    init: int = 10,
    batch: int = 1,
    acquire: Acquire | None = None,
    scale: float = 1.0,
    capacity: int | None = None,
    epoch: int | None = None,
) -> Search:
    """Gaussian-process search for the front of several objectives, without a pool.

    Every objective has a posterior of its own. Parents of mutants are the best so far by
    `preference`: feasible ones first, and of infeasible ones those of smaller violation.
    The architectures of a batch are chosen one after another, each as if those before it
    had their posterior means (kriging believer, Ginsbourger et al., 2010).

    Args:
      space: of the architectures.
      features: functions arch (d,) -> tuple of (f,) arrays; every array is a part of the
        distance, and has a length-scale for each objective.
      objectives: of the results, in their order.
      candidates: as for `gp.sampled_search.bayesopt_sampled`.
      init: evaluations of random architectures at the start, at least 2; the last step
        of them is a whole batch.
      batch: architectures in each step.
      acquire: as for `bayesopt` of this package: by default expected improvement, of the
        hypervolume if there are two objectives, times the probability of the bounds.
      scale: as for `gp.sampled_search.bayesopt_sampled`.
      capacity: None for `run` and `simulate`; for ask and tell from Python, the number of
        evaluations.
      epoch: the epoch to which each architecture is trained; default: the last one.

    Raises: `ValueError` for objectives that `validate_objectives` refuses, and for sizes
      and features as `gp.sampled_search.bayesopt_sampled`; for an acquisition that cannot
      be called.
    """
    objectives = validate_objectives(objectives)
    epoch = FULL_TRAINING if epoch is None else epoch
    sampled_search.validate_sizes(space, init, batch, capacity, epoch)
    embed, prior = sampled_search.embedder(space, features, scale)
    candidates = candidates or sampled_search.default_proposals(space)
    rule = acquisitions.default_acquire(objectives) if acquire is None else acquire
    require_rules(4, acquire=rule)
    schedule = schedules.make_schedule(init, batch, capacity)
    append = functools.partial(sampled_gp.append, objectives)
    choose = functools.partial(_choose, objectives, rule)

    def initial(prior: gp.HyperparameterPrior, key: Array) -> SampledObjectivesState:
        del key
        arch = jnp.zeros((0, len(space.choices)), jnp.int32)
        empty = sampled_gp.empty(arch, embed(arch), prior, len(objectives))
        return sampled_gp.grow(empty, capacity or 0)

    def describe(query: Query) -> tuple[Array, Points]:
        """Identities (b, 2) and embeddings (f_j, b) of the query's architectures."""
        return jax.vmap(space.identity)(query.arch), embed(query.arch)

    def expect(state: SampledObjectivesState, query: Query) -> SampledObjectivesState:
        ids, points = describe(query)
        mean = sampled_gp.posteriors_at(state, points)[0].T
        unit = state.standardisation
        return append(state, query, ids, points, unit.mean + unit.std * mean)

    def ask(key: Array, state: SampledObjectivesState) -> Query:
        key_random, key_pool, key_new, key_choose = jax.random.split(key, 4)

        def random() -> Array:
            return sample_new(key_random, space, batch, state.identity, filled(state))

        def learned() -> Array:
            proposed = candidates(key_pool, state)
            arch, allowed = new_candidates(key_new, space, state, proposed, batch)
            points = embed(arch)

            def believe(state: SampledObjectivesState, index: Array) -> Any:
                return expect(state, train_from_scratch(arch[index][None], epoch))

            if batch == 1:
                return arch[choose(key_choose, state, points, allowed)][None]
            keys = jax.random.split(key_choose, batch)
            return arch[_one_by_one(choose, believe, keys, state, points, allowed)]

        arch = schedules.random_or_learned(
            schedule, state, state.fitted, random, learned
        )
        return train_from_scratch(arch, epoch)

    def tell(
        state: SampledObjectivesState, query: Query, result: Result
    ) -> SampledObjectivesState:
        ids, points = describe(query)
        return append(state, query, ids, points, require_scores(objectives, result))

    def refresh(
        prior: gp.HyperparameterPrior, state: SampledObjectivesState
    ) -> SampledObjectivesState:
        refit = functools.partial(sampled_gp.refit, prior)
        return schedules.refresh(schedule, refit, state)

    grow = functools.partial(schedules.grow, schedule, sampled_gp.grow)
    limit = {"size": space.size, "owner": space.name}
    stages = functools.partial(schedules.stages, schedule, **limit)
    functions = (
        Partial(initial, prior),
        ask,
        tell,
        grow,
        Partial(refresh, prior),
        expect,
    )
    return Search(*functions, stages=stages, space=space, objectives=objectives)


def _one_by_one(
    choose: Callable[..., Array],
    believe: Callable[[SampledObjectivesState, Array], SampledObjectivesState],
    keys: Array,
    state: SampledObjectivesState,
    points: Points,
    allowed: Array,
) -> Array:
    """Indices (b,) of candidates, each chosen as if those before it had been evaluated."""

    def one(carry: tuple, key: Array) -> tuple[tuple, Array]:
        state, allowed = carry
        index = choose(key, state, points, allowed)
        return (believe(state, index), allowed.at[index].set(False)), index

    return jax.lax.scan(one, (state, allowed), keys)[1]


def _choose(
    objectives: tuple[Objective, ...],
    acquire: Acquire,
    key: Array,
    state: SampledObjectivesState,
    points: Points,
    allowed: Array,
) -> Array:
    """Index () of the allowed candidate of largest utility."""
    key_acquire, key_tie = jax.random.split(key)
    centre, unit = state.standardisation.mean, state.standardisation.std
    value = acquisitions.utility(
        acquire,
        objectives,
        key_acquire,
        sampled_gp.posteriors_at(state, points),
        (state.objectives - centre) / unit,
        (jnp.asarray(score_bounds(objectives), unit.dtype) - centre) / unit,
    )
    # NaN counts as the smallest number, above the -inf of what may not be asked.
    value = jnp.fmax(value, jnp.finfo(value.dtype).min)
    return acquisition.top(key_tie, jnp.where(allowed, value, -jnp.inf), 1)[0]
