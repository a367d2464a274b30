"""The idx files of MNIST: a header of big-endian integers, then bytes; maybe in gzip."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from jaxnas.io import files

_BYTES = 8  # the code of unsigned bytes
MAX_BYTES = 2**31


def find(folder: Path, name: str) -> Path:
    """The file of that name in a folder, or with `.gz`; `ValueError` if there is none."""
    with files.reading(folder):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise ValueError(f"{folder} has no {name}, nor {name}.gz")


def read(path: Path, axes: int) -> np.ndarray:
    """The array of bytes in an idx file.

    Args:
      axes: that it must have.

    Raises: `ValueError`, of one line, if it cannot be read or is something else.
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
        raise ValueError(f"{path} is no idx file of bytes with {axes} axes")
    shape = np.frombuffer(data, ">u4", axes, 4).tolist()
    if len(data) - start != math.prod(shape):
        raise ValueError(f"{path} claims {shape} bytes and has {len(data) - start}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
