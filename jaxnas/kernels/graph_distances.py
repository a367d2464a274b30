"""Optimal-transport distances between the graphs of two cells, without an L1 embedding.

Each is a `GraphDistance`: a preparation of one cell, and a distance between two prepared
cells. A cell is the graph of its vertices on a path from input to output, with equal
masses. These distances are not negative definite in general;
`distance_matrices.distance_matrix` checks them over a pool and repairs them.

The distances are OTMANN (see `layer_matching`), the Sinkhorn divergence between layers,
Gromov-Wasserstein and its fused variant between graphs, and the combination of
Gromov-Wasserstein with counts that the tree-Wasserstein paper compares against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas import transport
from jaxnas.kernels import layer_matching
from jaxnas.kernels.layer_matching import Layers
from jaxnas.spaces import features
from jaxnas.spaces.base import Space
from jaxnas.transport import entropic
from jaxnas.types import Array

# Cost of a match that OTMANN forbids: that of leaving both layers unmatched.
FORBIDDEN = 2.0


class GraphDistance(NamedTuple):
    """A distance between cells, in two steps."""

    name: str  # with the space and all parameters: part of the key of cached matrices
    # arch (d,) -> pytree of arrays, everything that the distance depends on
    prepare: Callable[[Array], Any]
    # two of these, with p pairs on a trailing axis, -> (p,) distances
    between: Callable[[Any, Any], Array]


class Structure(NamedTuple):
    """Edges and masses of a cell of v vertices."""

    adj: Array  # (v, v) float 0 or 1, directed
    mass: Array  # (v,), sums to 1; 0 for dropped vertices


class Points(NamedTuple):
    """Layers of a cell, for the Sinkhorn divergence."""

    layers: Layers
    within: Array  # () regularised cost of transport from the cell to itself


class Cell(NamedTuple):
    """Edges and labels of a cell."""

    structure: Structure
    label: Array  # (v,) int32, as in `layer_matching.Layers`


class Counts(NamedTuple):
    """Edges, sorted degrees and operation counts of a cell."""

    structure: Structure
    degrees: Array  # (2 v,) float, in-degrees ascending, then out-degrees ascending
    operations: Array  # (k,) float, how often each of the k labels occurs


def otmann(space: Space, **settings: Any) -> GraphDistance:
    """OTMANN, the distance of NASBOT (Kandasamy et al., 2018).

    Args:
      space: of the architectures; it has exactly one graph.
      settings: as for `layer_matching.otmann`.
    """
    between = layer_matching.otmann(space.labels, **settings)
    return GraphDistance(
        _named("otmann", space, **settings), layer_matching.cell_layers(space), between
    )


def sinkhorn_divergence(
    space: Space,
    *,
    structure: float = 0.5,
    epsilon: float = 0.05,
    num_steps: int = 100,
) -> GraphDistance:
    """The Sinkhorn divergence (Feydy et al., 2019) between the vertices of cells.

    The cost of a pair of vertices is that of a match in OTMANN, or 2 where that is
    forbidden; masses are equal, and sum to 1 in each cell.

    Args:
      space: of the architectures; it has exactly one graph.
      structure: weight of the difference in path lengths.
      epsilon: entropic regularisation, in the unit of the costs.
      num_steps: Sinkhorn iterations.
    """
    costs = mismatch_costs(space)
    settings = {"epsilon": epsilon, "num_steps": num_steps}

    def regularised(x: Layers, y: Layers) -> Array:
        paths = jnp.abs(x.paths[:, None] - y.paths[None]).mean(2)
        labels = jnp.asarray(costs, paths.dtype)[x.label[:, None], y.label[None]]
        cost = jnp.minimum(labels + structure * paths, FORBIDDEN)
        u, v = (_uniform(z.label >= 0, paths.dtype) for z in (x, y))
        return entropic.entropic_cost(cost, u, v, **settings)

    def prepare(arch: Array) -> Points:
        layers = layer_matching.layers(space.to_graph(arch), len(space.labels))
        return Points(layers, regularised(layers, layers))

    def between(x: Points, y: Points) -> Array:
        # As `transport.sinkhorn_divergence`, with the terms of one cell computed once.
        return regularised(x.layers, y.layers) - (x.within + y.within) / 2

    name = _named("sinkhorn", space, structure=structure, **settings)
    return GraphDistance(name, prepare, between)


def gromov_wasserstein(space: Space, **settings: Any) -> GraphDistance:
    """Gromov-Wasserstein between the directed edges of cells; labels do not count.

    Args:
      space: of the architectures; it has exactly one graph.
      settings: as for `transport.gromov_wasserstein`.
    """

    def between(x: Structure, y: Structure) -> Array:
        return transport.gromov_wasserstein(x.adj, y.adj, x.mass, y.mass, **settings)

    return GraphDistance(_named("gw", space, **settings), _structure(space), between)


def fused_gromov_wasserstein(
    space: Space, *, alpha: float = 0.5, **settings: Any
) -> GraphDistance:
    """Fused Gromov-Wasserstein between edges and labels of cells.

    A match of two labels costs as much as in OTMANN, or 2 where that forbids it.

    Args:
      space: of the architectures; it has exactly one graph.
      alpha: weight of the edges against the labels, between 0 and 1.
      settings: as for `transport.fused_gromov_wasserstein`.
    """
    costs, structure_of = mismatch_costs(space), _structure(space)

    def prepare(arch: Array) -> Cell:
        layers = layer_matching.layers(space.to_graph(arch), len(space.labels))
        return Cell(structure_of(arch), layers.label)

    def between(x: Cell, y: Cell) -> Array:
        (a, u), (b, v) = x.structure, y.structure
        cost = jnp.asarray(costs, a.dtype)[x.label[:, None], y.label[None]]
        return transport.fused_gromov_wasserstein(
            a, b, u, v, cost, alpha=alpha, **settings
        )

    return GraphDistance(
        _named("fgw", space, alpha=alpha, **settings), prepare, between
    )


def gromov_and_counts(space: Space, **settings: Any) -> GraphDistance:
    """The "GW+OT" of the tree-Wasserstein paper's program, without its offset.

    The sum of the L1 distances of sorted in-degrees, sorted out-degrees and operation
    counts, divided by the number of edges of both cells, plus Gromov-Wasserstein / 0.4.
    The program subtracts 0.05 from the latter before the division, so that there the
    distance of a cell from itself is -0.125.

    Args:
      space: of the architectures; it has exactly one graph.
      settings: as for `transport.gromov_wasserstein`.
    """
    structure_of = _structure(space)

    def prepare(arch: Array) -> Counts:
        graph = features.prune(space.to_graph(arch))
        degrees = [jnp.sort(graph.adj.sum(axis)) for axis in (0, 1)]
        counts = features.op_ngrams(graph, 1, len(space.labels))
        numbers = (x.astype(float) for x in (jnp.concatenate(degrees), counts))
        return Counts(structure_of(arch), *numbers)

    def between(x: Counts, y: Counts) -> Array:
        counts = jnp.abs(x.degrees - y.degrees).sum(0)
        counts = counts + jnp.abs(x.operations - y.operations).sum(0)
        edges = (x.structure.adj.sum((0, 1)) + y.structure.adj.sum((0, 1))).clip(1.0)
        (a, u), (b, v) = x.structure, y.structure
        return (
            counts / edges + transport.gromov_wasserstein(a, b, u, v, **settings) / 0.4
        )

    return GraphDistance(_named("gw+ot", space, **settings), prepare, between)


def _structure(space: Space) -> Callable[[Array], Structure]:
    """arch (d,) -> `Structure` of its live graph."""

    def prepare(arch: Array) -> Structure:
        graph = features.prune(space.to_graph(arch))
        return Structure(graph.adj.astype(float), _uniform(graph.mask, float))

    return prepare


def _uniform(mask: Array, dtype: Any) -> Array:
    """Equal masses (v, ...) of the vertices in `mask`, with sum 1 over them."""
    mass = mask.astype(dtype)
    return mass / mass.sum(0)


def mismatch_costs(space: Space) -> np.ndarray:
    """Costs (k + 2, k + 2) of matching labels, 2 where OTMANN forbids a match.

    Rows and columns are the k labels of the space, then input and output.
    """
    return np.minimum(layer_matching.label_costs(space.labels), FORBIDDEN)


def _named(name: str, space: Space, **settings: Any) -> str:
    """Name of a distance with its space and settings, unique to its values."""
    listed = (f"{key}={value}" for key, value in settings.items())
    return " ".join([name, space.name, *listed])
