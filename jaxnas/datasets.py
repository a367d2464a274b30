"""Images with classes, on the host: from where they lie to fixed batches.

    images = normalised(from_npz("images.npz", name="cifar10"))
    train, valid = split(images, (0.8, 0.2), seed=0)
    x, y = batch(train, 128, seed=0)

Pixels are in 0 to 255 until they are normalised. What is random depends on a seed alone.
scikit-learn and Pillow are needed only by `digits` and `from_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas import checkpoints
from jaxnas.benchmarks import cifar_files
from jaxnas.benchmarks.streams import shown

# Mean and standard deviation by channel, of 255, as NAS-Bench-201 normalises
# (Dong and Yang, 2020, and its program).
NORMALISATION = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    "ImageNet16-120": ((122.68, 116.66, 104.01), (63.22, 61.26, 65.09)),
}
SUFFIXES = (".png", ".jpg", ".jpeg")
# More pixels than any benchmark's images have: a small file can unpack to gigabytes.
MAX_PIXELS = 2**24


class Images(NamedTuple):
    """Images of one size and their classes."""

    x: np.ndarray  # (n, h, w, c) float32
    y: np.ndarray  # (n,) int32, 0 to classes - 1
    classes: int
    name: str


def checked(images: Images, *, gaps: bool = False) -> Images:
    """Returns `images`, or raises `ValueError` for what no proxy or training can use.

    Args:
      gaps: classes without an image are allowed.
    """
    x, y, classes, name = images
    if x.ndim != 4 or not x.size or x.dtype != np.float32:
        raise ValueError(
            f"{name}: wanted images (n, h, w, c) float32, not {x.shape} {x.dtype}"
        )
    if y.shape != x.shape[:1] or y.dtype != np.int32:
        raise ValueError(
            f"{name}: wanted {len(x)} classes (n,) int32, not {y.shape} {y.dtype}"
        )
    if classes < 2:
        raise ValueError(f"{name}: wanted at least 2 classes, found {classes}")
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(
            f"{name}: wanted classes 0 to {classes - 1}, found {y.min()} to {y.max()}"
        )
    present = np.unique(y)
    if len(present) < classes and not gaps:
        first = next((i for i, label in enumerate(present) if label != i), len(present))
        raise ValueError(
            f"{name}: {classes - len(present)} of {classes} classes have no image; the "
            f"first is {first}"
        )
    bad = ~np.isfinite(x).all((1, 2, 3))
    if bad.any():
        raise ValueError(
            f"{name}: {bad.sum()} of {len(x)} images have pixels that are not finite; "
            f"the first is image {np.argmax(bad)}"
        )
    return images


def digits() -> Images:
    """The 1,797 handwritten digits of scikit-learn: 8 x 8, one channel, 10 classes.

    Raises: `ValueError` without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError("digits are part of scikit-learn: install it") from error
    x, y = (np.asarray(array) for array in load_digits(return_X_y=True))
    x = x.reshape(-1, 8, 8, 1) * (255 / 16)
    images = Images(x.astype(np.float32), y.astype(np.int32), 10, "digits")
    return checked(images)


def from_npz(
    path: str | os.PathLike, *, name: str | None = None, classes: int | None = None
) -> Images:
    """The arrays `x` and `y` of an npz file.

    Args:
      path: x is (n, h, w, c) or (n, h, w), uint8 or floating; y (n,) of any integer type.
      name: of the dataset, which `NORMALISATION` goes by; default: the file's.
      classes: how many there are, where some may have no image; default: all from 0 to
        the greatest that occurs, each of which must occur.

    Raises: `ValueError`, of one line, for a file that is missing, damaged, or has other
      shapes or types, for one class, gaps in the classes, and pixels that are not finite.
    """
    name = name or Path(path).stem
    x, y = checkpoints.read_npz(path, ("x", "y")).values()
    if x.dtype.kind not in "uf" or x.ndim not in (3, 4):
        raise ValueError(
            f"{path}: wanted x (n, h, w, c) of bytes or floats, not {x.shape} {x.dtype}"
        )
    if y.dtype.kind not in "ui" or y.ndim != 1:
        raise ValueError(f"{path}: wanted y (n,) of integers, not {y.shape} {y.dtype}")
    if y.size and (y.min() < 0 or y.max() >= 2**31 - 1):
        raise ValueError(f"{path}: wanted classes from 0, found {y.min()} to {y.max()}")
    x = x[..., None] if x.ndim == 3 else x
    count = int(y.max(initial=0)) + 1 if classes is None else classes
    images = Images(x.astype(np.float32), y.astype(np.int32), count, name)
    return checked(images, gaps=classes is not None)


def from_folder(
    path: str | os.PathLike,
    *,
    size: tuple[int, int] | None = None,
    name: str | None = None,
) -> Images:
    """A folder that has one folder of PNG or JPEG files for each class.

    Classes are the folders in the order of their names, images those of the files; other
    files, and what has a name with a leading dot, are left out. All become RGB.

    Args:
      size: height and width to resize to, bilinearly; default: all must have one size.
      name: of the dataset; default: the folder's.

    Raises: `ValueError`, of one line, for a folder that is missing or empty, one class, an
      image that is damaged or has another size, and without Pillow.
    """
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"no such folder: {root}")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
    if len(folders) < 2:
        raise ValueError(
            f"{root}: wanted at least 2 class folders, found {len(folders)}"
        )
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES]
        files = sorted(p for p in found if p.name[0] != ".")
        if not files:
            raise ValueError(f"{folder} has no image ({', '.join(SUFFIXES)})")
        for file in files:
            pixels.append(_read_image(file, size))
            if pixels[-1].shape != pixels[0].shape:
                (h, w), (h0, w0) = pixels[-1].shape[:2], pixels[0].shape[:2]
                raise ValueError(
                    f"{file} is {h} x {w} and the first image {h0} x {w0}: give a size"
                )
            labels.append(label)
    x = np.stack(pixels).astype(np.float32)
    y = np.array(labels, np.int32)
    return checked(Images(x, y, len(folders), name or root.resolve().name))


def _read_image(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """One image (h, w, 3) uint8."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ValueError("images are read by Pillow: install it") from error
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            image = image.convert("RGB")
            if size is not None:
                height, width = size
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(image)
    # Whatever a damaged file makes a decoder raise, decompression bombs included.
    except Exception as error:
        reason = shown(error, 200) or type(error).__name__
        raise ValueError(f"cannot read the image {path}: {reason}") from error


def from_cifar(
    path: str | os.PathLike, *, train: bool = True, name: str | None = None
) -> Images:
    """CIFAR-10 or CIFAR-100 in the version "for Python" (Krizhevsky, 2009).

    The batches are pickles; they are read as data, and nothing in them is run.

    Args:
      path: one batch file, or the folder `cifar-10-batches-py` or `cifar-100-python`.
      train: of a folder, the training images, or else the test images.
      name: of the dataset; default: by the number of classes `cifar10` or `cifar100`.

    Raises: `ValueError`, of one line, for what is missing, damaged or something else.
    """
    root = Path(path)
    if root.is_dir():
        patterns = ("data_batch_*", "train") if train else ("test_batch", "test")
        files = sorted(f for pattern in patterns for f in root.glob(pattern))
        if not files:
            raise ValueError(f"{root} has no batch of CIFAR ({' or '.join(patterns)})")
    else:
        files = [root]
    parts = [cifar_files.read_batch(file) for file in files]
    counts = {classes for _, _, classes in parts}
    if len(counts) != 1:
        raise ValueError(f"{root} has batches of CIFAR-10 and of CIFAR-100")
    (classes,) = counts
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    # A batch of a few images need not have all classes.
    images = Images(x, y, classes, name or f"cifar{classes}")
    return checked(images, gaps=True)


def constants(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (c,) float32: the published ones, or of the images."""
    if images.name in NORMALISATION:
        known = [np.array(values, np.float32) for values in NORMALISATION[images.name]]
        if len(known[0]) != images.x.shape[-1]:
            raise ValueError(
                f"{images.name} has 3 channels, these images {images.x.shape[-1]}"
            )
        return known[0], known[1]
    axes = (0, 1, 2)
    mean, std = images.x.mean(axes, np.float64), images.x.std(axes, np.float64)
    # A channel that is the same everywhere becomes 0.
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def normalised(
    images: Images,
    mean: np.ndarray | Sequence[float] | None = None,
    std: np.ndarray | Sequence[float] | None = None,
) -> Images:
    """(x - mean) / std, by channel; constants that are not given are `constants`."""
    known = constants(images) if mean is None or std is None else (mean, std)
    mean = np.asarray(known[0] if mean is None else mean, np.float32)
    std = np.asarray(known[1] if std is None else std, np.float32)
    channels = images.x.shape[-1:]
    if mean.shape != channels or std.shape != channels or not (std > 0).all():
        raise ValueError(
            f"wanted a mean and a positive standard deviation {channels}, "
            f"not {mean} and {std}"
        )
    return images._replace(x=(images.x - mean) / std)


def batch(
    images: Images, size: int, *, seed: int, number: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Batch `number` of the images shuffled by `seed`: x (size, h, w, c), y (size,).

    Batches of one seed have no image in common.

    Raises: `ValueError` if there are not so many images.
    """
    if size < 1 or number < 0 or (number + 1) * size > len(images.x):
        raise ValueError(
            f"{images.name} has {len(images.x)} images: no batch {number} of {size}"
        )
    order = np.random.default_rng(seed).permutation(len(images.x))
    chosen = order[number * size : (number + 1) * size]
    return images.x[chosen], images.y[chosen]


def split(
    images: Images, fractions: Sequence[float], *, seed: int
) -> tuple[Images, ...]:
    """Parts with the same share of every class, to within one image of each.

    Args:
      fractions: of the parts, positive, at most 1 together.

    Raises: `ValueError` for other fractions, and if a part would lack a class.
    """
    ends = np.cumsum(fractions)
    if not len(ends) or min(fractions) <= 0 or ends[-1] > 1 + 1e-6:
        raise ValueError(
            f"fractions must be positive and at most 1 together, not {fractions}"
        )
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    for label in np.unique(images.y):
        members = rng.permutation(np.flatnonzero(images.y == label))
        stops = np.round(ends * len(members)).astype(int)
        for part, piece in zip(parts, np.split(members, stops)[:-1], strict=True):
            if not len(piece):
                raise ValueError(
                    f"{images.name}: the {len(members)} images of class {label} are "
                    f"too few for parts of {', '.join(f'{f:g}' for f in fractions)}"
                )
            part.append(piece)
    chosen = [np.sort(np.concatenate(part)) for part in parts]
    return tuple(images._replace(x=images.x[c], y=images.y[c]) for c in chosen)
