"""The DARTS cell space (Liu et al., 2019): a normal and a reduction cell.

An architecture is int32 (32,): for each cell, for each of eight pairs, an input and an
operation (see `darts_formats`). The two inputs of a node differ, and the order of its two
pairs means nothing: the canonical form has the lower input first. What the space draws and
lists is canonical. There are 180^2 x 7^16, about 1.08 x 10^18, architectures.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import base, identity, moves
from jaxnas.spaces.darts_features import pair_index, path_indicators
from jaxnas.spaces.darts_formats import (
    NODES,
    OPERATIONS,
    PAIRS,
)
from jaxnas.spaces.darts_text import from_string, to_string
from jaxnas.types import Array, Graph

_OPS = len(OPERATIONS)
_NODE = np.repeat(NODES, 2)
_CHOICES = tuple(int(c) for node in _NODE for c in (node, _OPS)) * 2
_NUM_PAIRS = tuple(n * (n - 1) // 2 for n in NODES)
# One digit for a node's pair of inputs and one for each operation: 1.08e18 < 2^64.
_DIGITS = tuple(d for num in _NUM_PAIRS for d in (num, _OPS, _OPS)) * 2
NUM_ARCHITECTURES = int(np.prod(np.array(_DIGITS, object)))
# (4, 10, 2): the pairs of inputs that each node can have, in lexicographic order.
_INPUTS = np.zeros((len(NODES), max(_NUM_PAIRS), 2), np.int32)
for _k, _n in enumerate(NODES):
    _INPUTS[_k, : _NUM_PAIRS[_k]] = np.stack(np.triu_indices(_n, 1), -1)

# Every change of one operation, as pair and increment; and every other input that a pair
# can have, as pair and index among those that are not an input of the node.
_OP_CHANGES = np.array([(p, s) for p in range(2 * PAIRS) for s in range(1, _OPS)])
_INPUT_CHANGES = np.array(
    [(p, s) for p in range(2 * PAIRS) for s in range(_NODE[p % PAIRS] - 2)]
)
NUM_NEIGHBOURS = len(_OP_CHANGES) + len(_INPUT_CHANGES)


def canonical(arch: Array) -> Array:
    """The same architecture (32,) with the two pairs of each node in order of input."""
    nodes = arch.reshape(2 * len(NODES), 2, 2)
    swap = nodes[:, 0, 0] > nodes[:, 1, 0]
    return jnp.where(swap[:, None, None], nodes[:, ::-1], nodes).reshape(-1)


def is_valid(arch: Array) -> Array:
    """() bool: the two inputs of every node differ."""
    inputs = arch.reshape(2 * len(NODES), 2, 2)[:, :, 0]
    return (inputs[:, 0] != inputs[:, 1]).all()


_exact = identity.of_product(_DIGITS)


def _identity(arch: Array) -> Array:
    """The number (2,) uint32 of the canonical form among all architectures."""
    nodes = canonical(arch).reshape(2, len(NODES), 2, 2)
    low, high = nodes[..., 0, 0], nodes[..., 1, 0]
    pair = pair_index(np.array(NODES), low, high)
    digits = jnp.stack([pair, nodes[..., 0, 1], nodes[..., 1, 1]], -1)
    return _exact(digits.reshape(-1))


def draw(key: Array) -> Array:
    """Draws an architecture (32,) uniformly, in canonical form."""
    key_inputs, key_ops = jax.random.split(key)
    which = jax.random.randint(key_inputs, (2, len(NODES)), 0, np.array(_NUM_PAIRS))
    inputs = jnp.asarray(_INPUTS)[np.arange(len(NODES)), which].reshape(-1)
    ops = jax.random.randint(key_ops, (2 * PAIRS,), 0, _OPS)
    return jnp.stack([inputs, ops], -1).reshape(-1).astype(jnp.int32)


def near(arch: Array) -> tuple[Array, Array]:
    """The 120 architectures with another operation or another input in one pair.

    Args:
      arch: (32,) architecture.

    Returns: (120, 32) in canonical form, and that all are valid, (120,) bool.
    """
    pairs = arch.reshape(2 * PAIRS, 2)
    pair, shift = _OP_CHANGES.T
    operation = (pairs[pair, 1] + shift) % _OPS
    pair_in, index = _INPUT_CHANGES.T
    taken = jnp.sort(jnp.stack([pairs[pair_in, 0], pairs[pair_in ^ 1, 0]]), 0)
    source = index + (index >= taken[0])
    source = source + (source >= taken[1])
    rows = jnp.broadcast_to(arch, (NUM_NEIGHBOURS, arch.shape[0]))
    position = np.concatenate([2 * pair + 1, 2 * pair_in])
    value = jnp.concatenate([operation, source]).astype(arch.dtype)
    changed = rows.at[np.arange(NUM_NEIGHBOURS), position].set(value)
    return jax.vmap(canonical)(changed), jnp.ones(NUM_NEIGHBOURS, bool)


def mutate(key: Array, arch: Array, *, reference: bool = False) -> Array:
    """Changes one pair of an architecture at random.

    Args:
      key: random key.
      arch: (32,) architecture.
      reference: the rule of the NAS-Bench-x11 programs, for parity: a uniform cell,
        pair and field; the operation is uniform over all 7, the input over all of the
        node, and dropped if the node has it already. Four in ten leave the architecture
        as it is. The default is uniform over the 120 neighbours.

    Returns: (32,) architecture, in canonical form unless `reference`.
    """
    if not reference:
        return moves.mutate(key, SPACE, arch)
    key_pair, key_field, key_op, key_input = jax.random.split(key, 4)
    pair = jax.random.randint(key_pair, (), 0, 2 * PAIRS)
    operation = jax.random.randint(key_op, (), 0, _OPS)
    source = jax.random.randint(key_input, (), 0, jnp.asarray(_NODE)[pair % PAIRS])
    pairs = arch.reshape(2 * PAIRS, 2)
    source = jnp.where(source == pairs[pair ^ 1, 0], pairs[pair, 0], source)
    changes_op = jax.random.bernoulli(key_field)
    value = jnp.where(changes_op, operation, source).astype(arch.dtype)
    return arch.at[2 * pair + changes_op.astype(int)].set(value)


def _cell_graph(cell: int) -> Callable[[Array], Graph]:
    """A cell turned inside out: a vertex for each operation.

    Vertex 0 is the super-source, 1 and 2 are the cell's inputs, 3 to 10 the operations of
    its pairs and 11 the output. An operation on an intermediate node follows the two
    operations that the node sums; the output concatenates all nodes.
    """

    def graph(arch: Array) -> Graph:
        source, operation = arch.reshape(2, PAIRS, 2)[cell].T
        # Which vertices an input of index 0 to 4 stands for: (5, 12).
        stands = np.zeros((5, 12), bool)
        stands[[0, 1], [1, 2]] = True
        for k in range(len(NODES) - 1):
            stands[2 + k, 3 + 2 * k : 5 + 2 * k] = True
        adj = jnp.zeros((12, 12), bool).at[0, 1:3].set(True)
        adj = adj.at[3:11, 11].set(True)
        adj = adj.at[:, 3:11].set(adj[:, 3:11] | jnp.asarray(stands)[source].T)
        ends = jnp.full(3, -1, jnp.int32)
        ops = jnp.concatenate([ends, operation.astype(jnp.int32), ends[:1]])
        # Node 2 takes both of the cell's inputs, so every vertex is on a path.
        return Graph(adj, ops, jnp.ones(12, bool))

    return graph


SPACE = base.Space(
    name="darts",
    choices=_CHOICES,
    identity=_identity,
    to_string=to_string,
    from_string=from_string,
    size=NUM_ARCHITECTURES,
    labels=OPERATIONS,
    graphs=(_cell_graph(0), _cell_graph(1)),
    is_valid=is_valid,
    rule="two different inputs at each of nodes 2 to 5 of both cells",
    paths=path_indicators,
    draw=draw,
    near=near,
)
