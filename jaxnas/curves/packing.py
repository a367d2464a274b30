"""Packs a `Forest` into the arrays that `trees` evaluates.

Missing values and categories are resolved once for each input and not at each node: the
nodes of a forest test `Columns`, which are copies of the features in which a missing
value is replaced by what sends it to the right side. No column has a NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves.forest import ZEROS, Forest, Levels, levels, tree_of
from jaxnas.types import Array

# Trees with more leaves have no masks and are walked: the work of masks is quadratic.
MAX_MASKED = 128
WORD = 32  # bits of a word of a mask
FULL = np.uint32(0xFFFFFFFF)


class Columns(NamedTuple):
    """What the nodes of a forest test, made from an input (f,).

    There are c numeric columns, then s sets of categories, then one column of zeros.
    """

    feature: Array  # (c,) int32, the feature that a column copies
    fill: Array  # (c,) value in place of a missing one: 0, -inf (left), inf (right)
    zero: Array  # (c,) bool, whether zeros are missing too
    set_feature: Array  # (s,) int32
    set_fill: Array  # (s,) -1 or 1, value in place of NaN
    words: Array  # (s, w) uint32, sets of categories; w may be 0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ensemble:
    """t trees in two forms, of which `trees` takes the faster one; a pytree of arrays.

    By nodes: a tree has up to m nodes, the right child follows the left one, and a leaf
    is its own left child.

    By masks: each of the up to n = m // 2 internal nodes has a mask that clears the bits
    of the leaves on its left. The leaf of an input is the lowest bit that is left after
    the masks of all nodes that send it to the right (Lucchese et al., 2015, QuickScorer,
    section 3).

    Attributes:
      columns: what the nodes test.
      column: (t, n) int32 column of each internal node.
      threshold: (t, n) of the internal nodes; infinite where a tree has fewer.
      mask: (t, n, w) uint32, bit i of word j is leaf 32 j + i; w = 0 without masks.
      node_column: (t * m,) int32 column of each node.
      node_threshold: (t * m,); infinite at leaves.
      node_left: (t * m,) int32 index of the left child.
      node_leaf: (t * m,) int32, a leaf's place from the left; 0 at internal nodes.
      value: (t, l) the leaves' values, from the left.
      number: (t, l) int32, the library's own index of each leaf.
      base: () what is added to the sum, and divisor: () what that is divided by.
      num_features: columns of the input.
      depth: edges from a root to the deepest leaf.
      strict: whether a node tests < instead of <=.
    """

    columns: Columns
    column: Array
    threshold: Array
    mask: Array
    node_column: Array
    node_threshold: Array
    node_left: Array
    node_leaf: Array
    value: Array
    number: Array
    base: Array
    divisor: Array
    num_features: int = field(metadata={"static": True})
    depth: int = field(metadata={"static": True})
    strict: bool = field(metadata={"static": True})

    @property
    def num_trees(self) -> int:
        """Number t of trees."""
        return self.value.shape[0]


def round_down(values: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """The largest numbers of `dtype` that are not above `values` (any shape).

    For every x of `dtype`, x <= value if and only if x <= round_down(value). An input in
    float64 that is rounded down as well never crosses a threshold that it reached
    exactly; rounded to nearest, as by a conversion to float32, it can.
    """
    values = np.asarray(values, np.float64)
    with np.errstate(over="ignore"):
        rounded = values.astype(dtype)
    lower = np.nextafter(rounded, np.array(-np.inf, dtype))
    return np.where(rounded.astype(np.float64) > values, lower, rounded)


def pack(forest: Forest, dtype: np.dtype | type | None = None) -> Ensemble:
    """Packs a forest for evaluation, as arrays on the device.

    Args:
      forest: from one of the readers.
      dtype: float32 or float64 of inputs, thresholds and values; default: float64 if
        JAX has it enabled, else float32, and always float32 for models of XGBoost, which
        are defined by it. In float32 thresholds are rounded down.

    Raises: `ValueError` for float64 where it is not enabled or the model is of XGBoost,
      and for a forest that is not made of trees.
    """
    dtype = _precision(forest, dtype)
    found = levels(forest)
    used, column = _columns(forest, found.reached, dtype)
    arrays = {
        "base": np.asarray(forest.base, dtype),
        "divisor": np.asarray(forest.divisor, dtype),
        **_by_masks(forest, found, column, dtype),
        **_by_nodes(forest, found, column, dtype),
        **_leaves(forest, found, dtype),
    }
    return Ensemble(
        columns=used,
        **{key: jnp.asarray(value) for key, value in arrays.items()},
        num_features=forest.num_features,
        depth=len(found.nodes) - 1,
        strict=forest.strict,
    )


def _precision(forest: Forest, dtype: np.dtype | type | None) -> np.dtype:
    double = bool(jax.config.values["jax_enable_x64"])
    if dtype is None:
        dtype = np.float64 if double and not forest.strict else np.float32
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, not {dtype}")
    if dtype == np.float64 and forest.strict:
        raise ValueError("dtype must be float32 for a model of XGBoost, not float64")
    if dtype == np.float64 and not double:
        raise ValueError("dtype float64 needs jax_enable_x64, which is off")
    return dtype


def _columns(
    forest: Forest, reached: np.ndarray, dtype: np.dtype
) -> tuple[Columns, np.ndarray]:
    """The distinct tests of all nodes without their thresholds, and that of each node.

    Returns: columns, and their indices (m,) by node: the column of zeros at leaves.
    """
    inner = reached & (forest.feature >= 0)
    numeric = forest.category < 0
    # Without a missing value there is no default side.
    side = np.where(forest.missing > 0, np.where(forest.default_left, -1, 1), 0)
    side = np.where(numeric, side, np.where(forest.default_left, -1, 1))
    zeros = numeric & (forest.missing == ZEROS)
    keys = np.stack([forest.category, forest.feature, side, zeros], 1)[inner]
    # Numeric nodes have category -1, so that they come first.
    rows, place = np.unique(keys, axis=0, return_inverse=True)
    column = np.full(len(inner), len(rows), np.int32)
    column[inner] = place.reshape(-1)
    plain = rows[:, 0] < 0
    fill = np.array([0, np.inf, -np.inf], dtype)  # by side: 0, 1, -1
    used = (
        rows[plain, 1].astype(np.int32),
        fill[rows[plain, 2]],
        rows[plain, 3].astype(bool),
        rows[~plain, 1].astype(np.int32),
        rows[~plain, 2].astype(dtype),
        forest.categories[rows[~plain, 0]],
    )
    return Columns(*map(jnp.asarray, used)), column


def _thresholds(forest: Forest, nodes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Thresholds (k,) of internal nodes; a set's column is -1 or 1.

    Denormal thresholds are moved to zero or to the smallest normal number, so that all
    other inputs go where they went: XLA's CPU code takes denormal numbers for zero, and
    XGBoost writes 1e-45 for "above zero".
    """
    numeric = forest.category[nodes] < 0
    exact = round_down(np.where(numeric, forest.threshold[nodes], 0), dtype)
    tiny = np.finfo(dtype).tiny
    above = np.where(exact > 0, tiny if forest.strict else 0, 0)
    below = np.where(exact < 0, 0 if forest.strict else -tiny, above)
    return np.where(np.abs(exact) < tiny, below.astype(dtype), exact)


def _by_nodes(
    forest: Forest, found: Levels, column: np.ndarray, dtype: np.dtype
) -> dict[str, np.ndarray]:
    """The arrays `node_*`: the nodes of each tree by level, so that siblings meet."""
    order = np.concatenate(found.nodes)
    order = order[np.argsort(tree_of(forest)[order], kind="stable")]
    tree = tree_of(forest)[order]
    num = len(forest.start) - 1
    size = np.bincount(tree, minlength=num)
    place = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    slot = tree * size.max() + place
    new = np.zeros(len(forest.feature), np.int64)
    new[order] = slot
    inner = forest.feature[order] >= 0
    left = np.where(inner, new[np.where(inner, forest.left[order], 0)], slot)
    threshold = np.full(len(order), np.inf, dtype)
    threshold[inner] = _thresholds(forest, order[inner], dtype)
    total = num * size.max()

    def table(values: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
        out = np.zeros(total, dtype)
        out[slot] = values
        return out

    return {
        "node_column": table(column[order], np.int32),
        "node_threshold": table(threshold, dtype),
        "node_left": table(left, np.int32),
        "node_leaf": table(np.where(inner, 0, found.first[order]), np.int32),
    }


def _by_masks(
    forest: Forest, found: Levels, column: np.ndarray, dtype: np.dtype
) -> dict[str, np.ndarray]:
    """The arrays `column`, `threshold` and `mask`, of no nodes for large trees."""
    num, largest = len(forest.start) - 1, int(found.count[forest.start[:-1]].max())
    words = -(-largest // WORD) if largest <= MAX_MASKED else 0
    nodes = np.flatnonzero(found.reached & (forest.feature >= 0))
    if not words:
        nodes = nodes[:0]
    tree = tree_of(forest)[nodes]
    size = np.bincount(tree, minlength=num)
    at = (tree, np.arange(len(nodes)) - np.repeat(np.cumsum(size) - size, size))
    shape = (num, int(size.max()))
    # Unused places send everything to the left and would clear nothing.
    out = {
        "column": np.zeros(shape, np.int32),
        "threshold": np.full(shape, np.inf, dtype),
        "mask": np.full((*shape, words), FULL),
    }
    out["column"][at] = column[nodes]
    out["threshold"][at] = _thresholds(forest, nodes, dtype)
    first = found.first[nodes]
    bits = np.arange(words * WORD)
    cleared = (bits >= first[:, None]) & (
        bits < (first + found.count[forest.left[nodes]])[:, None]
    )
    packed = np.packbits(~cleared, axis=1, bitorder="little")
    out["mask"][at] = packed.reshape(len(nodes), words, 4).view("<u4")[..., 0]
    return out


def _leaves(forest: Forest, found: Levels, dtype: np.dtype) -> dict[str, np.ndarray]:
    """The arrays `value` and `number`."""
    leaves = np.flatnonzero(found.reached & (forest.feature < 0))
    at = (tree_of(forest)[leaves], found.first[leaves])
    shape = (len(forest.start) - 1, int(found.count[forest.start[:-1]].max()))
    value, number = np.zeros(shape, dtype), np.zeros(shape, np.int32)
    value[at], number[at] = forest.value[leaves], forest.number[leaves]
    return {"value": value, "number": number}
