"""Files and folders: atomic writes, and errors that name the file and the cause.

Whatever cannot be read or written is a `ValueError` of one line, "cannot write FILE:
CAUSE", for a command to show as it is.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO


def atomic_write(
    path: str | os.PathLike, content: bytes | Callable[[BinaryIO], object]
) -> None:
    """Writes a file so that a reader sees the old content or all of the new.

    The content goes to a temporary file beside it, is flushed to disk, and replaces the
    file by a rename. The permissions of an existing file are kept, and a symbolic link is
    followed.

    Args:
      path: the file; its folder must exist.
      content: the bytes, or a function that writes them to the open file it is given.

    Raises: `ValueError` that names the file and the cause if it cannot be written: a
      full disk, a name too long, no permission. On any error the old file stays as it
      was and nothing is left beside it (but a killed process can leave a hidden `.tmp`).
    """
    target = Path(os.path.realpath(path))
    # Cut, so that the longest name of a file leaves room for the rest of this one.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        mode = _permissions(target)
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    # The rename is on disk once the folder is; not every system can sync a folder.
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _permissions(path: Path) -> int | None:
    """The permission bits of a file; None if there is none. Raises `OSError`."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def write_csv(
    path: str | os.PathLike, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Writes a CSV file (RFC 4180 quoting, "\\n" line ends, UTF-8) atomically.

    Args:
      path: the file; its folder must exist.
      header: column names, the first line.
      rows: the cells of each line; None is written as an empty cell, other values as
        `str` writes them, so that numbers are formatted by the caller.

    Raises: `ValueError` as `atomic_write`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode())


def make_folder(path: str | os.PathLike) -> Path:
    """Makes a folder and those above it, unless it exists.

    Returns: its path.
    Raises: `ValueError` that names it and the cause if it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"cannot make the folder {path}: {reason}") from error
    return path


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Turns an `OSError` of the body into a `ValueError` that names the file.

    Args:
      path: named where the error itself has no file name.
    """
    try:
        yield
    except OSError as error:
        name = error.filename or path
        raise ValueError(f"cannot read {name}: {error.strerror or error}") from error


def shipped_checkpoint(name: str) -> Path:
    """Finds trained parameters that ship with the library.

    They are folders of `checkpoints/` in a checkout, and of `jaxnas/checkpoints/` in an
    installed wheel.

    Args:
      name: of the folder.

    Returns: the folder.
    Raises: `ValueError` that lists the available names.
    """
    package = Path(__file__).resolve().parents[1]
    installed, checkout = package / "checkpoints", package.parent / "checkpoints"
    parent = installed if installed.is_dir() else checkout
    names = sorted(p.name for p in parent.glob("*") if p.is_dir())
    if name not in names:
        available = f"available are {', '.join(names)}" if names else "none ship yet"
        raise ValueError(f"no checkpoint {name!r}; {available}")
    return parent / name
