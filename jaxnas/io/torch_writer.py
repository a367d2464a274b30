"""Writes dicts of arrays as `torch.save` does, without torch.

    save("weights.pt", {"classifier.weight": array})

The file is an uncompressed zip archive of a pickle, `archive/data.pkl`, and one member
for each storage, `archive/data/KEY`, whose bytes begin at multiples of 64.
`torch.load(path, weights_only=True)` reads it, and so does `torch_files.load`.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import BinaryIO

import numpy as np

from jaxnas.io import files

_STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
_ALIGNMENT, _HEADER = 64, 30  # bytes; the fixed part of a member's header
# Instructions of pickle protocol 2, by their names in `pickletools`.
_PROTO, _STOP, _MARK, _REDUCE, _TUPLE = b"\x80\x02", b".", b"(", b"R", b"t"
_SETITEMS, _EMPTY_TUPLE, _NEWFALSE, _BINPERSID = b"u", b")", b"\x89", b"Q"
_ORDERED_DICT = b"ccollections\nOrderedDict\n" + _EMPTY_TUPLE + _REDUCE


def save(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays, in their order, as an `OrderedDict` of tensors.

    Args:
      path: the file; its folder must exist. It is replaced atomically.
      tensors: arrays of at most 2**31 - 1 numbers each.

    Raises: `ValueError` for a name that is not a string, for a type that torch lacks, and
      if the file cannot be written.
    """
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    for name, value in arrays.items():
        if type(name) is not str:
            raise ValueError(f"{path}: the name of a tensor is not a string: {name!r}")
        if value.dtype.name not in _STORAGES:
            raise ValueError(f"{path}: torch has no storage of {value.dtype}: {name}")
    little_endian = [
        np.ascontiguousarray(v, v.dtype.newbyteorder("<")) for v in arrays.values()
    ]

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, "data.pkl", _pickled(arrays))
            for key, value in enumerate(little_endian):
                _add(archive, f"data/{key}", value.tobytes())
            _add(archive, "version", b"3\n")
            _add(archive, "byteorder", b"little")

    files.atomic_write(path, write)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Adds a member whose bytes begin at a multiple of `_ALIGNMENT`."""
    info = zipfile.ZipInfo(f"archive/{name}")  # dated 1980, as torch does
    start = archive.start_dir + _HEADER + len(info.filename) + 4
    padding = -start % _ALIGNMENT
    # The extra field "FB", with which torch pads.
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(info, content)


def _pickled(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of an `OrderedDict` of tensors, whose storages are numbered from 0."""
    parts = [_PROTO, _ORDERED_DICT, _MARK]
    for key, (name, value) in enumerate(arrays.items()):
        parts += [_string(name), _tensor(str(key), value)]
    return b"".join([*parts, _SETITEMS, _STOP])


def _tensor(key: str, value: np.ndarray) -> bytes:
    """The call of `_rebuild_tensor_v2` that makes a tensor of a storage."""
    strides = [1]
    for length in reversed(value.shape[1:]):
        strides.append(strides[-1] * max(length, 1))
    shape = _tuple(_integer(n) for n in value.shape)
    stride = _tuple(_integer(n) for n in strides[::-1][: value.ndim])
    kind = f"ctorch\n{_STORAGES[value.dtype.name]}\n".encode()
    identity = [
        _string("storage"),
        kind,
        _string(key),
        _string("cpu"),
        _integer(value.size),
    ]
    storage = _tuple(identity) + _BINPERSID
    # Offset, shape, strides; no gradient is required, and there are no hooks.
    arguments = [storage, _integer(0), shape, stride, _NEWFALSE, _ORDERED_DICT]
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + _tuple(arguments) + _REDUCE


def _tuple(items: Iterable[bytes]) -> bytes:
    """Instructions that push a tuple."""
    return b"".join([_MARK, *items, _TUPLE])


def _string(text: str) -> bytes:
    """BINUNICODE: pushes a string."""
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(number: int) -> bytes:
    """BININT: pushes an integer of up to 31 bits."""
    if number >= 2**31:
        raise ValueError(f"an array of {number} numbers is too large for the format")
    return b"J" + struct.pack("<i", number)
