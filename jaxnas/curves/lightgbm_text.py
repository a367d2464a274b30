"""Reads regression models in LightGBM's text format, without LightGBM.

The format is what `Booster.save_model` and `Booster.model_to_string` write (versions v3
and v4): a header, a block of `key=value` lines for each tree, and then importances and
parameters, which are ignored. Leaf values include the learning rate, the weights of DART
and, in the first tree, the average from which boosting starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from jaxnas.curves import forest as forests
from jaxnas.curves.forest import Forest

# Objectives whose prediction is the sum of the trees.
IDENTITY = {
    *("regression", "regression_l2", "l2", "mse", "rmse", "regression_l1", "l1", "mae"),
    *("huber", "fair", "quantile", "mape", "custom", "none"),
}
_END = "\nend of trees"
_TREE = re.compile(r"^Tree=(.*)\n", re.MULTILINE)
_NODES = ("split_feature", "threshold", "decision_type", "left_child", "right_child")


def read(text: str | bytes, name: str = "LightGBM model") -> Forest:
    """The trees of a text model; the leaves' numbers are LightGBM's leaf indices.

    Args:
      text: the whole file, as text or in UTF-8.
      name: what error messages call the model: its file, say.

    Returns: a forest of float64 thresholds and values.
    Raises: `ValueError`, of one line that begins with `name`, for a text that is not such
      a model, is cut off, or has converted newlines; for arrays of wrong lengths,
      children out of range and cycles; and for what is not supported: linear trees,
      several outputs, and objectives with a link function.
    """
    text = _decode(text, name)
    header, blocks = _sections(text, name)
    _check_header(header, name)
    trees = [_fields(block, f"{name}: tree {i}") for i, block in enumerate(blocks)]
    forest = _forest(trees, int(header["max_feature_idx"]) + 1, name)
    if "average_output" in header:
        forest = forest._replace(divisor=len(trees))
    return _validate(forest, name)


def _decode(text: str | bytes, name: str) -> str:
    if isinstance(text, bytes | bytearray):
        try:
            text = bytes(text).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: not text in UTF-8: {error}") from None
    if "\r" in text:
        raise ValueError(
            f"{name}: has carriage returns, so its newlines were converted: copy the file "
            "again, in binary mode"
        )
    if not text.startswith("tree\n"):
        raise ValueError(
            f"{name}: not a LightGBM text model, whose first line is 'tree': "
            f"it begins with {text[:20]!r}"
        )
    return text


def _sections(text: str, name: str) -> tuple[dict[str, str], list[str]]:
    """The header's fields, and the blocks of lines of the trees."""
    end = text.find(_END)
    if end < 0:
        raise ValueError(f"{name}: cut off, as 'end of trees' is missing")
    marks = list(_TREE.finditer(text, 0, end + 1))
    if not marks:
        raise ValueError(f"{name}: no trees")
    numbers = [mark[1] for mark in marks]
    if numbers != [str(i) for i in range(len(marks))]:
        wrong = next(i for i, number in enumerate(numbers) if number != str(i))
        raise ValueError(f"{name}: Tree={numbers[wrong]} where Tree={wrong} was wanted")
    cuts = [mark.start() for mark in marks] + [end + 1]
    header = _fields(text[5 : cuts[0]], f"{name}: header")
    if "tree_sizes" in header:
        _check_sizes(header["tree_sizes"], text, cuts, name)
    return header, [text[m.end() : c] for m, c in zip(marks, cuts[1:], strict=True)]


def _check_sizes(listed: str, text: str, cuts: list[int], name: str) -> None:
    """Compares the sizes of the trees' blocks with those in the header, in bytes."""
    sizes = _parse(listed.split(), int, f"{name}: header: tree_sizes")
    found = np.diff(cuts)
    if not text.isascii():
        found = [len(text[a:b].encode()) for a, b in zip(cuts, cuts[1:], strict=False)]
    if len(sizes) != len(found):
        raise ValueError(f"{name}: {len(found)} trees, where tree_sizes has {len(sizes)}")
    wrong = np.flatnonzero(sizes != np.asarray(found))
    if len(wrong):
        i = wrong[0]
        raise ValueError(
            f"{name}: tree {i} has {found[i]} bytes, where tree_sizes says {sizes[i]}"
        )


def _fields(block: str, name: str) -> dict[str, str]:
    """`key=value` lines; a line without a value has the empty one."""
    fields: dict[str, str] = {}
    for line in filter(None, block.split("\n")):
        key, _, value = line.partition("=")
        if key in fields:
            raise ValueError(f"{name}: {key} is there twice")
        fields[key] = value
    return fields


def _check_header(header: dict[str, str], name: str) -> None:
    """Raises `ValueError` for models of other kinds."""
    if header.get("version") not in ("v3", "v4"):
        raise ValueError(
            f"{name}: version={header.get('version')}, where v3 or v4 was wanted"
        )
    for key in ("num_class", "num_tree_per_iteration"):
        if header.get(key) != "1":
            raise ValueError(
                f"{name}: {key}={header.get(key)}: only models of one output are supported"
            )
    if not re.fullmatch(r"\d{1,9}", header.get("max_feature_idx", "")):
        raise ValueError(f"{name}: max_feature_idx={header.get('max_feature_idx')}")
    objective = header.get("objective", "none").split()
    if not objective or objective[0] not in IDENTITY or "sqrt" in objective:
        raise ValueError(
            f"{name}: objective={' '.join(objective)} has a link function: only "
            f"regression without one is supported ({', '.join(sorted(IDENTITY))})"
        )


def _parse(tokens: Sequence[str], kind: Callable, what: str) -> np.ndarray:
    """Numbers (n,) as int64 or float64."""
    try:
        numbers = list(map(kind, tokens))
        return np.array(numbers, np.int64 if kind is int else np.float64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{what} is damaged: {error}") from None


def _column(
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
    tokens = [tree.get(key, "").split() for tree in trees]
    for i, (some, size) in enumerate(zip(tokens, sizes, strict=True)):
        if len(some) != size:
            raise ValueError(
                f"{name}: tree {i}: {key} has {len(some)} numbers, where {size} were wanted"
            )
    return _parse([x for some in tokens for x in some], kind, f"{name}: {key}")


def _forest(trees: list[dict[str, str]], num_features: int, name: str) -> Forest:
    """Internal nodes come first in each tree, then its leaves, in LightGBM's order."""
    ones = np.ones(len(trees), np.int64)
    for i, tree in enumerate(trees):
        if tree.get("is_linear", "0") != "0":
            raise ValueError(f"{name}: tree {i} is linear: only constant leaves are supported")
    leaves = _column(trees, "num_leaves", ones, int, name)
    if leaves.min() < 1:
        raise ValueError(f"{name}: tree {leaves.argmin()} has no leaves")
    read_nodes = {
        key: _column(trees, key, leaves - 1, float if key == "threshold" else int, name)
        for key in _NODES
    }
    values = _column(trees, "leaf_value", leaves, float, name)
    start = np.concatenate([[0], np.cumsum(2 * leaves - 1)])
    place = np.arange(start[-1]) - np.repeat(start[:-1], np.diff(start))
    inner = place < np.repeat(leaves - 1, np.diff(start))

    def spread(some: np.ndarray, where: np.ndarray, empty: float, dtype: type) -> np.ndarray:
        out = np.full(len(where), empty, dtype)
        out[where] = some
        return out

    decision = spread(read_nodes["decision_type"], inner, 0, np.int64)
    if ((decision < 0) | (decision > 11)).any():
        raise ValueError(f"{name}: a decision_type is not one of 0 to 11")
    tree = np.repeat(np.arange(len(trees)), leaves - 1)
    threshold = spread(read_nodes["threshold"], inner, 0, np.float64)
    category, categories = _categories(trees, decision & 1 > 0, threshold, start, name)
    number = place - np.repeat(leaves - 1, np.diff(start))
    children = {
        side: spread(
            _absolute(read_nodes[side], tree, leaves, start), inner, 0, np.int64
        )
        for side in ("left_child", "right_child")
    }
    return Forest(
        start=start,
        feature=spread(_features(read_nodes, num_features, name), inner, -1, np.int32),
        threshold=threshold,
        left=children["left_child"],
        right=children["right_child"],
        missing=(decision >> 2).astype(np.int8),
        default_left=(decision & 2 > 0) & (decision & 1 == 0),
        category=category,
        categories=categories,
        value=spread(values, ~inner, 0, np.float64),
        number=np.where(inner, -1, number).astype(np.int32),
        num_features=num_features,
    )


def _features(nodes: dict[str, np.ndarray], num_features: int, name: str) -> np.ndarray:
    feature = nodes["split_feature"]
    if len(feature) and not 0 <= feature.min() <= feature.max() < num_features:
        raise ValueError(
            f"{name}: a split_feature is not one of 0 to max_feature_idx = "
            f"{num_features - 1}"
        )
    return feature


def _absolute(
    child: np.ndarray, tree: np.ndarray, leaves: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Indices among all nodes of children, of which -1 - i is leaf i; -1 if there is none."""
    inner = leaves[tree] - 1
    place = np.where(child >= 0, child, inner - child - 1)
    # A child that is out of range must not be taken for a leaf, nor one of another tree.
    wrong = (child >= inner) | (child < -leaves[tree])
    return np.where(wrong, -1, place + start[tree])


def _categories(
    trees: list[dict[str, str]],
    categorical: np.ndarray,
    threshold: np.ndarray,
    start: np.ndarray,
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """`Forest.category` and `Forest.categories`: a set is a slice of `cat_threshold`."""
    sets: list[np.ndarray] = []
    category = np.full(len(threshold), -1, np.int32)
    for i in np.unique(np.searchsorted(start, np.flatnonzero(categorical), "right") - 1):
        tree, what = trees[i], f"{name}: tree {i}: "
        bounds = _parse(tree.get("cat_boundaries", "").split(), int, what + "cat_boundaries")
        words = _parse(tree.get("cat_threshold", "").split(), int, what + "cat_threshold")
        if (
            not len(bounds)
            or str(len(bounds) - 1) != tree.get("num_cat")
            or bounds[0] != 0
            or bounds[-1] != len(words)
            or (np.diff(bounds) < 0).any()
            or ((words < 0) | (words >= 2**32)).any()
        ):
            raise ValueError(f"{what}num_cat, cat_boundaries and cat_threshold do not agree")
        here = np.arange(start[i], start[i + 1])
        here = here[categorical[here]]
        which = threshold[here]
        if not np.isin(which, np.arange(len(bounds) - 1)).all():
            raise ValueError(f"{what}a categorical threshold is not one of its num_cat sets")
        category[here] = which.astype(np.int32) + len(sets)
        sets += [words[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    return category, forests.bitset_rows(sets, name)


def _validate(forest: Forest, name: str) -> Forest:
    """Checks ranges, and that a path leads to every node."""
    found = forests.levels(forests.validate(forest, name), name)
    if not found.reached.all():
        bad = forests.tree_of(forest)[found.reached.argmin()]
        raise ValueError(f"{name}: tree {bad} has a node that no path leads to")
    return forest
