"""The update and the message of a vertex in a directed acyclic graph (D-VAE).

Zhang et al. (2019), section 3.1, with the vertex number joined to the state. Graphs are
`types` (N,) int32, where absent vertices after the last one have the type -1, and `adj`
(N, N), where adj[u, v] is an edge u -> v with u < v between vertices that exist.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnas.models.attention import uniform
from jaxnas.types import Array


def parameter_dtype(module: nn.Module) -> jnp.dtype:
    """The dtype of a module's parameters; float32 while they are initialised."""
    leaves = jax.tree.leaves(module.variables.get("params", {}))
    return jnp.result_type(*leaves) if leaves else jnp.dtype(jnp.float32)


def scan_vertices(step: Any, reverse: bool = False) -> Any:
    """Lifts a step to `lax.scan` over vertices, with the same parameters at each.

    Args:
      step: a module, or a function (module, carry, inputs) -> (carry, outputs).
      reverse: whether to scan from the last vertex to the first.
    """
    shared = {"variable_broadcast": "params", "split_rngs": {"params": False}}
    return nn.scan(step, reverse=reverse, **shared)


class Gru(nn.Module):
    """Gated recurrent unit in PyTorch's convention; its hidden state is the message.

    Gates are in the order reset, update, new; the reset gate acts after the product with
    the message.

    Attributes:
      num_types: T.
      hidden: h.
    """

    num_types: int
    hidden: int

    @nn.compact
    def __call__(self, kind: Array, message: Array) -> Array:
        """Computes states of a vertex.

        Args:
          kind: () int32, its type; -1 uses the parameters of type 0.
          message: (..., h), sum of the messages that it receives.

        Returns: (..., h) state.
        """
        init, wide = uniform(self.hidden**-0.5), 3 * self.hidden
        from_kind = self.param("wi", init, (self.num_types, wide))
        from_message = self.param("wh", init, (self.hidden, wide))
        # A tracer cannot index the NumPy arrays of an imported model.
        x = jnp.asarray(from_kind)[jnp.maximum(kind, 0)]
        x = x + self.param("bi", init, (wide,))
        y = message @ from_message + self.param("bh", init, (wide,))
        (x_r, x_u, x_n), (y_r, y_u, y_n) = (jnp.split(a, 3, -1) for a in (x, y))
        reset, update = jax.nn.sigmoid(x_r + y_r), jax.nn.sigmoid(x_u + y_u)
        return (1 - update) * jnp.tanh(x_n + reset * y_n) + update * message


class NumberedLinear(nn.Module):
    """Dense layer of a state joined with the one-hot number of its vertex.

    Attributes:
      num_vertices: N.
      use_bias: whether there is a bias.
    """

    num_vertices: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, state: Array, vertex: Array) -> Array:
        """Maps a state (h,) of vertex () int32 to (h,)."""
        hidden = state.shape[-1]
        init = uniform((hidden + self.num_vertices) ** -0.5)
        shape = hidden + self.num_vertices, hidden
        kernel = jnp.asarray(self.param("kernel", init, shape))
        # The product with a one-hot vector is a row.
        y = state @ kernel[:hidden] + kernel[hidden + vertex]
        return y + self.param("bias", init, (hidden,)) if self.use_bias else y


class Message(nn.Module):
    """Message of a vertex: a gate times a mapping without bias.

    Attributes:
      num_vertices: N.
    """

    num_vertices: int

    def setup(self):
        self.gate = NumberedLinear(self.num_vertices)
        self.map = NumberedLinear(self.num_vertices, use_bias=False)

    def __call__(self, state: Array, vertex: Array) -> Array:
        """Maps a state (h,) of vertex () int32 to the message (h,)."""
        return jax.nn.sigmoid(self.gate(state, vertex)) * self.map(state, vertex)
