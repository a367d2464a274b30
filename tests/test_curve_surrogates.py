"""Learning-curve surrogates: compression, noise, regressors, fits, files."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.curves import (
    compress,
    fit,
    forest,
    heads,
    members,
    noise,
    packing,
    regress_boosting,
    residuals,
    splits,
    stacking,
    surrogate,
    surrogate_files,
)
from jaxnas.curves.surrogate import Info
from jaxnas.io import npz

INFO = Info(space="made up", features="bits", low=0.0, high=100.0)
BOOSTING = {
    **{"num_leaves": 6, "learning_rate": 0.2, "min_data_in_leaf": 4},
    **{"num_threads": 1, "verbosity": -1},
}


@pytest.fixture(scope="module")
def oracle(shared):
    return npz.read_npz(shared / "oracles/learning_curves.npz")


@pytest.fixture(scope="module")
def data():
    """Curves (120, 12) of a level and a rate that four bits decide, with noise."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (120, 4)).astype(float)
    level = 60 + 20 * bits[:, 0] + 5 * bits[:, 1] * bits[:, 2]
    rate = 0.2 + 0.3 * bits[:, 3]
    time = np.arange(1, 13)
    curves = level[:, None] * (1 - np.exp(-rate[:, None] * time))
    return bits, curves + rng.normal(0, 1, curves.shape)


def boosting(**more):
    return regress_boosting.lightgbm(**{"num_rounds": 20, **BOOSTING, **more})


@pytest.fixture(scope="module")
def fitted(data):
    """Two members of stacked trees, with noise and training times."""
    kinds = (boosting(chain=False), boosting(num_rounds=5, chain=True))
    return fit.fit_surrogate(
        jax.random.key(0),
        *data,
        info=INFO,
        compression=compress.final_value_svd(3),
        regressor=stacking.stacked(*kinds),
        members=2,
        folds=2,
        groups=np.arange(120),
        seconds=10 + data[0][:, 0],
    )


def stump(threshold):
    """A tree of one test, with the values 10 and 90."""
    nothing = np.zeros(3)
    return forest.Forest(
        start=np.array([0, 3]),
        feature=np.array([0, -1, -1], np.int32),
        threshold=np.array([threshold, 0, 0]),
        left=np.array([1, 0, 0]),
        right=np.array([2, 0, 0]),
        missing=nothing.astype(np.int8),
        default_left=nothing.astype(bool),
        category=np.full(3, -1, np.int32),
        categories=np.zeros((0, 0), np.uint32),
        value=np.array([0, 10.0, 90]),
        number=nothing.astype(np.int32),
        num_features=1,
    )


def whole(num):
    return np.arange(num)[None]


def test_svd_equals_the_reference(oracle):
    curves = oracle["svd_Y"]
    with jax.enable_x64(True):
        (found,) = compress.svd(5)(None, curves, whole(300))
        z = compress.encode(found, jnp.asarray(curves))
        again = compress.decode(found, z)
        sign = np.sign((np.asarray(z) * oracle["svd_labels_standardized"]).sum(0))
        u = compress.unscale(found, z)
        new = compress.decode(found, compress.encode(found, oracle["svd_Ynew"]))
    z, u, again, new = map(np.asarray, (z, u, again, new))
    close = dict(rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(z * sign, oracle["svd_labels_standardized"], **close)
    np.testing.assert_allclose(found.scale, oracle["svd_scaler_scale"], **close)
    np.testing.assert_allclose(u * sign, oracle["svd_u_topK"], **close)
    np.testing.assert_allclose(again, oracle["svd_recon_k5"], **close)
    np.testing.assert_allclose(again - curves, oracle["svd_residual"], atol=1e-9)
    np.testing.assert_allclose(new, oracle["svd_Ynew_recon_k5"], **close)


@pytest.mark.parametrize("size", [1, 4, 98])
def test_the_final_value_is_a_component(oracle, size):
    curves = oracle["svd_Y"]
    (found,) = compress.final_value_svd(size)(None, curves, whole(300))
    z = compress.encode(found, jnp.asarray(curves))
    last = compress.unscale(found, z)[:, 0]
    np.testing.assert_allclose(last, (curves - curves.mean(0))[:, -1], atol=1e-3)
    again = compress.decode(found, z)
    np.testing.assert_allclose(again[:, -1], curves[:, -1], atol=1e-3)
    # Another value of another component changes nothing at the end.
    moved = compress.decode(found, z.at[:, 1:].add(1.0))
    np.testing.assert_allclose(moved[:, -1], again[:, -1], atol=1e-4)
    if size == 98:
        np.testing.assert_allclose(again, curves, atol=1e-2)


def test_a_single_value_is_a_curve():
    values = np.array([[1.0], [2.0], [4.0]])
    (found,) = compress.final_value_svd(16)(None, values, whole(3))
    assert found.basis.shape == (1, 1)
    z = compress.encode(found, jnp.asarray(values))
    np.testing.assert_allclose(compress.decode(found, z), values, rtol=1e-6)


def test_a_constant_component_is_not_scaled_up():
    curves = np.outer(np.ones(5), [1.0, 2.0, 3.0])
    (found,) = compress.svd(2)(None, curves, whole(5))
    np.testing.assert_allclose(found.scale, 1.0)
    again = compress.decode(found, compress.encode(found, jnp.asarray(curves)))
    np.testing.assert_allclose(again, curves, rtol=1e-6)


def test_noise_equals_the_reference(oracle):
    residual = oracle["svd_residual"]
    none = np.zeros((300, 0))
    with jax.enable_x64(True):
        std = noise.per_epoch_std()(None, residual, none, none).std
        kde = noise.kernel_density(shrink=False)(None, residual, none, none)
        bandwidth = float(oracle["kde_factor"])
        covariance = kde.factor.T @ kde.factor
        shrunk = noise.kernel_density()(None, residual, none, none).shrink
    np.testing.assert_allclose(std, oracle["stddev_noise_sigma"], rtol=1e-9)
    # The reference adds 1e-8 to residuals so that a Cholesky factor exists.
    np.testing.assert_allclose(covariance, oracle["kde_covariance"], atol=1e-6)
    np.testing.assert_allclose(shrunk, (1 + bandwidth**2) ** -0.5, rtol=1e-9)
    assert kde.factor.shape == (93, 98)  # five components have no residual


def test_kde_draws_have_the_spread_of_their_kind(oracle):
    residual, none = oracle["svd_residual"], np.zeros((300, 0))
    keys = jax.random.split(jax.random.key(1), 4000)
    std = {}
    for shrink in (False, True):
        model = noise.kernel_density(shrink)(None, residual, none, none)
        draws = noise.draw(model, keys, jnp.zeros((4000, 0)), jnp.zeros((4000, 0)))
        std[shrink] = np.asarray(draws).std(0)
    reference = oracle["kde_sampled_std_per_epoch"]
    assert np.abs(std[False] / reference - 1).max() < 0.12
    assert abs((std[False] / reference).mean() - 1) < 0.02
    assert abs((std[True] / oracle["resid_std_per_epoch_ddof1"]).mean() - 1) < 0.02


def test_window_noise_differs_between_architectures():
    rng = np.random.default_rng(2)
    loud = np.repeat([0.0, 1.0], 100)
    residual = rng.normal(size=(200, 20)) * (1 + 4 * loud[:, None])
    x, z = loud[:, None], np.zeros((200, 1))
    fitted = noise.window_std(2, boosting(chain=False))
    model = fitted(jax.random.key(0), residual, x, z)
    keys = jax.random.split(jax.random.key(1), 2000)
    stds = []
    for value in (0.0, 1.0):
        given = jnp.full((2000, 1), value), jnp.zeros((2000, 1))
        stds.append(np.asarray(noise.draw(model, keys, *given)).std(0).mean())
    np.testing.assert_allclose(stds, [1, 5], rtol=0.12)


def test_windows_are_cut_off_at_the_ends():
    row = np.array([[3.0, 0.0, 0.0, 4.0]])
    found = noise._window_rms(row, 1)
    np.testing.assert_allclose(found**2, [[4.5, 3.0, 16 / 3, 8.0]])


@pytest.mark.parametrize("kind", ["masks", "nodes"])
def test_heads_equal_their_models(kind):
    lightgbm = pytest.importorskip("lightgbm")
    from jaxnas.curves import lightgbm_text

    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (600, 4)).astype(np.float32)
    forests, expected = [], []
    leaves = 200 if kind == "nodes" else 12
    for rounds in (3, 5):
        y = x @ rng.normal(size=4) + rng.normal(size=600) + 7
        given = {**BOOSTING, "num_leaves": leaves, "min_data_in_leaf": 1}
        booster = lightgbm.train(given, lightgbm.Dataset(x, y), rounds)
        forests.append(lightgbm_text.read(booster.model_to_string()))
        expected.append(booster.predict(x))
    packed = heads.pack(forests)
    assert (packed.node_left.size > 0) == (kind == "nodes")
    found = heads.predict(packed, jnp.asarray(x))
    np.testing.assert_allclose(found, np.stack(expected, 1), rtol=2e-6)


def test_single_leaves_are_evaluated_for_few_inputs():
    lightgbm = pytest.importorskip("lightgbm")
    from jaxnas.curves import lightgbm_text

    x, forests = np.zeros((9, 2)), []
    for constant in (7.0, 5.0):
        data = lightgbm.Dataset(x, np.full(9, constant))
        booster = lightgbm.train(BOOSTING, data, 1)
        forests.append(lightgbm_text.read(booster.model_to_string()))
    found = heads.predict(heads.pack(forests), jnp.zeros((1, 2)))
    np.testing.assert_allclose(found, [[7.0, 5.0]])


def test_fits_of_about_equal_trees_share_a_compiled_program():
    lightgbm = pytest.importorskip("lightgbm")
    from jaxnas.curves import lightgbm_text

    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (600, 4)).astype(np.float32)
    shapes = []
    # Trees of 11 and of 12 nodes, which test three and four features.
    for leaves, constant in ((12, 1), (13, 0)):
        x[:, :constant] = 0
        given = {**BOOSTING, "num_leaves": leaves, "min_data_in_leaf": 1}
        data = lightgbm.Dataset(x, x @ np.arange(1.0, 5.0))
        booster = lightgbm.train(given, data, 3)
        forest = lightgbm_text.read(booster.model_to_string())
        packed = heads.pack([forest])
        shapes.append([(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(packed)])
        found = heads.predict(packed, jnp.asarray(x))[:, 0]
        np.testing.assert_allclose(found, booster.predict(x), rtol=2e-6)
        x[:, 0] = rng.integers(0, 9, 600)
    assert shapes[0] == shapes[1]


def test_stacking_finds_the_weights():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(500, 2))
    errors = rng.normal(size=(3, 500, 2)) * np.array([1.0, 2.0, 30.0])[:, None, None]
    found = stacking.weights(target + errors, target)
    # Inverse variances: 1 and 1/4; the third is dropped.
    np.testing.assert_allclose(found, [[0.8] * 2, [0.2] * 2, [0, 0]], atol=0.06)
    np.testing.assert_allclose(found.sum(0), 1)
    # Each component has the part that is better for it.
    errors = np.stack([[1.0, 0.1], [0.1, 1.0]])[:, None] * rng.normal(size=(2, 500, 2))
    np.testing.assert_allclose(
        stacking.weights(target + errors, target), 1 - np.eye(2), atol=0.05
    )
    assert (stacking.weights(np.zeros((4, 0, 2)), np.zeros((0, 2))) == 0.25).all()


def test_a_stack_that_may_be_better_by_chance_is_its_first_part():
    """Two parts with errors of one spread: their mean halves the squared error."""
    rng = np.random.default_rng(1)
    target, errors = rng.normal(size=(400, 1)), rng.normal(size=(2, 400, 1))
    stack, first = np.array([[0.5], [0.5]]), np.array([[1.0], [0.0]])
    found = stacking.weights(target + errors, target)
    np.testing.assert_allclose(found, stack, atol=0.1)
    assert (stacking.weights(errors[:, :8], 0 * target[:8]) == first).all()
    # 400 predictions of 8 rows: as few rows tell as little.
    few = np.repeat(errors[:, :8], 50, 1)
    alone = stacking.weights(few, 0 * target)
    assert (alone != first).all()
    rows = np.repeat(np.arange(8), 50)
    assert (stacking.weights(few, 0 * target, rows) == first).all()


def test_unseen_targets_are_cut_off_at_the_range_of_the_seen_ones(data):
    """One training far beyond all others says nothing about the parts."""
    bits, _ = data
    target = bits[:, :1].copy()
    target[119] = 1e3
    task = regress_boosting.FitTask(bits, [target], whole(119), [np.ones(1)])
    part = boosting(chain=False)(jax.random.split(jax.random.key(0), 1), task)
    predicted, cut, rows = stacking._unseen([part], task)
    assert predicted.shape == (1, 1, 1)
    assert cut == 1 and rows == 119


def test_a_stack_has_the_weights_of_all_its_members(data):
    """Of a part that has learnt the target and one that has not, the first remains."""
    bits, _ = data
    target = bits[:, :1] + 2 * bits[:, 1:2]
    bags = splits.bags(jax.random.key(0), np.arange(120), 2, 0.7)
    task = regress_boosting.FitTask(bits, [target, -target], bags, [np.ones(1)] * 2)
    good, bad = boosting(chain=False), boosting(num_rounds=1, chain=False)
    keys = jax.random.split(jax.random.key(1), 2)
    found = stacking.stacked(bad, good)(keys, task)
    for member, sign in zip(found, (1, -1), strict=True):
        assert len(member.parts) == 1 and member.weight.shape == (1, 1)
        predicted = np.asarray(members.regress(member, jnp.asarray(bits)))
        assert np.abs(predicted - sign * target).max() < 0.2
    # Weights of all components alike, as in files of older versions.
    both = members.Mean((found[0].parts[0], found[1].parts[0]), jnp.array([0.75, 0.25]))
    mean = members.regress(both, jnp.asarray(bits))
    np.testing.assert_allclose(mean, -0.5 * predicted, atol=0.2)


def test_a_surrogate_predicts_held_out_curves(data, fitted):
    bits, curves = data
    found = fitted.surrogate
    # Those that one member or both were not fitted on: 1 - 0.8^2 of them on average.
    assert len(set(fitted.rows)) == len(fitted.rows) and 24 <= len(fitted.rows) <= 48
    # The noise of the data is 1.
    assert 0.9 < fitted.residual.std() < 2
    mean = np.asarray(surrogate.predict(found, bits))
    np.testing.assert_allclose(
        fitted.rmse, np.sqrt(((mean - curves) ** 2).mean(1)), rtol=1e-4
    )
    np.testing.assert_allclose(fitted.error, np.abs(mean - curves).max(1), rtol=1e-4)
    parts = surrogate.member_curves(found, bits)
    np.testing.assert_allclose(mean, np.asarray(parts).mean(0), rtol=1e-5)
    np.testing.assert_allclose(surrogate.spread(found, bits), parts.std(0), rtol=1e-5)
    assert surrogate.spread(found, bits).mean() > 0.01
    assert surrogate.components(found, bits).shape == (2, 120, 3)


def test_draws_have_the_spread_of_held_out_residuals(data, fitted):
    bits = jnp.repeat(data[0][:1], 3000, 0)
    found = fitted.surrogate
    draws = np.asarray(surrogate.sample(found, jax.random.key(2), bits))
    ratio = (draws - surrogate.predict(found, bits)).std(0) / fitted.residual.std(0)
    assert np.abs(ratio - 1).max() < 0.08
    again = surrogate.sample(found, jax.random.key(2), bits)
    np.testing.assert_array_equal(draws, again)


def test_curves_stay_within_the_valid_range(data, fitted):
    found = fitted.surrogate
    narrow = Info(space="made up", features="bits", low=30.0, high=50.0)
    cut = surrogate.Surrogate(found.members, found.noise, found.time, narrow)
    for curves in (
        surrogate.predict(cut, data[0]),
        surrogate.sample(cut, jax.random.key(0), data[0]),
    ):
        assert curves.min() == 30 and curves.max() == 50


def test_runtime_never_decreases(data, fitted):
    bits = data[0]
    epochs = jnp.arange(14)
    at = lambda e: surrogate.runtime(fitted.surrogate, bits, e)  # noqa: E731
    seconds = jax.vmap(at)(epochs)
    assert (jnp.diff(seconds, axis=0) >= 0).all()
    np.testing.assert_allclose(seconds[0], 0)
    np.testing.assert_allclose(seconds[12], 10 + bits[:, 0], rtol=0.02)
    np.testing.assert_allclose(seconds[6], seconds[12] / 2, rtol=1e-5)
    np.testing.assert_array_equal(seconds[13], seconds[12])


def test_one_fold_can_be_enough(data, monkeypatch):
    """Then the surrogate is the predictor whose residuals are known."""
    monkeypatch.setattr(residuals, "MIN_RESIDUALS", 10)
    bits, curves = data
    found = fit.fit_surrogate(
        jax.random.key(0),
        *data,
        info=INFO,
        compression=compress.centred_svd(2),
        regressor=boosting(),
        members=1,
        folds=6,
        groups=np.arange(120),
    )
    assert len(found.rows) == 20
    mean = surrogate.predict(found.surrogate, bits[found.rows])
    np.testing.assert_allclose(found.residual, curves[found.rows] - mean, atol=1e-3)


def test_networks_learn_curves(data):
    """The auto-encoder and the perceptron, each with a peer that is exact."""
    pytest.importorskip("flax")
    from jaxnas.curves import regress_mlp, vae

    bits, curves = data
    small = dict(min_steps=400, epochs=1)
    key = jax.random.key(0)
    keys, rows = jax.random.split(key, 2), np.stack([np.arange(90), 30 + np.arange(90)])
    compressions = vae.vae(2, **small)(keys, curves, rows)
    for found in compressions:
        again = vae.decode(found, vae.encode(found, jnp.asarray(curves)))
        # The curves' own root mean square around their mean is 12.
        assert np.sqrt(((again - curves) ** 2).mean()) < 4
    assert not np.allclose(compressions[0].centre, 0)
    target = np.asarray(
        compress.encode(*compress.centred_svd(2)(None, curves, rows[:1]), curves)
    )
    task = regress_boosting.FitTask(bits, [target, target], rows, [np.ones(2)] * 2)
    regressors = regress_mlp.mlp(16, 2, **small)(keys, task)
    errors = [np.asarray(regress_mlp.predict(r, bits)) - target for r in regressors]
    noise_left = np.sqrt((errors[0][:90] ** 2).mean())
    assert noise_left < 0.35 and not np.allclose(errors[0], errors[1])
    member = members.Member(compressions[0], regressors[0])
    assert surrogate.predict(
        surrogate.Surrogate((member,), None, None, INFO), bits
    ).shape == (120, 12)


def test_batches_are_passes_over_all_rows():
    pytest.importorskip("flax")
    from jaxnas.curves import regress_mlp

    order = np.asarray(regress_mlp.batches(jax.random.key(0), 10, 7, 3))
    assert order.shape == (7, 3)
    for start in (0, 3):  # a pass has three steps
        assert len(set(order[start : start + 3].reshape(-1).tolist())) == 9
    assert order[:3].tolist() != order[3:6].tolist()


def test_folds_keep_groups_together():
    groups = np.repeat(np.arange(30), 4)
    part = splits.folds(jax.random.key(0), groups, 5)
    assert (part.reshape(30, 4) == part.reshape(30, 4)[:, :1]).all()
    assert np.bincount(part).tolist() == [24] * 5


def test_bags_are_drawn_by_groups_without_replacement():
    groups = np.arange(60) // 3
    drawn = splits.bags(jax.random.key(0), groups, 3, 0.8)
    assert drawn.shape == (3, 48)
    for bag in drawn:
        assert len(set(bag.tolist())) == 48
        assert not set(groups[bag]) & set(np.delete(groups, bag))
    assert set(drawn[0].tolist()) != set(drawn[1].tolist())
    # One group may be divided, so that all bags have one size.
    (bag, _) = splits.bags(jax.random.key(0), groups, 2, 0.75)
    assert len(bag) == 45 and len(set(groups[bag]) & set(np.delete(groups, bag))) <= 1
    whole = splits.bags(jax.random.key(0), groups, 1, 0.8)
    np.testing.assert_array_equal(whole, [range(60)])


def test_predictions_in_chunks_are_those_of_the_surrogate(data, fitted):
    info = dataclasses.replace(fitted.surrogate.info, high=70.0)
    narrow = dataclasses.replace(fitted.surrogate, info=info)
    found = residuals.predict(narrow, data[0])
    np.testing.assert_allclose(found, surrogate.predict(narrow, data[0]), rtol=1e-6)
    assert (found == 70).any() and (found < 70).any()


def test_out_of_bag_residuals_have_the_spread_of_an_ensembles_error(monkeypatch):
    """Five members with errors of variance 1 around noise of variance 4."""
    rng = np.random.default_rng(0)
    num, m = 4000, 5
    curves, errors = rng.normal(0, 2, (num, 1)), rng.normal(0, 1, (m, num, 1))
    monkeypatch.setattr(residuals, "_member_curves", lambda p, x: errors[:, x[:, 0]])
    monkeypatch.setattr(residuals, "_CHUNK", num)
    index, groups = np.arange(num)[:, None], np.arange(num) // 2
    bags = splits.bags(jax.random.key(0), groups, m, 0.6)
    predictor = surrogate.Surrogate((), None, None, Info("x", "y", low=-99.0))
    found = residuals.out_of_bag(predictor, bags, index, curves, groups)
    unseen = np.stack([~np.isin(groups, groups[bag]) for bag in bags])
    np.testing.assert_array_equal(found.rows, np.flatnonzero(unseen.any(0)))
    # Single members would give more.
    assert np.sqrt((found.residual**2).mean()) == pytest.approx(np.sqrt(4.2), rel=0.02)
    ratio = found.residual[:, 0] - 0
    row = np.flatnonzero(unseen.sum(0)[found.rows] == 1)[:50]
    alone = curves[found.rows[row], 0] - [
        errors[unseen[:, r].argmax(), r, 0] for r in found.rows[row]
    ]
    scale = ratio[row] / alone
    np.testing.assert_allclose(scale, scale[0])
    assert 0.9 < scale[0] < 1
    share = (1 / unseen.sum(0)[found.rows]).mean()
    want = np.sqrt(1 - (share - 1 / m) / (4 + share))
    assert scale[0] == pytest.approx(want, abs=0.004)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda x, y: (x, [*y[:-1], y[-1][:5]]),
            "one length, not of lengths from 5 to 12",
        ),
        (lambda x, y: (x[:0], y[:0]), "no curves"),
        (lambda x, y: (x[:-1], y), r"features \(n, d\), curves \(n, e\)"),
        (lambda x, y: (x, np.where(y > 80, np.nan, y)), "curves: .* not finite"),
        (lambda x, y: (x * np.inf, y), "features: .* not finite; the first is row 0"),
        (lambda x, y: (x, y + 200), "row 0 is outside the valid range of 0.0 to 100.0"),
        (lambda x, y: (x[:2], y[:2]), "3 components need as many curves"),
    ],
)
def test_bad_data_is_refused(data, change, words):
    features, curves = change(*data)
    settings = dict(compression=compress.final_value_svd(3), noise=None, members=1)
    with pytest.raises(ValueError, match=words):
        fit.fit_surrogate(
            jax.random.key(0),
            features,
            curves,
            info=INFO,
            regressor=boosting(),
            **settings,
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bagging": 1.5}, "bagging must be a share"),
        ({"members": 0.5}, "members must be a whole number"),
        ({"members": 0}, "members must be at least 1, not 0"),
        ({"groups": np.zeros(119)}, r"groups \(119,\)"),
        ({"folds": 200}, "folds must be 2 to 16"),
        ({"seconds": np.zeros(120)}, "seconds must be .*, positive"),
        ({"compression": compress.svd(13)}, "13 components need .* 12 epochs"),
    ],
)
def test_bad_settings_are_refused(data, settings, words):
    given = dict(
        compression=compress.svd(2), members=1, regressor=boosting(num_rounds=1)
    )
    with pytest.raises(ValueError, match=words):
        fit.fit_surrogate(jax.random.key(0), *data, info=INFO, **{**given, **settings})


def test_features_of_another_shape_are_refused(fitted):
    with pytest.raises(ValueError, match=r"must be \(n, 4\), bits .* found \(3, 5\)"):
        surrogate.predict(fitted.surrogate, np.zeros((3, 5)))


def test_what_a_surrogate_lacks_is_named(fitted):
    bare = surrogate.Surrogate(fitted.surrogate.members, None, None, INFO)
    with pytest.raises(ValueError, match="no noise model"):
        surrogate.sample(bare, jax.random.key(0), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="no training times"):
        surrogate.runtime(bare, np.zeros((3, 4)), 2)


class TestFiles:
    def test_a_file_gives_back_what_was_saved(self, tmp_path, data, fitted):
        path = tmp_path / "s.npz"
        extra, notes = {"rows": fitted.rows}, {"source": "made up"}
        surrogate_files.save(path, fitted.surrogate, extra=extra, notes=notes)
        found = surrogate_files.read(path)
        assert found.notes == notes and found.surrogate.info == INFO
        np.testing.assert_array_equal(found.extra["rows"], fitted.rows)
        same = jax.tree.map(np.array_equal, found.surrogate, fitted.surrogate)
        assert all(jax.tree.leaves(same))
        key, bits = jax.random.key(3), data[0]
        np.testing.assert_array_equal(
            surrogate.sample(found.surrogate, key, bits),
            surrogate.sample(fitted.surrogate, key, bits),
        )

    @pytest.fixture
    def content(self, tmp_path, fitted):
        surrogate_files.save(tmp_path / "s.npz", fitted.surrogate)
        return npz.load_arrays(tmp_path / "s.npz")

    def refused(self, tmp_path, arrays, manifest, words):
        npz.save_arrays(tmp_path / "t.npz", arrays, manifest)
        with pytest.raises(ValueError, match=words) as error:
            surrogate_files.load(tmp_path / "t.npz")
        assert "t.npz" in str(error.value) and "\n" not in str(error.value)

    @pytest.mark.parametrize("kind", ["masks", "nodes"])
    def test_thresholds_of_float64_stay_below_inputs_in_float32(
        self, tmp_path, monkeypatch, kind
    ):
        if kind == "nodes":
            monkeypatch.setattr(packing, "MAX_MASKED", 1)
        # float32(0.1) is above 0.1, to which a threshold is not rounded up.
        inputs = np.array([[0.1], [1e-40], [-1e-40], [0.3]], np.float32)
        with jax.enable_x64(True):
            chain = regress_boosting.Chain((packing.pack(stump(0.1)),))
            one = np.ones((1, 1))
            identity = compress.Linear(one[0] * 0, one, one, one[0] * 0, one[0])
            member = members.Member(jax.tree.map(jnp.asarray, identity), chain)
            whole = surrogate.Surrogate((member,), None, None, INFO)
            surrogate_files.save(tmp_path / "s.npz", whole)
            expected = surrogate.predict(whole, inputs.astype(float))[:, 0]
        loaded = surrogate_files.load(tmp_path / "s.npz")
        assert expected.tolist() == [90, 10, 10, 90]
        np.testing.assert_array_equal(surrogate.predict(loaded, inputs)[:, 0], expected)

    def test_another_version_is_refused(self, tmp_path, content):
        arrays, manifest = content
        words = "the format 2, and this version of jaxnas reads and writes format 1"
        self.refused(tmp_path, arrays, {**manifest, "format": 2}, words)

    def test_another_kind_is_refused(self, tmp_path, content):
        self.refused(tmp_path, content[0], {"kind": "table"}, "not a learning-curve")

    def test_a_changed_number_is_refused(self, tmp_path, content):
        arrays, manifest = content
        name = next(n for n in arrays if n.endswith("basis"))
        changed = {**arrays, name: arrays[name] + 1e-6}
        self.refused(tmp_path, changed, manifest, f"SHA-256 of {name} differs")

    def test_an_array_too_few_or_too_many_is_refused(self, tmp_path, content):
        arrays, manifest = dict(content[0]), content[1]
        name = next(iter(arrays))
        self.refused(
            tmp_path, {**arrays, "other": arrays[name]}, manifest, "other is not one of"
        )
        arrays.pop(name)
        self.refused(tmp_path, arrays, manifest, f"the array {name} is missing")

    @pytest.mark.parametrize(
        ("ending", "change", "words"),
        [
            ("basis", lambda x: x[:, :-1], "not a sound"),
            ("basis", lambda x: x * np.nan, "not finite"),
            (
                "ensemble/column",
                lambda x: x + 9,
                "columns of its trees are out of range",
            ),
            ("feature", lambda x: x + 9, "features of its trees are out of range"),
        ],
    )
    def test_unsound_content_is_refused(self, tmp_path, content, ending, change, words):
        """A file with wrong content may have matching checksums."""
        arrays, manifest = dict(content[0]), content[1]
        name = next(n for n in arrays if n.endswith(ending))
        arrays[name] = change(arrays[name])
        sums = {**manifest["sha256"], name: surrogate_files._digest(arrays[name])}
        self.refused(tmp_path, arrays, {**manifest, "sha256": sums}, words)

    def test_unknown_types_are_refused(self, tmp_path, content):
        arrays, manifest = content
        tree = {**manifest["tree"], "type": "Popen"}
        self.refused(tmp_path, arrays, {**manifest, "tree": tree}, "Popen")


def test_importance_is_the_change_of_a_curve(oracle):
    (found,) = compress.svd(3)(None, oracle["svd_Y"], whole(300))
    change = compress.decode(found, jnp.eye(3)) - compress.decode(found, jnp.zeros(3))
    rms = np.sqrt((np.asarray(change) ** 2).mean(1))
    np.testing.assert_allclose(members.importance(found), rms, rtol=1e-3)
