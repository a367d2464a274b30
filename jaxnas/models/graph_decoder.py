"""The graph decoder (Zhang et al., 2019; Lee et al., 2021, section 3.1).

Vertices are made one by one: a type from the state of the last vertex, then one decision
for each earlier vertex, the latest first, on an edge from it; the state of the new vertex
is computed anew after each decision. Vertex 0 is the input, type 0, and starts from the
latent vector; type 1, the output, ends the graph.

With a given graph all states that decisions see are known at once (`logits`). Sampling is
a scan over vertices with a scan over edges in it, of fixed lengths (`sample`).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.models.attention import Linear
from jaxnas.models.config import ModelConfig
from jaxnas.models.graph_layers import Gru, Message, parameter_dtype, scan_vertices
from jaxnas.types import Array

INPUT, OUTPUT, ABSENT = 0, 1, -1
"""Vertex types; types from 2 on are operations."""


class Logits(NamedTuple):
    """Scores of the decisions of a graph."""

    types: Array  # (N, T), of the type of each vertex; row 0, the input, is zero
    edges: Array  # (N, N), of the edge u -> v for u < v, zero elsewhere


class Uniforms(NamedTuple):
    """Uniform random numbers, one for each decision of a graph."""

    types: Array  # (N,) in [0, 1)
    edges: Array  # (N, N), [v, u] for the edge u -> v


class _Partial(NamedTuple):
    """A partial graph during sampling."""

    states: Array  # (N, h)
    messages: Array  # (N, h)
    adj: Array  # (N, N) bool
    done: Array  # () bool, whether the output has been made


class GraphDecoder(nn.Module):
    """Decodes a latent vector to a graph.

    Attributes:
      config: sizes.
    """

    config: ModelConfig

    def setup(self):
        c = self.config
        self.start = Linear(c.hidden)
        self.gru = Gru(c.num_types, c.hidden)
        self.message = Message(c.num_vertices)
        self.type_0, self.type_1 = Linear(2 * c.hidden), Linear(c.num_types)
        self.edge_0, self.edge_1 = Linear(4 * c.hidden), Linear(1)

    def logits(self, z: Array, types: Array, adj: Array) -> Logits:
        """Scores the decisions that make a given graph (teacher forcing).

        The type of an absent vertex is scored from the state of the last vertex, and its
        edges from a zero state.

        Args:
          z: (z,).
          types: (N,) int32; -1: absent.
          adj: (N, N), edges.

        Returns: the logits.
        """
        num = self.config.num_vertices
        vertices = jnp.arange(num)
        first, messages = self._input(z)
        inputs = vertices[1:], types[1:], adj.T[1:].astype(first.dtype)
        _, partial = scan_vertices(GraphDecoder._given_vertex)(self, messages, inputs)
        states = jnp.concatenate([first[None], partial[:, 0]])
        last = (types >= 0).sum() - 1
        previous = states[jnp.minimum(vertices[:-1], last)]
        u, v = np.triu_indices(num, 1)
        edges = self._edge_logit(states[u], partial[v - 1, u + 1])
        return Logits(
            jnp.pad(self._type_logits(previous), ((1, 0), (0, 0))),
            jnp.zeros((num, num), edges.dtype).at[u, v].set(edges),
        )

    def sample(self, z: Array, uniforms: Uniforms | None) -> tuple[Array, Array]:
        """Draws a graph.

        The last vertex is always the output. The output receives an edge from each vertex
        without successors; no edges are drawn for it.

        Args:
          z: (z,).
          uniforms: a type is the inverse of the cumulative distribution at a number, an
            edge exists if its number is below its probability. None: the most probable
            type, and edges of probabilities above 1/2.

        Returns: types (N,) int32, -1 for vertices after the output; edges (N, N) bool.
        """
        num = self.config.num_vertices
        first, messages = self._input(z)
        states = jnp.zeros_like(messages).at[0].set(first)
        graph = _Partial(
            states, messages, jnp.zeros((num, num), bool), jnp.array(False)
        )
        if uniforms is None:
            choices = None, jnp.full((num - 1, num - 1), 0.5)
        else:
            choices = uniforms.types[1:], uniforms.edges[1:, :-1]
        step = scan_vertices(GraphDecoder._drawn_vertex)
        graph, types = step(self, graph, (jnp.arange(1, num), *choices))
        types = jnp.concatenate([jnp.array([INPUT]), types]).astype(jnp.int32)
        return types, graph.adj

    def _input(self, z: Array) -> tuple[Array, Array]:
        """The state (h,) of vertex 0, and messages (N, h) that are zero but for its own."""
        state = self.gru(jnp.array(INPUT), jnp.tanh(self.start(z)))
        message = self.message(state, jnp.array(0))
        shape = self.config.num_vertices, self.config.hidden
        dtype = jnp.promote_types(parameter_dtype(self), z.dtype)
        return state, jnp.zeros(shape, dtype).at[0].set(message)

    def _type_logits(self, state: Array) -> Array:
        """Scores (..., T) of the next vertex's type from states (..., h)."""
        return self.type_1(nn.relu(self.type_0(state)))

    def _edge_logit(self, old: Array, new: Array) -> Array:
        """Scores (...) of edges from old to new vertices, of states (..., h)."""
        joined = jnp.concatenate([old, new], -1)
        return self.edge_1(nn.relu(self.edge_0(joined)))[..., 0]

    def _given_vertex(
        self, messages: Array, inputs: tuple[Array, Array, Array]
    ) -> tuple[Array, Array]:
        """Updates a vertex of a given graph.

        Args:
          messages: (N, h) of the vertices so far, zero for the others.
          inputs: () number, () type, (N,) predecessors.

        Returns: the messages with its own, and (N, h) its final state, then in row u + 1
          the state that the decision on the edge from u sees.
        """
        vertex, kind, sources = inputs
        # Row u is the sum over predecessors from u on, which are decided before u - 1.
        received = jnp.cumsum((sources[:, None] * messages)[::-1], 0)[::-1]
        states = jnp.where(kind >= 0, self.gru(kind, received), 0)
        return messages.at[vertex].set(self.message(states[0], vertex)), states

    def _drawn_vertex(
        self, graph: _Partial, inputs: tuple[Array, Array | None, Array]
    ) -> tuple[_Partial, Array]:
        """Draws a vertex and its edges.

        Args:
          graph: so far.
          inputs: () number, and its uniform numbers: (), and (N - 1,) by predecessor.

        Returns: the graph with it, and its type.
        """
        vertex, u_type, u_edges = inputs
        num = self.config.num_vertices
        kind = _pick(self._type_logits(graph.states[vertex - 1]), u_type)
        kind = jnp.where(vertex == num - 1, OUTPUT, kind)
        zero = jnp.zeros_like(graph.states[0])
        earlier = jnp.arange(num) < vertex
        inner = jnp.arange(num - 1), u_edges, graph.states[:-1], graph.messages[:-1]

        def edge(self: GraphDecoder, carry: tuple, inputs: tuple) -> tuple:
            received, state = carry
            source, uniform, old, message = inputs
            probability = jax.nn.sigmoid(self._edge_logit(old, state))
            accepted = (uniform < probability) & (source < vertex)
            received = received + jnp.where(accepted, message, 0)
            return (received, self.gru(kind, received)), accepted

        carry = zero, self.gru(kind, zero)
        (_, state), drawn = scan_vertices(edge, reverse=True)(self, carry, inner)
        ends = ~graph.adj.any(1) & earlier
        sources = jnp.where(kind == OUTPUT, ends, jnp.append(drawn, False))
        extended = _Partial(
            graph.states.at[vertex].set(state),
            graph.messages.at[vertex].set(self.message(state, vertex)),
            graph.adj.at[:, vertex].set(sources & ~graph.done),
            graph.done | (kind == OUTPUT),
        )
        return extended, jnp.where(graph.done, ABSENT, kind)


def _pick(logits: Array, uniform: Array | None) -> Array:
    """A type from scores (T,): by inverse CDF, or the most probable one; () int."""
    if uniform is None:
        return logits.argmax(-1)
    below = jnp.cumsum(jax.nn.softmax(logits)) <= uniform
    return jnp.minimum(below.sum(), len(logits) - 1)


def graph_nll(logits: Logits, types: Array, adj: Array) -> tuple[Array, Array]:
    """Negative log-likelihoods of a graph, in nats.

    Absent vertices count as decisions for type 0 and against all edges. Graphs of
    NAS-Bench-201 and MobileNetV3 have none.

    Args:
      logits: of the graph.
      types: (N,) int32.
      adj: (N, N), edges.

    Returns: () of the types, () of the edges.
    """
    num = len(types)
    log_probabilities = jax.nn.log_softmax(logits.types[1:])
    labels = jnp.maximum(types[1:], 0)
    of_types = -log_probabilities[jnp.arange(num - 1), labels].sum()
    upper = np.triu(np.ones((num, num), bool), 1)
    # softplus(e) - a e cancels where an unlikely decision has a large score.
    of_edges = jax.nn.softplus(jnp.where(adj.astype(bool), -logits.edges, logits.edges))
    return of_types, jnp.where(upper, of_edges, 0).sum()
