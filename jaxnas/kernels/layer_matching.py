"""OTMANN, the distance of NASBOT (Kandasamy et al., 2018), between cells.

The layers of one network are matched to those of the other, mass by mass: a match costs
by how much the labels of the layers differ and how far apart they stand on the paths of
their networks, and mass that is not matched costs 1 (section 3 of the paper). What the
paper leaves to the user is chosen for cells as follows.

* Layers are the vertices of `Space.to_graph`, so that operations on edges are turned
  inside out, without those on no path from input to output: all of the paper's networks
  have none. `skip_connect` is a vertex of the graph, so it is a layer.
* The mass of a layer is the product of its channels in and out, as in the paper. All
  operations of a cell have as many as each other, so it is 1; `masses` can differ by kind
  of label (the authors' program counts a pooling as one unit, 1/16 of a convolution with
  16 channels). Input and output have 0.1 times the sum of the others, each.
* Labels: 0 for equal ones, sqrt(2)/10 times the square root of the difference in width
  between convolutions (0.2 for 3x3 and 1x1), 0.25 between two kinds of pooling, and inf
  for all else, also input and output (the paper's table 1).
* Paths: the mean, over the shortest, the longest and a random walk, to the output and
  from the input, of the absolute differences in length (eq. 6 of the paper).

Costs between kinds are inf and masses within a kind equal, so the linear programme falls
apart into an assignment of layers, solved exactly, and the two ends.
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

# The share of the mass of all layers that input and output have, each.
ENDS = 0.1


class Layers(NamedTuple):
    """A cell as OTMANN sees it; v vertices with input and output."""

    label: Array  # (v,) int32: of the space, then input and output; -1 for none
    paths: Array  # (v, 6) lengths from the input and to the output, three of each


def layers(graph: Graph, num_labels: int) -> Layers:
    """What is on a path from input to output, and where on it."""
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
    """Shortest, longest and mean length (v,) of the ways from vertex 0.

    Every vertex has an edge from an earlier one on such a way, or no edge and length 0.
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
    """(k + 2, k + 2) costs of matching operations, and last input and output."""
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
    """The distance of two `Layers`, pairs on trailing axes: (v, ...), (v, 6, ...) -> (...).

    A metric on cells with the same layers and path lengths, not negative definite.

    Args:
      labels: of the space.
      structure: the weight of path lengths. The paper has 0.1 to 0.8 for networks with
        dozens of layers; paths of a cell differ by 3 at most.
      masses: of a layer, by label; 1 if None. Equal for labels that can be matched.
      normalised: divide by the mass of both cells: at most 1, and then no metric.

    Raises: `ValueError` for masses of another number, not positive, or not equal where
      labels can be matched.
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
        # Where a match is allowed at all, both layers have the same mass.
        allowed = jnp.minimum(x.label[:, None], y.label[None]) >= 0
        allowed = (allowed & (cost < jnp.inf))[1:-1, 1:-1]
        cost = (cost + structure * paths)[1:-1, 1:-1]
        cost = jnp.where(allowed, cost, 0.0) * mass_x[:, None]
        cost = jnp.where(allowed, cost, jnp.inf)
        matched = transport.assignment(cost, mass_x, mass_y)
        total_x, total_y = mass_x.sum(0), mass_y.sum(0)
        least = jnp.minimum(total_x, total_y)
        # To leave mass in both networks costs 2.
        ends = jnp.minimum(structure * paths[0, 0], 2.0)
        ends = ends + jnp.minimum(structure * paths[-1, -1], 2.0)
        ends = ENDS * (least * ends + 2 * jnp.abs(total_x - total_y))
        whole = (1 + 2 * ENDS) * (total_x + total_y)
        return (matched + ends) / (jnp.maximum(whole, 1e-12) if normalised else 1.0)

    return between


def _masses(label: Array, mass_of: np.ndarray) -> Array:
    return jnp.where(label >= 0, jnp.asarray(mass_of, float)[label], 0.0)


def cell_layers(space: Space) -> Callable[[Array], Layers]:
    """arch (d,) of a space -> `Layers`."""
    return lambda arch: layers(space.to_graph(arch), len(space.labels))
