"""Distances between all cells of a pool, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.batching import in_blocks, in_chunks
from jaxnas.io import npz
from jaxnas.io.cache import cached
from jaxnas.kernels import definite
from jaxnas.kernels.gram import DistanceMatrix
from jaxnas.kernels.graph_distances import GraphDistance
from jaxnas.spaces import identity
from jaxnas.spaces.base import Space
from jaxnas.types import Array

# A table of that many takes 400 MB, and an eigendecomposition of it minutes.
MAX_KINDS = 10_000
# Part of the name of a cached table: raise it when a distance changes.
_CACHE_VERSION = 1
# Pairs in one call of a compiled program.
_CALL = 2**16


def distance_matrix(
    space: Space,
    arch: np.ndarray,
    distance: GraphDistance,
    *,
    same: Callable[[Array], Array] | None = None,
    repair: definite.Repair | None = None,
    cache: bool = True,
) -> DistanceMatrix:
    """The distances between architectures (n, d), as a part of an embedding.

    Args:
      same: arch (d,) -> () int32 from 0, equal for architectures that shall be at
        distance 0; the distance is then that of the one with the fewest vertices and
        edges. For example `nasbench201_classes.function_class`, which leaves 5,260 of
        15,625 cells. Default: `space.identity`.
      repair: what to do if the distance is not negative definite; see `definite`.
      cache: keep the table in the cache folder (`io.cache`), and take it
        from there if the same one, with the same repair, was kept.

    Raises: `ValueError` for more than 10,000 cells that differ in what the distance
      sees; and if the distance is not negative definite and `repair` is None.
    """
    chosen, group = representatives(space, np.asarray(arch), same)
    prepared, kind = _distinct(distance, np.asarray(arch)[chosen])
    num = len(jax.tree.leaves(prepared)[0])
    if num > MAX_KINDS:
        raise ValueError(
            f"{distance.name}: a table of {num:,} different cells is too large: "
            f"wanted at most {MAX_KINDS:,}"
        )

    def compute() -> tuple[np.ndarray, np.ndarray]:
        pairs = all_pairs(distance, prepared)
        checked = definite.require_negative_definite(pairs, repair, name=distance.name)
        spectrum = np.array([checked.smallest, checked.largest], np.float32)
        return checked.values.astype(np.float32), spectrum

    if cache:
        load, save = partial(_load, num), partial(_save, distance.name)
        name = f"{distance.name.split()[0]}-{_CACHE_VERSION}"
        digest = _digest(distance, prepared, repair)
        arrays = cached(name, digest, make=compute, load=load, save=save)
    else:
        arrays = compute()
    between, spectrum = (jnp.asarray(x) for x in arrays)
    return DistanceMatrix(between, jnp.asarray(kind[group], jnp.int32), spectrum)


def representatives(
    space: Space, arch: np.ndarray, same: Callable[[Array], Array] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The places (g,) of one architecture for each group, and the groups (n,) of all."""
    classes = space.identity if same is None else identity.from_code(same)
    code = identity.keys(in_chunks(classes, arch))
    graph = in_chunks(space.to_graph, arch)
    vertices, edges = graph.mask.sum(1), graph.adj.sum((1, 2))
    order = np.lexsort((edges, vertices, code))
    _, first, group = np.unique(code[order], return_index=True, return_inverse=True)
    back = np.empty_like(order)
    back[order] = group.reshape(-1)
    return order[first], back


def _distinct(distance: GraphDistance, arch: np.ndarray) -> tuple[Any, np.ndarray]:
    """What the distance sees of architectures, each once, and which is each one's."""
    prepared = in_chunks(distance.prepare, arch)
    rows = [x.reshape(len(arch), -1) for x in jax.tree.leaves(prepared)]
    _, first, kind = np.unique(
        np.concatenate(rows, axis=1), axis=0, return_index=True, return_inverse=True
    )
    return jax.tree.map(lambda x: x[first], prepared), kind.reshape(-1)


def all_pairs(distance: GraphDistance, prepared: Any) -> np.ndarray:
    """(k, k) float32 distances of `prepared` (k, ...), on all devices.

    Each pair is computed once, and cells are at 0 from themselves.

    Raises: `ValueError` if a distance is not finite.
    """
    num = len(jax.tree.leaves(prepared)[0])
    i, j = np.triu_indices(num, 1)
    devices = jax.local_devices()
    size = max(1, min(_CALL, -(-len(i) // len(devices))))

    def on_device(place: int) -> list[tuple[int, np.ndarray]]:
        here, found = jax.device_put(prepared, devices[place]), []
        for start in range(place * size, len(i), len(devices) * size):
            # The last call has as many pairs as the others, so that it compiles once.
            chosen = np.arange(start, start + size) % len(i)
            places = jax.device_put((i[chosen], j[chosen]), devices[place])
            found.append((start, np.asarray(_some(distance.between, here, *places))))
        return found

    flat = np.zeros(len(i), np.float32)
    with ThreadPoolExecutor(len(devices)) as pool:
        found = pool.map(on_device, range(len(devices)))
        for start, value in itertools.chain.from_iterable(found):
            flat[start : start + size] = value[: len(flat) - start]
    if not np.isfinite(flat).all():
        raise ValueError(f"{distance.name}: a distance is not finite")
    # A local optimum, or rounding, may end a little below 0.
    return _square(np.maximum(flat, 0.0), num)


@partial(jax.jit, static_argnums=0)
def _some(between: Callable, prepared: Any, i: Array, j: Array) -> Array:
    x, y = (jax.tree.map(lambda z, k=k: z[k], prepared) for k in (i, j))
    return in_blocks(between, x, y)


def _square(flat: np.ndarray, num: int) -> np.ndarray:
    between = np.zeros((num, num), np.float32)
    between[np.triu_indices(num, 1)] = flat
    return between + between.T


def _digest(distance: GraphDistance, prepared: Any, repair: str | None) -> str:
    """The SHA-256 of all that a distance matrix depends on, in hexadecimal."""
    digest = hashlib.sha256(f"{distance.name} {repair}".encode())
    for leaf in jax.tree.leaves(prepared):
        digest.update(f"{leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _load(num: int, path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """The distances (num, num) and their spectrum (2,); None if they do not fit."""
    arrays, _ = npz.load_arrays(path)
    flat, spectrum = arrays["distances"], arrays["spectrum"]
    fits = flat.shape == (num * (num - 1) // 2,) and spectrum.shape == (2,)
    return (_square(flat, num), spectrum) if fits else None


def _save(name: str, path: Path, kept: tuple[np.ndarray, np.ndarray]) -> None:
    """Writes the upper triangle of the distances, and their spectrum."""
    between, spectrum = kept
    flat = between[np.triu_indices(len(between), 1)]
    arrays = {"distances": flat, "spectrum": spectrum}
    npz.save_arrays(path, arrays, {"distance": name})
