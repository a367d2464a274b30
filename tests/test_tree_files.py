"""Model files that are damaged or of another kind are refused in one line."""

import copy
import json
import re

import numpy as np
import pytest

from jaxnas.curves import forest, lightgbm_text, xgboost_json
from jaxnas.io import ubjson


@pytest.fixture(scope="module")
def models(shared):
    return shared / "oracles/learning_curves_models"


@pytest.fixture(scope="module")
def text(models):
    return (models / "lgb_categorical.txt").read_text()


@pytest.fixture(scope="module")
def record(models):
    return json.loads((models / "xgb_dart.json").read_text())


def refused(read, data, words="model.file"):
    with pytest.raises(ValueError, match=words) as error:
        read(data, "model.file")
    assert str(error.value).startswith("model.file") and "\n" not in str(error.value)


def edit(text, pattern, new):
    """Replaces the first match, without the sizes that would tell at once."""
    text = re.sub(r"tree_sizes=.*\n", "", text)
    changed = re.sub(pattern, new, text, count=1, flags=re.MULTILINE)
    assert changed != text
    return changed


@pytest.mark.parametrize(
    ("pattern", "new", "words"),
    [
        (r"^tree\n", "forest\n", "not a LightGBM text model"),
        (r"version=v3", "version=v2", "v3 or v4 was wanted"),
        (r"num_class=1", "num_class=3", "one output"),
        (r"num_tree_per_iteration=1", "num_tree_per_iteration=3", "one output"),
        (r"objective=regression", "objective=poisson", "poisson has a link function"),
        (r"objective=regression", "objective=regression sqrt", "link function"),
        (r"objective=regression", "objective=binary sigmoid:1", "link function"),
        (r"max_feature_idx=7", "max_feature_idx=x", "max_feature_idx=x"),
        (
            r"max_feature_idx=7",
            "max_feature_idx=2",
            "split_feature is not one of 0 to 2",
        ),
        (r"is_linear=0", "is_linear=1", "tree 0 is linear"),
        (r"Tree=1$", "Tree=2", "Tree=2 where Tree=1 was wanted"),
        (
            r"num_leaves=15",
            "num_leaves=16",
            "tree 0: split_feature has 14 .*, where 15",
        ),
        (r"num_leaves=15", "num_leaves=999999999", "fewer leaf_value than"),
        (r"num_leaves=15", "num_leaves=0", "tree 0 has 0 leaves"),
        (r"^leaf_value=\S+ ", "leaf_value=", "leaf_value has 14 numbers, where 15"),
        (
            r"^leaf_value=\S+ ",
            "leaf_value=nan ",
            "tree 0 has .* value that is not finite",
        ),
        (r"^leaf_value=\S+ ", "leaf_value=0.1x ", "leaf_value is damaged"),
        (r"^threshold=\S+ ", "threshold=inf ", "tree 0 has a threshold"),
        (
            r"^decision_type=10",
            "decision_type=15",
            "a decision_type is not one of 0 to 11",
        ),
        (r"^left_child=1", "left_child=14", "tree 0 has a child that is out of range"),
        (r"^left_child=1", "left_child=-16", "tree 0 has a child that is out of range"),
        (r"^left_child=1", "left_child=0", "tree 0 has a cycle or a node with two"),
        (r"^left_child=1", "left_child=3", "tree 0 has a cycle or a node with two"),
        (
            r"^right_child=3",
            "right_child=999999999999999999999",
            "right_child is damaged",
        ),
        (
            r"^num_leaves=15",
            "num_leaves=15\nnum_leaves=15",
            "num_leaves is there twice",
        ),
        (r"^cat_boundaries=0 1 2", "cat_boundaries=0 1 3", "do not agree"),
        (r"^num_cat=2", "num_cat=3", "do not agree"),
        (r"^(threshold=.*) 1$", r"\1 2", "a categorical threshold is not one of"),
        (r"^(threshold=.*) 1$", r"\1 0.5", "a categorical threshold is not one of"),
        (r"end of trees", "end of tree", "cut off"),
        (r"Tree=", "Tre=", "Tree=1 where Tree=0"),
    ],
)
def test_what_is_wrong_with_a_lightgbm_model(text, pattern, new, words):
    refused(lightgbm_text.read, edit(text, pattern, new), words)


def test_lightgbm_sizes_and_newlines(text):
    refused(lightgbm_text.read, text.replace("\n", "\r\n"), "newlines were converted")
    refused(
        lightgbm_text.read, text.replace("num_cat=2", "num_cat= 2", 1), "tree_sizes"
    )
    refused(
        lightgbm_text.read, text.replace("tree_sizes=1", "tree_sizes=1 1"), "25 trees"
    )
    refused(lightgbm_text.read, b"tree\n\xff", "UTF-8")
    refused(lightgbm_text.read, b"", "not a LightGBM text model")
    refused(lightgbm_text.read, "tree\n\nend of trees", "no trees")


def test_a_cut_lightgbm_model_is_refused_wherever_it_is_cut(text):
    end = text.index("end of trees")
    for at in np.linspace(0, end, 100).astype(int):
        refused(lightgbm_text.read, text[:at])
    # What follows is not needed.
    assert len(lightgbm_text.read(text[: end + 13]).start) == 26


def flipped(data, num, seed):
    rng = np.random.default_rng(seed)
    for _ in range(num):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
        yield bytes(changed)


def all_finite_or_refused(read, data, num=100):
    """A flipped bit is refused, or gives a forest that can be trusted."""
    refusals = 0
    for changed in flipped(data, num, 0):
        try:
            found = read(changed, "model.file")
        except ValueError as error:
            assert str(error).startswith("model.file") and "\n" not in str(error)
            refusals += 1
        else:
            forest.levels(forest.validate(found, "model.file"))
    assert 0 < refusals < num


def test_flipped_bits_of_lightgbm(text):
    all_finite_or_refused(lightgbm_text.read, text.encode())


def test_flipped_bits_of_xgboost(record):
    all_finite_or_refused(xgboost_json.read, json.dumps(record).encode())


def test_flipped_bits_of_xgboost_in_ubjson():
    xgboost = pytest.importorskip("xgboost")
    x = np.random.default_rng(0).integers(0, 9, (200, 2))
    data = xgboost.DMatrix(
        x, x[:, 0] % 2, feature_types=["q", "c"], enable_categorical=True, nthread=1
    )
    booster = xgboost.train({"max_depth": 3, "nthread": 1}, data, 3)
    all_finite_or_refused(xgboost_json.read, bytes(booster.save_raw("ubj")), 300)


LEARNER = ("learner",)
BOOSTER = (*LEARNER, "gradient_booster")
MODEL = (*BOOSTER, "gbtree", "model")
TREE = (*MODEL, "trees", 2)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            (*LEARNER, "objective", "name"),
            "count:poisson",
            "poisson has a link function",
        ),
        ((*LEARNER, "objective", "name"), "binary:logistic", "link function"),
        ((*LEARNER, "learner_model_param", "num_class"), "3", "one output"),
        ((*LEARNER, "learner_model_param", "num_target"), "2", "one output"),
        ((*LEARNER, "learner_model_param", "base_score"), "[1E0,2E0]", "base_score"),
        (
            (*LEARNER, "learner_model_param", "base_score"),
            "nan",
            "base score is not fin",
        ),
        ((*LEARNER, "learner_model_param", "num_feature"), "1", "feature that is out"),
        ((*LEARNER, "learner_model_param", "num_feature"), "-8", "a count was wanted"),
        ((*BOOSTER, "name"), "gblinear", "only trees are supported"),
        ((*BOOSTER, "weight_drop"), [1.0], "weight_drop has 1 numbers, not 25"),
        ((*MODEL, "trees"), [], "0 trees, where num_trees says 25"),
        ((*MODEL, "tree_info"), [0] * 24 + [1], "several outputs"),
        ((*MODEL, "tree_info"), [0] * 24, "tree_info has 24 numbers"),
        ((*TREE, "tree_param", "size_leaf_vector"), "4", "tree 2 has vectors"),
        ((*TREE, "tree_param", "num_nodes"), "5", "tree 2: left_children has"),
        (
            (*TREE, "tree_param", "num_deleted"),
            "2",
            "no path leads to 0 nodes of tree 2",
        ),
        ((*TREE, "split_conditions", 3), float("nan"), "tree 2 has a threshold"),
        ((*TREE, "split_conditions", 3), 1e300, "tree 2 has a threshold"),
        ((*TREE, "split_conditions", 3), "x", "split_conditions is not an array"),
        ((*TREE, "split_conditions", 3), [1.0], "split_conditions is not an array"),
        ((*TREE, "left_children", 0), 0, "tree 2 has a cycle"),
        ((*TREE, "left_children", 0), 2, "tree 2 has a cycle"),
        ((*TREE, "right_children", 0), 1, "tree 2 has a cycle or a node with two"),
        ((*TREE, "left_children", 0), 999, "tree 2 has a child that is out of range"),
        ((*TREE, "left_children", 0), -7, "tree 2 has a child that is out of range"),
        ((*TREE, "left_children", 0), 1.5, "left_children is not an array"),
        ((*TREE, "split_indices", 0), -1, "negative feature"),
        ((*TREE, "split_indices", 0), 2**40, "tests a feature that is out of range"),
        ((*TREE, "split_type", 0), 1, "arrays of categories do not agree"),
        ((*TREE, "categories_nodes"), [0], "arrays of categories do not agree"),
        ((*TREE, "categories_nodes"), 7, "no categories_nodes"),
        ((*MODEL, "cats"), {"enc": [1]}, "encoded within the model"),
        ((*MODEL, "cats"), 7, "no cats"),
        (TREE, 3, "no tree_param"),
        (LEARNER, None, "no learner"),
    ],
)
def test_what_is_wrong_with_an_xgboost_model(record, path, value, words):
    changed = copy.deepcopy(record)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    refused(xgboost_json.read, json.dumps(changed), words)


def test_other_bytes_are_no_xgboost_model(record):
    refused(xgboost_json.read, b"binf\0\0", "old binary format.*save_model")
    refused(xgboost_json.read, b"", "old binary format")
    refused(xgboost_json.read, '{"a":' * 100000, "JSON")
    refused(xgboost_json.read, "{}", "no learner")
    data = json.dumps(record)
    for at in np.linspace(1, len(data) - 1, 50).astype(int):
        refused(xgboost_json.read, data[:at])


NESTED = (
    b"{i\x01aSU\x03\xc3\xa9ti\x01b[$l#i\x02\x00\x00\x00\x05\xff\xff\xff\xff"
    b"i\x01c[ZTFd\x3f\x80\x00\x00]i\x01d{$i#i\x01i\x01e\x07}"
)


def test_universal_binary_json():
    found = ubjson.loads(NESTED)
    assert found["b"].tolist() == [5, -1] and found["b"].dtype == np.int32
    del found["b"]
    assert found == {"a": "ét", "c": [None, True, False, 1.0], "d": {"e": 7}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "1 bytes were wanted"),
        (b"?", "unknown marker"),
        (b"Sl\x7f\xff\xff\xff", "a length of 2147483647"),
        (b"Si\xff", "a length of -1"),
        (b"SS", "not a type of a length"),
        (b"Si\x01\xff", "not UTF-8"),
        (b"[$d]", "a type without a count"),
        (b"[" * 100, "nested deeper"),
        (b"{i\x01aTi\x01aT}", "'a' is there twice"),
        (b"TT", "more bytes"),
    ],
)
def test_damaged_universal_binary_json(data, words):
    refused(ubjson.loads, data, words)


def test_cut_universal_binary_json():
    for at in range(len(NESTED)):
        refused(ubjson.loads, NESTED[:at])
