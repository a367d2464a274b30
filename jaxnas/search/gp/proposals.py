"""Generators of candidates for `bayesopt_sampled`: random ones, mutants, mixtures.

A generator is `(key, state) -> (m, d)` architectures. Repeats, and what has been evaluated,
are left out by the search; anything with this signature can take the place of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxnas.ranks import nan_to_neg_inf
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import mutate, sample
from jaxnas.types import Array, check_sizes


class History(Protocol):
    """What a generator reads of a state: at least one evaluation, in order."""

    @property
    def arch(self) -> Array:
        """Architectures (t, d) int32, t the capacity."""
        ...

    @property
    def score(self) -> Array:
        """Scores (t,), NaN where the evaluation failed."""
        ...

    @property
    def count(self) -> Array:
        """How many rows () int32 are filled."""
        ...


# Proposals = (key, state) -> (m, d) int32.
Proposals = Callable[[Array, History], Array]


def uniform(space: Space, size: int = 1000) -> Proposals:
    """`size` random architectures, as `space` draws them."""
    check_sizes(size=size)

    def propose(key: Array, state: History) -> Array:
        del state
        return jax.vmap(lambda key: sample(key, space))(jax.random.split(key, size))

    return propose


def mutants(
    space: Space, size: int = 1000, *, parents: int = 10, depth: int = 1
) -> Proposals:
    """About `size` mutants of the best architectures so far.

    From each of the `parents` best start random walks of `depth` mutations, and every
    architecture on the way is a candidate; with depth 1 these are the mutants of Nguyen
    et al. (2021). The number of walks is the least that gives `size` candidates, and each
    parent has the same number, or the better ones one more.
    """
    check_sizes(size=size, parents=parents, depth=depth)
    walks = -(-size // depth)

    def step(archs: Array, keys: Array) -> tuple[Array, Array]:
        archs = jax.vmap(lambda key, arch: mutate(key, space, arch))(keys, archs)
        return archs, archs

    def propose(key: Array, state: History) -> Array:
        known = jnp.arange(len(state.score)) < state.count
        # Failed ones come after the others, and rows without an evaluation last.
        score = jnp.where(known, nan_to_neg_inf(state.score), -jnp.inf)
        order = jnp.lexsort((~known, -score))[:parents]
        place = jnp.arange(walks) % jnp.clip(state.count, 1, len(order))
        keys = jax.random.split(key, (depth, walks))
        archs = jax.lax.scan(step, state.arch[order[place]], keys)[1]
        return archs.reshape(-1, archs.shape[-1])

    return propose


def mixture(*generators: Proposals) -> Proposals:
    """The candidates of all the `generators`."""
    if not generators:
        raise ValueError("a mixture needs at least one generator")

    def propose(key: Array, state: History) -> Array:
        keys = jax.random.split(key, len(generators))
        drawn = [g(key, state) for g, key in zip(generators, keys, strict=True)]
        return jnp.concatenate(drawn)

    return propose
