"""Images of the user's own as a task for a search: parts, sizes, what is trained on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas import datasets
from jaxnas.datasets import Images, opened, sources
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.networks.train import Data

# Larger networks and images would end in failed allocations, not in results.
MOST = {"size": 256, "channels": 512, "cells_per_stage": 50}
LARGEST = 32  # pixels on each side, unless the user wants more


class Task(NamedTuple):
    """What is to be learnt; all images are of the network's size, their pixels raw."""

    network: NetworkConfig
    train: Images
    valid: Images
    test: Images
    mean: np.ndarray  # (colours,), of the images of training and validation
    std: np.ndarray

    def normalised(self, images: Images) -> Images:
        """The images as networks see them."""
        return datasets.normalise(images, self.mean, self.std)

    def data(self, train: Images, valid: Images) -> Data:
        """What a training may see of them, normalised."""
        x, x_valid = self.normalised(train).x, self.normalised(valid).x
        return Data.without_test(x, train.y, x_valid, valid.y, -self.mean / self.std)

    def digest(self) -> str:
        """The sha256 of all images and labels: a file of the same name may have others."""
        found = hashlib.sha256()
        for part in (self.train, self.valid, self.test):
            found.update(part.x.tobytes() + part.y.tobytes())
        return found.hexdigest()

    def both(self) -> Images:
        """The images of training and validation."""
        x, y = (
            np.concatenate(p) for p in zip(self.train[:2], self.valid[:2], strict=True)
        )
        return self.train._replace(x=x, y=y)


def default_data() -> str:
    """Fashion-MNIST where it is installed, else the digits of scikit-learn."""
    folder = os.environ.get("JAXNAS_FASHION_MNIST") or sources.FASHION_MNIST
    return "fashion-mnist" if Path(folder).is_dir() else "digits"


def task(
    name: str,
    *,
    size: int | None,
    channels: int | None,
    cells_per_stage: int,
    valid_share: float,
    test_share: float,
    seed: int,
) -> Task:
    """Loads and divides images.

    Args:
      name: a name or path, as of `opened.open_images`.
      size: pixels on each side, a multiple of 4; default: the nearest to the images'
        own, at most 32.
      channels: default: 8, and 16 from 32 pixels.
      valid_share, test_share: of the images; tests only where the images have none.

    Raises: `ValueError`, in one line, for all that cannot be learnt from.
    """
    sizes = {"size": size, "channels": channels, "cells_per_stage": cells_per_stage}
    for flag, value in sizes.items():
        if value is not None and not 1 <= value <= MOST[flag]:
            raise ValueError(
                f"--{flag.replace('_', '-')} must be 1 to {MOST[flag]}, not {value}"
            )
    for flag, share in (("valid-share", valid_share), ("test-share", test_share)):
        if not 0 < share < 1:
            raise ValueError(f"--{flag} must be between 0 and 1, not {share}")
    if valid_share + test_share >= 1:
        raise ValueError("--valid-share and --test-share leave nothing to train on")
    source, tests = opened.open_images(name, size=size)
    height, width = source.x.shape[1:3]
    if min(height, width) < 4:
        raise ValueError(
            f"{source.name}: images of {height} x {width} pixels are too small: wanted "
            "at least 4 x 4"
        )
    size = size or min(LARGEST, (width + 2) // 4 * 4)
    # Before anything is scaled: sizes that no network has.
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
        train, valid, tests = datasets.split(source, shares, seed=seed)
    else:
        tests = opened.resize_square(tests, size)
        if (
            tests.x.shape[1:] != source.x.shape[1:]
            or tests.y.max() >= source.num_classes
        ):
            raise ValueError(f"{source.name}: the test images are of another kind")
        train, valid = datasets.split(source, (1 - valid_share, valid_share), seed=seed)
    found = Task(network, train, valid, tests, np.zeros(0), np.zeros(0))
    mean, std = datasets.normalisation_constants(found.both())
    return found._replace(mean=mean, std=std)


def some(images: Images, count: int, seed: int) -> Images:
    """At most so many of the images, drawn at random."""
    x, y = datasets.batch(images, min(count, len(images.x)), seed=seed)
    return images._replace(x=x, y=y)
