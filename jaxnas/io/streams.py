"""Readers of untrusted files, a piece at a time: checksums, bounded unpacking, progress.

Readers stack: `ByteStream(Unpacked(HashingReader(file), limit, bz2=True))` reads a packed
pickle once, from its start to its end, and knows the checksum of the file afterwards. No
reader allocates more than the file has or than a stated bound, whatever sizes the file
claims.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zlib
from bz2 import BZ2Decompressor
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

_CHUNK = 2**20  # bytes of a piece
MAX_TEXT = 2**24
"""Bytes of one text by default; nothing in benchmark files comes near."""
# The names of the official files end in the last six digits of their MD5. This has been
# checked for v1_1, whose MD5 is 55e847143ce1f7c2d89b676f6b096897.
_NAME_WITH_MD5 = re.compile(r"NAS-Bench-201-v\d+_\d+-([0-9a-f]{6})\.pth")

Progress = Callable[[int], object]
"""Called with the number of bytes of each piece that was read."""


class BinaryReader(Protocol):
    """Minimal binary-reader protocol."""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes, and none only at the end."""
        ...


def printable(value: object, length: int = 80) -> str:
    """Formats a value of an untrusted file for a message.

    Args:
      value: anything; of containers only the type is named.
      length: most characters of the text; a longer one is cut.

    Returns: one line without control characters.
    """
    # A tuple of tuples can take few bytes and print for ever: its type says enough.
    plain = str, bytes, int, float, type(None), BaseException
    text = str(value) if isinstance(value, plain) else type(value).__name__
    cut = text if len(text) <= length else text[: length - 3] + "..."
    return "".join(c if c.isprintable() else "?" for c in cut)


@contextlib.contextmanager
def named_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns what a damaged file makes a reader raise into a `ValueError` of one line.

    Args:
      path: the file, which the message begins with.

    Raises: `ValueError` for `OSError`, `ValueError`, `MemoryError`, and the errors of
      operations on values of unexpected types; others pass.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # Cheaper than checking the type of each value before it is used.
        reason = printable(error) or type(error).__name__
        raise ValueError(f"{path}: it is not of the right form: {reason}") from error
    except MemoryError as error:
        raise ValueError(f"{path}: it does not fit into memory") from error


class ByteStream:
    """The bytes of an open file, with a buffer that parsers may look into.

    The pickle machine reads `data` from `position` itself, which is much faster than a
    call for each instruction.

    Args:
      file: is read from its current position on.
      max_text: most bytes that `take` returns at once.

    Attributes:
      data: the bytes in the buffer.
      position: of the next byte in `data`.
      ended: whether the file has no more bytes than those in the buffer.
    """

    def __init__(self, file: BinaryReader, max_text: int = MAX_TEXT):
        self._file, self._before, self._max_text = file, 0, max_text
        self.data, self.position, self.ended = b"", 0, False

    def read_more(self) -> None:
        """Appends a piece to the buffer and drops the bytes before `position`."""
        piece = self._file.read(_CHUNK)
        self.ended = not piece
        self._before += self.position
        self.data, self.position = self.data[self.position :] + piece, 0

    def tell(self) -> int:
        """The number of bytes before `position`, since the stream was made."""
        return self._before + self.position

    def take(self, size: int) -> bytes:
        """Returns the next `size` bytes, without allocating more than the file has.

        Raises: `ValueError` if there are fewer, or `size` is out of 0 to `max_text`.
        """
        if not 0 <= size <= self._max_text:
            raise ValueError(f"it has a text of {size} bytes")
        taken = self.data[self.position : self.position + size]
        self.position += len(taken)
        return taken if len(taken) == size else self._take_across(taken, size)

    def _take_across(self, first: bytes, size: int) -> bytes:
        """Returns `size` bytes that begin with `first`, the last ones of the buffer."""
        # Joined once: growing the buffer would copy it for each piece.
        pieces, missing = [first], size - len(first)
        while missing and not self.ended:
            self.read_more()
            pieces.append(self.data[:missing])
            self.position = len(pieces[-1])
            missing -= self.position
        if missing:
            raise ValueError("it ends in the middle")
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Moves on by `size` bytes; `ValueError` if there are fewer."""
        while (buffered := len(self.data) - self.position) < size and not self.ended:
            self.position, size = len(self.data), size - buffered
            self.read_more()
        if buffered < size:
            raise ValueError("it ends in the middle")
        self.position += size

    def finish(self) -> None:
        """Raises `ValueError` unless the file ends here."""
        while not self.ended and self.position == len(self.data):
            self.read_more()
        if self.position < len(self.data):
            raise ValueError("it continues after its end")

    def line(self) -> bytes:
        """Returns the bytes before the next newline, and moves past it.

        Raises: `ValueError` if there is none, or the line has more than about 2^20 bytes.
        """
        while (end := self.data.find(b"\n", self.position)) < 0 and not self.ended:
            if len(self.data) - self.position > _CHUNK:
                raise ValueError("it has a line of more than a million bytes")
            self.read_more()
        if end < 0:
            raise ValueError("it ends in the middle")
        line, self.position = self.data[self.position : end], end + 1
        return line


class HashingReader:
    """Computes the checksums of a file while it is read from its start to its end.

    Args:
      file: open, at its start.
      progress: called with the number of bytes of every piece.
    """

    def __init__(self, file: BinaryIO, progress: Progress | None = None):
        self._file, self._progress = file, progress
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """As the file's own `read`."""
        piece = self._file.read(size)
        self._md5.update(piece)
        self._sha256.update(piece)
        if self._progress:
            self._progress(len(piece))
        return piece

    def finish(self, name: str) -> tuple[str, bool]:
        """Reads the rest of the file and compares its checksum with its name.

        Args:
          name: of the file; one like `NAS-Bench-201-v1_1-096897.pth` has the last digits
            of the MD5.

        Returns: the SHA-256, and whether the name has digits of the MD5.
        Raises: `ValueError` if the MD5 ends in other digits.
        """
        while self.read(_CHUNK):
            pass
        expected, md5 = _NAME_WITH_MD5.fullmatch(name), self._md5.hexdigest()
        if expected and not md5.endswith(expected[1]):
            raise ValueError(
                f"it is damaged, or renamed: its name says that its MD5 ends in "
                f"{expected[1]}, and it is {md5}"
            )
        return self._sha256.hexdigest(), expected is not None


class Unpacked:
    """The content of a bz2, zlib or gzip stream, up to a stated number of bytes.

    Args:
      file: the packed bytes.
      max_bytes: most bytes that may be unpacked.
      bz2: whether the packing is bz2, and not that of zlib or gzip.
    """

    def __init__(self, file: BinaryReader, max_bytes: int, *, bz2: bool):
        self._file, self._left, self._max_bytes = file, max_bytes, max_bytes
        self._packing = BZ2Decompressor() if bz2 else _ZlibDecompressor()

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` unpacked bytes, and none at the end.

        Raises: `ValueError` for a damaged stream, one that unpacks to too much, and a file
          that continues after the stream.
        """
        while not self._packing.eof:
            packed = self._file.read(_CHUNK) if self._packing.needs_input else b""
            if self._packing.needs_input and not packed:
                raise ValueError("it ends in the middle")
            try:
                piece = self._packing.decompress(packed, size)
            except (OSError, ValueError, zlib.error) as error:
                raise ValueError(
                    f"its packing is damaged: {printable(error)}"
                ) from error
            self._left -= len(piece)
            if self._left < 0:
                raise ValueError(f"it unpacks to more than {self._max_bytes} bytes")
            if piece:
                return piece
        if self._packing.unused_data or self._file.read(1):
            raise ValueError("it continues after its end")
        return b""


class _ZlibDecompressor:
    """A stream of zlib or gzip, with the interface of `BZ2Decompressor`."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, packed: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + packed, max_length)
