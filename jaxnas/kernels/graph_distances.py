"""Transport distances between cells that have no embedding, by pair.

Each is a `GraphDistance`: what is computed once for a cell, and then for a pair. A cell is
the graph of its vertices on a path from input to output, with the same mass for each.
None of them is negative definite in general; `tables.table` says so, and repairs them.
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

# What a match that OTMANN forbids costs: as much as to leave both layers unmatched.
FORBIDDEN = 2.0


class GraphDistance(NamedTuple):
    """A distance between cells, in two steps."""

    name: str  # with all its parameters
    prepare: Callable[[Array], Any]  # arch (d,) -> arrays (...), all that matters of it
    between: Callable[
        [Any, Any], Array
    ]  # of these with pairs on trailing axes -> (...)


class Structure(NamedTuple):
    """The edges of a cell."""

    adj: Array  # (v, v) 0 and 1, directed
    mass: Array  # (v,)


class Points(NamedTuple):
    """The layers of a cell, and the regularised cost () of transport to itself."""

    layers: Layers
    within: Array


class Cell(NamedTuple):
    """The edges and the labels of a cell."""

    structure: Structure
    label: Array  # (v,) int32, as in `otmann.Layers`


class Counts(NamedTuple):
    """The edges of a cell, degrees in order, and how often there is each operation."""

    structure: Structure
    degrees: Array  # (2 v,) in-degrees ascending, and out-degrees ascending
    operations: Array  # (k,)


def otmann(space: Space, **settings: Any) -> GraphDistance:
    """The distance of NASBOT; see `kernels.otmann.otmann` for the settings."""
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
    """
    costs, settings = (
        mismatch_costs(space),
        {"epsilon": epsilon, "num_steps": num_steps},
    )

    def regularised(x: Layers, y: Layers) -> Array:
        paths = jnp.abs(x.paths[:, None] - y.paths[None]).mean(2)
        labels = jnp.asarray(costs, paths.dtype)[x.label[:, None], y.label[None]]
        cost = jnp.minimum(labels + structure * paths, FORBIDDEN)
        u, v = (_uniform(z.label >= 0, paths.dtype) for z in (x, y))
        return entropic.regularised(cost, u, v, **settings)

    def prepare(arch: Array) -> Points:
        layers = layer_matching.layers(space.to_graph(arch), len(space.labels))
        return Points(layers, regularised(layers, layers))

    def between(x: Points, y: Points) -> Array:
        # As `transport.sinkhorn_divergence`, with what is within a cell computed once.
        return regularised(x.layers, y.layers) - (x.within + y.within) / 2

    name = _named("sinkhorn", space, structure=structure, **settings)
    return GraphDistance(name, prepare, between)


def gromov_wasserstein(space: Space, **settings: Any) -> GraphDistance:
    """Gromov-Wasserstein between the directed edges of cells; labels do not count.

    The settings are those of `transport.gromov_wasserstein`.
    """

    def between(x: Structure, y: Structure) -> Array:
        return transport.gromov_wasserstein(x.adj, y.adj, x.mass, y.mass, **settings)

    return GraphDistance(_named("gw", space, **settings), _structure(space), between)


def fused_gromov_wasserstein(
    space: Space, *, alpha: float = 0.5, **settings: Any
) -> GraphDistance:
    """The same with labels: a match costs as in OTMANN, or 2 where it is forbidden.

    The settings are those of `transport.fused_gromov_wasserstein`.
    """
    costs, structure_of = mismatch_costs(space), _structure(space)

    def prepare(arch: Array) -> Cell:
        found = layer_matching.layers(space.to_graph(arch), len(space.labels))
        return Cell(structure_of(arch), found.label)

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

    The L1 distances of sorted in-degrees, of sorted out-degrees and of counts of
    operations, by the number of edges of both cells, plus Gromov-Wasserstein / 0.4. The
    program takes 0.05 off the latter, so that a cell is at -0.125 from itself.
    """
    structure_of = _structure(space)

    def prepare(arch: Array) -> Counts:
        graph = features.prune(space.to_graph(arch))
        degrees = [jnp.sort(graph.adj.sum(axis)) for axis in (0, 1)]
        counts = features.op_ngrams(graph, 1, len(space.labels))
        numbers = (x.astype(float) for x in (jnp.concatenate(degrees), counts))
        return Counts(structure_of(arch), *numbers)

    def between(x: Counts, y: Counts) -> Array:
        apart = jnp.abs(x.degrees - y.degrees).sum(0)
        apart = apart + jnp.abs(x.operations - y.operations).sum(0)
        edges = (x.structure.adj.sum((0, 1)) + y.structure.adj.sum((0, 1))).clip(1.0)
        (a, u), (b, v) = x.structure, y.structure
        return (
            apart / edges + transport.gromov_wasserstein(a, b, u, v, **settings) / 0.4
        )

    return GraphDistance(_named("gw+ot", space, **settings), prepare, between)


def _structure(space: Space) -> Callable[[Array], Structure]:
    def prepare(arch: Array) -> Structure:
        graph = features.prune(space.to_graph(arch))
        return Structure(graph.adj.astype(float), _uniform(graph.mask, float))

    return prepare


def _uniform(mask: Array, dtype: Any) -> Array:
    mass = mask.astype(dtype)
    return mass / mass.sum(0)


def mismatch_costs(space: Space) -> np.ndarray:
    """(k + 2, k + 2) costs of a match, last input and output, 2 where OTMANN forbids."""
    return np.minimum(layer_matching.label_costs(space.labels), FORBIDDEN)


def _named(name: str, space: Space, **settings: Any) -> str:
    listed = (f"{key}={value}" for key, value in settings.items())
    return " ".join([name, space.name, *listed])
