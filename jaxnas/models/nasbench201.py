"""Cells of NAS-Bench-201 as the graphs of MetaD2A, and back.

Vertex k = 1..6 is the operation of the k-th position of an architecture, of type 2 plus
its index; vertex 0 is the input, vertex 7 the output.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxnas.models.graph_decoder import INPUT, OUTPUT
from jaxnas.models.graphs import Codec, is_valid_dag
from jaxnas.spaces import nasbench201_classes
from jaxnas.spaces.nasbench201 import OPERATIONS, SPACE
from jaxnas.types import Array

_FIRST = 2  # type of the first operation


def types_of(arch: Array) -> Array:
    """Converts an architecture (6,) to the types (8,) int32 of its vertices."""
    arch = jnp.asarray(arch, jnp.int32) + _FIRST
    return jnp.concatenate([jnp.int32([INPUT]), arch, jnp.int32([OUTPUT])])


def architecture(types: Array) -> Array:
    """Converts types (8,) of a valid graph to the architecture (6,) int32.

    Types of an invalid graph give operations within range that are meaningless.
    """
    return jnp.maximum(types[1:7] - _FIRST, 0).astype(jnp.int32)


def is_valid(types: Array, adj: Array) -> Array:
    """Whether a graph is a cell: a valid DAG with six operations, () bool.

    Its edges are not compared with those of a cell, as in the published code.

    Args:
      types: (8,) int32; -1: absent.
      adj: (8, 8) bool.
    """
    return is_valid_dag(types, adj) & (types[1:7] >= _FIRST).all()


def _functions(arch: np.ndarray) -> np.ndarray:
    """The function classes (n,) of architectures (n, 6), on the host."""
    ranks = np.ravel_multi_index(np.asarray(arch).T, SPACE.choices)
    return nasbench201_classes.function_classes()[ranks]


CODEC = Codec(
    space=SPACE,
    num_vertices=8,
    num_types=_FIRST + len(OPERATIONS),
    types_of=types_of,
    architecture=architecture,
    is_valid=is_valid,
    functions=_functions,
    edges="line15",
)
"""Cells of NAS-Bench-201."""
