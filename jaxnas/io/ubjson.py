"""A reader of Universal Binary JSON (draft 12, ubjson.org), as XGBoost writes it.

Typed arrays become NumPy arrays, everything else plain Python objects. Nothing is
executed, and no length in the file is trusted before its bytes are seen to be there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Big-endian numbers, by marker.
_NUMBERS = {
    **{b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8"},
    **{b"d": ">f4", b"D": ">f8"},
}
_INTEGERS = b"iUIlL"
_CONSTANTS = {b"Z": None, b"T": True, b"F": False}
_DEEPEST = 64


class _Reader:
    """A position in the bytes.

    Every read raises `ValueError`, of one line that names the byte, unless all requested
    bytes are left.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name, self.at = data, name, 0

    def error(self, what: str) -> ValueError:
        return ValueError(f"{self.name}: damaged UBJSON at byte {self.at}: {what}")

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        taken = self.data[self.at : self.at + size]
        if len(taken) != size:
            raise self.error(f"{size} bytes were wanted, and {len(taken)} are left")
        self.at += size
        return taken

    def peek(self) -> bytes:
        return self.data[self.at : self.at + 1]

    def length(self) -> int:
        """A length, which is an integer of any of the types."""
        mark = self.take(1)
        if mark not in _INTEGERS:
            raise self.error(f"{mark!r} is not a type of a length")
        size = int(self.numbers(mark, 1)[0])
        if not 0 <= size <= len(self.data):
            raise self.error(f"a length of {size}")
        return size

    def numbers(self, mark: bytes, count: int) -> np.ndarray:
        """`count` numbers of a type, as an array in the machine's byte order."""
        dtype = np.dtype(_NUMBERS[mark])
        values = np.frombuffer(self.take(dtype.itemsize * count), dtype)
        return values.astype(dtype.newbyteorder("="))

    def text(self) -> str:
        """A text in UTF-8 after its length."""
        try:
            return self.take(self.length()).decode()
        except UnicodeDecodeError:
            raise self.error("a text that is not UTF-8") from None


def loads(data: bytes, name: str = "UBJSON") -> Any:
    """The value that `data` holds.

    Args:
      data: the whole file, and nothing after the value.
      name: what error messages call it.

    Returns: dicts, lists, texts, numbers, True, False and None; an array with a type of
      number is a NumPy array (n,).
    Raises: `ValueError`, of one line that names the byte, for data that is cut off, has
      an unknown marker, is nested deeper than 64 levels or goes on after the value.
    """
    reader = _Reader(bytes(data), name)
    value = _value(reader, reader.take(1), 0)
    if reader.at != len(reader.data):
        raise reader.error("more bytes than the value has")
    return value


def _value(reader: _Reader, mark: bytes, depth: int) -> Any:
    """The value after a marker.

    Args:
      reader: at the byte after the marker.
      mark: the marker, one byte.
      depth: how many containers the value is in.
    """
    if depth > _DEEPEST:
        raise reader.error(f"nested deeper than {_DEEPEST} levels")
    if mark in _CONSTANTS:
        return _CONSTANTS[mark]
    if mark in _NUMBERS:
        return reader.numbers(mark, 1)[0].item()
    if mark == b"S":
        return reader.text()
    if mark == b"C":
        return chr(reader.take(1)[0])
    if mark == b"[":
        return _array(reader, depth + 1)
    if mark == b"{":
        return _object(reader, depth + 1)
    raise reader.error(f"unknown marker {mark!r}")


def _header(reader: _Reader) -> tuple[bytes | None, int | None]:
    """The optional beginning of a container.

    Returns: the type of all its values, and their count; None for what is not given. A
      type needs a count.
    """
    kind = count = None
    if reader.peek() == b"$":
        reader.take(1)
        kind = reader.take(1)
        if reader.peek() != b"#":
            raise reader.error("a type without a count")
    if reader.peek() == b"#":
        reader.take(1)
        count = reader.length()
    return kind, count


def _array(reader: _Reader, depth: int) -> list | np.ndarray:
    """A list, or an array (n,) of numbers of one type."""
    kind, count = _header(reader)
    if kind in _NUMBERS and count is not None:
        return reader.numbers(kind, count)
    if count is not None:
        return [_value(reader, kind or reader.take(1), depth) for _ in range(count)]
    values = []
    while (mark := reader.take(1)) != b"]":
        values.append(_value(reader, mark, depth))
    return values


def _object(reader: _Reader, depth: int) -> dict[str, Any]:
    """A dict; keys are distinct texts without a marker."""
    kind, count = _header(reader)
    members: dict[str, Any] = {}
    while count is None or len(members) < count:
        if count is None and reader.peek() == b"}":
            reader.take(1)
            break
        key = reader.text()
        if key in members:
            raise reader.error(f"{key!r} is there twice")
        members[key] = _value(reader, kind or reader.take(1), depth)
    return members
