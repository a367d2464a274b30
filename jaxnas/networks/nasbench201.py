"""The networks of NAS-Bench-201 (Dong and Yang, 2020): skeleton, parameters, forward.

A stem, stages of cells with reductions between them, and a head. The skeleton is
here; what a cell computes is a function that `cells` makes from an architecture, so one
program serves every cell, or from many architectures at once, which are then the lanes
of every array (see `layers`). Parameters hold both convolutions of every edge:
architectures that share parameters share random numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.networks import layers
from jaxnas.networks.layers import Conv
from jaxnas.types import Array

# "batch": statistics of the batch, as in training; "initial": running statistics of an
# untrained network, mean 0 and variance 1; "running": those of a trained one; "off": the
# identity.
Norm = Literal["batch", "initial", "running", "off"]


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The sizes of a network; the defaults are those of the benchmark.

    Raises: `ValueError` for sizes that no network has.
    """

    stem_channels: int = 16  # of the first stage; each reduction doubles them
    cells_per_stage: int = 5  # in each stage
    num_classes: int = 10
    image_size: int = 32  # pixels on each side of an image
    in_channels: int = 3
    num_stages: int = 3  # of cells, with a reduction before each but the first

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer from 1, not {value!r}")
        halved = 2 ** (self.num_stages - 1)
        if self.image_size % halved:
            raise ValueError(
                f"image_size must be a multiple of {halved}, as {self.num_stages - 1} reductions "
                f"halve the image, not {self.image_size}"
            )

    @property
    def widths(self) -> list[int]:
        """Channels of each stage."""
        return [self.stem_channels * 2**stage for stage in range(self.num_stages)]


class Cells(NamedTuple):
    """The convolutions of a stage; leaves begin with (cells, 6) after the lanes."""

    conv1: Conv  # 1 x 1 of each edge
    conv3: Conv  # 3 x 3 of each edge


class Reduction(NamedTuple):
    """A residual block that halves the image and doubles the channels."""

    first: Conv
    second: Conv
    shortcut: Conv  # without a batch norm


class Head(NamedTuple):
    """Batch norm and classifier."""

    scale: Array  # (last width,)
    offset: Array  # (last width,)
    weight: Array  # (last width, classes)
    bias: Array  # (classes,)
    output_scale: Array | None = None  # (b, classes), as in `Conv`
    running: Array | None = None  # (2, last width), as in `Conv`


class Params(NamedTuple):
    """Parameters of all architectures, or with lanes (a,) of each of several."""

    stem: Conv
    cells: tuple[Cells, ...]
    reductions: tuple[Reduction, ...]
    head: Head


class Mode(NamedTuple):
    """How the layers are computed; static."""

    norm: Norm = "batch"
    reduction_norm: Norm = "batch"
    groups: int = 1  # consecutive parts of the batch with batch statistics of their own
    method: layers.Method = "patches"


TRAINING = Mode()


class Tap(NamedTuple):
    """Sums a small quantity over the layers during a forward pass.

    `measure(event, value)` returns an array of `zero`'s shape with the lanes of the value
    before it, or None for events that do not matter. Events:

    * "relu": what a rectifier is about to read, once for each convolution that reads it;
      "last relu": the same of the head;
    * "variance": the unbiased variances (..., groups, k) of what a batch norm is given;
    * "map": what a convolution, norm, rectifier, pooling or whole layer gives, as often
      as modules of the benchmark's own program return it.
    """

    zero: Array | np.ndarray
    measure: Callable[[str, Array], Array | None]


def _nothing(event: str, value: Array) -> None:
    del event, value


NO_TAP = Tap(np.zeros((), np.float32), _nothing)

# (one cell's weights, x, mode, tap) -> (y, what was tapped)
CellFunction = Callable[[Cells, Array, Mode, Tap], tuple[Array, Array]]
# A block of the network: x -> (y, what was tapped).
Block = Callable[[Array], tuple[Array, Array]]


class Output(NamedTuple):
    """What a forward pass gives; all may have lanes before the axes named here."""

    features: Array  # (b, last width), after global pooling
    logits: Array  # (b, classes)
    last: Array  # (b, height, width, last width), after the last rectifier
    tapped: Array  # the tap's sum
    block_outputs: list  # of `block_wrapper`: for each stage's cells (stacked) and reduction, in order


def tap_values(
    tap: Tap, lanes: tuple[int, ...], *events: tuple[str, Array, int]
) -> Array:
    """The sum of what the tap sees in (event, value, times), lanes first."""
    total = jnp.broadcast_to(tap.zero, lanes + tap.zero.shape)
    for event, value, times in events:
        seen = tap.measure(event, value)
        if seen is not None:
            total = total + times * seen
    return total


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
    """Rectifier, convolution and batch norm, as far as there is each: y and tapped."""
    before = layers.relu(x) if rectify else x
    out = layers.convolve(
        before, conv.weight, size=size, stride=stride, method=mode.method
    )
    out = layers.scale_output(out, conv.output_scale)
    maps = [("map", before, 1)] * rectify + [("map", out, 1)]
    if conv.scale is None:
        # The block of a convolution without norm is a module of its own.
        return out, tap_values(tap, x.shape[:-4], *maps, ("map", out, 1))
    y = _normalise(out, conv, mode)
    var = layers.unbiased_variance(out, mode.groups)
    # The norm, the sequence that ends with it and, of rectified ones, the block.
    maps.append(("map", y, 2 + rectify))
    return y, tap_values(tap, x.shape[:-4], ("variance", var, 1), *maps)


def _normalise(x: Array, norm: Any, mode: Mode) -> Array:
    """The batch norm that a `Conv` or `Head` has."""
    if mode.norm == "off":
        return x
    if mode.norm == "initial":
        return layers.initial_norm(x, norm.scale, norm.offset)
    if mode.norm == "running":
        return layers.running_norm(x, norm.scale, norm.offset, norm.running)
    y = layers.batch_norm(x, norm.scale, norm.offset, mode.groups)
    if norm.running is None:
        return y
    return layers.stat_tap(y, norm.running, layers.moments(x))


def _reduce(weights: Reduction, mode: Mode, tap: Tap, x: Array) -> tuple[Array, Array]:
    mode = mode._replace(norm=mode.reduction_norm)
    half = layers.halve(x)
    shortcut, seen = convolution(
        weights.shortcut, half, mode, tap, size=1, rectify=False
    )
    middle, seen_first = convolution(weights.first, x, mode, tap, size=3, stride=2)
    end, seen_second = convolution(weights.second, middle, mode, tap, size=3)
    y = shortcut + end
    events = (("relu", x, 1), ("relu", middle, 1), ("map", half, 1), ("map", y, 1))
    own = tap_values(tap, x.shape[:-4], *events)
    return y, seen + seen_first + seen_second + own


def _cells_first(cells: Cells) -> Cells:
    """The axis of the cells before the lanes."""

    def move(conv: Conv) -> Conv:
        return Conv(
            *(
                leaf if leaf is None else jnp.moveaxis(leaf, axis, 0)
                for leaf, axis in zip(conv, (-4, -3, -3, -4, -4), strict=True)
            )  # type: ignore[arg-type]
        )

    return Cells(move(cells.conv1), move(cells.conv3))


def plain_block(block: Block, x: Array, extra: Any) -> tuple[Array, Array, None]:
    """The default of `forward`: only runs the block."""
    del extra
    return *block(x), None


def forward(
    params: Params,
    cell: CellFunction,
    x: Array,
    *,
    mode: Mode = TRAINING,
    tap: Tap = NO_TAP,
    block_wrapper: Callable[
        [Block, Array, Any], tuple[Array, Array, Any]
    ] = plain_block,
    block_inputs: list | None = None,
) -> Output:
    """One forward pass.

    Args:
      params: with or without lanes; see `Params`.
      cell: what `cells.sequential_cell` or `cells.grouped_cells` makes of architectures.
      x: (b, size, size, colours), or with lanes; those of `cell` are needed.
      mode: how.
      tap: what to sum over the layers.
      block_wrapper: called for every cell and reduction with the block as a function, its
        input and its part of `block_inputs`; returns y, what was tapped, and an extra. The
        first input is the stem's output.
      block_inputs: for stage 0, reduction 0, stage 1 ... the last stage: a pytree, whose leaves
        for a stage begin with the axis of the cells. Default: nothing.
    """
    stages = len(params.cells)
    block_inputs = [None] * (2 * stages - 1) if block_inputs is None else block_inputs
    x, seen = convolution(params.stem, x, mode, tap, size=3, rectify=False)
    block_outputs = []
    for stage in range(stages):

        def step(carry, inputs):
            weights, mine = inputs
            x, total, extra = block_wrapper(
                lambda x: cell(weights, x, mode, tap), carry[0], mine
            )
            return (x, carry[1] + total), extra

        stacked = _cells_first(params.cells[stage])
        (x, seen), extra = lax.scan(step, (x, seen), (stacked, block_inputs[2 * stage]))
        block_outputs.append(extra)
        if stage < stages - 1:
            reduction = functools.partial(_reduce, params.reductions[stage], mode, tap)
            x, total, extra = block_wrapper(reduction, x, block_inputs[2 * stage + 1])
            seen = seen + total
            block_outputs.append(extra)
    head = params.head
    normal = _normalise(x, head, mode)
    last = layers.relu(normal)
    var = layers.unbiased_variance(x, mode.groups)
    events = (("last relu", normal, 1), ("variance", var, 1))
    maps = (("map", normal, 1), ("map", last, 2))  # the rectifier and the sequence
    seen = seen + tap_values(tap, x.shape[:-4], *events, *maps)
    features = jnp.mean(last, (-3, -2))
    logits = layers.linear(features, head.weight, head.bias)
    if head.output_scale is not None:
        logits = logits * head.output_scale
    return Output(features, logits, last, seen, block_outputs)
