"""Multiply-adds and parameters of the networks of `mobilenetv3`, in closed form.

A network (width 1.0, 1,000 classes) is the sum of a fixed part and of its active layers,
as all layers of a stage have the same number of output channels. What counts is that of
once-for-all: convolutions, squeeze-and-excitation and the classifier; a batch norm has two
parameters a channel and no multiply-adds, and biases are parameters only.
"""

from __future__ import annotations

import functools
from numbers import Integral
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import mobilenetv3
from jaxnas.spaces.mobilenetv3 import EXPANSIONS, KERNELS, LAYERS, STAGES
from jaxnas.types import Array

_STEM, _WIDTHS, _HEAD, _FEATURES, _CLASSES = 16, (24, 40, 80, 112, 160), 960, 1280, 1000
_STRIDES = (2, 2, 2, 1, 2)
_SQUEEZES = (False, True, False, True, True)
_STAGE = np.repeat(np.arange(STAGES), LAYERS // STAGES)  # of each layer
# The first layer of a stage works on the output of the stage before it.
_FIRST = np.arange(LAYERS) % (LAYERS // STAGES) == 0
MAX_RESOLUTION = 432
"""The largest resolution whose multiply-adds are below 2^31 for every architecture."""


class _LayerCounts(NamedTuple):
    """Counts (20, 3, 3) of each layer, by kernel and expansion."""

    expand: np.ndarray  # multiply-adds for each pixel of the layer's input
    project: np.ndarray  # depthwise and last convolution, for each pixel of the output
    squeeze: np.ndarray  # squeeze-and-excitation, for each image
    parameters: np.ndarray


def parameters(arch: Array) -> Array:
    """Counts the parameters of a network, those of batch norms and biases included.

    Args:
      arch: (d,) int32.

    Returns: () int32.
    """
    stem = 27 * _STEM + 2 * _STEM
    first = 9 * _STEM + 2 * _STEM + _STEM**2 + 2 * _STEM
    head = _WIDTHS[-1] * _HEAD + 2 * _HEAD + _HEAD * _FEATURES
    fixed = stem + first + head + (_FEATURES + 1) * _CLASSES
    return fixed + _of_layers(_layer_counts().parameters, arch).sum()


def multiply_adds(arch: Array, resolution: Array | int | None = None) -> Array:
    """Counts the multiply-adds of a network for one image.

    Args:
      arch: (d,) int32.
      resolution: () of the input, in pixels, at most `MAX_RESOLUTION`. Default: that of
        an architecture (46,), 224 for an architecture (45,).

    Returns: () int32.
    Raises: `ValueError` for a whole number that is not such a resolution.
    """
    if isinstance(resolution, Integral) and not 1 <= resolution <= MAX_RESOLUTION:
        raise ValueError(
            f"the resolution must be 1 to {MAX_RESOLUTION} pixels, not {resolution}"
        )
    sides = _sides(mobilenetv3.resolution(arch) if resolution is None else resolution)
    stem = (27 * _STEM + 9 * _STEM + _STEM**2) * sides[0] ** 2
    head = _WIDTHS[-1] * _HEAD * sides[-1] ** 2 + _HEAD * _FEATURES
    layers = layer_multiply_adds(arch, resolution).sum()
    return stem + layers + head + _FEATURES * _CLASSES


def layer_multiply_adds(arch: Array, resolution: Array | int | None = None) -> Array:
    """Counts the multiply-adds of each layer, 0 for inactive ones.

    Args:
      arch: (d,) int32.
      resolution: as for `multiply_adds`.

    Returns: (20,) int32.
    """
    sides = _sides(mobilenetv3.resolution(arch) if resolution is None else resolution)
    out = sides[1:][_STAGE] ** 2
    into = jnp.where(_FIRST, sides[:-1][_STAGE] ** 2, out)
    counts = _layer_counts()
    return (
        _of_layers(counts.expand, arch) * into
        + _of_layers(counts.project, arch) * out
        + _of_layers(counts.squeeze, arch)
    )


def _sides(resolution: Array | int) -> Array:
    """Pixels along a side after the stem and after each stage, (6,) int32."""
    sides = [(jnp.asarray(resolution, jnp.int32) + 1) // 2]
    for stride in _STRIDES:
        # Padding of half a kernel: strides round up.
        sides.append((sides[-1] + stride - 1) // stride)
    return jnp.stack(sides)


def _of_layers(counts: np.ndarray, arch: Array) -> Array:
    """Selects the counts (20,) of an architecture's layers; 0 for inactive ones."""
    operation = mobilenetv3.operations(arch)
    flat = jnp.asarray(counts.reshape(LAYERS, -1), jnp.int32)
    return jnp.where(operation >= 0, flat[np.arange(LAYERS), operation], 0)


@functools.cache
def _layer_counts() -> _LayerCounts:
    """The counts of all layers with each kernel and expansion."""
    before = np.append(_STEM, _WIDTHS)[_STAGE]
    width = np.array(_WIDTHS)[_STAGE]
    inputs = np.where(_FIRST, before, width)[:, None, None]
    outputs, kernel = width[:, None, None], np.array(KERNELS)[:, None] ** 2
    middle = _divisible(inputs * np.array(EXPANSIONS))
    squeezed = _divisible(middle // 4) * np.array(_SQUEEZES)[_STAGE][:, None, None]
    expand, project = inputs * middle, (kernel + outputs) * middle
    norms = 2 * (2 * middle + outputs)
    squeeze = 2 * middle * squeezed
    biases = squeezed + middle * (squeezed > 0)
    weights = expand + project + squeeze + norms + biases
    parts = (expand, project, squeeze, weights)
    return _LayerCounts(*(np.broadcast_to(x, (LAYERS, 3, 3)) for x in parts))


def _divisible(channels: np.ndarray) -> np.ndarray:
    """Rounds to a multiple of 8, at least 8, and not down by more than a tenth."""
    rounded = np.maximum(8, (channels + 4) // 8 * 8)
    return rounded + 8 * (rounded < 0.9 * channels)
