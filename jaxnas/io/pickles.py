"""Untrusted pickles, read as data: nothing that they name is imported or run.

    value = load(ByteStream(file), PLAIN, max_memory=2**28)

A pickle is a program for a small stack machine, and two of its instructions call what
the file names. Python's own unpickler can be told to refuse names, but not to bound its
memory: it believes the sizes that a file claims, and keeps every object of a file of
gigabytes. The machine here knows the instructions that make plain values, and calls only
functions of the caller that `admitted` maps a name of the file to.

`PLAIN` admits what the benchmark files have beside plain values, `ARRAYS` NumPy arrays as
well. `pickle_machine` and `pickle_opcodes` are the implementation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnas.io.pickle_machine import Admitted, Machine
from jaxnas.io.pickle_opcodes import INSTRUCTIONS, check_keys
from jaxnas.io.streams import ByteStream, printable


class PickledObject:
    """An object of an admitted class, as data.

    Attributes:
      kind: the name of the class.
      fields: the attributes by name.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self.fields: dict[str, Any] = {}

    def build(self, state: Any) -> None:
        """Sets the attributes; `ValueError` unless `state` has them by name."""
        if type(state) is not dict or any(type(name) is not str for name in state):
            raise ValueError(f"{self.kind} has no fields by name")
        self.fields.update(state)


def load(
    source: ByteStream,
    admitted: Admitted,
    *,
    persistent_load: Callable[[Any], Any] | None = None,
    fold: tuple[str, Callable[[dict], int]] | None = None,
    max_memory: int = 2**28,
) -> Any:
    """Reads the next pickle of a stream.

    Args:
      source: the bytes; afterwards it is at the end of the pickle.
      admitted: by module and name, the function that is called with the arguments of the
        file; None for a name that may only be mentioned. A returned object with
        `build(state)` may be given a state; if it has `read_on(source, charge)` as well,
        that is called next, and takes data that follow outside of the pickle from
        `source`, after `charge(bytes)`.
      persistent_load: returns the value of a persistent id; default: ids are refused.
      fold: a key, and a function that is called with each dict as soon as it has this
        key: it may remove entries, so that less is in memory, and returns their number.
      max_memory: bytes that the values may take, roughly.

    Returns: None, a number, a text, bytes, or lists, tuples, dicts and sets of these and
      of the values that admitted functions return.
    Raises: `ValueError`, of one line, for a damaged pickle, for one that asks for a name
      that is not admitted, and for one that is too large.
    """
    machine = Machine(source, admitted, persistent_load, fold, max_memory)
    try:
        return machine.run(INSTRUCTIONS)
    except (ValueError, MemoryError, RecursionError) as error:
        reason = printable(error, 400) or "it is too large"
        raise ValueError(reason) from error
    # The errors that a stack machine meets in a damaged program.
    except (LookupError, TypeError, AttributeError, ArithmeticError, struct.error) as e:
        raise ValueError(f"its instruction at byte {source.tell()} is damaged") from e


class Dtype:
    """A NumPy dtype of numbers of at most 8 bytes.

    Attributes:
      dtype: the dtype.
    """

    def __init__(self, code: str | bytes, *flags: bool):
        code = _as_text(code)
        self.dtype = np.dtype(code if type(code) is str and len(code) < 4 else "O")
        if self.dtype.kind not in "biuf" or self.dtype.itemsize > 8:
            raise ValueError(f"it has a number of the type {printable(code)}")

    def build(self, state: tuple) -> None:
        """Sets the byte order."""
        self.dtype = self.dtype.newbyteorder(_as_text(state[1]))


class ArrayState:
    """A NumPy array of numbers in the making.

    Attributes:
      array: the array, read-only; empty until the file has given its state.
    """

    def __init__(self, kind: Any, shape: tuple, code: str | bytes):
        del kind, shape, code  # of the empty array that NumPy makes first
        self.array = np.zeros(0, bool)

    def build(self, state: tuple) -> None:
        """Sets the array from (version, shape, dtype, column-major, bytes)."""
        _, shape, dtype, by_column, raw = state
        if type(dtype) is not Dtype or type(raw) is not bytes or len(shape) > 8:
            raise ValueError("it has an array that is not of plain numbers")
        values = np.frombuffer(raw, dtype.dtype)
        self.array = values.reshape(shape, order="F" if by_column else "C")


def _as_text(code: Any) -> Any:
    """Decodes a text of Python 2, which is bytes; other values are returned as is."""
    return code.decode("latin1") if type(code) is bytes else code


def _number(dtype: Dtype, raw: bytes) -> Any:
    """A NumPy scalar, as a Python number."""
    (value,) = np.frombuffer(raw, dtype.dtype)
    return value.item()


def _bytes(text: str, encoding: str) -> bytes:
    """Bytes as protocol 2 writes them, which has only texts."""
    if encoding != "latin1":
        raise ValueError(f"it has bytes as text in {printable(encoding)}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _set(items: list) -> set:
    """A set as protocol 2 writes it."""
    check_keys(items)
    return set(items)


def _ordered(items: list | tuple = ()) -> dict:
    """An OrderedDict, empty or of pairs, as a dict, which keeps the order as well."""
    check_keys([key for key, _ in items])
    return dict(items)


# Under the names of Python 2 and 3 and of NumPy 1 and 2.
PLAIN: Admitted = {
    ("collections", "OrderedDict"): _ordered,
    ("numpy", "dtype"): Dtype,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("_codecs", "encode"): _bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
}
"""Admits ordered dicts, sets, bytes and NumPy scalars, which benchmark files have."""

ARRAYS: Admitted = {
    **PLAIN,
    ("numpy", "ndarray"): None,
    ("numpy.core.multiarray", "_reconstruct"): ArrayState,
    ("numpy._core.multiarray", "_reconstruct"): ArrayState,
}
"""Admits what `PLAIN` does, and NumPy arrays, each as an `ArrayState`."""
