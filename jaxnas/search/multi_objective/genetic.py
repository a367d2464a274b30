"""NSGA-II (Deb et al., 2002) on architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.pareto.objectives import Objective, validate_objectives
from jaxnas.search.base import Search
from jaxnas.search.common import (
    MAX_RESAMPLES,
    append_slots,
    first_new,
    growing_stages,
    train_from_scratch,
)
from jaxnas.search.multi_objective.ordering import preference, require_scores
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import mutate, sample
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes


class NSGA2State(NamedTuple):
    """The population, best first, and the identities of all evaluations."""

    arch: Array  # (population, d) int32
    scores: Array  # (population, m), NaN where missing
    members: Array  # () int32, of the population
    identity: Array  # (capacity, 2) uint32, evaluated or in flight
    count: Array  # () int32, rows of `identity` that are filled


def nsga2(
    space: Space,
    objectives: Sequence[Objective],
    *,
    population: int = 20,
    crossover: float = 0.9,
    batch: int = 1,
    epoch: int | None = None,
) -> Search:
    """NSGA-II: binary tournaments, crossover and mutation; the best survive.

    A child has each position from one of two parents, with probability 1/2 each, and is
    mutated, which changes one position. With a batch of one this is the steady-state
    variant, in which a child competes as soon as it is evaluated (Durillo et al., 2009);
    with a batch of the population it is the generational one of the paper. No
    architecture is evaluated twice while one of five children is new.

    Args:
      space: of the architectures.
      objectives: of the results, in their order.
      population: survivors, and random architectures at the start.
      crossover: probability that a child has two parents.
      batch: architectures per step.
      epoch: the epoch to which each architecture is trained; default: the last one.

    Raises: `ValueError` for objectives that `validate_objectives` refuses, for sizes
      below 1 and a probability outside of [0, 1].
    """
    objectives = validate_objectives(objectives)
    epoch = FULL_TRAINING if epoch is None else epoch
    check_sizes(population=population, batch=batch, epoch=epoch)
    if not 0 <= crossover <= 1:
        raise ValueError(f"crossover must be between 0 and 1, not {crossover}")

    def start(key: Array) -> NSGA2State:
        del key
        return NSGA2State(
            jnp.zeros((population, len(space.choices)), jnp.int32),
            jnp.full((population, len(objectives)), jnp.nan),
            jnp.int32(0),
            jnp.zeros((0, 2), jnp.uint32),
            jnp.int32(0),
        )

    def ask(key: Array, state: NSGA2State) -> Query:
        def one(key: Array, age: Array) -> Array:
            key_sample, key_child = jax.random.split(key)
            child = _child(key_child, space, state, crossover)
            return jnp.where(age < population, sample(key_sample, space), child)

        keys = jax.random.split(key, (batch, MAX_RESAMPLES))
        ages = state.count + jnp.arange(batch)
        archs = jax.vmap(jax.vmap(one, (0, None)))(keys, ages)
        evaluated = jnp.arange(len(state.identity)) < state.count
        arch = first_new(space, archs, state.identity, evaluated)
        return train_from_scratch(arch, epoch)

    def expect(state: NSGA2State, query: Query) -> NSGA2State:
        active = asked(query)
        rows = append_slots(state.count, active, len(state.identity))
        ids = jax.vmap(space.identity)(query.arch)
        return state._replace(
            identity=state.identity.at[rows].set(ids, mode="drop"),
            count=state.count + active.sum(dtype=jnp.int32),
        )

    def tell(state: NSGA2State, query: Query, result: Result) -> NSGA2State:
        active = asked(query)
        arch = jnp.concatenate([state.arch, query.arch])
        scores = jnp.concatenate([state.scores, require_scores(objectives, result)])
        valid = jnp.append(jnp.arange(population) < state.members, active)
        position = preference(objectives, scores, valid)
        survivors = jnp.argsort(position)[:population]
        members = jnp.minimum(valid.sum(dtype=jnp.int32), population)
        filled = (jnp.arange(population) < members)[:, None]
        return expect(state, query)._replace(
            arch=jnp.where(filled, arch[survivors], 0),
            scores=jnp.where(filled, scores[survivors], jnp.nan),
            members=members,
        )

    def grow(state: NSGA2State, end: int) -> NSGA2State:
        more = max(0, end * batch - len(state.identity))
        return state._replace(identity=jnp.pad(state.identity, ((0, more), (0, 0))))

    functions = {"grow": grow, "expect": expect, "stages": growing_stages}
    return Search(start, ask, tell, space=space, objectives=objectives, **functions)


def _child(key: Array, space: Space, state: NSGA2State, crossover: float) -> Array:
    """A child (d,) of two winners of binary tournaments, or of one."""
    key_parents, key_cross, key_position, key_mutate = jax.random.split(key, 4)
    # Members are in the order of preference: the smaller index wins.
    members = jnp.maximum(state.members, 1)
    parents = jax.random.randint(key_parents, (2, 2), 0, members).min(1)
    first, second = state.arch[parents]
    from_second = jax.random.bernoulli(key_position, 0.5, first.shape)
    crossed = jnp.where(from_second, second, first)
    crosses = jax.random.bernoulli(key_cross, crossover) & space.is_valid(crossed)
    return mutate(key_mutate, space, jnp.where(crosses, crossed, first))
