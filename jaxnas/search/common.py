"""Small parts that several searches are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import identity
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import sample
from jaxnas.types import Array, Query

# Draws of a new architecture before a repeat is accepted (the published random search
# of the tree-Wasserstein experiments, Nguyen et al. 2021, has the same five).
MAX_RESAMPLES = 5


def train_from_scratch(arch: Array, epoch: int) -> Query:
    """Asks to train every row of `arch` (b, d) from epoch 0 to `epoch`."""
    start = jnp.zeros(arch.shape[0], jnp.int32)
    return Query(arch, start + epoch, start)


def evaluation_key(key_run: Array) -> Array:
    """The key () of all evaluations of a run; steps fold in smaller numbers."""
    return jax.random.fold_in(key_run, np.uint32(2**32 - 1))


def require_capacity(capacity: int, batch: int, num_steps: int) -> None:
    """Raises `ValueError` if a run evaluates more than `capacity` architectures."""
    if num_steps * batch > capacity:
        raise ValueError(
            f"capacity must hold every evaluation: {num_steps} steps of {batch} are "
            f"{num_steps * batch}, more than {capacity}"
        )


def append_slots(count: Array, wanted: Array, size: int) -> Array:
    """Where to append the slots (b,) that are `wanted`, after `count` () entries.

    The others get `size`, which is out of bounds: `.at[...].set(mode="drop")` skips them.
    """
    return jnp.where(wanted, count + jnp.cumsum(wanted) - 1, size)


def sample_new(key: Array, space: Space, num: int, known: Array, seen: Array) -> Array:
    """Draws `num` architectures that differ from each other and from the seen ones.

    Every one is the first new one of `MAX_RESAMPLES` uniform samples; where none of them is
    new (a small space, nearly used up), it is a repeat.

    Args:
      known: (n, 2) identities of the architectures so far.   seen: (n,) bool, rows that
        count.

    Returns: (num, d) int32.
    """
    keys = jax.random.split(key, (num, MAX_RESAMPLES))
    archs = jax.vmap(jax.vmap(lambda key: sample(key, space)))(keys)
    ids = jax.vmap(jax.vmap(space.identity))(archs)  # (num, MAX_RESAMPLES, 2)
    old = identity.member(ids, known, seen)

    def choose(chosen: Array, i: Array) -> tuple[Array, Array]:
        earlier = jnp.arange(num) < i
        taken = old[i] | identity.member(ids[i], chosen, earlier)
        first = jnp.argmin(taken)
        return chosen.at[i].set(ids[i, first]), archs[i, first]

    empty = jnp.zeros((num, 2), ids.dtype)
    return jax.lax.scan(choose, empty, jnp.arange(num))[1]
