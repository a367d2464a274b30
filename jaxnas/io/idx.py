"""The idx files of MNIST (LeCun et al., 1998) and of data sets in its form.

An idx file is two zero bytes, a code of the number type, the number of axes, the size of
each axis as a big-endian uint32, then the numbers. It is often packed by gzip.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from jaxnas.io import files

_BYTES = 8  # the code of unsigned bytes
MAX_BYTES = 2**31
"""Most bytes that a file may unpack to."""


def find_file(folder: Path, name: str) -> Path:
    """Finds the file of that name in a folder, or the one with the suffix `.gz`.

    Raises: `ValueError` if there is neither, or the folder cannot be read.
    """
    with files.reading(folder):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise ValueError(f"{folder} has no {name}, nor {name}.gz")


def read(path: Path, axes: int) -> np.ndarray:
    """Reads an idx file of unsigned bytes, packed or not.

    Args:
      path: the file.
      axes: the number of axes that it must have.

    Returns: a read-only uint8 array.
    Raises: `ValueError`, of one line, if the file cannot be read, is damaged, or holds
      numbers of another type or shape.
    """
    try:
        with open(path, "rb") as raw:
            magic = raw.read(2)
            raw.seek(0)
            with gzip.open(raw) if magic == b"\x1f\x8b" else raw as file:
                # Compressed files can unpack to any size.
                data = file.read(MAX_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    start = 4 + 4 * axes
    if len(data) < start or data[:4] != bytes((0, 0, _BYTES, axes)):
        raise ValueError(f"{path} is not an idx file of bytes with {axes} axes")
    shape = np.frombuffer(data, ">u4", axes, 4).tolist()
    if len(data) - start != math.prod(shape):
        raise ValueError(f"{path} claims {shape} bytes and has {len(data) - start}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
