"""A search on images of the user's own: files, going on, the network on disk, bad input."""

import dataclasses
import functools
import json
import math
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TINY_NETWORK as NETWORK

import jaxnas
from experiments import search_images
from experiments.search_images import Config
from jaxnas.benchmarks import columns, named
from jaxnas.io import files, npz, records
from jaxnas.networks import apply, counting, model_files, recipes, runs
from jaxnas.networks import train as training
from jaxnas.networks.initialise import initialise
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.proxies import scoring
from jaxnas.search import drive
from jaxnas.spaces import nasbench201
from jaxnas.studies.comparison import prior_scores
from jaxnas.studies.images import (
    bounds,
    cell_picture,
    cell_scores,
    final_network,
    final_stage,
    final_training,
    log,
    prior,
    results,
    stages,
    study,
    tasks,
    training_costs,
)
from jaxnas.studies.images import search as image_search
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.studies.images.log import SearchLog
from jaxnas.studies.metad2a import inputs
from jaxnas.types import Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

FILES = {"result.json", "cell.png", "curves.png", "curves.npz", "model"}


@pytest.fixture(scope="module", autouse=True)
def one_stage():
    """Networks of one stage, which compile three times as fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tasks, "NetworkConfig", functools.partial(NetworkConfig, num_stages=1)
        )
        yield


def arrays(num=120, side=8, classes=3, colours=None):
    """Images whose brightness says their class."""
    rng = np.random.default_rng(0)
    y = np.arange(num) % classes
    shape = (num, side, side) if colours is None else (num, side, side, colours)
    noise = rng.normal(0, 15, shape)
    return {"x": noise + 60.0 * y.reshape(-1, *[1] * (len(shape) - 1)), "y": y}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "squares.npz"
    np.savez(path, **arrays())
    return path


def config(images, out, **more):
    # There is no time for more than the least: one batch of one epoch each.
    given = dict(minutes=0.001, channels=2, batch=3, method="random", out=str(out))
    given |= more
    return Config(data=str(images), **given)


@pytest.fixture(scope="module")
def done(images, tmp_path_factory):
    """A whole run: its folder and its result."""
    out = tmp_path_factory.mktemp("done") / "out"
    return out, search_images.main(config(images, out))


def test_numbers_of_epochs_are_in_words():
    assert [log._counted(n, "epoch") for n in (1, 2)] == ["1 epoch", "2 epochs"]


def test_everything_is_written(done, images):
    out, result = done
    assert {p.name for p in out.iterdir()} >= FILES
    written = json.loads((out / "result.json").read_text())
    assert written == {"format": 1, **result}
    assert result["state"] == "finished" and result["searched cells"] == 3
    nasbench201.from_string(result["architecture"])
    test = result["test"]
    assert test["images"] == 24
    assert test["low"] <= test["accuracy"] <= test["high"]
    assert test["accuracy"] == round(100 * test["hits"] / 24, 4)
    accuracies = [result["validation accuracy"], *result["finalists"].values()]
    for value in (test["low"], test["high"], *accuracies):
        assert value == round(value, 4)
    curves, _ = npz.load_arrays(out / "curves.npz")
    assert curves["searched/valid"].shape == (3, 1) and curves["final/train"].size
    for name in ("cell.png", "curves.png"):
        assert (out / name).read_bytes()[:4] == b"\x89PNG"
    predict = jaxnas.load(out / "model")
    x = np.load(images)["x"][:5, ..., None]
    np.testing.assert_allclose(predict(x).sum(1), 1, 1e-5)
    assert result["classes"] == list(predict.classes) == ["0", "1", "2"]


def test_class_names_come_from_folders(tmp_path, capsys):
    from PIL import Image

    rng = np.random.default_rng(0)
    for level, name in enumerate(("class10", "class9")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(20):
            pixels = rng.integers(0, 100, (8, 8, 3)) + 100 * level
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(tmp_path / "data" / name / f"{index}.png")
    result = search_images.main(config(tmp_path / "data", tmp_path / "out"))
    names = ["class9", "class10"]
    assert result["classes"] == names
    assert jaxnas.load(tmp_path / "out/model").classes == tuple(names)
    assert capsys.readouterr().err.count("classes: class9, class10") == 1


def test_the_same_command_reads_what_is_finished(done, images, monkeypatch):
    out, result = done
    monkeypatch.setattr(runs, "train", None)
    assert search_images.main(config(images, out)) == result


class Killed(BaseException):
    pass


def test_a_finished_run_is_continued_with_more_minutes(
    done, images, tmp_path, monkeypatch
):
    out = shutil.copytree(done[0], tmp_path / "out")
    ledger = json.loads((out / "budget.json").read_text())
    (out / "budget.json").write_text(json.dumps(ledger | {"spent": 0.0}))
    # Every training of the longer search is better than what was tested.
    tested = json.loads((out / "result.json").read_text()) | {
        "validation accuracy": -1.0
    }
    (out / "result.json").write_text(json.dumps(tested))
    before, longer = drive.read(out / "search"), config(images, out, minutes=0.2)
    monkeypatch.setattr(stages, "MAX_EVALUATIONS", 6)
    train = runs.train

    def dies(key, network, recipe, archs, data, **options):
        if "final" in str(options.get("folder")):
            raise Killed
        return train(key, network, recipe, archs, data, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(runs, "train", dies)
        search_images.main(longer)
    # The tested network stays until there is another.
    assert json.loads((out / "result.json").read_text()) == tested
    begun = []
    monkeypatch.setattr(SearchLog, "begin", lambda *inputs: begun.append(inputs[-1]))
    result = search_images.main(longer)
    assert begun == [max(e.score for e in drive.read(out / "search"))]
    history = drive.read(out / "search")
    assert history[:3] == before and result["searched cells"] == len(history) == 6
    assert result["settings"]["minutes"] == 0.2
    assert result["plan"]["epochs"] == done[1]["plan"]["epochs"]
    with pytest.raises(
        ValueError, match="was given 0.2 minutes, and can be given more"
    ):
        search_images.main(config(images, out))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "holds no JSON object: it is damaged; give another folder"),
        ('{"state": "finished"}', "has the format None, .* format 1"),
        ('{"format": 1, "state": "finished"}', "without architecture: it is damaged"),
        (
            '{"format": 1, "state": "finished", "architecture": "", '
            '"validation accuracy": 1.5, "test": {"accuracy": 1.5}}',
            "without test low",
        ),
    ],
)
def test_a_damaged_result_is_refused(tmp_path, content, words):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        results.Results(tmp_path, cast(Any, None), {}).finished(1.0)
    assert (tmp_path / "result.json").read_text() == content


def test_a_run_that_was_killed_goes_on(done, images, tmp_path, monkeypatch):
    out, calls, finished = tmp_path / "out", [], []
    train = runs.train

    def dies_often(key, network, recipe, archs, data, **options):
        calls.append(archs)
        if len(calls) in (4, 6, 8):
            raise Killed
        trained = train(key, network, recipe, archs, data, **options)
        finished.append((options.get("folder"), *archs[0].tolist()))
        return trained

    monkeypatch.setattr(runs, "train", dies_often)
    write = files.atomic_write

    def dies_at_the_end(path, content):
        if path.name == "cell.png" and len(calls) == 9:
            calls.append(None)
            raise Killed
        write(path, content)

    monkeypatch.setattr(files, "atomic_write", dies_at_the_end)
    kills = 0
    for _ in range(9):
        try:
            result = search_images.main(config(images, out))
            break
        except Killed:
            kills += 1
            if (out / "result.json").exists():
                so_far = json.loads((out / "result.json").read_text())
                assert "so far" in so_far["state"] and so_far["architecture"]
    assert kills == 4
    # The lightest cell twice and the heaviest for the plan, three of the search, and the
    # final one, which is read when it is called for the second time.
    assert len(finished) == 7 and len(set(finished)) == 6
    whole = done[1]
    for name in ("architecture", "test", "finalists"):
        assert result[name] == whole[name]
    found, wanted = (
        npz.load_arrays(folder / "curves.npz")[0] for folder in (out, done[0])
    )
    for name in wanted:
        if "seconds" not in name:
            np.testing.assert_array_equal(found[name], wanted[name])


def test_a_gaussian_process_searches_what_scores_best(images, tmp_path, monkeypatch):
    costs = training_costs.TrainingCosts(
        0.001, 0.001, batch=3, parallel=1, compiling=1.0
    )
    monkeypatch.setattr(training_costs, "measure", lambda *_: costs)
    result = search_images.main(config(images, tmp_path / "out", method="gp"))
    assert result["state"] == "finished" and result["searched cells"] == 3
    kept, _ = npz.load_arrays(tmp_path / "out/scores/scores.npz")
    cells = list(map(tuple, kept["arch"].tolist()))
    live_macs = [
        kept["live_macs"][cells.index(tuple(nasbench201.from_string(name)))]
        for name in result["finalists"]
    ]
    assert min(live_macs) > np.quantile(kept["live_macs"], 0.9)
    # With more minutes other cells are affordable; those that were trained stay.
    before = drive.read(tmp_path / "out/search")
    trained = [cells.index(tuple(nasbench201.from_string(e.arch))) for e in before]
    others = ~np.isin(np.arange(len(cells)), trained)
    monkeypatch.setattr(image_search, "affordable", lambda *_: others)
    search_images.main(config(images, tmp_path / "out", method="gp", minutes=0.0011))
    assert drive.read(tmp_path / "out/search")[:3] == before


def test_cells_that_the_minutes_are_too_few_for_are_left_out(
    images, tmp_path, capsys, monkeypatch
):
    # An epoch of the heaviest cell would take an hour.
    costs = training_costs.TrainingCosts(
        0.001, 3600.0, batch=3, parallel=1, compiling=1.0
    )
    monkeypatch.setattr(training_costs, "measure", lambda *_: costs)
    result = search_images.main(config(images, tmp_path / "out", method="gp"))
    archs = list(map(nasbench201.from_string, result["finalists"]))
    light = np.quantile(costs.of(NETWORK, cell_scores.candidates()), 0.25)
    assert costs.of(NETWORK, np.array(archs)).max() <= light
    assert " of 5260 cells fit the time budget" in capsys.readouterr().err


def test_a_bound_that_no_cell_is_within_ends_the_search_first(
    images, tmp_path, monkeypatch
):
    monkeypatch.setattr(training_costs, "measure", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match="no cell is within --macs 1e-06: .* has"):
        search_images.main(config(images, tmp_path / "out", macs=1e-6))


def test_costs_are_those_of_macs_between_the_two_that_are_known():
    costs = training_costs.TrainingCosts(2.0, 56.0, batch=4, parallel=1, compiling=0.0)
    ends = np.stack([training_costs.LIGHTEST, training_costs.HEAVIEST])
    np.testing.assert_allclose(costs.of(NETWORK, ends), [2, 56])
    # A 3x3 convolution is nine of 1x1, and six of them are 54 seconds.
    some = np.array([[nasbench201.CONV1, *[nasbench201.POOL] * 5], [3, 3, 0, 0, 0, 2]])
    np.testing.assert_allclose(costs.of(NETWORK, some), [3, 21])
    # A machine that was slower for the lightest.
    assert (
        training_costs.TrainingCosts(2.0, 1.0, 4, 1, 0.0).of(NETWORK, ends) == 2
    ).all()


def test_what_can_be_afforded_and_the_lightest_that_always_can():
    seconds = np.array([1.0, 2, 3, 4, 8])
    for available, allowed in (100, 5), (40, 4), (39, 3), (1, 2), (-5, 2):
        found = training_costs.affordable(seconds, available, epochs=10)
        assert found.tolist() == [True] * allowed + [False] * (5 - allowed)


def test_a_prior_orders_the_cells_and_few_are_trained(images, tmp_path):
    task = tasks.load_task(
        str(images), size=None, channels=2, cells_per_stage=1, valid_share=0.2,
        test_share=0.2, seed=0,
    )  # fmt: skip
    opened = prior.open_prior(Config(data=str(images), prior=("fashion",)))
    assert opened is not None
    cells = prior.prior_cells(opened, task, tmp_path)
    table = named.open_table("fashion-surrogate")
    values = columns.column(
        table, dataset="fashion-mnist", split="valid", epochs=12, seed="mean"
    )
    accuracy = dict(zip(map(tuple, table.arch.tolist()), values[:, 0], strict=True))
    first = cells.arch[:20].tolist()
    np.testing.assert_allclose(
        cells.scores["prior 1"][:20], [accuracy[tuple(cell)] for cell in first], 1e-6
    )
    assert set(cells.scores) == {"prior 1", "live_macs"}
    again = prior.prior_cells(prior.Prior(lambda *_: 1 / 0, ""), task, tmp_path)  # read
    np.testing.assert_array_equal(again.in_order(), cells.in_order())
    costs = training_costs.TrainingCosts(1.0, 9.0, batch=4, parallel=1, compiling=1.0)
    for minutes, steps in (5, 0), (20, 1), (60, 3):
        budget = TimeBudget(tmp_path / f"{minutes}.json", 60.0 * minutes)
        plan = stages.make_search_plan(costs, 8.0, 30, budget, stages.GUIDED)
        assert plan.steps == steps
        assert plan.epochs == (2 if not steps else stages.GUIDED_EPOCHS)
    with pytest.raises(ValueError, match="is of the dataset that is searched"):
        prior.open_prior(Config(data="fashion-mnist", prior=("fashion",)))


def test_a_folder_belongs_to_the_content_of_its_prior(images, tmp_path, monkeypatch):
    given = config(images, tmp_path / "out", method="gp", prior=("fashion",))
    table = named.open_table("fashion-surrogate")
    columns = dict(table.columns)
    changed = dataclasses.replace(table, columns=columns)
    monkeypatch.setattr(prior_scores.named, "open_table", lambda _: changed)
    for _ in range(2):
        study.open_study(given)
    columns[prior.COLUMN] = columns[prior.COLUMN] + np.float32(1)
    with pytest.raises(ValueError, match="other settings [(]prior_sha256"):
        study.open_study(given)


def test_the_content_of_metad2a_is_that_of_its_parameters(images, monkeypatch):
    given, digests = Config(data=str(images), prior=("metad2a",)), set()
    loaded = inputs.open_models(None, None)
    for factor in (1, 1, 2):
        scaled = jax.tree.map(lambda x: factor * x, loaded.predictor.variables)  # noqa: B023
        changed = loaded._replace(predictor=loaded.predictor._replace(variables=scaled))
        monkeypatch.setattr(inputs, "open_models", lambda *_: changed)  # noqa: B023
        opened = prior.open_prior(given)
        assert opened is not None
        digests.add(opened.sha256)
    assert len(digests) == 2


def test_metad2a_is_no_prior_for_the_images_that_it_was_trained_on(monkeypatch):
    opened = SimpleNamespace(trained_on={"pools": {"noto-emoji": {}}}, predictor=1)
    monkeypatch.setattr(inputs, "open_models", lambda *_: opened)
    with pytest.raises(
        ValueError, match="were trained on noto-emoji: wanted other --data"
    ):
        prior.open_prior(Config(data="noto-emoji", prior=("metad2a",)))


@pytest.mark.parametrize("longer", [[np.nan] * 3, [np.nan, 40.0, np.nan]])
def test_finalists_that_diverge_do_not_win(tmp_path, longer):
    archs = [nasbench201.to_string(np.full(6, i)) for i in range(3)]
    history = [drive.Evaluation(a, 50.0 - i, 2) for i, a in enumerate(archs)]
    budget = TimeBudget(tmp_path / "budget.json", 6000.0)
    plan = stages.SearchPlan(2, 1, 4, 0.01, 4)

    def evaluate(key, query):
        score = np.resize(longer, 4)
        return Result(score, score[:, None], np.ones(4))

    ranked = stages.rank_finalists(history, evaluate, plan, budget)
    if np.isnan(longer).all():
        assert ranked == [(a, 50.0 - i) for i, a in enumerate(archs)]
    else:
        assert ranked[0] == (archs[1], 40.0) and len(ranked) == 3


def test_files_have_no_numbers_that_json_lacks(tmp_path):
    path, value = tmp_path / "r.json", {"a": [1.5, float("nan")], "b": -np.inf, "c": 2}
    with pytest.raises(ValueError, match=f"cannot write {path}: .* not JSON"):
        records.write_record(path, value, 1)
    assert not path.exists()
    records.write_record(path, records.without_nan(value), 1)
    assert records.read_record(path, 1) == {"a": [1.5, None], "b": None, "c": 2}


def test_the_final_network_is_as_wide_as_time_and_bounds_allow(
    done, images, tmp_path, monkeypatch, capsys
):
    def latency(network, arch):
        return float(network.stem_channels)

    monkeypatch.setattr(bounds, "latency_meters", lambda budget: (latency, latency))
    monkeypatch.setattr(final_stage, "COMPILING_SHARE", 1e9)
    monkeypatch.setattr(final_network, "MIN_HALVED", 8)
    out = tmp_path / "out"
    arch = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|none~1|none~2|"
    limits = dict(latency=6.5, macs=0.05)
    settings = config(images, out, arch=arch, minutes=10.0, **limits)
    train, phases = runs.train, []

    def dies(key, network, recipe, archs, data, **options):
        if "pixels" in str(options.get("folder")):
            phases.append(Path(options["folder"]).name)
        trained = train(key, network, recipe, archs, data, **options)
        if "8-pixels" in str(options.get("folder")):
            raise Killed
        return trained

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(runs, "train", dies)
        search_images.main(settings)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "train", dies)
        with pytest.raises(Killed):
            search_images.main(settings)
    # A phase that is finished is not compiled again.
    assert phases == ["4-pixels", "8-pixels", "8-pixels"]
    result = search_images.main(settings)
    printed = capsys.readouterr().err
    assert "latency of the final network: 6 ms, within the bound of 6.5" in printed
    # There is time for 8 channels.
    assert result["network"]["stem_channels"] == result["final"]["channels"] == 6
    assert result["final"]["sized"] and not done[1]["final"]["sized"]
    assert result["final"]["recipe"]["cutmix"] == 0.5
    assert result["network"]["image_size"] == 8 and result["final"]["sizes"] == [4, 8]
    curves, _ = npz.load_arrays(out / "curves.npz")
    assert len(curves["final/train"]) == sum(result["final"]["epochs"])
    assert np.isfinite(curves["final/train"]).all()
    x, y = np.load(images)["x"][..., None], np.load(images)["y"]
    assert np.mean(np.argmax(jaxnas.load(out / "model")(x), 1) == y) > 0.9
    # Phases of other lengths have other checkpoints.
    (folder,) = (out / "final").iterdir()
    assert folder.name.endswith("-6x1-{}+{}".format(*result["final"]["epochs"]))
    # The front is of the networks of the search.
    network = NetworkConfig(**result["network"])
    macs = counting.macs(network, nasbench201.from_string(arch), live_only=True) / 1e6
    checked = {name: (b["value"], b["within"]) for name, b in result["bounds"].items()}
    assert checked == {"latency": (6, True), "MACs": (round(macs, 4), macs <= 0.05)}
    assert [point["latency"] for point in result["front"]] == [2.0]
    assert (out / "front.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("cells", "passes", "size", "next_size"),
    [
        (2, 49, (16, 2), (16, 2)),
        (2, 51 * 1.5**1.5, (24, 2), (16, 2)),
        (2, 51 * 4**1.5, (64, 2), (48, 2)),
        (2, 199 * 4**1.5, (64, 2), (48, 2)),
        (2, 201 * 4**1.5, (64, 4), (64, 2)),
        (2, 1e6, (64, 6), (64, 4)),
        # The loop over cells makes each of two slower than one that is alone.
        (1, 239 * 4**1.5, (64, 1), (48, 1)),
        (1, 241 * 4**1.5, (64, 2), (64, 1)),
    ],
)
def test_a_network_of_the_largest_width_has_more_cells(cells, passes, size, next_size):
    network, images = NetworkConfig(16, cells, 5, 16), 300  # 16 pixels: one phase
    asked = []

    def size_of(limit):
        def allowed(larger):
            asked.append(larger)
            return larger.stem_channels * larger.cells_per_stage <= limit

        seconds = passes * images * 0.01
        return final_network.choose_size(network, 0.01, images, seconds, allowed)

    def sized(channels, cells):
        return dataclasses.replace(
            network, stem_channels=channels, cells_per_stage=cells
        )

    assert size_of(1e9) == sized(*size)
    # Networks without time for their passes are not measured.
    assert len(asked) == (size != (16, cells))
    # Of those that a bound refuses, the next smaller one.
    assert size_of(math.prod(size) - 1) == sized(*next_size)


def test_the_plan_has_the_chosen_size(monkeypatch):
    chosen = dataclasses.replace(NETWORK, stem_channels=6, cells_per_stage=3)
    x = np.zeros((20, 8, 8, 1))
    both = SimpleNamespace(x=x)
    task = SimpleNamespace(network=NETWORK, train_and_valid=lambda: both)
    study = SimpleNamespace(
        task=task,
        data=SimpleNamespace(x=x, x_valid=x[:4]),
        budget=None,
        bounds=(),
        log=SimpleNamespace(compiling=lambda what: None),
    )
    timed = []
    for module, name, new in (
        (final_network, "choose_size", lambda *arguments: chosen),
        (final_training, "available_seconds", lambda budget: 60.0),
        (final_training, "epoch_seconds", lambda *a: timed.append(a[2]) or 1.0),
        (final_training, "with_epochs", lambda study, draft, *rest: draft),
    ):
        monkeypatch.setattr(module, name, new)
    arch = nasbench201.to_string(np.zeros(6, int))
    phases = final_network.phases_of(8, 20)
    plan = final_stage._sized(study, arch, 1.0, phases)  # type: ignore[arg-type]
    assert (plan.channels, plan.cells) == (6, 3) and timed == [plan]
    assert plan.network(NETWORK) == chosen


def test_phases_of_a_final_training_have_epochs_of_equal_time():
    half, whole = final_network.phases_of(32, 4000)
    ratio = half.images / whole.images
    assert ratio == pytest.approx(2**final_network.SIZE_POWER, rel=0.01)
    assert [p.images for p in final_network.phases_of(32, 1000)] == [1000, 512]
    assert final_network.phases_of(20, 4000) == [final_network.Phase(20, 1.0, 512)]
    searched = stages.training_recipe(NETWORK, 4000, 0.1, True)
    images = [half.images, whole.images]
    plan = final_network.FinalPlan(16, 2, [16, 32], [9, 9], images, 8, 1, sized=True)
    sizes = dict(stem_channels=16, cells_per_stage=2)
    for phase, size in ((0, 16), (1, 32), (-1, 32)):
        wanted = dataclasses.replace(NETWORK, image_size=size, **sizes)
        assert plan.network(NETWORK, phase) == wanted
    first, last = (plan.recipe(searched, phase) for phase in (0, 1))
    assert (first.crop, last.crop) == (2, 4)
    assert (last.batch, last.weight_decay, last.cutmix) == (32, 1e-3, 0.5)
    # Half of the schedule is over when whole images begin.
    rates = recipes.learning_rates(last, 16, 9)
    assert last.epochs == 18 and rates[0] == pytest.approx(0.05, rel=0.2)
    small = plan._replace(sizes=[20], epochs=[9], images=[512])
    assert small.recipe(searched).cutmix == 0.0
    kept = plan._replace(sizes=[32], epochs=[9], sized=False).recipe(searched)
    changed = dict(epochs=9, warmup=1.0, crop=4)
    assert kept == dataclasses.replace(searched, **changed)


def test_a_given_cell_is_trained_without_a_search(
    images, tmp_path, monkeypatch, capsys
):
    # No time is within it, not even none, as for programs that are compiled already.
    monkeypatch.setattr(final_stage, "COMPILING_SHARE", np.nan)
    arch = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|none~1|none~2|"
    settings = config(images, tmp_path / "out", arch=arch, final_network="sized")
    result = search_images.main(settings)
    assert "the final network is that of the search: to compile another" in (
        capsys.readouterr().err
    )
    assert not result["final"]["sized"]
    assert result["state"] == "finished" and result["searched cells"] == 1
    assert result["architecture"] == arch and list(result["finalists"]) == [arch]
    assert not (tmp_path / "out/scores").exists()
    predict = jaxnas.load(tmp_path / "out/model")
    assert predict(np.zeros((2, 8, 8, 1))).shape == (2, 3)


def test_scores_leave_the_best_cells(images, tmp_path, monkeypatch):
    def first_half(key, settings, archs, x, y, folder, report):
        assert x.shape == (32, 8, 8, 1) and y.shape == (32,) and report(1, 2)
        values = np.where(np.arange(len(archs)) < 2000, -archs.sum(1), np.nan)
        return scoring.Scores({"hook_logdet": values}, values)

    monkeypatch.setattr(scoring, "score_many", first_half)
    what = tasks.load_task(
        str(images),
        size=None,
        channels=2,
        cells_per_stage=1,
        valid_share=0.2,
        test_share=0.2,
        seed=0,
    )

    def score(report):
        return cell_scores.score_cells(what, tmp_path, hook=True, seed=0, report=report)

    scored = score(lambda done, total: True)
    assert len(scored.arch) == 2000 and set(scored.scores) == {
        "live_macs",
        "hook_logdet",
    }
    assert not any(np.isnan(s).any() for s in scored.scores.values())
    best = scored.best(0.1, 1000)
    assert len(best.arch) == 200 and len(scored.best(0.1, 4).arch) == 80
    assert best.total().shape == (200,)
    last = scored.arch[np.argmin(scored.total())]
    assert scored.best(0.1, 4, last[None]).among(last[None]).sum() == 1
    assert not scored.best(0.1, 4).among(last[None]).any()
    work = [s.scores["live_macs"].mean() for s in (best, scored)]
    assert work[0] > work[1]
    again = score(lambda done, total: 1 / 0)  # read
    np.testing.assert_array_equal(again.arch, scored.arch)


# --- the network on disk ----------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    params = initialise(jax.random.key(1), NETWORK)
    running = [r * 1.5 + 0.1 for r in training.initial_running_stats(params)]
    params = training.with_running_stats(params, running)
    path = tmp_path_factory.mktemp("model") / "model"
    arch = np.array([3, 2, 4, 1, 0, 3])
    model_files.save(path, params, NETWORK, arch, [80.0], [50.0], dataset="squares")
    return path, params, arch


def test_what_is_loaded_is_the_network_itself(saved):
    path, params, arch = saved
    x = np.random.default_rng(0).uniform(0, 255, (7, 8, 8, 1)).astype(np.float32)
    mode = training.TRAINING._replace(norm="running", reduction_norm="running")

    @jax.jit
    def own(params, x):
        model = apply.single(NETWORK, jnp.asarray(arch))
        return jax.nn.softmax(apply.run(model, params, (x - 80) / 50, mode).logits)

    predict = jaxnas.load(path)
    wanted = own(params, x)
    np.testing.assert_allclose(predict(x), wanted, 1e-5)
    np.testing.assert_allclose(jax.jit(predict)(x), wanted, 1e-5)
    whole = np.round(x).astype(np.uint8)
    np.testing.assert_allclose(predict(whole), own(params, whole * 1.0), 1e-5)


@pytest.mark.parametrize(
    "shape", [(8, 8, 1), (2, 8, 4, 1), (2, 8, 8, 3), (2, 12, 12, 1)]
)
def test_other_shapes_are_refused(saved, shape):
    with pytest.raises(ValueError, match=r"wanted images \(n, 8, 8, 1\), found"):
        jaxnas.load(saved[0])(np.zeros(shape))


def test_other_parameters_and_folders_are_refused(saved, tmp_path):
    path, params, arch = saved
    other = dataclasses.replace(NETWORK, stem_channels=4)
    with pytest.raises(ValueError, match="the parameters do not fit"):
        model_files.save(tmp_path / "m", params, other, arch, [0], [1], dataset="x")
    with pytest.raises(ValueError, match="a positive standard deviation"):
        model_files.save(tmp_path / "m", params, NETWORK, arch, [0], [0], dataset="x")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="no checkpoint at"):
        jaxnas.load(tmp_path / "nothing")
    jaxnas.io.checkpoints.save(tmp_path / "tree", {"a": np.zeros(2)}, {"arch": "none"})
    with pytest.raises(ValueError, match="has the format None, .* wanted a network"):
        jaxnas.load(tmp_path / "tree")


# --- bad input --------------------------------------------------------------------------


def broken(**change):
    def write(path):
        np.savez(path, **(arrays() | change))

    return write


NAN = arrays()["x"]
NAN[3, 2, 1] = np.nan
SHADES = np.arange(120.0)[:, None, None] * np.ones((8, 12))


@pytest.mark.parametrize(
    ("write", "more", "message"),
    [
        (
            broken(),
            dict(minutes=0),
            "--minutes must be above 0 and below a year, not 0",
        ),
        (
            broken(),
            dict(minutes=float("nan")),
            "--minutes must be above 0 and below a year",
        ),
        (broken(), dict(size=10), "--size must be a multiple of 4, not 10"),
        (broken(), dict(size=100_000), "--size must be 1 to 256, not 100000"),
        (broken(), dict(channels=0), "--channels must be 1 to 512, not 0"),
        (
            broken(),
            dict(cells_per_stage=1000),
            "--cells-per-stage must be 1 to 50, not 1000",
        ),
        (broken(), dict(arch="|conv~0|"), "conv"),
        (broken(), dict(batch=0), "--batch must be 1 to 50, the fewest cells"),
        (broken(), dict(batch=51), "--batch must be 1 to 50, the fewest cells"),
        (broken(), dict(workers=1_000_000), "--workers must be 1 to 50, the fewest"),
        (broken(), dict(keep=0.0), "--keep must be above 0"),
        (broken(), dict(latency=0.0), "--latency must be above 0 and finite, not 0"),
        (broken(), dict(macs=float("inf")), "--macs must be above 0 and finite"),
        (broken(), dict(lr=0.0), "--lr must be above 0 and finite, not 0"),
        (broken(), dict(prior=("fashion",)), "--prior guides --method gp"),
        (broken(), dict(prior_from="nb201"), "--prior-from is the table of --prior"),
        (
            broken(),
            dict(method="gp", prior=("fashion", "metad2a")),
            "--prior fashion takes no other columns",
        ),
        (
            broken(),
            dict(method="gp", prior=("cifar10/test/200",)),
            "name the table by --prior-from, or choose --prior fashion",
        ),
        (broken(), dict(clock="cpu", workers=2), "with --workers 1"),
        (broken(), dict(test_share=1.0), "--test-share must be between 0 and 1"),
        (broken(), dict(test_share=0.9), "leave nothing to train on"),
        (broken(y=np.zeros(120, int)), {}, "wanted at least 2 classes, found 1"),
        (broken(y=arrays()["y"] * 2), {}, "2 of 5 classes have no image"),
        (broken(x=NAN), {}, "1 of 120 images have pixels that are not finite"),
        (
            broken(x=SHADES[:, :1, :1]),
            {},
            "images.npz: images of 1 x 1 pixels are too small",
        ),
        (broken(x=SHADES), {}, "wanted square images, not 8 x 12"),
        (broken(x=SHADES * 0), {}, "all 120 images are of one colour"),
        (
            broken(**arrays(num=3)),
            {},
            "class 0 has 1 image, too few for parts of 0.6, 0.2, 0.2: give more images, "
            "or other --valid-share and --test-share",
        ),
        (lambda path: path.write_bytes(b"PK"), {}, "is not a sound npz file"),
        (lambda path: None, {}, "no such file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, write, more, message
):
    monkeypatch.setattr(tasks, "NetworkConfig", NetworkConfig)
    write(tmp_path / "images.npz")
    with pytest.raises(ValueError, match=message) as error:
        search_images.main(config(tmp_path / "images.npz", tmp_path / "out", **more))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_no_name_of_images_is_told(tmp_path):
    with pytest.raises(ValueError, match="no images are named: wanted fashion-mnist"):
        search_images.main(config("", tmp_path / "out"))


def test_folders_of_others_are_left_alone(images, tmp_path, monkeypatch, done):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="is not empty and not a result folder"):
        search_images.main(config(images, tmp_path))
    with pytest.raises(ValueError, match=r"is not a folder"):
        search_images.main(config(images, tmp_path / "mine.txt" / "out"))
    with pytest.raises(
        ValueError, match="made with other settings .*seed 0 there, 1 now"
    ):
        search_images.main(config(images, done[0], seed=1))
    kept, other = images.read_bytes(), arrays()
    other["x"][0, 0, 0] += 1
    np.savez(images, **other)
    with pytest.raises(ValueError, match="made with other settings .*images_sha256"):
        search_images.main(config(images, done[0]))
    images.write_bytes(kept)
    monkeypatch.setattr(study, "MIN_FREE", 2**70)
    with pytest.raises(ValueError, match="MiB are free"):
        search_images.main(config(images, tmp_path / "out"))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


# --- parts ------------------------------------------------------------------------------


def test_images_become_tasks(tmp_path):
    np.savez(tmp_path / "i.npz", **arrays(num=40, side=30, classes=2, colours=3))
    given = dict(
        channels=None, cells_per_stage=2, valid_share=0.25, test_share=0.25, seed=0
    )
    what = tasks.load_task(str(tmp_path / "i.npz"), size=None, **given)
    assert what.network == NetworkConfig(
        16, 2, num_classes=2, image_size=32, in_channels=3, num_stages=1
    )
    assert [len(i.x) for i in what[1:4]] == [20, 10, 10]
    both = what.normalised(what.train_and_valid())
    np.testing.assert_allclose(both.x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(both.x.std((0, 1, 2)), 1, 1e-5)
    data = what.data(what.train, what.valid)
    assert len(data.x) == 20 and len(data.x_test) == 1
    np.testing.assert_allclose(data.pad_value, -what.mean / what.std)
    small = tasks.load_task(str(tmp_path / "i.npz"), size=12, **given)
    assert small.network.image_size == 12 and small.network.stem_channels == 8


def test_a_ledger_outlives_the_process(tmp_path):
    first = TimeBudget(tmp_path / "budget.json", 60.0)
    assert "plan" not in first and first.once("plan", lambda: {"a": 1}) == {"a": 1}
    spent = json.loads((tmp_path / "budget.json").read_text())["spent"]
    second = TimeBudget(tmp_path / "budget.json", 60.0)
    assert second.once("plan", lambda: 1 / 0) == {"a": 1} and "plan" in second
    assert second.spent() >= spent and second.left(0.5) <= 30 - spent
    second.once("costs", lambda: 2.5)
    longer = TimeBudget(tmp_path / "budget.json", 90.0)
    assert "plan" not in longer and longer.once("costs", lambda: 1 / 0) == 2.5
    assert longer.spent() >= spent
    longer.save()
    plan = stages.SearchPlan(3, 2, 4, 0.5, 1)
    for decide in (lambda: plan), (lambda: 1 / 0):
        assert longer.once_as(stages.SearchPlan, "plan", decide) == plan
    for damaged in {}, [1], "x":
        longer.once(f"plan {damaged}", lambda: damaged)  # noqa: B023 (called at once)
        with pytest.raises(ValueError, match="cannot read 'plan .* it is damaged"):
            longer.once_as(stages.SearchPlan, f"plan {damaged}", lambda: plan)
    longer.once("cutout", lambda: plan._asdict() | {"cutout": True})
    with pytest.raises(ValueError, match="other fields .* the version that began it"):
        longer.once_as(stages.SearchPlan, "cutout", lambda: plan)
    with pytest.raises(ValueError, match="was given 1.5 minutes, .* --minutes is 1$"):
        TimeBudget(tmp_path / "budget.json", 60.0)
    (tmp_path / "budget.json").write_text("{")
    with pytest.raises(ValueError, match="cannot read"):
        TimeBudget(tmp_path / "budget.json", 60.0)


def test_threads_share_a_budget(tmp_path):
    budget, decided = TimeBudget(tmp_path / "budget.json", 60.0), []

    def decide(name):
        decided.append(name)
        time.sleep(0.01)
        # A decision may rest on another, and its threads save the time.
        with ThreadPoolExecutor(1) as executor:
            executor.submit(budget.save).result(10)
        return budget.once("all", lambda: list(range(200)))

    names = [f"{i}" for i in range(20)] * 4
    with ThreadPoolExecutor(4) as executor:
        once = executor.map(lambda n: budget.once(n, lambda: decide(n)), names)
        assert all(value == [*range(200)] for value in once)
    assert sorted(decided) == sorted(names[:20])


@pytest.mark.parametrize("rank", [0, 15624, 4321])
def test_every_cell_has_a_picture(tmp_path, rank):
    arch = jaxnas.spaces.base.every(nasbench201.SPACE)[rank]
    path = tmp_path / "cell.png"
    cell_picture.draw(path, nasbench201.to_string(arch), title="a cell")
    assert path.read_bytes()[:4] == b"\x89PNG"
