"""Results on disk that are made once: content hash -> npz file, or make it.

    arrays = cached("otmann-1", digest, make=compute, load=read, save=write)

The name carries a version of the code that makes the result, the digest is of all that
the result depends on: a cached file is never stale. The cache is an optimisation only: a
file that is damaged or cannot be written costs the time of making the result again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Value = TypeVar("Value")


def cache_folder() -> Path:
    """The cache folder, which need not exist.

    It is JAXNAS_CACHE, or else `jaxnas` in XDG_CACHE_HOME, or else `~/.cache/jaxnas`
    (XDG Base Directory Specification).
    """
    if folder := os.environ.get("JAXNAS_CACHE"):
        return Path(folder)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "jaxnas"


def array_digest(*arrays: Any) -> str:
    """Hashes the contents of arrays, one after another, without shapes and types.

    Args:
      *arrays: of NumPy or JAX.

    Returns: the sha256 of their bytes in C order, hexadecimal.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def cached(
    name: str,
    digest: str,
    *,
    make: Callable[[], Value],
    load: Callable[[Path], Value | None],
    save: Callable[[Path, Value], object],
) -> Value:
    """Loads a result from the cache folder, or makes and saves it.

    Args:
      name: what is cached and the version of the code that makes it, as in a file name;
        raise the version when the result changes.
      digest: hexadecimal hash of the inputs; 16 digits of it (64 bits) go into the name.
      make: computes the result; what it raises is not caught.
      load: reads a file; it returns None, or raises `ValueError` or `KeyError`, for one
        that is missing, damaged or of other inputs.
      save: writes a file, whose folder exists; an `OSError` or `ValueError` is ignored.

    Returns: what `load` or `make` returned.
    """
    path = cache_folder() / f"{name}-{digest[:16]}.npz"
    with contextlib.suppress(ValueError, KeyError):
        value = load(path)
        if value is not None:
            return value
    value = make()
    with contextlib.suppress(OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, value)
    return value
