"""Images that a driver is given by name or path."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxnas import datasets
from jaxnas.datasets import Images
from jaxnas.io import files
from jaxnas.networks.train import Data

HELP = (
    "fashion-mnist (Debian: dataset-fashion-mnist), digits (scikit-learn), an npz of x "
    "and y, a folder of class folders with PNG, JPEG or WebP files, a folder of idx files, "
    "a batch of CIFAR for Python or the folder of its batches"
)


def open_images(name: str, *, size: int | None = None) -> tuple[Images, Images | None]:
    """The images of a name or path, and those that are kept for tests, if there are.

    Picture files are read as a viewer shows them: upright, and over white where they are
    transparent.

    Args:
      size: of the sides, where the source is files of any size.

    Raises: `ValueError` for what is missing, damaged or something else, and for images
      that are all the same.
    """
    with files.reading(name):
        images, tests = _found(name, size)
    return datasets.require_varied(images), tests


def _found(name: str, size: int | None) -> tuple[Images, Images | None]:
    if not name:
        raise ValueError(f"no images are named: wanted {HELP}")
    path = Path(name)
    if name == "digits":
        return datasets.digits(), None
    if name == "fashion-mnist":
        return datasets.fashion_mnist(), datasets.fashion_mnist(train=False)
    if path.suffix == ".npz":
        return datasets.from_npz(path), None
    if path.is_dir() and any(p.is_dir() for p in path.iterdir()):
        return datasets.from_folder(path, size=size and (size, size)), None
    if path.is_dir() and any("idx" in p.name for p in path.iterdir()):
        return datasets.from_idx(path), datasets.from_idx(path, train=False)
    images = datasets.from_cifar(path)
    tests = path.is_dir() and any(p.name.startswith("test") for p in path.iterdir())
    return images, datasets.from_cifar(path, train=False) if tests else None


def training_data(
    name: str, size: int, counts: tuple[int, int, int], seed: int
) -> tuple[Data, Images]:
    """Random images for training, validation and tests, scaled and normalised.

    Args:
      size: pixels on each side, a multiple of 4.
      counts: how many there are to be of each; tests are from the part that is kept for
        them, where the source has one.

    Returns: the parts, and all images as they were scaled.
    Raises: `ValueError` for what is wrong, and if there are fewer images.
    """
    images, tests = open_images(name, size=size)
    images, tests = (i and resize_square(i, size) for i in (images, tests))
    assert images is not None
    mean, std = datasets.normalisation_constants(images)
    scaled = [i and datasets.normalise(i, mean, std) for i in (images, tests)]
    wanted = sum(counts) if tests is None else sum(counts[:2])
    x, y = datasets.batch(scaled[0], wanted, seed=seed)
    cuts = np.cumsum(counts)[:2]
    drawn = [*zip(np.split(x, cuts), np.split(y, cuts), strict=True)]
    if scaled[1] is not None:
        drawn[2] = datasets.batch(scaled[1], counts[2], seed=seed)
    flat = [array for part in drawn for array in part]
    return Data(*flat, pad_value=-mean / std), images


def resize_square(images: Images, size: int) -> Images:
    """The images with sides of `size`; `ValueError` for those that are not square."""
    height, width = images.x.shape[1:3]
    if height != width:
        raise ValueError(f"{images.name}: wanted square images, not {height} x {width}")
    return images if height == size else datasets.resize(images, size)
