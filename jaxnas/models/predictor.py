"""The predictor of MetaD2A: the accuracy of a graph on a dataset (Lee et al., 2021)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxnas.models.attention import Linear
from jaxnas.models.config import ModelConfig
from jaxnas.models.graph_encoder import GraphEncoder
from jaxnas.models.set_encoder import SetEncoder
from jaxnas.types import Array


class Predictor(nn.Module):
    """Embeds a dataset and a graph, and maps both to a normalised accuracy.

    Attributes:
      config: sizes.
    """

    config: ModelConfig

    def setup(self):
        c = self.config
        self.set, self.encoder = SetEncoder(c), GraphEncoder(c)
        self.project = Linear(c.latent)
        self.head_0, self.head_1 = Linear(c.hidden), Linear(1)

    def dataset(self, features: Array, mask: Array) -> Array:
        """Embeds a dataset: (z,); arguments as for `SetEncoder`."""
        return self.set(features, mask)

    def graph(self, types: Array, adj: Array) -> Array:
        """Embeds a graph: (z,); arguments as for `GraphEncoder`."""
        return self.project(self.encoder(types, adj))

    def score(self, dataset: Array, graph: Array) -> Array:
        """Predicts from embeddings (..., z) of datasets and graphs: (...)."""
        hidden = jnp.tanh(self.head_0(jnp.concatenate([dataset, graph], -1)))
        return self.head_1(hidden)[..., 0]

    def __call__(self, features: Array, mask: Array, types: Array, adj: Array) -> Array:
        """Predicts the normalised accuracy () of a graph on a dataset."""
        return self.score(self.dataset(features, mask), self.graph(types, adj))


def normalise_accuracy(accuracy: Any, mean: Any, std: Any) -> Any:
    """Targets of the predictor from accuracies in percent.

    The division by 100 is the published code's.

    Args:
      accuracy: (...) percent.
      mean: () of the training accuracies.
      std: () of the training accuracies, with n - 1 degrees of freedom.
    """
    return (accuracy - mean) / std / 100


def denormalise_accuracy(target: Any, mean: Any, std: Any) -> Any:
    """Accuracies in percent from outputs of the predictor; see `normalise_accuracy`."""
    return 100 * std * target + mean
