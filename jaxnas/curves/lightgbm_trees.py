"""The trees of a LightGBM text model, from text fields to a `Forest`.

Each tree has `num_leaves` - 1 internal nodes and `num_leaves` leaves, in arrays of their
own. A child c >= 0 is internal node c, a child c < 0 is leaf -1 - c. In a `Forest` the
internal nodes of a tree come first, then its leaves, both in LightGBM's order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxnas.curves import forest as forests
from jaxnas.curves.forest import Forest

# Bits of `decision_type`; the next two are the kind of missing values.
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
# The largest of them: a categorical node whose missing values are NaN, and default left.
_LARGEST_DECISION = 11


class _Layout(NamedTuple):
    """Where the m nodes of t trees are."""

    start: np.ndarray  # (t + 1,) int64, first node of each tree
    tree: np.ndarray  # (m,) int64, the tree of each node
    inner: np.ndarray  # (m,) bool, internal nodes
    leaf: np.ndarray  # (m,) int64, LightGBM's index of each leaf; negative elsewhere


def parse(text: str, kind: Callable[[str], float], what: str) -> np.ndarray:
    """Numbers that are separated by spaces.

    Args:
      text: the numbers.
      kind: int or float.
      what: what error messages call them.

    Returns: (n,) int64 or float64.
    Raises: `ValueError` for what is not a number of that kind, or does not fit.
    """
    try:
        numbers = list(map(kind, text.split()))
        return np.array(numbers, np.int64 if kind is int else np.float64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{what} is damaged: {error}") from None


def to_forest(trees: list[dict[str, str]], num_features: int, name: str) -> Forest:
    """Builds a forest from the fields of each tree.

    Args:
      trees: t trees; arrays of no numbers may be missing.
      num_features: columns of the input.
      name: what error messages call the model.

    Raises: `ValueError` for linear trees, arrays of wrong lengths, and nodes that do not
      form trees.
    """
    for i, tree in enumerate(trees):
        if tree.get("is_linear", "0") != "0":
            raise ValueError(
                f"{name}: tree {i} is linear: only constant leaves are supported"
            )
    layout = _layout(trees, name)
    nodes = _internal_nodes(trees, layout, num_features, name)
    value = np.zeros(len(layout.tree))
    num_leaves = (np.diff(layout.start) + 1) // 2
    value[~layout.inner] = _concatenated(trees, "leaf_value", num_leaves, float, name)
    categorical = nodes["decision_type"] & _CATEGORICAL > 0
    default_left = nodes["decision_type"] & _DEFAULT_LEFT > 0
    category, categories = _categories(
        trees, layout, categorical, nodes["threshold"], name
    )
    forest = Forest(
        start=layout.start,
        feature=nodes["split_feature"].astype(np.int32),
        threshold=nodes["threshold"],
        left=nodes["left_child"],
        right=nodes["right_child"],
        missing=(nodes["decision_type"] >> 2).astype(np.int8),
        # A category that is missing is in no set.
        default_left=default_left & ~categorical,
        category=category,
        categories=categories,
        value=value,
        number=layout.leaf.astype(np.int32),
        num_features=num_features,
    )
    return _all_reached(forest, name)


def _layout(trees: list[dict[str, str]], name: str) -> _Layout:
    ones = np.ones(len(trees), np.int64)
    leaves = _concatenated(trees, "num_leaves", ones, int, name)
    if leaves.min() < 1:
        raise ValueError(f"{name}: tree {leaves.argmin()} has {leaves.min()} leaves")
    for i, (num, tree) in enumerate(zip(leaves, trees, strict=True)):
        # Before room is made for as many.
        if num > max(1, len(tree.get("leaf_value", ""))):
            raise ValueError(
                f"{name}: tree {i}: fewer leaf_value than num_leaves = {num}"
            )
    start = np.concatenate([[0], np.cumsum(2 * leaves - 1)])
    tree = np.repeat(np.arange(len(trees)), 2 * leaves - 1)
    leaf = np.arange(start[-1]) - start[tree] - leaves[tree] + 1
    return _Layout(start, tree, leaf < 0, leaf)


def _concatenated(
    trees: list[dict[str, str]], key: str, sizes: np.ndarray, kind: Callable, name: str
) -> np.ndarray:
    """The arrays `key` of all trees, one after another.

    Args:
      trees: the fields of each of t trees.
      key: which of them; a tree that lacks it has the empty array.
      sizes: (t,) wanted lengths.
      kind: int or float.
      name: what error messages call the model.

    Raises: `ValueError` for a length or a number that is wrong.
    """
    texts = [tree.get(key, "") for tree in trees]
    for i, (text, size) in enumerate(zip(texts, sizes, strict=True)):
        if (count := len(text.split())) != size:
            raise ValueError(
                f"{name}: tree {i}: {key} has {count} numbers, where {size} were wanted"
            )
    return parse(" ".join(texts), kind, f"{name}: {key}")


def _internal_nodes(
    trees: list[dict[str, str]], layout: _Layout, num_features: int, name: str
) -> dict[str, np.ndarray]:
    """The arrays of internal nodes, spread over all nodes (m,).

    Children are indices among the m nodes; at leaves the feature is -1, and the rest 0.

    Raises: `ValueError` for an unknown feature or decision type.
    """
    sizes = (np.diff(layout.start) - 1) // 2
    arrays = {
        key: _concatenated(trees, key, sizes, kind, name)
        for key, kind in {
            "split_feature": int,
            "threshold": float,
            "decision_type": int,
            "left_child": int,
            "right_child": int,
        }.items()
    }
    limits = {"split_feature": num_features - 1, "decision_type": _LARGEST_DECISION}
    for key, largest in limits.items():
        if ((arrays[key] < 0) | (arrays[key] > largest)).any():
            raise ValueError(f"{name}: a {key} is not one of 0 to {largest}")
    for side in ("left_child", "right_child"):
        arrays[side] = _absolute(arrays[side], layout)
    spread = {key: np.zeros(len(layout.tree), x.dtype) for key, x in arrays.items()}
    for key, values in arrays.items():
        spread[key][layout.inner] = values
    spread["split_feature"][~layout.inner] = -1
    return spread


def _absolute(child: np.ndarray, layout: _Layout) -> np.ndarray:
    """Children of all internal nodes, as indices among all nodes; -1: out of range.

    A child that is out of range must not be taken for a leaf or for another tree's node.
    """
    tree = layout.tree[layout.inner]
    inner = (np.diff(layout.start) - 1)[tree] // 2
    node = np.where(child >= 0, child, inner - child - 1)
    outside = (child >= inner) | (child < -1 - inner)
    return np.where(outside, -1, node + layout.start[tree])


def _categories(
    trees: list[dict[str, str]],
    layout: _Layout,
    categorical: np.ndarray,
    threshold: np.ndarray,
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The sets of categories that nodes test.

    Args:
      trees: the fields of each of t trees.
      layout: of the m nodes.
      categorical: (m,) nodes that test a set.
      threshold: (m,) which set of its tree such a node tests.
      name: what error messages call the model.

    Returns: `Forest.category` (m,) and `Forest.categories` (c, w).
    Raises: `ValueError` for an unknown set.
    """
    sets: list[np.ndarray] = []
    category = np.full(len(threshold), -1, np.int32)
    for i in np.unique(layout.tree[categorical]):
        nodes = slice(layout.start[i], layout.start[i + 1])
        mine = np.flatnonzero(categorical[nodes]) + layout.start[i]
        tree_sets = _sets(trees[i], f"{name}: tree {i}")
        if not np.isin(threshold[mine], np.arange(len(tree_sets))).all():
            raise ValueError(
                f"{name}: tree {i}: a categorical threshold is not one of 0 to num_cat - 1"
            )
        category[mine] = threshold[mine].astype(np.int32) + len(sets)
        sets += tree_sets
    return category, forests.bitset_rows(sets, name)


def _sets(tree: dict[str, str], name: str) -> list[np.ndarray]:
    """The sets of categories of one tree: slices of `cat_threshold`, words of 32 bits.

    Raises: `ValueError` if the slices do not cover it.
    """
    bounds = parse(tree.get("cat_boundaries", ""), int, f"{name}: cat_boundaries")
    words = parse(tree.get("cat_threshold", ""), int, f"{name}: cat_threshold")
    if (
        not len(bounds)
        or str(len(bounds) - 1) != tree.get("num_cat")
        or bounds[0] != 0
        or bounds[-1] != len(words)
        or (np.diff(bounds) < 0).any()
        or ((words < 0) | (words >= 2**32)).any()
    ):
        raise ValueError(
            f"{name}: num_cat, cat_boundaries and cat_threshold do not agree"
        )
    return [words[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


def _all_reached(forest: Forest, name: str) -> Forest:
    """Returns `forest` itself, if it is valid and a path leads to every node."""
    node_levels = forests.levels(forests.validate(forest, name), name)
    if not node_levels.reached.all():
        bad = forests.tree_of(forest)[node_levels.reached.argmin()]
        raise ValueError(f"{name}: tree {bad} has a node that no path leads to")
    return forest
