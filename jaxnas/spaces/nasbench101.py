"""The NAS-Bench-101 cell space (Ying et al., 2019): at most 7 vertices and 9 edges.

An architecture is int32 (26,): the 21 entries above the diagonal of the 7 x 7 adjacency
matrix, row by row, then the operations of the five interior vertices as indices into
`OPERATIONS`. The cell is what pruning leaves: vertices that are on no path from input to
output are removed. It must have an edge, and at most 9 of them.

Isomorphic cells are the same architecture: its identity is the smallest encoding of the
pruned cell over all orders of its vertices (`canonical_id`), where the benchmark itself
uses an iterative hash of the graph.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.precision import full_precision
from jaxnas.spaces import base, features, identity
from jaxnas.types import Array, Graph

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
MAX_EDGES = 9
NUM_CELLS = 423_624  # up to isomorphism
_VERTICES, _EDGES, _INTERIOR = 7, 21, 5
_UPPER = tuple(i.astype(np.int32) for i in np.triu_indices(_VERTICES, 1))
_CHOICES = (2,) * _EDGES + (len(OPERATIONS),) * _INTERIOR


def graph_raw(arch: Array) -> Graph:
    """Converts an architecture (26,) to its graph of 7 vertices, before pruning."""
    adj = jnp.zeros((_VERTICES, _VERTICES), bool).at[_UPPER].set(arch[:_EDGES] == 1)
    ends = jnp.full(1, -1, jnp.int32)
    ops = jnp.concatenate([ends, jnp.asarray(arch[_EDGES:], jnp.int32), ends])
    return Graph(adj, ops, jnp.ones(_VERTICES, bool))


def graph_pruned(arch: Array) -> Graph:
    """Converts an architecture (26,) to the graph that the benchmark trains.

    Only vertices on a path from input to output are left; see `features.prune`.
    """
    return features.prune(graph_raw(arch))


def is_valid(arch: Array) -> Array:
    """Whether the output can be reached, with at most 9 edges after pruning: () bool."""
    edges = graph_pruned(arch).adj.sum()
    return (edges > 0) & (edges <= MAX_EDGES)


def _permutation_weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear maps from a cell to its encodings in all orders of the interior vertices.

    Returns: what each edge adds to the encoding of the reordered matrix (21, 120), whether
      it then points backwards (21, 120), and what one unit of each operation index adds
      (5, 120).
    """
    pairs = zip(*(u.tolist() for u in _UPPER), strict=True)
    position = {pair: k for k, pair in enumerate(pairs)}
    edge, backward, op = [], [], []
    for order in itertools.permutations(range(1, _VERTICES - 1)):
        index = (0, *order, _VERTICES - 1)
        moved = [(index[i], index[j]) for i, j in position]
        edge.append([2 ** position[m] if m in position else 0 for m in moved])
        backward.append([m not in position for m in moved])
        op.append([4 ** (p - 1) for p in order])
    return np.array(edge).T, np.array(backward).T, np.array(op).T


_EDGE_WEIGHT, _BACKWARD, _OP_WEIGHT = (
    w.astype(np.float32) for w in _permutation_weights()
)


@full_precision
def canonical_id(arch: Array) -> Array:
    """Numbers an architecture up to isomorphism.

    The smallest encoding of the pruned cell over all orders of its interior vertices in
    which every edge points forward: 21 bits of edges, then 2 bits for each operation.

    Args:
      arch: (26,) int32.

    Returns: () int32, equal for two vectors if and only if their cells are isomorphic.
    """
    graph = graph_pruned(arch)
    edges = graph.adj[_UPPER].astype(jnp.float32)
    ops = jnp.where(graph.ops >= 0, graph.ops, 3)[1:-1].astype(jnp.float32)
    # Matrix products of integers below 2**24: exact in float32 at full precision.
    edge_bits = (edges @ _EDGE_WEIGHT).astype(jnp.int32)
    op_bits = (ops @ _OP_WEIGHT).astype(jnp.int32)
    allowed = edges @ _BACKWARD == 0
    encodings = edge_bits * 4**_INTERIOR + op_bits
    return jnp.min(jnp.where(allowed, encodings, jnp.iinfo(jnp.int32).max))


def path_indicators(arch: Array) -> Array:
    """Encodes which of the 364 operation paths the pruned cell has: (364,) bool."""
    return features.path_indicators(graph_pruned(arch), len(OPERATIONS))


def from_matrix(matrix: np.ndarray, operations: list[str]) -> np.ndarray:
    """Converts an official cell specification to an architecture.

    Args:
      matrix: (v, v) of 0 and 1, strictly upper triangular, 2 <= v <= 7.
      operations: the names of the v - 2 interior vertices, or of all v, from "input" to
        "output".

    Returns: (26,) int32; the unused vertices of a smaller cell come before the output.
    Raises: `ValueError` if it is not a cell of NAS-Bench-101.
    """
    given = np.asarray(matrix)
    if given.ndim != 2 or given.shape[0] != given.shape[1]:
        raise ValueError(f"an adjacency matrix is square, not of shape {given.shape}")
    num = given.shape[0]
    if not 2 <= num <= _VERTICES:
        raise ValueError(f"a NAS-Bench-101 cell has 2 to 7 vertices, not {num}")
    if not np.isin(given, (0, 1)).all() or np.tril(given).any():
        raise ValueError(
            "an adjacency matrix is 0 or 1, and 0 on and below the diagonal"
        )
    names = list(operations)
    if len(names) == num and (names[0], names[-1]) == ("input", "output"):
        names = names[1:-1]
    if len(names) != num - 2 or any(n not in OPERATIONS for n in names):
        raise ValueError(
            f"wanted {num - 2} interior operations out of {', '.join(OPERATIONS)} (or "
            f"these between input and output), not {operations}"
        )
    # In a smaller cell the output moves to the last index, and unused vertices lack edges.
    index = [*range(num - 1), _VERTICES - 1]
    full = np.zeros((_VERTICES, _VERTICES), np.int32)
    full[np.ix_(index, index)] = given
    ops = [OPERATIONS.index(n) for n in names] + [0] * (_INTERIOR - len(names))
    return base.validate_arch(
        SPACE, np.concatenate([full[_UPPER], ops]).astype(np.int32)
    )


def to_matrix(arch: Array | np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Converts an architecture to the cell specification of the benchmark.

    Args:
      arch: (26,) integers.

    Returns: the matrix (v, v) of the pruned cell, and its v operation names, from "input"
      to "output".
    Raises: `ValueError` if `arch` is not valid.
    """
    arch = base.validate_arch(SPACE, arch)
    graph = jax.tree.map(np.asarray, graph_pruned(jnp.asarray(arch)))
    keep = np.flatnonzero(graph.mask)
    names = [OPERATIONS[o] for o in graph.ops[keep[1:-1]]]
    return graph.adj[np.ix_(keep, keep)].astype(int), ["input", *names, "output"]


def to_string(arch: Array | np.ndarray) -> str:
    """Writes an architecture as text.

    The 21 bits of the matrix, a colon, and the five interior operations with commas
    between them; the benchmark has no notation of its own.

    Args:
      arch: (26,) integers.

    Raises: `ValueError` for choices out of range.
    """
    arch = base.as_choices(SPACE, arch)
    bits = "".join(str(int(b)) for b in arch[:_EDGES])
    return bits + ":" + ",".join(OPERATIONS[int(o)] for o in arch[_EDGES:])


def from_string(text: str) -> np.ndarray:
    """Parses the text of `to_string` to an architecture (26,) int32.

    Raises: `ValueError` for other texts, and for a cell that is not valid.
    """
    bits, _, names = str(text).partition(":")
    ops = names.split(",")
    right = len(bits) == _EDGES and set(bits) <= {"0", "1"} and len(ops) == _INTERIOR
    if not right or any(op not in OPERATIONS for op in ops):
        raise ValueError(
            f"not a NAS-Bench-101 architecture: {text!r}; wanted 21 bits, a colon, and "
            f"five operations out of {', '.join(OPERATIONS)} with commas"
        )
    vector = [int(b) for b in bits] + [OPERATIONS.index(op) for op in ops]
    return base.validate_arch(SPACE, np.array(vector, np.int32))


SPACE = base.Space(
    name="nasbench101",
    choices=_CHOICES,
    identity=identity.from_integer(canonical_id),
    to_string=to_string,
    from_string=from_string,
    size=NUM_CELLS,
    labels=OPERATIONS,
    graphs=(graph_pruned,),
    is_valid=is_valid,
    rule=f"a path from input to output, and at most {MAX_EDGES} edges on such paths",
    paths=path_indicators,
)
