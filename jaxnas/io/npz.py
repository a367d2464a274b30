"""Arrays on disk: npz files of arrays with a JSON manifest, written atomically.

An npz here is a zip of plain `.npy` arrays, which `numpy.load` reads with
`allow_pickle=False`, as this module does: nothing is ever unpickled. One member,
`manifest`, is a () string array that holds a JSON object.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxnas.io import files

MANIFEST = "manifest"
# What a file may unpack to, unless the reader says otherwise.
MAX_BYTES = 2**31
_SUFFIX = ".npy"
# bool, signed, unsigned, float, complex, bytes, text: all that needs no pickle.
_KINDS = "biufcSU"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def save_arrays(
    path: str | os.PathLike, arrays: Mapping[str, Any], manifest: Mapping[str, Any]
) -> None:
    """Writes named arrays (NumPy or JAX, of any shapes) and a manifest, atomically.

    Args:
      path: the npz file; its folder must exist.
      arrays: what `load_arrays` gives back, by name; `manifest` is not free.
      manifest: a JSON object: text keys, and plain values.

    Raises: `ValueError` for what an npz cannot hold without pickling, for a manifest
      that is not JSON, and if the file cannot be written.
    """
    members = {name: np.asarray(value) for name, value in arrays.items()}
    for name, value in members.items():
        if not name or name == MANIFEST:
            raise ValueError(f"{path}: an array cannot be called {name!r}")
        if value.dtype.kind not in _KINDS:
            raise ValueError(f"{path}: {name} is {value.dtype}, wanted numbers or text")
    try:
        text = json.dumps(dict(manifest), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the manifest is not JSON: {error}") from error
    members[MANIFEST] = np.array(text)

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, value in members.items():
                with archive.open(name + _SUFFIX, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, value, allow_pickle=False)

    files.atomic_write(path, write)


def load_arrays(
    path: str | os.PathLike,
    *,
    skip: Callable[[str], bool] | None = None,
    max_bytes: int = MAX_BYTES,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `save_arrays` wrote: the arrays by name, and the manifest.

    Args:
      skip: tells from the name of an array that it is not wanted; default: none is.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged,
      has no manifest or one with numbers that are not finite, or would unpack to more
      than `max_bytes`.
    """
    arrays = read_npz(path, skip=skip, max_bytes=max_bytes)
    if MANIFEST not in arrays:
        raise ValueError(
            f"{path} was not written by jaxnas: wanted an array '{MANIFEST}', "
            f"found {_listed(arrays)}"
        )
    text = arrays.pop(MANIFEST)
    try:
        manifest = json.loads(str(text)) if text.shape == () else None
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise ValueError(
            f"{path}: wanted a JSON object as manifest, found {text.dtype} {text.shape}"
        )
    try:
        json.dumps(manifest, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: the manifest has a number that is not finite"
        ) from error
    return arrays, manifest


def read_npz(
    path: str | os.PathLike,
    names: Sequence[str] | None = None,
    *,
    skip: Callable[[str], bool] | None = None,
    max_bytes: int = MAX_BYTES,
) -> dict[str, np.ndarray]:
    """The plain arrays of any npz file, by name, after checking that they are sound.

    Args:
      path: the file.
      names: the arrays to read; default: all but those of which `skip(name)` is true.
      max_bytes: the most that the file's arrays may declare to take in memory.

    Raises: `ValueError`, of one line that names the file, what was wanted and found.
    """
    path = Path(path)
    with files.reading(path):  # a name can be too long to ask
        if not path.is_file():
            what = "not a file" if path.exists() else "no such file"
            raise ValueError(f"{what}: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            found = _members(archive, max_bytes)
            wanted = names
            if wanted is None:
                wanted = [name for name in found if not (skip and skip(name))]
            if all(name in found for name in wanted):
                return {name: _read(archive, found[name]) for name in wanted}
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    # Whatever a damaged file makes zlib, zipfile or NumPy raise.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is not a sound npz file: {reason}") from error
    raise ValueError(
        f"{path}: wanted the arrays {', '.join(wanted)}, found {_listed(found)}"
    )


def _listed(names: Mapping[str, Any]) -> str:
    """The names in one line that cannot grow without bound, whatever the file says."""
    text = ", ".join(sorted(names))[:300]
    return "".join(c if c.isprintable() else "?" for c in text) or "none"


def _members(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The arrays of the archive by name, before a byte of them is unpacked."""
    infos = archive.infolist()
    found = {info.filename.removesuffix(_SUFFIX): info for info in infos}
    if len(found) != len(infos):
        raise ValueError("it has two members of the same name")
    declared = sum(info.file_size for info in infos)
    if declared > max_bytes:
        raise ValueError(f"it unpacks to {declared} bytes, more than {max_bytes}")
    return found


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array; the header may claim neither objects nor more than there is."""
    with archive.open(info) as member:
        # A size bounds what is unpacked, and reading up to it compares the checksum.
        data = member.read(info.file_size)
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{info.filename} is an array of format {version}")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.kind not in _KINDS:
        raise ValueError(f"{info.filename} holds {dtype}, not numbers or text")
    size, claimed = len(data) - stream.tell(), math.prod(shape) * dtype.itemsize
    if claimed != size:
        raise ValueError(f"{info.filename} claims {claimed} bytes and has {size}")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)
