"""The bidirectional graph encoder (Zhang et al., 2019; Lee et al., 2021, section 3.2)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from jaxnas.models.attention import Linear
from jaxnas.models.config import ModelConfig
from jaxnas.models.graph_layers import Gru, Message, parameter_dtype, scan_vertices
from jaxnas.types import Array


class _Vertex(nn.Module):
    """One step of a sweep; attributes as for `GraphEncoder`."""

    config: ModelConfig

    def setup(self):
        c = self.config
        self.gru = Gru(c.num_types, c.hidden)
        self.message = Message(c.num_vertices)

    def __call__(
        self, messages: Array, inputs: tuple[Array, Array, Array]
    ) -> tuple[Array, Array]:
        """Updates a vertex.

        Args:
          messages: (N, h) of the vertices so far.
          inputs: () number of the vertex, () type, and (N,) the vertices whose messages
            it receives.

        Returns: the messages with its own, and its state (h,); zero if it is absent.
        """
        vertex, kind, sources = inputs
        state = self.gru(kind, sources.astype(messages.dtype) @ messages)
        state = jnp.where(kind >= 0, state, 0)
        return messages.at[vertex].set(self.message(state, vertex)), state


class GraphEncoder(nn.Module):
    """Embeds a graph by a sweep along its edges and one against them.

    Attributes:
      config: sizes.
    """

    config: ModelConfig

    def setup(self):
        self.forward = scan_vertices(_Vertex)(self.config)
        self.backward = scan_vertices(_Vertex, reverse=True)(self.config)
        self.unify = Linear(self.config.hidden)

    def states(self, types: Array, adj: Array) -> tuple[Array, Array]:
        """Computes the states of all vertices.

        Args:
          types: (N,) int32; -1: absent.
          adj: (N, N), edges.

        Returns: (N, h) of the forward sweep, along the edges, and (N, h) of the backward
          sweep, against them.
        """
        vertices = jnp.arange(len(types))
        start = jnp.zeros((len(types), self.config.hidden), parameter_dtype(self))
        _, forward = self.forward(start, (vertices, types, adj.T))
        _, backward = self.backward(start, (vertices, types, adj))
        return forward, backward

    def __call__(self, types: Array, adj: Array) -> Array:
        """Embeds a graph: (h,); arguments as for `states`."""
        forward, backward = self.states(types, adj)
        last = (types >= 0).sum() - 1
        return self.unify(jnp.concatenate([forward[last], backward[0]]))
