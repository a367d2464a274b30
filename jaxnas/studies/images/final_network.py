"""The network of the final training: as large as the minutes allow, trained in two phases.

A search compares cells in small networks. What is left of the budget decides how wide
the final one is: of the widths of which the cell has `PASSES` passes over all images,
the largest. If even the widest leaves time, there are more cells in each stage. The
network sees images of half the size first, which cost a fifth, and then whole ones
(progressive resizing; Howard, 2018); parameters do not depend on the size of images. As
so many passes over few images overfit, minibatches are smaller than in the search,
weights decay faster, and half of the images are mixed with others (CutMix; Yun et al.,
2019).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.recipes import Recipe

# Multiples of the channels and of the cells of a stage of the search, the largest first.
FACTORS = ((4.0, 3), (4.0, 2), (4.0, 1), (3.0, 1), (2.0, 1), (1.5, 1))
# Passes over all images, both phases together, that a wider network must have time for,
# and one of more cells: two cells with 32 passes were worse than one in the same time.
PASSES, DEEP_PASSES = 50, 100
# Share of the time in which images are small, and the fewest pixels that are halved.
SMALL_SHARE, MIN_HALVED = 0.5, 24
BATCH, WEIGHT_DECAY, CUTMIX = 32, 1e-3, 0.5
EPOCH_IMAGES = 512  # of full size in an epoch: few, so that one can be timed
# The cost of a training step grows with these powers of channels and of pixels on a side,
# measured with 16 and 32 channels, 16 and 32 pixels. A cell in the loop over several costs
# LOOP_COST times as much as a cell that is alone in its stage, measured with two.
WIDTH_POWER, SIZE_POWER, LOOP_COST = 1.5, 2.3, 1.2


class Phase(NamedTuple):
    """A part of a training on images of one size."""

    size: int  # pixels on each side
    share: float  # of the time
    images: int  # of an epoch


class FinalPlan(NamedTuple):
    """The network and the length of the final training."""

    channels: int  # of the first stage
    cells: int  # of each stage
    sizes: list[int]  # pixels on each side of the images in each phase
    epochs: list[int]  # of each phase
    images: list[int]  # of an epoch of each phase
    valid: int  # images of an epoch's validation
    save_every: int  # epochs between checkpoints
    # Whether channels, cells, sizes and regularisation are not those of the search.
    sized: bool

    def network(self, network: NetworkConfig, phase: int = -1) -> NetworkConfig:
        """Makes the network of a phase from that of the search.

        Args:
          network: of the search.
          phase: its number; default: the last.
        """
        return dataclasses.replace(
            network,
            stem_channels=self.channels,
            cells_per_stage=self.cells,
            image_size=self.sizes[phase],
        )

    def recipe(self, recipe: Recipe, phase: int = -1) -> Recipe:
        """Makes the recipe of a phase from that of the search.

        Args:
          recipe: of one epoch.
          phase: its number; default: the last.
        """
        total, size = sum(self.epochs), self.sizes[phase]
        recipe = dataclasses.replace(
            recipe, epochs=total, warmup=min(1.0, total / 8), crop=size // 8
        )
        if not self.sized:
            return recipe
        return dataclasses.replace(
            recipe,
            batch=min(BATCH, recipe.batch),
            weight_decay=WEIGHT_DECAY,
            # Images of few pixels would lose what they show.
            cutmix=CUTMIX if len(self.sizes) > 1 else 0.0,
        )


def phases_of(size: int, images: int) -> list[Phase]:
    """The phases of a final training.

    Args:
      size: pixels on each side of the images.
      images: of a pass.
    """
    whole = min(EPOCH_IMAGES, images)
    if size < MIN_HALVED:
        return [Phase(size, 1.0, whole)]
    half = size // 8 * 4  # a multiple of 4, as reductions need
    # Epochs of all phases take about the same time, as the schedule counts epochs: were
    # they of as many images, the learning rate would be low when whole images begin.
    more = min(int(whole * (size / half) ** SIZE_POWER), images)
    return [Phase(half, SMALL_SHARE, more), Phase(size, 1 - SMALL_SHARE, whole)]


def choose_size(
    network: NetworkConfig,
    image_seconds: float,
    images: int,
    seconds: float,
    allowed: Callable[[NetworkConfig], bool],
) -> NetworkConfig:
    """Chooses the channels and the cells of a stage.

    Args:
      network: of the search.
      image_seconds: of a training step of the cell in it, by image.
      images: of a pass.
      seconds: of the final training.
      allowed: whether a network is within the bounds; called for networks that have time
        for their passes, the largest first.

    Returns: that of the search if no larger network has time and is allowed.
    """
    # Images of the search's network and of full size that cost as much as one of a mean
    # image of the phases.
    saved = sum(
        phase.share * (network.image_size / phase.size) ** SIZE_POWER
        for phase in phases_of(network.image_size, images)
    )
    passes = saved * seconds / (image_seconds * images)
    for width, depth in FACTORS:
        larger = dataclasses.replace(
            network,
            stem_channels=round(width * network.stem_channels),
            cells_per_stage=depth * network.cells_per_stage,
        )
        deeper = _depth_cost(larger) / _depth_cost(network)
        possible = passes / (width**WIDTH_POWER * deeper)
        needed = PASSES if depth == 1 else DEEP_PASSES
        if possible >= needed and allowed(larger):
            return larger
    return network


def _depth_cost(network: NetworkConfig) -> float:
    """The cost of the cells of a stage, in cells that are alone in theirs."""
    cells = network.cells_per_stage
    return 1.0 if cells == 1 else LOOP_COST * cells
