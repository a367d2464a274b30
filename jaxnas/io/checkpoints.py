"""Pytrees of arrays on disk, by orbax: a folder with a JSON manifest, written at once.

    save(folder, state, {"epochs": 3})
    state = restore(folder, like=jax.eval_shape(make_state))

A save writes to `folder.new`, moves an earlier checkpoint to `folder.old`, and renames:
at every moment one of them is whole, and readers take it. Arrays are restored to the
first local device; others than those of the digest in the manifest are refused.
orbax-checkpoint (the extra `training`) is imported when something is saved or read.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import math
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from jaxnas.io.cache import array_digest

Tree = TypeVar("Tree")
_STATE, _MANIFEST = "state", "manifest"
_DIGEST = "arrays_sha256"  # entry of a manifest; checkpoints of old versions have none
# All that a checkpoint has, `commit_success.txt` by some versions of orbax.
_PARTS = {_STATE, _MANIFEST, "_CHECKPOINT_METADATA", "commit_success.txt"}
# Weights hardly compress, while zeros compress to a thousandth.
MAX_BYTES, MAX_RATIO = 2**26, 16
# Orbax fails if several threads save at once, even to different folders.
_LOCK = threading.Lock()


def require_orbax() -> Any:
    """Imports orbax; `ValueError` that says how to install it if it is missing."""
    try:
        import orbax.checkpoint as orbax
    except ImportError as error:
        raise ValueError(
            "checkpoints need orbax-checkpoint: pip install 'jaxnas[training]'"
        ) from error
    return orbax


@contextlib.contextmanager
def _checkpointer() -> Iterator[tuple[Any, Any]]:
    """The orbax package, and a checkpointer that does not log errors.

    One thread of the process at a time has one.
    """
    orbax = require_orbax()
    # Orbax logs what it raises, with the stacks of all of its threads.
    log, drop = logging.getLogger("absl"), lambda record: record.levelno < logging.ERROR
    with _LOCK:
        log.addFilter(drop)
        try:
            with orbax.Checkpointer(orbax.CompositeCheckpointHandler()) as checkpointer:
                yield orbax, checkpointer
        finally:
            log.removeFilter(drop)


def save(path: str | os.PathLike, tree: Any, manifest: Mapping[str, Any]) -> None:
    """Writes a folder that a reader sees whole or not at all.

    Args:
      path: the folder, whose parent must exist; an earlier checkpoint is replaced, and
        nothing else. After an interruption `restore` reads the earlier one, `path` with
        `.old`.
      tree: of arrays.
      manifest: a JSON object.

    Raises: `ValueError` that names the folder and the cause if it cannot be written, in
      which case the earlier checkpoint is left; if it, or `path` with `.old` or `.new`,
      has anything but a checkpoint; for a manifest that is not JSON; and without orbax.
    """
    named, path = path, _real(path)
    try:
        json.dumps(dict(manifest), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{named}: the manifest is not JSON: {error}") from error
    require_orbax()
    try:
        for folder in (path, *_beside(path)):
            if foreign := _foreign(folder):
                where = "it" if folder == path else folder.name
                raise ValueError(
                    f"{where} has {foreign[0]}, which is not part of a checkpoint: give "
                    "another folder"
                )
        _replace(path, tree, dict(manifest) | {_DIGEST: _digest(tree)})
    # On a full disk orbax and tensorstore raise more than `OSError`.
    except Exception as error:
        raise ValueError(f"cannot write {named}: {_one_line(error)}") from error


def _digest(tree: Any) -> str:
    """Hashes the numbers of a tree, equal in the precisions of a save and a read."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    kinds = [np.float32 if a.dtype.kind == "f" else np.int64 for a in arrays]
    return array_digest(*(a.astype(k) for a, k in zip(arrays, kinds, strict=True)))


def _foreign(folder: Path) -> list[str]:
    """Names in a folder that are not of a checkpoint; none for a missing folder.

    Raises: `OSError` for a file.
    """
    if not os.path.lexists(folder):
        return []
    return sorted({path.name for path in folder.iterdir()} - _PARTS)


def _replace(path: Path, tree: Any, manifest: dict[str, Any]) -> None:
    """Writes a checkpoint beside `path`, and puts it in the place of an earlier one."""
    new, old = _beside(path)
    try:
        _remove_unfinished(new)  # orbax warns of what a killed process has left
        with _checkpointer() as (orbax, checkpointer):
            arguments = {
                _STATE: orbax.args.StandardSave(tree),
                _MANIFEST: orbax.args.JsonSave(manifest),
            }
            checkpointer.save(new, args=orbax.args.Composite(**arguments), force=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        new.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        _remove_unfinished(new)


def _remove_unfinished(new: Path) -> None:
    """Removes the folder of a save that did not end.

    Orbax writes to another folder first, beside the one that it is given.
    """
    unfinished = f"{glob.escape(new.name)}.orbax-checkpoint-tmp*"
    for folder in (new, *new.parent.glob(unfinished)):
        shutil.rmtree(folder, ignore_errors=True)


def remove(path: str | os.PathLike) -> None:
    """Removes a checkpoint and what interrupted saves have left of it.

    Args:
      path: the folder. It is left if it has anything but a checkpoint, like the folders
        with `.old` and `.new`.
    """
    path = _real(path)
    for folder in (path, *_beside(path)):
        with contextlib.suppress(OSError):
            if not _foreign(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _real(path: str | os.PathLike) -> Path:
    """The absolute path of a folder; of a link, that of the folder it leads to."""
    return Path(os.path.realpath(path))


def _beside(path: Path) -> tuple[Path, Path]:
    """The folders of the new checkpoint and of the old one during a save."""
    return path.with_name(path.name + ".new"), path.with_name(path.name + ".old")


def exists(path: str | os.PathLike) -> bool:
    """Whether there is a checkpoint at `path`, or an earlier one beside it."""
    return _whole_folder(path) is not None


def _whole_folder(path: str | os.PathLike) -> Path | None:
    """The folder of the checkpoint, or of the one before it; None without either."""
    real = _real(path)
    try:
        candidates = (real, _beside(real)[1])
        return next((p for p in candidates if (p / _MANIFEST).is_dir()), None)
    except OSError as error:  # a name can be too long to ask
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error


def stored_bytes(path: str | os.PathLike) -> int:
    """The bytes of a checkpoint's files; `ValueError` without a checkpoint."""
    folder = _whole_folder(path)
    if folder is None:
        raise ValueError(f"no checkpoint at {path}")
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def check_affordable(path: str | os.PathLike, shapes: Any) -> None:
    """Checks that a checkpoint is large enough to hold the arrays that it declares.

    Args:
      path: the folder.
      shapes: a tree of `jax.ShapeDtypeStruct`, as of `restore`.

    Raises: `ValueError` if they take more than `MAX_BYTES` and `MAX_RATIO` times its
      size, and without a checkpoint.
    """
    leaves = jax.tree.leaves(shapes)
    declared = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    stored = stored_bytes(path)
    if declared > max(MAX_BYTES, MAX_RATIO * stored):
        raise ValueError(
            f"{path} has {stored} bytes and would unpack to {declared}: more than "
            f"{MAX_RATIO} times as many"
        )


def manifest(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the manifest of a checkpoint.

    Raises: `ValueError` if it is missing, damaged, or has numbers that are not finite.
    """

    def read(orbax: Any, checkpointer: Any, folder: Path) -> Any:
        items = orbax.args.Composite(manifest=orbax.args.JsonRestore())
        return checkpointer.restore(folder, args=items).manifest

    content = _read(path, read)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: wanted a JSON object as manifest")
    content.pop(_DIGEST, None)
    try:
        json.dumps(content, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"{path}: the manifest has a number that is not finite"
        ) from error
    return content


def restore(path: str | os.PathLike, like: Tree) -> Tree:
    """Reads the arrays of a checkpoint.

    Args:
      path: the folder that `save` wrote.
      like: a tree of the same structure, of arrays or `jax.ShapeDtypeStruct`.

    Returns: a tree like `like`, on the first local device.
    Raises: `ValueError`, in one line, if it is missing, damaged, or another tree.
    """
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like
    )

    def read(orbax: Any, checkpointer: Any, folder: Path) -> Any:
        items = {
            _STATE: orbax.args.StandardRestore(shapes),
            _MANIFEST: orbax.args.JsonRestore(),
        }
        found = checkpointer.restore(folder, args=orbax.args.Composite(**items))
        # Of the bytes of an array, orbax checks the number alone.
        if found.manifest.get(_DIGEST) not in (None, _digest(found.state)):
            raise ValueError("its arrays are not those that were written")
        return found.state

    return _read(path, read)


def _read(path: str | os.PathLike, read: Callable[[Any, Any, Path], Any]) -> Any:
    """Calls `read(orbax, checkpointer, folder)`, with errors that name the path."""
    folder = _whole_folder(path)
    if folder is None:
        raise ValueError(f"no checkpoint at {path}")
    try:
        with _checkpointer() as (orbax, checkpointer):
            return read(orbax, checkpointer, folder)
    except ImportError:
        raise
    # Orbax and tensorstore raise errors of many types for a damaged folder.
    except Exception as error:
        raise ValueError(
            f"{path} is not a sound checkpoint: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    """The cause of an error, without the names of internal files."""
    text = " ".join(str(error).split())
    # tensorstore's messages name its own files at length before the cause, and orbax
    # adds the Python object of the array.
    if code := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(code[1]))
    text = text.split(" See full TensorStore details")[0]
    return getattr(error, "strerror", None) or text[:200] or type(error).__name__
