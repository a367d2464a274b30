"""The folder of a search: its identity, its history file, the lock and the writes.

`settings.json` is the record of `io.run_folder`. `history.jsonl` has one line for each
event and only ever grows. One process has it open and locked; others may read it at any
time. A process that is killed while it writes leaves at most one torn line, the last,
which the next one removes.
"""

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
# Errors of `flock` if another process has the lock, and of `fsync` without support.
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def open_journal(folder: Path, identity: dict[str, Any]) -> None:
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
    """Reads the events so far, without a lock.

    Args:
      folder: of a search, which may be running.

    Returns: the events; a line that is being written is left out.
    Raises: `ValueError` for a damaged line, or a file that cannot be read.
    """
    path = folder / HISTORY
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []  # no query was asked yet
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return _events(content, path)[0]


@contextlib.contextmanager
def open_history(folder: Path) -> Iterator[tuple[io.FileIO, list[Event]]]:
    """Opens the history to append, with a lock that other processes respect.

    A last line that was not written to its end is removed.

    Args:
      folder: of the search.

    Yields: the open file, and the events in it.
    Raises: `ValueError` for a damaged line, or if another process has the file open.
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
    """Decodes the lines of a history.

    Args:
      content: of the file.
      path: of the file, for messages.

    Returns: the events, and how many bytes they take; a torn last line is left out.
    """
    lines = content.split(b"\n")
    last = lines.pop()
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(decode(line))
        except ValueError as error:
            raise damaged(path, number, error) from None
    # Torn by a killed process, or whole and left without a newline by an editor.
    try:
        events.append(decode(last))
    except ValueError:
        return events, len(content) - len(last)
    return events, len(content)


def damaged(path: Path, number: int, reason: object) -> ValueError:
    """Makes the error for a line that cannot be used.

    Args:
      path: of the history.
      number: of the line, from 1.
      reason: a message that completes "..., as".
    """
    return ValueError(
        f"line {number} of {path} cannot be used, as {reason}: remove it and all after it "
        "to resume from there"
    )


def append(file: io.FileIO, event: Event, *, durable: bool = True) -> None:
    """Writes an event as a line.

    Args:
      file: as from `open_history`.
      event: to be appended.
      durable: whether the line is on the disk when this returns. Otherwise it survives a
        crash of this process, but perhaps not of the machine.

    Raises: `ValueError` that names the file if there is no room; then nothing of the line
      is left in it.
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
    """Writes all of the content to an unbuffered file."""
    while content:  # a nearly full disk takes a part
        content = content[file.write(content) :]


def _sync(file: io.FileIO) -> None:
    """Waits until the file is on the disk, where the file system can tell."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _lock(file: io.FileIO, path: Path) -> None:
    """Locks the file until it is closed; warns where the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows: two searches in one folder are not detected
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
