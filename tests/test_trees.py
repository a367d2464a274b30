"""Ensembles of trees against the libraries that trained them, and a slow loop."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxnas.curves import forest, lightgbm_text, packing, trees, xgboost_json
from jaxnas.io import npz

pytestmark = pytest.mark.usefixtures("quick_compilation")

LIGHTGBM = (
    *("numeric_nan", "categorical", "cat_onehot", "zero_as_missing"),
    *("use_missing_false", "rf_average", "dart", "l1_objective"),
    *("max_depth1_stumps", "single_leaf"),
)
XGBOOST = ("default", "hist", "dart", "base_score_3")


@pytest.fixture(scope="module")
def models(shared):
    return shared / "oracles/learning_curves_models"


def in_ones(function, ensemble, x, size=2):
    """`function` in batches that are too small for evaluation side by side."""
    parts = [function(ensemble, x[i : i + size]) for i in range(0, len(x), size)]
    return np.concatenate(parts)


@pytest.mark.parametrize("variant", LIGHTGBM)
@pytest.mark.usefixtures("x64")
def test_lightgbm_predicts_the_same(curve_oracle, models, variant):
    text = (models / f"lgb_{variant}.txt").read_bytes()
    ensemble = packing.pack(lightgbm_text.read(text))
    x = curve_oracle["gbdt_X_query"]
    leaf = curve_oracle[f"lgb_{variant}_leaf_index"].reshape(len(x), -1)
    np.testing.assert_array_equal(trees.leaf_indices(ensemble, x), leaf)
    found = np.asarray(trees.predict(ensemble, x))
    np.testing.assert_allclose(found, curve_oracle[f"lgb_{variant}_pred"], rtol=1e-15)
    np.testing.assert_array_equal(in_ones(trees.leaf_indices, ensemble, x), leaf)
    np.testing.assert_allclose(in_ones(trees.predict, ensemble, x), found, rtol=1e-15)


@pytest.mark.parametrize("variant", XGBOOST)
def test_xgboost_predicts_the_same_in_float32(curve_oracle, models, variant):
    model = xgboost_json.read((models / f"xgb_{variant}.json").read_bytes())
    ensemble = packing.pack(model)
    x = curve_oracle["gbdt_X_query_xgb"].astype(np.float32)
    leaf, value = (curve_oracle[f"xgb_{variant}_{k}"] for k in ("leaf_index", "pred"))
    np.testing.assert_array_equal(trees.leaf_indices(ensemble, x), leaf)
    np.testing.assert_array_equal(trees.predict(ensemble, x), value)
    np.testing.assert_array_equal(in_ones(trees.leaf_indices, ensemble, x), leaf)
    np.testing.assert_array_equal(in_ones(trees.predict, ensemble, x), value)


def slow_leaf(tree, x):
    """LightGBM's leaf of one input by the words of its documentation, in float64."""
    feature, threshold, kind, left, right = tree[:5]
    node = 0 if len(feature) else -1
    while node >= 0:
        value, bits = float(x[int(feature[node])]), int(kind[node])
        if bits & 1:
            first, last = tree[5][int(threshold[node]) :][:2]
            bit = -1 if np.isnan(value) or np.isinf(value) else int(value)
            words = tree[6][int(first) : int(last)]
            inside = 0 <= bit < 32 * len(words)
            goes_left = inside and int(words[bit // 32]) >> bit % 32 & 1
        else:
            if np.isnan(value) and bits >> 2 != 2:
                value = 0.0
            zero = bits >> 2 == 1 and abs(value) <= np.float32(1e-35)
            if zero or (bits >> 2 == 2 and np.isnan(value)):
                goes_left = bits & 2
            else:
                goes_left = value <= threshold[node]
        node = int((left if goes_left else right)[node])
    return -1 - node


def slow_trees(text):
    keys = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
    keys += ("cat_boundaries", "cat_threshold")
    for block in text.split("Tree=")[1:]:
        fields = dict(line.split("=") for line in block.splitlines() if "=" in line)
        yield [np.array(fields.get(key, "").split(), float) for key in keys]


@pytest.mark.parametrize("variant", ["numeric_nan", "categorical", "zero_as_missing"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_thresholds_are_hit_exactly(models, variant, dtype):
    """Inputs are the thresholds themselves and their neighbours, in both precisions."""
    text = (models / f"lgb_{variant}.txt").read_text()
    slow = list(slow_trees(text))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 8)).astype(dtype)
    for row in x:
        feature, threshold = slow[rng.integers(len(slow))][:2]
        step = rng.choice([-np.inf, 0, np.inf])
        hit = packing.round_down(threshold, dtype)
        row[feature.astype(int)] = np.where(step, np.nextafter(hit, dtype(step)), hit)
    x[::3, 6] = rng.integers(-2, 70, 40)
    x[::7, rng.integers(8, size=18)] = np.nan
    x[::5, rng.integers(8, size=24)] = 0
    x[:8] = np.array(
        [[1e-35], [-1e-35], [2e-35], [np.inf], [-np.inf], [-0.0], [-0.5], [6.9]]
    )
    expected = [[slow_leaf(tree, row) for tree in slow] for row in x]
    with jax.enable_x64(dtype is np.float64):
        ensemble = packing.pack(lightgbm_text.read(text), dtype)
        np.testing.assert_array_equal(trees.leaf_indices(ensemble, x), expected)


@pytest.mark.parametrize("kind", ["masks", "nodes"])
def test_large_trees_are_walked_to_the_same_leaves(
    curve_oracle, models, kind, monkeypatch
):
    """Of the model with categories, missing values and thresholds that are hit."""
    monkeypatch.setattr(packing, "MAX_MASKED", 128 if kind == "masks" else 0)
    for read, name, x in (
        (lightgbm_text.read, "lgb_categorical.txt", curve_oracle["gbdt_X_query"]),
        (xgboost_json.read, "xgb_dart.json", curve_oracle["gbdt_X_query_xgb"]),
    ):
        ensemble = packing.pack(read((models / name).read_bytes()))
        assert ensemble.masked == (kind == "masks")
        x = x[::3].astype(np.float32)
        expected = curve_oracle[f"{name.split('.')[0]}_leaf_index"][::3]
        np.testing.assert_array_equal(trees.leaf_indices(ensemble, x), expected)
        value = curve_oracle[f"{name.split('.')[0]}_pred"][::3]
        np.testing.assert_allclose(trees.predict(ensemble, x), value, rtol=1e-5)


def test_a_chain_feeds_predictions_forward(curve_oracle, models):
    """End to end, as the reference's surrogates predict standardised coefficients."""
    texts = [
        (models / f"e2e_nb211_svd_xgb_text/member0_chain{j}.json").read_bytes()
        for j in range(5)
    ]
    chain = [packing.pack(xgboost_json.read(text)) for text in texts]
    x = curve_oracle["nb211_x"][:40].astype(np.float32)
    expected = curve_oracle["e2e_nb211_svd_xgb_components_standardized"]
    np.testing.assert_allclose(trees.predict_chain(chain, x), expected, atol=2e-6)
    found = trees.predict_chain(chain, x[:2])
    np.testing.assert_allclose(found, expected[:2], atol=2e-6)


@pytest.mark.parametrize(
    ("tag", "features"),
    [("e2e_nb211_svd_lgb", "nb211_x"), ("e2e_nb311_svd_lgb", "darts_x")],
)
def test_a_chain_in_both_precisions(curve_oracle, models, tag, features):
    forests = [
        lightgbm_text.read((models / f"{tag}_text/member0_chain{j}.txt").read_bytes())
        for j in range(5)
    ]
    x = curve_oracle[features][:40]
    mean, scale, s, v = (
        curve_oracle[f"{tag}_member0_{key}"]
        for key in ("scaler_mean", "scaler_scale", "svd_s", "svd_vh")
    )
    error = {}
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype is np.float64):
            chain = [packing.pack(some, dtype) for some in forests]
            found = np.asarray(trees.predict_chain(chain, x.astype(dtype)), np.float64)
        curve = ((found * scale + mean) * s) @ v
        error[dtype] = np.abs(curve - curve_oracle[f"{tag}_pred_mean"])
    assert error[np.float64].max() < 1e-9 * 100
    assert error[np.float32].mean() < 1e-3
    assert (error[np.float32].max(axis=1) > 0.05).mean() <= 0.005


def test_runtimes(curve_oracle, models):
    model = lightgbm_text.read((models / "e2e_runtime_lgb_text.txt").read_bytes())
    found = trees.predict(
        packing.pack(model), curve_oracle["darts_x"][:40].astype(np.float32)
    )
    np.testing.assert_allclose(found, curve_oracle["e2e_runtime_pred"][:, 0], rtol=1e-6)


def published(arrays, output):
    """A forest of the surrogate of JAHS-Bench-201 (XGBoost, padded to 127 nodes)."""
    keys = ("left", "right", "feat", "cond")
    left, right, feature, condition = (arrays[f"{output}_{key}"] for key in keys)
    return forest.from_xgboost_arrays(
        left.ravel(),
        right.ravel(),
        feature.ravel(),
        condition.ravel(),
        np.zeros(left.size, bool),
        sizes=np.full(len(left), left.shape[1]),
        num_features=41,
        base=float(arrays[f"{output}_base_score"]),
    )


def published_features(ops, epochs):
    """Inputs (n * e, 41): the settings of the recorded curves, and an epoch."""
    x = np.zeros((len(ops), 41), np.float32)
    x[:, [2, 33, 34]] = 1  # ReLU; a constant; TrivialAugment
    x[:, 35:40] = [
        0.1,
        5,
        1.0,
        16,
        5e-4,
    ]  # learning rate, N, resolution, W, weight decay
    for k in range(6):
        x[np.arange(len(ops)), 3 + 5 * k + ops[:, k]] = 1
    x = np.repeat(x, len(epochs), axis=0)
    x[:, 40] = np.tile(epochs, len(ops))
    return x


def test_a_published_surrogate(shared):
    arrays = npz.read_npz(shared / "data/nb201_jahs_surrogate_trees.npz")
    curves = npz.read_npz(shared / "data/nb201_jahs_surrogate_curves.npz")
    cells = np.arange(7, 15625, 100)
    ops = curves["ops_naslib"][cells].astype(int)
    ensemble = packing.pack(published(arrays, "valid_acc"))
    found = trees.predict(ensemble, published_features(ops, curves["epoch"]))
    expected = curves["valid_acc"][cells]
    # Rounded, they are equal: the same as within half a step.
    found = np.asarray(found).astype(np.float16).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)
    for output in ("size_mb", "latency"):
        ensemble = packing.pack(published(arrays, output))
        found = trees.predict(ensemble, published_features(ops, [200]))
        np.testing.assert_array_equal(found, curves[output][cells])


@pytest.fixture
def small(models):
    return packing.pack(lightgbm_text.read((models / "lgb_dart.txt").read_bytes()))


@pytest.mark.parametrize("shape", [(3, 4), (3, 1), (2, 40), (1, 1)])
def test_rows_of_a_batch_are_evaluated_together(curve_oracle, small, shape):
    """A batch, its rows, and `vmap` over inputs or ensembles give the same bits."""
    x = curve_oracle["gbdt_X_query"][: np.prod(shape)].astype(np.float32)
    whole = trees.predict(small, x).reshape(shape)
    x = x.reshape(*shape, 8)
    nested = jax.vmap(trees.predict, (None, 0))(small, x)
    np.testing.assert_array_equal(nested, whole)
    # The batch is one evaluation, not one for each row.
    jaxpr = str(jax.make_jaxpr(jax.vmap(trees.predict, (None, 0)))(small, x))
    assert f"f32[{np.prod(shape)},8]" in jaxpr
    two = jax.tree.map(lambda a: jax.numpy.stack([a, a]), small)
    both = jax.vmap(trees.predict, (0, None))(two, x[0])
    np.testing.assert_allclose(both, [whole[0], whole[0]], rtol=1e-6)


def test_the_order_of_accelerators_gives_the_same_bits(
    curve_oracle, small, monkeypatch
):
    x = curve_oracle["gbdt_X_query"][:10].astype(np.float32)
    expected = trees.predict(small, x)
    monkeypatch.setattr(trees, "_PAIRS", 4 * small.num_trees)  # batches of 4, 4 and 2
    dependent = lambda x, cpu, default: default(x)  # noqa: E731
    monkeypatch.setattr(jax.lax, "platform_dependent", dependent)
    np.testing.assert_array_equal(trees._predict(small, x), expected)


def test_thresholds_are_rounded_down():
    values = np.array([0.1, -0.1, 1e300, 0.5, 1 + 2**-40, -1e300, 0.0])
    down = packing.round_down(values, np.float32)
    assert (down.astype(np.float64) <= values).all() and down.dtype == np.float32
    with np.errstate(over="ignore"):
        above = np.nextafter(down, np.float32(np.inf)).astype(np.float64)
    assert (above > values).all() and down[3] == 0.5 and np.isfinite(down[2])


@pytest.mark.parametrize("condition", [1e-45, -1e-45, 0.0])
def test_denormal_thresholds_split_at_zero(condition):
    """XGBoost writes 1e-45 for what is above zero."""
    stump = forest.from_xgboost_arrays(
        *np.array([[1, -1, -1], [2, -1, -1], [0, 0, 0]]),
        np.array([condition, 1, 2], np.float32),
        np.zeros(3, bool),
        sizes=np.array([3]),
        num_features=1,
    )
    x = np.array([[-1.0], [-0.0], [0.0], [1.0], [np.nan]], np.float32)
    expected = np.where(x[:, 0] < np.float32(condition), 1, 2)
    np.testing.assert_array_equal(
        trees.leaf_indices(packing.pack(stump), x)[:, 0], expected
    )


@pytest.mark.parametrize("strict", [False, True])
def test_fractions_of_categories(strict):
    """A node with the set {0}, which XGBoost sends to the right."""
    stump = forest.from_xgboost_arrays(
        *np.array([[1, -1, -1], [2, -1, -1], [0, 0, 0]]),
        np.array([0, 1, 2], np.float32),
        np.zeros(3, bool),
        sizes=np.array([3]),
        num_features=1,
        sets=[{0: np.array([1], np.uint32)}],
    )
    ensemble = packing.pack(stump._replace(strict=strict))
    x = np.array([[-1], [-0.5], [0.0], [0.9], [1], [np.nan], [1e30]], np.float32)
    # LightGBM: the integer part, and no category to the right.
    expected = [1, 1, 2, 2, 1, 2, 1] if strict else [2, 1, 1, 1, 2, 2, 2]
    np.testing.assert_array_equal(trees.leaf_indices(ensemble, x)[:, 0], expected)


def test_the_first_trees(curve_oracle, models):
    model = lightgbm_text.read((models / "lgb_numeric_nan.txt").read_bytes())
    x = curve_oracle["gbdt_X_query"].astype(np.float32)
    some = packing.pack(forest.first_trees(model, 7))
    leaf = curve_oracle["lgb_numeric_nan_leaf_index"][:, :7]
    np.testing.assert_array_equal(trees.leaf_indices(some, x), leaf)
    for num in (0, 26):
        with pytest.raises(ValueError, match=f"wanted 1 to 25 trees, not {num}"):
            forest.first_trees(model, num)
    with pytest.raises(ValueError, match="averages"):
        forest.first_trees(model._replace(divisor=25), 3)


def test_bad_input_is_told(small, models):
    with pytest.raises(ValueError, match=r"x must be \(n, 8\).*found \(2, 7\)"):
        trees.predict(small, np.zeros((2, 7)))
    with pytest.raises(ValueError, match=r"x must be \(n, 8\)"):
        trees.leaf_indices(small, np.zeros(8))
    with pytest.raises(ValueError, match=r"x must be \(n, 7\).*8 features and 1 pred"):
        trees.predict_chain([small, small], np.zeros((2, 8)))
    with pytest.raises(ValueError, match="at least one ensemble"):
        trees.predict_chain([], np.zeros((2, 8)))
    model = lightgbm_text.read((models / "lgb_dart.txt").read_bytes())
    with pytest.raises(ValueError, match="float64 needs jax_enable_x64"):
        packing.pack(model, np.float64)
    with pytest.raises(ValueError, match="float32 or float64, not int32"):
        packing.pack(model, np.int32)
    with jax.enable_x64(True), pytest.raises(ValueError, match="must be float32"):
        packing.pack(model._replace(strict=True), np.float64)


def test_lightgbm_of_today(tmp_path):
    """Its own predictions, for NaN, zeros and categories, single and double."""
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(1)
    x = np.round(rng.normal(size=(400, 4)), 1)
    x[:, 3] = rng.integers(0, 70, 400)
    x[::9, 0], x[::5, 1], x[::11, 3] = np.nan, 0, np.nan
    y = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 3]) % 3 + x[:, 1]
    settings = {
        "verbosity": -1,
        "num_threads": 1,
        "min_data_in_leaf": 3,
        "num_leaves": 50,
    }
    settings |= {"zero_as_missing": True, "min_data_per_group": 5}
    data = lightgbm.Dataset(x, y, categorical_feature=[3])
    booster = lightgbm.train(settings, data, 6)
    model = lightgbm_text.read(booster.model_to_string())
    inputs = np.round(rng.normal(size=(200, 4)), 1).astype(np.float32)
    inputs[:, 3] = rng.integers(-3, 90, 200)
    inputs[::4, 0], inputs[::6, 1], inputs[::5, 3] = np.nan, 0, np.nan
    expected = booster.predict(inputs, pred_leaf=True, num_threads=1)
    ensemble = packing.pack(model)
    np.testing.assert_array_equal(trees.leaf_indices(ensemble, inputs), expected)


@pytest.mark.parametrize("most_one_hot", [2, 100])
def test_xgboost_of_today(most_one_hot):
    """Its own predictions with categories and pruned nodes, from all that it writes."""
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    x[:, 2] = rng.integers(0, 40, 300)
    x[::7, 1], x[::5, 2] = np.nan, np.nan
    y = x[:, 0] + np.nan_to_num(x[:, 2]) % 2

    def matrix(x, y=None):
        types = ["q", "q", "c"]
        return xgboost.DMatrix(
            x, y, feature_types=types, enable_categorical=True, nthread=1
        )

    settings = {"max_depth": 6, "tree_method": "hist", "gamma": 0.1, "nthread": 1}
    settings["max_cat_to_onehot"] = most_one_hot
    booster = xgboost.train(settings, matrix(x, y), 8)
    x[:60, 2] = rng.integers(0, 45, 60)
    expected = booster.predict(matrix(x), pred_leaf=True)
    value = booster.predict(matrix(x))
    handle = bytes(booster.__getstate__()["handle"])
    for raw in (booster.save_raw("ubj"), booster.save_raw("json"), handle):
        ensemble = packing.pack(xgboost_json.read(bytes(raw)))
        np.testing.assert_array_equal(trees.leaf_indices(ensemble, x), expected)
        np.testing.assert_array_equal(trees.predict(ensemble, x), value)
    assert json.loads(booster.save_raw("json"))["learner"]
    assert dataclasses.is_dataclass(ensemble)
