"""Sources of labelled images: packages, npz files, folders, CIFAR's and MNIST's files.

All return validated `Images` with pixels from 0 to 255 and the names of the classes where
the source has them. scikit-learn and Pillow are needed only by `digits` and `from_folder`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from jaxnas.datasets import pictures
from jaxnas.datasets.images import Images, validate_images
from jaxnas.io import cifar, files, idx, npz

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
_BATCHES = {True: ("data_batch_*", "train"), False: ("test_batch", "test")}
# Xiao et al. (2017), table 2.
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def digits() -> Images:
    """Loads the 1,797 handwritten digits of scikit-learn: 8 x 8, one channel, 10 classes.

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
    """Reads the arrays `x` and `y` of an npz file; classes are named by their numbers.

    Args:
      path: x is (m, h, w, c) or (m, h, w), uint8 or floating; y (m,) of any integer type.
      name: of the data set, by which `NORMALISATION` goes; default: that of the file.
      classes: their number, if some may have no image; default: all from 0 to the largest
        in y, each of which must occur.

    Raises: `ValueError`, in one line, for a file that is missing, damaged, or has other
      shapes or types, another number of labels than of images, for one class, gaps in
      the classes, and pixels that are not finite.
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
    if x.size and len(y) != len(x):
        raise ValueError(
            f"{path}: wanted {len(x)} labels y, one for each image, not {len(y)}"
        )
    x = x[..., None] if x.ndim == 3 else x
    count = int(y.max(initial=0)) + 1 if classes is None else classes
    images = Images(x.astype(np.float32), y.astype(np.int32), count, name)
    return _validated(path, images, gaps=classes is not None)


def from_folder(
    path: str | os.PathLike,
    *,
    size: tuple[int, int] | None = None,
    name: str | None = None,
) -> Images:
    """Reads a folder that has one folder of PNG, JPEG or WebP files for each class.

    Classes are numbered by the natural order of their folders' names, in which numbers
    compare as numbers: class2 comes before class10. Images are in the order of the file
    names. Other files, and names with a leading dot, are left out. All images become RGB
    as a viewer shows them: upright, over white where they are transparent, 16 bits as 8;
    see `pictures.displayed`.

    Args:
      path: of the folder.
      size: height and width to resize to, bilinearly; default: all must have one size.
      name: of the data set; default: that of the folder.

    Returns:
      the images; class names are those of the folders.

    Raises: `ValueError`, in one line, for a folder that is missing or empty, one class,
      an image that is damaged, not a regular file or of another size, images of one
      colour, and without Pillow.
    """
    root = Path(path)
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    classes = _class_files(root)
    for label, paths in enumerate(classes.values()):
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
    name = name or root.resolve().name
    return _validated(path, Images(x, y, len(classes), name, tuple(classes)))


def _validated(path: str | os.PathLike, images: Images, gaps: bool = False) -> Images:
    """Images that `validate_images` passes; its errors name the path."""
    found = validate_images(images._replace(name=os.fspath(path)), gaps=gaps)
    return found._replace(name=images.name)


def _natural_order(name: str) -> tuple[list[str | int], str]:
    """Returns a sort key by which numbers in names compare as numbers."""
    # Text and digits alternate, beginning with text, so that equal places have equal types.
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _class_files(root: Path) -> dict[str, list[Path]]:
    """Lists the image files of each class folder, in the order of the classes."""
    with files.reading(root):
        if not root.is_dir():
            raise ValueError(f"no such folder: {root}")
        folders = [p for p in root.iterdir() if p.is_dir() and p.name[0] != "."]
        folders.sort(key=lambda folder: _natural_order(folder.name))
        images = {f.name: sorted(filter(_is_image, f.iterdir())) for f in folders}
    if len(folders) < 2:
        raise ValueError(
            f"{root}: wanted at least 2 class folders, found {len(folders)}"
        )
    for folder in folders:
        if not images[folder.name]:
            raise ValueError(f"{folder} has no image ({', '.join(pictures.SUFFIXES)})")
    return images


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in pictures.SUFFIXES and path.name[0] != "."


def from_cifar(
    path: str | os.PathLike, *, train: bool = True, name: str | None = None
) -> Images:
    """Reads CIFAR-10 or CIFAR-100 in the version "for Python" (Krizhevsky, 2009).

    The batches are pickles; they are read as data, and nothing in them is run.

    Args:
      path: one batch file, or the folder `cifar-10-batches-py` or `cifar-100-python`.
      train: whether to read the training images of a folder, not the test images.
      name: of the data set; default: by the number of classes `cifar10` or `cifar100`.

    Returns:
      the images; class names are those of `batches.meta` or `meta` beside the batches, if
      that file is there.

    Raises: `ValueError`, in one line, for files that are missing, damaged or of another
      kind.
    """
    root = Path(path)
    if not (paths := cifar_batches(root, train=train)):
        raise ValueError(
            f"{root} has no batch of CIFAR ({' or '.join(_BATCHES[train])})"
        )
    parts = [cifar.read_batch(file) for file in paths]
    counts = {classes for _, _, classes in parts}
    if len(counts) != 1:
        raise ValueError(f"{root} has batches of CIFAR-10 and of CIFAR-100")
    (classes,) = counts
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    # A batch of a few images need not have all classes.
    folder = paths[0].parent
    names = cifar.read_class_names(folder, classes)
    images = Images(x, y, classes, name or f"cifar{classes}", names)
    return _validated(path, images, gaps=True)


def cifar_batches(path: str | os.PathLike, *, train: bool = True) -> list[Path]:
    """Finds the files that `from_cifar` reads: those of a folder, or the file itself.

    Raises: `ValueError` if the folder cannot be read.
    """
    root = Path(path)
    with files.reading(root):
        if not root.is_dir():
            return [root]
        return sorted(file for name in _BATCHES[train] for file in root.glob(name))


def from_idx(
    path: str | os.PathLike, *, train: bool = True, name: str | None = None
) -> Images:
    """Reads a folder with the four files of MNIST (LeCun et al., 1998) or a similar set.

    They are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and `t10k-...` of the
    test images; each may be compressed (`.gz`). Classes are named by their numbers.

    Args:
      path: of the folder.
      train: whether to read the training images, not the test images.
      name: of the data set; default: that of the folder.

    Raises: `ValueError`, in one line, for files that are missing, damaged or of another
      kind.
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
    name = name or root.resolve().name
    return _validated(path, Images(*images, int(y.max()) + 1, name))


def fashion_mnist(*, train: bool = True) -> Images:
    """Reads Fashion-MNIST (Xiao et al., 2017): 28 x 28, one channel, 10 classes.

    The folder is that of the environment variable JAXNAS_FASHION_MNIST, by default the
    folder of the Debian package dataset-fashion-mnist.

    Args:
      train: whether to read the training images, not the test images.

    Raises: `ValueError` if it is not there or damaged.
    """
    images = from_idx(_fashion_mnist_folder(), train=train, name="fashion-mnist")
    if images.num_classes > len(FASHION_MNIST_CLASSES):
        return images
    return images._replace(class_names=FASHION_MNIST_CLASSES[: images.num_classes])


def _fashion_mnist_folder() -> Path:
    """Finds the folder of Fashion-MNIST.

    Raises: `ValueError` naming the folder, if it is not there.
    """
    folder = Path(os.environ.get("JAXNAS_FASHION_MNIST") or FASHION_MNIST)
    with files.reading(folder):
        exists = folder.is_dir()
    if not exists:
        raise ValueError(
            f"Fashion-MNIST is not in {folder}: install the Debian package "
            "dataset-fashion-mnist, or set JAXNAS_FASHION_MNIST to a folder with its "
            "four files"
        )
    return folder
