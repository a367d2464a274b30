"""Subspaces: the space of a table that does not hold every architecture.

A search on such a table asks architectures of the subspace only. Everything that asks a
space for architectures (samples, mutants, valid neighbours) then stays inside it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import base, identity, moves
from jaxnas.spaces.base import Space
from jaxnas.types import Array

# Attempts to reach another architecture of the subspace by `Space.vary`.
MAX_MUTATIONS = 16


def restricted(space: Space, archs: np.ndarray) -> Space:
    """Restricts a space to a list of architectures.

    Vectors that are the same architecture as a listed one stay valid. A mutation by
    `space.vary` is tried 16 times; if every mutant is outside, the architecture stays as
    it is.

    Args:
      space: of d positions.
      archs: (n, d) architectures, n >= 1; several may be the same.

    Returns: the space with another `is_valid`, `size`, and, where needed, `draw` and
      `vary`.
    Raises: `ValueError` without architectures, and for vectors that are not of the space.
    """
    archs = np.asarray(archs)
    if archs.ndim != 2 or not len(archs):
        raise ValueError(f"wanted architectures (n, d) with n >= 1, not {archs.shape}")
    outside = ((archs < 0) | (archs >= np.array(space.choices))).any(1)
    if outside.any():
        base.as_choices(space, archs[np.argmax(outside)])
    keys, first = np.unique(base.identify(space, archs), return_index=True)
    listed, vectors = identity.from_uint64(keys), archs[first].astype(np.int32)

    def is_valid(arch: Array) -> Array:
        index = identity.find(jnp.asarray(listed), space.identity(arch))
        return (index >= 0) & space.is_valid(arch)

    def draw(key: Array) -> Array:
        return jnp.asarray(vectors)[jax.random.randint(key, (), 0, len(vectors))]

    def vary(key: Array, arch: Array) -> Array:
        keys = jax.random.split(key, MAX_MUTATIONS)
        mutants = jax.vmap(lambda key: moves.mutate(key, space, arch))(keys)
        valid = jax.vmap(is_valid)(mutants)
        return jnp.where(valid.any(), mutants[jnp.argmax(valid)], arch)

    # Rejection would take very long in a small subspace, and never end if the space's
    # own `draw` does not reach it.
    from_list = space.draw is not None or len(listed) < 0.01 * base.num_vectors(space)
    return dataclasses.replace(
        space,
        size=len(listed),
        is_valid=is_valid,
        draw=draw if from_list else None,
        vary=None if space.vary is None else vary,
    )
