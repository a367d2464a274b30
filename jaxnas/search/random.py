"""Random search, the baseline that every other search has to beat.

Without repeats the state is the list of visited identities, and a sample in it is
replaced by a new one, up to four times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.search.base import Search, Stage, one_stage
from jaxnas.search.common import (
    append_slots,
    require_capacity,
    sample_new,
    train_from_scratch,
    with_classes,
)
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import sample
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes


class RandomState(NamedTuple):
    """Visited identities (empty if repeats are allowed)."""

    identity: Array  # (capacity, 2) uint32, or (0, 2)
    count: Array  # () int32, evaluations so far


def random_search(
    space: Space,
    *,
    batch: int = 1,
    epoch: int | None = None,
    capacity: int | None = None,
    same: Callable[[Array], Array] | None = None,
) -> Search:
    """Uniform sampling, with or without repeats.

    Args:
      space: to sample from.
      batch: architectures per step.
      epoch: the epoch to which each is trained; default: the last one.
      capacity: the number of evaluations of the run, if no architecture is to be
        evaluated twice; a repeat is then sampled anew, four times at most. Default:
        repeats are allowed.
      same: arch (d,) -> () int32 from 0, a class whose architectures count as repeats
        of each other, such as `nasbench201_classes.function_class`; with a `capacity`
        alone.

    Returns: a search of `space`, in which architectures of one class are different.
    Raises: ValueError for sizes below 1, for a `capacity` that the space cannot fill or
      that does not hold the run, and for `same` without one.
    """
    epoch = FULL_TRAINING if epoch is None else epoch
    check_sizes(batch=batch, epoch=epoch)
    if same is not None and capacity is None:
        raise ValueError("same needs a capacity, the number of evaluations of the run")
    if capacity is not None:
        check_sizes(capacity=capacity)
        if space.size is not None and capacity > space.size:
            raise ValueError(
                f"capacity must be between 1 and the {space.size} architectures of "
                f"{space.name}, not {capacity}"
            )
    rows = capacity or 0
    classes = with_classes(space, same)

    def init(key: Array) -> RandomState:
        del key
        return RandomState(jnp.zeros((rows, 2), jnp.uint32), jnp.int32(0))

    def ask(key: Array, state: RandomState) -> Query:
        if not rows:
            keys = jax.random.split(key, batch)
            return train_from_scratch(
                jax.vmap(lambda key: sample(key, space))(keys), epoch
            )
        valid = jnp.arange(rows) < state.count
        arch = sample_new(key, classes, batch, state.identity, valid)
        return train_from_scratch(arch, epoch)

    def visit(state: RandomState, query: Query) -> RandomState:
        active = asked(query)
        count = state.count + active.sum(dtype=jnp.int32)
        if not rows:
            return RandomState(state.identity, count)
        slots = append_slots(state.count, active, rows)
        ids = jax.vmap(classes.identity)(query.arch)
        return RandomState(state.identity.at[slots].set(ids, mode="drop"), count)

    def tell(state: RandomState, query: Query, result: Result) -> RandomState:
        del result
        return visit(state, query)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        if capacity is not None:
            require_capacity(capacity, batch, num_steps)
        return one_stage(num_steps)

    return Search(init, ask, tell, expect=visit, stages=stages, space=space)
