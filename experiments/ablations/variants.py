"""Variants of MetaD2A's models, by what their training sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.models.meta_data import MetaData
from jaxnas.models.nasbench201 import CODEC

Change = Callable[[MetaData, int], MetaData]
_CELL = np.full(6, 3)  # any cell


class Variant(NamedTuple):
    """A model, and how its training differs."""

    generates: bool
    change: Change  # of the data for meta-training, by the seed
    # The same of the tasks for validation and tests, for what a model must not see.
    everywhere: bool = False
    eps_scale: float = 0.01
    adjacency: str = "line15"


def unchanged(data: MetaData, seed: int) -> MetaData:
    """Returns the data as they are."""
    del seed
    return data


def without_images(data: MetaData, seed: int) -> MetaData:
    """Makes all images the same."""
    del seed
    return data._replace(x=np.zeros_like(data.x))


def without_cells(data: MetaData, seed: int) -> MetaData:
    """Makes all cells the same."""
    del seed
    return data._replace(
        types=np.broadcast_to(CODEC.types_of(jnp.asarray(_CELL)), data.types.shape)
    )


def shuffled_pairs(data: MetaData, seed: int) -> MetaData:
    """Gives the cells of each task the images of a random other task."""
    order = np.random.default_rng(seed).permutation(len(data.types))
    return data._replace(first=data.first[order], counts=data.counts[order])


VARIANTS = {
    "predictor": Variant(False, unchanged),
    "predictor-images": Variant(False, without_cells, True),
    "predictor-cells": Variant(False, without_images, True),
    "generator": Variant(True, unchanged),
    "generator-shuffled": Variant(True, shuffled_pairs),
    "generator-noise": Variant(True, unchanged, eps_scale=1.0),
    "generator-line10": Variant(True, unchanged, adjacency="line10"),
    "generator-chain11": Variant(True, unchanged, adjacency="chain11"),
}
ON_ALL = ("predictor", "generator")  # variants that are trained on every database
