"""Embeddings whose L1 distances are the field's other distances between cells.

Each function takes an architecture (d,) and returns a tuple of vectors, like
`tree_wasserstein.embed`; definitions as in naszilla (White et al., 2020).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from jaxnas.kernels import tree_wasserstein as tw
from jaxnas.spaces import features
from jaxnas.spaces.base import Space
from jaxnas.types import Array

# Parts = arch (d,) -> tuple of vectors, one for each part of the distance.
Parts = Callable[[Array], tuple[Array, ...]]


def tree_wasserstein(space: Space, n: int = 1) -> Parts:
    """The three parts of the tree-Wasserstein distance (Nguyen et al., 2021)."""
    return lambda arch: tw.embed(space.to_graph(arch), space.labels, n)


def live_tree_wasserstein(space: Space, n: int = 1) -> Parts:
    """The same of what is left when vertices on no path to the output are dropped.

    Beside `tree_wasserstein`, it tells the kernel which cells compute the same.
    """

    def parts(arch: Array) -> tuple[Array, ...]:
        return tw.embed(features.prune(space.to_graph(arch)), space.labels, n)

    return parts


def operation_transport(space: Space) -> Parts:
    """Optimal transport between the operations of two cells, whatever their places.

    The "OT" of the tree-Wasserstein paper's program, for cells of any number of
    operations: 0.2 from one convolution to another, and 2 between kinds, which is what
    NASBOT pays to leave both unmatched. (The program has 10,000, beside which 0.2 is
    nothing, and masses that do not sum to 1.) These costs are lengths of ways through a
    tree, so the distance has a closed form: it is the operation part of `tree_wasserstein`
    with n = 1, and negative definite.
    """
    return lambda arch: tree_wasserstein(space)(arch)[:1]


def hamming(space: Space) -> Parts:
    """The number of positions at which two architectures differ (edit distance)."""
    return lambda arch: (features.one_hot(space.choices, arch) / 2,)


def path(space: Space) -> Parts:
    """The number of operation paths that one of two architectures has alone."""
    return lambda arch: (path_encoder(space)(arch),)


def path_encoder(space: Space) -> Callable[[Array], Array]:
    """The path encoding (p,) float of BANANAS (White et al., 2021)."""
    indicators = space.paths
    if indicators is None:
        raise ValueError(f"paths are not defined for the space {space.name}")
    return lambda arch: indicators(arch).astype(float)


def nasbot_like(space: Space) -> Parts:
    """L1 of sorted in-degrees, sorted out-degrees and operation counts, in one part."""

    def parts(arch: Array) -> tuple[Array]:
        graph = space.to_graph(arch)
        degrees = [jnp.sort(graph.adj.sum(axis)).astype(float) for axis in (0, 1)]
        counts = features.op_ngrams(graph, 1, len(space.labels)).astype(float)
        return (jnp.concatenate([*degrees, counts]),)

    return parts
