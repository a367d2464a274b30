"""The NAS-Bench-NLP space of recurrent cells (Klyuchnikov et al., 2022).

An architecture is int32 (5 n,) for at most n nodes besides the four inputs (see
`nlp_formats`). `SPACE` has at most 12 nodes, inputs included, as NAS-Bench-NLP11; `space`
makes larger ones. Two vectors are the same architecture if their cells differ in the
order of nodes, or in the order of inputs of a linear node, a sum or a product.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import (
    base,
    features,
    identity,
    moves,
    nlp_formats,
    nlp_sampling,
)
from jaxnas.spaces.nlp_formats import (
    BLEND,
    FEWEST,
    FIRST,
    LEAKY,
    MAX_HIDDEN,
    MAX_NODES,
    MOST,
    OPERATIONS,
    PROD,
    SLOTS,
    SUM,
    WIDTH,
)
from jaxnas.types import Array, Graph, check_sizes

LABELS = OPERATIONS[1:]


def is_valid(arch: Array) -> Array:
    """() bool: every node has as many distinct inputs as its operation takes.

    Nodes come first, and inputs come before empty slots. The outputs are h_new_0 and
    those that follow it, and no h_prev_i is used without h_new_i.
    """
    rows = arch.reshape(-1, WIDTH)
    ops, inputs, hidden = rows[:, 0], rows[:, 1:-1], rows[:, -1]
    is_node, used = ops > 0, inputs > 0
    num = used.sum(1)
    fits = (num >= jnp.asarray(FEWEST)[ops]) & (num <= jnp.asarray(MOST)[ops])
    a, b = np.triu_indices(SLOTS, 1)
    different = (inputs[:, a] != inputs[:, b]) | ~used[:, b]
    in_front = (is_node[:-1] >= is_node[1:]).all() & (used[:, :-1] >= used[:, 1:]).all()
    outputs = (hidden[:, None] == jnp.arange(1, MAX_HIDDEN + 1)).sum(0)
    named = (
        (outputs <= 1).all() & (outputs[:-1] >= outputs[1:]).all() & (outputs[0] == 1)
    )
    previous = (inputs[..., None] == jnp.arange(2, FIRST + 1)).any((0, 1))
    return (
        (fits.all() & different.all() & in_front & named)
        & (previous <= (outputs > 0)).all()
        & ((hidden == 0) | is_node).all()
    )


def _mix(x: Array) -> Array:
    """A bijection of uint32 that spreads bits: the finalizer of MurmurHash3."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _colours(rows: Array) -> Array:
    """Colours (n,) uint32 of nodes that do not depend on their order.

    Weisfeiler-Lehman refinement by the inputs of a node and by what takes it; a blend
    tells its three slots apart.
    """
    num = rows.shape[0]
    ops, inputs, hidden = rows[:, 0], rows[:, 1:-1], rows[:, -1]
    initial = _mix((ops * (MAX_HIDDEN + 1) + hidden + 1).astype(jnp.uint32))
    slot = jnp.where((ops == BLEND)[:, None], jnp.arange(1, SLOTS + 1), 0)
    slot = _mix(slot.astype(jnp.uint32))
    fixed = _mix(jnp.arange(101, 101 + FIRST + 1, dtype=jnp.uint32))
    used = (inputs > 0).astype(jnp.uint32)

    def refine(_: Array, colour: Array) -> Array:
        above = jnp.concatenate([fixed, colour])[inputs]
        into = (_mix(above ^ slot) * used).sum(1, dtype=jnp.uint32)
        taken = _mix(_mix(colour)[:, None] + slot) * used
        out = jnp.zeros(num + FIRST + 1, jnp.uint32).at[inputs].add(taken)
        return _mix(initial + 3 * into + 5 * _mix(out[FIRST + 1 :]))

    return jax.lax.fori_loop(0, num, refine, initial)


def canonical(arch: Array) -> Array:
    """The same architecture (5 n,) with its nodes and commuting inputs in fixed order.

    Nodes come by their longest path from the inputs, then by a colour that Weisfeiler-
    Lehman refinement gives. Nodes of equal colour stay as they are: in the rare case
    that they are not interchangeable, two orders of a cell can have two forms; two
    different cells never have the same one.
    """
    rows = arch.reshape(-1, WIDTH)
    num, ops, inputs = rows.shape[0], rows[:, 0], rows[:, 1:-1]
    base_depth = jnp.zeros(FIRST + 1, jnp.int32)

    def deeper(_: Array, depth: Array) -> Array:
        return 1 + jnp.concatenate([base_depth, depth])[inputs].max(1)

    depth = jax.lax.fori_loop(0, num, deeper, jnp.ones(num, jnp.int32))
    depth = jnp.where(ops > 0, depth, num + 1)
    order = jnp.lexsort((_colours(rows), depth))
    number = jnp.concatenate([jnp.arange(FIRST + 1), FIRST + 1 + jnp.argsort(order)])
    renamed = number[inputs]
    beyond = num + FIRST + 1
    ascending = jnp.sort(jnp.where(renamed > 0, renamed, beyond), 1) % beyond
    renamed = jnp.where((ops == BLEND)[:, None], renamed, ascending)
    rows = jnp.concatenate([rows[:, :1], renamed, rows[:, -1:]], 1)
    return rows[order].reshape(-1).astype(arch.dtype)


def _other_operations(rows: Array) -> tuple[Array, Array]:
    """Two other operations (n, 2) of as many inputs for each node, and which exist."""
    ops = rows[:, :1]
    activation = (ops > 0) & (ops <= LEAKY)
    pair = (ops == SUM) | (ops == PROD)
    turn = np.arange(1, 3)
    fresh = jnp.where(activation, 1 + (ops - 1 + turn) % LEAKY, SUM + PROD - ops)
    return fresh, activation | (pair & (turn == 1))


def near(arch: Array) -> tuple[Array, Array]:
    """The architectures with another operation or another input at one node.

    The moves are those of NAS-Bench-x11: an activation becomes another one, a sum a
    product and the reverse; an input that is a node becomes an earlier node that is not
    yet an input. Linear nodes, blends, outputs, x and previous hidden states stay.

    Args:
      arch: (5 n,) architecture.

    Returns: vectors (2 n + 3 n (n - 1) / 2, 5 n), and whether each is a change (k,).
    """
    rows = arch.reshape(-1, WIDTH)
    num = rows.shape[0]
    fresh, exists = _other_operations(rows)
    node_op = np.repeat(np.arange(num), 2)
    edges = [(j, k, t) for j in range(num) for k in range(SLOTS) for t in range(j)]
    node, slot, source = np.array(edges, int).reshape(-1, SLOTS).T
    value = FIRST + 1 + source
    movable = rows[node, 1 + slot] > FIRST
    new = (rows[node, 1:-1] != value[:, None]).all(1)
    position = np.concatenate([WIDTH * node_op, WIDTH * node + 1 + slot])
    values = jnp.concatenate([fresh.reshape(-1), value]).astype(arch.dtype)
    changed = jnp.broadcast_to(arch, (len(position), arch.shape[0]))
    changed = changed.at[np.arange(len(position)), position].set(values)
    return changed, jnp.concatenate([exists.reshape(-1), movable & new])


def mutate(key: Array, arch: Array, *, reference: bool = False) -> Array:
    """Changes one operation or one input of an architecture at random.

    Args:
      key: random key.
      arch: (5 n,) architecture; one without neighbours stays as it is.
      reference: the rule of the NAS-Bench-x11 programs, for parity: half of the time a
        uniform input that is a node becomes a uniform earlier node, which can be the
        same or one that the node has already, so that the result can be invalid. The
        default is uniform over the neighbours.

    Returns: (5 n,) architecture.
    """
    if not reference:
        return moves.mutate(key, space(arch.shape[0] // WIDTH + FIRST), arch)
    key_kind, key_edge, key_source, key_op = jax.random.split(key, 4)
    rows = arch.reshape(-1, WIDTH)
    any_of = lambda key, may: jax.random.categorical(  # noqa: E731
        key, jnp.where(may.reshape(-1), 0.0, -jnp.inf)
    )
    movable = rows[:, 1:-1] > FIRST
    node, slot = jnp.divmod(any_of(key_edge, movable), SLOTS)
    source = jax.random.randint(key_source, (), 0, jnp.maximum(node, 1))
    moved = rows.at[node, 1 + slot].set((FIRST + 1 + source).astype(arch.dtype))
    fresh, exists = _other_operations(rows)
    # A node first, then one of its operations: a product is as likely as an activation.
    weight = jnp.log(exists / jnp.maximum(exists.sum(1, keepdims=True), 1))
    chosen, turn = jnp.divmod(jax.random.categorical(key_op, weight.reshape(-1)), 2)
    changed = rows.at[chosen, 0].set(fresh[chosen, turn].astype(arch.dtype))
    rewires = jax.random.bernoulli(key_kind)
    moved = jnp.where(movable.any(), moved, rows)
    changed = jnp.where(exists.any(), changed, rows)
    return jnp.where(rewires, moved, changed).reshape(-1)


def graph(arch: Array) -> Graph:
    """The cell from a super-source over its inputs and nodes to a super-sink.

    Vertex 0 is the super-source, 1 to 4 are x and the previous hidden states, then come
    the nodes; the last vertex follows the next hidden states. Nodes that no output needs
    are dropped.
    """
    rows = arch.reshape(-1, WIDTH)
    num, is_node = rows.shape[0], rows[:, 0] > 0
    last = FIRST + num + 1
    target = jnp.broadcast_to(FIRST + 1 + jnp.arange(num)[:, None], (num, SLOTS))
    # Vertex k + 1 is node k, as in the vector; 0, no input, is dropped.
    adj = jnp.zeros((last + 1, last + 1), bool).at[rows[:, 1:-1], target].set(True)
    used = adj[1 : FIRST + 1].any(1)
    adj = adj.at[0].set(False).at[0, 1 : FIRST + 1].set(used)
    adj = adj.at[FIRST + 1 : last, last].set(rows[:, -1] > 0)
    ends = jnp.full(FIRST + 1, -1, jnp.int32)
    ops = jnp.concatenate([ends, jnp.where(is_node, rows[:, 0] - 1, -1), ends[:1]])
    mask = jnp.concatenate([jnp.ones(FIRST + 1, bool), is_node, jnp.ones(1, bool)])
    return features.prune(Graph(adj, ops.astype(jnp.int32), mask))


def _identity_of(max_nodes: int) -> identity.Identity:
    """The 64-bit hash of the canonical form, in a space of at most `max_nodes` nodes."""
    by_value = identity.of_product(_choices(max_nodes))
    return lambda arch: by_value(canonical(arch))


def _choices(max_nodes: int) -> tuple[int, ...]:
    """Choices of each position: an input is an earlier node or an empty slot."""
    rows = (
        (len(OPERATIONS), *(number + 1,) * SLOTS, MAX_HIDDEN + 1)
        for number in range(FIRST, max_nodes)
    )
    return tuple(choice for row in rows for choice in row)


@functools.cache
def space(max_nodes: int = MAX_NODES) -> base.Space:
    """The space of cells of at most `max_nodes` nodes, the four inputs included.

    Its draws have two hidden states and at most 14 nodes, by the rule of
    `nlp_sampling`; its notations know one to three.

    Args:
      max_nodes: at least 6, so that a cell can be drawn.

    Raises: `ValueError` for fewer nodes, or a number that is not whole.
    """
    check_sizes(max_nodes=max_nodes)
    if max_nodes < FIRST + 2:
        raise ValueError(f"max_nodes must be at least {FIRST + 2}, not {max_nodes}")
    return base.Space(
        name="nlp" if max_nodes == MAX_NODES else f"nlp{max_nodes}",
        choices=_choices(max_nodes),
        identity=_identity_of(max_nodes),
        to_string=nlp_formats.to_string,
        from_string=functools.partial(nlp_formats.from_string, max_nodes=max_nodes),
        labels=LABELS,
        graphs=(graph,),
        is_valid=is_valid,
        rule="as many different inputs at every node as its operation takes, nodes "
        "first, outputs h_new_0 onward, and h_new_i wherever h_prev_i is used",
        draw=functools.partial(nlp_sampling.draw, max_nodes=max_nodes),
        near=near,
    )


SPACE = space()
