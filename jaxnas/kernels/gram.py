"""Distances over a pool of n architectures, and the Laplace kernel of them.

A distance has c parts, each with a length-scale of its own. A part is either an L1
distance of embeddings or a precomputed `DistanceMatrix`. `compress_embeddings` stores
each distinct embedding of the pool once, so that a pool of n architectures has u <= n
columns; `distances_from` and `distances_between` compute distances of columns.

Embeddings are stored with coordinates as the leading axis. Distances from one embedding
to the whole pool are then one pass over contiguous rows, and the (n, m, f) differences
are never held.

Indices: a column (0 to u - 1) counts distinct embeddings, a kind (0 to k - 1) the
distinct rows of a distance matrix. See `predictors.pool` for how they relate to pool
indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.precision import full_precision
from jaxnas.types import Array, check_shapes


class DistanceMatrix(NamedTuple):
    """A precomputed distance matrix, for distances without an L1 embedding."""

    values: Array  # (k, k) float32, symmetric, 0 on the diagonal
    # (n,) int32, the kind of each architecture; within `Embeddings` (u,), that of each
    # column
    kind: Array
    spectrum: Array  # (2,) smallest and largest eigenvalue; see `kernels.definite`


class Embeddings(NamedTuple):
    """The u distinct embeddings of a pool of n architectures, coordinates first."""

    parts: tuple[
        Array | DistanceMatrix, ...
    ]  # c of them: (f_j, u) float32, or matrices
    column: Array  # (n,) int32, the column of each architecture, below u


def num_distinct(embeddings: Embeddings) -> int:
    """Number u of distinct embeddings."""
    part = embeddings.parts[0]
    return part.kind.shape[0] if isinstance(part, DistanceMatrix) else part.shape[1]


@full_precision
def laplace(distances: Array, scales: Array) -> Array:
    """Laplace kernel exp(-sum_j d_j / l_j), a product of one kernel for each part.

    Args:
      distances: (c, ...) by part.
      scales: (c,) length-scales, positive.

    Returns: (...), between 0 and 1.
    """
    return jnp.exp(-jnp.tensordot(1 / scales, distances, axes=1))


def l1(x: Array, y: Array) -> Array:
    """L1 distances between embeddings, in memory for (n, m) and not for (f, n, m).

    Args:
      x: (f, n), one embedding a column.
      y: (f, m), one embedding a column.

    Returns: (n, m).
    Raises: `ValueError` for different numbers of coordinates.
    """
    check_shapes(x=(x, "fn"), y=(y, "fm"))
    x, y = jnp.asarray(x), jnp.asarray(y)

    # A loop of vectorised passes over m: a sum over the leading axis is 3 times slower.
    def add(f: Array, total: Array) -> Array:
        return total + jnp.abs(x[f][:, None] - y[f][None])

    zero = jnp.zeros((x.shape[1], y.shape[1]), x.dtype)
    return jax.lax.fori_loop(0, x.shape[0], add, zero)


def distances_between(embeddings: Embeddings, columns: Array) -> Array:
    """Distances (c, m, m) by part between the distinct embeddings `columns` (m,)."""

    def of_part(part: Array | DistanceMatrix) -> Array:
        if isinstance(part, DistanceMatrix):
            kind = part.kind[columns]
            return part.values[kind[:, None], kind]
        return l1(part[:, columns], part[:, columns])

    return jnp.stack([of_part(part) for part in embeddings.parts])


def distances_from(embeddings: Embeddings, column: Array) -> Array:
    """Distances (c, u) by part from one distinct embedding `column` () to all."""

    def of_part(part: Array | DistanceMatrix) -> Array:
        if isinstance(part, DistanceMatrix):
            return part.values[part.kind[column]][part.kind]
        return l1(part[:, column, None], part)[0]

    return jnp.stack([of_part(part) for part in embeddings.parts])


def compress_embeddings(features: Sequence[np.ndarray | DistanceMatrix]) -> Embeddings:
    """Removes the redundancy of embeddings of n architectures, on the host.

    Coordinates that are constant are dropped, coordinates that are multiples of each
    other are merged, and equal embeddings are stored once. A part that is the same for
    all architectures is dropped. Distances change by rounding only, which is 1e-6 of a
    part's largest coordinate.

    Args:
      features: one array (n, f_j) or distance matrix of n architectures for each part of
        the distance.

    Returns: the distinct embeddings; parts that are arrays come before distance matrices.
    Raises: `ValueError` if no part varies, for parts of different lengths, and for
      embeddings that are not finite or so large that their digits cannot be compared.
    """
    arrays = [
        np.asarray(x, np.float64) for x in features if not isinstance(x, DistanceMatrix)
    ]
    _validate_arrays(arrays)
    sizes = {len(x.kind) if isinstance(x, DistanceMatrix) else len(x) for x in features}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            "all features must be of the same architectures, at least one, not of "
            f"{', '.join(map(str, sorted(sizes))) or 'none'}"
        )
    reduced = [r for r in map(_merge_coordinates, arrays) if r.size]
    matrices = [
        x
        for x in features
        if isinstance(x, DistanceMatrix) and len(np.unique(x.kind)) > 1
    ]
    kinds = [np.asarray(m.kind, np.float64)[:, None] for m in matrices]
    if not reduced and not matrices:
        raise ValueError("all architectures have the same embedding: nothing to model")
    # In units of each part's largest coordinate, so that the user's unit has no effect.
    scaled = [r / np.abs(r).max() for r in reduced]
    first, column = _distinct(np.concatenate(scaled + kinds, axis=1))
    parts: list[Array | DistanceMatrix] = [
        jnp.asarray(np.ascontiguousarray(r[first].T, np.float32)) for r in reduced
    ]
    parts += [m._replace(kind=jnp.asarray(m.kind)[first]) for m in matrices]
    return Embeddings(tuple(parts), jnp.asarray(column, jnp.int32))


def _validate_arrays(arrays: list[np.ndarray]) -> None:
    """Raises `ValueError` unless arrays are (n, f), finite and below 1e12."""
    for array in arrays:
        if array.ndim != 2:
            raise ValueError(f"an embedding is of shape (n, f), not {array.shape}")
        # Negated, so that NaN is refused.
        if array.size and not np.abs(array).max() < 1e12:
            raise ValueError(
                "embeddings must be finite and below 1e12, found "
                f"{array.flat[np.argmax(~(np.abs(array) < 1e12))]}"
            )


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows of (n, f) to 6 decimals: an index of each, and the group of each row.

    Rows are compared by 64-bit universal hashes of their digits: sorting whole rows of
    a large space takes a minute, and two of n rows collide with probability n^2 / 2^65.
    """
    digits = np.round(rows * 1e6).astype(np.int64).view(np.uint64)
    factors = np.random.default_rng(0).integers(
        2**63, size=rows.shape[1], dtype=np.uint64
    )
    with np.errstate(over="ignore"):
        hashed = (digits * (2 * factors + 1)).sum(1)
    _, first, group = np.unique(hashed, return_index=True, return_inverse=True)
    return first, group.reshape(-1)


def _merge_coordinates(part: np.ndarray) -> np.ndarray:
    """Merges coordinates (n, f) that differ by a factor and an offset."""
    centred = part - part.mean(0)
    size = np.abs(centred).mean(0)
    keep = varying_coordinates(part)
    direction = centred[:, keep] / size[keep]
    first = np.argmax(np.abs(direction) > 1e-6, axis=0)
    direction *= np.sign(direction[first, np.arange(direction.shape[1])])
    index, group = _distinct(direction.T)
    total = np.zeros(len(index))
    np.add.at(total, group, size[keep])
    return direction[:, index] * total


def varying_coordinates(part: np.ndarray) -> np.ndarray:
    """Which coordinates (f,) of embeddings (n, f) vary by more than rounding."""
    # Relative to the largest value, so that a large offset does not count as variation.
    return np.ptp(part, 0) > 1e-14 * np.abs(part).max(0)


def mean_distances(embeddings: Embeddings, num: int = 2000) -> np.ndarray:
    """Mean distance (c,) by part over `num` random pairs of architectures."""
    rng = np.random.default_rng(0)
    a, b = rng.choice(np.asarray(embeddings.column), (2, num))

    def of_part(part: Array | DistanceMatrix) -> float:
        if isinstance(part, DistanceMatrix):
            kind = np.asarray(part.kind)
            return np.asarray(part.values)[kind[a], kind[b]].mean()
        array = np.asarray(part)
        return np.abs(array[:, a] - array[:, b]).sum(0).mean()

    return np.array([of_part(part) for part in embeddings.parts])
