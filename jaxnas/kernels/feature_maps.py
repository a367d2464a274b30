"""Feature maps whose L1 distances are distances between cells.

A feature map takes an architecture (d,) and returns a tuple of vectors. Each vector is
one part of the distance, with a length-scale of its own in the kernel; the L1 distance of
two architectures' vectors is the distance of that part. All of these distances are
negative definite, so every Laplace kernel of them is positive semi-definite.

Definitions of the Hamming, path and NASBOT-like distances are those of naszilla (White
et al., 2020). Distances without an L1 embedding are in `graph_distances`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from jaxnas.kernels import op_trees
from jaxnas.spaces import features
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Graph

# FeatureMap = arch (d,) -> tuple of vectors (f_j,), one for each part of the distance.
FeatureMap = Callable[[Array], tuple[Array, ...]]


def tree_wasserstein_features(space: Space, n: int = 1) -> FeatureMap:
    """Tree-Wasserstein embedding (Nguyen et al., 2021), in three parts for each graph.

    Args:
      space: of the architectures; each of its graphs has three parts.
      n: longest operation n-gram: 1 for TW, 2 for TW-2G.

    Raises: `ValueError` for a space without graphs.
    """
    return _of_graphs(space, lambda graph: op_trees.embed(graph, space.labels, n))


def live_tree_wasserstein_features(space: Space, n: int = 1) -> FeatureMap:
    """Tree-Wasserstein embedding of the live graph.

    Vertices on no path from input to output are dropped first. Used beside
    `tree_wasserstein_features`, it tells the kernel which cells compute the same.

    Args:
      space: of the architectures; each of its graphs has three parts.
      n: longest operation n-gram: 1 for TW, 2 for TW-2G.

    Raises: `ValueError` for a space without graphs.
    """

    def of_graph(graph: Graph) -> tuple[Array, ...]:
        return op_trees.embed(features.prune(graph), space.labels, n)

    return _of_graphs(space, of_graph)


def _of_graphs(
    space: Space, of_graph: Callable[[Graph], tuple[Array, ...]]
) -> FeatureMap:
    """The parts of all graphs of an architecture, one graph after another."""
    if not space.graphs:
        raise ValueError(f"an architecture of {space.name} has no graph to compare")

    def feature_map(arch: Array) -> tuple[Array, ...]:
        graphs = (graph(arch) for graph in space.graphs)
        return tuple(part for graph in graphs for part in of_graph(graph))

    return feature_map


def operation_transport_features(space: Space) -> FeatureMap:
    """Optimal transport between the operations of two cells, wherever they stand.

    The "OT" of the tree-Wasserstein paper's program, extended to cells of any number of
    operations: moving one convolution to another costs 0.2, and one class of operations
    to another 2, which is what NASBOT pays to leave both unmatched. (The program has a
    cost of 10,000 between classes, beside which 0.2 vanishes, and masses that do not sum
    to 1.) These costs are path lengths in a tree, so the distance has a closed form: it
    is the operation part of `tree_wasserstein_features` with n = 1.

    Raises: `ValueError` for a space without graphs.
    """
    feature_map = tree_wasserstein_features(space)
    return lambda arch: feature_map(arch)[::3]


def hamming_features(space: Space) -> FeatureMap:
    """Half one-hot encoding: its L1 distance counts the positions that differ.

    A position that one of two architectures does not use (`Space.active`) differs, and one
    that neither uses does not.
    """

    def feature_map(arch: Array) -> tuple[Array]:
        chosen = features.one_hot(space.choices, arch)
        if space.active is not None:
            used = space.active(arch)
            repeats = np.repeat(np.arange(len(space.choices)), space.choices)
            chosen = jnp.concatenate([chosen * used[repeats], ~used])
        return (chosen / 2,)

    return feature_map


def ordinal_features(
    space: Space, parts: Sequence[Sequence[int]] | None = None
) -> FeatureMap:
    """Unary encoding: its L1 distance adds up the differences of choices.

    For choices with an order, such as kernel sizes and depths: choices i and j differ by
    |i - j|. A position that an architecture does not use (`Space.active`) comes before the
    first choice, from which it differs by 1.

    Args:
      space: of d positions.
      parts: the positions of each part of the distance, which has a length-scale of its
        own; for `mobilenetv3` its `PARTS`. Default: all positions are one part.

    Raises: `ValueError` unless each position is in one part.
    """
    parts = [range(len(space.choices))] if parts is None else parts
    positions = sorted(p for part in parts for p in part)
    if positions != list(range(len(space.choices))):
        raise ValueError(
            f"each position of {space.name}, 0 to {len(space.choices) - 1}, must be in "
            f"one part, not {[list(part) for part in parts]}"
        )
    # For each part its pairs of position and choice.
    pairs = [
        np.array([(p, c) for p in part for c in range(space.choices[p])]).T
        for part in parts
    ]

    def feature_map(arch: Array) -> tuple[Array, ...]:
        used = jnp.ones(len(arch), bool) if space.active is None else space.active(arch)
        reached = jnp.where(used, arch, -1)
        return tuple((reached[p] >= c).astype(float) for p, c in pairs)

    return feature_map


def path_features(space: Space) -> FeatureMap:
    """Path encoding: its L1 distance counts the paths that only one architecture has.

    Raises: `ValueError` for a space without paths, when the map is called.
    """
    return lambda arch: (path_encoder(space)(arch),)


def path_encoder(space: Space) -> Callable[[Array], Array]:
    """Path encoding of BANANAS (White et al., 2021): arch (d,) -> (p,) float 0 or 1.

    Raises: `ValueError` for a space without paths.
    """
    indicators = space.paths
    if indicators is None:
        raise ValueError(f"paths are not defined for the space {space.name}")
    return lambda arch: indicators(arch).astype(float)


def nasbot_like_features(space: Space) -> FeatureMap:
    """Sorted in-degrees, sorted out-degrees and operation counts, one part for each graph.

    Raises: `ValueError` for a space without graphs.
    """

    def of_graph(graph: Graph) -> tuple[Array, ...]:
        degrees = [jnp.sort(graph.adj.sum(axis)).astype(float) for axis in (0, 1)]
        counts = features.op_ngrams(graph, 1, len(space.labels)).astype(float)
        return (jnp.concatenate([*degrees, counts]),)

    return _of_graphs(space, of_graph)
