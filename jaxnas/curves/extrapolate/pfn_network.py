"""The transformer of LC-PFN (Adriaensen et al., 2023), in flax.

Each epoch is a token, without positional encoding: an observed epoch is the sum of the
embeddings of its number and of its value, a queried one the embedding of its number. Every
token attends to the observed ones and to itself. Needs flax (extra `surrogates`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxnas.types import Array

_UNIFORM_STD = 12**-0.5
_ZEROS = nn.initializers.zeros_init()


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the network; defaults are for a CPU, published 512, 12, 4, 1024, 1000."""

    width: int = 128
    num_layers: int = 3
    num_heads: int = 4
    hidden: int = 256
    num_bars: int = 200


class Layer(nn.Module):
    """Attention and feed-forward network with residual connections, normalised after.

    Attributes:
      config: sizes.
      dtype: of the matrix products; None: that of the tokens. Parameters, sums and
        normalisation keep theirs.
    """

    config: TransformerConfig
    dtype: Any = None

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        """Tokens (t, d) after the layer; `mask` (t, t) says which attend to which."""
        attention = nn.MultiHeadDotProductAttention(
            num_heads=self.config.num_heads,
            dtype=self.dtype,
            out_kernel_init=_ZEROS,
            force_fp32_for_softmax=self.dtype is not None,
        )
        tokens = nn.LayerNorm()(tokens + attention(tokens, mask=mask[None]))
        inner = nn.gelu(nn.Dense(self.config.hidden, dtype=self.dtype)(tokens))
        outer = nn.Dense(self.config.width, dtype=self.dtype, kernel_init=_ZEROS)(inner)
        return nn.LayerNorm()(tokens + outer)


class Transformer(nn.Module):
    """Logits of bars for every epoch of one curve.

    Attributes:
      config: sizes.
      dtype: of the matrix products of the layers, see `Layer`. Embeddings and head keep
        that of the values, which bfloat16 would round by more than the noise of a curve.
    """

    config: TransformerConfig
    dtype: Any = None

    @nn.compact
    def __call__(self, epoch: Array, value: Array, observed: Array) -> Array:
        """Logits (t, k) of values at epochs.

        Args:
          epoch: (t,) between 1 and 100.
          value: (t,) between 0 and 1 where observed, anything finite elsewhere.
          observed: (t,) bool.
        """
        x = nn.Dense(self.config.width)((epoch[:, None] / 101 - 0.5) / _UNIFORM_STD)
        y = nn.Dense(self.config.width)((value[:, None] - 0.5) / _UNIFORM_STD)
        tokens = x + jnp.where(observed[:, None], y, 0.0)
        mask = observed[None] | jnp.eye(len(epoch), dtype=bool)
        for _ in range(self.config.num_layers):
            tokens = Layer(self.config, self.dtype)(tokens, mask)
        inner = nn.gelu(nn.Dense(self.config.hidden)(tokens))
        return nn.Dense(self.config.num_bars)(inner)
