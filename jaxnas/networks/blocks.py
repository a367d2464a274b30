"""The blocks of a network around its cells: convolution with norm, reduction, head.

Each takes parameters and a batch of images and returns its output together with what a
`Tap` measured in it. Axes are named in `nasbench201`: images (..., b, h, w, c), where
"..." are lanes, () or (a,).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from jaxnas.networks import layers, norms
from jaxnas.networks.layers import Conv
from jaxnas.networks.taps import Tap, tap_values
from jaxnas.types import Array

# "batch": statistics of the batch, as in training; "initial": running statistics of an
# untrained network, mean 0 and variance 1; "running": those of a trained one; "off": the
# identity.
Norm = Literal["batch", "initial", "running", "off"]


class Mode(NamedTuple):
    """How the layers are computed; static in compiled programs."""

    norm: Norm = "batch"
    reduction_norm: Norm = "batch"
    groups: int = 1  # consecutive parts of the batch with batch statistics of their own
    method: layers.Method = "patches"


TRAINING = Mode()


class Reduction(NamedTuple):
    """A residual block that halves the image and doubles the channels."""

    first: Conv  # 3 x 3 of stride 2
    second: Conv  # 3 x 3
    shortcut: Conv  # 1 x 1 after 2 x 2 average pooling, without a batch norm


class Head(NamedTuple):
    """Batch norm and classifier; c is the width of the last stage."""

    scale: Array  # (c,) of the batch norm
    offset: Array  # (c,) of the batch norm
    weight: Array  # (c, num_classes)
    bias: Array  # (num_classes,)
    output_scale: Array | None = None  # (b, num_classes), as in `Conv`
    running: Array | None = None  # (2, c), as in `Conv`


class HeadOutput(NamedTuple):
    """The results of the head; lanes, if any, precede the axes named here."""

    features: Array  # (b, c), after global pooling
    logits: Array  # (b, num_classes)
    last_map: Array  # (b, h, w, c), after the rectifier
    tapped: Array  # the tap's sum


def convolution(
    conv: Conv,
    x: Array,
    mode: Mode,
    tap: Tap,
    *,
    size: int,
    stride: int = 1,
    rectify: bool = True,
) -> tuple[Array, Array]:
    """Applies a rectifier, a convolution and a batch norm, in this order.

    Args:
      conv: the weights; without `scale` there is no batch norm.
      x: (..., b, h, w, c).
      mode: how to normalise.
      tap: what to measure in each of the three.
      size: odd side of the convolution's window.
      stride: the image shrinks by it.
      rectify: whether there is a rectifier.

    Returns:
      y (..., b, h', w', k) and the tap's sum.
    """
    before = layers.relu(x) if rectify else x
    out = layers.convolve(
        before, conv.weight, size=size, stride=stride, method=mode.method
    )
    out = layers.scale_output(out, conv.output_scale)
    maps = [("map", before, 1)] * rectify + [("map", out, 1)]
    if conv.scale is None:
        # The block of a convolution without norm is a module of its own.
        return out, tap_values(tap, x.shape[:-4], *maps, ("map", out, 1))
    y = normalise(out, conv, mode)
    variance = norms.unbiased_variance(out, mode.groups)
    # The norm, the sequence that ends with it and, of rectified ones, the block.
    maps.append(("map", y, 2 + rectify))
    return y, tap_values(tap, x.shape[:-4], ("variance", variance, 1), *maps)


def normalise(x: Array, norm: Conv | Head, mode: Mode) -> Array:
    """Applies the batch norm of a `Conv` or `Head`.

    Args:
      x: (..., b, h, w, k).
      norm: the block with the norm; with `running`, a network in training.
      mode: which statistics normalise; see `Norm`.

    Returns:
      (..., b, h, w, k).
    """
    scale: Any = norm.scale
    offset: Any = norm.offset
    running: Any = norm.running
    if mode.norm == "off":
        return x
    if mode.norm == "initial":
        return norms.initial_norm(x, scale, offset)
    if mode.norm == "running":
        return norms.running_norm(x, scale, offset, running)
    y = norms.batch_norm(x, scale, offset, mode.groups)
    if running is None:
        return y
    # In training: the batch's statistics leave the program beside the gradients.
    return norms.stat_tap(y, running, norms.moments(x))


def reduce(weights: Reduction, mode: Mode, tap: Tap, x: Array) -> tuple[Array, Array]:
    """Applies a reduction block.

    Args:
      weights: of the block.
      mode: its `reduction_norm` says how to normalise.
      tap: what to measure.
      x: (..., b, h, w, c).

    Returns:
      y (..., b, h / 2, w / 2, 2 c) and the tap's sum.
    """
    mode = mode._replace(norm=mode.reduction_norm)
    half = layers.halve(x)
    shortcut, tapped_shortcut = convolution(
        weights.shortcut, half, mode, tap, size=1, rectify=False
    )
    middle, tapped_first = convolution(weights.first, x, mode, tap, size=3, stride=2)
    end, tapped_second = convolution(weights.second, middle, mode, tap, size=3)
    y = shortcut + end
    events = (("relu", x, 1), ("relu", middle, 1), ("map", half, 1), ("map", y, 1))
    tapped = tap_values(tap, x.shape[:-4], *events)
    return y, tapped_shortcut + tapped_first + tapped_second + tapped


def apply_head(head: Head, x: Array, mode: Mode, tap: Tap) -> HeadOutput:
    """Applies batch norm, rectifier, global pooling and classifier.

    Args:
      head: the weights.
      x: (..., b, h, w, c).
      mode: how to normalise.
      tap: what to measure.

    Returns:
      features, logits and the map that was pooled.
    """
    normal = normalise(x, head, mode)
    last_map = layers.relu(normal)
    variance = norms.unbiased_variance(x, mode.groups)
    events = (("last relu", normal, 1), ("variance", variance, 1))
    maps = (("map", normal, 1), ("map", last_map, 2))  # the rectifier and the sequence
    tapped = tap_values(tap, x.shape[:-4], *events, *maps)
    features = jnp.mean(last_map, (-3, -2))
    logits = layers.linear(features, head.weight, head.bias)
    if head.output_scale is not None:
        logits = logits * head.output_scale
    return HeadOutput(features, logits, last_map, tapped)
