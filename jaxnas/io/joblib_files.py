"""Files of `joblib.dump` and `pickle.dump`, read as data.

joblib (0.10 and newer) writes a pickle in which every NumPy array is a record of shape and
dtype; the array's bytes follow the record, outside of the pickle. The whole file may be
packed. Neither joblib nor the classes that the file names are needed, and nothing of it is
run: see `pickles`.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from jaxnas.io import pickles
from jaxnas.io.pickle_machine import Admitted
from jaxnas.io.streams import (
    BinaryReader,
    ByteStream,
    HashingReader,
    Unpacked,
    named_errors,
    printable,
)

_PIECE = 2**20
_ROOM = 2**27  # bytes beyond four times the file
_AGAIN = "copy or download it again, in binary mode"
# What texts begin with that a program wrote for the first byte of a pickle, 0x80.
_RECODED = (b"\xc2\x80", b"\xe2\x82\xac", b"\xef\xbb\xbf", b"\xef\xbf\xbd")
# Of packed files that joblib can write, and this reader cannot read.
_UNKNOWN = {b"\xfd7zXZ": "xz", b"\x5d\x00\x00": "lzma", b"\x04\x22\x4d\x18": "lz4"}


class _PickledArray(pickles.PickledObject):
    """joblib's `NumpyArrayWrapper`: an array of numbers, whose bytes follow.

    Attributes:
      array: the array, read-only; empty until its bytes have been read.
    """

    def __init__(self):
        super().__init__("NumpyArrayWrapper")
        self.array = np.zeros(0, bool)

    def read_on(self, source: ByteStream, charge: Callable[[int], None]) -> None:
        """Reads the array; `ValueError` unless it is of plain numbers."""
        shape, order = self.fields.get("shape"), self.fields.get("order")
        kind = self.fields.get("dtype")
        if type(kind) is not pickles.Dtype or order not in ("C", "F"):
            raise ValueError("it has an array that is not of plain numbers")
        if type(shape) is not tuple or len(shape) > 8 or not all(map(_is_size, shape)):
            raise ValueError("it has an array of a damaged shape")
        if self.fields.get("numpy_array_alignment_bytes") is not None:
            source.take(source.take(1)[0])
        size = math.prod(shape) * kind.dtype.itemsize
        charge(size)
        raw = np.empty(size, np.uint8)
        for start in range(0, size, _PIECE):
            piece = source.take(min(_PIECE, size - start))
            raw[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        self.array = raw.view(kind.dtype).reshape(shape, order=order)
        self.array.flags.writeable = False


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**40


def _mapping(*arguments: Any) -> dict:
    """A defaultdict without its factory, as a dict."""
    del arguments
    return {}


def _byte_array(content: Any = b"") -> bytes:
    """A bytearray, as bytes."""
    if type(content) is not bytes:
        raise ValueError("it has a bytearray of something that is not bytes")
    return content


ARRAYS: Admitted = {
    **pickles.ARRAYS,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _PickledArray,
    ("collections", "defaultdict"): _mapping,
    ("builtins", "dict"): None,
    ("builtins", "bytearray"): _byte_array,
}
"""Admits what `pickles.ARRAYS` does, joblib's arrays, and default dicts."""


def array_of(value: Any) -> np.ndarray:
    """The array of a value that `load` returned; `ValueError` if it is not an array."""
    if not isinstance(value, _PickledArray | pickles.ArrayState):
        raise ValueError(f"wanted an array, found {printable(value)}")
    return value.array


def records(*names: tuple[str, str]) -> Admitted:
    """Admits classes, whose objects become `pickles.PickledObject`s of their attributes.

    Args:
      *names: module and name of each class.
    """
    return {
        (module, name): functools.partial(pickles.PickledObject, name)
        for module, name in names
    }


def load(
    path: str | os.PathLike,
    admitted: Admitted,
    *,
    fold: tuple[str, Callable[[dict], int]] | None = None,
) -> tuple[Any, str]:
    """Reads a file, in memory of at most four times its size and 200 MB.

    Args:
      path: the file: plain, or packed by zlib, gzip or bz2.
      admitted: as for `pickles.load`; `ARRAYS` and `records` give what files of models
        need.
      fold: as for `pickles.load`.

    Returns: the value, as `pickles.load` describes it, and the SHA-256 of the file.
    Raises: `ValueError`, of one line that names the file, if it is missing, damaged,
      converted by a copy in text mode, or asks for a name that is not admitted.
    """
    path = Path(path)
    with named_errors(path):
        if not path.is_file():
            raise ValueError("not a file" if path.exists() else "no such file")
        with open(path, "rb") as file:
            start = file.read(16)
            file.seek(0)
            hashed, size = HashingReader(file), path.stat().st_size
            try:
                limit = 4 * size + _ROOM
                source = ByteStream(_plain(hashed, start, limit), max_text=limit)
                value = pickles.load(source, admitted, fold=fold, max_memory=limit)
                source.finish()
            except ValueError as error:
                _explain(path, error)
            return value, hashed.finish("")[0]


def _plain(file: BinaryReader, start: bytes, max_bytes: int) -> BinaryReader:
    """A reader of the unpacked file.

    Args:
      file: at its beginning.
      start: its first bytes.
      max_bytes: most bytes that it may be unpacked to.

    Raises: `ValueError` for a packing that is not supported, and for a file that is not a
      pickle.
    """
    if start[:1] == b"\x80":
        return file
    if start[:3] == b"BZh":
        return Unpacked(file, max_bytes, bz2=True)
    # zlib's header is a multiple of 31; other files can begin with an x.
    zlib_header = start[:1] == b"x" and int.from_bytes(start[:2]) % 31 == 0
    if zlib_header or start[:2] == b"\x1f\x8b":
        return Unpacked(file, max_bytes, bz2=False)
    for magic, name in _UNKNOWN.items():
        if start.startswith(magic):
            raise ValueError(
                f"it is packed by {name}: write it again by joblib.dump(value, path)"
            )
    begin = " ".join(f"{byte:02x}" for byte in start[:4]) or "nothing"
    if start.startswith(_RECODED):
        raise ValueError(
            f"it was re-encoded as text (it begins with {begin}): {_AGAIN}"
        )
    raise ValueError(
        f"it is not a pickle, which begins with 80: it begins with {begin} "
        f"({printable(start.decode('latin1'))}): {_AGAIN}"
    )


def _explain(path: Path, error: ValueError) -> NoReturn:
    """Raises the error of a damaged file with what a user can do about it."""
    reason = printable(error, 400)
    # A sound file of something else, and messages that say it already.
    if reason.startswith("it asks for") or _AGAIN in reason or "joblib.dump" in reason:
        raise error
    with open(path, "rb") as file:
        piece = file.read(_PIECE)
    newlines, both = piece.count(b"\n"), piece.count(b"\r\n")
    if newlines == both > 4:
        reason += "; all its newlines are CR LF, so it was copied in text mode"
    raise ValueError(f"{reason}; if it is damaged or cut off, {_AGAIN}") from error
