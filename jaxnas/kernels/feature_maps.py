"""Embeddings whose L1 distances are the field's other distances between cells.

Each function takes an architecture (d,) and returns a tuple of vectors, like
`tree_wasserstein.embed`; definitions as in naszilla (White et al., 2020).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from jaxnas.kernels import op_trees as tw
from jaxnas.spaces import features
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Graph

# FeatureMap = arch (d,) -> tuple of vectors, one for each part of the distance.
FeatureMap = Callable[[Array], tuple[Array, ...]]


def tree_wasserstein_features(space: Space, n: int = 1) -> FeatureMap:
    """The three parts of the tree-Wasserstein distance (Nguyen et al., 2021).

    An architecture of several graphs has three parts for each of them.
    """
    return _of_graphs(space, lambda graph: tw.embed(graph, space.labels, n))


def live_tree_wasserstein_features(space: Space, n: int = 1) -> FeatureMap:
    """The same of what is left when vertices on no path to the output are dropped.

    Beside `tree_wasserstein_features`, it tells the kernel which cells compute the same.
    """

    def of_graph(graph: Graph) -> tuple[Array, ...]:
        return tw.embed(features.prune(graph), space.labels, n)

    return _of_graphs(space, of_graph)


def _of_graphs(
    space: Space, of_graph: Callable[[Graph], tuple[Array, ...]]
) -> FeatureMap:
    """The parts of all graphs of an architecture, one graph after another."""
    if not space.graphs:
        raise ValueError(f"an architecture of {space.name} has no graph to compare")

    def parts(arch: Array) -> tuple[Array, ...]:
        graphs = (graph(arch) for graph in space.graphs)
        return tuple(part for graph in graphs for part in of_graph(graph))

    return parts


def operation_transport_features(space: Space) -> FeatureMap:
    """Optimal transport between the operations of two cells, whatever their places.

    The "OT" of the tree-Wasserstein paper's program, for cells of any number of
    operations: 0.2 from one convolution to another, and 2 between kinds, which is what
    NASBOT pays to leave both unmatched. (The program has 10,000, beside which 0.2 is
    nothing, and masses that do not sum to 1.) These costs are lengths of ways through a
    tree, so the distance has a closed form: the operation part of
    `tree_wasserstein_features`
    with n = 1, and negative definite.
    """
    return lambda arch: tree_wasserstein_features(space)(arch)[::3]


def hamming_features(space: Space) -> FeatureMap:
    """The number of positions at which two architectures differ (edit distance)."""
    return lambda arch: (features.one_hot(space.choices, arch) / 2,)


def path_features(space: Space) -> FeatureMap:
    """The number of operation paths that one of two architectures has alone."""
    return lambda arch: (path_encoder(space)(arch),)


def path_encoder(space: Space) -> Callable[[Array], Array]:
    """The path encoding (p,) float of BANANAS (White et al., 2021)."""
    indicators = space.paths
    if indicators is None:
        raise ValueError(f"paths are not defined for the space {space.name}")
    return lambda arch: indicators(arch).astype(float)


def nasbot_like_features(space: Space) -> FeatureMap:
    """L1 of sorted in-degrees, sorted out-degrees and operation counts, in one part
    for each graph."""

    def of_graph(graph: Graph) -> tuple[Array, ...]:
        degrees = [jnp.sort(graph.adj.sum(axis)).astype(float) for axis in (0, 1)]
        counts = features.op_ngrams(graph, 1, len(space.labels)).astype(float)
        return (jnp.concatenate([*degrees, counts]),)

    return _of_graphs(space, of_graph)
