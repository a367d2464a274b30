"""The generator of MetaD2A: from a dataset to graphs (Lee et al., 2021, section 3.1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnas.models.attention import Linear
from jaxnas.models.config import ModelConfig
from jaxnas.models.graph_decoder import GraphDecoder, Logits, Uniforms, graph_nll
from jaxnas.models.set_encoder import SetEncoder
from jaxnas.types import Array


class Generator(nn.Module):
    """A Gaussian over latent vectors given a dataset, and a decoder of them.

    Attributes:
      config: sizes and settings.
    """

    config: ModelConfig

    def setup(self):
        self.set = SetEncoder(self.config)
        self.mu, self.logvar = (Linear(self.config.latent) for _ in range(2))
        self.decoder = GraphDecoder(self.config)

    def encode(self, features: Array, mask: Array) -> tuple[Array, Array]:
        """Computes mean (z,) and log-variance (z,); arguments as for `SetEncoder`."""
        v = self.set(features, mask)
        return self.mu(v), self.logvar(v)

    def logits(self, z: Array, types: Array, adj: Array) -> Logits:
        """Scores the decisions of a given graph; see `GraphDecoder.logits`."""
        return self.decoder.logits(z, types, adj)

    def sample(self, z: Array, uniforms: Uniforms | None) -> tuple[Array, Array]:
        """Draws a graph; see `GraphDecoder.sample`."""
        return self.decoder.sample(z, uniforms)

    def __call__(
        self, features: Array, mask: Array, types: Array, adj: Array
    ) -> tuple[Array, Array, Logits]:
        """Mean and log-variance of a dataset, and logits of a graph at the mean."""
        mu, logvar = self.encode(features, mask)
        return mu, logvar, self.logits(mu, types, adj)


class Losses(NamedTuple):
    """Parts of the loss of a dataset and a graph, in nats."""

    types: Array  # () negative log-likelihood of the types of vertices
    edges: Array  # () negative log-likelihood of the edges
    kl: Array  # () divergence of the posterior from a standard normal


def gaussian_kl(mu: Array, logvar: Array) -> Array:
    """Divergence of a diagonal Gaussian from the standard normal, over the last axis."""
    return -0.5 * (1 + logvar - mu**2 - jnp.exp(logvar)).sum(-1)


def generator_losses(
    network: Generator,
    variables: Any,
    key: Array | None,
    features: Array,
    mask: Array,
    types: Array,
    adj: Array,
) -> Losses:
    """Computes the parts of the loss of one dataset and one graph.

    Args:
      network: the generator.
      variables: its variables.
      key: for the latent noise of `config.eps_scale`; None: the mean, as in evaluation.
      features: (C, S, F).
      mask: (C, S) bool.
      types: (N,) int32.
      adj: (N, N), edges.
    """
    bound = network.bind(variables)
    mu, logvar = bound.encode(features, mask)
    z = mu
    if key is not None:
        noise = jax.random.normal(key, mu.shape, mu.dtype)
        z = mu + network.config.eps_scale * noise * jnp.exp(logvar / 2)
    logits = bound.logits(z, types, adj)
    return Losses(*graph_nll(logits, types, adj), gaussian_kl(mu, logvar))


def total_loss(config: ModelConfig, losses: Losses) -> Array:
    """Sums the parts of the loss of the generator, the divergence weighted."""
    return losses.types + losses.edges + config.kl_weight * losses.kl
