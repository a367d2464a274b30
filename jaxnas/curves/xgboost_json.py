"""Reads regression models in XGBoost's JSON and UBJSON formats, without XGBoost.

That is what `Booster.save_model` writes to `.json` and `.ubj` files, and what a pickled
`Booster` holds. Models are defined in float32: inputs, thresholds, leaf values, sums.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from jaxnas.curves import forest as forests
from jaxnas.curves.forest import Forest
from jaxnas.io import ubjson

# Objectives whose prediction is the base score and the sum of the trees.
IDENTITY = {
    *("reg:squarederror", "reg:linear", "reg:absoluteerror", "reg:squaredlogerror"),
    *("reg:pseudohubererror", "reg:quantileerror"),
}
_EXPORT = "b = xgboost.Booster(); b.load_model('OLD'); b.save_model('NEW.json')"
# Categories of a model are below this, so that float32 holds them.
_MAX_CATEGORY = 2**24
_MISSING = object()


def read(data: str | bytes | bytearray, name: str = "XGBoost model") -> Forest:
    """The trees of a model in JSON or UBJSON; the leaves' numbers are node indices.

    Args:
      data: the whole file, or the `handle` of a pickled booster.
      name: what error messages call the model: its file, say.

    Returns: a forest with `strict` set; weights of DART are in its values.
    Raises: `ValueError`, of one line that begins with `name`, for data that is damaged or
      cut off, for the old binary format, and for what is not supported: linear models,
      several outputs, and objectives with a link function.
    """
    model = _load(data, name)
    if isinstance(model, dict) and "Model" in model:  # a pickled booster
        model = model["Model"]
    learner = _get(model, "learner", dict, name)
    base = _check_learner(learner, name)
    booster = _get(learner, "gradient_booster", dict, name)
    kind = _get(booster, "name", str, name)
    if kind not in ("gbtree", "dart"):
        raise ValueError(f"{name}: booster {kind!r}: only trees are supported")
    if kind == "dart":
        inner = _get(booster, "gbtree", dict, name)
        weight = _array(booster, "weight_drop", name, None, np.float32)
        return _forest(inner, learner, base, weight, name)
    return _forest(booster, learner, base, None, name)


def _load(data: str | bytes | bytearray, name: str) -> Any:
    """The model as Python objects, from whichever format it is in.

    Raises: `ValueError` for data that is neither JSON nor UBJSON, and for either of them
      that is damaged.
    """
    raw = data.encode() if isinstance(data, str) else bytes(data)
    if raw[:1] != b"{":
        raise ValueError(
            f"{name}: neither JSON nor UBJSON: the old binary format is read only by the "
            f"version of XGBoost that wrote it; export it there, in Python: {_EXPORT}"
        )
    if raw[1:2] in (b"L", b"l", b"i", b"U", b"I", b"#", b"$"):
        return ubjson.loads(raw, name)
    try:
        return json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: damaged or cut off JSON: {error}") from None


def _get(record: Any, key: str, kind: type | tuple[type, ...], name: str) -> Any:
    """An entry of a JSON object.

    Args:
      record: the object.
      key: of the entry.
      kind: the type that it must have.
      name: what error messages call the model.

    Raises: `ValueError` if there is none, or one of another type.
    """
    value = record.get(key, _MISSING) if isinstance(record, dict) else _MISSING
    if not isinstance(value, kind):
        raise ValueError(f"{name}: no {key}, or one of another type, where it belongs")
    return value


def _number(record: dict, key: str, name: str, default: str) -> int:
    """A count, which XGBoost writes as text.

    Args:
      record: the object that has it.
      key: of the entry.
      name: what error messages call the model.
      default: what a missing one is taken for.

    Raises: `ValueError` for what is not a number of up to nine digits.
    """
    text = str(record.get(key, default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"{name}: {key} is {text[:20]!r}, where a count was wanted")
    return int(text)


def _check_learner(learner: dict, name: str) -> float:
    """Checks that the prediction is the base score and the sum of the trees.

    Returns: the base score: a number in a text, in brackets since version 3.
    Raises: `ValueError` for several outputs and for objectives with a link function.
    """
    objective = _get(_get(learner, "objective", dict, name), "name", str, name)
    if objective not in IDENTITY:
        raise ValueError(
            f"{name}: objective {objective} has a link function: only regression without "
            f"one is supported ({', '.join(sorted(IDENTITY))})"
        )
    param = _get(learner, "learner_model_param", dict, name)
    for key in ("num_class", "num_target"):
        if _number(param, key, name, "1") > 1:
            raise ValueError(
                f"{name}: {key} is {param[key]}: only models of one output are supported"
            )
    text = str(param.get("base_score")).removeprefix("[").removesuffix("]")
    try:
        return float(np.float32(text))
    except ValueError:
        raise ValueError(f"{name}: base_score is {text[:40]!r}, no number") from None


def _array(
    record: dict, key: str, name: str, size: int | None, dtype: type
) -> np.ndarray:
    """An array of numbers: a list in JSON, a typed or an untyped array in UBJSON.

    Args:
      record: the object that has it.
      key: of the entry.
      name: what error messages call the model.
      size: wanted length; None: any.
      dtype: int64, or float32 for what need not be whole.

    Returns: (size,) of `dtype`.
    Raises: `ValueError` for another length, or entries that are not such numbers.
    """
    value = _get(record, key, (list, np.ndarray), name)
    try:
        array = np.asarray(value)
        if not len(array):
            array = array.astype(dtype)
        # Texts, nested lists and numbers that are not whole do not pass.
        same = array.ndim == 1 and np.can_cast(
            array.dtype, np.float64 if dtype is np.float32 else np.int64, "same_kind"
        )
    except (ValueError, OverflowError):
        same, array = False, np.zeros(0)
    if not same:
        raise ValueError(f"{name}: {key} is not an array of numbers")
    if size is not None and len(array) != size:
        raise ValueError(
            f"{name}: {key} has {len(array)} numbers, where {size} were wanted"
        )
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _forest(
    booster: dict, learner: dict, base: float, weight: np.ndarray | None, name: str
) -> Forest:
    """Builds a forest from a booster `gbtree`.

    Args:
      booster: with the trees.
      learner: with the number of features.
      base: the base score.
      weight: (t,) what DART multiplies each tree with; None without DART.
      name: what error messages call the model.

    Raises: `ValueError` for trees of several outputs, arrays of wrong lengths, and nodes
      that do not form trees.
    """
    model = _get(booster, "model", dict, name)
    trees = _get(model, "trees", list, name)
    param = _get(model, "gbtree_model_param", dict, name)
    num_trees = _number(param, "num_trees", name, "")
    if not len(trees) == num_trees > 0:
        raise ValueError(
            f"{name}: {len(trees)} trees, where num_trees says {num_trees}"
        )
    if _array(model, "tree_info", name, num_trees, np.int64).any():
        raise ValueError(f"{name}: trees of several outputs: only one is supported")
    encoded = _get({"cats": {}} | model, "cats", dict, name).get("enc", ())
    if not hasattr(encoded, "__len__") or len(encoded):
        raise ValueError(f"{name}: categories that are encoded within the model")
    if weight is not None and len(weight) != num_trees:
        raise ValueError(
            f"{name}: weight_drop has {len(weight)} numbers, not {num_trees}"
        )
    learned = _get(learner, "learner_model_param", dict, name)
    nodes = [_nodes(tree, f"{name}: tree {i}") for i, tree in enumerate(trees)]
    sizes = np.array([len(node["left"]) for node in nodes])
    flat = {key: np.concatenate([node[key] for node in nodes]) for key in nodes[0]}
    forest = forests.from_xgboost_arrays(
        **flat,
        sizes=sizes,
        num_features=_number(learned, "num_feature", name, ""),
        base=base,
        name=name,
        sets=[_sets(tree, f"{name}: tree {i}") for i, tree in enumerate(trees)],
        deleted=np.array([_deleted(tree, name) for tree in trees]),
    )
    if weight is not None:
        weights = np.repeat(weight, sizes)
        value = (forest.value.astype(np.float32) * weights).astype(np.float64)
        forest = forests.validate(forest._replace(value=value), name)
    return forest


def _deleted(tree: dict, name: str) -> int:
    return _number(_get(tree, "tree_param", dict, name), "num_deleted", name, "0")


def _nodes(tree: Any, name: str) -> dict[str, np.ndarray]:
    """The arrays (n,) of one tree's nodes, by argument of `from_xgboost_arrays`.

    Raises: `ValueError` for leaves that are vectors, and for wrong lengths.
    """
    param = _get(tree, "tree_param", dict, name)
    if _number(param, "size_leaf_vector", name, "1") > 1:
        raise ValueError(f"{name} has vectors as leaves: only one output is supported")
    size = _number(param, "num_nodes", name, "")
    keys = {
        "left": ("left_children", np.int64),
        "right": ("right_children", np.int64),
        "feature": ("split_indices", np.int64),
        "condition": ("split_conditions", np.float32),
        "default_left": ("default_left", np.int64),
    }
    return {
        new: _array(tree, key, name, size, kind) for new, (key, kind) in keys.items()
    }


def _sets(tree: dict, name: str) -> dict[int, np.ndarray]:
    """The sets of categories of one tree, as words (w,) uint32 by node.

    The categories of node `categories_nodes[i]` are a segment of `categories`.

    Raises: `ValueError` if the segments do not fit, or other nodes are marked as
      categorical.
    """
    if "split_type" not in tree:  # before categories were supported
        return {}
    size = _number(tree["tree_param"], "num_nodes", name, "")
    kinds = _array(tree, "split_type", name, size, np.int64)
    nodes, begins, sizes = (
        _array(tree, f"categories_{key}", name, None, np.int64)
        for key in ("nodes", "segments", "sizes")
    )
    if not kinds.any() and not len(nodes):
        return {}
    values = _array(tree, "categories", name, None, np.int64)
    if (
        not len(nodes) == len(begins) == len(sizes)
        or not set(nodes) == set(np.flatnonzero(kinds == 1))
        or (begins < 0).any()
        or (sizes < 0).any()
        or (begins + sizes > len(values)).any()
        or ((values < 0) | (values >= _MAX_CATEGORY)).any()
    ):
        raise ValueError(
            f"{name}: split_type and the arrays of categories do not agree"
        )
    return {
        int(node): _words(values[begin : begin + count])
        for node, begin, count in zip(nodes, begins, sizes, strict=True)
    }


def _words(values: np.ndarray) -> np.ndarray:
    """A set of categories as words (w,) uint32."""
    words = np.zeros(int(values.max(initial=0)) // 32 + 1, np.uint32)
    np.bitwise_or.at(
        words, values // 32, np.uint32(1) << (values % 32).astype(np.uint32)
    )
    return words
