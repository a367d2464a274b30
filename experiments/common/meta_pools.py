"""Pools of classes for a meta-database: their images, and where they come from."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.datasets import Images, opened
from jaxnas.datasets.resample import resize_bicubic
from jaxnas.datasets.tasks import Division, divide_images
from jaxnas.io import files
from jaxnas.io.cache import array_digest

_DPKG = Path("/var/lib/dpkg/status")


class Origin(NamedTuple):
    """Where the images of a pool come from."""

    package: str  # "own files" if they are of no package
    version: str  # of the package, or a digest of the images
    licence: str


class Pool(NamedTuple):
    """Images of one source, for tasks."""

    images: Images  # (m, size, size, 3) from 0 to 255
    division: Division
    origin: Origin


def open_pool(
    name: str, licence: str, size: int, train: int, tests: tuple[int, int], seed: int
) -> Pool:
    """Opens a pool, resizes its images to RGB squares and divides them.

    Args:
      name: a source of `datasets.opened`; training and test images are one pool.
      licence: of own files.
      size: pixels on each side.
      train: training images of a class.
      tests: smallest and largest number of test images of a class.
      seed: of the division.

    Raises:
      ValueError: if the source cannot be read or has too few images.
    """
    images, more = opened.open_images(name, size=size)
    if more is not None:
        x, y = (np.concatenate(pair) for pair in zip(images[:2], more[:2], strict=True))
        images = images._replace(x=x, y=y)
    scale = np.float32(1 if images.x.max() > 1 else 255)
    division = divide_images(
        images, train, least_test=tests[0], most_test=tests[1], seed=seed
    )
    # Only what tasks use is resized: Fashion-MNIST has 70,000 images.
    used, inverse = np.unique(
        np.concatenate([division.train, division.test], 1), return_inverse=True
    )
    x = resize_bicubic(scale * images.x[used], size)
    x = np.broadcast_to(x, (*x.shape[:3], 3)) if x.shape[-1] == 1 else x
    inverse = inverse.reshape(len(division.classes), -1)
    division = Division(division.classes, *np.split(inverse, [train], axis=1))
    images = images._replace(x=x, y=images.y[used])
    return Pool(images, division, _origin(name, licence, images))


def pool_name(name: str) -> str:
    """A short name of a pool, for files: the last part of a path without its suffix."""
    return Path(name).stem if name else name


def _origin(name: str, licence: str, images: Images) -> Origin:
    """Describes the packages of the sources that have one."""
    if name == "digits":
        version = metadata.version("scikit-learn")
        return Origin("scikit-learn", version, "CC BY 4.0")
    if name == "fashion-mnist":
        package = "dataset-fashion-mnist"
        return Origin(package, _debian_version(package), "MIT")
    return Origin("own files", array_digest(images.x, images.y)[:16], licence)


def _debian_version(package: str) -> str:
    """Reads the version of an installed Debian package; "unknown" if it is not one."""
    with files.reading(_DPKG):
        text = _DPKG.read_text(errors="replace") if _DPKG.is_file() else ""
    entry = re.search(rf"^Package: {package}\n(?:.+\n)*?Version: (.+)$", text, re.M)
    return entry[1] if entry else "unknown"
