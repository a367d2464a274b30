"""Folders of runs: a record of what the results depend on, and pieces of results.

A run folder belongs to one identity: all settings that its results depend on, as plain
JSON. The identity is written first, so that no result of unknown settings can be in the
folder, and a run with other settings is refused by the names of the settings that differ.
Results are kept in pieces, npz files whose manifest repeats the identity; a run that was
killed finds its finished pieces and computes the others. Every file is written atomically.

`settings.json` holds `{"format": 1, "kind": "result folder", "identity": {...}}`. Readers
refuse a format that they do not know (`records`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.io import files, npz, records

RECORD = "settings.json"


class Kind(NamedTuple):
    """Kind of content of a folder, and its name in messages."""

    name: str = "result folder"
    format: int = 1  # version of the layout of the folder
    option: str = ""  # command-line option that names the folder, such as --out


RESULTS = Kind()


@dataclass(frozen=True)
class RunFolder:
    """A folder that belongs to `identity`, or can be made for it."""

    path: Path
    identity: dict[str, Any]  # plain JSON values
    kind: Kind = RESULTS


def open_folder(
    path: str | Path, identity: Mapping[str, Any], kind: Kind = RESULTS
) -> RunFolder:
    """Checks that results of `identity` can be kept at `path`; writes nothing.

    Args:
      path: the folder; neither it nor its parents need exist.
      identity: all that the results depend on, by name, as JSON values.
      kind: of the content.

    Raises: `ValueError` if the folder was made with other settings (all of them are
      listed), is of another kind or format, holds other files, or cannot be used.
    """
    path = Path(path)
    folder = RunFolder(path, records.plain(identity), kind)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # not a possible file name: too long, say
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"cannot use {_named(folder, repr(str(path)[:60]))}: {reason}"
        ) from None
    nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise ValueError(f"cannot use {_named(folder)}: {nearest} is not a folder")
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(
            f"cannot use {_named(folder)}: no permission to write {nearest}"
        )
    if (path / RECORD).exists():
        _require_identity(folder)
    elif path.exists() and any(p.name[0] != "." for p in path.iterdir()):
        raise ValueError(
            f"{path} is not empty and not a {kind.name} (it has no {RECORD}): "
            f"give another {_option(kind)}"
        )
    return folder


def create(folder: RunFolder) -> None:
    """Makes the folder and its record where they are missing.

    Raises: `ValueError` if it cannot be written, or if another process has made it with
      other settings meanwhile.
    """
    record = folder.path / RECORD
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        new = not record.exists()
    except OSError as error:
        raise ValueError(f"cannot use {_named(folder)}: {error.strerror}") from error
    if new:
        content = {"kind": folder.kind.name, "identity": folder.identity}
        records.write_record(record, content, folder.kind.format)
    _require_identity(folder)


def open_or_create(
    path: str | Path, identity: Mapping[str, Any], kind: Kind = RESULTS
) -> RunFolder:
    """`open_folder`, and then `create`: the folder exists and belongs to `identity`."""
    folder = open_folder(path, identity, kind)
    create(folder)
    return folder


def read_identity(path: str | Path, kind: Kind = RESULTS) -> dict[str, Any]:
    """Reads the identity of the results in a folder.

    Raises: `ValueError` if there is no such folder, if it is of another kind or format,
      or if its record is damaged.
    """
    path = Path(path)
    record = path / RECORD
    content = records.read_json(record)
    if content.get("kind", kind.name) != kind.name:
        raise ValueError(
            f"{path} is a {content['kind']!s:.60}, not a {kind.name}: "
            f"give another {_option(kind)}"
        )
    existing = content.get("format")
    records.require_format(record, existing, kind.format, records.OTHER_VERSION)
    identity = content.get("identity")
    if not isinstance(identity, dict) or "kind" not in content:
        raise ValueError(
            f"cannot read {record}, which has no kind and identity: {records.DAMAGED}"
        )
    return identity


def save_piece(
    folder: RunFolder,
    name: str,
    arrays: Mapping[str, Any],
    labels: Mapping[str, Any] | None = None,
) -> None:
    """Writes a piece of the results, atomically.

    Args:
      folder: where; the folder is made if it is missing.
      name: of the piece, which may be in a folder below: `chunks/first-0-10`.
      arrays: NumPy or JAX arrays by name.
      labels: of the piece, besides the identity of the folder, as JSON values.

    Raises: `ValueError` if it cannot be written.
    """
    path = _piece_path(folder, name)
    files.make_folder(path.parent)
    npz.save_arrays(path, arrays, _manifest(folder, labels))


def load_piece(
    folder: RunFolder, name: str, labels: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """Reads a piece that `save_piece` wrote.

    Args:
      folder: where, with the identity that the piece must have.
      name: as for `save_piece`.
      labels: of the piece, as for `save_piece`.

    Returns: the arrays by name.
    Raises: `ValueError`, naming the file, if the piece is missing or damaged, or has
      another identity or other labels. Callers that can compute it again do so.
    """
    path = _piece_path(folder, name)
    arrays, manifest = npz.load_arrays(path)
    if manifest != _manifest(folder, labels):
        raise ValueError(f"{path} was made with other settings")
    return arrays


def _require_identity(folder: RunFolder) -> None:
    records.require_identity(
        folder.path,
        read_identity(folder.path, folder.kind),
        folder.identity,
        f"give another {_option(folder.kind)}, or the settings it was made with",
    )


def _piece_path(folder: RunFolder, name: str) -> Path:
    return folder.path / f"{name}.npz"


def _manifest(folder: RunFolder, labels: Mapping[str, Any] | None) -> dict[str, Any]:
    manifest = {"identity": folder.identity, "labels": dict(labels or {})}
    return records.plain(manifest)


def _named(folder: RunFolder, path: str = "") -> str:
    return f"{folder.kind.option} {path or folder.path}".strip()


def _option(kind: Kind) -> str:
    return kind.option or "folder"
