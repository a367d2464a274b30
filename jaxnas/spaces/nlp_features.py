"""Encodings of a NAS-Bench-NLP cell as vectors of fixed length, for predictors.

`surrogate_vector` has the columns of NAS-Bench-NLP11 (Yan et al., 2021). In a space of
at most M nodes there are M + 1 places: a node has the place of its number, and the last
one of the cell has place M, so that the output is always at the same place. The order of
inputs, which matters to a blend, is lost.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnas.spaces.nlp_formats import FIRST, MAX_HIDDEN, OPERATIONS, WIDTH
from jaxnas.types import Array


def _places(arch: Array) -> tuple[Array, Array, Array]:
    """Rows (n, 5) of an architecture, whether each is a node (n,), and its place (n,)."""
    rows = arch.reshape(-1, WIDTH)
    is_node = rows[:, 0] > 0
    number = jnp.arange(rows.shape[0])
    last = is_node.sum() - 1
    return rows, is_node, FIRST + jnp.where(number == last, rows.shape[0], number)


def adjacency(arch: Array) -> Array:
    """The adjacency matrix of a cell, [source, target], with its last node at place M.

    Args:
      arch: (5 n,) architecture, M = n + 4.

    Returns: (M + 1, M + 1) bool.
    """
    rows, _, node = _places(arch)
    num = rows.shape[0] + FIRST + 1
    # Index 0 is no input: it has a row of its own, which is dropped.
    sources = jnp.concatenate([jnp.arange(FIRST + 1), node + 1])[rows[:, 1:-1]]
    matrix = jnp.zeros((num + 1, num), bool).at[sources, node[:, None]].set(True)
    return matrix[1:]


def _operations(arch: Array) -> Array:
    """The operation (M + 1,) at each place, 0 for inputs and where no node is."""
    rows, is_node, node = _places(arch)
    num = rows.shape[0] + FIRST + 1
    return jnp.zeros(num, jnp.int32).at[node].max(jnp.where(is_node, rows[:, 0], 0))


def surrogate_vector(arch: Array, accuracies: Array | None = None) -> Array:
    """The vector that NAS-Bench-NLP11 is trained on.

    (M + 1)^2 entries of the adjacency matrix, row by row; the operation at each of M + 1
    places; the numbers, not the places, of the next hidden states in ascending order,
    then 0; and the start of the learning curve, if given.

    Args:
      arch: (5 n,) architecture, M = n + 4.
      accuracies: (3,), 100 - validation loss, nats, of the first three epochs.

    Returns: ((M + 1)^2 + M + 4,) float, or 3 columns more: 185 or 188 for M = 12.
    """
    hidden = arch.reshape(-1, WIDTH)[:, -1] > 0
    number = FIRST + jnp.arange(hidden.shape[0])
    beyond = FIRST + hidden.shape[0]
    outputs = jnp.sort(jnp.where(hidden, number, beyond))[:MAX_HIDDEN]
    outputs = jnp.pad(outputs, (0, MAX_HIDDEN - outputs.shape[0]))
    outputs = jnp.where(outputs == beyond, 0, outputs)
    blocks = [adjacency(arch).reshape(-1), _operations(arch), outputs]
    blocks += [] if accuracies is None else [jnp.asarray(accuracies)]
    return jnp.concatenate([block.astype(float) for block in blocks])


def one_hot(arch: Array) -> Array:
    """The adjacency matrix, then one-hot operations and whether each place is an output.

    (The reference program marks the last output a second time, at the place of its
    number.)

    Args:
      arch: (5 n,) architecture, M = n + 4.

    Returns: ((M + 1)^2 + 9 (M + 1),) float32: 286 for M = 12.
    """
    rows, _, node = _places(arch)
    operations = _operations(arch)
    flags = jnp.zeros(operations.shape, bool).at[node].max(rows[:, -1] > 0)
    hot = jax.nn.one_hot(operations, len(OPERATIONS))
    coded = jnp.concatenate([hot, flags[:, None]], 1).reshape(-1)
    return jnp.concatenate([adjacency(arch).reshape(-1), coded]).astype(jnp.float32)
