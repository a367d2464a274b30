"""Evolutionary search by mutation of tournament winners.

The population is a fixed array of slots. A replacement rule decides which member a child
replaces: the `oldest` in aging evolution, or the `worst`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.base import Search
from jaxnas.search.common import train_from_scratch
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import mutate, sample
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes


class EvolutionState(NamedTuple):
    """The population; until it is full, its first `age` slots hold the members."""

    arch: Array  # (population, d) int32; a ring buffer if the oldest is replaced
    score: Array  # (population,), NaN where the evaluation failed
    age: Array  # () int32, evaluations so far


# Replace = (state of a full population, score () of the child) -> slot () int32 that the
# child takes; the slot `population` discards the child itself.
Replace = Callable[[EvolutionState, Array], Array]


def oldest(state: EvolutionState, score: Array) -> Array:
    """Replaces the oldest member, whatever its score (Real et al., 2019)."""
    del score
    return state.age % state.score.shape[0]


def worst(state: EvolutionState, score: Array) -> Array:
    """Replaces the worst of the members and the child; among equals, a member."""
    return jnp.argmin(nan_to_neg_inf(jnp.append(state.score, score)))


def regularized_evolution(
    space: Space,
    *,
    population: int = 50,
    tournament: int = 10,
    init: int | None = None,
    replace: Replace = oldest,
    batch: int = 1,
    epoch: int | None = None,
) -> Search:
    """Aging evolution (Real et al., 2019, Algorithm 1).

    Every child is the winner of a tournament with one position changed. The population
    grows from `init` to its full size before a member is replaced.

    Args:
      space: of the architectures.
      population: members at most.
      tournament: members drawn, with replacement as in the paper, to find a parent.
      init: random evaluations before the first child. Default: `population`.
      replace: which member a child replaces in a full population, `oldest` or `worst`.
      batch: architectures per step; parents are members before the step.
      epoch: the epoch to which each architecture is trained; default: the last one.

    Raises: `ValueError` for sizes below 1.
    """
    epoch = FULL_TRAINING if epoch is None else epoch
    num_random = population if init is None else init
    check_sizes(population=population, tournament=tournament, init=num_random)
    check_sizes(batch=batch, epoch=epoch)

    def start(key: Array) -> EvolutionState:
        del key
        arch = jnp.zeros((population, len(space.choices)), jnp.int32)
        return EvolutionState(arch, jnp.full(population, jnp.nan), jnp.int32(0))

    def child(key: Array, state: EvolutionState) -> Array:
        key_tournament, key_mutate = jax.random.split(key)
        members = jnp.clip(state.age, 1, population)
        drawn = jax.random.randint(key_tournament, (tournament,), 0, members)
        winner = drawn[jnp.argmax(nan_to_neg_inf(state.score)[drawn])]
        return mutate(key_mutate, space, state.arch[winner])

    def ask(key: Array, state: EvolutionState) -> Query:
        def one(key: Array, age: Array) -> Array:
            key_sample, key_child = jax.random.split(key)
            random = sample(key_sample, space)
            return jnp.where(age < num_random, random, child(key_child, state))

        keys, ages = jax.random.split(key, batch), state.age + jnp.arange(batch)
        return train_from_scratch(jax.vmap(one)(keys, ages), epoch)

    def tell(state: EvolutionState, query: Query, result: Result) -> EvolutionState:
        def add(state: EvolutionState, new: tuple[Array, Array, Array]):
            arch, score, active = new
            slot = jnp.where(state.age < population, state.age, replace(state, score))
            slot = jnp.where(active, slot, population)  # out of bounds: dropped
            return EvolutionState(
                state.arch.at[slot].set(arch, mode="drop"),
                state.score.at[slot].set(score, mode="drop"),
                state.age + active,
            ), None

        return jax.lax.scan(add, state, (query.arch, result.score, asked(query)))[0]

    return Search(start, ask, tell, space=space)
