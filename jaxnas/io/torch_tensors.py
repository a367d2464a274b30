"""Tensors of torch in a pickle: views of storages, which are elsewhere in the file.

torch pickles a tensor as a call of `_rebuild_tensor_v2` with a persistent id that names
its storage, an offset, a shape and strides. `TensorReader` reads such pickles; a
reader of the file format sets `Storage.read`, and `Tensor.numpy` reads the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnas.io import pickles
from jaxnas.io.pickle_machine import Admitted, GlobalName
from jaxnas.io.streams import ByteStream, printable

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
Fold = tuple[str, Callable[[dict], int]] | None
"""The `fold` of `pickles.load`."""


class Storage:
    """A run of numbers in the file.

    Attributes:
      key: its name in the file.
      dtype: of the numbers.
      size: their number.
      read: returns their bytes; None until the file has been read to its end.
    """

    def __init__(self, key: str, dtype: np.dtype, size: int):
        self.key, self.dtype, self.size = key, dtype, size
        self.read: Callable[[], bytes] | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file, unread until `numpy` is called.

    Attributes:
      storage: the numbers.
      offset: of the first number in the storage.
      shape: the size of each axis.
      stride: numbers from one index to the next, by axis.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def numpy(self) -> np.ndarray:
        """Reads the numbers from the file, which must not have moved.

        Raises: `ValueError` if the storage or the file has fewer numbers than the shape
          says; `OSError` if the file cannot be read any more.
        """
        storage, shape = self.storage, self.shape
        steps = zip(shape, self.stride, strict=True)
        last = self.offset + sum((n - 1) * s for n, s in steps)
        size = math.prod(shape)
        if size > storage.size or (size and last >= storage.size):
            raise ValueError(f"a tensor {shape} is larger than its storage")
        raw = storage.read() if storage.read else b""
        if len(raw) != storage.num_bytes:
            raise ValueError(f"the storage {printable(storage.key)} has another size")
        flat = np.frombuffer(raw, storage.dtype)[self.offset if size else 0 :]
        strides = [s * storage.dtype.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(flat, shape, strides).copy()


class TensorReader:
    """Reads pickles with tensors, and collects the storages that they name.

    Attributes:
      storages: by key.
    """

    def __init__(self):
        self.storages: dict[str, Storage] = {}
        self._admitted: Admitted = {
            **pickles.PLAIN,
            **{("torch", name): None for name in _STORAGES},
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("torch", "Size"): tuple,
        }

    def load(self, source: ByteStream, fold: Fold, max_memory: int) -> Any:
        """Reads a pickle; arguments as for `pickles.load`."""
        return pickles.load(
            source,
            self._admitted,
            persistent_load=self._storage,
            fold=fold,
            max_memory=max_memory,
        )

    def _storage(self, identity: Any) -> Storage:
        """The storage of a persistent id ("storage", type, key, device, size, view)."""
        if type(identity) is not tuple or len(identity) < 5:
            raise ValueError("it refers to a value that is not a storage")
        word, kind, key, _, size, *view = identity
        if word != "storage" or type(kind) is not GlobalName or type(size) is not int:
            raise ValueError("it refers to a value that is not a storage")
        if kind.name not in _STORAGES or type(key) is not str or any(view):
            kind_name = printable(kind.name)
            raise ValueError(f"it has a storage of an unknown kind, {kind_name}")
        dtype = np.dtype(_STORAGES[kind.name])
        storage = self.storages.setdefault(key, Storage(key, dtype, size))
        if size < 0 or (storage.dtype, storage.size) != (dtype, size):
            raise ValueError(f"it has two storages called {printable(key)}")
        return storage

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_) -> Tensor:
        """The arguments of `torch._utils._rebuild_tensor_v2`, as a tensor."""
        sound = type(storage) is Storage and type(shape) is type(stride) is tuple
        if not sound or len(shape) != len(stride) or len(shape) > 32:
            raise ValueError("it has a tensor without storage, shape or strides")
        if any(type(n) is not int or n < 0 for n in (offset, *shape, *stride)):
            raise ValueError("it has a tensor whose shape is not of integers")
        return Tensor(storage, offset, shape, stride)
