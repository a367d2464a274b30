"""Cells of NAS-Bench-101 as vectors of the library's space.

The benchmark gives a cell as an adjacency matrix of 2 to 7 vertices and a label for each
interior vertex. The space has seven vertices always: 21 possible edges, then five labels.
"""

from __future__ import annotations

import numpy as np


def encode_cells(
    num_vertices: np.ndarray, adj_code: np.ndarray, ops: np.ndarray
) -> np.ndarray:
    """Encodes cells as vectors (n, 26) int8 of `nasbench101.SPACE`.

    The output, vertex num_vertices - 1, becomes vertex 6; the vertices in between have
    no edges, and operation 0.

    Args:
      num_vertices: (n,), the input first and the output last.
      adj_code: (n,) uint64; bit 7 i + j is the edge from vertex i to vertex j.
      ops: (n, 5) operations of the interior vertices; negative where there is none.

    Raises: `ValueError` that counts the rows that are not cells: wrong sizes, edges that
      go backwards or leave the cell, more than 9 edges, unknown operations.
    """
    num = len(num_vertices)
    shapes = num_vertices.shape, adj_code.shape, ops.shape
    if shapes != ((num,), (num,), (num, 5)):
        raise ValueError("shapes {}, {} and {}".format(*shapes))
    octets = adj_code.astype("<u8").view(np.uint8).reshape(num, 8)
    bits = np.unpackbits(octets, axis=1, bitorder="little")
    adj = bits[:, :49].reshape(num, 7, 7)
    interior = np.arange(5) < num_vertices[:, None].astype(int) - 2
    valid = (num_vertices >= 2) & (num_vertices <= 7) & ~bits[:, 49:].any(1)
    valid &= ((ops >= 0) == interior).all(1) & (ops <= 2).all(1)
    for vertices in range(2, 7):
        small = np.flatnonzero(num_vertices == vertices)
        valid[small] &= ~adj[small, :, vertices:].any((1, 2))
        adj[small, :, 6] = adj[small, :, vertices - 1]
        adj[small, :, vertices - 1] = 0
        valid[small] &= ~adj[small, vertices - 1 : 6].any((1, 2))
    upper = np.triu(np.ones((7, 7), bool), 1)
    valid &= ~adj[:, ~upper].any(1) & (adj.sum((1, 2)) <= 9)
    if not valid.all():
        raise ValueError(f"{(~valid).sum()} of {num} rows, first {np.argmin(valid)}")
    return np.concatenate([adj[:, upper], np.maximum(ops, 0)], 1).astype(np.int8)
