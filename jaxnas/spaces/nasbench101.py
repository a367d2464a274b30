"""The NAS-Bench-101 cell space (Ying et al., 2019): at most 7 vertices and 9 edges.

An architecture is int32 (26,): the 21 entries above the diagonal of the 7 x 7 adjacency
matrix, row by row, then the operations of the five interior vertices as indices into
`OPERATIONS`. A cell is what is left after vertices off every path from input to output
are dropped; it has to have an edge, and at most 9 of them.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import base, features, identity
from jaxnas.types import Array, Graph

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
MAX_EDGES = 9
NUM_CELLS = 423_624  # up to isomorphism
_VERTICES, _EDGES, _INTERIOR = 7, 21, 5
_UPPER = tuple(i.astype(np.int32) for i in np.triu_indices(_VERTICES, 1))
_CHOICES = (2,) * _EDGES + (len(OPERATIONS),) * _INTERIOR


def graph_raw(arch: Array) -> Graph:
    """The cell as it stands, dangling vertices included."""
    adj = jnp.zeros((_VERTICES, _VERTICES), bool).at[_UPPER].set(arch[:_EDGES] == 1)
    ends = jnp.full(1, -1, jnp.int32)
    ops = jnp.concatenate([ends, jnp.asarray(arch[_EDGES:], jnp.int32), ends])
    return Graph(adj, ops, jnp.ones(_VERTICES, bool))


def graph_pruned(arch: Array) -> Graph:
    """The cell that the benchmark trains: only vertices on a path; the default."""
    return features.prune(graph_raw(arch))


def is_valid(arch: Array) -> Array:
    """() bool: the output can be reached, with at most 9 edges after pruning."""
    edges = graph_pruned(arch).adj.sum()
    return (edges > 0) & (edges <= MAX_EDGES)


def _permutation_weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of the 120 orders of the interior vertices: what an edge adds to the code
    of the reordered matrix, whether it then points backwards, what an operation adds."""
    pairs = zip(*(u.tolist() for u in _UPPER), strict=True)
    position = {pair: k for k, pair in enumerate(pairs)}
    edge, backward, op = [], [], []
    for order in itertools.permutations(range(1, _VERTICES - 1)):
        place = (0, *order, _VERTICES - 1)
        moved = [(place[i], place[j]) for i, j in position]
        edge.append([2 ** position[m] if m in position else 0 for m in moved])
        backward.append([m not in position for m in moved])
        op.append([4 ** (p - 1) for p in order])
    return np.array(edge).T, np.array(backward).T, np.array(op).T


_EDGE_WEIGHT, _BACKWARD, _OP_WEIGHT = (
    w.astype(np.float32) for w in _permutation_weights()
)


def canonical_id(arch: Array) -> Array:
    """A number () int32 that two vectors share if and only if their cells are isomorphic.

    The smallest code of the pruned cell over all orders of its interior vertices that
    keep every edge forward: 21 bits of edges, then 2 bits for each operation.
    """
    graph = graph_pruned(arch)
    edges = graph.adj[_UPPER].astype(jnp.float32)
    ops = jnp.where(graph.ops >= 0, graph.ops, 3)[1:-1].astype(jnp.float32)
    # Matrix products of integers below 2**24: exact in float32 at full precision.
    exact = jax.lax.Precision.HIGHEST
    edge_code = jnp.matmul(edges, _EDGE_WEIGHT, precision=exact).astype(jnp.int32)
    op_code = jnp.matmul(ops, _OP_WEIGHT, precision=exact).astype(jnp.int32)
    allowed = jnp.matmul(edges, _BACKWARD, precision=exact) == 0
    codes = edge_code * 4**_INTERIOR + op_code
    return jnp.min(jnp.where(allowed, codes, jnp.iinfo(jnp.int32).max))


def path_indicators(arch: Array) -> Array:
    """Which of the 364 operation paths the pruned cell has, (364,) bool."""
    return features.path_indicators(graph_pruned(arch), len(OPERATIONS))


def from_matrix(matrix: np.ndarray, operations: list[str]) -> np.ndarray:
    """The architecture (26,) of an official cell specification.

    Args:
      matrix: (v, v) of 0 and 1, strictly upper triangular, 2 <= v <= 7.
      operations: the names of the v - 2 interior vertices, or of all v, from "input" to
        "output".

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
    # Fewer vertices: the output moves to the last place, the unused have no edges.
    place = [*range(num - 1), _VERTICES - 1]
    full = np.zeros((_VERTICES, _VERTICES), np.int32)
    full[np.ix_(place, place)] = given
    ops = [OPERATIONS.index(n) for n in names] + [0] * (_INTERIOR - len(names))
    return base.validate_arch(
        SPACE, np.concatenate([full[_UPPER], ops]).astype(np.int32)
    )


def to_matrix(arch: Array | np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The pruned cell as the benchmark's matrix (v, v) and the v operation names.

    Raises: `ValueError` if `arch` is not valid.
    """
    arch = base.validate_arch(SPACE, arch)
    graph = jax.tree.map(np.asarray, graph_pruned(jnp.asarray(arch)))
    keep = np.flatnonzero(graph.mask)
    names = [OPERATIONS[o] for o in graph.ops[keep[1:-1]]]
    return graph.adj[np.ix_(keep, keep)].astype(int), ["input", *names, "output"]


def to_string(arch: Array | np.ndarray) -> str:
    """The 21 bits of the matrix, a colon, and the interior operations with commas."""
    arch = base.as_choices(SPACE, arch)
    bits = "".join(str(int(b)) for b in arch[:_EDGES])
    return bits + ":" + ",".join(OPERATIONS[int(o)] for o in arch[_EDGES:])


def from_string(text: str) -> np.ndarray:
    """The architecture (26,) of a `to_string` text; `ValueError` if it is not one."""
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
