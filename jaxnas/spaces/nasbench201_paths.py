"""Features of the function that a cell of NAS-Bench-201 computes: its paths.

A cell sums the outputs of its paths from input to output. A path with `none` adds nothing
and `skip_connect` changes nothing, so that a path is the sequence of its convolutions and
poolings. Cells of one function have the same paths, whatever their edges, and a model of
path features predicts functions of which it has seen no cell.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces.base import every, rank
from jaxnas.spaces.nasbench201 import (
    CONV1,
    CONV3,
    NONE,
    OPERATIONS,
    PATHS,
    POOL,
    SKIP,
    SPACE,
    without_dead_edges,
)
from jaxnas.spaces.nasbench201_classes import function_classes
from jaxnas.types import Array

_KINDS = np.array([CONV1, CONV3, POOL])
_LONGEST = max(map(len, PATHS))
NUM_SEQUENCES = sum(len(_KINDS) ** length for length in range(_LONGEST + 1))


def path_counts(arch: Array) -> Array:
    """Counts the paths of a cell, and the operations on them.

    Args:
      arch: (6,) cell of NAS-Bench-201.

    Returns: (57,) float32, equal for cells of one function: the number of paths with
      each of the 40 sequences of at most three operations, shorter ones first; live 1 x 1
      and 3 x 3 convolutions; and over the paths the sum, the largest and the smallest
      number of these, of poolings, of the three together, and of the two convolutions
      together. A cell without paths has zeros.
    """
    live = without_dead_edges(arch)
    # (4, 3): edges that a path does not have count as skip connections.
    padded = jnp.concatenate([live, jnp.full(1, SKIP, live.dtype)])
    paths = padded[np.array([[*p, *[-1] * (_LONGEST - len(p))] for p in PATHS])]
    present = (paths != NONE).all(1)
    kinds = paths[..., None] == _KINDS  # (4, 3, 3)
    digit = (kinds * (1 + np.arange(len(_KINDS)))).sum(-1)
    # Sequences are numbered without gaps: digits 1 to 3 in base 3, none for a skip.
    sequence = jnp.zeros(len(PATHS), int)
    for i in range(_LONGEST):
        longer = len(_KINDS) * sequence + digit[:, i]
        sequence = jnp.where(digit[:, i] > 0, longer, sequence)
    histogram = jnp.zeros(NUM_SEQUENCES).at[sequence].add(present)
    each = kinds.sum(1)  # (4, 3) operations of each path
    each = jnp.concatenate([each, each.sum(1)[:, None], each[:, :2].sum(1)[:, None]], 1)
    each = jnp.where(present[:, None], each, 0)
    least = jnp.where(present[:, None], each, _LONGEST).min(0) * present.any()
    # Poolings have no weights: equal functions may write one of them twice.
    edges = (live[:, None] == _KINDS[:2]).sum(0)
    parts = (histogram, edges, each.sum(0), each.max(0), least)
    return jnp.concatenate([part.astype(jnp.float32) for part in parts])


@functools.cache
def _mean_operations() -> np.ndarray:
    """One-hot live operations (15,625, 30) by `rank`, means over cells of one function."""
    with jax.ensure_compile_time_eval():  # the first call may be inside a program
        archs = jnp.asarray(every(SPACE), jnp.int32)
        live = np.asarray(jax.vmap(without_dead_edges)(archs))
    one_hot = np.eye(len(OPERATIONS), dtype=np.float32)[live].reshape(len(live), -1)
    classes = function_classes()
    total = np.zeros((classes.max() + 1, one_hot.shape[1]), np.float32)
    np.add.at(total, classes, one_hot)
    return (total / np.bincount(classes)[:, None])[classes]


def function_features(arch: Array) -> Array:
    """Features of a cell that are equal for all cells of one function.

    Args:
      arch: (6,) cell of NAS-Bench-201.

    Returns: (87,) float32: how often each operation is at each edge, edge by edge, as a
      share of the cells of this function, dead edges counted as `none`; and
      `path_counts`.
    """
    operations = jnp.asarray(_mean_operations())[rank(SPACE, arch)]
    return jnp.concatenate([operations, path_counts(arch)])
