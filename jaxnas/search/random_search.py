"""Random search: the baseline that every other search has to beat."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.search.base import Search
from jaxnas.search.parts import check_sizes, fixed_room, from_nothing, sample_new
from jaxnas.spaces.base import Space, sample
from jaxnas.types import FULL_TRAINING, Array, Query, Result


class RandomState(NamedTuple):
    """What has been asked, where it must not be asked again."""

    code: Array  # (capacity,) int32, of what was asked; (0,) if forgotten
    count: Array  # () int32, evaluations so far


def random_search(
    space: Space,
    *,
    batch: int = 1,
    epoch: int = FULL_TRAINING,
    capacity: int | None = None,
) -> Search:
    """Uniform sampling, with or without repeats.

    Args:
      batch: architectures per step.
      epoch: the epoch to which each is trained.
      capacity: the number of evaluations of the run, if no architecture is to be
        evaluated twice; a repeat is then drawn anew, four times at most. Default:
        nothing is remembered.

    Raises: ValueError for sizes below 1, and for a `capacity` that the space cannot
      fill or that does not hold the run.
    """
    check_sizes(batch=batch, epoch=epoch)
    if capacity is None:
        return _with_repeats(space, batch, epoch)
    if not 1 <= capacity <= space.size:
        raise ValueError(
            f"capacity must be between 1 and the {space.size} architectures of "
            f"{space.name}, not {capacity}"
        )

    def init(key: Array) -> RandomState:
        del key
        return RandomState(jnp.zeros(capacity, jnp.int32), jnp.int32(0))

    def ask(key: Array, state: RandomState) -> Query:
        seen = jnp.arange(capacity) < state.count
        return from_nothing(sample_new(key, space, batch, state.code, seen), epoch)

    def tell(state: RandomState, query: Query, result: Result) -> RandomState:
        del result
        slots = state.count + jnp.arange(batch)
        code = state.code.at[slots].set(jax.vmap(space.code)(query.arch), mode="drop")
        return RandomState(code, state.count + batch)

    return Search(init, ask, tell, grow=fixed_room(capacity, batch))


def _with_repeats(space: Space, batch: int, epoch: int) -> Search:
    def init(key: Array) -> RandomState:
        del key
        return RandomState(jnp.zeros(0, jnp.int32), jnp.int32(0))

    def ask(key: Array, state: RandomState) -> Query:
        del state
        keys = jax.random.split(key, batch)
        return from_nothing(jax.vmap(lambda key: sample(key, space))(keys), epoch)

    def tell(state: RandomState, query: Query, result: Result) -> RandomState:
        del query, result
        return state._replace(count=state.count + batch)

    return Search(init, ask, tell)
