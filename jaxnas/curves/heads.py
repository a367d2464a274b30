"""Several ensembles of trees with the same inputs, evaluated by one compiled loop.

A surrogate has a model for each component, in each member of an ensemble. Packed together
they are compiled once. Numbers of nodes and of columns are rounded up, so that most members
and fits with the same settings have the same shapes, and share the compiled program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves import packing, trees
from jaxnas.curves.forest import Forest
from jaxnas.curves.packing import Ensemble
from jaxnas.types import Array

_BY_TREE = ("value", "number")
_NODES, _COLUMNS = 2, 32  # multiples that shapes are rounded up to


def pack(forests: Sequence[Forest]) -> Ensemble:
    """Packs k forests into one `Ensemble` whose arrays have a leading axis (k,).

    Forests of fewer trees than the largest get trees that add nothing.

    Args:
      forests: of one library and the same features, without categories.

    Raises: `ValueError` for forests that differ in that.
    """
    first = forests[0]
    kinds = {(f.num_features, f.strict, f.divisor) for f in forests}
    if len(kinds) != 1 or any((f.category >= 0).any() for f in forests):
        raise ValueError(
            "forests that are packed together have the same features and no categories"
        )
    size = max(len(f.start) - 1 for f in forests)
    whole = packing.pack(_concatenated([_padded(f, size) for f in forests]))
    # On the host: nothing here is worth a compilation.
    whole, num = _rounded_up(jax.tree.map(np.asarray, whole)), len(forests)
    # Even where they are empty: single leaves have no nodes.
    split = lambda x: np.moveaxis(x.reshape(*x.shape[:-1], num, size), -2, 0)  # noqa: E731
    arrays = {
        key: split(getattr(whole, key)) for key in ("column", "threshold", "mask")
    }
    arrays |= {key: getattr(whole, key).reshape(num, size, -1) for key in _BY_TREE}
    if not whole.masked:
        arrays |= _nodes(whole, num, size)
    repeat = lambda x: np.broadcast_to(x, (num, *x.shape))  # noqa: E731
    ensemble = jax.tree.map(repeat, whole)
    arrays["base"] = np.array([f.base for f in forests], whole.base.dtype)
    # Trees that are evaluated by masks need no depth, which would be compiled anew.
    depth = 0 if whole.masked else whole.depth
    ensemble = replace(ensemble, **arrays, depth=depth, strict=first.strict)
    return jax.tree.map(jnp.asarray, ensemble)


def _rounded_up(whole: Ensemble) -> Ensemble:
    """The ensemble with columns and nodes that change nothing, on the host."""
    columns = whole.columns
    used = len(columns.feature)
    more = -used % _COLUMNS
    keys = ("feature", "fill", "zero")
    grown = {key: np.pad(getattr(columns, key), (0, more)) for key in keys}
    dtype = np.min_scalar_type(used + more)

    def moved(index: np.ndarray) -> np.ndarray:
        # The column of zeros is the last one.
        return np.where(index == used, used + more, index).astype(dtype)

    arrays = {key: moved(getattr(whole, key)) for key in ("column", "node_column")}
    if whole.masked:
        # A full mask keeps all leaves, wherever an input goes.
        rows = (0, -len(whole.column) % _NODES)
        fills = {"column": used + more, "threshold": np.inf, "mask": packing.FULL}
        for key, fill in fills.items():
            x = arrays[key] if key in arrays else getattr(whole, key)
            widths = (rows, *[(0, 0)] * (x.ndim - 1))
            arrays[key] = np.pad(x, widths, constant_values=fill)
        leaves = len(arrays["column"]) + 1
        for key in _BY_TREE:
            x = getattr(whole, key)
            arrays[key] = np.pad(x, ((0, 0), (0, max(0, leaves - x.shape[1]))))
    return replace(whole, columns=columns._replace(**grown), **arrays)


def _nodes(whole: Ensemble, num: int, size: int) -> dict[str, np.ndarray]:
    """The arrays of the form by nodes, (k, p / k).

    Children are counted from each model's own first node.

    Args:
      whole: the trees of all models, on the host.
      num: models.
      size: trees of each.
    """
    keys = ("node_column", "node_threshold", "node_left", "node_leaf")
    arrays = {key: getattr(whole, key).reshape(num, -1) for key in keys}
    each = arrays["node_left"].shape[1]
    arrays["node_left"] = (
        arrays["node_left"] - each * np.arange(num, dtype=np.int32)[:, None]
    )
    return arrays


def _padded(forest: Forest, size: int) -> Forest:
    """The forest with single leaves of value 0 after its trees, `size` trees in all."""
    more = size - (len(forest.start) - 1)
    fill = {
        "feature": -1,
        "category": -1,
        **dict.fromkeys(
            ("threshold", "left", "right", "missing", "value", "number"), 0
        ),
        "default_left": False,
    }
    arrays = {
        key: np.concatenate([x, np.full(more, value, x.dtype)])
        for key, value in fill.items()
        if (x := getattr(forest, key)) is not None
    }
    start = np.concatenate([forest.start, forest.start[-1] + 1 + np.arange(more)])
    return forest._replace(start=start, **arrays)


def _concatenated(forests: Sequence[Forest]) -> Forest:
    """One forest of the trees of all."""
    offset = np.cumsum([0, *(f.start[-1] for f in forests)])
    keys = ("feature", "threshold", "missing", "default_left")
    keys += ("category", "value", "number")
    joined = {key: np.concatenate([getattr(f, key) for f in forests]) for key in keys}
    for key in ("left", "right"):
        moved = [getattr(f, key) + o for f, o in zip(forests, offset, strict=False)]
        joined[key] = np.concatenate(moved)
    starts = [f.start[:-1] + o for f, o in zip(forests, offset, strict=False)]
    start = np.concatenate([*starts, offset[-1:]])
    return forests[0]._replace(start=start, **joined)


@jax.jit
def predict(heads: Ensemble, x: Array) -> Array:
    """The predictions (n, k) of k packed ensembles for inputs (n, f)."""
    return jax.lax.map(lambda ensemble: trees.predict(ensemble, x), heads).T
