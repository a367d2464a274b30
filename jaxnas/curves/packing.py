"""Packs a `Forest` into the arrays that `trees` evaluates."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves.columns import WORD, Columns, find_columns
from jaxnas.curves.forest import Forest, Levels, levels, tree_of
from jaxnas.types import Array

# Trees with more leaves have no masks and are walked: the work of masks is quadratic.
MAX_MASKED = 128
FULL = np.uint32(0xFFFFFFFF)
# Of the form that an ensemble does not have.
_NO_FORM = {
    **{key: np.zeros((0, 0), np.int32) for key in ("column", "threshold")},
    "mask": np.zeros((0, 0, 0), np.uint32),
    **{f"node_{key}": np.zeros(0, np.int32) for key in ("column", "left", "leaf")},
    "node_threshold": np.zeros(0, np.float32),
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ensemble:
    """t trees in one of two forms, by the leaves of the largest tree; a pytree of arrays.

    By masks, up to `MAX_MASKED` leaves: each of the up to n internal nodes has a mask
    that clears the bits of the leaves on its left. The leaf of an input is the lowest bit
    that is left after the masks of all nodes that send it to the right (Lucchese et al.,
    2015, QuickScorer, section 3). n or p below is 0 for the form that is not used.

    By nodes: a tree has up to p / t nodes, the right child follows the left one, and a
    leaf is its own left child.

    Attributes:
      columns: what the nodes test.
      column: (n, t) unsigned, the column of each internal node.
      threshold: (n, t) of the internal nodes; infinite where a tree has fewer.
      mask: (n, w, t) uint32, bit i of word j is leaf 32 j + i.
      node_column: (p,) unsigned, the column of each node.
      node_threshold: (p,); infinite at leaves.
      node_left: (p,) int32 index of the left child.
      node_leaf: (p,) int32, a leaf's place from the left; 0 at internal nodes.
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

    @property
    def masked(self) -> bool:
        """Whether the trees are evaluated by masks."""
        return not len(self.node_left)


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


def round_thresholds(
    values: np.ndarray, dtype: np.dtype | type, strict: bool = False
) -> np.ndarray:
    """Thresholds (any shape) in another precision, so that its numbers go where they went.

    They are rounded down. Denormal ones are moved to zero or to the smallest normal
    number: XLA's CPU code takes denormal numbers for zero, and XGBoost writes 1e-45 for
    "above zero".

    Args:
      values: thresholds.
      dtype: float32 or float64.
      strict: whether inputs that equal the threshold are above it.
    """
    exact = round_down(values, dtype)
    tiny = np.finfo(dtype).tiny
    above = np.where(exact > 0, tiny if strict else 0, 0)
    below = np.where(exact < 0, 0 if strict else -tiny, above)
    return np.where(np.abs(exact) < tiny, below.astype(dtype), exact)


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
    node_levels = levels(forest)
    used, column = find_columns(forest, node_levels.reached, dtype)
    arrays = {
        "base": np.asarray(forest.base, dtype),
        "divisor": np.asarray(forest.divisor, dtype),
        **_leaves(forest, node_levels, dtype),
    }
    # The other form has no trees.
    forms = {
        **_by_masks(forest, node_levels, column, dtype),
        **_by_nodes(forest, node_levels, column, dtype),
    }
    masked = arrays["value"].shape[1] <= MAX_MASKED
    arrays |= {
        k: v[:0] if k.startswith("node") == masked else v for k, v in forms.items()
    }
    return Ensemble(
        columns=used,
        **{key: jnp.asarray(value) for key, value in arrays.items()},
        num_features=forest.num_features,
        depth=len(node_levels.nodes) - 1,
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


def _thresholds(forest: Forest, nodes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Thresholds (k,) of internal nodes; a set's column is -1 or 1."""
    numeric = forest.category[nodes] < 0
    values = np.where(numeric, forest.threshold[nodes], 0)
    return round_thresholds(values, dtype, forest.strict)


def _by_nodes(
    forest: Forest, node_levels: Levels, column: np.ndarray, dtype: np.dtype
) -> dict[str, np.ndarray]:
    """The form by nodes: those of each tree by level, so that siblings are adjacent.

    Args:
      forest: with m nodes.
      node_levels: levels of the forest.
      column: (m,) column index tested by each node.
      dtype: of the thresholds.

    Returns: the arrays `node_*` of `Ensemble`.
    """
    order = np.concatenate(node_levels.nodes)
    order = order[np.argsort(tree_of(forest)[order], kind="stable")]
    tree = tree_of(forest)[order]
    index, size = _positions(tree, len(forest.start) - 1)
    slot = tree * size + index
    new = np.zeros(len(forest.feature), np.int64)
    new[order] = slot
    inner = forest.feature[order] >= 0
    left = np.where(inner, new[np.where(inner, forest.left[order], 0)], slot)
    threshold = np.full(len(order), np.inf, dtype)
    threshold[inner] = _thresholds(forest, order[inner], dtype)

    def table(values: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
        out = np.zeros((len(forest.start) - 1) * size, dtype)
        out[slot] = values
        return out

    return {
        "node_column": table(column[order], column.dtype),
        "node_threshold": table(threshold, dtype),
        "node_left": table(left, np.int32),
        "node_leaf": table(np.where(inner, 0, node_levels.first[order]), np.int32),
    }


def _by_masks(
    forest: Forest, node_levels: Levels, column: np.ndarray, dtype: np.dtype
) -> dict[str, np.ndarray]:
    """The form by masks of all trees, whatever their size.

    Args:
      forest: the trees, with m nodes.
      node_levels: the levels of the forest.
      column: (m,) column index tested by each node.
      dtype: of the thresholds.

    Returns: `column`, `threshold` and `mask` of `Ensemble`.
    """
    nodes = np.flatnonzero(node_levels.reached & (forest.feature >= 0))
    tree = tree_of(forest)[nodes]
    num = len(forest.start) - 1
    index, size = _positions(tree, num)
    masks = _masks(forest, node_levels, nodes)
    # Unused positions send everything to the left and would clear nothing.
    out = {
        "column": np.zeros((size, num), column.dtype),
        "threshold": np.full((size, num), np.inf, dtype),
        "mask": np.full((size, masks.shape[1], num), FULL),
    }
    out["column"][index, tree] = column[nodes]
    out["threshold"][index, tree] = _thresholds(forest, nodes, dtype)
    out["mask"][index, :, tree] = masks
    return out


def _masks(forest: Forest, node_levels: Levels, nodes: np.ndarray) -> np.ndarray:
    """Masks (k, w) uint32 of internal nodes, without the leaves on their left."""
    words = -(-int(node_levels.count[forest.start[:-1]].max()) // WORD)
    first = node_levels.first[nodes][:, None]
    last = first + node_levels.count[forest.left[nodes]][:, None]
    bits = np.arange(words * WORD)
    kept = np.packbits((bits < first) | (bits >= last), axis=1, bitorder="little")
    return kept.reshape(len(nodes), words, 4).view("<u4")[..., 0].astype(np.uint32)


def _positions(tree: np.ndarray, num: int) -> tuple[np.ndarray, int]:
    """Counts nodes (k,) within their tree, given in ascending order.

    Returns: the position (k,) of each node, and the largest number of them in a tree.
    """
    size = np.bincount(tree, minlength=num)
    return np.arange(len(tree)) - (np.cumsum(size) - size)[tree], int(size.max())


def _leaves(
    forest: Forest, node_levels: Levels, dtype: np.dtype
) -> dict[str, np.ndarray]:
    """The arrays `value` and `number`."""
    leaves = np.flatnonzero(node_levels.reached & (forest.feature < 0))
    at = (tree_of(forest)[leaves], node_levels.first[leaves])
    shape = (len(forest.start) - 1, int(node_levels.count[forest.start[:-1]].max()))
    value, number = np.zeros(shape, dtype), np.zeros(shape, np.int32)
    value[at], number[at] = forest.value[leaves], forest.number[leaves]
    return {"value": value, "number": number}
