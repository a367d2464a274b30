"""Layers of convolutional networks on channels-last images, for one network or many.

Axes are named in `nasbench201`: images are (..., b, h, w, c), outputs (..., b, h, w, k),
where "..." are lanes, () or (a,): a network of its own at each index. Nothing here is
vmapped: the functions broadcast over lanes, and no statistic mixes them. Weights may have
the lanes of the images, or none, and are then shared by all of them.

Weights of convolutions are matrices (size * size * c, k) whose rows go over
(dy, dx, input channel), so that a convolution is a product with patches of the image.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.types import Array

# How a convolution is computed: as a product with explicit patches, which XLA's CPU
# backend does many times faster inside loops, or by the backend's own convolution.
Method = Literal["patches", "native"]


class Conv(NamedTuple):
    """A convolution and the batch norm that follows it; leaves may have lanes (a,)."""

    weight: Array  # (size * size * c, k)
    scale: Array | None  # (k,); None: no batch norm
    offset: Array | None  # (k,)
    # (b, k) factors of the convolution's output, whose gradients Fisher information
    # needs; None: ones.
    output_scale: Array | None = None
    # (2, k) running means and variances of the batch norm, for networks in training.
    running: Array | None = None


def _patches(x: Array, size: int, stride: int) -> Array:
    """Collects size x size neighbourhoods, (..., b, h', w', size * size * c)."""
    if size == 1:
        return x[..., ::stride, ::stride, :]
    edge = size // 2
    height, width = x.shape[-3:-1]
    padding = [(0, 0)] * (x.ndim - 3) + [(edge, edge), (edge, edge), (0, 0)]
    padded = jnp.pad(x, padding)
    slices = [
        padded[..., dy : dy + height : stride, dx : dx + width : stride, :]
        for dy in range(size)
        for dx in range(size)
    ]
    return jnp.concatenate(slices, -1)


def convolve(
    x: Array,
    weight: Array,
    *,
    size: int,
    stride: int = 1,
    method: Method = "patches",
) -> Array:
    """Convolves images, zero-padded by size // 2, without bias.

    Args:
      x: (..., b, h, w, c).
      weight: (size * size * c, k), or (a, size * size * c, k) with the lanes of x.
      size: odd side of the window.
      stride: step in both directions; the image shrinks by it.
      method: "native" is the backend's convolution; weights with lanes are always
        multiplied with patches.

    Returns:
      (..., b, ceil(h / stride), ceil(w / stride), k).
    """
    lanes, channels = x.shape[:-4], x.shape[-1]
    if method == "native" and weight.ndim == 2:
        # Explicit padding: "SAME" pads a stride of 2 on one side only.
        out = lax.conv_general_dilated(
            x.reshape(-1, *x.shape[-3:]),
            weight.reshape(size, size, channels, -1),
            (stride, stride),
            [(size // 2, size // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return out.reshape(*x.shape[:-3], *out.shape[1:])
    if size > 1 and x.shape[-3] % stride == 0:
        return _convolve_by_rows(x, weight, size, stride)
    patches = _patches(x, size, stride)
    out = patches.reshape(*lanes, -1, patches.shape[-1]) @ weight
    return out.reshape(*patches.shape[:-1], weight.shape[-1])


def _convolve_by_rows(x: Array, weight: Array, size: int, stride: int) -> Array:
    """Convolves with size-fold instead of size^2-fold copies of the image.

    Only horizontal neighbours are copied. One product gives the contributions of every
    row of pixels to the rows above, at and below it, which are then shifted and added. On
    a CPU 5 times faster than whole patches at 16 channels, backward 3 times, as writing
    the patches dominates. For a stride, rows are divided into `stride` phases: row
    stride * i + phase contributes to output row i - shift for some rows of the kernel.

    Args:
      x: (..., b, h, w, c); h divisible by the stride.
      weight: (size * size * c, k), or with lanes.
      size: odd side of the window, at least 3.
      stride: step in both directions.

    Returns:
      (..., b, h / stride, w', k).
    """
    width, channels, outputs = x.shape[-2], x.shape[-1], weight.shape[-1]
    edge, lanes, no = size // 2, x.shape[:-4], (0, 0)
    padded = jnp.pad(x, [no] * (x.ndim - 2) + [(edge, edge), no])
    slices = [padded[..., d : d + width : stride, :] for d in range(size)]
    neighbours = jnp.concatenate(slices, -1)
    kernel = weight.reshape(*weight.shape[:-2], size, size * channels, outputs)
    total = jnp.zeros((), x.dtype)
    for phase in range(stride):
        # The rows of the kernel that meet rows of this phase.
        taps = range((edge + phase) % stride, size, stride)
        rows = neighbours[..., phase::stride, :, :]
        height = rows.shape[-3]
        part = jnp.moveaxis(kernel[..., taps.start :: stride, :, :], -3, -2)
        part = part.reshape(*weight.shape[:-2], size * channels, -1)
        added = (rows.reshape(*lanes, -1, rows.shape[-1]) @ part).reshape(
            *rows.shape[:-1], -1
        )
        added = jnp.pad(added, [no] * (x.ndim - 3) + [(edge, edge), no, no])
        for index, dy in enumerate(taps):
            first = edge + (dy - edge) // stride
            total = total + lax.slice_in_dim(
                added[..., index * outputs : (index + 1) * outputs],
                first,
                first + height,
                axis=-3,
            )
    return total


def scale_output(x: Array, output_scale: Array | None) -> Array:
    """Multiplies x (..., b, h, w, k) by factors (..., b, k); None: returns x.

    The gradient by a factor is the sum over pixels of output times its gradient.
    """
    return x if output_scale is None else x * output_scale[..., :, None, None, :]


def average_pool(x: Array) -> Array:
    """Computes 3 x 3 means of stride 1 over the pixels inside the image (..., h, w, c)."""
    for axis in (-3, -2):
        zero = jnp.zeros_like(lax.slice_in_dim(x, 0, 1, axis=axis))
        before = jnp.concatenate([zero, lax.slice_in_dim(x, 0, -1, axis=axis)], axis)
        after = jnp.concatenate([lax.slice_in_dim(x, 1, None, axis=axis), zero], axis)
        count = np.full(x.shape[axis], 3)
        count[0] -= 1
        count[-1] -= 1
        shape = [1] * x.ndim
        shape[axis] = -1
        x = (before + x + after) / jnp.asarray(count.reshape(shape), x.dtype)
    return x


def halve(x: Array) -> Array:
    """Computes 2 x 2 means of stride 2, (..., h // 2, w // 2, c).

    An odd last row or column is left out.
    """
    height, width = (n // 2 for n in x.shape[-3:-1])
    x = x[..., : 2 * height, : 2 * width, :]
    blocks = x.reshape(*x.shape[:-3], height, 2, width, 2, x.shape[-1])
    return jnp.mean(blocks, (-4, -2))


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """Computes x @ weight + bias, (..., b, k).

    Args:
      x: (..., b, c).
      weight: (c, k) or (a, c, k).
      bias: (k,) or (a, k).
    """
    return x @ weight + bias[..., None, :]


relu = jax.nn.relu  # its gradient at 0 is 0; that of maximum would be a half
