"""Distance matrices over all cells of a pool, computed once and cached on disk.

`distance_matrix` reduces the pool twice before it computes pairs: to one representative
of each class of architectures that count as equal, and then to the distinct inputs that
the distance has of these (its kinds). The k kinds are compared in batches on all devices,
the matrix is made negative definite, and the result goes to the cache folder under a hash
of the distance's name and inputs.
"""

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

# A matrix of this many kinds takes 400 MB, and its eigendecomposition minutes.
MAX_KINDS = 10_000
# Part of the name of a cached matrix: raise it when the values of a distance change.
_CACHE_VERSION = 1
# Pairs in one call of the compiled distance.
_PAIRS_PER_CALL = 2**16


def distance_matrix(
    space: Space,
    arch: np.ndarray,
    distance: GraphDistance,
    *,
    same: Callable[[Array], Array] | None = None,
    repair: definite.Repair | None = None,
    cache: bool = True,
) -> DistanceMatrix:
    """Computes, or loads, the distances between n architectures.

    Args:
      space: of the architectures.
      arch: (n, d) integers.
      distance: between two architectures, see `graph_distances`.
      same: arch (d,) -> () int32 from 0, equal for architectures at distance 0 from each
        other; each class is represented by the architecture with the fewest vertices and
        edges. For example `nasbench201_classes.function_class`, which leaves 5,260 of
        15,625 cells. Default: `space.identity`.
      repair: what to do if the distance is not negative definite, see
        `definite.require_negative_definite`.
      cache: look for the matrix, with the same repair, in `io.cache.cache_folder`, and
        store it there.

    Returns: values (k, k) of the k kinds, and the kind (n,) of each architecture.
    Raises: `ValueError` for more than 10,000 kinds, for a distance that is not finite,
      and if the distance is not negative definite and `repair` is None.
    """
    arch = np.asarray(arch)
    first, group = representatives(space, arch, same)
    prepared, kind = _distinct(distance, arch[first])
    num = len(jax.tree.leaves(prepared)[0])
    if num > MAX_KINDS:
        raise ValueError(
            f"{distance.name}: a distance matrix of {num:,} different cells is too "
            f"large: at most {MAX_KINDS:,} are allowed"
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
    """Groups equal architectures and represents each group by its smallest graph.

    Args:
      space: of the architectures; it has exactly one graph.
      arch: (n, d) integers.
      same: arch (d,) -> () int32 class. Default: `space.identity`.

    Returns: index (g,) into `arch` of the representative of each group, the one with the
      fewest vertices, then edges; and the group (n,) of each architecture.
    """
    classes = space.identity if same is None else identity.from_integer(same)
    keys = identity.to_uint64(in_chunks(classes, arch))
    graph = in_chunks(space.to_graph, arch)
    vertices, edges = graph.mask.sum(1), graph.adj.sum((1, 2))
    order = np.lexsort((edges, vertices, keys))
    _, first, group = np.unique(keys[order], return_index=True, return_inverse=True)
    group_of = np.empty_like(order)
    group_of[order] = group.reshape(-1)
    return order[first], group_of


def _distinct(distance: GraphDistance, arch: np.ndarray) -> tuple[Any, np.ndarray]:
    """Distinct prepared inputs (k, ...) of `arch` (m, d), and the kind (m,) of each."""
    prepared = in_chunks(distance.prepare, arch)
    rows = [x.reshape(len(arch), -1) for x in jax.tree.leaves(prepared)]
    _, first, kind = np.unique(
        np.concatenate(rows, axis=1), axis=0, return_index=True, return_inverse=True
    )
    return jax.tree.map(lambda x: x[first], prepared), kind.reshape(-1)


def all_pairs(distance: GraphDistance, prepared: Any) -> np.ndarray:
    """Computes the distances between k prepared cells on all devices.

    Each unordered pair is computed once; the diagonal is 0 by definition.

    Args:
      distance: whose `between` is compiled.
      prepared: pytree of arrays (k, ...), as `distance.prepare` returns them.

    Returns: (k, k) float32, symmetric.
    Raises: `ValueError` if a distance is not finite.
    """
    num = len(jax.tree.leaves(prepared)[0])
    i, j = np.triu_indices(num, 1)
    devices = jax.local_devices()
    size = max(1, min(_PAIRS_PER_CALL, -(-len(i) // len(devices))))

    def on_device(number: int) -> list[tuple[int, np.ndarray]]:
        device, blocks = devices[number], []
        local = jax.device_put(prepared, device)
        for start in range(number * size, len(i), len(devices) * size):
            # The last call has as many pairs as the others, so that it compiles once.
            pairs = np.arange(start, start + size) % len(i)
            indices = jax.device_put((i[pairs], j[pairs]), device)
            block = _between_pairs(distance.between, local, *indices)
            blocks.append((start, np.asarray(block)))
        return blocks

    flat = np.zeros(len(i), np.float32)
    with ThreadPoolExecutor(len(devices)) as pool:
        blocks = pool.map(on_device, range(len(devices)))
        for start, block in itertools.chain.from_iterable(blocks):
            flat[start : start + size] = block[: len(flat) - start]
    if not np.isfinite(flat).all():
        raise ValueError(f"{distance.name}: a distance is not finite")
    # A local optimum, or rounding, may end a little below 0.
    return _square(np.maximum(flat, 0.0), num)


@partial(jax.jit, static_argnums=0)
def _between_pairs(between: Callable, prepared: Any, i: Array, j: Array) -> Array:
    """Distances (p,) of the pairs (i, j), each (p,), of prepared cells."""
    x, y = (jax.tree.map(lambda z, k=k: z[k], prepared) for k in (i, j))
    return in_blocks(between, x, y)


def _square(flat: np.ndarray, num: int) -> np.ndarray:
    """Symmetric matrix (num, num) of its upper triangle, row by row."""
    values = np.zeros((num, num), np.float32)
    values[np.triu_indices(num, 1)] = flat
    return values + values.T


def _digest(distance: GraphDistance, prepared: Any, repair: str | None) -> str:
    """The SHA-256 of all that a distance matrix depends on, in hexadecimal."""
    digest = hashlib.sha256(f"{distance.name} {repair}".encode())
    for leaf in jax.tree.leaves(prepared):
        digest.update(f"{leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _load(num: int, path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Values (num, num) and spectrum (2,) of a cached matrix; None if they do not fit."""
    arrays, _ = npz.load_arrays(path)
    flat, spectrum = arrays["distances"], arrays["spectrum"]
    fits = flat.shape == (num * (num - 1) // 2,) and spectrum.shape == (2,)
    return (_square(flat, num), spectrum) if fits else None


def _save(name: str, path: Path, matrix: tuple[np.ndarray, np.ndarray]) -> None:
    """Writes the upper triangle of the distances, and their spectrum."""
    values, spectrum = matrix
    flat = values[np.triu_indices(len(values), 1)]
    arrays = {"distances": flat, "spectrum": spectrum}
    npz.save_arrays(path, arrays, {"distance": name})
