"""Maps over many architectures or problems, in pieces that fit the memory or the cache."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array

# Problems in a block: as many as keep the 8 x 8 arrays of a solver in the cache of a CPU,
# and as many as occupy an accelerator.
BLOCK, LARGE_BLOCK = 64, 2**14
# Compiled maps by the function.
_COMPILED: MutableMapping[Callable, Callable] = weakref.WeakKeyDictionary()


def map_each(function: Callable[..., Any], rows: Any) -> Any:
    """Maps a function over rows: one after another on a CPU, at once on other backends.

    A CPU keeps one small problem in its cache. An accelerator takes as long for one as for
    all of them, if their arrays fit the memory side by side.

    Args:
      function: of one row, as for `vmap`.
      rows: pytree of arrays (n, ...).
    """
    one_by_one = functools.partial(jax.lax.map, function)
    return jax.lax.platform_dependent(rows, cpu=one_by_one, default=jax.vmap(function))


def in_blocks(
    function: Callable[..., Array], *problems: Any, size: int | None = None
) -> Array:
    """Applies a solver of many problems to blocks of them, one block after another.

    Args:
      function: takes pytrees as `problems`, with up to `size` problems on the last axis
        of each array, and returns (size,).
      *problems: pytrees of arrays (p, ...).
      size: problems in a block; default: 64 if the default backend is a CPU, else 16384.

    Returns: (p,).
    """
    if size is None:
        size = BLOCK if jax.default_backend() == "cpu" else LARGE_BLOCK
    num = jax.tree.leaves(problems)[0].shape[0]
    size = max(1, min(size, num))
    blocks = -(-num // size)

    def cut(x: Array) -> Array:
        # The last block is padded with the first problems.
        x = x[jnp.arange(blocks * size) % num]
        return jnp.moveaxis(x.reshape(blocks, size, *x.shape[1:]), 1, -1)

    blocked = jax.tree.map(lambda x: cut(jnp.asarray(x)), problems)
    return jax.lax.map(lambda block: function(*block), blocked).reshape(-1)[:num]


def padded_blocks(arrays: Any, size: int) -> Any:
    """Cuts rows into blocks of one size, for `lax.map`; the last is padded with zeros.

    Args:
      arrays: pytree of arrays (n, ...), n >= 1.
      size: the largest number of rows of a block; rows are spread evenly, so that fewer
        than one row per block is padding.

    Returns: the pytree, of arrays (b, rows, ...) with b = ceil(n / size).
    """
    num = len(jax.tree.leaves(arrays)[0])
    blocks = -(-num // size)
    rows = -(-num // blocks)

    def cut(x: Array) -> Array:
        padding = [(0, blocks * rows - num)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(blocks, rows, *x.shape[1:])

    return jax.tree.map(cut, arrays)


def _compiled(function: Callable) -> Callable:
    """`vmap(function)`, compiled; the same for the same function while it lives."""
    try:
        # The program may not keep alive the function that it is found by.
        found, reference = _COMPILED.get(function), weakref.ref(function)
    except TypeError:  # it has no hash, or no weak reference
        return jax.jit(jax.vmap(function))
    if found is None:

        def of_one(row: Any) -> Any:
            return reference()(row)  # type: ignore[misc]

        found = _COMPILED[function] = jax.jit(jax.vmap(of_one))
    return found


def in_chunks(function: Callable, rows: np.ndarray, size: int = 16384):
    """Applies `vmap(function)` to rows in chunks, and gathers the results on the host.

    Args:
      function: of one row, returns a pytree of arrays. It is compiled once for each shape
        of a chunk while it lives, so what it closes over may not change.
      rows: (n, ...), n >= 1.
      size: rows in a chunk; the last chunk may be shorter, and is compiled separately.

    Returns: the pytree, of NumPy arrays with a leading axis (n,).
    """
    batched = _compiled(function)
    parts = [batched(rows[i : i + size]) for i in range(0, len(rows), size)]
    return jax.tree.map(lambda *xs: np.concatenate([np.asarray(x) for x in xs]), *parts)


def rows_together(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets `vmap` over rows call a function once for all of them.

    A function that is written for many rows, and fast for many, would otherwise run as a
    loop over batches of one: so would many runs of a search side by side.

    Args:
      function: of constants, any pytree, and rows (r, ...); returns a pytree of arrays
        with a leading axis (r,).

    Returns: the function, compiled. Under `vmap` over the rows alone all rows of the batch
      are one call; under `vmap` over constants it is mapped as usual.
    """
    batched = jax.custom_batching.custom_vmap(function)

    @batched.def_vmap
    def rule(size: int, in_batched: tuple, constants: Any, rows: Array):
        if any(jax.tree.leaves(in_batched[0])) or not in_batched[1]:
            axes = jax.tree.map(lambda b: 0 if b else None, in_batched)
            out = jax.vmap(function, axes, axis_size=size)(constants, rows)
        else:
            num = rows.shape[1]
            out = batched(constants, rows.reshape(size * num, *rows.shape[2:]))
            cut = lambda part: part.reshape(size, num, *part.shape[1:])  # noqa: E731
            out = jax.tree.map(cut, out)
        return out, jax.tree.map(lambda _: True, out)

    return jax.jit(batched)
