"""Surrogates on disk: an npz file of arrays and a JSON manifest, see `jaxnas.io.npz`.

    save("nb211.npz", surrogate, notes={"source": "..."})
    surrogate = load("nb211.npz")

The manifest has a format version, the structure of the surrogate, and the SHA-256 of each
array. Nothing in a file is executed; indices are checked, as the compiled evaluation of
trees trusts them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves import (
    columns,
    compress,
    members,
    noise,
    packing,
    regress_boosting,
)
from jaxnas.curves import surrogate as surrogates
from jaxnas.curves.surrogate import Info, Surrogate
from jaxnas.io import npz, records
from jaxnas.io.streams import printable

FORMAT = 1
KIND = "learning-curve surrogate"
_EXTRA = "extra/"
# What a file may be made of, by the name that it has there; networks need flax, so they
# are added when a file has them.
_TYPES = {
    kind.__name__: kind
    for kind in (
        *(Surrogate, members.Member, members.Mean, surrogates.Time),
        *(compress.Linear, noise.StdNoise, noise.KdeNoise, noise.WindowNoise),
        *(regress_boosting.Chain, regress_boosting.Heads),
        *(packing.Ensemble, columns.Columns),
    )
}


class Saved(NamedTuple):
    """The content of a file."""

    surrogate: Surrogate
    extra: dict[str, np.ndarray]  # arrays that were saved beside it
    notes: dict[str, Any]  # what was said of it


def save(
    path: str | os.PathLike,
    surrogate: Surrogate,
    *,
    extra: Mapping[str, np.ndarray] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Writes a surrogate atomically.

    Args:
      path: the npz file; its folder must exist.
      surrogate: to save.
      extra: arrays to save beside it, by name: rows of the training split, say.
      notes: a JSON object: the SHA-256 of source files, metrics.

    Raises: `ValueError` if it cannot be written, or holds what a file cannot.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _described(surrogate, "surrogate", arrays)
    arrays |= {_EXTRA + name: np.asarray(x) for name, x in (extra or {}).items()}
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "tree": tree,
        "sha256": {name: _digest(array) for name, array in arrays.items()},
        "notes": dict(notes or {}),
    }
    npz.save_arrays(path, arrays, manifest)


def load(path: str | os.PathLike) -> Surrogate:
    """Reads a surrogate that `save` wrote.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged, of
      another version, or not a surrogate.
    """
    return read(path).surrogate


def read(path: str | os.PathLike) -> Saved:
    """Reads all that `save` wrote, in the way of `load`."""
    arrays, manifest = npz.load_arrays(path)
    if manifest.get("kind") != KIND:
        raise ValueError(f"{path}: not a {KIND}, but {manifest.get('kind')!r}")
    again = "save it again with this version"
    records.require_format(path, manifest.get("format"), FORMAT, again)
    digests = manifest.get("sha256")
    if not isinstance(digests, dict):
        raise ValueError(f"{path}: not a sound {KIND}: no SHA-256 of its arrays")
    if differ := sorted(set(digests) ^ set(arrays)):
        what = "is missing" if differ[0] in digests else "is not one of the manifest's"
        raise ValueError(f"{path}: the array {printable(differ[0])} {what}")
    for name, array in arrays.items():
        if _digest(array) != digests[name]:
            raise ValueError(
                f"{path}: the SHA-256 of {name} differs: the file is damaged"
            )
    try:
        surrogate = _rebuilt(manifest.get("tree"), arrays)
        _check(surrogate)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: not a sound {KIND}: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not a sound {KIND}: {error}") from error
    extra = {k.removeprefix(_EXTRA): x for k, x in arrays.items() if k[:6] == _EXTRA}
    return Saved(surrogate, extra, manifest.get("notes") or {})


def _digest(array: np.ndarray) -> str:
    """SHA-256, in hexadecimal, of an array's type, shape and values."""
    array = np.asarray(array)
    head = f"{array.dtype.str} {array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def _described(node: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The structure of a pytree as JSON; its arrays are added to `arrays` by their path.

    Raises: `ValueError` for a type that a file cannot hold.
    """
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, jax.Array | np.ndarray | np.generic):
        arrays[name] = np.asarray(node)
        return {"array": name}
    if isinstance(node, Info):
        return {"info": dataclasses.asdict(node)}
    if isinstance(node, Mapping):
        parts = {key: _described(x, f"{name}/{key}", arrays) for key, x in node.items()}
        return {"mapping": parts}
    kind = type(node).__name__
    if kind in _types() and type(node) is _types()[kind]:
        parts = {
            key: _described(getattr(node, key), f"{name}/{key}", arrays)
            for key in _fields(type(node))
        }
        return {"type": kind, "fields": parts}
    if isinstance(node, tuple):
        parts = [_described(x, f"{name}/{i}", arrays) for i, x in enumerate(node)]
        return {"tuple": parts}
    raise ValueError(f"{name} is a {kind}, which a file of a surrogate cannot hold")


def _rebuilt(node: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `_described`."""
    if not isinstance(node, dict):
        return node
    if "array" in node:
        return jnp.asarray(arrays[node["array"]])
    if "info" in node:
        given = node["info"]
        return Info(**{**given, "epochs": tuple(map(int, given["epochs"]))})
    if "mapping" in node:
        return {key: _rebuilt(x, arrays) for key, x in node["mapping"].items()}
    if "tuple" in node:
        return tuple(_rebuilt(x, arrays) for x in node["tuple"])
    kind = _types()[node["type"]]
    fields = {key: _rebuilt(x, arrays) for key, x in node["fields"].items()}
    if kind is packing.Ensemble:
        for key in ("threshold", "node_threshold"):
            # In float32, thresholds of float64 that jax rounded to nearest could send
            # inputs that equal them the other way.
            stored, dtype = arrays[node["fields"][key]["array"]], fields[key].dtype
            exact = packing.round_thresholds(stored, dtype, fields["strict"])
            fields[key] = jnp.asarray(exact)
    return kind(**fields)


def _fields(kind: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return kind._fields  # type: ignore[attr-defined]


def _types() -> dict[str, type]:
    """The types by name, with those that need flax if it is installed."""
    try:
        from jaxnas.curves import regress_mlp, vae
    except ImportError:
        return _TYPES
    return {**_TYPES, "Mlp": regress_mlp.Mlp, "Vae": vae.Vae, "Sizes": vae.Sizes}


def _check(surrogate: Any) -> None:
    """Checks shapes, without computing anything, and the indices of trees.

    Raises: `ValueError` or `TypeError` for what cannot be evaluated.
    """
    if not isinstance(surrogate, Surrogate) or not surrogate.members:
        raise ValueError("its tree is not a surrogate with a member")
    is_trees = lambda x: isinstance(x, packing.Ensemble)  # noqa: E731
    for leaf in jax.tree.leaves(surrogate, is_leaf=is_trees):
        if is_trees(leaf):
            _check_trees(leaf)
        elif not np.isfinite(np.asarray(leaf)).all():
            raise ValueError("it has a number that is not finite")
    features = jax.ShapeDtypeStruct(
        (2, surrogates.num_features(surrogate)), jnp.float32
    )
    curves = jax.eval_shape(surrogates.predict, surrogate, features)
    length = len(surrogates.epoch_numbers(surrogate))
    if curves.shape != (2, length):
        raise ValueError(
            f"its curves have {curves.shape[1:]} values for {length} epochs"
        )
    if surrogate.noise is not None:
        key = jax.eval_shape(jax.random.key, 0)
        jax.eval_shape(surrogates.sample, surrogate, key, features)
    if surrogate.time is not None:
        jax.eval_shape(lambda s, x: surrogates.runtime(s, x, 1), surrogate, features)


def _check_trees(ensemble: packing.Ensemble) -> None:
    """Raises `ValueError` for an index of packed trees that is out of range."""
    test = ensemble.columns
    width = test.feature.shape[-1] + test.set_feature.shape[-1] + 1
    nodes = ensemble.node_left.shape[-1]
    limits = {
        "features": (test.feature, ensemble.num_features),
        "set features": (test.set_feature, ensemble.num_features),
        "columns": (ensemble.column, width),
        "node columns": (ensemble.node_column, width),
        "children": (ensemble.node_left, nodes),
        "leaves": (ensemble.node_leaf, ensemble.value.shape[-1]),
    }
    for name, (index, limit) in limits.items():
        index = np.asarray(index)
        if index.size and not (0 <= index.min() and index.max() < limit):
            raise ValueError(f"{name} of its trees are out of range")
    if not np.isfinite(np.asarray(ensemble.value)).all():
        raise ValueError("its trees have a leaf value that is not finite")
