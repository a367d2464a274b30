"""Distances over a pool of architectures, by column and by pair, and their kernel.

A distance that is an L1 distance of embeddings never needs the (n, m, f) differences:
coordinates are the leading axis, so a column of distances to the whole pool is one pass
over contiguous rows. Any other distance is a table of its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array, check_shapes


class DistanceMatrix(NamedTuple):
    """A distance that is no L1 distance, by its values between k kinds of things."""

    values: Array  # (k, k), symmetric, 0 on the diagonal
    kind: (
        Array  # (u,) int32: which of the k is each architecture, or distinct embedding
    )
    spectrum: Array  # (2,) least and greatest eigenvalue; see `definite`


class Embeddings(NamedTuple):
    """The distinct embeddings of a pool of n architectures, coordinates first."""

    parts: tuple[Array | DistanceMatrix, ...]  # c of them: arrays (f_j, u), or tables
    column: Array  # (n,) int32: which of the u columns is each architecture's


def num_distinct(embeddings: Embeddings) -> int:
    """u, the number of distinct embeddings."""
    part = embeddings.parts[0]
    return part.kind.shape[0] if isinstance(part, DistanceMatrix) else part.shape[1]


def laplace(distances: Array, scales: Array) -> Array:
    """exp(-sum_j d_j / l_j): distances (c, ...), scales (c,) -> (...)."""
    return jnp.exp(-jnp.tensordot(1 / scales, distances, axes=1))


def l1(x: Array, y: Array) -> Array:
    """L1 distances (n, m) of the columns of `x` (f, n) and `y` (f, m).

    Holds (n, m) and never (f, n, m).
    """

    check_shapes(x=(x, "fn"), y=(y, "fm"))
    x, y = jnp.asarray(x), jnp.asarray(y)

    # A loop of vectorised passes over m: a sum over the leading axis is 3 times slower.
    def add(f: Array, total: Array) -> Array:
        return total + jnp.abs(x[f][:, None] - y[f][None])

    zero = jnp.zeros((x.shape[1], y.shape[1]), x.dtype)
    return jax.lax.fori_loop(0, x.shape[0], add, zero)


def distances_between(embeddings: Embeddings, index: Array) -> Array:
    """Distances (c, n, n) by part between the distinct embeddings `index` (n,)."""

    def of_part(part: Array | DistanceMatrix) -> Array:
        if isinstance(part, DistanceMatrix):
            kind = part.kind[index]
            return part.values[kind[:, None], kind]
        return l1(part[:, index], part[:, index])

    return jnp.stack([of_part(part) for part in embeddings.parts])


def distances_from(embeddings: Embeddings, index: Array) -> Array:
    """Distances (c, u) by part from distinct embedding `index` () to all of them."""

    def of_part(part: Array | DistanceMatrix) -> Array:
        if isinstance(part, DistanceMatrix):
            return part.values[part.kind[index]][part.kind]
        return l1(part[:, index, None], part)[0]

    return jnp.stack([of_part(part) for part in embeddings.parts])


def compress_embeddings(parts: Sequence[np.ndarray | DistanceMatrix]) -> Embeddings:
    """Prepares embeddings (n, f_j), and tables of n architectures, on the host.

    No distance changes by more than rounding, which is 1e-6 of a part's largest
    coordinate. Coordinates that are constant are dropped, coordinates that are multiples
    of each other are merged, and equal embeddings are stored once. A part without any
    variation is dropped.

    Raises: `ValueError` if no part varies, for parts of different lengths, and for
      embeddings that are not finite or so large that their digits cannot be compared.
    """
    arrays = [
        np.asarray(p, np.float64) for p in parts if not isinstance(p, DistanceMatrix)
    ]
    for array in arrays:
        if array.ndim != 2:
            raise ValueError(f"an embedding is of shape (n, f), not {array.shape}")
        # Negated, so that NaN is refused.
        if array.size and not np.abs(array).max() < 1e12:
            raise ValueError(
                "embeddings must be finite and below 1e12, found "
                f"{array.flat[np.argmax(~(np.abs(array) < 1e12))]}"
            )
    sizes = {len(p.kind) if isinstance(p, DistanceMatrix) else len(p) for p in parts}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            "wanted parts of the same architectures, at least one, found parts of "
            f"{', '.join(map(str, sorted(sizes))) or 'none'}"
        )
    reduced = [r for r in map(_reduce, arrays) if r.size]
    tables = [
        p for p in parts if isinstance(p, DistanceMatrix) and len(np.unique(p.kind)) > 1
    ]
    kinds = [np.asarray(t.kind, np.float64)[:, None] for t in tables]
    if not reduced and not tables:
        raise ValueError("all architectures have the same embedding: nothing to model")
    # Compared in units of each part's largest coordinate, whatever those of the user are.
    scaled = [r / np.abs(r).max() for r in reduced]
    first, row = _distinct(np.concatenate(scaled + kinds, axis=1))
    chosen: list[Array | DistanceMatrix] = [
        jnp.asarray(np.ascontiguousarray(r[first].T, np.float32)) for r in reduced
    ]
    chosen += [t._replace(kind=jnp.asarray(t.kind)[first]) for t in tables]
    return Embeddings(tuple(chosen), jnp.asarray(row, jnp.int32))


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One index of each distinct row (to 6 digits) of (n, f), and which is each row's.

    Rows are compared by 64-bit universal hashes of their digits: sorting whole rows of
    a large space takes a minute, and two of n rows collide with probability n^2 / 2^65.
    """
    digits = np.round(rows * 1e6).astype(np.int64).view(np.uint64)
    factors = np.random.default_rng(0).integers(
        2**63, size=rows.shape[1], dtype=np.uint64
    )
    with np.errstate(over="ignore"):
        code = (digits * (2 * factors + 1)).sum(1)
    _, first, row = np.unique(code, return_index=True, return_inverse=True)
    return first, row.reshape(-1)


def _reduce(part: np.ndarray) -> np.ndarray:
    """Merges coordinates (n, f) that differ by a factor and an offset."""
    centred = part - part.mean(0)
    size = np.abs(centred).mean(0)
    # More than rounding, also of one architecture alone or beside a large offset.
    keep = np.ptp(part, 0) > 1e-14 * np.abs(part).max(0)
    direction = centred[:, keep] / size[keep]
    first = np.argmax(np.abs(direction) > 1e-6, axis=0)
    direction *= np.sign(direction[first, np.arange(direction.shape[1])])
    index, group = _distinct(direction.T)
    total = np.zeros(len(index))
    np.add.at(total, group, size[keep])
    return direction[:, index] * total


def mean_distances(embeddings: Embeddings, num: int = 2000) -> np.ndarray:
    """The mean distance (c,) by part over pairs of up to `num` architectures."""
    rng = np.random.default_rng(0)
    a, b = rng.choice(np.asarray(embeddings.column), (2, num))

    def of_part(part: Array | DistanceMatrix) -> float:
        if isinstance(part, DistanceMatrix):
            kind = np.asarray(part.kind)
            return np.asarray(part.values)[kind[a], kind[b]].mean()
        array = np.asarray(part)
        return np.abs(array[:, a] - array[:, b]).sum(0).mean()

    return np.array([of_part(part) for part in embeddings.parts])
