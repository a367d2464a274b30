"""Published surrogates as one npz file each: arrays with a manifest.

    released_files.save("nb311.npz", importers.x11.read("checkpoints/nb311-v0.5"))

The trees are stored as `Forest`s, one after another, in the precision of the release. The
manifest has the format's version, the SHA-256 of every array, and that of every file that
the surrogate was made of.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.benchmarks.importers.x11 import KINDS, Kind, Released
from jaxnas.benchmarks.importers.x11_records import Kernel, ReleasedMember
from jaxnas.curves import forest as forests
from jaxnas.curves.forest import Forest
from jaxnas.io import npz, records
from jaxnas.io.streams import named_errors, printable

FORMAT, VERSION = "released surrogate", 1
_MEMBER_ARRAYS = ("mean", "scale", "singular", "right")
_NODES = tuple(
    name
    for name in Forest._fields
    if name not in ("start", "categories", "num_features", "base", "divisor", "strict")
)
_INDICES = ("left", "right", "feature", "category", "number")


def save(path: str | os.PathLike, released: Released) -> None:
    """Writes a surrogate to an npz file, atomically.

    Args:
      path: the file; its folder must exist.
      released: from `importers.x11.read` or `load`.

    Raises: `ValueError` if it cannot be written.
    """
    members = released.members
    chains = [m.chain for m in members] or [released.regressors]
    arrays = _forest_arrays([forest for chain in chains for forest in chain])
    for name in _MEMBER_ARRAYS if members else ():
        arrays[name] = np.stack([getattr(m, name) for m in members])
    for i, m in enumerate(members):
        if m.kernel is not None:
            arrays |= {f"kernel/{i}/{k}": v for k, v in m.kernel._asdict().items()}
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "kind": released.kind._asdict(),
        "num_features": released.num_features,
        "model": released.model,
        "num_files": released.num_files,
        "config": released.config,
        "sources": released.sources,
        "members": [{"library": m.library, "digest": m.digest} for m in members],
        "sha256": {name: sha256_of(value) for name, value in arrays.items()},
    }
    npz.save_arrays(path, arrays, manifest)


def is_released(path: str | os.PathLike) -> bool:
    """Whether `load` reads a file, by its manifest.

    Args:
      path: the file; True if it is unreadable, as `load` then raises the precise error.
    """
    try:
        _, manifest = npz.load_arrays(path, skip=lambda name: name != npz.MANIFEST)
    except ValueError:
        return True
    return manifest.get("format") == FORMAT


def load(path: str | os.PathLike) -> Released:
    """Reads what `save` wrote.

    Args:
      path: the npz file.

    Returns: the same surrogate: every number is the one that the release has.
    Raises: `ValueError`, of one line that names the file, if it is missing, damaged, of
      another format or version, or an array is not the one that was written.
    """
    path = Path(path)
    arrays, manifest = npz.load_arrays(path)
    for name, supported in (("format", FORMAT), ("version", VERSION)):
        again = "import the release again"
        records.require_format(path, manifest.get(name), supported, again)
    with named_errors(path):
        _check_arrays(arrays, manifest["sha256"])
        return _released(arrays, manifest)


def sha256_of(value: np.ndarray) -> str:
    """The SHA-256 of an array's dtype, shape and content, in hexadecimal."""
    header = f"{value.dtype.str} {value.shape} ".encode()
    return hashlib.sha256(header + np.ascontiguousarray(value).tobytes()).hexdigest()


def _check_arrays(arrays: dict[str, np.ndarray], digests: dict[str, str]) -> None:
    """Compares arrays with the manifest.

    Args:
      arrays: by name.
      digests: the SHA-256 of each, by name.

    Raises: `ValueError` that names the first array that differs, is missing or unknown.
    """
    for name in sorted({*arrays, *digests}):
        if name not in arrays or sha256_of(arrays[name]) != digests.get(name):
            raise ValueError(f"the array {printable(name)} is damaged or missing")


def _released(arrays: dict[str, np.ndarray], manifest: dict[str, Any]) -> Released:
    """Builds the surrogate.

    Args:
      arrays: of the file, compared with the manifest.
      manifest: as `save` writes it.

    Raises: `ValueError` for an unknown benchmark, and as `_forests`.
    """
    kind = Kind(**manifest["kind"])
    if kind.epochs and KINDS.get((manifest["num_features"], kind.epochs)) != kind:
        raise ValueError(f"no benchmark is {printable(kind.name)} with its sizes")
    all_forests = _forests(arrays)
    members = [
        _member(arrays, all_forests, i, len(manifest["members"]), entry)
        for i, entry in enumerate(manifest["members"])
    ]
    return Released(
        kind=kind,
        num_features=manifest["num_features"],
        model=manifest["model"],
        members=tuple(members),
        regressors=() if members else tuple(all_forests),
        num_files=manifest["num_files"],
        config=manifest["config"],
        sources=manifest["sources"],
    )


def _member(
    arrays: dict[str, np.ndarray],
    all_forests: list[Forest],
    index: int,
    num: int,
    entry: dict[str, str],
) -> ReleasedMember:
    """One member.

    Args:
      arrays: of the file.
      all_forests: the forests of all members, one after another.
      index: of the member.
      num: number of members.
      entry: of the member in the manifest.
    """
    k = len(all_forests) // num
    kernel = None
    if f"kernel/{index}/rows" in arrays:
        rows, factor, covariance = (
            arrays[f"kernel/{index}/{name}"] for name in Kernel._fields
        )
        kernel = Kernel(rows, float(factor), covariance)
    return ReleasedMember(
        tuple(all_forests[index * k : (index + 1) * k]),
        *(arrays[name][index] for name in _MEMBER_ARRAYS),
        kernel=kernel,
        library=entry["library"],
        digest=entry["digest"],
    )


def _forest_arrays(all_forests: Sequence[Forest]) -> dict[str, np.ndarray]:
    """The arrays of forests, by name.

    Args:
      all_forests: f forests of one or more trees.

    Returns: for each field of `Forest` the nodes' values of all forests, one after
      another; `trees`, the nodes of each tree; `num_trees` (f,) of each forest; sets of
      categories, flat, and their shapes (f, 2); and the forests' numbers (f,).
    """
    arrays = {
        f"forest/{name}": np.concatenate([getattr(f, name) for f in all_forests])
        for name in _NODES
    }
    for name in _INDICES:  # node indices of one forest fit
        arrays[f"forest/{name}"] = arrays[f"forest/{name}"].astype(np.int32)
    arrays["forest/trees"] = np.concatenate([np.diff(f.start) for f in all_forests])
    arrays["forest/num_trees"] = np.array([len(f.start) - 1 for f in all_forests])
    arrays["forest/category_shape"] = np.array(
        [f.categories.shape for f in all_forests]
    )
    arrays["forest/categories"] = np.concatenate(
        [f.categories.reshape(-1) for f in all_forests]
    )
    for name, dtype in (
        *(("num_features", np.int64), ("divisor", np.int64)),
        *(("base", np.float64), ("strict", bool)),
    ):
        arrays[f"forest/{name}"] = np.array(
            [getattr(f, name) for f in all_forests], dtype
        )
    return arrays


def _forests(arrays: dict[str, np.ndarray]) -> list[Forest]:
    """The inverse of `_forest_arrays`.

    Args:
      arrays: of the file.

    Raises: `ValueError` for nodes that do not form trees, and for numbers that are not
      finite.
    """
    given = {name: arrays[f"forest/{name}"] for name in (*_NODES, "trees")}
    shapes = arrays["forest/category_shape"]
    num_trees = np.cumsum(arrays["forest/num_trees"])[:-1]
    starts = [
        np.concatenate([[0], np.cumsum(sizes)])
        for sizes in np.split(given.pop("trees"), num_trees)
    ]
    nodes = np.cumsum([start[-1] for start in starts])[:-1]
    parts = {name: np.split(value, nodes) for name, value in given.items()}
    words = np.cumsum(shapes.prod(1))[:-1]
    categories = np.split(arrays["forest/categories"], words)
    all_forests = []
    for i, start in enumerate(starts):
        fields: dict[str, Any] = {name: part[i] for name, part in parts.items()}
        fields |= {side: fields[side].astype(np.int64) for side in ("left", "right")}
        for name in ("num_features", "base", "divisor", "strict"):
            fields[name] = arrays[f"forest/{name}"][i].item()
        fields["categories"] = categories[i].reshape(shapes[i])
        forest = forests.validate(Forest(start=start, **fields), f"forest {i}")
        forests.levels(forest, f"forest {i}")
        all_forests.append(forest)
    return all_forests
