"""Aging evolution for several objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.pareto.objectives import Objective, validate_objectives
from jaxnas.search.base import Search
from jaxnas.search.common import train_from_scratch
from jaxnas.search.multi_objective.ordering import preference, require_scores
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import mutate, sample
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes


class AgingState(NamedTuple):
    """The population, a ring buffer; at first its slots up to `age` hold members."""

    arch: Array  # (population, d) int32
    scores: Array  # (population, m), NaN where missing
    age: Array  # () int32, evaluations so far


def regularized_evolution(
    space: Space,
    objectives: Sequence[Objective],
    *,
    population: int = 50,
    tournament: int = 10,
    init: int | None = None,
    batch: int = 1,
    epoch: int | None = None,
) -> Search:
    """Aging evolution (Real et al., 2019) whose tournaments compare by `preference`.

    Args:
      space: of the architectures.
      objectives: of the results, in their order.
      population: members at most; then the oldest is replaced.
      tournament: members drawn, with replacement, to find a parent.
      init: random evaluations before the first child. Default: `population`.
      batch: architectures per step.
      epoch: the epoch to which each architecture is trained; default: the last one.

    Raises: `ValueError` for objectives that `validate_objectives` refuses, and for sizes
      below 1.
    """
    objectives = validate_objectives(objectives)
    epoch = FULL_TRAINING if epoch is None else epoch
    num_random = population if init is None else init
    check_sizes(population=population, tournament=tournament, init=num_random)
    check_sizes(batch=batch, epoch=epoch)

    def start(key: Array) -> AgingState:
        del key
        arch = jnp.zeros((population, len(space.choices)), jnp.int32)
        scores = jnp.full((population, len(objectives)), jnp.nan)
        return AgingState(arch, scores, jnp.int32(0))

    def ask(key: Array, state: AgingState) -> Query:
        position = preference(
            objectives, state.scores, jnp.arange(population) < state.age
        )

        def one(key: Array, age: Array) -> Array:
            key_sample, key_tournament, key_mutate = jax.random.split(key, 3)
            members = jnp.clip(state.age, 1, population)
            drawn = jax.random.randint(key_tournament, (tournament,), 0, members)
            parent = state.arch[drawn[jnp.argmin(position[drawn])]]
            child = mutate(key_mutate, space, parent)
            return jnp.where(age < num_random, sample(key_sample, space), child)

        keys, ages = jax.random.split(key, batch), state.age + jnp.arange(batch)
        return train_from_scratch(jax.vmap(one)(keys, ages), epoch)

    def tell(state: AgingState, query: Query, result: Result) -> AgingState:
        active = asked(query)
        scores = require_scores(objectives, result)
        slots = (state.age + jnp.cumsum(active) - 1) % population
        # A batch that is larger than the population leaves its last members.
        late = jnp.cumsum(active[::-1])[::-1] <= population
        slots = jnp.where(active & late, slots, population)
        return AgingState(
            state.arch.at[slots].set(query.arch, mode="drop"),
            state.scores.at[slots].set(scores, mode="drop"),
            state.age + active.sum(dtype=jnp.int32),
        )

    return Search(start, ask, tell, space=space, objectives=objectives)
