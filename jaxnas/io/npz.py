"""Arrays on disk: npz files of arrays with a JSON manifest, written atomically.

    save_arrays("scores.npz", {"score": score}, {"dataset": "digits"})
    arrays, manifest = load_arrays("scores.npz")

An npz here is a zip of plain `.npy` arrays, which `numpy.load` reads with
`allow_pickle=False`, as this module does: nothing is ever unpickled. One member,
`manifest`, is a () string array that holds a JSON object. The size that the arrays take
in memory is bounded before anything is unpacked, and checksums are compared.
"""

from __future__ import annotations

import hashlib
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
MAX_BYTES = 2**31
"""Most bytes that a file may unpack to, unless the caller says otherwise."""
_SUFFIX = ".npy"
# bool, signed, unsigned, float, complex, bytes, text: the kinds that need no pickle.
_KINDS = "biufcSU"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def save_arrays(
    path: str | os.PathLike, arrays: Mapping[str, Any], manifest: Mapping[str, Any]
) -> None:
    """Writes named arrays (NumPy or JAX, of any shapes) and a manifest, atomically.

    Equal arrays and manifests give equal bytes.

    Args:
      path: the npz file; its folder must exist.
      arrays: by name, which must not be `manifest`.
      manifest: a JSON object: text keys, and plain values without NaN or infinity.

    Raises: `ValueError` for arrays that an npz cannot hold without pickling, for a
      manifest that is not JSON, and if the file cannot be written.
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
    """Reads what `save_arrays` wrote.

    Args:
      path: the npz file.
      skip: says by name which arrays to leave unread; default: none of them.
      max_bytes: most bytes that the file's arrays, read or not, may take in memory.

    Returns: the arrays by name, and the manifest.
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
    """Reads arrays of any npz file, and checks that they are sound.

    Args:
      path: the file.
      names: the arrays to read; default: all but those of which `skip(name)` is true.
      skip: says by name which arrays to leave unread.
      max_bytes: most bytes that the file's arrays may declare to take in memory.

    Returns: the arrays by name.
    Raises: `ValueError`, of one line that names the file, if it is missing or damaged,
      lacks an array of `names`, or has arrays of Python objects.
    """
    return _read_file(path, names, skip=skip, max_bytes=max_bytes)[0]


def read_npz_and_digest(
    path: str | os.PathLike, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], str]:
    """`read_npz`, and the SHA-256 of the file's content, in hexadecimal."""
    return _read_file(path, names, digest=True)


def _read_file(
    path: str | os.PathLike,
    names: Sequence[str] | None,
    *,
    skip: Callable[[str], bool] | None = None,
    max_bytes: int = MAX_BYTES,
    digest: bool = False,
) -> tuple[dict[str, np.ndarray], str]:
    """The arrays, and the digest if it is asked for; the file is opened once."""
    path = Path(path)
    with files.reading(path):  # a name can be too long to ask
        if not path.is_file():
            what = "not a file" if path.exists() else "no such file"
            raise ValueError(f"{what}: {path}")
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest() if digest else ""
            with zipfile.ZipFile(file) as archive:
                members = _members(archive, max_bytes)
                if names is None:
                    names = [name for name in members if not (skip and skip(name))]
                if all(name in members for name in names):
                    arrays = {name: _read(archive, members[name]) for name in names}
                    return arrays, sha256
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    # zlib, zipfile and NumPy raise errors of many types for a damaged file.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is not a sound npz file: {reason}") from error
    raise ValueError(
        f"{path}: wanted the arrays {', '.join(names)}, found {_listed(members)}"
    )


def _listed(names: Mapping[str, Any]) -> str:
    """The names in one line of bounded length, whatever the file says."""
    text = ", ".join(sorted(names))[:300]
    return "".join(c if c.isprintable() else "?" for c in text) or "none"


def _members(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The arrays of the archive by name, before a byte of them is unpacked.

    Raises: `ValueError` for duplicate names, and for a declared size above `max_bytes`.
    """
    infos = archive.infolist()
    members = {info.filename.removesuffix(_SUFFIX): info for info in infos}
    if len(members) != len(infos):
        raise ValueError("it has two members of the same name")
    declared = sum(info.file_size for info in infos)
    if declared > max_bytes:
        raise ValueError(f"it unpacks to {declared} bytes, more than {max_bytes}")
    return members


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Reads one array; its header may claim neither objects nor data beyond the file."""
    with archive.open(info) as member:
        # The size bounds what is unpacked, and reading up to it compares the checksum.
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
