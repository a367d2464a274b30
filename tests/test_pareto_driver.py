"""Benchmarks of several objectives, and the driver that compares searches on them."""

import dataclasses
import json
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from experiments import pareto as driver
from experiments.pareto_fronts import (
    figures,
    methods,
    panels,
    peers,
    subnets,
    summary,
    tables,
)
from jaxnas import pareto
from jaxnas.benchmarks import hardware, latency, named, ofa, several, tabular
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.pareto import Objective
from jaxnas.search import common, multi_objective, simulate
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.studies import seed_store

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE = Objective("size", "millions", "minimise")
SMALL = driver.Config(
    methods=("random", "nsga2"), costs=("macs",), seeds=2, evaluations=14
)


@pytest.fixture(scope="module")
def accuracy():
    which = {"dataset": "cifar10", "split": "test", "epochs": 200, "seed": "mean"}
    return tabular.tabular_benchmark(SPACE, named.open_table("analog"), **which)


@pytest.fixture(scope="module")
def size(accuracy):
    return counting.parameters(NetworkConfig(), np.asarray(accuracy.archs)) / 1e6


def test_results_have_every_objective_as_a_score(accuracy, size):
    archs, rows = jnp.asarray(accuracy.archs), np.array([7, 15_000, 3])
    count = Objective("zeros", direction="minimise")
    zeros = lambda arch: (arch == 0).sum()  # noqa: E731
    both = several.with_objectives(accuracy, {SIZE: size, count: zeros})
    query = common.train_from_scratch(archs[rows])
    result = both.evaluate(None, query)
    expected = np.stack(
        [result.score, -size[rows], -(accuracy.archs[rows] == 0).sum(1)], 1
    )
    np.testing.assert_allclose(result.objectives, expected, rtol=1e-6)
    scores = several.objective_scores(both)
    np.testing.assert_allclose(scores[rows], expected, rtol=1e-6)
    np.testing.assert_array_equal(tabular.table_rows(both, archs[rows]), rows)
    assert [o.name for o in both.objectives] == ["accuracy", "size", "zeros"]


def altered(size, value, rows=4699):
    return np.where(np.arange(len(size)) < rows, value, size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda size: altered(size, -1), "size is -1 in 4,699 of 15,625 rows"),
        (lambda size: altered(size, np.nan), "size is NaN in 4,699 of 15,625 rows"),
        (lambda size: altered(size, np.inf, 2), "size is infinite in 2 rows"),
        (lambda size: size[1:], "a value for each of 15625 rows, not .15624"),
    ],
)
def test_columns_that_cannot_be_objectives_are_refused(accuracy, size, change, message):
    with pytest.raises(ValueError, match=message):
        several.with_objectives(accuracy, {SIZE: change(size)})


def test_objectives_that_cannot_be_met_or_come_twice_are_refused(accuracy, size):
    closest = f"size at most 0.01: the closest has size {size.min():g}"
    with pytest.raises(ValueError, match=closest):
        several.with_objectives(accuracy, {SIZE._replace(bound=0.01): size})
    with pytest.raises(ValueError, match="accuracy at least 101: the closest has"):
        several.with_objectives(accuracy, {SIZE: size}, bound=101.0)
    with pytest.raises(ValueError, match="accuracy is given 2 times"):
        several.with_objectives(accuracy, {Objective("accuracy"): size})
    missing = several.with_objectives(
        accuracy, {SIZE: altered(size, np.nan)}, missing=True
    )
    assert np.isnan(several.objective_scores(missing)[:4699, 1]).all()


def test_a_benchmark_has_the_objectives_of_the_search(accuracy, size):
    benchmark = several.with_objectives(accuracy, {SIZE: size})
    for other in (SIZE._replace(bound=1.0), SIZE._replace(direction="maximise")):
        search = multi_objective.nsga2(SPACE, (benchmark.objectives[0], other))
        with pytest.raises(ValueError, match="the search was made for Objective.*size"):
            simulate(jax.random.split(jax.random.key(0), 1), search, benchmark, 2)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "out"
    return out, driver.main(dataclasses.replace(SMALL, out=str(out)))


def test_runs_and_what_they_attain_are_saved(done):
    out, arrays = done
    names = {f"macs/{m}/{w}" for m in ("random", "nsga2") for w in ("arch", "scores")}
    assert set(arrays) == names
    which = {"dataset": "cifar10", "split": "test", "epochs": 200, "seed": "mean"}
    panel = tables.open_panels("analog", which, which, ["macs"])["macs"]
    arch, scores = (arrays[f"macs/random/{what}"] for what in ("arch", "scores"))
    assert arch.shape == (2, 14, 6) and scores.shape == (2, 14, 2)
    attained = summary.summarise(panel, panels.Runs(scores, panel.judge(arch, scores)))
    rows = tabular.table_rows(panel.benchmark, arch.astype(np.int32))
    np.testing.assert_array_equal(panel.seen[rows], scores)
    share = pareto.hypervolume(scores[1], panel.reference)
    share /= pareto.hypervolume(panel.seen, panel.reference)
    assert attained.share[1, -1] == pytest.approx(float(share), rel=1e-5)
    assert attained.reported == pytest.approx(attained.share[:, -1], rel=1e-5)
    lines = (out / "table.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[1].startswith("macs,random,14,")
    for name in ("fronts.png", "hypervolume.png"):
        assert matplotlib.image.imread(out / name)[..., :3].std() > 0.01


def test_another_accuracy_is_an_objective_to_maximise():
    which = {"dataset": "cifar10", "split": "test", "epochs": 200, "seed": "mean"}
    name, table = "cifar10-noisy", named.open_table("analog")
    panel = tables.open_panels("analog", which, which, [name])[name]
    assert panel.benchmark.objectives[1] == Objective(
        "cifar10-noisy accuracy", "percent"
    )
    noisy = table.columns["cifar10-noisy/test/200"].reshape(-1)
    np.testing.assert_allclose(panel.seen[:, 1], noisy)
    assert panel.note == ""
    with pytest.raises(ValueError, match="or one of parameters, macs, cifar10-analog"):
        tables.open_panels("analog", which, which, ["cifar10"])


def test_the_front_of_a_part_of_the_space_is_called_so():
    which = {"dataset": "fashion-mnist", "split": "valid", "epochs": 4, "seed": "mean"}
    panel = tables.open_panels("fashion", which, which, ["macs"])["macs"]
    assert panel.note == "front of 4,484 of the 15,625 architectures of nasbench201"


def test_a_step_of_a_front_is_what_its_points_attain():
    # Errors and costs of three points: at cost 2 the error is that of the first.
    x, y = figures._steps(np.array([1.0, 3, 4]), np.array([9.0, 5, 2]))
    np.testing.assert_array_equal(x, [1, 3, 3, 4, 4])
    np.testing.assert_array_equal(y, [9, 9, 5, 5, 2])


def test_fronts_under_any_bounds_share_one_program():
    scores = np.random.default_rng(0).random((40, 2)).astype(np.float32)
    programs = []
    for infeasible in (0, 7, 30):
        scores[:infeasible] = np.nan
        front = summary.true_front(scores)
        beaten = (scores[:, None] > front).all(-1).any()
        assert len(front) and not beaten and (np.diff(front[:, 0]) > 0).all()
        programs.append(summary._on_front._cache_size())
    assert len(set(programs)) == 1


def test_the_same_command_goes_on_where_it_was(done):
    out, arrays = done
    config = dataclasses.replace(SMALL, seeds=3, methods=("random",), out=str(out))
    again = driver.main(config)["macs/random/arch"]
    np.testing.assert_array_equal(again[:2], arrays["macs/random/arch"])


def test_a_longer_run_begins_like_the_shorter_one_of_its_folder(tmp_path):
    config = dataclasses.replace(
        SMALL, methods=tuple(methods.METHODS), seeds=1, evaluations=23, init=4,
        out=str(tmp_path),
    )  # fmt: skip
    first = driver.main(config)
    longer = driver.main(dataclasses.replace(config, evaluations=27))
    assert {array.shape[:2] for array in longer.values()} == {(1, 27)}
    saved = {p: p.stat().st_mtime_ns for p in (tmp_path / "chunks").iterdir()}
    again = driver.main(config)
    for name, array in first.items():
        np.testing.assert_array_equal(longer[name][:, :23], array)
        np.testing.assert_array_equal(again[name], array)
    assert saved == {p: p.stat().st_mtime_ns for p in (tmp_path / "chunks").iterdir()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("sms",)}, "no method sms: choose from random, evolution"),
        ({"costs": ()}, "--costs needs the name of a cost"),
        ({"bounds": (1.0, 2.0)}, "each cost of macs, not 2 for 1"),
        ({"bounds": (1.0,)}, "nothing has macs at most 1: the closest has macs"),
        ({"costs": ("macs+macs",)}, "a cost of macs.macs is given twice"),
        ({"peers": ("tpe",)}, "no peer tpe: choose from pymoo-nsga2-10"),
        ({"costs": ("macs+parameters+cifar10-noisy",)}, "at most two costs, not macs"),
        ({"evaluations": 15_626}, "--evaluations must be at most the 15625 cells"),
        ({"init": 1}, "--init must be at least 2 and below --evaluations = 14, not 1"),
        (
            {"benchmark": "nb101"},
            "nb101|wanted a table of nasbench201, or .* nasbench101",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, change, message):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=message) as caught:
        driver.main(dataclasses.replace(SMALL, out=str(out), **change))
    assert "\n" not in str(caught.value) and not out.exists()


@pytest.mark.parametrize("name", peers.PEERS)
def test_searches_of_other_packages_learn(name, accuracy):
    if find_spec(name.split("-")[0]) is None:
        pytest.skip(f"{name} needs a package of the extra `peers`")
    zeros = Objective("zeros", direction="minimise")
    benchmark = several.with_objectives(accuracy, {zeros: lambda a: (a == 0).sum()})
    seen = several.objective_scores(benchmark)
    panel = panels.make_panel(benchmark, seen, seen, lambda arch, scores: scores)
    archs = peers.asked_archs(name, panel, 0, np.arange(2), 60)
    again = peers.asked_archs(name, panel, 0, np.arange(1, 2), 20)
    assert archs.shape == (2, 60, 6) and (archs[0] != archs[1]).any()
    np.testing.assert_array_equal(archs[1:, :20], again)
    # A sign that is wrong leads to cells of many zeros.
    rows = np.asarray(tabular.table_rows(benchmark, archs))
    gained = (seen / seen.std(0)).sum(1)[rows]
    assert gained[:, 40:].mean() > gained[:, :20].mean() + 0.2
    assert name.split("-")[0] in peers.described(name)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    config = dataclasses.replace(SMALL, peers=("pymoo-nsga2-10",))
    with pytest.raises(ValueError, match="pymoo not installed: pymoo-nsga2-10 needs"):
        driver.main(config)
    monkeypatch.undo()
    monkeypatch.setattr(peers, "find_spec", lambda name: name)
    with pytest.raises(ValueError, match="--peers search without --bounds"):
        driver.main(dataclasses.replace(config, bounds=(5.0,)))


def test_costs_are_of_networks_for_the_dataset(shared):
    table = named.open_table("nb201")

    def cost(name, dataset):
        return tables._cost(name, table=table, fed_back={"dataset": dataset})[1]

    # Ninety more outputs of a layer of 64 features.
    more = cost("parameters", "cifar100") - cost("parameters", "cifar10-valid")
    np.testing.assert_allclose(more, 90 * 65e-6, rtol=1e-9)
    expected = hardware.hardware_column("edgegpu_energy", "cifar100")[1]
    np.testing.assert_array_equal(cost("edgegpu_energy", "cifar100"), expected)


def test_a_table_that_changed_is_refused(done, monkeypatch):
    table = named.open_table("analog")
    other = dataclasses.replace(table, manifest=table.manifest | {"sha256": "0"})
    monkeypatch.setattr(driver.named, "open_table", lambda name: other)
    with pytest.raises(ValueError, match="other settings .table_sha256"):
        driver.main(dataclasses.replace(SMALL, out=str(done[0])))


def test_fronts_are_drawn_only_with_one_cost(tmp_path, accuracy, size):
    costs = {SIZE: size, Objective("zeros", direction="minimise"): size}
    both = several.with_objectives(accuracy, costs)
    seen = several.objective_scores(both)
    worst = seen.min(0)
    panel = panels.Panel(both, seen, seen, worst, worst, lambda arch, scores: scores)
    (tmp_path / "fronts.png").touch()
    assert not figures.draw_fronts(tmp_path / "fronts.png", {"a": panel}, {})
    assert not list(tmp_path.iterdir())


def test_hardware_is_read_by_name(shared):
    devices = hardware.hardware_devices()
    assert len(devices) == 27 and devices[0] == "1080ti_1"
    objective, values = hardware.hardware_column("1080ti_1")
    assert objective == ("latency", "milliseconds", "minimise", None, True)
    assert values.shape == (15_625,) and values[0] == pytest.approx(10.754371)
    objective, _ = hardware.hardware_column("pi5_onnx_cifar100_energy_mj")
    assert objective.name == "energy"
    with pytest.raises(ValueError, match="no costs of 'abacus' on cifar10: wanted"):
        hardware.hardware_column("abacus")


def test_a_column_that_was_not_measured_is_refused_by_the_driver(shared, tmp_path):
    config = dataclasses.replace(
        SMALL, benchmark="nb201", costs=("edgetpu_latency",), out=str(tmp_path)
    )
    with pytest.raises(ValueError, match="latency is -1 in 4,699 of 15,625 rows"):
        driver.main(config)


# Subnets of MobileNetV3.

SUBNETS = dataclasses.replace(
    SMALL, benchmark="ofa-predicted", costs=("titan_xp_64",), methods=("random",),
    reference=300,
)  # fmt: skip


@pytest.fixture(scope="module")
def searched(shared, tmp_path_factory):
    out = tmp_path_factory.mktemp("subnets") / "out"
    return out, driver.main(dataclasses.replace(SUBNETS, out=str(out)))


def test_subnets_have_predicted_accuracies_and_fitted_latencies(searched):
    out, arrays = searched
    arch, scores = (arrays[f"titan_xp_64/random/{w}"] for w in ("arch", "scores"))
    assert arch.shape == (2, 14, 45) and scores.shape == (2, 14, 2)
    predictor = ofa.accuracy_predictor()
    fitted = latency.fit_latency(named.open_table("ofa-latency"), "titan_xp_64")
    archs = arch.reshape(-1, 45).astype(np.int32)
    accuracy = jax.vmap(ofa.predicted_accuracy, (None, 0))(predictor, archs)
    wanted = np.stack([accuracy, -jax.vmap(fitted.predict)(archs)], 1)
    np.testing.assert_allclose(scores.reshape(-1, 2), wanted, rtol=1e-5)
    line = (out / "table.csv").read_text().splitlines()[1]
    assert line.endswith(",2,held-out Spearman 0.999")
    for name in ("fronts.png", "hypervolume.png"):
        assert matplotlib.image.imread(out / name)[..., :3].std() > 0.01


def test_runs_on_subnets_are_compared_with_a_long_one(searched):
    out, arrays = searched
    folder = seed_store.open_folder(
        out, json.loads((out / "settings.json").read_text())["identity"]
    )
    opened = subnets.open_panels(["titan_xp_64"])
    panel = subnets.with_references(folder, opened, 300)["titan_xp_64"]
    long = seed_store.finished(folder, "reference-on-titan_xp_64", 4)["scores"]
    assert long.shape == (4, 3, 100, 2)
    volume = lambda scores: pareto.hypervolume(scores, panel.reference)  # noqa: E731
    front = summary.true_front(
        np.concatenate([panel.seen[:10_000], long.reshape(-1, 2)])
    )
    np.testing.assert_allclose(volume(summary.true_front(panel.seen)), volume(front))
    assert volume(front) > 1.01 * volume(summary.true_front(opened["titan_xp_64"].seen))
    # The monotone map keeps the order of accuracies, and makes percent of them.
    scores = arrays["titan_xp_64/random/scores"]
    judged = panel.judge(arrays["titan_xp_64/random/arch"], scores)
    np.testing.assert_array_equal(judged[..., 1], scores[..., 1])
    in_order = judged[..., 0].ravel()[np.argsort(scores[..., 0].ravel())]
    assert (np.diff(in_order) >= 0).all() and 70 < in_order[0] < in_order[-1] < 80
    attained = summary.summarise(panel, panels.Runs(scores, judged))
    share = volume(scores[0]) / volume(front)
    assert attained.share[0, -1] == pytest.approx(float(share), rel=1e-5)
    assert (attained.reported != attained.share[:, -1]).all()


def test_latencies_that_rank_badly_are_for_whoever_forces_them(shared):
    with pytest.raises(ValueError, match="v100_1, held-out .* unless it is forced; or"):
        subnets.open_panels(["v100_1"])
    panel = subnets.open_panels(["v100_1"], force=True)["v100_1"]
    assert panel.note == "held-out Spearman 0.891"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "cifar100"}, "--dataset is for tables, not for ofa-predicted"),
        ({"benchmark": "analog"}, "--reference is for ofa-predicted, not for analog"),
        ({"reference": 99}, "--reference must be at least 100, not 99"),
        ({"costs": ("abacus",)}, "no latency of 'abacus': .*; or one of macs, param"),
        ({"costs": ("devices+macs",)}, "no latency of 'devices'"),
        ({"resolution": 100}, "resolutions 160, .* not 100"),
        (
            {"costs": driver.Config.costs},
            "ofa-predicted needs --costs: devices, the name",
        ),
        (
            {"bounds": (1.0,)},
            "none of 10,000 random subnets has latency at most 1: the",
        ),
    ],
)
def test_bad_input_for_subnets_is_refused(shared, tmp_path, change, message):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=message):
        driver.main(dataclasses.replace(SUBNETS, out=str(out), **change))
    assert not out.exists()
