"""Maps over many architectures or problems, in pieces that fit the memory or the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array

# Problems side by side: as many as keep a solver's arrays of 8 x 8 in the cache.
BLOCK = 64


def in_blocks(function: Callable[..., Array], *problems: Any, size: int = BLOCK):
    """Applies a solver to `problems`, pytrees of arrays (p, ...), one after another.

    Args:
      function: takes the same pytrees with up to `size` problems on the last axis of
        each array, and returns (size,).

    Returns: (p,).
    """
    num = jax.tree.leaves(problems)[0].shape[0]
    size = max(1, min(size, num))
    blocks = -(-num // size)

    def cut(x: Array) -> Array:
        # The last block is filled up with the first problems again.
        x = x[jnp.arange(blocks * size) % num]
        return jnp.moveaxis(x.reshape(blocks, size, *x.shape[1:]), 1, -1)

    some = jax.tree.map(lambda x: cut(jnp.asarray(x)), problems)
    return jax.lax.map(lambda block: function(*block), some).reshape(-1)[:num]


def in_chunks(function: Callable, rows: np.ndarray, size: int = 16384):
    """`vmap(function)` over `rows` (n, ...) in pieces, gathered on the host."""
    batched = jax.jit(jax.vmap(function))
    parts = [batched(rows[i : i + size]) for i in range(0, len(rows), size)]
    return jax.tree.map(lambda *xs: np.concatenate([np.asarray(x) for x in xs]), *parts)
