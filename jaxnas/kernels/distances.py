"""Embeddings whose L1 distances are the field's other distances between cells.

Each function takes an architecture (d,) and returns a tuple of vectors, like
`tree_wasserstein.embed`; definitions as in naszilla (White et al., 2020).
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxnas.kernels import tree_wasserstein as tw
from jaxnas.spaces import features
from jaxnas.spaces.base import Space
from jaxnas.types import Array


def tree_wasserstein(space: Space, n: int = 1):
    """The three parts of the tree-Wasserstein distance (Nguyen et al., 2021)."""
    return lambda arch: tw.embed(space.to_graph(arch), space.labels, n)


def hamming(space: Space):
    """The number of positions at which two architectures differ (edit distance)."""
    return lambda arch: (features.one_hot(space.choices, arch) / 2,)


def nasbot_like(space: Space):
    """L1 of sorted in-degrees, sorted out-degrees and operation counts, in one part."""

    def parts(arch: Array) -> tuple[Array]:
        graph = space.to_graph(arch)
        degrees = [jnp.sort(graph.adj.sum(axis)).astype(float) for axis in (0, 1)]
        counts = features.op_ngrams(graph, 1, len(space.labels)).astype(float)
        return (jnp.concatenate([*degrees, counts]),)

    return parts
