"""Graphs of architectures: adjacencies, and the rules of validity."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxnas.models.graph_decoder import INPUT, OUTPUT
from jaxnas.spaces.base import Space
from jaxnas.types import Array


class Codec(NamedTuple):
    """Conversions between architectures of a search space and graphs; static."""

    space: Space
    num_vertices: int  # N
    num_types: int  # T
    types_of: Callable[[Array], Array]  # arch (d,) -> types (N,) int32
    architecture: Callable[[Array], Array]  # types (N,) of a valid graph -> arch (d,)
    is_valid: Callable[[Array, Array], Array]  # types (N,), edges (N, N) -> () bool
    # archs (n, d) -> (n,) int, equal for functionally equal architectures; on the host.
    functions: Callable[[np.ndarray], np.ndarray]
    edges: str  # of the graphs that models are trained on, a name of `adjacency`


# A cell of NAS-Bench-201 as a graph of operations 1 to 6 between input 0 and output 7.
_LINE10 = "01 02 04 13 15 26 36 47 57 67"
# The published conversion adds i -> i + 1 between operations.
_CHAIN = "12 23 34 45 56"
_NB201 = {
    "line10": _LINE10,
    "line15": f"{_LINE10} {_CHAIN}",
    "chain11": f"01 67 13 15 26 36 {_CHAIN}",
}


def adjacency(name: str, num_vertices: int) -> np.ndarray:
    """Looks up the edges that all graphs of a space share.

    Args:
      name: `line10`, the line graph of a NAS-Bench-201 cell; `line15`, the graphs that
        the published generator was trained on; `chain11`, the graphs of the re-published
        table of the predictor; or `chain`, 0 -> 1 -> ... of any length.
      num_vertices: N; 8 for the graphs of NAS-Bench-201.

    Returns: (N, N) bool; [u, v] is the edge u -> v.
    Raises: `ValueError` for an unknown name, and for graphs of another size.
    """
    if name == "chain":
        return np.eye(num_vertices, k=1, dtype=bool)
    if name not in _NB201:
        raise ValueError(
            f"no adjacency {name!r}; available are chain, {', '.join(sorted(_NB201))}"
        )
    if num_vertices != 8:
        raise ValueError(f"graphs {name} have 8 vertices, not {num_vertices}")
    edges = np.array([[int(u), int(v)] for u, v in _NB201[name].split()])
    matrix = np.zeros((8, 8), bool)
    matrix[edges[:, 0], edges[:, 1]] = True
    return matrix


def is_valid_dag(types: Array, adj: Array) -> Array:
    """Whether a graph satisfies the rules that all spaces share.

    It has one input and one output; every vertex but the input has a predecessor, and every
    vertex but the output a successor.

    Args:
      types: (N,) int32; -1: absent.
      adj: (N, N) bool, edges from lower to higher vertices.

    Returns: () bool.
    """
    has_predecessor, has_successor = adj.any(0), adj.any(1)
    connected = (has_predecessor | (types == INPUT)) & (
        has_successor | (types == OUTPUT)
    )
    single = ((types == INPUT).sum() == 1) & ((types == OUTPUT).sum() == 1)
    return single & ((types < 0) | connected).all()
