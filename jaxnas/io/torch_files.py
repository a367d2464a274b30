"""Files of `torch.save`, read without torch: numbers and texts, and tensors when asked.

    contents = load("weights.pt")
    weight = contents.value["classifier.weight"].numpy()

Both formats are read: the zip archive that torch writes since version 1.6, and the older
one of four pickles followed by the storages. The tar archives of torch 0.1 are not. A
tensor is a view of a storage, a run of numbers of one type; the pickle holds the shapes
and strides (`torch_tensors`).

A zip archive has checksums. The older format has none: damage to a number can only be
noticed if the name of the file has digits of its checksum.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxnas.io import pickles
from jaxnas.io.streams import (
    BinaryReader,
    ByteStream,
    HashingReader,
    Progress,
    named_errors,
    printable,
)
from jaxnas.io.torch_tensors import Fold, TensorReader

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first bytes of the older format: a number as a pickle."""
_LEGACY_PROTOCOL = 1001
# torch does not compress; an archive that was compressed later may not unpack to much more.
_MAX_RATIO, _MAX_SMALL = 100, 2**20


class Contents(NamedTuple):
    """The contents of a file, and what is known of its integrity."""

    value: Any  # dicts, lists, numbers, texts and `Tensor`
    sha256: str
    integrity: str  # the checksum that was compared, in words


def load(
    path: str | os.PathLike,
    *,
    fold: Fold = None,
    max_memory: int = 2**30,
    progress: Progress | None = None,
) -> Contents:
    """Reads a file of `torch.save`.

    Args:
      path: the file.
      fold: as for `pickles.load`.
      max_memory: as for `pickles.load`; tensors are not included.
      progress: called with the number of bytes of every piece that was read.

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
            raise ValueError("it is not a file of torch.save")
        sha256, has_md5 = hashed.finish(path.name)
    return Contents(value, sha256, "MD5 in its name" if has_md5 else integrity)


def _read_legacy(path: Path, file: HashingReader, fold: Fold, max_memory: int) -> Any:
    """Reads the older format: magic, protocol, system, value and keys, then storages."""
    source, reader = ByteStream(file), TensorReader()
    source.skip(len(LEGACY_MAGIC))
    if (protocol := pickles.load(source, {})) != _LEGACY_PROTOCOL:
        raise ValueError(f"it is of the protocol {printable(protocol)}, not 1001")
    system = pickles.load(source, {})
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ValueError("it was written by a machine with another order of bytes")
    value = reader.load(source, fold, max_memory)
    keys = pickles.load(source, {})
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise ValueError("its storages have no names")
    if sorted(keys) != sorted(reader.storages):
        raise ValueError("its storages are not those of its tensors")
    for key in keys:
        storage = reader.storages[key]
        if int.from_bytes(source.take(8), "little") != storage.size:
            raise ValueError(f"the storage {printable(key)} has another size")
        storage.read = _range_reader(path, source.tell(), storage.num_bytes)
        source.skip(storage.num_bytes)
    source.finish()
    return value


def _range_reader(path: Path, offset: int, size: int) -> Callable[[], bytes]:
    """A function that reads `size` bytes of a file from `offset` on."""

    def read() -> bytes:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    return read


def _read_zip(
    path: Path, fold: Fold, max_memory: int, progress: Progress | None
) -> Any:
    """Reads the value in `NAME/data.pkl`, whose storages are `NAME/data/KEY`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members, main = _members(archive)
            folder = main.removesuffix("data.pkl")
            if f"{folder}byteorder" in members:
                order = archive.open(f"{folder}byteorder").read(16)
                if order != b"little":
                    raise ValueError("it has another order of bytes than little-endian")
            reader = TensorReader()
            with archive.open(main) as file:
                source = ByteStream(_CountingReader(file, progress))
                value = reader.load(source, fold, max_memory)
                source.finish()
            for key, storage in reader.storages.items():
                info = members.get(f"{folder}data/{key}")
                if info is None or info.file_size != storage.num_bytes:
                    raise ValueError(f"the storage {printable(key)} has another size")
                storage.read = _member_reader(path, info.filename)
            return value
    except (OSError, ValueError):
        raise
    # zipfile and zlib raise errors of many types for a damaged archive.
    except Exception as error:
        reason = printable(error, 200) or type(error).__name__
        raise ValueError(f"it is not a sound zip archive: {reason}") from error


def _members(archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """The members of an archive by name, and the name of its pickle.

    Raises: `ValueError` for duplicate names, for members that unpack to far more than
      their size, and unless there is one pickle in one folder.
    """
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
                f"{info.file_size} bytes: it is not a file of torch"
            )
    return members, mains[0]


class _CountingReader:
    """Reads a file and reports the bytes of every piece."""

    def __init__(self, file: BinaryReader, progress: Progress | None):
        self._file, self._progress = file, progress

    def read(self, size: int, /) -> bytes:
        piece = self._file.read(size)
        if self._progress:
            self._progress(len(piece))
        return piece


def _member_reader(path: Path, name: str) -> Callable[[], bytes]:
    """A function that reads a member of an archive and compares its checksum."""

    def read() -> bytes:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)

    return read
