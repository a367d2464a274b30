"""Features of the paths of a NAS-Bench-NLP cell, from its first output backwards.

The vectors of `nlp_features` number the nodes of a cell, so that a change of one node
moves many columns. These features do not depend on the order of nodes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnas.precision import full_precision
from jaxnas.spaces.nlp_formats import (
    FIRST,
    LINEAR,
    OPERATIONS,
    SIGM,
    TANH,
    WIDTH,
)
from jaxnas.types import Array

_LEVELS = 4
# Lengths without any path: above every shortest and below every longest path, so that
# trees split off such cells like distant ones.
_FAR, _NONE = 20.0, -1.0


@full_precision
def path_summary(arch: Array) -> Array:
    """Counts operations by their distance to the first output, and the lengths of paths.

    Args:
      arch: (5 n,) architecture of NAS-Bench-NLP.

    Returns: (55,) float32: for 0, 1, 2 and 3 steps back from the node h_new_0 how many
      nodes of each of the seven operations are that many steps away, and how many of the
      inputs x and h_prev_i; for paths from x and from h_prev_0 to h_new_0 the fewest
      nodes, linear nodes and saturating activations, 20 where there is no path, and the
      most nodes, then -1; the number of nodes with each operation, of all nodes, of
      outputs, of nodes that h_new_0 depends on, and of inputs of all linear nodes.
    """
    rows = arch.reshape(-1, WIDTH)
    ops, inputs, hidden = rows[:, 0], rows[:, 1:-1], rows[:, -1]
    # x is of kind 0, h_prev_i of a kind after those of the operations.
    previous = len(OPERATIONS)
    kind = jnp.concatenate([jnp.array([0] + [previous] * (FIRST - 1)), ops])
    is_node = jnp.arange(len(kind)) < FIRST + (ops > 0).sum()
    kinds = jax.nn.one_hot(kind, previous + 1) * is_node[:, None]
    # (source, target); index 0 of an empty slot is dropped.
    edges = jnp.zeros((len(kind) + 1, len(rows)), bool)
    edges = edges.at[inputs, jnp.arange(len(rows))[:, None]].set(True)[1:]
    edges = jnp.pad(edges, ((0, 0), (FIRST, 0)))
    reached, counts = jnp.pad(hidden == 1, (FIRST, 0)), []
    for _ in range(_LEVELS):
        counts.append(reached @ kinds)
        reached = (edges & reached).any(1)
    output = FIRST + jnp.argmax(hidden == 1)
    lengths = [_lengths(kind, edges, source)[:, output] for source in (0, 1)]
    needed = _ancestors(edges, output)[FIRST:].sum()
    linear = ((ops == LINEAR)[:, None] & (inputs > 0)).sum()
    sizes = jnp.stack([(ops > 0).sum(), (hidden > 0).sum(), needed, linear])
    parts = (*counts, *lengths, kinds[FIRST:, 1:previous].sum(0), sizes)
    return jnp.concatenate([part.astype(jnp.float32) for part in parts])


def _lengths(kind: Array, edges: Array, source: int) -> Array:
    """Lengths (4, M) of paths from a source to each of M nodes, as in `path_summary`.

    Args:
      kind: (M,) of the nodes.
      edges: (M, M) bool, [source, target], targets after sources.
      source: the node at which paths begin.
    """
    saturating = (kind == SIGM) | (kind == TANH)
    costs = jnp.stack([jnp.ones_like(kind), kind == LINEAR, saturating])
    least = jnp.full((3, len(kind)), jnp.inf).at[:, source].set(0)
    most = jnp.full(len(kind), -jnp.inf).at[source].set(0)

    def extend(node: Array, lengths: tuple[Array, Array]) -> tuple[Array, Array]:
        before, (least, most) = edges[:, node], lengths
        shortest = jnp.where(before, least, jnp.inf).min(1) + costs[:, node]
        longest = jnp.where(before, most, -jnp.inf).max() + 1
        return least.at[:, node].set(shortest), most.at[node].set(longest)

    least, most = jax.lax.fori_loop(FIRST, len(kind), extend, (least, most))
    least = jnp.where(jnp.isfinite(least), least, _FAR)
    return jnp.concatenate([least, jnp.where(jnp.isfinite(most), most, _NONE)[None]])


def _ancestors(edges: Array, node: Array) -> Array:
    """Which of M nodes a node depends on, itself included: (M,) bool."""
    chosen = jnp.arange(len(edges)) == node

    def extend(_: Array, chosen: Array) -> Array:
        return chosen | (edges & chosen).any(1)

    return jax.lax.fori_loop(0, len(edges), extend, chosen)
