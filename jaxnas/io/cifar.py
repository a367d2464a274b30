"""Batch files of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), version "for Python".

They are pickles of Python 2, of a dict of `data`, the images as rows of 3072 bytes, and
`labels` or `fine_labels`. They are read as data: nothing in them is run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.io import pickles
from jaxnas.io.streams import ByteStream

_SIDE = 32
_ROOM = 2**27  # bytes of memory beyond four times the file
# By the number of classes: the file beside the batches, and its list of names.
_NAMES = {10: ("batches.meta", "label_names"), 100: ("meta", "fine_label_names")}


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Reads one batch of CIFAR-10 or CIFAR-100.

    Args:
      path: a file such as `data_batch_1` or `train`.

    Returns: images (n, 32, 32, 3) float32 in 0 to 255, labels (n,) int32 (the fine ones
      of CIFAR-100), and the number of classes, 10 or 100.
    Raises: `ValueError`, of one line, if the file is missing, damaged, or holds
      something else.
    """
    try:
        batch = _read_dict(path)
        key, classes = (
            ("fine_labels", 100) if "fine_labels" in batch else ("labels", 10)
        )
        data, labels = batch.get("data"), batch.get(key)
        data = data.array if isinstance(data, pickles.ArrayState) else None
        if data is None or data.dtype != np.uint8 or data.shape[1:] != (3 * _SIDE**2,):
            raise ValueError("it has no data (n, 3072) of bytes")
        if type(labels) is not list or {*map(type, labels)} != {int}:
            raise ValueError(f"it has no list of {key}")
        if len(labels) != len(data) or not 0 <= min(labels) <= max(labels) < classes:
            raise ValueError(f"it has {len(data)} images and other {key}")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a batch of CIFAR: {error}") from error
    x = data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return x.astype(np.float32), np.array(labels, np.int32), classes


def read_class_names(folder: Path, num_classes: int) -> tuple[str, ...]:
    """Reads the names of the classes from the file of names beside the batches.

    Args:
      folder: of the batches.
      num_classes: 10, names from `batches.meta`, or 100, fine names from `meta`.

    Returns:
      (num_classes,) names; () if there is no such file.

    Raises: `ValueError`, in one line, for a file that is damaged or of another kind.
    """
    file, key = _NAMES[num_classes]
    path = folder / file
    try:
        if not path.exists():
            return ()
        names = _read_dict(path).get(key)
        if type(names) is not list or len(names) != num_classes:
            raise ValueError(f"it has no list {key} of {num_classes}")
        names = [name.decode() if type(name) is bytes else name for name in names]
        if {*map(type, names)} != {str}:
            raise ValueError(f"{key} has something other than texts")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path} has no class names of CIFAR: {error}") from error
    return tuple(names)


def _read_dict(path: Path) -> dict[str, Any]:
    """Reads a pickled dict as data.

    Raises: `OSError` if the file cannot be read, `ValueError` for a damaged pickle and
      for one of something else.
    """
    # Opening a pipe or a device could block forever.
    if path.exists() and not path.is_file():
        raise OSError("it is not a regular file")
    with open(path, "rb") as file:
        # The pixels are one text. In protocol 2 of Python 3 it is charged four times.
        limit = 4 * os.fstat(file.fileno()).st_size + _ROOM
        source = ByteStream(file, max_text=limit)
        content = pickles.load(source, pickles.ARRAYS, max_memory=limit)
    if type(content) is not dict:
        raise ValueError("it is not a dict")
    # Python 2 wrote the keys as bytes.
    return {k.decode() if type(k) is bytes else k: v for k, v in content.items()}
