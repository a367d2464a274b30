"""Features of labelled graphs: n-grams, degrees by depth, paths, one-hot vectors.

All functions take one graph of v vertices, whose vertices are in topological order, and
can be compiled and vmapped. Their loops over vertices are unrolled: they are for cells.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array, Graph


def prune(graph: Graph) -> Graph:
    """Removes the vertices that are on no path from input to output.

    Vertices keep their indices: a removed one has no edges, label -1 and mask False. The
    first and the last vertex stay in the mask.
    """
    last = graph.adj.shape[0] - 1
    forward = longest_path_depth(graph.adj) >= 0
    backward = longest_path_depth(graph.adj[::-1, ::-1].T)[::-1] >= 0
    live = forward & backward
    ends = (jnp.arange(last + 1) == 0) | (jnp.arange(last + 1) == last)
    return Graph(
        graph.adj & live[:, None] & live,
        jnp.where(live, graph.ops, -1),
        graph.mask & (live | ends),
    )


def longest_path_depth(adj: Array) -> Array:
    """Edges on the longest path from the input to each vertex of `adj` (v, v).

    Returns: (v,) int32, 0 for vertex 0, and -1 where no path leads.
    """
    return _depth(adj, jnp.maximum, -1)


def shortest_path_depth(adj: Array) -> Array:
    """Edges on the shortest path from the input to each vertex of `adj` (v, v).

    Returns: (v,) int32, 0 for vertex 0, and -1 where no path leads.
    """
    return _depth(adj, jnp.minimum, adj.shape[0])


def _depth(adj: Array, choose: Callable[[Array, Array], Array], worst: int) -> Array:
    """Depths (v,) in topological order, which is that of the vertices.

    Args:
      adj: (v, v) bool, strictly upper triangular.
      choose: of two depths the one that counts, elementwise.
      worst: a depth that `choose` prefers to no other; it marks unreachable vertices.
    """
    depth = [jnp.int32(0)]
    for j in range(1, adj.shape[0]):
        chosen = jnp.int32(worst)
        for i in range(j):
            ahead = jnp.where(adj[i, j] & (depth[i] >= 0), depth[i] + 1, worst)
            chosen = choose(chosen, ahead)
        depth.append(jnp.where(chosen == worst, -1, chosen))
    return jnp.stack(depth)


def one_hot_labels(graph: Graph, num_labels: int) -> Array:
    """Encodes the operations of the vertices.

    Args:
      graph: of v vertices.
      num_labels: number of operation labels.

    Returns: (v, num_labels) bool; the row of a vertex without a label or an edge is False.
    """
    alive = graph.adj.any(0) | graph.adj.any(1)
    return (graph.ops[:, None] == jnp.arange(num_labels)) & alive[:, None]


def op_ngrams(graph: Graph, n: int, num_labels: int) -> Array:
    """Counts the label sequences along directed walks of `n` labelled vertices.

    Args:
      graph: of v vertices.
      n: length of the walks, at least 1.
      num_labels: number of operation labels.

    Returns: (num_labels**n,) int32, the first vertex of the walk slowest.
    Raises: `ValueError` unless `n` is a whole number of at least 1.
    """
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n must be a whole number of at least 1, not {n!r}")
    hot = one_hot_labels(graph, num_labels).astype(jnp.int32)
    walks = hot.T  # (sequences, v): how many walks with this sequence end at v
    for _ in range(n - 1):
        onward = walks @ graph.adj.astype(jnp.int32)
        walks = (onward[:, None, :] * hot.T[None]).reshape(-1, hot.shape[0])
    return walks.sum(1, dtype=jnp.int32)


def degrees_by_depth(
    graph: Graph, depth: Callable[[Array], Array] = longest_path_depth
) -> tuple[Array, Array, Array]:
    """In- and out-degrees summed over the vertices of each layer.

    Args:
      graph: of v vertices.
      depth: adj (v, v) -> layers (v,): `longest_path_depth` or `shortest_path_depth`.

    Returns: in-degrees (v,) and out-degrees (v,) by layer, int32, and the number of
      layers (). Vertices that the input cannot reach belong to no layer.
    """
    layer = depth(graph.adj)
    member = layer[:, None] == jnp.arange(layer.shape[0])
    degree_in, degree_out = graph.adj.sum(0), graph.adj.sum(1)
    by_layer = lambda d: jnp.sum(d[:, None] * member, 0, jnp.int32)  # noqa: E731
    return by_layer(degree_in), by_layer(degree_out), layer.max() + 1


def path_indicators(graph: Graph, num_labels: int) -> Array:
    """Encodes which label sequences occur on a path from input to output.

    A path with labels (t_0, ..., t_{m-1}) of interior vertices has index
    sum_i num_labels**i (t_i + 1), so the bare edge has index 0 (White et al., 2021).

    Args:
      graph: of v vertices.
      num_labels: number of operation labels.

    Returns: (sum_{m=0}^{v-2} num_labels**m,) bool.
    """
    num = graph.adj.shape[0]
    hot = graph.ops[:, None] == jnp.arange(num_labels)
    # reach[v][m]: (num_labels**m,) bool, the sequences of length m before vertex v.
    start = [jnp.ones(1, bool)]
    empty = [jnp.zeros(num_labels**m, bool) for m in range(1, num - 1)]
    reach: list[list[Array]] = [start + empty]
    for v in range(1, num):
        into = [
            jnp.any(
                jnp.stack([reach[u][m] & graph.adj[u, v] for u in range(v)]), axis=0
            )
            for m in range(num - 1)
        ]
        if v < num - 1:
            longer = [(hot[v][:, None] & w[None]).reshape(-1) for w in into[:-1]]
            into = [jnp.zeros(1, bool), *longer]
        reach.append(into)
    return jnp.concatenate(reach[-1])


def one_hot(choices: tuple[int, ...], arch: Array) -> Array:
    """Encodes an architecture by one indicator for each choice at each position.

    Args:
      choices: number of choices at each of the d positions.
      arch: (d,) int32.

    Returns: (sum(choices),) float32.
    """
    position = np.repeat(np.arange(len(choices)), choices)
    value = np.concatenate([np.arange(c) for c in choices])
    return (arch[position] == value).astype(jnp.float32)


def one_hot_encoder(choices: tuple[int, ...]) -> Callable[[Array], Array]:
    """Binds the choices of a space: arch (d,) -> (sum(choices),) float32."""
    return lambda arch: one_hot(choices, arch)
