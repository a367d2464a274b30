"""Small parts that several searches are made of."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import jax
import jax.numpy as jnp

from jaxnas.spaces.base import Space, sample
from jaxnas.types import Array, Query, State

# Draws of a new architecture before a repeat is accepted (the published random search
# of the tree-Wasserstein experiments, Nguyen et al. 2021, has the same five).
TRIES = 5


def check_sizes(**sizes: int) -> None:
    """Raises `ValueError` for the first size that is below 1, or not whole."""
    for name, size in sizes.items():
        if not isinstance(size, Integral):
            raise ValueError(f"{name} must be a whole number, not {size!r}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")


def from_nothing(arch: Array, epoch: int) -> Query:
    """Asks to train every row of `arch` (b, d) from epoch 0 to `epoch`."""
    start = jnp.zeros(arch.shape[0], jnp.int32)
    return Query(arch, start + epoch, start)


def failed_last(score: Array) -> Array:
    """Scores (...) for comparisons: a failed evaluation (NaN) loses to everything."""
    return jnp.where(jnp.isnan(score), -jnp.inf, score)


def fixed_room(capacity: int, batch: int) -> Callable[[State, int], State]:
    """`Search.grow` of a search whose state always holds `capacity` evaluations."""

    def grow(state: State, end: int) -> State:
        if end * batch > capacity:
            raise ValueError(
                f"capacity must hold every evaluation: {end} steps of {batch} are "
                f"{end * batch}, more than {capacity}"
            )
        return state

    return grow


def sample_new(key: Array, space: Space, num: int, code: Array, seen: Array) -> Array:
    """Draws `num` architectures that differ from each other and from the seen ones.

    Every one is the first new one of `TRIES` uniform samples; where none of them is
    new (a small space, nearly used up), it is a repeat.

    Args:
      code: (n,) codes of the architectures so far.   seen: (n,) bool, rows that count.

    Returns: (num, d) int32.
    """
    keys = jax.random.split(key, (num, TRIES))
    archs = jax.vmap(jax.vmap(lambda key: sample(key, space)))(keys)
    codes = jax.vmap(jax.vmap(space.code))(archs)  # (num, TRIES)
    known = ((codes[..., None] == code) & seen).any(-1)

    def choose(chosen: Array, i: Array) -> tuple[Array, Array]:
        earlier = jnp.arange(num) < i
        taken = known[i] | ((codes[i][:, None] == chosen) & earlier).any(-1)
        first = jnp.argmin(taken)
        return chosen.at[i].set(codes[i, first]), archs[i, first]

    return jax.lax.scan(choose, jnp.zeros(num, codes.dtype), jnp.arange(num))[1]
