"""Compression of learning curves by a variational auto-encoder, in flax.

The layers of Yan et al. (2021, section 3.1, and their programs), all of them trained:
curves are standardised at each epoch, the components are the encoder's means. All members
of an ensemble are trained side by side in one program. Needs flax (extra `surrogates`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.curves.compress import Compress
from jaxnas.curves.regress_mlp import batches
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_sizes

_SLOPE = 0.2  # of the leaky rectifier


class Encoder(nn.Module):
    """Curves (b, E) -> means and logarithms of variances (b, k).

    Attributes:
      hidden: width of the hidden layers.
      num_layers: how many there are after the first layer, which has no activation.
      num_components: k.
      dropout: rate.
    """

    hidden: int
    num_layers: int
    num_components: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array]:
        """Means (b, k) and logarithms of variances (b, k) of curves (b, E).

        Args:
          x: standardised curves.
          train: whether statistics are the batch's own, and values are dropped.
        """
        x = nn.Dense(self.hidden)(x)
        for _ in range(self.num_layers):
            x = nn.leaky_relu(nn.Dense(self.hidden)(x), _SLOPE)
            x = nn.BatchNorm(use_running_average=not train)(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        mean, log = jnp.split(nn.Dense(2 * self.num_components)(x), 2, axis=-1)
        return mean, log


class Decoder(nn.Module):
    """Components (..., k) -> standardised curves (..., E).

    Attributes:
      hidden: width of the hidden layers.
      num_layers: how many there are after the first layer, which has no activation.
      num_epochs: E.
      dropout: rate.
    """

    hidden: int
    num_layers: int
    num_epochs: int
    dropout: float

    @nn.compact
    def __call__(self, z: Array, train: bool) -> Array:
        """Standardised curves (..., E) of components (..., k); `train` drops values."""
        z = nn.Dense(self.hidden)(z)
        for _ in range(self.num_layers):
            z = nn.relu(nn.Dense(self.hidden)(z))
            z = nn.Dropout(self.dropout, deterministic=not train)(z)
        return nn.Dense(self.num_epochs)(z)


class Sizes(NamedTuple):
    """Sizes of an auto-encoder; static."""

    num_components: int
    hidden: int
    encoder_layers: int
    decoder_layers: int
    num_epochs: int
    dropout: float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Vae:
    """A trained auto-encoder; a pytree.

    Attributes:
      encoder: variables of the encoder.
      decoder: variables of the decoder.
      centre: (E,) mean of the training curves.
      spread: (E,) their standard deviation.
      mean: (k,) of the components over the training curves.
      scale: (k,) their standard deviation.
      sizes: static.
    """

    encoder: Any
    decoder: Any
    centre: Array
    spread: Array
    mean: Array
    scale: Array
    sizes: Sizes = field(metadata={"static": True})

    @property
    def num_components(self) -> int:
        """Number k of components."""
        return self.sizes.num_components


def _networks(sizes: Sizes) -> tuple[Encoder, Decoder]:
    return (
        Encoder(
            sizes.hidden, sizes.encoder_layers, sizes.num_components, sizes.dropout
        ),
        Decoder(sizes.hidden, sizes.decoder_layers, sizes.num_epochs, sizes.dropout),
    )


def vae(
    num_components: int = 5,
    *,
    hidden: int = 32,
    encoder_layers: int = 1,
    decoder_layers: int = 1,
    epochs: int = 10,
    batch: int = 32,
    learning_rate: float = 1e-3,
    dropout: float = 0.0,
    min_steps: int = 2000,
) -> Compress:
    """Compresses by a variational auto-encoder.

    Args:
      num_components: k.
      hidden: width of the layers.
      encoder_layers: hidden layers of the encoder, besides the first.
      decoder_layers: hidden layers of the decoder, besides the first.
      epochs: passes over the curves.
      batch: curves of a step, at most the number of curves.
      learning_rate: of Adam.
      dropout: rate.
      min_steps: steps that are made at least, so that few curves are enough.

    Returns: a function that fits `Vae`.
    Raises: `ValueError` for sizes below 1, and when fitted on fewer curves than
      components.
    """
    check_sizes(
        num_components=num_components, hidden=hidden, batch=batch, epochs=epochs
    )

    def compress(keys: Array, curves: np.ndarray, rows: np.ndarray) -> tuple[Vae, ...]:
        num = rows.shape[1]
        if num < num_components:
            raise ValueError(
                f"{num_components} components need as many curves, not {num}"
            )
        layers = (encoder_layers, decoder_layers)
        sizes = Sizes(num_components, hidden, *layers, curves.shape[1], dropout)
        centre, spread = curves.mean(0), curves.std(0)
        spread = np.where(spread > 0, spread, 1.0)
        x = jnp.asarray((curves - centre) / spread, jnp.float32)
        size = min(batch, num)
        steps = max(min_steps, epochs * (num // size))
        trained = _train(sizes, steps, size, learning_rate, keys, x, jnp.asarray(rows))
        first, second = (jnp.asarray(c, jnp.float32) for c in (centre, spread))
        members = []
        for i in range(len(rows)):
            encoder, decoder, mean, scale = jax.tree.map(lambda p: p[i], trained)  # noqa: B023
            members.append(Vae(encoder, decoder, first, second, mean, scale, sizes))
        return tuple(members)

    return compress


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
@functools.partial(jax.vmap, in_axes=(None, None, None, None, 0, None, 0))
def _train(
    sizes: Sizes, steps: int, batch: int, rate: float, key: Array, x: Array, rows: Array
) -> tuple[Any, Any, Array, Array]:
    """Variables of each of m members, and mean and scale of their components.

    Args:
      sizes: of the networks.
      steps: of the training.
      batch: curves of a step.
      rate: learning rate.
      key: (m,) random keys.
      x: (n, E) standardised curves.
      rows: (m, r) that each member is trained on.
    """
    encoder, decoder = _networks(sizes)
    keys = jax.random.split(key, 4)
    first = encoder.init(keys[0], x[:2], False)
    second = decoder.init(keys[1], jnp.zeros((2, sizes.num_components)), False)
    optimizer = optax.adam(rate)

    def loss(params: tuple, stats: Any, key: Array, curves: Array) -> tuple[Array, Any]:
        key_z, key_in, key_out = jax.random.split(key, 3)
        given = {"params": params[0], **stats}
        (mean, log), stats = encoder.apply(
            given, curves, True, mutable=["batch_stats"], rngs={"dropout": key_in}
        )
        z = mean + jnp.exp(log / 2) * jax.random.normal(key_z, mean.shape)
        again: Any = decoder.apply(
            {"params": params[1]}, z, True, rngs={"dropout": key_out}
        )
        divergence = -0.5 * jnp.sum(1 + log - mean**2 - jnp.exp(log))
        return jnp.sum((again - curves) ** 2) + divergence, stats

    def step(carry: tuple, now: tuple) -> tuple[tuple, None]:
        params, stats, state = carry
        grads, stats = jax.grad(loss, has_aux=True)(
            params, stats, now[0], x[rows[now[1]]]
        )
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), stats, state), None

    order = batches(keys[2], rows.shape[0], steps, batch)
    params = (first["params"], second["params"])
    stats = {key: value for key, value in first.items() if key != "params"}
    carry = (params, stats, optimizer.init(params))
    draws = jax.random.split(keys[3], steps)
    (params, stats, _), _ = jax.lax.scan(step, carry, (draws, order))
    encoding = {"params": params[0], **stats}
    z = encoder.apply(encoding, x[rows], False)[0]
    # A component that the training has switched off stays near 0.
    return encoding, {"params": params[1]}, z.mean(0), jnp.maximum(z.std(0), 1e-6)


@full_precision
def encode(compression: Vae, curves: Array) -> Array:
    """The standardised components (..., k), the encoder's means, of curves (..., E)."""
    x = (curves - compression.centre) / compression.spread
    z, _ = _networks(compression.sizes)[0].apply(compression.encoder, x, False)
    return (z - compression.mean) / compression.scale


@full_precision
def decode(compression: Vae, z: Array) -> Array:
    """The curves (..., E) of standardised components (..., k)."""
    z = z * compression.scale + compression.mean
    decoder = _networks(compression.sizes)[1]
    x: Any = decoder.apply(compression.decoder, z, False)
    return x * compression.spread + compression.centre
