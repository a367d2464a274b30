"""The set encoder of MetaD2A: images pooled to prototypes of classes, these to a vector."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from jaxnas.models.attention import SetPool
from jaxnas.models.config import ModelConfig
from jaxnas.types import Array


class SetEncoder(nn.Module):
    """Embeds a dataset (Lee et al., 2021, section 3.1).

    Invariant to the order of classes and of the images in a class. Classes are an axis of
    their own: one with fewer images than the others is padded, not merged with the next.

    Attributes:
      config: sizes.
    """

    config: ModelConfig

    def setup(self):
        c = self.config
        self.intra, self.inter = (
            SetPool(c.latent, c.latent, c.num_heads, c.layer_norm) for _ in range(2)
        )

    def prototypes(self, features: Array, mask: Array) -> Array:
        """Embeds each class: (C, z); arguments as for a call."""
        # Padding may hold anything, NaN too, and must not reach a gradient.
        return self.intra(jnp.where(mask[..., None], features, 0), mask)

    def __call__(self, features: Array, mask: Array) -> Array:
        """Embeds a dataset.

        Args:
          features: (C, S, F) of S images of each of C classes.
          mask: (C, S) bool, False for padding; a class of padding alone is not part of
            the dataset.

        Returns: (z,).
        """
        return self.inter(self.prototypes(features, mask), mask.any(-1))
