"""Images of the user as a task: their division into parts, their size, the network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas import datasets
from jaxnas.datasets import Images, opened, sources
from jaxnas.io.cache import array_digest
from jaxnas.networks.data import Data
from jaxnas.networks.nasbench201 import NetworkConfig

# Larger networks and images would end in failed allocations, not in results.
MAX_VALUES = {"size": 256, "channels": 512, "cells_per_stage": 50}
DEFAULT_MAX_SIZE = 32  # pixels on each side, unless the user asks for more


class ImageTask(NamedTuple):
    """A classification task; images have the network's size, and pixels from 0 to 255."""

    network: NetworkConfig
    train: Images
    valid: Images
    test: Images
    mean: np.ndarray  # (colours,) of the pixels of training and validation images
    std: np.ndarray  # (colours,) the standard deviation of the same

    def normalised(self, images: Images) -> Images:
        """Normalises images by the task's mean and deviation, as networks see them."""
        return datasets.normalise(images, self.mean, self.std)

    def data(self, train: Images, valid: Images) -> Data:
        """Returns normalised images for trainings, without any test image.

        Args:
          train: to train on.
          valid: to compare trainings by.
        """
        x, x_valid = self.normalised(train).x, self.normalised(valid).x
        return Data.without_test(x, train.y, x_valid, valid.y, -self.mean / self.std)

    def digest(self) -> str:
        """Returns the sha256 of all images and labels.

        It identifies the task, as a file of the same name may hold other images.
        """
        parts = self.train, self.valid, self.test
        return array_digest(*(array for part in parts for array in part[:2]))

    def train_and_valid(self) -> Images:
        """Returns the images of training and validation in one set."""
        x, y = (
            np.concatenate(p) for p in zip(self.train[:2], self.valid[:2], strict=True)
        )
        return self.train._replace(x=x, y=y)


def default_data() -> str:
    """Returns "fashion-mnist" where its files are installed, else "digits"."""
    folder = os.environ.get("JAXNAS_FASHION_MNIST") or sources.FASHION_MNIST
    return "fashion-mnist" if Path(folder).is_dir() else "digits"


def load_task(
    name: str,
    *,
    size: int | None,
    channels: int | None,
    cells_per_stage: int,
    valid_share: float,
    test_share: float,
    seed: int,
) -> ImageTask:
    """Loads images, divides them, and chooses the size of the network.

    Args:
      name: a name or path, as of `opened.open_images`.
      size: pixels on each side, a multiple of 4; default: the multiple of 4 nearest to
        the size of the images, at most 32.
      channels: of the first stage; default: 8, and 16 from 32 pixels.
      cells_per_stage: cells in each of the three stages.
      valid_share: share of the images for validation, in (0, 1).
      test_share: share of the images for tests, in (0, 1), where the source has no test
        images of its own.
      seed: of the division.

    Raises: `ValueError` for sizes and shares out of range, and for images that cannot be
      read, are too small, not square, or too few of a class.
    """
    _validate(size, channels, cells_per_stage, valid_share, test_share)
    source, tests = opened.open_images(name, size=size)
    height, width = source.x.shape[1:3]
    if min(height, width) < 4:
        raise ValueError(
            f"{name}: images of {height} x {width} pixels are too small: wanted "
            "at least 4 x 4"
        )
    size = size or min(DEFAULT_MAX_SIZE, (width + 2) // 4 * 4)
    network = NetworkConfig(
        channels or (16 if size >= 32 else 8),
        cells_per_stage,
        source.num_classes,
        size,
        source.x.shape[3],
    )
    source = opened.resize_square(source, size)
    if tests is None:
        shares = 1 - valid_share - test_share, valid_share, test_share
        flags = "--valid-share and --test-share"
        train, valid, tests = _divided(source, shares, seed, flags)
    else:
        tests = opened.resize_square(tests, size)
        if (
            tests.x.shape[1:] != source.x.shape[1:]
            or tests.y.max() >= source.num_classes
        ):
            raise ValueError(f"{name}: the test images are of another kind")
        shares = 1 - valid_share, valid_share
        train, valid = _divided(source, shares, seed, "--valid-share")
    raw = ImageTask(network, train, valid, tests, np.zeros(0), np.zeros(0))
    mean, std = datasets.normalisation_constants(raw.train_and_valid())
    return raw._replace(mean=mean, std=std)


def _validate(
    size: int | None,
    channels: int | None,
    cells_per_stage: int,
    valid_share: float,
    test_share: float,
) -> None:
    """Raises `ValueError` for what is wrong whatever the images are."""
    sizes = {"size": size, "channels": channels, "cells_per_stage": cells_per_stage}
    for flag, value in sizes.items():
        if value is not None and not 1 <= value <= MAX_VALUES[flag]:
            raise ValueError(
                f"--{flag.replace('_', '-')} must be 1 to {MAX_VALUES[flag]}, not {value}"
            )
    for flag, share in (("valid-share", valid_share), ("test-share", test_share)):
        if not 0 < share < 1:
            raise ValueError(f"--{flag} must be between 0 and 1, not {share}")
    if size is not None and size % 4:
        raise ValueError(f"--size must be a multiple of 4, not {size}")
    if valid_share + test_share >= 1:
        raise ValueError("--valid-share and --test-share leave nothing to train on")


def _divided(
    images: Images, shares: tuple[float, ...], seed: int, flags: str
) -> tuple[Images, ...]:
    """Splits images as `datasets.split`, whose errors get the names of the flags."""
    try:
        return datasets.split(images, shares, seed=seed)
    except ValueError as error:
        raise ValueError(f"{error}: give more images, or other {flags}") from None


def subsample(images: Images, count: int, seed: int) -> Images:
    """Draws at most `count` of the images at random, without replacement."""
    x, y = datasets.batch(images, min(count, len(images.x)), seed=seed)
    return images._replace(x=x, y=y)
