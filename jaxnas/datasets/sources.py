"""Where images come from: packages, npz files, folders, CIFAR's and MNIST's files.

scikit-learn and Pillow are needed only by `digits` and `from_folder`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from jaxnas.datasets import pictures
from jaxnas.datasets.images import Images, validate_images
from jaxnas.io import cifar, files, idx, npz

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"


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
    return validate_images(images)


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
    x, y = npz.read_npz(path, ("x", "y")).values()
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
    return validate_images(images, gaps=classes is not None)


def from_folder(
    path: str | os.PathLike,
    *,
    size: tuple[int, int] | None = None,
    name: str | None = None,
) -> Images:
    """A folder that has one folder of PNG, JPEG or WebP files for each class.

    Classes are the folders in the order of their names, images those of the files; other
    files, and what has a name with a leading dot, are left out. All become RGB as a
    viewer shows them: upright, over white where they are transparent, 16 bits as 8; see
    `pictures.displayed`.

    Args:
      size: height and width to resize to, bilinearly; default: all must have one size.
      name: of the dataset; default: the folder's.

    Raises: `ValueError`, of one line, for a folder that is missing or empty, one class, an
      image that is damaged, not a regular file or of another size, images of one colour,
      and without Pillow.
    """
    root = Path(path)
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    classes = _class_files(root)
    for label, paths in enumerate(classes):
        for file in paths:
            pixels.append(pictures.read(file, size))
            if pixels[-1].shape != pixels[0].shape:
                (h, w), (h0, w0) = pixels[-1].shape[:2], pixels[0].shape[:2]
                raise ValueError(
                    f"{file} is {h} x {w} and the first image {h0} x {w0}: give a size"
                )
            labels.append(label)
    x = np.stack(pixels).astype(np.float32)
    y = np.array(labels, np.int32)
    return validate_images(Images(x, y, len(classes), name or root.resolve().name))


def _class_files(root: Path) -> list[list[Path]]:
    """The images of each class folder."""
    with files.reading(root):
        if not root.is_dir():
            raise ValueError(f"no such folder: {root}")
        folders = sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
        found = [sorted(filter(_is_image, folder.iterdir())) for folder in folders]
    if len(folders) < 2:
        raise ValueError(
            f"{root}: wanted at least 2 class folders, found {len(folders)}"
        )
    for folder, paths in zip(folders, found, strict=True):
        if not paths:
            raise ValueError(f"{folder} has no image ({', '.join(pictures.SUFFIXES)})")
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in pictures.SUFFIXES and path.name[0] != "."


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
    root, paths = Path(path), [Path(path)]
    patterns = ("data_batch_*", "train") if train else ("test_batch", "test")
    with files.reading(root):
        if root.is_dir():
            paths = sorted(f for pattern in patterns for f in root.glob(pattern))
    if not paths:
        raise ValueError(f"{root} has no batch of CIFAR ({' or '.join(patterns)})")
    parts = [cifar.read_batch(file) for file in paths]
    counts = {classes for _, _, classes in parts}
    if len(counts) != 1:
        raise ValueError(f"{root} has batches of CIFAR-10 and of CIFAR-100")
    (classes,) = counts
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    # A batch of a few images need not have all classes.
    images = Images(x, y, classes, name or f"cifar{classes}")
    return validate_images(images, gaps=True)


def from_idx(
    path: str | os.PathLike, *, train: bool = True, name: str | None = None
) -> Images:
    """A folder with the four files of MNIST (LeCun et al., 1998), or of one like it.

    They are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and `t10k-...` of the
    test images; each may be compressed (`.gz`).

    Raises: `ValueError`, of one line, for what is missing, damaged or something else.
    """
    root = Path(path)
    part = "train" if train else "t10k"
    x = idx.read(idx.find_file(root, f"{part}-images-idx3-ubyte"), 3)
    y = idx.read(idx.find_file(root, f"{part}-labels-idx1-ubyte"), 1)
    if len(x) != len(y):
        raise ValueError(f"{root} has {len(x)} images of {part} and {len(y)} labels")
    if not len(x):
        raise ValueError(f"{root} has no images of {part}")
    images = x[..., None].astype(np.float32), y.astype(np.int32)
    return validate_images(
        Images(*images, int(y.max()) + 1, name or root.resolve().name)
    )


def fashion_mnist(*, train: bool = True) -> Images:
    """Fashion-MNIST (Xiao et al., 2017): 28 x 28, one channel, 10 classes.

    Looked for in the folder that JAXNAS_FASHION_MNIST names, by default where the Debian
    package dataset-fashion-mnist puts it.

    Raises: `ValueError` if it is not there or damaged.
    """
    folder = Path(os.environ.get("JAXNAS_FASHION_MNIST") or FASHION_MNIST)
    with files.reading(folder):
        there = folder.is_dir()
    if not there:
        raise ValueError(
            f"Fashion-MNIST is not in {folder}: install the Debian package "
            "dataset-fashion-mnist, or set JAXNAS_FASHION_MNIST to a folder with its "
            "four files"
        )
    return from_idx(folder, train=train, name="fashion-mnist")
