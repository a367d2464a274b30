"""OTMANN, the distance of NASBOT (Kandasamy et al., 2018), between cells.

The mass of one network's layers is matched to that of the other's. The cost of a match
grows with the difference of the two labels and with the difference of the layers'
positions on the paths of their networks; unmatched mass costs 1 (section 3 of the paper).
What the paper leaves to the user is chosen for cells as follows.

* Layers are the vertices of `Space.to_graph`, where operations on edges have become
  vertices, except those on no path from input to output, which the paper's networks do
  not have. `skip_connect` is a vertex of the graph, so it is a layer.
* The mass of a layer is the product of its channels in and out, as in the paper. All
  operations of a cell have equally many, so it is 1; `masses` can differ by class of
  label (the authors' program counts a pooling as one unit, 1/16 of a convolution with
  16 channels). Input and output each have 0.1 times the sum of the others.
* Labels: 0 for equal ones, sqrt(2)/10 times the square root of the difference in width
  between convolutions (0.2 for 3x3 and 1x1), 0.25 between two poolings, and inf for any
  other pair, also for input and output (the paper's table 1).
* Paths: the mean, over the shortest path, the longest path and a random walk, to the
  output and from the input, of the absolute differences in length (eq. 6 of the paper).

Costs between classes are inf and masses within a class equal, so the linear programme
separates into an assignment of layers, solved exactly, and the two ends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas import transport
from jaxnas.spaces import features
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Graph

# Mass of the input, and of the output, as a share of the mass of all layers.
ENDS = 0.1


class Layers(NamedTuple):
    """The layers of a cell of v vertices, input and output included."""

    # (v,) int32, below k of the space's labels, k for the input, k + 1 for the output;
    # -1 for dropped vertices
    label: Array
    # (v, 6) shortest, longest and mean path length from the input, then to the output
    paths: Array


def layers(graph: Graph, num_labels: int) -> Layers:
    """Extracts the layers on paths from input to output, and their path lengths.

    Args:
      graph: of the cell, with v vertices.
      num_labels: k, the number of operation labels.
    """
    graph = features.prune(graph)
    num = graph.adj.shape[0]
    ends = jnp.full(num, -1).at[0].set(num_labels).at[-1].set(num_labels + 1)
    label = jnp.where(ends >= 0, ends, jnp.where(graph.mask, graph.ops, -1))
    lengths = [
        length[::flip]
        for flip in (1, -1)
        for length in _lengths(graph.adj if flip == 1 else graph.adj[::-1, ::-1].T)
    ]
    return Layers(label.astype(jnp.int32), jnp.stack(lengths, axis=-1))


def _lengths(adj: Array) -> tuple[Array, Array, Array]:
    """Lengths (v,) from vertex 0: shortest path, longest path, mean of a random walk.

    Args:
      adj: (v, v) bool of a pruned graph, in which each vertex has an edge from an earlier
        vertex on a path from vertex 0, or no edge at all; its length is then 0.
    """
    lengths = jnp.zeros((3, 1))
    for j in range(1, adj.shape[0]):
        before, onward = adj[:j, j], 1 + lengths
        least = jnp.min(onward[0], initial=jnp.inf, where=before)
        most = jnp.max(onward[1], initial=0.0, where=before)
        mean = jnp.sum(onward[2], where=before) / jnp.maximum(before.sum(), 1)
        new = jnp.where(before.any(), jnp.stack([least, most, mean]), 0.0)
        lengths = jnp.concatenate([lengths, new[:, None]], axis=1)
    return lengths[0], lengths[1], lengths[2]


def label_costs(labels: tuple[str, ...]) -> np.ndarray:
    """Costs (k + 2, k + 2) of matching labels, inf where a match is forbidden.

    Rows and columns are the k `labels`, then input and output. Convolutions are
    recognised by `conv` and their width in the name, poolings by `pool`.
    """
    costs = np.full((len(labels) + 2,) * 2, np.inf)
    np.fill_diagonal(costs, 0.0)
    for i, a in enumerate(labels):
        for j, b in enumerate(labels):
            widths = [re.search(r"(\d+)x\d", op) for op in (a, b)]
            if i != j and "conv" in a and "conv" in b and all(widths):
                one, other = (int(w.group(1)) for w in widths if w)
                costs[i, j] = math.sqrt(2) / 10 * math.sqrt(abs(one - other))
            elif i != j and "pool" in a and "pool" in b:
                costs[i, j] = 0.25
    return costs


def otmann(
    labels: tuple[str, ...],
    *,
    structure: float = 0.5,
    masses: tuple[float, ...] | None = None,
    normalised: bool = False,
) -> Callable[[Layers, Layers], Array]:
    """Builds the OTMANN distance between the `Layers` of two cells.

    A metric up to cells with the same layers and path lengths, and not negative definite.

    Args:
      labels: of the space.
      structure: weight of path lengths. The paper has 0.1 to 0.8 for networks with
        dozens of layers; paths of two cells differ by 3 at most.
      masses: mass of a layer, by label. Default: 1. Labels that can be matched must have
        equal masses.
      normalised: divide by the total mass of both cells. The distance is then at most 1,
        and no longer a metric.

    Returns: a function of two `Layers`, whose fields have p pairs on a trailing axis,
      (v, p) and (v, 6, p), to distances (p,).
    Raises: `ValueError` for masses of the wrong number, not positive, or unequal where
      labels can be matched, and for a negative `structure`.
    """
    costs = label_costs(labels)
    mass_of = np.ones(len(labels)) if masses is None else np.asarray(masses, float)
    if mass_of.shape != (len(labels),) or not (mass_of > 0).all():
        raise ValueError(f"masses are {len(labels)} positive numbers, not {masses}")
    allowed = np.isfinite(costs[: len(labels), : len(labels)])
    if (allowed & (mass_of[:, None] != mass_of)).any():
        raise ValueError(f"labels that can be matched have equal masses, not {masses}")
    if not structure >= 0:
        raise ValueError(f"structure must not be negative, not {structure}")

    def between(x: Layers, y: Layers) -> Array:
        paths = jnp.abs(x.paths[:, None] - y.paths[None]).mean(2)
        mass_x, mass_y = (_masses(z.label[1:-1], mass_of) for z in (x, y))
        cost = jnp.asarray(costs, paths.dtype)[x.label[:, None], y.label[None]]
        # Where a match is allowed, both layers have the same mass.
        allowed = jnp.minimum(x.label[:, None], y.label[None]) >= 0
        allowed = (allowed & (cost < jnp.inf))[1:-1, 1:-1]
        cost = (cost + structure * paths)[1:-1, 1:-1]
        cost = jnp.where(allowed, cost, 0.0) * mass_x[:, None]
        cost = jnp.where(allowed, cost, jnp.inf)
        matched = transport.assignment(cost, mass_x, mass_y)
        total_x, total_y = mass_x.sum(0), mass_y.sum(0)
        least = jnp.minimum(total_x, total_y)
        # Leaving mass unmatched in both networks costs 2.
        ends = jnp.minimum(structure * paths[0, 0], 2.0)
        ends = ends + jnp.minimum(structure * paths[-1, -1], 2.0)
        ends = ENDS * (least * ends + 2 * jnp.abs(total_x - total_y))
        whole = (1 + 2 * ENDS) * (total_x + total_y)
        return (matched + ends) / (jnp.maximum(whole, 1e-12) if normalised else 1.0)

    return between


def _masses(label: Array, mass_of: np.ndarray) -> Array:
    """Mass (v, ...) of each layer by its label, 0 for dropped vertices."""
    return jnp.where(label >= 0, jnp.asarray(mass_of, float)[label], 0.0)


def cell_layers(space: Space) -> Callable[[Array], Layers]:
    """Layers of an architecture: arch (d,) -> `Layers`."""
    return lambda arch: layers(space.to_graph(arch), len(space.labels))
