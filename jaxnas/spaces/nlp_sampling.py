"""Random NAS-Bench-NLP cells by the rule of its authors (Klyuchnikov et al., 2022).

A graph of nine or ten nodes is drawn first, two of them become the next hidden states,
nodes that neither needs are dropped, and what is left is drawn again until it is a cell:
it uses x and both previous hidden states, no next hidden state takes a previous one
directly, and it has at most 12 nodes, inputs included.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces.nlp_formats import (
    BLEND,
    FIRST,
    LINEAR,
    PROD,
    SLOTS,
    SUM,
    WIDTH,
)
from jaxnas.types import Array

NUM_RAW = 10  # nine, and the activation of a ninth that is linear
_BASE = 3  # x, h_prev_0, h_prev_1: numbers 0, 1, 2 of the sources; node i is 3 + i
_MAIN = np.array([LINEAR, BLEND, PROD, SUM])
_WEIGHTS = np.log([3.0, 1.0, 1.0, 1.0])
_THREE = 0.2  # the probability that a linear node has three inputs
_NUM_INPUTS = np.array([0, 1, 1, 1, 2, 2, 2, 3])


def raw_graph(key: Array) -> tuple[Array, Array]:
    """Draws a graph of nine or ten nodes.

    Every linear node is followed by an activation of it. A linear node takes x, previous
    hidden states and activations; a blend, product or sum takes previous hidden states
    and nodes. Inputs are distinct and uniform.

    Returns: operations (10,) int32, the tenth 0 if there are nine; and inputs (10, 3)
      int32: 0 is x, 1 and 2 are h_prev_0 and h_prev_1, 3 + i is node i, and -1 an empty
      slot.
    """

    def node(i: Array, graph: tuple[Array, Array]) -> tuple[Array, Array]:
        ops, inputs = graph
        key_op, key_act, key_three, key_inputs = jax.random.split(keys[i], 4)
        follows = (i > 0) & (ops[i - 1] == LINEAR)
        # The first node has two candidates, too few for a blend.
        weights = jnp.where((i == 0) & (_MAIN == BLEND), -jnp.inf, _WEIGHTS)
        main = jnp.asarray(_MAIN)[jax.random.categorical(key_op, weights)]
        main = jnp.where(i == NUM_RAW - 1, 0, main)
        op = jnp.where(follows, jax.random.randint(key_act, (), 1, 4), main)
        source = jnp.arange(_BASE + NUM_RAW)
        activation = (ops >= 1) & (ops < SUM)
        linear = jnp.concatenate([jnp.ones(_BASE, bool), activation])
        others = (source > 0) & (source < _BASE + i)
        may = jnp.where(op == LINEAR, linear, others)
        may = jnp.where(follows, source == _BASE + i - 1, may)
        noise = jax.random.gumbel(key_inputs, source.shape)
        chosen = jax.lax.top_k(jnp.where(may, noise, -jnp.inf), SLOTS)[1]
        three = (op == LINEAR) & jax.random.bernoulli(key_three, _THREE)
        num = jnp.asarray(_NUM_INPUTS)[op] + three
        chosen = jnp.where(jnp.arange(SLOTS) < num, chosen, -1)
        chosen = chosen.astype(jnp.int32)
        return ops.at[i].set(op.astype(jnp.int32)), inputs.at[i].set(chosen)

    keys = jax.random.split(key, NUM_RAW)
    ops = jnp.zeros(NUM_RAW, jnp.int32)
    inputs = jnp.full((NUM_RAW, SLOTS), -1, jnp.int32)
    return jax.lax.fori_loop(0, NUM_RAW, node, (ops, inputs))


def _needed(adj: Array, outputs: Array) -> Array:
    """The nodes (10,) bool that outputs (2,) depend on, themselves included."""
    needed = jnp.zeros(NUM_RAW, bool).at[outputs].set(True)
    grow = lambda _, reached: reached | (adj[_BASE:] & reached).any(1)  # noqa: E731
    return jax.lax.fori_loop(0, NUM_RAW, grow, needed)


def _order(adj: Array, needed: Array, outputs: Array) -> Array:
    """The nodes (10,) as a recipe lists them, those that are not needed last.

    A recipe has its outputs after the other nodes; a node with an input that is not yet
    defined then moves to the end, again and again. So nodes come by the number of moves,
    then as they were.
    """
    rank = jnp.arange(NUM_RAW).at[outputs].set(NUM_RAW + jnp.arange(2))

    def count(i: Array, moves: Array) -> Array:
        behind = moves + (rank > rank[i])
        return moves.at[i].set(jnp.max(jnp.where(adj[_BASE:, i], behind, 0)))

    moves = jnp.zeros(NUM_RAW, jnp.int32)
    moves = jax.lax.fori_loop(0, NUM_RAW, count, moves)
    last = 4 * NUM_RAW**2
    return jnp.argsort(jnp.where(needed, 2 * NUM_RAW * moves + rank, last + rank))


def finish(
    ops: Array, inputs: Array, outputs: Array, max_nodes: int
) -> tuple[Array, Array]:
    """The cell of a raw graph whose nodes `outputs` are the next hidden states.

    Args:
      ops: (10,) operations, as from `raw_graph`.
      inputs: (10, 3) inputs, as from `raw_graph`.
      outputs: (2,) the nodes that become h_new_0 and h_new_1.
      max_nodes: the most nodes of the space, its four inputs included.

    Returns: the vector (5 (max_nodes - 4),) int32, and whether it is a cell, ().
    """
    target = jnp.broadcast_to(jnp.arange(NUM_RAW)[:, None], inputs.shape)
    adj = jnp.zeros((_BASE + NUM_RAW + 1, NUM_RAW), bool)
    adj = adj.at[inputs, target].set(True)[:-1]  # -1, no input, is the last row
    needed = _needed(adj, outputs)
    complete = (adj[:_BASE] & needed).any(1).all()
    direct = adj[1:_BASE, outputs].any()
    order = _order(adj, needed, outputs)
    # The number plus 1 of every source: 0 for an empty slot, which is index -1.
    rank = jnp.argsort(order)
    number = jnp.concatenate([jnp.arange(1, _BASE + 1), FIRST + 1 + rank, jnp.zeros(1)])
    hidden = (
        jnp.zeros(NUM_RAW, jnp.int32).at[outputs].set(np.arange(1, 3, dtype=np.int32))
    )
    rows = [ops[:, None], number[inputs], hidden[:, None]]
    rows = jnp.concatenate(rows, 1).astype(jnp.int32)
    rows = jnp.where(needed[:, None], rows, 0)[order]
    num = max_nodes - FIRST
    rows = jnp.pad(rows[:num], ((0, max(0, num - NUM_RAW)), (0, 0)))
    fits = needed.sum() <= num
    return rows.reshape(num * WIDTH), complete & ~direct & fits


def draw(key: Array, max_nodes: int) -> Array:
    """Draws a cell with two hidden states, (5 (max_nodes - 4),) int32.

    Args:
      key: random key.
      max_nodes: the most nodes of the space, its four inputs included.
    """

    def again(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        key_next, key_graph, key_outputs = jax.random.split(carry[0], 3)
        ops, inputs = raw_graph(key_graph)
        noise = jax.random.gumbel(key_outputs, ops.shape)
        outputs = jax.lax.top_k(jnp.where(ops > 0, noise, -jnp.inf), 2)[1]
        return key_next, *finish(ops, inputs, outputs, max_nodes)

    empty = jnp.zeros(WIDTH * (max_nodes - FIRST), jnp.int32)
    start = key, empty, jnp.bool_(False)
    return jax.lax.while_loop(lambda carry: ~carry[2], again, start)[1]
