"""The NAS-Bench-201 cell space (Dong and Yang, 2020): an operation on each of six edges.

An architecture is int32 (6,): operations, as indices into `OPERATIONS`, in the order of
the official string `|o1~0|+|o2~0|o3~1|+|o4~0|o5~1|o6~2|`, where `|op~i|` in the j-th
group is an edge from node i to node j of a cell with nodes 0 to 3.

Every vector is valid and its own identity. Vectors that are the same network, or the same
function, are found by `nasbench201_classes`. As a graph the cell is turned inside out:
operations are vertices, so that distances and encodings of labelled graphs apply.
"""

from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import base, features, identity
from jaxnas.types import Array, Graph

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV1, CONV3, POOL = range(len(OPERATIONS))
LABELS = ("nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "skip_connect")
_CHOICES = (len(OPERATIONS),) * 6
NUM_CELLS = 5**6
_LABEL = tuple(LABELS.index(op) if op in LABELS else -1 for op in OPERATIONS)

# Source and target node of each edge.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
# Vertex 0 is the input, vertex i the i-th operation, vertex 7 the output.
_ADJACENCY = np.zeros((8, 8), bool)
_ADJACENCY[[0, 0, 0, 1, 1, 2, 3, 4, 5, 6], [1, 2, 4, 3, 5, 6, 6, 7, 7, 7]] = True
# The four paths through the cell, as positions of the architecture vector.
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))

_STRING = re.compile(
    r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|"
)


def graph_fixed(arch: Array) -> Graph:
    """Converts an architecture (6,) to a graph of 8 vertices with the same edges for all.

    `none` and the ends have the label -1. Labels index `LABELS`.
    """
    ends = jnp.full(1, -1, jnp.int32)
    ops = jnp.concatenate([ends, jnp.asarray(_LABEL, jnp.int32)[arch], ends])
    return Graph(jnp.asarray(_ADJACENCY), ops, jnp.ones(8, bool))


def graph_nonezero(arch: Array) -> Graph:
    """Converts an architecture (6,) to its graph without `none` vertices.

    This is the graph of the space. Dead ends stay; see `graph_live`.
    """
    graph = graph_fixed(arch)
    mask = (graph.ops >= 0) | jnp.array([True] + [False] * 6 + [True])
    return Graph(graph.adj & mask[:, None] & mask, graph.ops, mask)


def graph_live(arch: Array) -> Graph:
    """Converts an architecture (6,) to its graph pruned of dead ends."""
    return features.prune(graph_nonezero(arch))


def path_indicators(arch: Array) -> Array:
    """Encodes which of the 5 + 25 + 125 operation paths the cell has (White et al., 2021).

    `none` counts as an operation, as in the path encoding of naszilla.

    Args:
      arch: (6,) int32.

    Returns: (155,) bool, shorter paths first.
    """
    blocks, k = [], len(OPERATIONS)
    for length in (1, 2, 3):
        has = jnp.zeros(k**length, bool)
        for path in PATHS:
            if len(path) == length:
                weights = k ** np.arange(length)[::-1]
                has = has.at[jnp.sum(arch[np.array(path)] * weights)].set(True)
        blocks.append(has)
    return jnp.concatenate(blocks)


def live_edges(arch: Array) -> Array:
    """Finds the edges on a path from input to output that has no `none` operation.

    Args:
      arch: (6,) int32.

    Returns: (6,) bool.
    """
    present = arch != NONE
    live = jnp.zeros(6, bool)
    for path in PATHS:
        edges = np.array(path)
        live = live.at[edges].set(live[edges] | present[edges].all())
    return live


def without_dead_edges(arch: Array) -> Array:
    """Sets the operations of dead edges to `none`: (6,) int32.

    The cell computes the same function. See `live_edges`.
    """
    return jnp.where(live_edges(arch), arch, NONE)


def to_string(arch: Array | np.ndarray) -> str:
    """Writes an architecture (6,) in the official notation.

    Raises: `ValueError` for choices out of range.
    """
    pairs = zip(base.as_choices(SPACE, arch), EDGES, strict=True)
    ops = [f"{OPERATIONS[int(op)]}~{source}" for op, (source, _) in pairs]
    return f"|{ops[0]}|+|{ops[1]}|{ops[2]}|+|{ops[3]}|{ops[4]}|{ops[5]}|"


def from_string(text: str) -> np.ndarray:
    """Parses the official notation to an architecture (6,) int32.

    Raises: `ValueError` for other texts, naming an unknown operation.
    """
    match = _STRING.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError(
            f"not a NAS-Bench-201 architecture: {text!r}; wanted "
            "'|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'"
        )
    for op in match.groups():
        if op not in OPERATIONS:
            raise ValueError(
                f"no operation {op!r} in NAS-Bench-201; it has {', '.join(OPERATIONS)}"
            )
    return np.array([OPERATIONS.index(op) for op in match.groups()], np.int32)


SPACE = base.Space(
    name="nasbench201",
    choices=_CHOICES,
    identity=identity.of_product(_CHOICES),
    to_string=to_string,
    from_string=from_string,
    size=NUM_CELLS,
    labels=LABELS,
    graphs=(graph_nonezero,),
    paths=path_indicators,
)
