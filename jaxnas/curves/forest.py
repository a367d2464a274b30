"""Decision trees as plain node arrays on the host, whatever library trained them.

A reader of a model file (`lightgbm_text`, `xgboost_json`) makes a `Forest`; `trees.pack`
makes the arrays from it that are evaluated on the device. Everything here is NumPy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Values of `Forest.missing`, LightGBM's own: what takes a node's default side.
NOTHING = 0  # nothing: NaN counts as 0
ZEROS = 1  # NaN, and values of at most 1e-35
NANS = 2  # NaN
# Memory limit of `Forest.categories`, in words of 32 categories.
MAX_WORDS = 2**24


class Forest(NamedTuple):
    """Regression trees with m nodes in total; tree i has nodes start[i] to start[i + 1].

    The first node of each tree is its root. A numeric node sends a value to the left if
    value <= threshold (value < threshold if `strict`), a categorical node if the integer
    part of the value is in its set of categories (not in it if `strict`). The prediction
    is (base + sum of the leaves' values over trees) / divisor.
    """

    start: np.ndarray  # (t + 1,) int64
    feature: (
        np.ndarray
    )  # (m,) int32, the column of the input that is tested; -1: a leaf
    threshold: np.ndarray  # (m,) float64
    left: np.ndarray  # (m,) int64, index of the left child among the m nodes
    right: np.ndarray  # (m,) int64
    missing: np.ndarray  # (m,) int8, NOTHING, ZEROS or NANS
    default_left: np.ndarray  # (m,) bool, the side of missing values
    category: np.ndarray  # (m,) int32, row of `categories`; -1: a numeric node
    categories: np.ndarray  # (c, w) uint32, sets of categories: bit v % 32 of v // 32
    value: np.ndarray  # (m,) float64, a leaf's contribution; unused at other nodes
    number: np.ndarray  # (m,) int32, the index that the library gives to a leaf
    num_features: int
    base: float = 0.0
    divisor: int = 1
    # Conventions of XGBoost: float32 throughout, < instead of <=, and categories of a
    # node's set go to the right.
    strict: bool = False


class Levels(NamedTuple):
    """Where each node is in its tree."""

    nodes: tuple[np.ndarray, ...]  # nodes at depth 0, 1, ...; siblings are adjacent
    reached: np.ndarray  # (m,) bool, the nodes with a path from their root
    count: np.ndarray  # (m,) int64, leaves below a node, itself included
    first: np.ndarray  # (m,) int64, leaves of the tree to the left of the node's


def tree_of(forest: Forest) -> np.ndarray:
    """The tree (m,) that each node belongs to."""
    return np.repeat(np.arange(len(forest.start) - 1), np.diff(forest.start))


def validate(forest: Forest, name: str) -> Forest:
    """Returns `forest` itself if its arrays can be trusted.

    Args:
      forest: from a reader.
      name: what error messages call the model.

    Raises: `ValueError` that names the tree for a feature, child or category out of
      range and for a threshold or value that is not finite.
    """
    tree, inner = tree_of(forest), forest.feature >= 0
    if not len(forest.start) > 1 or not np.all(np.diff(forest.start) > 0):
        raise ValueError(f"{name}: wanted at least one tree, and a node in each")
    _refuse(
        name, tree, forest.feature >= forest.num_features, "tests a feature that is"
    )
    for side in (forest.left, forest.right):
        outside = (side < forest.start[tree]) | (side >= forest.start[tree + 1])
        _refuse(name, tree, inner & outside, "has a child that is")
    outside = forest.category >= len(forest.categories)
    _refuse(name, tree, inner & outside, "has a set of categories that is")
    finite = np.isfinite(np.where(inner, forest.threshold, forest.value))
    _refuse(
        name, tree, ~finite, "has a threshold or a leaf value that is", "not finite"
    )
    if not np.isfinite(forest.base):
        raise ValueError(f"{name}: the base score is not finite")
    return forest


def _refuse(
    name: str, tree: np.ndarray, bad: np.ndarray, what: str, how: str = "out of range"
) -> None:
    if bad.any():
        raise ValueError(f"{name}: tree {tree[bad.argmax()]} {what} {how}")


def levels(forest: Forest, name: str = "forest") -> Levels:
    """Walks down all trees at once, a level at a time.

    Args:
      forest: with children in range, as `validate` requires.
      name: what error messages call the model.

    Raises: `ValueError` for a node with two parents, which every cycle has.
    """
    reached = np.zeros(len(forest.feature), bool)
    nodes, level = [], forest.start[:-1]
    while len(level):
        again = reached[level]
        again |= np.bincount(level, minlength=len(reached))[level] > 1
        if again.any():
            bad = tree_of(forest)[level[again.argmax()]]
            raise ValueError(
                f"{name}: tree {bad} has a cycle or a node with two parents"
            )
        reached[level] = True
        nodes.append(level)
        inner = level[forest.feature[level] >= 0]
        level = np.stack([forest.left[inner], forest.right[inner]], 1).reshape(-1)
    return Levels(tuple(nodes), reached, *_leaf_ranges(forest, nodes))


def _leaf_ranges(forest: Forest, nodes: list[np.ndarray]):
    """Numbers the leaves of each tree from the left.

    Args:
      forest: with m nodes.
      nodes: those at each depth.

    Returns: `Levels.count` (m,) and `Levels.first` (m,).
    """
    count = (forest.feature < 0).astype(np.int64)
    first = np.zeros_like(count)
    inner = [level[forest.feature[level] >= 0] for level in nodes]
    for level in reversed(inner):
        count[level] = count[forest.left[level]] + count[forest.right[level]]
    for level in inner:
        first[forest.left[level]] = first[level]
        first[forest.right[level]] = first[level] + count[forest.left[level]]
    return count, first


def bitset_rows(sets: list[np.ndarray], name: str) -> np.ndarray:
    """Puts sets of categories into one array.

    Args:
      sets: c of them, as words (w_i,) below 2^32.
      name: what error messages call the model.

    Returns: (c, w) uint32, w the largest w_i.
    Raises: `ValueError` if they would take more than `MAX_WORDS`.
    """
    longest = max((len(words) for words in sets), default=0)
    if longest * len(sets) > MAX_WORDS:
        raise ValueError(
            f"{name}: {len(sets)} sets of up to {32 * longest} categories: more than the "
            f"{MAX_WORDS} words that are kept"
        )
    rows = np.zeros((len(sets), longest), np.uint32)
    for row, words in zip(rows, sets, strict=True):
        row[: len(words)] = words
    return rows


def first_trees(forest: Forest, num: int) -> Forest:
    """The first `num` trees: what a model predicts that stopped early.

    The readers take all trees of a file, as `Booster.predict` of both libraries does for
    a model read from a file. `best_iteration` of an object that was pickled says how many
    of them its own `predict` takes.

    Raises: `ValueError` unless there are as many, and for a model that averages.
    """
    total = len(forest.start) - 1
    if not 1 <= num <= total:
        raise ValueError(f"wanted 1 to {total} trees, not {num}")
    if forest.divisor != 1:
        raise ValueError("a model that averages its trees is not trained in stages")
    end = forest.start[num]
    kept = {
        key: value[:end]
        for key, value in forest._asdict().items()
        if key not in ("start", "categories") and isinstance(value, np.ndarray)
    }
    return forest._replace(start=forest.start[: num + 1], **kept)


def from_xgboost_arrays(
    left: np.ndarray,
    right: np.ndarray,
    feature: np.ndarray,
    condition: np.ndarray,
    default_left: np.ndarray,
    *,
    sizes: np.ndarray,
    num_features: int,
    base: float = 0.0,
    name: str = "forest",
    sets: list[dict[int, np.ndarray]] | None = None,
    deleted: np.ndarray | None = None,
) -> Forest:
    """A forest from XGBoost's arrays of t trees, one tree after another.

    Args:
      left: (m,) index of the left child within the tree; -1 at a leaf.
      right: (m,) index of the right child.
      feature: (m,) the column that is tested: to the left if value < condition.
      condition: (m,) float32 thresholds; at leaves the values.
      default_left: (m,) whether NaN goes to the left.
      sizes: (t,) nodes of each tree, m in total.
      num_features: columns of the input.
      base: the base score, which is added to the sum over trees.
      name: what error messages call the model.
      sets: for each tree the words of each node that tests a category.
      deleted: (t,) number of nodes of each tree that no path leads to, which pruning
        leaves; default: any.

    Returns: a forest whose leaves have their node's index as number.
    Raises: `ValueError` for children or features out of range, cycles, nodes that no path
      leads to, and numbers that are not finite.
    """
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    tree = np.repeat(np.arange(len(sizes)), sizes)
    leaf = left == -1
    condition = np.asarray(condition, np.float32).astype(np.float64)
    category, categories = _rows(sets or [], start, name)
    # A child that is out of range must not be taken for a node of another tree.
    inside = lambda x: np.where((x < 0) | (x >= sizes[tree]), -1, x + start[tree])  # noqa: E731
    # A deleted node may test any feature.
    tested = np.where(feature < num_features, feature, num_features)
    forest = Forest(
        start=start,
        feature=np.where(leaf, -1, tested).astype(np.int32),
        threshold=condition,
        left=inside(left),
        right=inside(right),
        missing=np.full(len(tree), NANS, np.int8),
        default_left=np.asarray(default_left).astype(bool),
        category=category,
        categories=categories,
        value=condition,
        number=(np.arange(start[-1]) - start[tree]).astype(np.int32),
        num_features=num_features,
        base=float(np.float32(base)),
        strict=True,
    )
    if (~leaf & (feature < 0)).any():
        raise ValueError(f"{name}: a node tests a negative feature")
    node_levels = levels(validate(forest, name), name)
    lost = np.bincount(tree, ~node_levels.reached, len(sizes))
    if deleted is not None and (lost != deleted).any():
        bad = (lost != deleted).argmax()
        raise ValueError(
            f"{name}: no path leads to {int(lost[bad])} nodes of tree {bad}, where "
            f"num_deleted says {deleted[bad]}"
        )
    return forest


def _rows(
    sets: list[dict[int, np.ndarray]], start: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """`Forest.category` and `Forest.categories` from the sets of each tree's nodes."""
    category = np.full(start[-1], -1, np.int32)
    bitsets: list[np.ndarray] = []
    for first, nodes in zip(start, sets, strict=False):
        for node, words in nodes.items():
            category[first + node] = len(bitsets)
            bitsets.append(words)
    return category, bitset_rows(bitsets, name)
