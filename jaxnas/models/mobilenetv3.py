"""Networks of the MobileNetV3 space as the graphs of MetaD2A, and back.

Vertex 1 + l is layer l of 20, active or not; vertex 0 is the input, vertex 21 the output,
and the edges are the chain 0 -> 1 -> ... -> 21. The type of a layer says the depth of its
stage, its kernel size and its expansion, so that a vector of 45 positions follows from 22
types and the reverse, bit for bit.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxnas.models.graph_decoder import INPUT, OUTPUT
from jaxnas.models.graphs import Codec, is_valid_dag
from jaxnas.spaces import base
from jaxnas.spaces.mobilenetv3 import LAYERS, SPACE, STAGES
from jaxnas.types import Array

_FIRST = 2  # type of the first operation
_PER_STAGE = LAYERS // STAGES


def types_of(arch: Array) -> Array:
    """Converts an architecture (45,) to the types (22,) int32 of its vertices.

    A layer has the type 2 + 9 depth + 3 kernel + expansion, of choices from 0 to 2.
    """
    kernel, expansion, depth = jnp.split(
        jnp.asarray(arch, jnp.int32), (LAYERS, 2 * LAYERS)
    )
    layers = _FIRST + 9 * jnp.repeat(depth, _PER_STAGE) + 3 * kernel + expansion
    return jnp.concatenate([jnp.int32([INPUT]), layers, jnp.int32([OUTPUT])])


def architecture(types: Array) -> Array:
    """Converts types (22,) of a valid graph to the architecture (45,) int32.

    Types of an invalid graph give choices within range: the depth of a stage is that of its
    last layer.
    """
    layers = jnp.maximum(types[1 : 1 + LAYERS] - _FIRST, 0)
    depth = (layers // 9)[_PER_STAGE - 1 :: _PER_STAGE]
    return jnp.concatenate([layers // 3 % 3, layers % 3, depth]).astype(jnp.int32)


def is_valid(types: Array, adj: Array) -> Array:
    """Whether a graph is a network of the space, () bool.

    It is a valid DAG with 20 layers, and all layers of a stage agree on its depth. The
    edges are not compared with the chain, as in the published code.

    Args:
      types: (22,) int32; -1: absent.
      adj: (22, 22) bool.
    """
    return is_valid_dag(types, adj) & valid_stages(types).all()


def valid_stages(types: Array) -> Array:
    """Which stages of a graph are valid, (5,) bool: four layers that agree on the depth.

    Args:
      types: (22,) int32; -1: absent.
    """
    layers = (types[1 : 1 + LAYERS] - _FIRST).reshape(STAGES, _PER_STAGE)
    depth = layers // 9
    return ((depth == depth[:, -1:]) & (layers >= 0)).all(1)


def _functions(arch: np.ndarray) -> np.ndarray:
    """Numbers (n,) of the distinct networks among architectures (n, 45), on the host."""
    return np.unique(base.identify(SPACE, arch), return_inverse=True)[1]


CODEC = Codec(
    space=SPACE,
    num_vertices=LAYERS + 2,
    num_types=_FIRST + 27,
    types_of=types_of,
    architecture=architecture,
    is_valid=is_valid,
    functions=_functions,
    edges="chain",
)
"""Networks of the MobileNetV3 space."""
