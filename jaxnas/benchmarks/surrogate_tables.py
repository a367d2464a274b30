"""Surrogates of learning curves from files, and their predictions as tables.

    saved = read("surrogate.npz")
    table = as_table("mine", saved, nasbench201.SPACE)

A surrogate as a benchmark (`surrogate`) computes each curve when it is asked for. A table
has those of a whole space, computed once, for drivers that compare searches on tables.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.benchmarks import released_files, table_files
from jaxnas.benchmarks.importers import x11_surrogate
from jaxnas.benchmarks.surrogate import Encode
from jaxnas.benchmarks.surrogate_ensemble import encoding_of
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.curves import surrogate as surrogates
from jaxnas.curves import surrogate_files
from jaxnas.curves.surrogate import Info, Surrogate
from jaxnas.curves.surrogate_files import Saved
from jaxnas.io import npz
from jaxnas.io.cache import array_digest
from jaxnas.spaces.base import Space, every
from jaxnas.types import Array

# The columns of a table of predictions, as notes of a surrogate's file name them.
_SELECTION = ("dataset", "split", "epochs")
# Columns of predictions of the published surrogates.
_RELEASED = {"dataset": "cifar10", "split": "valid"}


def is_surrogate(path: str | os.PathLike) -> bool:
    """Whether a file holds a surrogate, by its manifest.

    Args:
      path: any file; False for one that cannot be read.
    """
    try:
        _, manifest = npz.load_arrays(path, skip=lambda name: name != npz.MANIFEST)
    except ValueError:
        return False
    return surrogate_files.KIND == manifest.get("kind") or _is_released(manifest)


def _is_released(manifest: Mapping[str, Any]) -> bool:
    return manifest.get("format") == released_files.FORMAT


def read(path: str | os.PathLike) -> Saved:
    """Reads a surrogate that `surrogate_files` or `released_files` wrote.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged, of
      another version, or not a surrogate of curves.
    """
    _, manifest = npz.load_arrays(path, skip=lambda name: name != npz.MANIFEST)
    if not _is_released(manifest):
        return surrogate_files.read(path)
    surrogate = x11_surrogate.to_surrogate(released_files.load(path))
    selection = {**_RELEASED, "epochs": surrogates.last_epoch(surrogate)}
    return Saved(surrogate, {}, {"settings": selection})


def require_encoding(info: Info) -> Encode:
    """The encoding that a surrogate takes.

    Args:
      info: of the surrogate.

    Raises: `ValueError` for an encoding that the library does not have;
      `surrogate_benchmark` takes any function.
    """
    encode = encoding_of(info)
    if encode is None:
        raise ValueError(
            f"the surrogate takes the encoding {info.features!r} of {info.space}, which "
            "jaxnas does not have: surrogate_benchmark takes the function as an argument"
        )
    return encode


def as_table(name: str, saved: Saved, space: Space) -> BenchmarkTable:
    """Predicts the mean curves of a whole space.

    Args:
      name: of the table.
      saved: a surrogate whose notes have in `settings` the `dataset`, `split` and
        `epochs` that columns are called by, as `experiments.fit_surrogate` writes them.
      space: the surrogate's, of 2^20 vectors at most.

    Returns: the last values `<dataset>/<split>/<epochs>` (n,), the curves `curve/...`
      (n, 1, E) and, if the surrogate has a model of the time, `seconds/...` (n,). There
      is one value for each architecture, without noise: `seed` can only be "mean".
    Raises: `ValueError` for notes without these names, an unknown encoding, and a space
      that is too large.
    """
    surrogate, info = saved.surrogate, saved.surrogate.info
    selection = saved.notes.get("settings")
    if not isinstance(selection, dict) or not set(_SELECTION) <= set(selection):
        raise ValueError(
            f"{name}: a table of its predictions needs {', '.join(_SELECTION)} in the "
            'notes of the file, as save(..., notes={"settings": {"dataset": "mine", '
            '"split": "valid", "epochs": 12}}) writes them'
        )
    archs = every(space)
    curves, seconds = _predictions(require_encoding(info), surrogate, archs)
    dataset, split, epochs = (selection[key] for key in _SELECTION)
    column = f"{dataset}/{split}/{epochs}"
    columns = {column: curves[:, -1], f"curve/{column}": curves[:, None]}
    meaning = dict.fromkeys(columns, "predicted mean, no training's")
    if seconds is not None:
        columns[f"seconds/{dataset}/{epochs}"] = seconds
        meaning[f"seconds/{dataset}/{epochs}"] = "predicted, of the whole training"
    points = surrogates.epoch_numbers(surrogate).tolist()
    manifest = {
        "source": f"predictions of a surrogate; {info.source}".rstrip("; "),
        "sha256": array_digest(*jax.tree.leaves(surrogate)),
        "columns": meaning,
        "points": {str(epochs): points},
        "notes": saved.notes,
    }
    if info.unit != "percent":
        target = {"name": info.target, "unit": info.unit, "direction": info.direction}
        manifest["targets"] = {dataset: target}
    table = BenchmarkTable(name, space.name, archs, columns, manifest)
    return table_files.validate_table(table)


def _predictions(
    encode: Encode, surrogate: Surrogate, archs: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean curves (n, E) and seconds (n,) of architectures (n, d), in float32."""
    curves, seconds = _predict(encode, surrogate, jnp.asarray(archs))
    return np.asarray(curves, np.float32), (
        None if seconds is None else np.asarray(seconds, np.float32)
    )


@functools.partial(jax.jit, static_argnums=0)
def _predict(
    encode: Encode, surrogate: Surrogate, archs: Array
) -> tuple[Array, Array | None]:
    features = jax.vmap(encode)(archs).astype(float)
    curves = surrogates.predict(surrogate, features)
    if surrogate.time is None:
        return curves, None
    last = surrogates.last_epoch(surrogate)
    return curves, surrogates.runtime(surrogate, features, last)
