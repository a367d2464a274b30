"""Encodings of NAS-Bench-101 and NAS-Bench-201 cells that published predictors use.

Each of them orders operations and edges in its own way. The surrogates NAS-Bench-111 and
NAS-Bench-211 (Yan et al., 2021) are trained on `nb111_vector` and `nb211_vector`; one-hot
and path encodings are those of BANANAS (White et al., 2021) in the programs of NASLib.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import features, nasbench101, nasbench201
from jaxnas.types import Array, check_shapes

_EDGES101 = 21  # entries above the diagonal of a 7 x 7 matrix
_OPS101 = len(nasbench101.OPERATIONS)
# In the order of nasbench101.OPERATIONS: conv3x3, conv1x1, maxpool3x3.
_SCALAR101 = np.array([0.5, 0.0, 1.0])
_INDEX101 = np.array([1, 0, 2])

# In the order of nasbench201.OPERATIONS: none, skip, conv1x1, conv3x3, avgpool.
_ALPHABETICAL = np.array([3, 4, 1, 2, 0])
# NASLib: skip 0, none 1, conv3x3 2, conv1x1 3, avgpool 4; its edges are 0-1, 0-2, 0-3,
# 1-2, 1-3, 2-3.
_NASLIB = np.array([1, 0, 3, 2, 4])
_NASLIB_EDGES = np.array([0, 1, 3, 2, 4, 5])
# The paths through a cell, as positions among NASLib's edges.
_NASLIB_PATHS = ((2,), (0, 4), (1, 5), (0, 3, 5))


def nb101_representative(arch: Array) -> Array:
    """The pruned cell whose code is the smallest among all orders of its vertices.

    Encodings depend on the order of vertices and on dead vertices, cells do not: encode
    the representative wherever a predictor is trained and wherever it is asked.

    Args:
      arch: (26,) cell of NAS-Bench-101.

    Returns: (26,) int32; a vertex that is not used has no edges and a 3 x 3 convolution.
    """
    code = nasbench101.canonical_id(arch)
    interior = _OPS101 + 2
    edges = code >> (2 * interior + np.arange(_EDGES101)) & 1
    ops = code >> (2 * np.arange(interior)) & 3
    return jnp.concatenate([edges, jnp.where(ops < _OPS101, ops, 0)]).astype(jnp.int32)


def nb111_vector(arch: Array, accuracies: Array | None = None) -> Array:
    """The vector that NAS-Bench-111 is trained on.

    21 bits above the diagonal of the adjacency matrix, row by row; the operations of
    vertices 1 to 5 as one number each, 1 x 1 convolution 0, 3 x 3 convolution 0.5 and
    maximum pooling 1; and, if given, four accuracies of the table.

    Args:
      arch: (26,) cell of NAS-Bench-101, as the surrogate's data have it.
      accuracies: (3, 4) final validation accuracies of three seeds, fractions, after
        trainings of 4, 12, 36 and 108 epochs.

    Returns: (26,) float, or (30,) with the mean accuracies.
    Raises: `ValueError` for accuracies of another shape.
    """
    ops = jnp.asarray(_SCALAR101, float)[arch[_EDGES101:]]
    blocks = [arch[:_EDGES101].astype(ops.dtype), ops]
    if accuracies is not None:
        check_shapes(arch=(arch, "d"), accuracies=(accuracies, "se"))
        if np.shape(accuracies)[1] != 4:
            raise ValueError(f"wanted accuracies (3, 4), not {np.shape(accuracies)}")
        blocks.append(jnp.asarray(accuracies).mean(0).astype(ops.dtype))
    return jnp.concatenate(blocks)


def nb101_one_hot(arch: Array) -> Array:
    """21 bits of the adjacency matrix, then each operation in three bits.

    The bits are maximum pooling, 3 x 3 convolution, 1 x 1 convolution.

    Args:
      arch: (26,) cell of NAS-Bench-101.

    Returns: (36,) float32.
    """
    hot = (
        jnp.arange(_OPS101)
        == _OPS101 - 1 - jnp.asarray(_INDEX101)[arch[_EDGES101:, None]]
    )
    return jnp.concatenate([arch[:_EDGES101], hot.reshape(-1)]).astype(jnp.float32)


def nb101_categorical(arch: Array) -> Array:
    """21 bits of the adjacency matrix, then operations as indices.

    The indices are 1 x 1 convolution 0, 3 x 3 convolution 1, maximum pooling 2.

    Args:
      arch: (26,) cell of NAS-Bench-101.

    Returns: (26,) float32.
    """
    ops = jnp.asarray(_INDEX101)[arch[_EDGES101:]]
    return jnp.concatenate([arch[:_EDGES101], ops]).astype(jnp.float32)


def nb211_vector(arch: Array) -> Array:
    """The ordinal vector that NAS-Bench-211 is trained on.

    Operations in the order of the cell's string: average pooling 0, 1 x 1 convolution
    1, 3 x 3 convolution 2, none 3, skip connection 4.

    Args:
      arch: (6,) cell of NAS-Bench-201.

    Returns: (6,) float.
    """
    return jnp.asarray(_ALPHABETICAL, float)[arch]


def naslib201(arch: Array) -> Array:
    """The operations as NASLib numbers them, on edges as NASLib orders them.

    Args:
      arch: (6,) cell of NAS-Bench-201.

    Returns: (6,) int32.
    """
    return jnp.asarray(_NASLIB, jnp.int32)[arch[_NASLIB_EDGES]]


def from_naslib201(operations: Array) -> Array:
    """The inverse of `naslib201`.

    Args:
      operations: (6,) as NASLib has them.

    Returns: (6,) int32 cell of NAS-Bench-201.
    """
    # The exchange of two edges is its own inverse.
    return jnp.asarray(np.argsort(_NASLIB), jnp.int32)[operations[_NASLIB_EDGES]]


def nb201_one_hot(arch: Array) -> Array:
    """One-hot encoding of the operations of `naslib201`, edge by edge.

    Args:
      arch: (6,) cell of NAS-Bench-201.

    Returns: (30,) float32.
    """
    return features.one_hot(nasbench201.SPACE.choices, naslib201(arch))


def nb201_paths(arch: Array) -> Array:
    """Which of 5 + 25 + 125 operation paths the cell has, as NASLib numbers them.

    A path of operations o_1, ..., o_m of `naslib201` has index (0, 5 or 30, for m = 1, 2
    or 3) + sum_i 5^(i-1) o_i. NASLib's own program takes three of the edges wrongly,
    by another order of edges than that of its operations.

    Args:
      arch: (6,) cell of NAS-Bench-201.

    Returns: (155,) bool.
    """
    ops, num = naslib201(arch), len(nasbench201.OPERATIONS)
    index = []
    for path in _NASLIB_PATHS:
        offset = sum(num**m for m in range(1, len(path)))
        index.append(
            offset + jnp.sum(ops[np.array(path)] * num ** np.arange(len(path)))
        )
    return (
        jnp.zeros(sum(num**m for m in (1, 2, 3)), bool).at[jnp.stack(index)].set(True)
    )
