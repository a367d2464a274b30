"""Search spaces as data, and the functions that serve every one of them.

An architecture is one int32 vector `(d,)`, a choice per position. A `Space` says how
many choices each position has, which vectors are valid, and which are the same
architecture. It is frozen and hashable, so it can be closed over or be a static argument.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array, Graph


def always(arch: Array) -> Array:
    """Every vector is valid."""
    del arch
    return jnp.bool_(True)


@dataclass(frozen=True)
class Space:
    """A product of categorical choices.

    Attributes:
      name: what tables and error messages call it.
      choices: the number of choices at each of the d positions.
      labels: names of the operation labels of `to_graph`, by index.
      size: how many different architectures `code` tells apart.
      to_graph: arch (d,) -> Graph, where architectures are graphs.
      code: arch (d,) -> () int32, equal for two vectors if and only if they are the same
        architecture.
      is_valid: arch (d,) -> () bool.
      rule: what a valid vector has, in words, for error messages.
      paths: arch (d,) -> (p,) bool, which operation paths it has, where that is defined.
      to_string, from_string: the space's own notation of an architecture, on the host;
        `from_string` raises `ValueError` for a malformed text.
    """

    name: str
    choices: tuple[int, ...]
    labels: tuple[str, ...]
    size: int
    to_graph: Callable[[Array], Graph]
    code: Callable[[Array], Array]
    to_string: Callable[[Array | np.ndarray], str]
    from_string: Callable[[str], np.ndarray]
    is_valid: Callable[[Array], Array] = always
    rule: str = ""
    paths: Callable[[Array], Array] | None = None


def _alternatives(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Position and increment (modulo its choices) of every one-position change."""
    pairs = [(p, s) for p, c in enumerate(space.choices) for s in range(1, c)]
    position, shift = np.array(pairs, np.int32).T
    return position, shift


def _changes(space: Space, arch: Array) -> Array:
    position, shift = _alternatives(space)
    choices = np.asarray(space.choices, np.int32)[position]
    value = (arch[position] + shift) % choices
    rows = jnp.broadcast_to(arch, (len(position), len(space.choices)))
    return rows.at[jnp.arange(len(position)), position].set(value)


def sample(key: Array, space: Space) -> Array:
    """Draws an architecture (d,) uniformly over the valid vectors, by rejection."""
    choices = jnp.asarray(space.choices, jnp.int32)

    def draw(key: Array) -> Array:
        return jax.random.randint(key, choices.shape, 0, choices, jnp.int32)

    if space.is_valid is always:
        return draw(key)

    def again(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        key_next, key_draw = jax.random.split(carry[0])
        return key_next, draw(key_draw)

    invalid = lambda carry: ~space.is_valid(carry[1])  # noqa: E731
    return jax.lax.while_loop(invalid, again, again((key, choices)))[1]


def neighbours(space: Space, arch: Array) -> tuple[Array, Array]:
    """All vectors that differ from `arch` (d,) in one position.

    Returns: vectors (k, d) with k = sum(choices - 1), and whether each is valid, (k,).
    """
    changed = _changes(space, arch)
    return changed, jax.vmap(space.is_valid)(changed)


def mutate(key: Array, space: Space, arch: Array) -> Array:
    """Changes exactly one position of `arch` (d,); the result is valid.

    The position is uniform among those that have a valid change, the new choice uniform
    among its valid ones. An architecture that has no valid neighbour stays as it is.
    """
    key_position, key_choice = jax.random.split(key)
    changed, valid = neighbours(space, arch)
    position, _ = _alternatives(space)
    possible = jnp.zeros(len(space.choices), bool).at[position].max(valid)
    where = jax.random.categorical(key_position, jnp.where(possible, 0.0, -jnp.inf))
    allowed = valid & (position == where)
    which = jax.random.categorical(key_choice, jnp.where(allowed, 0.0, -jnp.inf))
    return jnp.where(jnp.any(valid), changed[which], arch)


def _place_values(choices: tuple[int, ...]) -> np.ndarray:
    return np.cumprod((1, *choices[:0:-1]))[::-1].astype(np.int32)


def product_rank(choices: tuple[int, ...], arch: Array) -> Array:
    """The index () int32 of `arch` (d,) in a product of choices, the first slowest."""
    return jnp.sum(jnp.asarray(arch, jnp.int32) * _place_values(choices), -1, jnp.int32)


def rank(space: Space, arch: Array) -> Array:
    """The index () int32 of `arch` (d,) among all vectors of `space`."""
    return product_rank(space.choices, arch)


def unrank(space: Space, index: Array) -> Array:
    """The vector (d,) whose `rank` is `index` ()."""
    choices = np.asarray(space.choices, np.int32)
    return jnp.asarray(index, jnp.int32) // _place_values(space.choices) % choices


def product(name: str, choices: tuple[int, ...]) -> Space:
    """A space of independent choices and no graph: anything a user can number.

    Its notation is the choices with commas between them.
    """
    if not choices or min(choices) < 1:
        raise ValueError(f"choices must be at least one number from 1, not {choices}")

    def to_graph(arch: Array) -> Graph:
        raise ValueError(f"an architecture of {name} is a product of choices, no graph")

    def from_string(text: str) -> np.ndarray:
        try:
            numbers = [int(number) for number in text.split(",")]
        except ValueError:
            raise ValueError(
                f"{text!r} is not an architecture of {name}: wanted {len(choices)} "
                "numbers with commas between them"
            ) from None
        return check(space, np.array(numbers))

    space = Space(
        name=name,
        choices=tuple(choices),
        labels=(),
        size=math.prod(choices),
        to_graph=to_graph,
        code=functools.partial(product_rank, tuple(choices)),
        to_string=lambda arch: ",".join(str(int(choice)) for choice in arch),
        from_string=from_string,
    )
    return space


def restricted(space: Space, archs: np.ndarray) -> Space:
    """The part of `space` that has these architectures (n, d) and no others.

    A search of a table that does not have the whole space stays inside it so.
    """
    code = jax.jit(lambda archs: jax.lax.map(space.code, archs, batch_size=8192))
    codes = np.unique(code(jnp.asarray(archs, jnp.int32)))

    def is_valid(arch: Array) -> Array:
        at = jnp.minimum(jnp.searchsorted(codes, space.code(arch)), len(codes) - 1)
        return (jnp.asarray(codes)[at] == space.code(arch)) & space.is_valid(arch)

    return dataclasses.replace(space, size=len(codes), is_valid=is_valid)


def as_choices(space: Space, arch: Array | np.ndarray) -> np.ndarray:
    """`arch` as int32 (d,), valid or not; `ValueError` for what are no choices."""
    given = np.asarray(arch)
    wanted = (len(space.choices),)
    if given.shape != wanted or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            f"an architecture of {space.name} is an integer vector of shape {wanted}, "
            f"not {given.dtype} {given.shape}"
        )
    outside = (given < 0) | (given >= np.asarray(space.choices))
    if outside.any():
        p = int(np.argmax(outside))
        raise ValueError(
            f"{space.name} has choices 0..{space.choices[p] - 1} at position {p}, "
            f"not {given[p]}"
        )
    return given.astype(np.int32)


def check(space: Space, arch: Array | np.ndarray) -> np.ndarray:
    """Returns `arch` as int32 (d,), or raises `ValueError` that says what is wrong."""
    vector = as_choices(space, arch)
    if not bool(space.is_valid(jnp.asarray(vector))):
        wanted = f": wanted {space.rule}" if space.rule else ""
        raise ValueError(
            f"{vector.tolist()} is not a valid architecture of {space.name}{wanted}"
        )
    return vector


def every(space: Space) -> np.ndarray:
    """All valid vectors of `space`, (n, d) int32 in the order of `rank`.

    Raises: `ValueError` for a space of more than 2^20 vectors.
    """
    if num_vectors(space) > 2**20:
        raise ValueError(
            f"{space.name} has {num_vectors(space):,} vectors, more than 2^20: sample it"
        )
    vectors = np.indices(space.choices, np.int32).reshape(len(space.choices), -1).T
    if space.is_valid is always:
        return vectors
    return vectors[np.asarray(jax.vmap(space.is_valid)(jnp.asarray(vectors)))]


def num_vectors(space: Space) -> int:
    """How many vectors the product of choices has, valid or not."""
    return math.prod(space.choices)
