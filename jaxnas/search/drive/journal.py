"""The folder of a search: `settings.json` and `history.jsonl`, its lock, its writes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxnas.io import run_folder
from jaxnas.io.run_folder import Kind
from jaxnas.search.drive.history import Event, decode, encode

SEARCH = Kind("search folder", format=2)
_KINDS = {"space": str, "choices": list, "key": list, "batch": int}
SETTINGS, HISTORY = run_folder.RECORD, "history.jsonl"
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def open_or_create(folder: Path, identity: dict[str, Any]) -> None:
    """Makes the folder of a search, or checks that it belongs to this one.

    Args:
      folder: made, with its parents, where it is missing.
      identity: what the queries depend on, by name, as JSON values; see `settings`.

    Raises: `ValueError` if the folder belongs to another search or holds other files.
    """
    run_folder.open_or_create(folder, identity, SEARCH)


def settings(folder: Path) -> dict[str, Any]:
    """Reads what the history of a folder belongs to.

    Returns: name of the `space`, its `choices` (d,), the data of the `key`, and how many
      architectures a query has, `batch`.
    Raises: `ValueError` if there is no such folder, one of another format, or it is
      damaged.
    """
    identity, record = run_folder.read_identity(folder, SEARCH), folder / SETTINGS
    for name, kind in _KINDS.items():
        if type(identity.get(name)) is not kind:
            raise ValueError(
                f"{record} is damaged: its {name} is {identity.get(name)!r}"
            )
    if identity["batch"] < 1 or not all(type(c) is int for c in identity["choices"]):
        raise ValueError(
            f"{record} is damaged: its batch and choices must be whole numbers"
        )
    return identity


def read(folder: Path) -> list[Event]:
    """The events so far, without a lock; a line that is being written is left out."""
    path = folder / HISTORY
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []  # nothing was asked yet
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return _events(content, path)[0]


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[tuple[io.FileIO, list[Event]]]:
    """The history, open to append and locked, and its events.

    A last line that was not written to its end is removed.

    Raises: `ValueError` for a damaged line, or if another process has the file.
    """
    path = folder / HISTORY
    try:
        file = open(path, "a+b", buffering=0)
    except OSError as error:
        raise ValueError(f"cannot use {path}: {error.strerror}") from error
    with file:
        _lock(file, path)
        file.seek(0)
        content = file.readall()
        events, whole = _events(content, path)
        try:
            if whole < len(content):
                file.truncate(whole)
            elif content and not content.endswith(b"\n"):
                _write(file, b"\n")
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror}") from error
        yield file, events


def _events(content: bytes, path: Path) -> tuple[list[Event], int]:
    """The events, and the number of bytes that they take."""
    lines = content.split(b"\n")
    last = lines.pop()
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(decode(line))
        except ValueError as error:
            raise damaged(path, number, error) from None
    # What a killed process was writing, or a line that an editor did not end.
    try:
        events.append(decode(last))
    except ValueError:
        return events, len(content) - len(last)
    return events, len(content)


def damaged(path: Path, number: int, why: object) -> ValueError:
    """The error for a line that cannot be used; lines count from 1."""
    return ValueError(
        f"line {number} of {path} cannot be used, as {why}: remove it and all after it "
        "to go on from there"
    )


def append(file: io.FileIO, event: Event, *, durable: bool = True) -> None:
    """Writes a line.

    Args:
      durable: whether the line is on the disk when this returns. Otherwise it outlives
        this process, but perhaps not the machine.

    Raises: `ValueError` that names the file if there is no room; nothing of the line is
      left then.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        _write(file, encode(event))
        if durable:
            _sync(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise ValueError(
            f"cannot write {file.name!s}: {error.strerror or error}"
        ) from error


def _write(file: io.FileIO, content: bytes) -> None:
    while content:  # a disk that is nearly full takes a part
        content = content[file.write(content) :]


def _sync(file: io.FileIO) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _lock(file: io.FileIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows, where two searches in one folder may mix
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise ValueError(f"{path} is in use by another process") from None
        warnings.warn(
            f"the file system of {path} has no locks ({error.strerror}): nothing stops "
            "a second process from searching in the same folder",
            stacklevel=2,
        )
