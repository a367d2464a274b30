"""Distances over a pool of architectures, by column and by pair, and their kernel.

A distance that is an L1 distance of embeddings never needs the (n, m, f) differences:
coordinates are the leading axis, so a column of distances to the whole pool is one pass
over contiguous rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array


class Embedding(NamedTuple):
    """The distinct embeddings of a pool of n architectures, coordinates first."""

    parts: tuple[Array, ...]  # c arrays (f_j, u)
    row: Array  # (n,) int32: which of the u columns is each architecture's


def laplace(distances: Array, scales: Array) -> Array:
    """exp(-sum_j d_j / l_j): distances (c, ...), scales (c,) -> (...)."""
    return jnp.exp(-jnp.tensordot(1 / scales, distances, axes=1))


def pairwise(distance: Callable[[Array, Array], Array]) -> Callable:
    """(x, y) -> (c,) becomes (n, ...), (m, ...) -> (n, m, c)."""
    return jax.vmap(jax.vmap(distance, (None, 0)), (0, None))


def l1(x: Array, y: Array) -> Array:
    """L1 distances (n, m) of the columns of `x` (f, n) and `y` (f, m).

    Holds (n, m) and never (f, n, m).
    """

    x, y = jnp.asarray(x), jnp.asarray(y)

    # A loop of vectorised passes over m: a sum over the leading axis is 3 times slower.
    def add(f: Array, total: Array) -> Array:
        return total + jnp.abs(x[f][:, None] - y[f][None])

    zero = jnp.zeros((x.shape[1], y.shape[1]), x.dtype)
    return jax.lax.fori_loop(0, x.shape[0], add, zero)


def pairs(embedding: Embedding, index: Array) -> Array:
    """Distances (c, n, n) by part between the distinct embeddings `index` (n,)."""
    chosen = [part[:, index] for part in embedding.parts]
    return jnp.stack([l1(x, x) for x in chosen])


def column(embedding: Embedding, index: Array) -> Array:
    """Distances (c, u) by part from distinct embedding `index` () to all of them."""
    return jnp.stack([l1(p[:, index, None], p)[0] for p in embedding.parts])


def embedding(parts: Sequence[np.ndarray]) -> Embedding:
    """Prepares embeddings (n, f_j), on the host, without changing any distance.

    Coordinates that are constant are dropped, coordinates that are multiples of each
    other are merged, and equal embeddings are stored once. A part without any variation
    is dropped.

    Raises: `ValueError` if no part varies.
    """
    reduced = [r for r in (_reduce(np.asarray(p, np.float64)) for p in parts) if r.size]
    if not reduced:
        raise ValueError("all architectures have the same embedding: nothing to model")
    whole = np.concatenate(reduced, axis=1)
    first, row = _distinct(whole)
    cuts = np.cumsum([r.shape[1] for r in reduced])[:-1]
    columns = np.ascontiguousarray(whole[first].T, np.float32)
    return Embedding(
        tuple(jnp.asarray(p) for p in np.split(columns, cuts)),
        jnp.asarray(row, jnp.int32),
    )


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
    keep = size > 1e-9
    direction = centred[:, keep] / size[keep]
    first = np.argmax(np.abs(direction) > 1e-6, axis=0)
    direction *= np.sign(direction[first, np.arange(direction.shape[1])])
    index, group = _distinct(direction.T)
    total = np.zeros(len(index))
    np.add.at(total, group, size[keep])
    return direction[:, index] * total


def mean_distances(embedding: Embedding, num: int = 2000) -> np.ndarray:
    """The mean distance (c,) by part over pairs of up to `num` architectures."""
    rng = np.random.default_rng(0)
    row = np.asarray(embedding.row)
    a, b = rng.choice(row, (2, num))
    return np.array(
        [
            np.abs(p[:, a] - p[:, b]).sum(0).mean()
            for p in map(np.asarray, embedding.parts)
        ]
    )
