"""Blocks of the Set Transformer (Lee et al., 2019), with masks for padded sets.

Blocks take sets (..., n, d) with any leading axes, and a mask (..., n) bool, False for
padding. Padding receives no attention; outputs at its positions are finite and
meaningless. Parameters are named as in the published code.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnas.types import Array


def uniform(bound: float) -> Callable[..., Array]:
    """Makes an initialiser that draws uniformly from [-bound, bound)."""

    def draw(key: Array, shape: tuple[int, ...], dtype: type = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


class Linear(nn.Module):
    """Dense layer; kernel and bias start uniform in +-1/sqrt(fan_in), as in PyTorch.

    Attributes:
      width: of the output.
      use_bias: whether there is a bias.
    """

    width: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (..., d) to (..., width)."""
        init = uniform(x.shape[-1] ** -0.5)
        y = x @ self.param("kernel", init, (x.shape[-1], self.width))
        return y + self.param("bias", init, (self.width,)) if self.use_bias else y


class Mab(nn.Module):
    """Multi-head attention block, MAB(Q, K).

    The residual is the projected query, and logits are divided by the square root of the
    full width, not of the width of a head. The bias of `fc_k` adds one constant to all
    logits of a query, which has no effect.

    Attributes:
      width: d of the output, a multiple of `num_heads`.
      num_heads: number of heads; each takes a contiguous part of the width.
      layer_norm: whether both sums are normalised.
    """

    width: int
    num_heads: int = 4
    layer_norm: bool = False

    @nn.compact
    def __call__(self, queries: Array, keys: Array, mask: Array | None = None) -> Array:
        """Attends.

        Args:
          queries: (..., q, d_q).
          keys: (..., k, d_k); leading axes broadcast with those of the queries.
          mask: (..., k) bool, keys that exist; default: all. A set without keys gives
            finite values.

        Returns: (..., q, width).
        """

        def heads(x: Array) -> Array:
            return x.reshape(*x.shape[:-1], self.num_heads, -1)

        query = Linear(self.width, name="fc_q")(queries)
        key, value = (Linear(self.width, name=n)(keys) for n in ("fc_k", "fc_v"))
        logits = jnp.einsum("...qhc,...khc->...hqk", heads(query), heads(key))
        logits /= self.width**0.5
        if mask is not None:
            # Not -inf: the softmax of a set without keys would be NaN.
            lowest = jnp.finfo(logits.dtype).min
            logits = jnp.where(mask[..., None, None, :], logits, lowest)
        attended = jnp.einsum(
            "...hqk,...khc->...qhc", jax.nn.softmax(logits), heads(value)
        )
        x = query + attended.reshape(*attended.shape[:-2], self.width)
        x = self._normalise("ln0", x)
        x = x + nn.relu(Linear(self.width, name="fc_o")(x))
        return self._normalise("ln1", x)

    def _normalise(self, name: str, x: Array) -> Array:
        """The layer norm of this name, if layer norms are on."""
        if not self.layer_norm:
            return x
        return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)(x)


class Sab(nn.Module):
    """Set attention block: MAB(X, X); attributes as for `Mab`."""

    width: int
    num_heads: int = 4
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Maps a set (..., n, d) with mask (..., n) to (..., n, width)."""
        return Mab(self.width, self.num_heads, self.layer_norm, name="mab")(x, x, mask)


def _seeds(module: nn.Module, name: str, num: int, width: int) -> Array:
    """Learned elements (num, width); the bound is Xavier's for an array (1, num, width)."""
    bound = (6 / (num * width + width)) ** 0.5
    return module.param(name, uniform(bound), (num, width))


class Isab(nn.Module):
    """Induced set attention block: MAB1(X, MAB0(I, X)), linear in the size of the set.

    Attributes:
      width: of the output.
      num_inducing: m, inducing points I.
      num_heads: as for `Mab`.
      layer_norm: as for `Mab`.
    """

    width: int
    num_inducing: int = 32
    num_heads: int = 4
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Maps a set (..., n, d) with mask (..., n) to (..., n, width)."""
        inducing = _seeds(self, "I", self.num_inducing, self.width)
        sizes = self.width, self.num_heads, self.layer_norm
        summary = Mab(*sizes, name="mab0")(inducing, x, mask)
        return Mab(*sizes, name="mab1")(x, summary)


class Pma(nn.Module):
    """Pooling by multi-head attention: MAB(S, X) with k learned seeds S.

    Attributes:
      width: of the output.
      num_seeds: k.
      num_heads: as for `Mab`.
      layer_norm: as for `Mab`.
    """

    width: int
    num_seeds: int = 1
    num_heads: int = 4
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Maps a set (..., n, d) with mask (..., n) to (..., k, width)."""
        seeds = _seeds(self, "S", self.num_seeds, self.width)
        sizes = self.width, self.num_heads, self.layer_norm
        return Mab(*sizes, name="mab")(seeds, x, mask)


class SetPool(nn.Module):
    """Two set attention blocks, pooling by attention, and a linear layer.

    Attributes:
      width: of the blocks.
      out: width of the linear layer; None leaves it out.
      num_heads: as for `Mab`.
      layer_norm: as for `Mab`.
      num_inducing: m of induced blocks in place of full ones; 0: full ones.
      num_after: number of set attention blocks after the pooling.
    """

    width: int
    out: int | None
    num_heads: int = 4
    layer_norm: bool = False
    num_inducing: int = 0
    num_after: int = 0

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Maps a set (..., n, d) with mask (..., n) to a vector (..., out)."""
        shared = {"num_heads": self.num_heads, "layer_norm": self.layer_norm}
        for name in ("enc_0", "enc_1"):
            if self.num_inducing:
                block = Isab(self.width, self.num_inducing, name=name, **shared)
            else:
                block = Sab(self.width, name=name, **shared)
            x = block(x, mask)
        x = Pma(self.width, name="dec_0", **shared)(x, mask)
        for i in range(self.num_after):
            x = Sab(self.width, name=f"dec_{i + 1}", **shared)(x)
        if self.out is not None:
            x = Linear(self.out, name=f"dec_{self.num_after + 1}")(x)
        return x[..., 0, :]
