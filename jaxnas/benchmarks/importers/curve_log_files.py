"""Parts of raw files of learning curves: pickles, folders of JSON files, single curves.

Every function raises `ValueError` of one line, those that read a file with its name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.io import joblib_files
from jaxnas.io.streams import named_errors, printable

_MAX_JSON = 2**24


def pickled_dict(
    path: str | os.PathLike, fold: tuple[str, Callable[[dict], int]] | None = None
) -> tuple[dict, str]:
    """Reads a pickle that is a dict.

    Args:
      path: the file.
      fold: as for `pickles.load`: removes what is not needed while it is read.

    Returns: the dict, and the SHA-256 of the file.
    Raises: `ValueError` if it is missing, damaged, or holds anything else.
    """
    content, digest = joblib_files.load(path, joblib_files.ARRAYS, fold=fold)
    if type(content) is not dict or not content:
        raise ValueError(f"{path}: wanted a dict by cell, found {printable(content)}")
    return content, digest


def find_files(folder: Path, pattern: str) -> list[Path]:
    """Finds files by a pattern.

    Args:
      folder: is searched with all folders in it.
      pattern: as `Path.rglob` takes it.

    Returns: the files, sorted by path.
    Raises: `ValueError` if there is no such folder or file.
    """
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise ValueError(f"{what}: {folder}")
    with named_errors(folder):
        paths = sorted(path for path in folder.rglob(pattern) if path.is_file())
    if not paths:
        raise ValueError(f"{folder}: no file {pattern} in it or in its folders")
    return paths


def json_object(path: Path, folder: Path, hashed: Any) -> dict[str, Any]:
    """Reads a file that is a JSON object.

    Args:
      path: the file.
      folder: that all files are in.
      hashed: a hash of hashlib, to which the file's path in `folder` and its SHA-256 are
        added as one line.

    Raises: `ValueError` for other files, and for those of more than 16 MiB.
    """
    with named_errors(path), open(path, "rb") as file:
        raw = file.read(_MAX_JSON + 1)
        if len(raw) > _MAX_JSON:
            raise ValueError(f"it has more than {_MAX_JSON} bytes")
        try:
            content = json.loads(raw.decode())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"damaged JSON: {printable(error, 200)}") from error
        if type(content) is not dict:
            raise ValueError(f"wanted a JSON object, found {printable(content)}")
        digest = hashlib.sha256(raw).hexdigest()
        hashed.update(f"{path.relative_to(folder)} {digest}\n".encode())
        return content


def curve_of(values: Any, epochs: int, *, shorter: bool = False) -> np.ndarray:
    """A curve (epochs,) of finite numbers.

    Args:
      values: from a file.
      epochs: wanted length.
      shorter: continue a shorter curve by its last value.

    Raises: `ValueError` for another length, or for values that are not finite numbers.
    """
    try:
        curve = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError("its learning curve is not of numbers") from None
    fits = 0 < len(curve) <= epochs if shorter else len(curve) == epochs
    if curve.ndim != 1 or not fits:
        raise ValueError(
            f"its learning curve has the shape {curve.shape}, where {epochs} were wanted"
        )
    finite = np.isfinite(curve)
    if not finite.all():
        epoch = 1 + int(np.argmin(finite))
        raise ValueError(f"its learning curve is not finite after {epoch} epochs")
    return np.pad(curve, (0, epochs - len(curve)), mode="edge")
