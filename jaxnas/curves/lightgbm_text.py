"""Reads regression models in LightGBM's text format, without LightGBM.

The format is what `Booster.save_model` and `Booster.model_to_string` write (versions v3
and v4): a header, a block of `key=value` lines for each tree, and then importances and
parameters, which are ignored. Leaf values include the learning rate, the weights of DART
and, in the first tree, the average from which boosting starts.
"""

from __future__ import annotations

import re

import numpy as np

from jaxnas.curves import lightgbm_trees
from jaxnas.curves.forest import Forest

# Objectives whose prediction is the sum of the trees.
IDENTITY = {
    *("regression", "regression_l2", "l2", "mse", "rmse", "regression_l1", "l1", "mae"),
    *("huber", "fair", "quantile", "mape", "custom", "none"),
}
_END = "\nend of trees"
_TREE = re.compile(r"^Tree=(.*)\n", re.MULTILINE)


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
    num_features = int(header["max_feature_idx"]) + 1
    forest = lightgbm_trees.to_forest(trees, num_features, name)
    if "average_output" in header:
        return forest._replace(divisor=len(trees))
    return forest


def _decode(text: str | bytes, name: str) -> str:
    """The model as text, if it looks like one.

    Raises: `ValueError` for bytes that are not UTF-8, for carriage returns, which a copy
      in text mode on Windows adds, and for another first line.
    """
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
    """Cuts a model into its parts.

    Returns: the fields of the header, and for each tree its block of lines.
    Raises: `ValueError` for a text without an end, for trees that are not numbered
      0, 1, ..., and for blocks whose sizes are not those of the header.
    """
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
    """Compares the sizes of the trees' blocks with those in the header.

    Args:
      listed: the header's `tree_sizes`, in bytes.
      text: the model.
      cuts: (t + 1,) where each tree begins, and where the last one ends.
      name: what error messages call the model.

    Raises: `ValueError` that names the first tree that differs.
    """
    stated = lightgbm_trees.parse(listed, int, f"{name}: header: tree_sizes")
    actual = np.diff(cuts)
    if not text.isascii():
        actual = [len(text[a:b].encode()) for a, b in zip(cuts, cuts[1:], strict=False)]
    if len(stated) != len(actual):
        raise ValueError(
            f"{name}: {len(actual)} trees, where tree_sizes has {len(stated)}"
        )
    wrong = np.flatnonzero(stated != np.asarray(actual))
    if len(wrong):
        i = wrong[0]
        raise ValueError(
            f"{name}: tree {i} has {actual[i]} bytes, where tree_sizes says {stated[i]}"
        )


def _fields(block: str, name: str) -> dict[str, str]:
    """The `key=value` lines of a block; a line without a value has the empty one.

    Raises: `ValueError` for a key that is there twice.
    """
    fields: dict[str, str] = {}
    for line in filter(None, block.split("\n")):
        key, _, value = line.partition("=")
        if key in fields:
            raise ValueError(f"{name}: {key} is there twice")
        fields[key] = value
    return fields


def _check_header(header: dict[str, str], name: str) -> None:
    """Checks that the prediction is a sum of the trees.

    Raises: `ValueError` for another version of the format, for several outputs, and for
      objectives with a link function. A model without an objective has a custom one.
    """
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
