"""Tree-Wasserstein distances between cells (Nguyen et al., ICML 2021), as embeddings.

A cell is represented by three measures: operation n-grams on a tree of operation types,
and in-degrees and out-degrees by depth on a line. Each W1 distance has a closed form as an
L1 distance between vectors, so a cell is embedded once, in three vectors. The distances
are negative definite, so exp(-d / l) is a kernel for every l > 0.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import transport
from jaxnas.spaces import features
from jaxnas.types import Array, Graph

# The constant a: length of the last edge to a single operation, below a class of
# operations; b = 1 - a separates classes.
_A = 0.1


class OpTree(NamedTuple):
    """A tree over operation n-grams; leaves are 1-grams first, then 2-grams, and so on."""

    subtrees: np.ndarray  # (edges, leaves) 0 or 1: the leaves below each edge
    lengths: np.ndarray  # (edges,)


def _classes(gram: tuple[str, ...]) -> tuple[str, ...]:
    """The class of each operation: convolution, pooling, skip, or the operation itself."""
    kinds = ("conv", "pool", "skip")
    return tuple(next((k for k in kinds if k in op), op) for op in gram)


def _multiset(gram: tuple[str, ...]) -> tuple:
    """The classes of an n-gram, whatever their order."""
    return tuple(sorted(_classes(gram)))


def _order_and_pattern(gram: tuple[str, ...]) -> tuple:
    """The classes in their order, and which operations of the n-gram are equal."""
    return _classes(gram), tuple(gram.index(op) for op in gram)


def _order_or_pattern(gram: tuple[str, ...]) -> tuple:
    """The order of the classes or, if there is only one class, the pattern of equality."""
    order, pattern = _order_and_pattern(gram)
    return _multiset(gram), pattern if len(set(order)) == 1 else order


@functools.cache
def op_tree(labels: tuple[str, ...], n: int, reference: bool = False) -> OpTree:
    """Builds the tree of all k-grams of `labels`, k = 1..n.

    Below the root there is a node for each k, at distance 1. Below it k-grams are divided
    by their multiset of classes (convolution, pooling, skip); from k = 2 then by the order
    of classes or, where all are one class, by which operations are equal; from k = 3 then
    by both; and finally into single k-grams. Edges have lengths b, ab, a^2 b, and the last
    the remainder to 1, with a = 0.1 and b = 0.9. A node with one child is merged with it.

    Args:
      labels: names of operations; a class is recognised by `conv`, `pool` or `skip` in
        the name, and any other name is a class of its own.
      n: at least 1. The trees for 1 and 2 are those of the paper's program.
      reference: reproduce the indexing errors of the paper's program, for parity: in
        each space some of its inner nodes miss one of their leaves. Only for n <= 2 and
        the labels of NAS-Bench-101 and NAS-Bench-201.

    Raises: `ValueError` for n below 1, and for a reference that does not exist.
    """
    if n < 1:
        raise ValueError(f"n-grams need n >= 1, not {n}")
    grams = [g for k in range(1, n + 1) for g in itertools.product(labels, repeat=k)]
    nodes: dict[tuple[int, ...], float] = {}

    def divide(k: int, key: Callable, length: float) -> None:
        """Adds an edge of this length above each group of k-grams with equal keys."""
        groups: dict = {}
        for leaf, gram in enumerate(grams):
            if len(gram) == k:
                groups.setdefault(key(gram), []).append(leaf)
        for leaves in map(tuple, groups.values()):
            nodes[leaves] = nodes.get(leaves, 0.0) + length

    for k in range(1, n + 1):
        divide(k, lambda gram: (), 1.0)
        levels = (_multiset, _order_or_pattern, _order_and_pattern)[:k]
        for depth, key in enumerate(levels):
            divide(k, key, _A**depth * (1 - _A))
        divide(k, lambda gram: gram, _A ** len(levels))
    subtrees = np.zeros((len(nodes), len(grams)), np.int32)
    for row, leaves in enumerate(nodes):
        members = _slip(leaves, labels, n) if reference else leaves
        subtrees[row, list(members)] = 1
    return OpTree(subtrees, np.array(list(nodes.values())))


def _slip(leaves: tuple[int, ...], labels: tuple[str, ...], n: int) -> tuple[int, ...]:
    """The leaves that the paper's program sums for the node with these leaves."""
    k = len(labels)
    if n > 2 or k not in (3, 4):
        raise ValueError("the reference has 1- and 2-grams of its own two spaces only")
    slips = {tuple(range(k, k + k * k)): tuple(range(k, k + k * k - 1))}
    if k == 4:
        slips |= {(0, 1): (1, 2), (0, 1, 2, 3): (0, 1, 2)}
    elif n == 2:
        slips |= {(0, 1, 2): (0, 1)}
    return slips.get(leaves, leaves)


def embed(
    graph: Graph, labels: tuple[str, ...], n: int = 1, *, reference: bool = False
) -> tuple[Array, Array, Array]:
    """Embeds a cell so that L1 distances of the three parts are the three W1 distances.

    Args:
      graph: one cell, without dead vertices (as `Space.to_graph` returns it).
      labels: of the space.
      n: longest operation n-gram: 1 for TW, 2 for TW-2G.
      reference: reproduce the paper's program: wrong sums (see `op_tree`), layers by
        shortest path at i / M, and NaN for a cell without operations. The default is
        the paper's definition: longest path, layers at (i + 1) / M, and no operation
        mass, which puts an empty cell at the distance of the tree's height.

    Returns: operations (edges,), in-degrees (g,) and out-degrees (g,), in the default
      float dtype; g is one less than the number of Farey fractions of order v.
    """
    tree = op_tree(labels, n, reference)
    counts = [features.op_ngrams(graph, k, len(labels)) for k in range(1, n + 1)]
    grams = jnp.concatenate(counts).astype(float)
    total = grams.sum()
    grams = grams / (total if reference else jnp.maximum(total, 1))
    ops = transport.tree_embedding(
        grams, jnp.asarray(tree.subtrees), jnp.asarray(tree.lengths)
    )
    depth = features.longest_path_depth
    if reference:
        depth = features.shortest_path_depth
    into, out_of, num_layers = features.degrees_by_depth(graph, depth)
    shift = 0 if reference else 1
    return ops, _layers(into, num_layers, shift), _layers(out_of, num_layers, shift)


def _layers(degrees: Array, num_layers: Array, shift: int) -> Array:
    """W1 embedding (g,) of degrees (v,) by layer; without edges, of a uniform measure."""
    uniform = (jnp.arange(degrees.shape[0]) < num_layers).astype(float)
    total = degrees.sum()
    mass = jnp.where(total > 0, degrees, uniform)
    return transport.layer_embedding(mass / mass.sum(), num_layers, shift=shift)


def tree_wasserstein(
    x: Graph, y: Graph, labels: tuple[str, ...], n: int = 1, *, reference: bool = False
) -> Array:
    """Computes the three W1 distances between two cells.

    Args:
      x: one cell, without dead vertices.
      y: the other cell.
      labels: of the space.
      n: longest operation n-gram: 1 for TW, 2 for TW-2G.
      reference: as for `embed`.

    Returns: (3,) distances of operations, in-degrees and out-degrees.
    """
    parts = (embed(g, labels, n, reference=reference) for g in (x, y))
    return jnp.stack(
        jax.tree.leaves(jax.tree.map(lambda a, b: jnp.abs(a - b).sum(), *parts))
    )
