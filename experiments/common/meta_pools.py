"""Pools of classes for a meta-database: images and their origin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.datasets import Images, features, opened, packaged
from jaxnas.datasets.packaged import Origin
from jaxnas.datasets.resample import resize_bicubic
from jaxnas.datasets.tasks import Division, divide_images
from jaxnas.io.cache import array_digest

# Pixels to which picture files are scaled when they are read; features see this size.
_READ_SIZE = 64


class Pool(NamedTuple):
    """Images of one source, for tasks."""

    images: Images  # (m, size, size, 3) from 0 to 255
    division: Division
    # (c, train, h, w, channels) training images of the classes, as they are read.
    originals: np.ndarray
    origin: Origin


def open_pool(
    name: str, licence: str, size: int, train: int, tests: tuple[int, int], seed: int
) -> Pool:
    """Opens a pool, resizes its images to RGB squares and divides them.

    Args:
      name: a source of `datasets.opened`; its test images, if it has any, are for tests.
      licence: of the images, if they are the user's own files.
      size: pixels on each side.
      train: training images of a class.
      tests: smallest and largest number of test images of a class.
      seed: of the division.

    Raises:
      ValueError: if the source cannot be read or has too few images.
    """
    images, more = opened.open_images(name, size=_READ_SIZE)
    num_train = None if more is None else len(images.x)
    if more is not None:
        x, y = (np.concatenate(pair) for pair in zip(images[:2], more[:2], strict=True))
        images = images._replace(x=x, y=y)
    pixels = features.as_pixels(images.x)
    division = divide_images(
        images, train, min_test=tests[0], max_test=tests[1], seed=seed,
        num_train=num_train,
    )  # fmt: skip
    originals = pixels[division.train]
    # Only images of tasks are resized: Fashion-MNIST has 70,000.
    used, inverse = np.unique(
        np.concatenate([division.train, division.test], 1), return_inverse=True
    )
    x = resize_bicubic(pixels[used], size)
    x = np.broadcast_to(x, (*x.shape[:3], 3)) if x.shape[-1] == 1 else x
    inverse = inverse.reshape(len(division.classes), -1)
    division = Division(division.classes, *np.split(inverse, [train], axis=1))
    images = images._replace(x=x, y=images.y[used])
    origin = packaged.origin(name)
    if origin is None:
        origin = Origin("own files", array_digest(originals, x)[:16], licence)
    return Pool(images, division, originals, origin)


def open_pools(
    sources: Sequence[str],
    licence: str,
    size: int,
    train: int,
    tests: tuple[int, int],
    seed: int,
) -> dict[str, Pool]:
    """Opens pools as `open_pool` does, by their short names.

    Raises: `ValueError` for two of the same short name too.
    """
    names = [pool_name(source) for source in sources]
    if len(set(names)) < len(names):
        raise ValueError(f"pools need different names, found {', '.join(names)}")
    return {
        name: open_pool(source, licence, size, train, tests, seed)
        for name, source in zip(names, sources, strict=True)
    }


def training_features(pool: Pool, extractor: features.Extractor) -> np.ndarray:
    """Computes features (classes, train, width) of a pool's training images."""
    x = pool.originals
    found = features.image_features(x.reshape(-1, *x.shape[2:]), extractor)
    return found.x.reshape(*x.shape[:2], -1)


def num_test_images(pool: Pool) -> list[int]:
    """Counts the different test images of the smallest and of the largest class."""
    counts = [len(np.unique(row)) for row in pool.division.test]
    return [min(counts), max(counts)]


def pool_name(name: str) -> str:
    """A short name of a pool, for files: the last part of a path without its suffix."""
    return Path(name).stem if name else name
