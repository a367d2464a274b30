"""Search spaces as data, and the functions that serve every one of them.

An architecture is one int32 vector `(d,)`, a choice per position. A `Space` says how
many choices each position has, which vectors are valid, and which are the same
architecture. It is frozen and hashable, so it can be closed over or be a static argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.batching import in_chunks
from jaxnas.spaces import identity as identities
from jaxnas.spaces.identity import Identity
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
      identity: arch (d,) -> (2,) uint32, equal for two vectors if and only if they are
        the same architecture; exact, or a 64-bit hash of the canonical form (see
        `spaces.identity` for the probability of a collision).
      to_string, from_string: the space's own notation of an architecture, on the host;
        `from_string` raises `ValueError` for a malformed text.
      size: how many different architectures there are; None if that is not known.
      labels: names of the operation labels of the graphs, by index.
      graphs: functions arch (d,) -> Graph, one for each graph of an architecture (a
        normal and a reduction cell, say); empty where architectures are no graphs.
      is_valid: arch (d,) -> () bool.
      rule: what a valid vector has, in words, for error messages.
      active: arch (d,) -> (d,) bool, the positions that the architecture uses; it
        depends on active positions alone, and `identity` ignores the others. None if
        every position is always active.
      paths: arch (d,) -> (p,) bool, which operation paths it has, where that is defined.
      draw: key -> arch (d,), valid. Default: uniform over valid vectors, by rejection.
      vary: (key, arch (d,)) -> arch (d,), a mutation. Default: one position changes.
      near: arch (d,) -> vectors (k, d) and whether each is valid (k,). Default: all
        changes of one position.
    """

    name: str
    choices: tuple[int, ...]
    identity: Identity
    to_string: Callable[[Array | np.ndarray], str]
    from_string: Callable[[str], np.ndarray]
    size: int | None = None
    labels: tuple[str, ...] = ()
    graphs: tuple[Callable[[Array], Graph], ...] = ()
    is_valid: Callable[[Array], Array] = always
    rule: str = ""
    active: Callable[[Array], Array] | None = None
    paths: Callable[[Array], Array] | None = None
    draw: Callable[[Array], Array] | None = None
    vary: Callable[[Array, Array], Array] | None = None
    near: Callable[[Array], tuple[Array, Array]] | None = None

    def to_graph(self, arch: Array) -> Graph:
        """The graph of an architecture; `ValueError` unless it has exactly one."""
        if len(self.graphs) != 1:
            raise ValueError(
                f"an architecture of {self.name} has {len(self.graphs)} graphs: wanted one"
            )
        return self.graphs[0](arch)


def _alternatives(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Position and increment (modulo its choices) of every one-position change."""
    pairs = [(p, s) for p, c in enumerate(space.choices) for s in range(1, c)]
    position, shift = np.array(pairs, np.int32).reshape(-1, 2).T
    return position, shift


def _changes(space: Space, arch: Array) -> Array:
    position, shift = _alternatives(space)
    choices = np.asarray(space.choices, np.int32)[position]
    value = (arch[position] + shift) % choices
    rows = jnp.broadcast_to(arch, (len(position), len(space.choices)))
    return rows.at[jnp.arange(len(position)), position].set(value)


def sample(key: Array, space: Space) -> Array:
    """Draws an architecture (d,): `space.draw`, or uniformly over the valid vectors."""
    if space.draw is not None:
        return space.draw(key)
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
    """The vectors next to `arch` (d,): `space.near`, or all changes of one position.

    A change of a position that `arch` does not use is not valid: it gives the same
    architecture.

    Returns: vectors (k, d), k = sum(choices - 1) by default, and whether each is valid,
      (k,).
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
    """Changes `arch` (d,) at random; the result is valid.

    Without `space.vary` exactly one position changes. It is uniform among those that
    have a valid change, the new choice uniform among its valid ones. Where `space.near`
    says what a change is, the result is uniform among the valid ones of these. An
    architecture that has no valid neighbour stays as it is.
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
        where = jax.random.categorical(key_position, jnp.where(possible, 0.0, -jnp.inf))
        allowed &= position == where
    which = jax.random.categorical(key_choice, jnp.where(allowed, 0.0, -jnp.inf))
    return jnp.where(jnp.any(valid), changed[which], arch)


def _place_values(choices: tuple[int, ...]) -> np.ndarray:
    return np.cumprod((1, *choices[:0:-1]))[::-1].astype(np.int32)


def _require_ranks(space: Space) -> None:
    if num_vectors(space) >= 2**31:
        raise ValueError(
            f"{space.name} has {num_vectors(space):,} vectors: ranks are int32, below "
            "2^31; `space.identity` tells architectures of any space apart"
        )


def rank(space: Space, arch: Array) -> Array:
    """The index () int32 of `arch` (d,) among all vectors of `space`, first slowest.

    Raises: `ValueError` for a space of 2^31 vectors or more.
    """
    _require_ranks(space)
    place = _place_values(space.choices)
    return jnp.sum(jnp.asarray(arch, jnp.int32) * place, -1, jnp.int32)


def unrank(space: Space, index: Array) -> Array:
    """The vector (d,) whose `rank` is `index` ().

    Raises: `ValueError` for a space of 2^31 vectors or more.
    """
    _require_ranks(space)
    choices = np.asarray(space.choices, np.int32)
    return jnp.asarray(index, jnp.int32) // _place_values(space.choices) % choices


def product(
    name: str,
    choices: tuple[int, ...],
    *,
    active: Callable[[Array], Array] | None = None,
) -> Space:
    """A space of independent choices and no graph: anything a user can number.

    Its notation is the choices with commas between them.

    Args:
      name: what tables and error messages call it.
      choices: how many there are at each position, 1 to 65,536.
      active: arch (d,) -> (d,) bool, the positions that an architecture uses; vectors
        that differ elsewhere are the same architecture, and the size is not known.

    Raises: `ValueError` for no position, or one without choices.
    """
    given = tuple(choices) if isinstance(choices, Iterable) else ()
    most = identities.MAX_CHOICES
    if not given or not all(isinstance(c, Integral) and 1 <= c <= most for c in given):
        raise ValueError(
            f"choices must be at least one whole number from 1 to {most}, not {choices!r}"
        )
    given = tuple(map(int, given))
    by_value = identities.of_product(given)

    def masked(arch: Array) -> Array:
        return by_value(jnp.where(active(arch), arch, 0)) if active else by_value(arch)

    def from_string(text: str) -> np.ndarray:
        try:
            numbers = np.array([int(number) for number in text.split(",")], np.int64)
        except (ValueError, OverflowError):
            raise ValueError(
                f"{text!r} is not an architecture of {name}: wanted {len(given)} "
                "numbers with commas between them"
            ) from None
        return validate_arch(space, numbers)

    space = Space(
        name=name,
        choices=given,
        identity=masked,
        to_string=lambda arch: ",".join(str(int(choice)) for choice in arch),
        from_string=from_string,
        size=None if active else math.prod(given),
        active=active,
    )
    return space


def identify(space: Space, archs: np.ndarray) -> np.ndarray:
    """Sortable identities (n,) uint64 of architectures (n, d), on the host."""
    return identities.to_uint64(in_chunks(space.identity, np.asarray(archs, np.int32)))


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


def validate_arch(space: Space, arch: Array | np.ndarray) -> np.ndarray:
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
