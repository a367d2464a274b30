"""Missing values and categories, resolved once for each input and not at each node.

The nodes of a forest test columns: copies of the features in which a missing value is
replaced by what sends it to the right side. Nodes that test the same feature and treat
missing values alike share a column. A set of categories is a column that is -1 for what
it sends to the left and 1 for the rest. No column has a NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.curves.forest import ZEROS, Forest
from jaxnas.types import Array

WORD = 32  # bits of a word of a set
# Below this LightGBM takes a value for zero; the float32 nearest to 1e-35.
_ZERO = float(np.float32(1e-35))


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


def find_columns(
    forest: Forest, reached: np.ndarray, dtype: np.dtype
) -> tuple[Columns, np.ndarray]:
    """Finds what the nodes of a forest test, apart from their thresholds.

    Args:
      forest: with m nodes.
      reached: (m,) bool, the nodes that count.
      dtype: float32 or float64 of the inputs.

    Returns: the distinct columns, and the index (m,) of that of each node, which is the
      column of zeros at leaves.
    """
    inner = reached & (forest.feature >= 0)
    numeric = forest.category < 0
    # Without a missing value there is no default side.
    side = np.where(forest.missing > 0, np.where(forest.default_left, -1, 1), 0)
    side = np.where(numeric, side, np.where(forest.default_left, -1, 1))
    zeros = numeric & (forest.missing == ZEROS)
    keys = np.stack([forest.category, forest.feature, side, zeros], 1)[inner]
    # Numeric nodes have category -1, so that they come first.
    rows, index = np.unique(keys, axis=0, return_inverse=True)
    # As small as possible: one input is limited by the memory that it reads.
    column = np.full(len(inner), len(rows), np.min_scalar_type(len(rows)))
    column[inner] = index.reshape(-1)
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


def make_columns(columns: Columns, x: Array, strict: bool) -> Array:
    """Computes what the nodes test.

    Args:
      columns: c numeric columns and s sets of categories.
      x: (n, f) inputs; NaN is a missing value.
      strict: as in `Forest`: categories in a set go to the right.

    Returns: (c + s + 1, n), without NaN.
    """
    values = x[:, columns.feature]
    missing = jnp.isnan(values) | (columns.zero & (jnp.abs(values) <= _ZERO))
    parts = [jnp.where(missing, columns.fill, values).T]
    if columns.words.size:
        parts.append(_sides(columns, x[:, columns.set_feature], strict).T)
    return jnp.concatenate([*parts, jnp.zeros((1, len(x)), x.dtype)])


def _sides(columns: Columns, x: Array, outside: bool) -> Array:
    """-1 where the category of `x` (n, s) goes to the left, else 1.

    Args:
      columns: with s sets of categories.
      x: (n, s) the feature of each set.
      outside: whether categories in the set go to the right, and all others, which
        includes negative and unknown ones, to the left.
    """
    num, width = columns.words.shape
    category = jnp.trunc(x)
    # LightGBM takes -0.5 for category 0, XGBoost for none.
    in_range = ((x if outside else category) >= 0) & (category < width * WORD)
    index = jnp.where(in_range, category, 0).astype(jnp.int32)
    word = columns.words[jnp.arange(num), index // WORD]
    inside = in_range & ((word >> (index % WORD).astype(jnp.uint32)) & 1 > 0)
    side = jnp.where(inside != outside, -1, 1).astype(x.dtype)
    return jnp.where(jnp.isnan(x), columns.set_fill, side)
