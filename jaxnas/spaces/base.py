"""Search spaces as data, and functions that serve all of them.

An architecture is one int32 vector `(d,)`, a choice per position. A `Space` says how
many choices each position has, which vectors are valid, and which are the same
architecture. It is frozen and hashable, so it can be closed over or be a static argument.

Four names for one architecture: the vector; its `identity`, 64 bits, equal if and only if
two vectors are the same architecture; its rank, `rank(space, arch)`, the index of the
vector in a small space; and its string, the notation of the literature, for people and
files.
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
      name: of the space, in tables and error messages.
      choices: the number of choices at each of the d positions.
      identity: arch (d,) -> (2,) uint32, equal for two vectors if and only if they are
        the same architecture; exact, or a 64-bit hash of the canonical form (see
        `spaces.identity` for the probability of a collision).
      to_string, from_string: the space's own notation of an architecture, on the host;
        `from_string` raises `ValueError` for a malformed text.
      size: number of different architectures; None if unknown.
      labels: names of the operation labels of the graphs, by index.
      graphs: functions arch (d,) -> Graph, one for each graph of an architecture (a
        normal and a reduction cell, say); empty if architectures are not graphs.
      is_valid: arch (d,) -> () bool.
      rule: the condition for a valid vector, in words, for error messages.
      active: arch (d,) -> (d,) bool, the positions that the architecture uses; it
        depends on active positions alone, and `identity` ignores the others. None if
        every position is always active.
      paths: arch (d,) -> (p,) bool, the path encoding (White et al., 2021), if defined.
      draw: key -> arch (d,), valid. Default: uniform over valid vectors, by rejection;
        see `spaces.moves` for this and the next two.
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
        """Converts an architecture (d,) to its graph.

        Raises: `ValueError` unless the space has exactly one graph for each architecture.
        """
        if len(self.graphs) != 1:
            raise ValueError(
                f"an architecture of {self.name} has {len(self.graphs)} graphs: wanted one"
            )
        return self.graphs[0](arch)


def _place_values(choices: tuple[int, ...]) -> np.ndarray:
    """The weight of each position in a rank, as in a number of mixed radix."""
    return np.cumprod((1, *choices[:0:-1]))[::-1].astype(np.int32)


def _require_ranks(space: Space) -> None:
    if num_vectors(space) >= 2**31:
        raise ValueError(
            f"{space.name} has {num_vectors(space):,} vectors: ranks are int32, below "
            "2^31; `space.identity` tells architectures of any space apart"
        )


def rank(space: Space, arch: Array) -> Array:
    """Numbers an architecture among all vectors, valid or not.

    Args:
      space: of fewer than 2^31 vectors.
      arch: (..., d) int32.

    Returns: (...) int32, the index in lexicographic order.
    Raises: `ValueError` for a space of 2^31 vectors or more.
    """
    _require_ranks(space)
    weights = _place_values(space.choices)
    return jnp.sum(jnp.asarray(arch, jnp.int32) * weights, -1, jnp.int32)


def unrank(space: Space, index: Array) -> Array:
    """Inverts `rank`.

    Args:
      space: of fewer than 2^31 vectors.
      index: () int32.

    Returns: (d,) int32.
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
    """Makes a space of independent choices, without a graph.

    Its notation is the choices with commas between them.

    Args:
      name: of the space, in tables and error messages.
      choices: number of choices at each position, 1 to 65,536.
      active: arch (d,) -> (d,) bool, the positions that an architecture uses; vectors
        that differ elsewhere are the same architecture, and the size is unknown.

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
    """Computes sortable identities on the host.

    Args:
      space: with `identity`.
      archs: (n, d) integers.

    Returns: (n,) uint64.
    """
    return identities.to_uint64(in_chunks(space.identity, np.asarray(archs, np.int32)))


def as_choices(space: Space, arch: Array | np.ndarray) -> np.ndarray:
    """Checks that a vector holds a choice for each position, valid together or not.

    Args:
      space: of d positions.
      arch: (d,) integers.

    Returns: (d,) int32, on the host.
    Raises: `ValueError` for another shape or type, and for choices out of range.
    """
    given = np.asarray(arch)
    shape = (len(space.choices),)
    if given.shape != shape or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            f"an architecture of {space.name} is an integer vector of shape {shape}, "
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


def contains(space: Space, arch: Array) -> Array:
    """Whether a vector is a valid architecture of a space; `validate_arch` when traced.

    Args:
      space: of d positions.
      arch: (d,) integers, which may be out of range.

    Returns: () bool.
    """
    in_range = jnp.all((arch >= 0) & (arch < jnp.asarray(space.choices)))
    return in_range & space.is_valid(arch)


def validate_arch(space: Space, arch: Array | np.ndarray) -> np.ndarray:
    """Checks that a vector is a valid architecture of a space.

    Args:
      space: of d positions.
      arch: (d,) integers.

    Returns: (d,) int32, on the host.
    Raises: `ValueError` as `as_choices`, and if `space.is_valid` refuses it.
    """
    vector = as_choices(space, arch)
    if not bool(space.is_valid(jnp.asarray(vector))):
        rule = f": wanted {space.rule}" if space.rule else ""
        raise ValueError(
            f"{vector.tolist()} is not a valid architecture of {space.name}{rule}"
        )
    return vector


def every(space: Space) -> np.ndarray:
    """Lists all valid vectors of a space, (n, d) int32 in the order of `rank`.

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
    """Counts the vectors of the product of choices, valid or not."""
    return math.prod(space.choices)
