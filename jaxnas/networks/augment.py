"""Random augmentation of training images (b, h, w, c), inside compiled programs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.types import Array


def flip(key: Array, x: Array) -> Array:
    """Mirrors each image left to right with probability 1/2.

    Args:
      key: of the choice.
      x: (b, h, w, c).
    """
    chosen = jax.random.bernoulli(key, shape=x.shape[:1])
    return jnp.where(chosen[:, None, None, None], x[:, :, ::-1], x)


def crop(key: Array, x: Array, margin: int, pad_value: Array) -> Array:
    """Pads the images and crops each at a random place, vmapped over images.

    Args:
      key: of the places.
      x: (b, h, w, c).
      margin: pixels of padding on each side, and so the largest shift.
      pad_value: (c,), the value of padded pixels.

    Returns:
      (b, h, w, c).
    """
    height, width = x.shape[1:3]
    pad = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = jnp.pad(x - pad_value, pad) + pad_value
    starts = jax.random.randint(key, (len(x), 2), 0, 2 * margin + 1)
    return jax.vmap(
        lambda image, start: lax.dynamic_slice(
            image, (start[0], start[1], 0), (height, width, image.shape[-1])
        )
    )(padded, starts)


def cutmix(key: Array, x: Array, probability: float) -> tuple[Array, Array]:
    """Pastes a rectangle of the image before into images (Yun et al., 2019).

    The first image has one of the last: the order of a batch is random. The rectangle has
    the form of the image and a uniform share of its pixels, Beta(1, 1) of the paper; its
    centre is uniform over the image, and parts outside are cut off.

    Args:
      key: of the rectangles.
      x: (b, h, w, c).
      probability: that an image has one.

    Returns:
      (b, h, w, c), and (b,) the share of each image's pixels that are of the image before.
    """
    sizes = jnp.array(x.shape[1:3])
    key_chosen, key_area, key_centre = jax.random.split(key, 3)
    chosen = jax.random.bernoulli(key_chosen, probability, (len(x), 1))
    side = jnp.sqrt(jax.random.uniform(key_area, (len(x), 1))) * chosen
    centre = jax.random.uniform(key_centre, (len(x), 2))
    first = jnp.round((centre - side / 2) * sizes)[..., None]
    last = jnp.round((centre + side / 2) * sizes)[..., None]
    rows, columns = (
        (jnp.arange(size) >= first[:, axis]) & (jnp.arange(size) < last[:, axis])
        for axis, size in enumerate(x.shape[1:3])
    )
    inside = rows[:, :, None] & columns[:, None, :]
    mixed = jnp.where(inside[..., None], jnp.roll(x, 1, 0), x)
    return mixed, jnp.mean(inside, (1, 2))


def cutout(key: Array, x: Array, side: int) -> Array:
    """Sets a random square of each image to 0 (DeVries and Taylor, 2017).

    The centre is uniform over the image; parts of the square outside are cut off.

    Args:
      key: of the centres.
      x: (b, h, w, c), normalised, so that 0 is the mean.
      side: of the square, in pixels.
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
