"""Random architectures, neighbours and mutations, in any space.

A space may bring its own operators (`Space.draw`, `near` and `vary`); without them they
follow from its choices: uniform samples of valid vectors, and changes of one position.
All functions take one architecture and can be compiled and vmapped.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces.base import Space, always
from jaxnas.types import Array


def _alternatives(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Position and increment (modulo its choices) of every one-position change."""
    pairs = [(p, s) for p, c in enumerate(space.choices) for s in range(1, c)]
    position, shift = np.array(pairs, np.int32).reshape(-1, 2).T
    return position, shift


def _changes(space: Space, arch: Array) -> Array:
    """All vectors (k, d) that differ from `arch` (d,) at one position, valid or not."""
    position, shift = _alternatives(space)
    choices = np.asarray(space.choices, np.int32)[position]
    value = (arch[position] + shift) % choices
    rows = jnp.broadcast_to(arch, (len(position), len(space.choices)))
    return rows.at[jnp.arange(len(position)), position].set(value)


def sample(key: Array, space: Space) -> Array:
    """Draws a valid architecture: by `space.draw`, or uniformly over valid vectors.

    Without `space.draw` vectors are drawn until one is valid, so an almost empty space
    takes long; the number of draws is random, and under `vmap` that of the slowest.

    Args:
      key: () PRNG key.
      space: with at least one valid vector.

    Returns: (d,) int32.
    """
    if space.draw is not None:
        return space.draw(key)
    choices = jnp.asarray(space.choices, jnp.int32)

    def draw(key: Array) -> Array:
        return jax.random.randint(key, choices.shape, 0, choices, jnp.int32)

    if space.is_valid is always:
        return draw(key)

    def redraw(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        key_next, key_draw = jax.random.split(carry[0])
        return key_next, draw(key_draw)

    invalid = lambda carry: ~space.is_valid(carry[1])  # noqa: E731
    return jax.lax.while_loop(invalid, redraw, redraw((key, choices)))[1]


def neighbours(space: Space, arch: Array) -> tuple[Array, Array]:
    """Lists the neighbours of an architecture.

    They are `space.near`, or all changes of one position. A change of a position that the
    architecture does not use (`space.active`) does not count as valid: it is the same
    architecture.

    Args:
      space: of d positions.
      arch: (d,) int32.

    Returns: vectors (k, d) int32, k = sum(choices - 1) by default, and whether each is
      valid, (k,) bool.
    """
    if space.near is not None:
        changed, valid = space.near(arch)
        return changed, valid & jax.vmap(space.is_valid)(changed)
    changed = _changes(space, arch)
    valid = jax.vmap(space.is_valid)(changed)
    if space.active is not None:
        valid &= space.active(arch)[_alternatives(space)[0]]
    return changed, valid


def mutate(key: Array, space: Space, arch: Array) -> Array:
    """Mutates an architecture.

    The space's own mutation is `space.vary`. Without it exactly one position changes,
    uniformly among the positions with a valid change, to a choice that is uniform among
    the valid ones. In a space with `near` the mutant is uniform among the valid
    neighbours. An architecture without a valid neighbour stays as it is.

    Args:
      key: () PRNG key.
      space: of d positions.
      arch: (d,) int32, valid.

    Returns: (d,) int32, valid.
    """
    if space.vary is not None:
        return space.vary(key, arch)
    key_position, key_choice = jax.random.split(key)
    changed, valid = neighbours(space, arch)
    if not len(changed):
        return arch
    allowed = valid
    if space.near is None:
        position, _ = _alternatives(space)
        possible = jnp.zeros(len(space.choices), bool).at[position].max(valid)
        chosen = jax.random.categorical(
            key_position, jnp.where(possible, 0.0, -jnp.inf)
        )
        allowed &= position == chosen
    index = jax.random.categorical(key_choice, jnp.where(allowed, 0.0, -jnp.inf))
    return jnp.where(jnp.any(valid), changed[index], arch)
