"""The report on learning-curve surrogates: its sets, trials, tables and resumption."""

import csv
import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import curve_report
from experiments.curves import metaqnn, sets, tables, trials, variants
from experiments.curves.sets import CurveSet, Encoded
from jaxnas.curves import noise as noises
from jaxnas.curves import regress_boosting
from jaxnas.curves.surrogate import Info

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIG = curve_report.Config(sets=("fashion-curves",), splits=3)


def toy(num=120, epochs=8, further=False):
    """Curves that follow from one of two features, with known noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num, 2))
    shape = 1 - np.exp(-np.arange(1, epochs + 1) / 3)
    curves = 50 + (30 + 5 * x[:, :1]) * shape + rng.normal(0, 1, (num, epochs))
    features = Encoded(x, x[:, :1])
    real = {"real": (features.rows(np.arange(9)), curves[:9])} if further else {}
    seeds = np.full((num, 2, epochs), np.nan)
    seeds[::2] = curves[::2, None] + rng.normal(0, 1, (num // 2, 2, epochs))
    groups = np.arange(num) % (num - 20)
    info = Info("toy", "x")
    return CurveSet(features, curves, groups, info, seeds=seeds, further=real)


def test_a_trial_measures_held_out_curves_and_their_noise():
    data, rows = toy(further=True), np.arange(120)
    trees = dict(learning_rate=0.3, min_data_in_leaf=4, num_threads=1, verbosity=-1)
    regressor = regress_boosting.lightgbm(20, chain=False, **trees)
    settings = {"regressor": regressor, "members": 1, "folds": 3}
    named = {"std": noises.per_epoch_std(), "kde": noises.kernel_density()}
    key = jax.random.key(0)
    found = trials.run(key, data, (rows[:80], rows[80:]), True, settings, named)
    assert tables.tests(found) == ["held out", "real"]
    assert tables.noise_names(found) == ["std", "kde"]
    scores = tables.scores(found)
    example, order = found["example/rows"], np.argsort(data.curves[80:, -1])
    assert (np.diff(data.curves[example, -1]) >= 0).all() and example.min() >= 80
    assert data.curves[example[-1], -1] >= data.curves[80:, -1][order[-4]]
    np.testing.assert_array_equal(found["example/true"], data.curves[example])
    # The first 9 curves were fitted on.
    assert tables.scores(found, "real")["final_rmse"] < scores["final_rmse"]
    for name in named:
        one = tables.noise_of(found, name)
        assert one["kl"].shape == one["ratio"].shape == (8,)
        assert one["ratio"].mean() == pytest.approx(1, abs=0.25)
        assert one["cover"].mean() == pytest.approx(0.9, abs=0.08)
        low, high = one["band"]
        assert (low < found["example/mean"]).all() and (
            one["draw"] != found["example/mean"]
        ).all()
        assert (found["example/mean"] < high).all()
    assert found["rmse_train"] < scores["rmse"]
    assert 0 < found["predict_seconds"] < 1


def test_bands_hold_their_share_of_new_draws():
    surrogate = SimpleNamespace(
        noise=noises.StdNoise(jnp.array([1.0, 2.0])),
        members=(),
        info=Info("toy", "x", low=-100.0),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials.surrogates, "regress", lambda r, x: x)
        patch.setattr(trials.surrogates, "member_curves", lambda s, x: 0 * x[None])
        surrogate.members = (SimpleNamespace(regressor=None),)
        true = np.random.default_rng(1).normal(0, [1, 2], (3000, 2))
        given = (surrogate, np.zeros((3000, 2)), (true, np.zeros((3000, 2))))
        found = trials._noise_quality(jax.random.key(0), *given, np.arange(4), None)
    # Quantiles that are not weighted cover 0.882.
    np.testing.assert_allclose(found["cover"].mean(), 0.9, atol=0.01)
    np.testing.assert_allclose(found["ratio"], 1, atol=0.03)
    assert "kl" not in found


def fake(key, data, parts, own, settings, chosen):
    """A trial that costs nothing: true curves with more noise for the release."""
    _, test = parts
    error = 1.0 if own else 4.0
    drawn = jax.random.normal(key, data.curves[test].shape)
    true = data.curves[test]
    mean = true + error * np.asarray(drawn)
    found = trials.accuracy.by_epoch(true, mean)
    found |= dict.fromkeys(tables.SECONDS, np.array(1.0))
    found["rmse_train"] = np.array(error)
    shown = trials._examples(true)
    found |= {"example/true": true[shown], "example/mean": mean[shown]}
    for name in chosen:
        cover = np.full(true.shape[1], 0.9)
        arrays = {"ratio": cover, "cover": cover, "spikes": np.array(0.1)}
        arrays |= {"draw": mean[shown], "band": np.stack([mean[shown] - 1] * 2)}
        found |= {f"noise/{name}/{what}": value for what, value in arrays.items()}
    return found


def test_a_report_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    calls = []

    def counted(*given):
        calls.append(given[2])
        return fake(*given)

    monkeypatch.setattr(trials, "run", counted)
    config = dataclasses.replace(CONFIG, out=str(tmp_path / "out"), variants=("all",))
    found = curve_report.main(config)
    assert len(calls) == 3 + 3 + len(variants.names()) == 12
    first, second = calls[0], calls[3]  # one split of both
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[1], calls[1][1])
    text = (tmp_path / "out/paired.csv").read_text()

    (tmp_path / "out/trials/fashion-curves/default-1.npz").unlink()
    (tmp_path / "out/trials/fashion-curves/release-2.npz").write_bytes(b"PK")
    assert curve_report.main(config).keys() == found.keys()
    assert len(calls) == 14 and np.array_equal(calls[12][1], calls[1][1])
    assert (tmp_path / "out/paired.csv").read_text() == text
    with pytest.raises(ValueError, match="made with other settings .*rounds None"):
        curve_report.main(dataclasses.replace(config, rounds=3))

    # Surrogates that the folder has stay in the report.
    fewer = dataclasses.replace(config, variants=("release",))
    again = curve_report.main(fewer)["means"][1]
    assert sorted(again) == sorted(found["means"][1]) and len(calls) == 14

    # Trials of other curves are not taken for those of these.
    source = sets.SETS["fashion-curves"]
    other = dataclasses.replace(source.open(), curves=source.open().curves + 0.5)
    patched = source._replace(open=lambda: other)
    monkeypatch.setitem(sets.SETS, "fashion-curves", patched)
    curve_report.main(dataclasses.replace(config, variants=("default",)))
    assert len(calls) == 17
    monkeypatch.setitem(sets.SETS, "fashion-curves", source)
    curve_report.main(config)

    with open(tmp_path / "out/paired.csv") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert rows["rmse"]["verdict"] == rows["kendall"]["verdict"] == "better"
    assert float(rows["rmse"]["difference"]) == pytest.approx(-3, rel=0.1)
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/png") == 3 and page.count("<table>") == 4
    num = len(np.unique(source.open().groups))
    assert "svd-xgboost" in page and f"{num:,} architectures" in page


def test_a_small_real_report(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        **dict(splits=2, limit=40, rounds=3, folds=2, noises=("kde",)),
        variants=("release", "svd-xgboost"),
        out=str(tmp_path / "out"),
    )
    found = curve_report.main(config)
    header, rows = found["means"]
    assert [row[2:4] for row in rows] == [["release", 2], ["svd-xgboost", 1]]
    assert all(np.isfinite(row[header.index("rmse")]) for row in rows)
    assert [row[1:3] for row in found["noise"][1]] == [["svd-xgboost", "kde"]]


def test_paired_differences():
    first, second = np.array([3.0, 4.0, 8.0]), np.array([1.0, 3.0, 2.0])
    gap, error = tables.difference(first, second)
    # The paired t statistic.
    assert gap / error == pytest.approx(stats.ttest_rel(first, second).statistic)
    assert np.isnan(tables.difference(first[:1], second[:1])[1])
    assert tables.verdict("kendall", 1.0, 0.4) == "better"
    assert tables.verdict("final_rmse", 1.0, 0.4) == "worse"
    assert tables.verdict("mse", -1.0, 0.6) == "equal"
    assert tables.verdict("mse", -1.0, np.nan) == ""


def test_bad_flags(tmp_path):
    change = [
        (dict(sets=("nb301",)), "no set nb301: choose from nb201, nlp"),
        (dict(variants=("pca-mlp",)), "no surrogate pca-mlp: choose from default"),
        (dict(noises=("gmm",)), "no noise model gmm: choose from kde"),
        (dict(variants=()), "no surrogate given"),
        (dict(limit=0), "--limit must be at least 1, not 0"),
        (dict(limit=1), r"too few architectures \(1\) for parts of 0.8, 0.2$"),
    ]
    for given, message in change:
        out = str(tmp_path / "out")
        with pytest.raises(ValueError, match=message):
            curve_report.main(dataclasses.replace(CONFIG, out=out, **given))
    assert not (tmp_path / "out").exists()


def test_layers_of_a_chain():
    text = "[C(64,3,1), P(2,2), D(1,2), C(128,5,1), C(128,1,1), P(5,3), SM(10)]"
    network = metaqnn.parse(text)
    assert network[0] == ("C", (64, 3, 1)) and len(network) == 7
    vector = metaqnn.ordinal(network, 8).reshape(8, 3)
    assert vector[:2].tolist() == [[1, 64, 3], [2, 2, 2]] and not vector[7].any()
    counts, rest = np.split(metaqnn.summary(network), [13])
    assert counts.tolist() == [3, 2, 1, 0, 0, 1, 1, 1, 1, 1, 2, 0, 0]
    weights = np.array([3 * 64 * 9, 64 * 128 * 25, 128 * 128])
    assert rest[:3].tolist() == [6, 64, 128] and rest[5] == 3
    assert rest[3:5] == pytest.approx(
        [np.log1p(weights.sum()), 1 - 1728 / weights.sum()]
    )
    with pytest.raises(
        ValueError, match="layer 1 of .* is 'X\\(3\\)': wanted one of C"
    ):
        metaqnn.parse("[SM(10), X(3)]")
    with pytest.raises(ValueError, match="layer 0 .* is 'C\\(64\\)'"):
        metaqnn.parse("[C(64)]")


def test_limited_sets_keep_all_trainings():
    data = toy()
    found = sets.limited(data, 30, jax.random.key(0))
    assert len(set(found.groups)) == 30
    assert len(found.groups) == np.isin(data.groups, found.groups).sum()
    rows = [np.flatnonzero((data.curves == curve).all(1))[0] for curve in found.curves]
    np.testing.assert_array_equal(found.features.own, data.features.own[rows])
    assert sets.limited(data, 100, jax.random.key(0)) is data
    assert found.digest != data.digest == toy().digest


def test_reference_curves_of_the_nb201_stand_in(shared):
    data = sets.SETS["nb201"].open()
    assert data.curves.shape == (15625, 200) and data.features.own.shape[1] == 30
    assert data.curves.min() == 0 and len(np.unique(data.features.own, axis=0)) == 15625
    features, real = data.further["real"]
    place = {x.tobytes(): i for i, x in enumerate(data.features.own)}
    rows = [place[x.tobytes()] for x in features.own]
    # The cells are matched: stand-in and real curves rank them alike.
    assert stats.spearmanr(data.curves[rows, -1], real[:, -1])[0] > 0.9


def test_final_accuracies_of_two_seeds(shared):
    data, by_cell = (sets.finals("cifar100", by_class) for by_class in (True, False))
    assert len(set(data.groups)) == 6466 and len(set(by_cell.groups)) == 15625
    assert data.curves.shape == data.truth.shape == (15625, 1)
    assert (data.curves != data.truth).mean() > 0.9
    # Kendall of the first two seeds.
    found = tables.references({"final": by_cell})[1]
    assert found[0][1] == 15625 and found[0][4] == pytest.approx(0.8874, abs=1e-3)
    assert not variants.can_fit("release", 1) and variants.can_fit("default", 1)


def test_reference_curves_of_recurrent_cells(shared):
    data = sets.SETS["nlp-start"].open()
    # 289 recipes, of which some differ in the names and the order of nodes alone.
    assert len(data.curves) == 341 and len(np.unique(data.groups)) == 263
    assert data.curves.max() < 95.5
    first, second, third = data.curves[:, :3].T
    step = third - second
    steps = [second - first, step, third + step, third + 2 * step, third + 3 * step]
    beginning = np.stack([first, second, third, *steps], 1)
    np.testing.assert_allclose(data.features.own[:, -8:], beginning)
    plain = sets.SETS["nlp"].open()
    np.testing.assert_array_equal(plain.features.own, data.features.own[:, :-8])
    np.testing.assert_allclose(data.features.release[:, -3:], data.curves[:, :3])
    several = tables.several(data)
    assert several is not None and several.shape[1] == 2


def test_reference_curves_of_convolutional_networks(shared):
    data = sets.SETS["metaqnn"].open()
    assert data.curves.shape == (1000, 20) and len(np.unique(data.groups)) == 1000
    own = data.features.own
    assert own.shape[1] == 19 + data.features.release.shape[1] == 19 + 3 * 29
    assert abs(stats.spearmanr(own[:, 0], data.curves[:, -1])[0]) > 0.1


def test_cells_of_the_embedded_table():
    data = sets.SETS["fashion-curves"].open()
    assert data.seeds is not None
    np.testing.assert_array_equal(data.seeds[:, 0], data.curves)
    assert len(set(data.groups)) == len(data.curves) == 1000
    # No architecture occurs twice, under two numbers.
    for features in data.features:
        assert len(np.unique(features, axis=0)) == 1000
    assert len(np.unique(data.curves, axis=0)) > 990
    # Shares of the operations at each of six edges.
    shares = data.features.own[:, :30].reshape(-1, 6, 5)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-6)
