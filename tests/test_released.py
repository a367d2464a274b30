"""Published surrogates: the reference program's numbers, and the release's interface."""

import collections
import dataclasses
import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

from jaxnas.benchmarks import (
    load_ensemble,
    released,
    released_files,
    released_inputs,
)
from jaxnas.benchmarks.importers import x11
from jaxnas.curves import packing, released_model
from jaxnas.io import npz

pytestmark = pytest.mark.usefixtures("quick_compilation")
CURVES = {
    "e2e_nb211_svd_lgb": "nb211_x",
    "e2e_nb311_svd_lgb": "darts_x",
    "e2e_nb211_svd_xgb": "nb211_x",
}
Genotype = collections.namedtuple(
    "Genotype", "normal normal_concat reduce reduce_concat"
)


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "oracles/learning_curves_models"


@pytest.fixture(scope="module")
def releases(folder):
    return {name: x11.read(folder / name) for name in (*CURVES, "e2e_runtime_lgb")}


def genotype(pairs):
    normal, reduce = pairs
    return Genotype(normal, [2, 3, 4, 5], reduce, [2, 3, 4, 5])


def wanted_mean(curve_oracle, name):
    return curve_oracle[f"{name}_{'pred' if 'xgb' in name else 'pred_mean'}"]


def test_kinds_members_and_sources(releases, folder):
    kinds = {name: r.kind.name for name, r in releases.items()}
    assert kinds == {
        "e2e_nb211_svd_lgb": "nb211",
        "e2e_nb311_svd_lgb": "nb311",
        "e2e_nb211_svd_xgb": "nb211",
        "e2e_runtime_lgb": "nb301",
    }
    release = releases["e2e_nb211_svd_lgb"]
    assert (release.num_files, len(release.members)) == (2, 1)
    assert release.kind.unit == "percent" and release.config["model"] == "svd_lgb"
    assert set(release.sources) == {
        f"ensemble_member_{i}/{name}"
        for i in (0, 1)
        for name in (x11.MODEL, x11.CONFIG, x11.DATA)
    }
    model = f"ensemble_member_0/{x11.MODEL}"
    data = (folder / "e2e_nb211_svd_lgb" / model).read_bytes()
    assert release.sources[model] == hashlib.sha256(data).hexdigest()
    assert releases["e2e_nb211_svd_xgb"].members[0].kernel is None


def test_parts_are_those_of_the_reference(releases, curve_oracle):
    for name in CURVES:
        member = releases[name].members[0]
        for ours, theirs in {
            "mean": "scaler_mean",
            "scale": "scaler_scale",
            "singular": "svd_s",
            "right": "svd_vh",
        }.items():
            wanted = curve_oracle[f"{name}_member0_{theirs}"]
            np.testing.assert_array_equal(getattr(member, ours), wanted)
        if member.kernel is not None:
            assert member.kernel.factor == curve_oracle[f"{name}_member0_kde_factor"]
            assert len(member.kernel.rows) == curve_oracle[f"{name}_member0_kde_n"]


def test_curves_and_components_in_double_precision(x64, releases, curve_oracle):
    for name, x in CURVES.items():
        params = x11.surrogate(releases[name])
        features = curve_oracle[x][:40].astype(float)
        curves = released_model.predict_mean(params, features)
        np.testing.assert_allclose(curves, wanted_mean(curve_oracle, name), rtol=1e-9)
        if "lgb" in name:
            found = released_model.components(params, features)
            wanted = curve_oracle[f"{name}_pred_components"]
            np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_curves_in_single_precision(releases, curve_oracle):
    name = "e2e_nb311_svd_lgb"
    params = x11.surrogate(releases[name])
    curves = released_model.predict_mean(params, curve_oracle[CURVES[name]][:40])
    difference = np.abs(curves - wanted_mean(curve_oracle, name))
    assert curves.dtype == np.float32 and difference.mean() < 1e-3
    assert (difference.max(1) > 0.05).mean() <= 0.005


def test_members_that_differ_are_kept_and_averaged(x64, releases, curve_oracle):
    release = releases["e2e_nb211_svd_xgb"]
    (member,) = release.members
    other = member._replace(mean=member.mean * 1.01, digest="other")
    params = x11.surrogate(release._replace(members=(member, other)))
    features = curve_oracle["nb211_x"][:40].astype(float)
    curves = released_model.predict_members(params, features)
    wanted = wanted_mean(curve_oracle, "e2e_nb211_svd_xgb")
    np.testing.assert_allclose(curves[0], wanted, rtol=1e-9)
    assert np.abs(curves[1] - curves[0]).max() > 0.1
    mean = released_model.predict_mean(params, features)
    np.testing.assert_allclose(mean, curves.mean(0), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "seed"), [("e2e_nb211_svd_lgb", 1011), ("e2e_nb311_svd_lgb", 1013)]
)
def test_reference_noise_is_the_seeded_draw(releases, curve_oracle, name, seed):
    # NumPy's own draws, in SciPy's order: the smooth part is the same up to the signs of
    # the covariance's eigenvectors, so its length is, and the row is.
    kernel = releases[name].members[0].kernel
    num, length = kernel.rows.shape
    random = np.random.RandomState(seed)
    curves = curve_oracle[f"{name}_pred_mean"]
    for noisy, mean in zip(
        curve_oracle[f"{name}_pred_noisy_seeded"], curves, strict=False
    ):
        smooth = random.multivariate_normal(np.zeros(length), kernel.covariance)
        row = kernel.rows[random.choice(num, p=np.full(num, 1 / num))]
        draw = 2 * (noisy - mean)
        assert np.abs(draw).max() <= 3 + 1e-9
        if np.abs(draw).max() < 3 - 1e-9:  # where nothing is clipped
            size = np.linalg.norm(draw - row)
            assert size == pytest.approx(np.linalg.norm(smooth), rel=1e-6)


def test_noise_has_the_spread_of_the_residuals(releases, curve_oracle):
    params = x11.surrogate(releases["e2e_nb211_svd_lgb"])
    rows = np.asarray(params.kernel.rows)
    key = jax.random.key(0)
    ours = np.asarray(released_model.noise(params, key, 4000))
    theirs = np.asarray(released_model.noise(params, key, 4000, reference=True))
    ratio = ours.std(0) / rows.std(0, ddof=1)
    assert 0.99 < ratio.mean() < 1.01 and 0.94 < ratio.min() < ratio.max() < 1.06
    # Curve minus reconstruction, where the file has the opposite.
    errors = np.std(rows, 0).mean() / np.sqrt(len(ours))
    assert np.abs(ours.mean(0) + rows.mean(0)).max() < 6 * errors
    recorded = curve_oracle["e2e_nb211_svd_lgb_noise_draws_arch0"]
    assert theirs.std(0).mean() == pytest.approx(recorded.std(0).mean(), rel=0.03)
    assert np.abs(theirs).max() <= 1.5
    correlation = np.corrcoef(ours.T)[0, 1], np.corrcoef(-rows.T)[0, 1]
    assert correlation[0] == pytest.approx(correlation[1], abs=0.1)


def test_the_published_example(folder, curve_oracle):
    model = load_ensemble(folder / "e2e_nb311_svd_lgb")
    wanted = curve_oracle["e2e_nb311_svd_lgb_pred_mean"][7]
    given = {
        "genotype": genotype(curve_oracle["darts_genotypes"][7]),
        "configspace": curve_oracle["darts_config_dicts_short_keys"][7],
        "compact": curve_oracle["darts_compact"][7],
        "BANANAS": genotype(
            [[(i, op) for op, i in cell] for cell in curve_oracle["darts_genotypes"][7]]
        ),
        "arch_str": str(genotype(curve_oracle["darts_genotypes"][7])),
        "vector": curve_oracle["darts_x"][7],
    }
    for representation, config in given.items():
        curve = model.predict(config=config, representation=representation)
        assert curve.dtype == np.float64
        np.testing.assert_allclose(curve, wanted, rtol=1e-5, err_msg=representation)
    pairs = given["genotype"]
    noisy = [model.predict(pairs, "genotype", with_noise=True) for _ in range(2)]
    assert noisy[0].shape == (98,) and not np.array_equal(*noisy)
    again = load_ensemble(folder / "e2e_nb311_svd_lgb")
    np.testing.assert_array_equal(
        again.predict(pairs, "genotype", with_noise=True), noisy[0]
    )
    halved = load_ensemble(folder / "e2e_nb311_svd_lgb", reference=True)
    drawn = halved.predict(pairs, "genotype", with_noise=True, components=True)
    assert 0 < np.abs(drawn - wanted).max() <= 1.5001
    found = model.predict(pairs, "genotype", components=True)
    np.testing.assert_allclose(
        found, curve_oracle["e2e_nb311_svd_lgb_pred_components"][[7]], atol=1e-6
    )


def test_training_settings_of_a_dictionary_are_used(folder, curve_oracle):
    encoded = []
    model = load_ensemble(folder / "e2e_nb311_svd_lgb")
    model = dataclasses.replace(model, answer=lambda x, *_: encoded.append(x))
    config = curve_oracle["darts_config_dicts_short_keys"][0]
    rate = {"OptimizerSelector:sgd:learning_rate": 0.01}
    for settings in ({}, rate):
        model.predict({**config, **settings}, "configspace")
    changed = np.flatnonzero(np.asarray(encoded[0] != encoded[1])[0])
    names = np.array(curve_oracle["darts_param_names"])[changed]
    assert list(names) == list(rate)
    assert float(encoded[1][0, changed[0]]) == pytest.approx(np.log(0.01))


def test_cells_of_nasbench201_and_runtimes(x64, folder, curve_oracle):
    model = load_ensemble(folder / "e2e_nb211_svd_lgb")
    curve = model.predict(
        curve_oracle["nb211_arch_str"][3], "arch_str", search_space="nb201"
    )
    wanted = curve_oracle["e2e_nb211_svd_lgb_pred_mean"][3]
    np.testing.assert_allclose(curve, wanted, rtol=1e-9)
    runtime = load_ensemble(folder / "e2e_runtime_lgb")
    for i in range(3):
        seconds = runtime.predict(
            genotype(curve_oracle["darts_genotypes"][i]), "genotype"
        )
        np.testing.assert_allclose(
            seconds, curve_oracle["e2e_runtime_pred"][i], rtol=1e-9
        )
    with pytest.raises(ValueError, match="without noise"):
        runtime.predict(genotype(curve_oracle["darts_genotypes"][0]), "genotype", True)


def changed(pairs, index, pair):
    cell = [list(p) for p in pairs[0]]
    cell[index] = pair
    return genotype([cell, pairs[1]])


def test_errors_of_the_interface(folder, curve_oracle):
    nb311 = load_ensemble(folder / "e2e_nb311_svd_lgb")
    nb211 = load_ensemble(folder / "e2e_nb211_svd_xgb")
    pairs = curve_oracle["darts_genotypes"][0]
    op, other = pairs[0][2][0], pairs[0][3][1]
    cell = curve_oracle["nb211_arch_str"][0]
    cases = {
        "node 3 of the normal": lambda: nb311.predict(
            changed(pairs, 2, [op, other]), "genotype"
        ),
        "none": lambda: nb311.predict(changed(pairs, 2, ["none", 0]), "genotype"),
        "node 2": lambda: nb311.predict(changed(pairs, 0, [op, 9]), "genotype"),
        "has 6 pairs": lambda: nb311.predict(
            genotype([pairs[0][:6], pairs[1]]), "genotype"
        ),
        "one of genotype, compact": lambda: nb311.predict(genotype(pairs), "onehot"),
        r"pairs \(input, operation\), not": lambda: nb311.predict(pairs, "BANANAS"),
        "node 2 of the normal cell takes inputs": lambda: nb311.predict(
            genotype(pairs), "BANANAS"
        ),
        "search_space='nb201'": lambda: nb211.predict(cell, "arch_str"),
        "search_space='darts'": lambda: nb311.predict(
            genotype(pairs), "genotype", search_space="nb201"
        ),
        "not a NAS-Bench-201": lambda: nb211.predict(
            cell[:-3], "arch_str", search_space="nb201"
        ),
        "vector of 6": lambda: nb211.predict([1, 2], "vector", search_space="nb201"),
        "feature 2 is not": lambda: nb211.predict(
            [0, 0, np.nan, 0, 0, 0], "vector", search_space="nb201"
        ),
        "without a noise kernel": lambda: nb211.predict(
            cell, "arch_str", True, search_space="nb201"
        ),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_folders_that_are_wrong(folder, tmp_path):
    def copy(name, new):
        shutil.copytree(folder / name, tmp_path / new)
        for path in (tmp_path / new).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return tmp_path / new

    def refused(path):
        with pytest.raises(ValueError) as error:
            load_ensemble(path)
        return str(error.value)

    assert "no such folder" in refused(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "no file surrogate_model.model" in refused(tmp_path / "empty")
    path = copy("e2e_nb211_svd_xgb", "xgb") / "ensemble_member_0/model_config.json"
    text = path.read_text()
    config = json.loads(text)
    for key, value, message in (
        ("model", "svd_lgb", "xgb, and model_config.json says svd_lgb"),
        ("model", "vae_lgb", "hidden layers"),
        ("model", "other", "wanted one of svd_lgb"),
        ("model", ["svd_xgb"], "cannot import"),
        ("param:num_components", 6, "5 components"),
    ):
        path.write_text(json.dumps({**config, key: value}))
        assert message in refused(tmp_path / "xgb")
    for damaged in (text[:-1], "[1]", "[" * 10**5, "\xff"):
        path.write_text(damaged, encoding="latin1")
        assert str(path) in refused(tmp_path / "xgb")
    path.unlink()
    assert "no such file" in refused(tmp_path / "xgb")
    # Members of two benchmarks.
    mixed = copy("e2e_nb211_svd_lgb", "mixed")
    other = folder / "e2e_nb311_svd_lgb/ensemble_member_1"
    shutil.copy(other / x11.MODEL, mixed / "ensemble_member_1" / x11.MODEL)
    assert "does not fit the first member" in refused(mixed)
    # An old binary model of XGBoost, of the same length.
    old = copy("e2e_nb211_svd_xgb", "old") / "ensemble_member_0" / x11.MODEL
    data = old.read_bytes()
    old.write_bytes(data.replace(b'{"Config"', b'binf"Conf', 1))
    assert "save_model" in refused(tmp_path / "old")


def test_regressors_in_another_order_are_refused(folder, tmp_path):
    path = tmp_path / "ensemble_member_0" / x11.MODEL
    source = folder / "e2e_nb211_svd_xgb/ensemble_member_0"
    shutil.copytree(source, path.parent)
    data, order = path.read_bytes(), np.arange(5)
    assert data.count(order.tobytes()) == 1
    path.chmod(0o644)
    path.write_bytes(data.replace(order.tobytes(), order[[1, 0, 2, 3, 4]].tobytes()))
    with pytest.raises(ValueError, match=r"order \[1, 0, 2, 3, 4\]"):
        x11.read(tmp_path)


def test_noise_has_the_sign_of_curve_minus_reconstruction(releases):
    params = x11.surrogate(releases["e2e_nb211_svd_lgb"])
    rows = np.asarray(params.kernel.rows) + 10
    params = params._replace(kernel=params.kernel._replace(rows=rows))
    draws = np.asarray(released_model.noise(params, jax.random.key(1), 500))
    np.testing.assert_allclose(draws.mean(0), -rows.mean(0), atol=0.5)


def test_features_are_rounded_down(curve_oracle):
    kind = x11.KINDS[56, 98]
    for i in range(3):
        pairs = genotype(curve_oracle["darts_genotypes"][i])
        given = released_inputs.encode(kind, 56, pairs, "genotype", "darts")
        wanted = packing.round_down(curve_oracle["darts_x"][i], np.float32)
        assert given.dtype == np.float32
        np.testing.assert_array_equal(given, wanted)


def test_reference_noise_is_added_to_the_first_member(releases, curve_oracle):
    release = releases["e2e_nb211_svd_lgb"]
    (member,) = release.members
    other = member._replace(mean=member.mean * 1.2, digest="other")
    release = release._replace(members=(member, other))
    ask = curve_oracle["nb211_arch_str"][0], "arch_str"
    for reference in (False, True):
        model = released.released_ensemble(release, jax.random.key(0), reference)
        mean = model.predict(*ask, search_space="nb201")
        noisy = model.predict(*ask, with_noise=True, search_space="nb201")
        # The second member predicts curves that are a fifth higher.
        assert (np.abs(noisy - mean).mean() > 4) == reference


@pytest.mark.parametrize("name", [*CURVES, "e2e_runtime_lgb"])
def test_files_of_our_own_are_the_same_surrogate(releases, tmp_path, name):
    path, release = tmp_path / "own.npz", releases[name]
    released_files.save(path, release)
    found = released_files.load(path)
    assert jax.tree.structure(found) == jax.tree.structure(release)
    for ours, theirs in zip(
        jax.tree.leaves(found), jax.tree.leaves(release), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    # An array that is not the one that was written, and another version.
    arrays, manifest = npz.load_arrays(path)
    arrays["forest/value"] = arrays["forest/value"] + 1e-9
    npz.save_arrays(path, arrays, manifest)
    with pytest.raises(ValueError, match="forest/value is damaged"):
        released_files.load(path)
    npz.save_arrays(path, arrays, {**manifest, "version": 2})
    with pytest.raises(
        ValueError, match="the format 2, .* format 1: import the release"
    ):
        released_files.load(path)


def test_the_command_that_converts(folder, tmp_path, capsys):
    from experiments import import_surrogate

    out, source = f"{tmp_path / 'own.npz'}", f"{folder / 'e2e_nb211_svd_lgb'}"
    import_surrogate.main(import_surrogate.Config(source, out))
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: nb211, svd_lgb, curves of 200 epochs in percent, 2 members, 1 of them "
        "distinct, 320 residuals"
    ]
    assert load_ensemble(out).model.num_files == 2
    import_surrogate.main(import_surrogate.Config(f"{folder / 'e2e_runtime_lgb'}", out))
    assert "one number in seconds, 1 members" in capsys.readouterr().out
    with pytest.raises(ValueError, match="ends in .npz"):
        import_surrogate.main(import_surrogate.Config(source, "own"))


def test_files_of_our_own_hold_trees(releases, tmp_path):
    path = tmp_path / "own.npz"
    released_files.save(path, releases["e2e_runtime_lgb"])
    arrays, manifest = npz.load_arrays(path)
    arrays["forest/left"][0] = 0  # the root is its own child
    digest = released_files.sha256_of(arrays["forest/left"])
    manifest["sha256"]["forest/left"] = digest
    npz.save_arrays(path, arrays, manifest)
    with pytest.raises(ValueError, match="cycle"):
        released_files.load(path)


def boosters(library, rounds):
    if library == "lgb":
        lightgbm = pytest.importorskip("lightgbm")
        return lightgbm.LGBMRegressor(n_estimators=rounds, n_jobs=1, verbose=-1)
    xgboost = pytest.importorskip("xgboost")
    return xgboost.XGBRegressor(n_estimators=rounds, n_jobs=1, base_score=0.0)


@pytest.mark.parametrize("library", ["lgb", "xgb"])
def test_folders_that_present_libraries_write(x64, tmp_path, library):
    joblib = pytest.importorskip("joblib")
    multioutput = pytest.importorskip("sklearn.multioutput")
    from scipy.stats import gaussian_kde
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    cells = rng.integers(0, 5, (120, 6)).astype(float)
    curves = 90 + cells @ rng.normal(0, 1, (6, 200)) + rng.normal(0, 1, (120, 200))
    u, s, vt = np.linalg.svd(curves, full_matrices=False)
    scaler = StandardScaler().fit(u[:, :3])
    labels = scaler.transform(u[:, :3])
    chain = multioutput.RegressorChain(boosters(library, 8)).fit(cells, labels)
    kernel = gaussian_kde(rng.normal(0, 1, (200, 400)))
    path = tmp_path / "ensemble_member_0" / x11.MODEL
    path.parent.mkdir()
    path.with_name(x11.CONFIG).write_text(json.dumps({"model": f"svd_{library}"}))
    joblib.dump([chain, scaler, s, vt, 3, kernel], path, compress=("zlib", 1))
    params = x11.surrogate(x11.read(tmp_path))
    wanted = (scaler.inverse_transform(chain.predict(cells)) * s[:3]) @ vt[:3]
    found = released_model.predict_mean(params, cells)
    # XGBoost is in float32, and scikit-learn gives it its own predictions in float64.
    np.testing.assert_allclose(found, wanted, rtol=1e-9 if library == "lgb" else 1e-6)
    np.testing.assert_allclose(params.kernel.rows, kernel.dataset.T)
