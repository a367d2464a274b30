"""The networks of NAS-Bench-201 (Dong and Yang, 2020): sizes, parameters, forward pass.

A network is a stem (3 x 3 convolution), `num_stages` stages of `cells_per_stage` equal
cells with a residual reduction block between stages, and a head (batch norm, rectifier,
global average pooling, linear classifier). This module has that skeleton; its parts are
in `blocks`, and what a cell computes is a function made from architectures by
`single_cells` and `cells`.

Axes, named here for all modules of the package:

* b images of a batch; h, w rows and columns of pixels; c channels of an input, k of an
  output. Images are channels-last: (b, h, w, c).
* a architectures. They are *lanes*: where arrays have this axis, it is the first, and a
  network of its own is at each index. One program computes all of them; no statistic
  mixes lanes. Without lanes there is one architecture and the axis is absent.
* n cells of a stage, 6 edges of a cell: parameters of a stage are stacked and have
  (n, 6) after the lanes.

The architecture is data, not structure. Parameters hold a 1 x 1 and a 3 x 3 convolution
for every edge, whether or not the architecture uses them, so all architectures have
parameters of one shape, one compiled program serves every cell, and architectures that
share a key share random numbers. `forward` scans over the n cells of a stage (their
parameters are the scanned inputs), so that compile time does not grow with them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxnas.networks.blocks import (
    TRAINING,
    Head,
    Mode,
    Reduction,
    apply_head,
    convolution,
    reduce,
)
from jaxnas.networks.layers import Conv
from jaxnas.networks.taps import NO_TAP, Tap
from jaxnas.types import Array


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The sizes of a network; the defaults are those of the benchmark for CIFAR-10.

    Attributes:
      stem_channels: channels of the stem and the first stage; each reduction doubles them.
      cells_per_stage: equal cells in each stage.
      num_classes: outputs of the classifier.
      image_size: pixels on each side of an image; divisible by 2 for each reduction.
      in_channels: channels of an image, 3 for colours and 1 for grey levels.
      num_stages: stages of cells, with a reduction before each but the first.

    Raises: `ValueError` if a size is not a positive integer, or the reductions cannot
      halve the image.
    """

    stem_channels: int = 16
    cells_per_stage: int = 5
    num_classes: int = 10
    image_size: int = 32
    in_channels: int = 3
    num_stages: int = 3

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer from 1, not {value!r}")
        reductions = self.num_stages - 1
        if self.image_size % 2**reductions:
            raise ValueError(
                f"image_size must be a multiple of {2**reductions}, as {reductions} "
                f"reductions halve the image, not {self.image_size}"
            )

    @property
    def widths(self) -> list[int]:
        """Channels of each stage."""
        return [self.stem_channels * 2**stage for stage in range(self.num_stages)]


class StageConvs(NamedTuple):
    """The convolutions of a stage; leaves begin with (n, 6) after the lanes."""

    conv1: Conv  # 1 x 1 of each edge
    conv3: Conv  # 3 x 3 of each edge


class Params(NamedTuple):
    """Parameters of all architectures, or with lanes (a,) of each of several."""

    stem: Conv
    cells: tuple[StageConvs, ...]  # of each stage
    reductions: tuple[Reduction, ...]  # before each stage but the first
    head: Head


# (one cell's weights, x, mode, tap) -> (y, tapped)
CellFunction = Callable[[StageConvs, Array, Mode, Tap], tuple[Array, Array]]
# A cell or reduction with its weights: x -> (y, tapped).
Block = Callable[[Array], tuple[Array, Array]]
# (block, x, block input) -> (y, tapped, block output)
BlockWrapper = Callable[[Block, Array, Any], tuple[Array, Array, Any]]


class Output(NamedTuple):
    """The results of a forward pass; lanes, if any, precede the axes named here."""

    features: Array  # (b, last width), after global pooling
    logits: Array  # (b, num_classes)
    last_map: Array  # (b, h, w, last width), after the last rectifier
    tapped: Array  # the tap's sum over all layers
    # From `block_wrapper`, in the order of the blocks: for each stage (n, ...), stacked
    # over its cells, and for each reduction.
    block_outputs: list


def _cells_first(cells: StageConvs) -> StageConvs:
    """Moves the axis of the n cells before the lanes, as `scan` needs it."""

    def move(conv: Conv) -> Conv:
        # Behind the cells: edges, and the two or one axes of the leaf itself.
        return Conv(
            *(
                leaf if leaf is None else jnp.moveaxis(leaf, axis, 0)
                for leaf, axis in zip(conv, (-4, -3, -3, -4, -4), strict=True)
            )  # type: ignore[arg-type]
        )

    return StageConvs(move(cells.conv1), move(cells.conv3))


def _plain_block(block: Block, x: Array, extra: Any) -> tuple[Array, Array, None]:
    """Runs the block and adds nothing: the default wrapper of `forward`."""
    del extra
    return *block(x), None


def forward(
    params: Params,
    cell: CellFunction,
    x: Array,
    *,
    mode: Mode = TRAINING,
    tap: Tap = NO_TAP,
    block_wrapper: BlockWrapper = _plain_block,
    block_inputs: list | None = None,
) -> Output:
    """Computes one forward pass.

    Args:
      params: with or without lanes; see `Params`.
      cell: from `single_cells` or `cells.grouped_cells`.
      x: (b, image_size, image_size, in_channels); with the lanes of `cell` first, if it
        has lanes.
      mode: how the layers are computed.
      tap: what to sum over the layers.
      block_wrapper: called for every cell and reduction with the block as a function, its
        input and its part of `block_inputs`; returns y, tapped, and any pytree, which
        comes back in `block_outputs`. It can replace y (rescale it) or differentiate
        through the block. The first block's input is the output of the stem.
      block_inputs: pytrees for stage 0, reduction 0, stage 1, ..., the last stage: leaves
        for a stage begin with (n,). Default: None for each.

    Returns:
      features, logits and the rest of `Output`.
    """
    num_stages = len(params.cells)
    if block_inputs is None:
        block_inputs = [None] * (2 * num_stages - 1)
    x, tapped = convolution(params.stem, x, mode, tap, size=3, rectify=False)
    block_outputs = []
    for stage in range(num_stages):

        def step(
            carry: tuple[Array, Array], scanned: tuple[StageConvs, Any]
        ) -> tuple[tuple[Array, Array], Any]:
            (x, tapped), (weights, block_input) = carry, scanned
            y, tapped_cell, block_output = block_wrapper(
                lambda x: cell(weights, x, mode, tap), x, block_input
            )
            return (y, tapped + tapped_cell), block_output

        scanned = _cells_first(params.cells[stage]), block_inputs[2 * stage]
        (x, tapped), stacked = lax.scan(step, (x, tapped), scanned)
        block_outputs.append(stacked)
        if stage < num_stages - 1:
            reduction = functools.partial(reduce, params.reductions[stage], mode, tap)
            x, tapped_block, block_output = block_wrapper(
                reduction, x, block_inputs[2 * stage + 1]
            )
            tapped = tapped + tapped_block
            block_outputs.append(block_output)
    features, logits, last_map, tapped_head = apply_head(params.head, x, mode, tap)
    return Output(features, logits, last_map, tapped + tapped_head, block_outputs)
