"""The pool of architectures that a model-based search chooses from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas import gp
from jaxnas.kernels import gram
from jaxnas.kernels.distances import Parts
from jaxnas.kernels.gram import in_chunks
from jaxnas.spaces import base
from jaxnas.spaces.base import Space, every
from jaxnas.types import Array


class Pool(NamedTuple):
    """What is searched: n different architectures with u distinct embeddings."""

    code: Array  # (n,) int32, ascending
    arch: Array  # (n, d) int32
    embedding: gram.Embedding
    prior: gp.HyperPrior


def make_pool(
    space: Space,
    features: Sequence[Parts] = (),
    *,
    arch: np.ndarray | Array | None = None,
    tables: Sequence[Callable[[np.ndarray], gram.Table]] = (),
    scale: float = 1.0,
) -> Pool:
    """Embeds architectures of `space`, on the host.

    Architectures of the same `space.code` count as one, and the smallest vector of them is
    kept, whatever their order: in NAS-Bench-201 dead edges of it are `none`.

    Args:
      features: functions arch (d,) -> tuple of (f,) arrays; every array is a part of the
        distance with a length-scale of its own.
      arch: (n, d). Default: every architecture of the space.
      tables: functions architectures (m, d) -> table of their distances, for distances
        that have no embedding; see `kernels.tables`.
      scale: prior median of each length-scale, in units of the part's mean distance times
        the number of parts.

    Raises: `ValueError` for architectures that are no choices of the space, and where all
      of a space of more than 2^20 vectors are wanted.
    """
    arch = every(space) if arch is None else _choices(space, np.asarray(arch))
    arch = arch[np.lexsort(arch.T[::-1])]
    code = in_chunks(space.code, arch)
    code, first = np.unique(code, return_index=True)
    arch = arch[first].astype(np.int32)
    parts = [part for f in features for part in in_chunks(f, arch)]
    embedding = gram.embedding([*parts, *(table(arch) for table in tables)])
    medians = scale * len(embedding.parts) * gram.mean_distances(embedding)
    prior = gp.HyperPrior(
        jnp.asarray(medians, jnp.float32), *(jnp.float32(x) for x in (1.0, 0.01, 2.0))
    )
    return Pool(jnp.asarray(code), jnp.asarray(arch), embedding, prior)


def _choices(space: Space, arch: np.ndarray) -> np.ndarray:
    num = len(space.choices)
    if arch.ndim != 2 or not len(arch) or arch.shape[1] != num:
        raise ValueError(f"arch must be (n, {num}) with n >= 1, not {arch.shape}")
    if not np.issubdtype(arch.dtype, np.integer):
        raise ValueError(f"arch must be integers, not {arch.dtype}")
    wrong = ((arch < 0) | (arch >= np.array(space.choices))).any(1)
    if wrong.any():
        base.as_choices(space, arch[np.argmax(wrong)])
    return arch


def place_of(pool: Pool, code: Array) -> Array:
    """The place in the pool of the architectures with these codes (...)."""
    return jnp.searchsorted(pool.code, code)
