"""Files from outside, a piece at a time: checksums, bounded unpacking, progress."""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

_CHUNK = 2**20
MAX_TEXT = 2**24  # Bytes of one text; nothing that we read comes near.
# The official files say in their names how their MD5 ends. That the six digits are these
# was checked by others for v1_1, whose MD5 is 55e847143ce1f7c2d89b676f6b096897.
_SAYS_DIGEST = re.compile(r"NAS-Bench-201-v\d+_\d+-([0-9a-f]{6})\.pth")

Progress = Callable[[int], object]


class BinaryReader(Protocol):
    """What all readers here read from, and are."""

    def read(self, size: int, /) -> bytes: ...


def printable(value: object, length: int = 80) -> str:
    """A value from a file in one line that cannot grow without bound."""
    # A tuple of tuples can be of few bytes and print for ever: its type says enough.
    plain = str, bytes, int, float, type(None), BaseException
    text = str(value) if isinstance(value, plain) else type(value).__name__
    cut = text if len(text) <= length else text[: length - 3] + "..."
    return "".join(c if c.isprintable() else "?" for c in cut)


@contextlib.contextmanager
def named_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns what a damaged file makes a reader raise into a `ValueError` of one line."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # A reader that asks each value for its type would be nothing else.
        reason = printable(error) or type(error).__name__
        raise ValueError(f"{path}: it is not of the right form: {reason}") from error
    except MemoryError as error:
        raise ValueError(f"{path}: it does not fit into memory") from error


class ByteStream:
    """The bytes of an open file, a piece at a time.

    Args:
      file: is read from where it stands.
    """

    def __init__(self, file: BinaryReader):
        self._file, self._before = file, 0
        self.data, self.at, self.ended = b"", 0, False

    def more(self) -> None:
        """Reads on; what is before `at` is forgotten."""
        piece = self._file.read(_CHUNK)
        self.ended = not piece
        self._before += self.at
        self.data, self.at = self.data[self.at :] + piece, 0

    def tell(self) -> int:
        return self._before + self.at

    def take(self, size: int) -> bytes:
        """The next bytes; a claimed size costs nothing that the file does not have."""
        if not 0 <= size <= MAX_TEXT:
            raise ValueError(f"it has a text of {size} bytes")
        while len(self.data) - self.at < size and not self.ended:
            self.more()
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            raise ValueError("it ends in the middle")
        self.at += size
        return taken

    def skip(self, size: int) -> None:
        while (there := len(self.data) - self.at) < size and not self.ended:
            self.at, size = len(self.data), size - there
            self.more()
        if there < size:
            raise ValueError("it ends in the middle")
        self.at += size

    def finish(self) -> None:
        """`ValueError` if anything is left."""
        while not self.ended and self.at == len(self.data):
            self.more()
        if self.at < len(self.data):
            raise ValueError("it goes on behind its end")

    def line(self) -> bytes:
        while (end := self.data.find(b"\n", self.at)) < 0 and not self.ended:
            if len(self.data) - self.at > _CHUNK:
                raise ValueError("it has a line of more than a million bytes")
            self.more()
        if end < 0:
            raise ValueError("it ends in the middle")
        line, self.at = self.data[self.at : end], end + 1
        return line


class HashingReader:
    """A file that is read once from its start to its end, and its checksums.

    Args:
      file: open, at its start.
      progress: is told of every piece how many bytes it has.
    """

    def __init__(self, file: BinaryIO, progress: Progress | None = None):
        self._file, self._progress = file, progress
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        piece = self._file.read(size)
        self._md5.update(piece)
        self._sha256.update(piece)
        if self._progress:
            self._progress(len(piece))
        return piece

    def finish(self, name: str) -> tuple[str, bool]:
        """Reads what is left.

        Args:
          name: of the file; one like `NAS-Bench-201-v1_1-096897.pth` promises how the
            MD5 ends.

        Returns: the SHA-256, and whether the name promised an MD5 and it is the one.
        Raises: `ValueError` if the MD5 is another.
        """
        while self.read(_CHUNK):
            pass
        says, found = _SAYS_DIGEST.fullmatch(name), self._md5.hexdigest()
        if says and not found.endswith(says[1]):
            raise ValueError(
                f"it is damaged, or renamed: its name says that its MD5 ends in "
                f"{says[1]}, and it is {found}"
            )
        return self._sha256.hexdigest(), says is not None


class Bz2Reader:
    """What a bz2 file unpacks to, never more than a stated number of bytes."""

    def __init__(self, file: BinaryReader, max_bytes: int):
        self._file, self._left, self._max_bytes = file, max_bytes, max_bytes
        self._bz2 = bz2.BZ2Decompressor()

    def read(self, size: int, /) -> bytes:
        while not self._bz2.eof:
            packed = self._file.read(_CHUNK) if self._bz2.needs_input else b""
            if self._bz2.needs_input and not packed:
                raise ValueError("it ends in the middle")
            try:
                piece = self._bz2.decompress(packed, size)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"it is no sound bz2 file: {printable(error)}"
                ) from error
            self._left -= len(piece)
            if self._left < 0:
                raise ValueError(f"it unpacks to more than {self._max_bytes} bytes")
            if piece:
                return piece
        return b""

    def finish(self) -> None:
        """`ValueError` if the packed file goes on behind what was read to its end."""
        if self._bz2.unused_data or self._file.read(1):
            raise ValueError("it goes on behind its end")
