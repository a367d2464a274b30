"""Drivers of MobileNetV3 subnets: their database, generated ones, searches on devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

pytest.importorskip("flax", reason="flax is in the extra models")

from experiments import build_subnet_database as build  # noqa: E402
from experiments import subnet_report, subnet_search  # noqa: E402
from jaxnas import models  # noqa: E402
from jaxnas.batching import in_chunks  # noqa: E402
from jaxnas.benchmarks import latency, named, ofa  # noqa: E402
from jaxnas.datasets import meta_database, meta_examples  # noqa: E402
from jaxnas.models import codecs, meta_evaluation, mobilenetv3  # noqa: E402
from jaxnas.models.generation import Samples  # noqa: E402
from jaxnas.models.graphs import adjacency  # noqa: E402
from jaxnas.spaces import mobilenetv3_counts  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")

SEARCH = subnet_search.Config(
    devices=("titan_xp_64",), methods=("random",), percentiles=(20.0, 50.0),
    evaluations=12, seeds=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def database(shared, tmp_path_factory):
    out = tmp_path_factory.mktemp("subnets")
    made = build.main(
        build.Config(tasks=(6, 2, 1, 1), subnets=4, pool=2000, out=str(out))
    )
    return out / "database.npz", made


def predicted(archs):
    predictor = ofa.accuracy_predictor()
    return in_chunks(Partial(ofa.predicted_accuracy, predictor), archs)


def test_labels_are_predictions_and_do_not_depend_on_the_task(database):
    path, made = database
    loaded = meta_database.load(path)
    assert (
        loaded.arch.shape == (10, 4, 45) and loaded.manifest["space"] == "mobilenetv3"
    )
    assert "not conditioned" in loaded.manifest["settings"]["labels"]
    archs = loaded.arch.astype(np.int32).reshape(-1, 45)
    np.testing.assert_allclose(loaded.test.ravel(), 100 * predicted(archs), rtol=1e-6)
    data = meta_examples.examples(loaded, "train")
    assert data.types.shape == (6, 4, 22) and data.present.all()
    back = jax.vmap(mobilenetv3.architecture)(jnp.asarray(data.types[:, 0]))
    train = [n for n, task in enumerate(loaded.tasks) if task.part == 0]
    np.testing.assert_array_equal(back, loaded.arch[train, 0])
    # No class of a task for tests is in one for training.
    shipped = meta_database.load("free-images")
    parts = [{(t.pool, c) for t in loaded.tasks if t.part == p for c in t.classes}
             for p in range(4)]  # fmt: skip
    before = {(t.pool, c) for t in shipped.tasks if t.part == 0 for c in t.classes}
    assert not (parts[1] | parts[2] | parts[3]) & (parts[0] | before)


def test_the_subnets_of_a_task_are_of_similar_size_and_tasks_of_all_sizes(database):
    archs = database[1].arch
    size = in_chunks(mobilenetv3_counts.multiply_adds, archs.reshape(-1, 45)) / 1e6
    size = size.reshape(archs.shape[:2])
    # Windows of a thousand among two thousand are wide.
    assert np.ptp(size.mean(1)) > np.ptp(size, axis=1).mean() / 2
    ids = {a.tobytes() for a in archs.reshape(-1, 45)}
    assert len(ids) > 30


def test_databases_name_their_space():
    assert codecs.codec_of({}).space.name == "nasbench201"
    with pytest.raises(ValueError, match="of the space 'darts'; models exist for"):
        codecs.codec_of({"space": "darts"})
    codec = codecs.CODECS["mobilenetv3"]
    assert adjacency(codec.edges, codec.num_vertices).sum() == 21


def test_other_settings_of_a_database_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--pool must be 1000 to 10.7"):
        build.main(build.Config(pool=10, out=str(tmp_path / "out")))
    with pytest.raises(
        ValueError, match="--tasks or --images: wanted numbers of tasks"
    ):
        build.main(build.Config(tasks=(0,) * 4, out=str(tmp_path / "out")))
    with pytest.raises(ValueError, match="--subnets must be at least 1"):
        build.main(build.Config(subnets=0, out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_longer_search_begins_like_the_shorter_one_of_its_folder(shared, tmp_path):
    config = dataclasses.replace(SEARCH, percentiles=(50.0,), out=str(tmp_path))
    first = subnet_search.main(config)
    longer = subnet_search.main(dataclasses.replace(config, evaluations=16))
    again = subnet_search.main(config)
    for name, scores in first.items():
        assert longer[name].shape == (2, 16, 2)
        np.testing.assert_array_equal(longer[name][:, :12], scores)
        np.testing.assert_array_equal(again[name], scores)


# --- generated subnets ----------------------------------------------------------------


def test_stages_are_valid_where_layers_agree_on_the_depth():
    arch = jnp.asarray(np.random.default_rng(0).integers(0, 3, 45), jnp.int32)
    types = mobilenetv3.types_of(arch)
    assert mobilenetv3.valid_stages(types).all()
    deeper = types.at[7].set(2 + (types[7] - 2 + 9) % 27)  # the second stage
    assert mobilenetv3.valid_stages(deeper).tolist() == [True, False, True, True, True]
    absent = types.at[20].set(-1)
    assert mobilenetv3.valid_stages(absent).tolist() == [True] * 4 + [False]


def test_the_best_within_a_bound_is_chosen():
    values, cost = np.array([0.3, 0.9, 0.5]), np.array([1.0, 3.0, 2.0])
    assert [models.best_within(values, cost, b) for b in (1.0, 2.5, 3.0)] == [0, 2, 1]
    with pytest.raises(ValueError, match="cost of at most 0.5: the lowest is 1"):
        models.best_within(values, cost, 0.5)


def fake_samples(generator, key, features, num, *, codec):
    """Uniform subnets as a generator, whose first graph is not valid."""
    seed = int(jax.random.randint(key, (), 0, 2**30))
    arch = np.random.default_rng(seed).integers(0, 3, (num, 45), np.int32)
    types = np.array(jax.vmap(codec.types_of)(jnp.asarray(arch)))
    types[0, 1] = 2 + (types[0, 1] - 2 + 9) % 27
    adj = np.broadcast_to(adjacency("chain", 22), (num, 22, 22))
    return Samples(types, adj, np.arange(num) > 0, arch)


def test_a_report_compares_subnets_within_each_bound(database, tmp_path, monkeypatch):
    config = subnet_report.Config(
        database=str(database[0]), bounds=(260.0, 300.0), subnets=8, draws=1,
        out=str(tmp_path / "out"),
    )  # fmt: skip
    small = models.ModelConfig(22, 29, adjacency="chain")
    saved = models.model.Model(models.Generator(small), {})
    ranks = models.model.Model(models.Predictor(small), {})
    by_path = {config.generator: saved, config.predictor: ranks}
    load = lambda path: type("Saved", (), {"model": by_path[path]})  # noqa: E731
    monkeypatch.setattr(subnet_report.checkpoint, "load", load)
    monkeypatch.setattr(models, "sample_graphs", fake_samples)

    def predict(model, key, features, archs, **options):
        return models.Predictions(-np.arange(len(archs)), np.zeros(len(archs)))

    monkeypatch.setattr(models, "predict", predict)
    arrays = subnet_report.main(config)
    assert all(arrays[name].shape == (2, 2) for name in subnet_report.METHODS)
    np.testing.assert_allclose(arrays["valid graphs"], 100 * 1023 / 1024)
    np.testing.assert_allclose(arrays["valid stages"], 100 * (1 - 1 / 5 / 1024))
    assert (arrays["unique networks"] <= arrays["unique vectors"]).all()
    features = meta_database.task_features(database[1], 0)
    key = subnet_report.seed_store.seed_keys(0, np.arange(2))[0]
    drawn = subnet_report.draw(config, saved, key, features)
    size = in_chunks(mobilenetv3_counts.multiply_adds, drawn.archs) / 1e6
    first = [np.argmax(size <= bound) for bound in config.bounds]
    np.testing.assert_allclose(
        arrays["chosen"][0], predicted(drawn.archs[first]), rtol=1e-6
    )
    best = [predicted(drawn.archs[size <= b][:8]).max() for b in config.bounds]
    np.testing.assert_allclose(arrays["generated"][0], best, rtol=1e-6)
    assert len((tmp_path / "out/table.csv").read_text().splitlines()) == 3
    with pytest.raises(ValueError, match="graphs have 0 different subnets within"):
        few = dataclasses.replace(config, bounds=(100.0,), max_samples=1)
        subnet_report.draw(few, saved, key, features)
    for change, message in (
        ({"draws": 10**9}, "--draws must be at most 1000"),
        ({"max_samples": 10**12}, "--max-samples must be at most 1000000"),
        ({"generator": config.predictor}, "--generator .*: wanted a Generator, not"),
        ({"predictor": config.generator}, "--predictor .*: wanted a Predictor, not"),
    ):
        wrong = dataclasses.replace(config, out=str(tmp_path / "no"), **change)
        with pytest.raises(ValueError, match=message):
            subnet_report.main(wrong)
        assert not (tmp_path / "no").exists()


def test_bounds_that_random_subnets_do_not_meet_are_refused(shared, monkeypatch):
    config = subnet_report.Config(bounds=(110.0,), subnets=2)
    monkeypatch.setattr(subnet_report, "_MOST", 2048)
    with pytest.raises(ValueError, match="2,048 random subnets have 0 within 110 mill"):
        subnet_report._best_random(config, ofa.accuracy_predictor(), [0, 0])
    for bounds in ((), (0.0,), (np.nan,), (np.inf,)):
        with pytest.raises(ValueError, match="--bounds needs positive numbers"):
            subnet_report.main(dataclasses.replace(config, bounds=bounds))


# --- searches on devices --------------------------------------------------------------


def test_searches_see_latencies_in_units_of_the_bound(shared, tmp_path):
    config = dataclasses.replace(SEARCH, out=str(tmp_path / "out"))
    arrays = subnet_search.main(config)
    panels = subnet_search.open_panels(config)
    assert set(arrays) == {"titan_xp_64-p20/random", "titan_xp_64-p50/random"}
    fitted = latency.fit_latency(named.open_table("ofa-latency"), "titan_xp_64")
    archs = np.random.default_rng(1).integers(0, 3, (4000, 45)).astype(np.int32)
    times = in_chunks(fitted.predict, archs)
    for percentile in (20, 50):
        panel = panels[f"titan_xp_64-p{percentile}"]
        assert (times <= panel.bound).mean() == pytest.approx(
            percentile / 100, abs=0.03
        )
    one, other = (arrays[f"titan_xp_64-p{p}/random"] for p in (20, 50))
    np.testing.assert_array_equal(one[..., 0], other[..., 0])
    ratio = panels["titan_xp_64-p50"].bound / panels["titan_xp_64-p20"].bound
    np.testing.assert_allclose(one[..., 1], ratio * other[..., 1], rtol=1e-5)
    assert len((tmp_path / "out/table.csv").read_text().splitlines()) == 3
    again = subnet_search.main(dataclasses.replace(config, seeds=1))
    assert len((tmp_path / "out/table.csv").read_text().splitlines()) == 3
    np.testing.assert_array_equal(again["titan_xp_64-p20/random"], one[:1])


def test_a_latency_that_ranks_badly_can_be_forced(shared):
    config = dataclasses.replace(SEARCH, devices=("v100_1",), force=True)
    assert subnet_search.open_panels(config)["v100_1-p20"].spearman < 0.9


def test_nsga2_may_find_nothing_within_a_bound(shared, capsys):
    config = subnet_report.Config(bounds=(1.0, 900.0), subnets=4)
    keys = subnet_report.seed_store.seed_keys(0, np.arange(2))
    best = subnet_report._nsga2(config, ofa.accuracy_predictor(), keys)
    assert np.isnan(best[:, 0]).all() and (best[:, 1] > 0.7).all()
    arrays = dict.fromkeys(subnet_report.METHODS, best)
    subnet_report._report(config, arrays)
    assert "within 1 million multiply-adds for 2 of 2 tasks" in capsys.readouterr().out


def test_the_choice_of_a_run_is_the_best_within_the_bound():
    scores = np.array([[[0.9, -1.1], [0.5, -1.0], [0.4, -0.2]], [[0.9, -1.1]] * 3])
    np.testing.assert_array_equal(subnet_search.best_feasible(scores), [0.5, np.nan])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("sms",)}, "no method sms: choose from random"),
        ({"devices": ()}, "--devices needs at least one value"),
        ({"percentiles": (0.0,)}, "--percentiles must be between 0 and 100, not 0.0"),
        ({"methods": ("gp",), "evaluations": 10}, "more than the 10 random ones"),
        ({"devices": ("v100_1",)}, "needs 0.9 or more, unless it is forced"),
        ({"devices": ("abacus",)}, "abacus"),
        ({"resolution": 100}, "not 100"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    shared, tmp_path, change, message
):
    config = dataclasses.replace(SEARCH, out=str(tmp_path / "out"), **change)
    with pytest.raises(ValueError, match=message):
        subnet_search.main(config)
    assert not (tmp_path / "out").exists()


def test_candidates_of_a_large_space_are_uniform_vectors():
    codec = codecs.CODECS["mobilenetv3"]
    types = meta_evaluation.draw_graphs(np.random.default_rng(3), codec, 2, 50)
    assert types.shape == (2, 50, 22)
    arch = jax.vmap(mobilenetv3.architecture)(jnp.asarray(types.reshape(-1, 22)))
    assert len(np.unique(arch, axis=0)) == 100
    np.testing.assert_allclose(arch.mean(), 1, atol=0.1)
