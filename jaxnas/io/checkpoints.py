"""Pytrees of arrays on disk, by orbax: a folder with a JSON manifest, written at once.

orbax-checkpoint (the extra `training`) is imported when something is saved or read.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax

Tree = TypeVar("Tree")
_STATE, _MANIFEST = "state", "manifest"


def require_orbax() -> Any:
    """The package; `ValueError` that says how to install it, where it is not there."""
    try:
        import orbax.checkpoint as orbax
    except ImportError as error:
        raise ValueError(
            "checkpoints need orbax-checkpoint: pip install 'jaxnas[training]'"
        ) from error
    return orbax


@contextlib.contextmanager
def _checkpointer() -> Iterator[tuple[Any, Any]]:
    orbax = require_orbax()
    # What orbax raises it also logs, with the stacks of all of its threads.
    log, drop = logging.getLogger("absl"), lambda record: record.levelno < logging.ERROR
    log.addFilter(drop)
    try:
        with orbax.Checkpointer(orbax.CompositeCheckpointHandler()) as checkpointer:
            yield orbax, checkpointer
    finally:
        log.removeFilter(drop)


def save(path: str | os.PathLike, tree: Any, manifest: Mapping[str, Any]) -> None:
    """Writes a folder that a reader sees whole or not at all.

    Args:
      path: the folder; one that is there is replaced, and of an interruption in between
        `path` with `.old` is left, which `restore` reads then.
      tree: of arrays.
      manifest: a JSON object.

    Raises: `ValueError` that names the folder and the cause if it cannot be written, in
      which case what was there before is left; for a manifest that is not JSON; and
      without orbax.
    """
    path = Path(path).absolute()
    try:
        json.dumps(dict(manifest), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the manifest is not JSON: {error}") from error
    require_orbax()
    new, old = (path.with_name(path.name + end) for end in (".new", ".old"))
    try:
        with _checkpointer() as (orbax, checkpointer):
            arguments = {
                _STATE: orbax.args.StandardSave(tree),
                _MANIFEST: orbax.args.JsonSave(dict(manifest)),
            }
            checkpointer.save(new, args=orbax.args.Composite(**arguments), force=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        new.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    # What a full disk makes orbax and tensorstore raise is not only `OSError`.
    except Exception as error:
        raise ValueError(f"cannot write {path}: {_one_line(error)}") from error
    finally:
        # Orbax writes beside the folder that it is given.
        unfinished = glob.escape(new.name) + ".orbax-checkpoint-tmp*"
        for folder in (new, *path.parent.glob(unfinished)):
            shutil.rmtree(folder, ignore_errors=True)


def exists(path: str | os.PathLike) -> bool:
    """Whether something was saved there."""
    return _found(Path(path)) is not None


def _found(path: Path) -> Path | None:
    whole = (path, path.with_name(path.name + ".old"))
    try:
        return next((p.absolute() for p in whole if (p / _MANIFEST).is_dir()), None)
    except OSError as error:  # a name can be too long to ask
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error


def stored_bytes(path: str | os.PathLike) -> int:
    """What the files of something that was saved take on the disk."""
    folder = _found(Path(path))
    if folder is None:
        raise ValueError(f"no checkpoint at {path}")
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def manifest(path: str | os.PathLike) -> dict[str, Any]:
    """The manifest of what was saved.

    Raises: `ValueError` if it is missing, damaged, or has numbers that are not finite.
    """

    def read(orbax: Any, checkpointer: Any, folder: Path) -> Any:
        wanted = orbax.args.Composite(manifest=orbax.args.JsonRestore())
        return checkpointer.restore(folder, args=wanted).manifest

    found = _read(path, read)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: wanted a JSON object as manifest")
    try:
        json.dumps(found, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"{path}: the manifest has a number that is not finite"
        ) from error
    return found


def restore(path: str | os.PathLike, like: Tree) -> Tree:
    """The arrays that were saved.

    Args:
      like: a tree of the same structure, of arrays or `jax.ShapeDtypeStruct`.

    Raises: `ValueError`, in one line, if it is missing, damaged, or another tree.
    """
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like
    )

    def read(orbax: Any, checkpointer: Any, folder: Path) -> Any:
        wanted = orbax.args.Composite(state=orbax.args.StandardRestore(shapes))
        return checkpointer.restore(folder, args=wanted).state

    return _read(path, read)


def _read(path: str | os.PathLike, read: Any) -> Any:
    folder = _found(Path(path))
    if folder is None:
        raise ValueError(f"no checkpoint at {path}")
    try:
        with _checkpointer() as (orbax, checkpointer):
            return read(orbax, checkpointer, folder)
    except ImportError:
        raise
    # Whatever a damaged folder makes orbax and tensorstore raise.
    except Exception as error:
        raise ValueError(
            f"{path} is no sound checkpoint: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    # tensorstore's messages name its own files at length before the cause.
    if code := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or text[:200] or type(error).__name__
