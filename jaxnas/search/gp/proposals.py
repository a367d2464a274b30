"""Generators of candidates for `bayesopt_sampled`: random samples, mutants, mixtures.

A generator is a function (key, state) -> (m, d) architectures, with a static m. The search
leaves out repeats, invalid architectures and those that have been evaluated, so any
function with this signature can be used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.common import History, filled
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import mutate, sample
from jaxnas.types import Array, check_sizes


class ArchHistory(History, Protocol):
    """The fields of a state that hold evaluations, with their architectures."""

    @property
    def arch(self) -> Array:
        """Architectures (t, d) int32."""
        ...


# Proposals = (key, state with at least one evaluation) -> (m, d) int32.
Proposals = Callable[[Array, ArchHistory], Array]


def uniform(space: Space, size: int = 1000) -> Proposals:
    """Samples `size` random architectures, as `space` samples them.

    Raises: `ValueError` for a size below 1.
    """
    check_sizes(size=size)

    def propose(key: Array, state: ArchHistory) -> Array:
        del state
        return jax.vmap(lambda key: sample(key, space))(jax.random.split(key, size))

    return propose


def mutants(
    space: Space, size: int = 1000, *, parents: int = 10, depth: int = 1
) -> Proposals:
    """Mutates the best architectures so far.

    Random walks of `depth` mutations start from the best architectures, and every
    architecture on the way is a candidate; with depth 1 these are the mutants of Nguyen
    et al. (2021). There are as many walks as `size` candidates need, divided evenly among
    the parents; a remainder goes to the better ones.

    Args:
      space: of the architectures.
      size: candidates, rounded up to a multiple of `depth`.
      parents: best architectures from which walks start, at most.
      depth: mutations in each walk.

    Raises: `ValueError` for sizes below 1.
    """
    check_sizes(size=size, parents=parents, depth=depth)
    walks = -(-size // depth)

    def step(archs: Array, keys: Array) -> tuple[Array, Array]:
        archs = jax.vmap(lambda key, arch: mutate(key, space, arch))(keys, archs)
        return archs, archs

    def propose(key: Array, state: ArchHistory) -> Array:
        rows = filled(state)
        # Failed evaluations come after the others, and empty rows last.
        score = jnp.where(rows, nan_to_neg_inf(state.score), -jnp.inf)
        best = jnp.lexsort((~rows, -score))[:parents]
        parent = best[jnp.arange(walks) % jnp.clip(state.count, 1, len(best))]
        keys = jax.random.split(key, (depth, walks))
        archs = jax.lax.scan(step, state.arch[parent], keys)[1]
        return archs.reshape(-1, archs.shape[-1])

    return propose


def mixture(*generators: Proposals) -> Proposals:
    """Joins the candidates of several generators.

    Raises: `ValueError` without any generator.
    """
    if not generators:
        raise ValueError("a mixture needs at least one generator")

    def propose(key: Array, state: ArchHistory) -> Array:
        keys = jax.random.split(key, len(generators))
        parts = [g(key, state) for g, key in zip(generators, keys, strict=True)]
        return jnp.concatenate(parts)

    return propose
