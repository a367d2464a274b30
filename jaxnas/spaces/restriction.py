"""Parts of a space: searches of a table that lacks architectures stay inside of one."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import base, identity
from jaxnas.spaces.base import Space
from jaxnas.types import Array

# Mutations by the space's own rule, before an architecture stays as it is.
MAX_MUTATIONS = 16


def restricted(space: Space, archs: np.ndarray) -> Space:
    """The part of `space` that has these architectures (n, d) and no others.

    All that it draws, varies and lists as valid neighbours is in the part. An own
    mutation of the space is tried 16 times; an architecture that it does not lead to
    another one of the part stays as it is.

    Raises: `ValueError` for no architectures, and for what are no choices of the space.
    """
    archs = np.asarray(archs)
    if archs.ndim != 2 or not len(archs):
        raise ValueError(f"wanted architectures (n, d) with n >= 1, not {archs.shape}")
    outside = ((archs < 0) | (archs >= np.array(space.choices))).any(1)
    if outside.any():
        base.as_choices(space, archs[np.argmax(outside)])
    keys, first = np.unique(base.identify(space, archs), return_index=True)
    known, vectors = identity.from_uint64(keys), archs[first].astype(np.int32)

    def is_valid(arch: Array) -> Array:
        found = identity.find(jnp.asarray(known), space.identity(arch))
        return (found >= 0) & space.is_valid(arch)

    def draw(key: Array) -> Array:
        return jnp.asarray(vectors)[jax.random.randint(key, (), 0, len(vectors))]

    def vary(key: Array, arch: Array) -> Array:
        keys = jax.random.split(key, MAX_MUTATIONS)
        mutants = jax.vmap(lambda key: base.mutate(key, space, arch))(keys)
        valid = jax.vmap(is_valid)(mutants)
        return jnp.where(valid.any(), mutants[jnp.argmax(valid)], arch)

    # Rejection would take very long where the part is small, and never end where the
    # space draws by a rule of its own that does not reach the part.
    listed = space.draw is not None or len(known) < 0.01 * base.num_vectors(space)
    return dataclasses.replace(
        space,
        size=len(known),
        is_valid=is_valid,
        draw=draw if listed else None,
        vary=None if space.vary is None else vary,
    )
