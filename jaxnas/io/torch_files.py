"""Files of `torch.save`, read without torch: numbers and texts, and tensors when asked.

Both formats are read: the zip archive that torch writes since version 1.6, and the one
before it, four pickles and then the storages. The tar archives of torch 0.1 are not.
A zip archive has checksums. The older format has none: what changes a number in it, and
breaks nothing else, can only be seen if the name of the file says its checksum.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.io import pickles
from jaxnas.io.pickle_machine import Admitted, Named
from jaxnas.io.streams import (
    ByteStream,
    HashingReader,
    Progress,
    named_errors,
    printable,
)

# The number that the older format begins with, as a pickle.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PROTOCOL = 1001
# torch does not pack; what someone packed again may not unpack to much more.
_MAX_RATIO, _MAX_SMALL = 100, 2**20
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class Storage:
    """A run of numbers in the file; `read()` gives its bytes."""

    def __init__(self, key: str, dtype: np.dtype, size: int):
        self.key, self.dtype, self.size = key, dtype, size
        self.read: Callable[[], bytes] | None = None


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file, unread until `numpy` is called."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def numpy(self) -> np.ndarray:
        """The numbers; `ValueError` if the file does not have as many as it says."""
        storage, shape = self.storage, self.shape
        steps = zip(shape, self.stride, strict=True)
        last = self.offset + sum((n - 1) * s for n, s in steps)
        size = math.prod(shape)
        if size > storage.size or (size and last >= storage.size):
            raise ValueError(f"a tensor {shape} is larger than its storage")
        raw = storage.read() if storage.read else b""
        if len(raw) != storage.size * storage.dtype.itemsize:
            raise ValueError(f"the storage {printable(storage.key)} has another size")
        flat = np.frombuffer(raw, storage.dtype)[self.offset if size else 0 :]
        strides = [s * storage.dtype.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(flat, shape, strides).copy()


class Contents(NamedTuple):
    """What a file holds."""

    value: Any  # dicts, lists, numbers, texts and `Tensor`
    sha256: str
    integrity: str  # which checksum of the file was found to be right, in words


def load(
    path: str | os.PathLike,
    *,
    fold: tuple[str, Callable[[dict], int]] | None = None,
    max_memory: int = 2**30,
    progress: Progress | None = None,
) -> Contents:
    """Reads a file of `torch.save`.

    Args:
      path: the file.
      fold, max_memory: as for `pickles.load`.
      progress: is told how many bytes were read more.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged,
      of another format, too large, or asks for anything that could run.
    """
    path = Path(path)
    with named_errors(path), open(path, "rb") as file:
        start = file.read(len(LEGACY_MAGIC))
        file.seek(0)
        legacy = start == LEGACY_MAGIC
        hashed = HashingReader(file, progress if legacy else None)
        if legacy:
            value = _read_legacy(path, hashed, fold, max_memory)
            integrity = "none: the format has no checksum"
        elif start[:4] == b"PK\x03\x04":
            value = _read_zip(path, fold, max_memory, progress)
            integrity = "CRC-32 of the archive"
        else:
            raise ValueError("it is no file of torch.save")
        sha256, promised = hashed.finish(path.name)
    return Contents(value, sha256, "MD5 in its name" if promised else integrity)


class _Tensors:
    """The storages that a pickle names, and the functions that it may call."""

    def __init__(self):
        self.storages: dict[str, Storage] = {}
        self.admitted: Admitted = {
            **pickles.PLAIN,
            **{("torch", name): None for name in _STORAGES},
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("torch", "Size"): tuple,
        }

    def load(self, source: ByteStream, fold, max_memory: int) -> Any:
        """The value of a pickle that refers to them."""
        settings = {"fold": fold, "max_memory": max_memory}
        return pickles.load(
            source, self.admitted, persistent=self.persistent, **settings
        )

    def persistent(self, identity: Any) -> Storage:
        if type(identity) is not tuple or len(identity) < 5:
            raise ValueError("it refers to what is no storage")
        word, kind, key, _, size, *view = identity
        if word != "storage" or type(kind) is not Named or type(size) is not int:
            raise ValueError("it refers to what is no storage")
        if kind.name not in _STORAGES or type(key) is not str or any(view):
            raise ValueError(
                f"it has a storage of an unknown kind, {printable(kind.name)}"
            )
        dtype = np.dtype(_STORAGES[kind.name])
        storage = self.storages.setdefault(key, Storage(key, dtype, size))
        if size < 0 or (storage.dtype, storage.size) != (dtype, size):
            raise ValueError(f"it has two storages called {printable(key)}")
        return storage

    def tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_) -> Tensor:
        right = type(storage) is Storage and type(shape) is type(stride) is tuple
        if not right or len(shape) != len(stride) or len(shape) > 32:
            raise ValueError("it has a tensor without storage, shape or strides")
        if any(type(n) is not int or n < 0 for n in (offset, *shape, *stride)):
            raise ValueError("it has a tensor whose shape is no numbers")
        return Tensor(storage, offset, shape, stride)


def _read_legacy(path: Path, file: HashingReader, fold, max_memory: int) -> Any:
    source, tensors = ByteStream(file), _Tensors()
    source.skip(len(LEGACY_MAGIC))
    if (protocol := pickles.load(source, {})) != _LEGACY_PROTOCOL:
        raise ValueError(f"it is of the protocol {printable(protocol)}, not 1001")
    system = pickles.load(source, {})
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ValueError("it was written by a machine with another order of bytes")
    value = tensors.load(source, fold, max_memory)
    keys = pickles.load(source, {})
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise ValueError("its storages have no names")
    if sorted(keys) != sorted(tensors.storages):
        raise ValueError("its storages are not those of its tensors")
    for key in keys:
        storage = tensors.storages[key]
        if int.from_bytes(source.take(8), "little") != storage.size:
            raise ValueError(f"the storage {printable(key)} has another size")
        num_bytes = storage.size * storage.dtype.itemsize
        storage.read = _reader(path, source.tell(), num_bytes)
        source.skip(num_bytes)
    source.finish()
    return value


def _reader(path: Path, offset: int, size: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    return read


def _read_zip(path: Path, fold, max_memory: int, progress: Progress | None) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if len(members) != len(archive.infolist()):
                raise ValueError("it has two members of the same name")
            mains = [name for name in members if name.endswith("/data.pkl")]
            if len(mains) != 1 or mains[0].count("/") != 1:
                raise ValueError("it is a zip archive, but not of torch: no data.pkl")
            for info in members.values():
                packed = info.compress_size
                if info.file_size > max(_MAX_SMALL, _MAX_RATIO * packed):
                    raise ValueError(
                        f"{printable(info.filename)} unpacks from {packed} to "
                        f"{info.file_size} bytes: it is no file of torch"
                    )
            folder = mains[0].removesuffix("data.pkl")
            if f"{folder}byteorder" in members:
                order = archive.open(f"{folder}byteorder").read(16)
                if order != b"little":
                    raise ValueError("it has another order of bytes than ours")
            tensors = _Tensors()
            with archive.open(mains[0]) as file:
                source = ByteStream(_Counted(file, progress))
                value = tensors.load(source, fold, max_memory)
                source.finish()
            for key, storage in tensors.storages.items():
                info = members.get(f"{folder}data/{key}")
                size = storage.size * storage.dtype.itemsize
                if info is None or info.file_size != size:
                    raise ValueError(f"the storage {printable(key)} has another size")
                storage.read = _member_reader(path, info.filename)
            return value
    except (OSError, ValueError):
        raise
    # Whatever a damaged archive makes zipfile and zlib raise.
    except Exception as error:
        reason = printable(error, 200) or type(error).__name__
        raise ValueError(f"it is no sound zip archive: {reason}") from error


class _Counted:
    def __init__(self, file, progress: Progress | None):
        self._file, self._progress = file, progress

    def read(self, size: int, /) -> bytes:
        piece = self._file.read(size)
        if self._progress:
            self._progress(len(piece))
        return piece


def _member_reader(path: Path, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)

    return read
