"""Bicubic resizing of images, bit for bit as Pillow computes it."""

from __future__ import annotations

import functools

import numpy as np

_A = -0.5  # of the kernel of Keys (1981)
_ONE = 2**22  # of Pillow's fixed-point weights
_PIXELS = 2**20


def resize_bicubic(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resizes images to side x side pixels, as Pillow's `BICUBIC` resizes 8-bit images.

    Smaller images are averaged over a kernel that is wider by the same factor, so no pixel
    is skipped. Values are rounded to whole numbers from 0 to 255 after each direction.

    Args:
      pixels: (m, h, w, c) from 0 to 255.
      side: at least 1.

    Returns:
      (m, side, side, c) float32; of whole numbers, the values that Pillow computes.
    """
    height, width = pixels.shape[1:3]
    resized = np.empty((len(pixels), side, side, pixels.shape[-1]), np.float32)
    # Sums are exact in double precision; large images are converted a few at a time.
    size = max(1, _PIXELS // (height * width))
    for first in range(0, len(pixels), size):
        x = pixels[first : first + size].astype(np.float64)
        x = _to_levels(
            np.einsum("sw,nhwc->nhsc", weights(width, side), x, optimize=True)
        )
        x = _to_levels(
            np.einsum("rh,nhwc->nrwc", weights(height, side), x, optimize=True)
        )
        resized[first : first + size] = x
    return resized


def _to_levels(x: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(x + 0.5), 0, 255)


@functools.lru_cache(maxsize=64)
def weights(size: int, side: int) -> np.ndarray:
    """Computes the weights (side, size) of each old pixel in each new one.

    They are multiples of 2^-22, as Pillow's fixed-point arithmetic has them: 8-bit images
    often have sums of exactly half a level, whose rounding depends on it.

    Args:
      size: pixels of the old axis.
      side: pixels of the new axis.
    """
    scale = size / side
    centres = (np.arange(side) + 0.5) * scale
    offsets = np.arange(size) + 0.5 - centres[:, None]
    kernel = _keys(offsets / max(scale, 1.0))
    unit = kernel / kernel.sum(1, keepdims=True)
    rounded = np.floor(np.abs(unit) * _ONE + 0.5)  # halves away from zero
    return np.copysign(rounded, unit) / _ONE


def _keys(x: np.ndarray) -> np.ndarray:
    """Evaluates the cubic convolution kernel of Keys (1981, eq. 15) with a = -1/2."""
    x = np.abs(x)
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _A
    return np.where(x < 1, near, np.where(x < 2, far, 0))
