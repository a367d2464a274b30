"""Random changes to training images (b, h, w, c), inside compiled programs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.types import Array


def flip(key: Array, x: Array) -> Array:
    """Mirrors each image left to right, half of the time."""
    chosen = jax.random.bernoulli(key, shape=x.shape[:1])
    return jnp.where(chosen[:, None, None, None], x[:, :, ::-1], x)


def crop(key: Array, x: Array, margin: int, fill: Array) -> Array:
    """Moves each image by up to `margin` pixels each way; `fill` (c,) comes in."""
    height, width = x.shape[1:3]
    pad = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = jnp.pad(x - fill, pad) + fill
    starts = jax.random.randint(key, (len(x), 2), 0, 2 * margin + 1)
    return jax.vmap(
        lambda image, start: lax.dynamic_slice(
            image, (start[0], start[1], 0), (height, width, image.shape[-1])
        )
    )(padded, starts)


def cutout(key: Array, x: Array, side: int) -> Array:
    """Sets a square of `side` pixels to 0, its centre anywhere (DeVries and Taylor, 2017).

    What of the square is outside the image is cut off.
    """
    height, width = x.shape[1:3]
    centres = jax.random.uniform(key, (2, len(x), 1, 1, 1))
    rows = jnp.arange(height).reshape(1, -1, 1, 1)
    columns = jnp.arange(width).reshape(1, 1, -1, 1)
    top = jnp.floor(centres[0] * height) - side // 2
    left = jnp.floor(centres[1] * width) - side // 2
    inside = (rows >= top) & (rows < top + side)
    inside &= (columns >= left) & (columns < left + side)
    return jnp.where(inside, 0.0, x)
