"""Files of MetaD2A's models: published weights, features by class, checkpoints."""

import dataclasses
import json
import pickletools
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import official_samples as samples
import pytest

pytest.importorskip("flax", reason="flax is in the extra models")

from jaxnas import datasets  # noqa: E402
from jaxnas.io import npz, torch_files, torch_writer  # noqa: E402
from jaxnas.models import (  # noqa: E402
    attention,
    checkpoint,
    config,
    features,
    model,
    published,  # noqa: E402
)
from jaxnas.models import plateau as plateaus  # noqa: E402
from jaxnas.models import state_dicts as dicts  # noqa: E402
from jaxnas.models.generator import Generator  # noqa: E402
from jaxnas.models.graph_layers import Gru  # noqa: E402
from jaxnas.models.predictor import Predictor  # noqa: E402
from jaxnas.types import FeatureKind  # noqa: E402

TINY = FeatureKind("tiny", 4)
SMALL = config.ModelConfig(8, 7, hidden=8, latent=8, features=TINY)
PUBLISHED = "data/metad2a_nb201_generator_ckpt_400.pt"
# Tensors and parameters of the published models.
SIZES = [
    (Generator(config.NB201_GENERATOR), 99, 304_200),
    (Generator(config.MBV3_GENERATOR), 99, 322_478),
    (Predictor(config.NB201_PREDICTOR), 82, 4_020_361),
    (Predictor(config.MBV3_PREDICTOR), 82, 4_116_617),
]


def random_tensors(network):
    rng = np.random.default_rng(0)
    return {
        entry.name: rng.random(entry.shape, np.float32)
        for entry in dicts.entries(network)
    }


def equal(actual, wanted):
    assert list(actual) == list(wanted)
    for name, value in actual.items():
        np.testing.assert_array_equal(value, wanted[name], strict=True)


def read(path):
    return {k: t.numpy() for k, t in torch_files.load(path).value.items()}


def test_a_published_file_of_another_content_is_refused(tmp_path):
    path, given = tmp_path / "x.pt", random_tensors(Generator(SMALL))
    torch_writer.save(path, given)
    made = published.read_published(path, features=TINY)
    published.write_published(tmp_path / "copy.pt", made)
    equal(read(tmp_path / "copy.pt"), given)
    message = samples.refused(published.read_published, path)
    assert (
        str(path) in message and "width 4, not 'resnet18-32px' of width 512" in message
    )
    whole, contents = path.read_bytes(), samples.torch_zip
    damaged = (
        whole[:-30],
        b"",
        contents([1, 2]),
        contents({"fc3.bias": 1}),
        contents({}),
    )
    for content in damaged:
        path.write_bytes(content)
        message = samples.refused(published.read_published, path, features=TINY)
        assert str(path) in message and "\n" not in message


@pytest.mark.parametrize(("network", "tensors", "parameters"), SIZES)
def test_weights_of_all_published_models_come_back(network, tensors, parameters):
    given = random_tensors(network)
    assert len(given) == tensors
    assert sum(value.size for value in given.values()) == parameters
    made = dicts.from_state_dict(given)
    assert made.network == network
    equal(dicts.to_state_dict(made), given)
    # The parameters are those that the network has.
    shapes = jax.eval_shape(lambda: model.init(network, jax.random.key(0)).variables)
    own = jax.tree.map(lambda x: (x.shape, x.dtype), dict(params=shapes["params"]))
    theirs = {"params": made.variables["params"]}
    assert jax.tree.map(lambda x: (x.shape, x.dtype), theirs) == own


def test_a_model_is_read_with_the_features_and_graphs_that_are_stated(tmp_path):
    given = dicts.from_state_dict(random_tensors(Predictor(SMALL)), features=TINY)
    published.write_published(tmp_path / "x.pt", given)
    back = published.read_published(tmp_path / "x.pt", features=TINY, graph="line10")
    assert back.network.config == dataclasses.replace(SMALL, adjacency="line10")


def test_names_are_those_of_the_reference(shared):
    for name in ("nb201_predictor", "mbv3_predictor", "mbv3_generator"):
        arrays = npz.read_npz(shared / f"oracles/metad2a_{name}.npz")
        given = {k[3:]: v for k, v in arrays.items() if k.startswith("sd/")}
        equal(dicts.to_state_dict(dicts.from_state_dict(given)), given)


def test_the_published_file_is_written_again(shared, tmp_path):
    given, path = read(shared / PUBLISHED), tmp_path / "again.pt"
    made = published.read_published(shared / PUBLISHED)
    assert made.network == Generator(config.NB201_GENERATOR)
    published.write_published(path, made)
    equal(read(path), given)

    def opcodes(path):
        with zipfile.ZipFile(path) as archive:
            names = {name.split("/")[1] for name in archive.namelist()}
            steps = list(pickletools.genops(archive.read("archive/data.pkl")))
        globals_ = {str(arg) for op, arg, _ in steps if op.name == "GLOBAL"}
        return names, {op.name for op, _, _ in steps}, globals_

    ours, theirs = opcodes(path), opcodes(shared / PUBLISHED)
    assert ours[0] - theirs[0] == {"byteorder"} and theirs[0] <= ours[0]
    # BININT is what torch writes for larger numbers.
    assert ours[1] - theirs[1] == {"BININT"} and ours[2] == theirs[2]


def test_storages_are_aligned_and_plain(tmp_path):
    arrays = {"a": np.arange(3, dtype=np.int64), "b": np.ones((2, 3), np.float16).T}
    arrays["c"] = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
    arrays |= {"scalar": np.float64(2.5), "empty": np.zeros((0, 4), np.float32)}
    path = tmp_path / "x.pt"
    torch_writer.save(path, arrays)
    equal(read(path), {k: np.asarray(v) for k, v in arrays.items()})
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        assert infos[0].filename == "archive/data.pkl"
        assert all(i.compress_type == zipfile.ZIP_STORED for i in infos)
        raw = path.read_bytes()
        for info in infos:
            extra = int.from_bytes(raw[info.header_offset + 28 :][:2], "little")
            start = info.header_offset + 30 + len(info.filename) + extra
            assert start % 64 == 0
            assert raw[start : start + info.file_size] == archive.read(info)
    with pytest.raises(ValueError, match="complex64"):
        torch_writer.save(path, {"c": np.zeros(2, np.complex64)})


def test_torch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra torch")
    given, path = random_tensors(SIZES[0][0]), tmp_path / "x.pt"
    torch_writer.save(path, given)
    loaded = torch.load(path, weights_only=True)
    equal({name: tensor.numpy() for name, tensor in loaded.items()}, given)


def damaged(change):
    tensors = random_tensors(SIZES[0][0])
    change(tensors)
    return tensors


BROKEN = {
    "the tensor fc3.bias is missing": lambda t: t.pop("fc3.bias"),
    "the model has no tensor 'more'": lambda t: t.update(more=np.zeros(2, np.float32)),
    r"wanted fc1.weight \(56, 56\), found \(56, 55\)": lambda t: t.update(
        {"fc1.weight": t["fc1.weight"][:, 1:]}
    ),
    "fc1.bias is not of finite": lambda t: t["fc1.bias"].fill(np.nan),
    "it has no matrix set_fc.0.weight": lambda t: t.pop("set_fc.0.weight"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_other_state_dicts_are_refused(message):
    with pytest.raises(ValueError, match=message) as caught:
        dicts.from_state_dict(damaged(BROKEN[message]))
    assert "\n" not in str(caught.value)


def test_models_without_a_published_format_are_refused():
    for changed in ({"layer_norm": True}, {"num_heads": 2}, {"hidden": 60}):
        one = Generator(config.ModelConfig(8, 7, **changed))
        assert "published format" in samples.refused(dicts.entries, one)
    assert "multiple of 4" in samples.refused(config.ModelConfig, 8, 7, latent=30)
    given = random_tensors(SIZES[0][0])
    refuse = samples.refused(dicts.from_state_dict, given, graph="line16")
    assert "no adjacency 'line16'" in refuse


def test_initial_parameters_are_those_of_pytorch():
    @jax.jit  # of which only the parameters are computed
    def draw(key):
        linear = attention.Linear(400).init(key, jnp.ones(25))["params"]
        seeds = attention.Pma(56).init(key, jnp.ones((3, 56)))["params"]["S"]
        return linear, seeds, Gru(7, 100).init(key, 1, jnp.ones(100))["params"]

    linear, seeds, gru = draw(jax.random.key(0))
    for values, bound in (
        *((value, 0.2) for value in linear.values()),
        *((value, 0.1) for value in gru.values()),
        (seeds, 0.2315),
    ):
        assert 0.9 * bound < abs(values).max() <= bound + 1e-4
        assert abs(values.std() - bound / 3**0.5) < 0.2 * bound


def test_features_by_label(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "xbylabel.pt"
    classes = [rng.random((n, 6)).astype(np.float32) for n in (3, 1, 2)]
    tensors = {i: [samples.FakeTensor(str(i), x)] for i, x in enumerate(classes)}
    path.write_bytes(samples.torch_zip(tensors))
    kind = FeatureKind("six", 6)
    read = features.read_by_label(path, kind)
    np.testing.assert_array_equal(read.x, np.concatenate(classes))
    assert read.starts.tolist() == [0, 3, 4, 6] and read.num_classes == 3
    assert read.kind == kind
    message = samples.refused(features.read_by_label, path)
    assert str(path) in message and "wanted (images, 512)" in message
    for bad in ([1, 2], {0: 1}, {1: tensors[0]}, {0: []}, {}):
        path.write_bytes(samples.torch_zip(bad))
        message = samples.refused(features.read_by_label, path)
        assert str(path) in message and "features" in message
    path.write_bytes(samples.torch_zip(tensors)[:-40])
    assert str(path) in samples.refused(features.read_by_label, path)


def test_features_are_matrices_of_one_width():
    refused = samples.refused
    kind = FeatureKind("x", 3)
    assert "no class" in refused(features.join_classes, [], kind)
    for bad in (np.zeros((0, 3)), np.zeros((2, 4)), np.zeros(3), [[1.0, 2.0, np.nan]]):
        good = np.ones((2, 3))
        assert "of class 1" in refused(features.join_classes, [good, bad], kind)


def test_features_of_images_are_sorted_by_class():
    rng = np.random.default_rng(0)
    given = datasets.image_features(
        rng.integers(0, 256, (7, 16, 16, 3)), datasets.hog_extractor(16), cache=False
    )
    labels = np.array([2, 0, 1, 1, 0, 2, 2])
    data = features.class_features(given, labels)
    assert data.kind == given.kind and data.starts.tolist() == [0, 2, 4, 7]
    np.testing.assert_array_equal(data.x, given.x[[1, 4, 2, 3, 0, 5, 6]])
    for bad, says in (
        (labels * 2, "of class 1 are of shape"),
        (labels * 10**9, "of class 1 are of shape"),
        (labels - 1, "a label is -1"),
        (labels[1:], "for each of 7 images"),
        (labels / 1.0, "float64"),
    ):
        assert says in samples.refused(features.class_features, given, bad)


def test_a_training_goes_on_from_its_checkpoint(tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="orbax is in the extra models")
    network = Predictor(SMALL)
    made = dicts.from_state_dict(random_tensors(network), features=TINY)
    made = model.with_accuracy(made, 71.5, 6.5)
    assert made.network == network
    state = checkpoint.adam().init(made.variables["params"])
    plateau, key = plateaus.Plateau(1e-5, np.inf, 4), jax.random.key(7)
    curve = ((0.1 + 0.2, 1 / 3), (1e-300, 2.0))
    best = jax.tree.map(lambda x: x + 1, made.variables["params"])
    progress = checkpoint.Progress(state, 12, plateau, key, best, curve)
    origin = {"pools": {"digits": "CC BY 4.0"}}
    checkpoint.save(tmp_path / "x", made, progress=progress, split="abc", origin=origin)
    back = checkpoint.load(tmp_path / "x", config=SMALL)
    assert (back.split, back.origin) == ("abc", origin)
    assert back.progress.curve == curve and back.model.network == made.network
    for a, b in (
        (back.model.variables, made.variables),
        (back.progress[0], state),
        (back.progress.best, best),
    ):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert back.progress[1:3] == (12, plateau)
    assert (jax.random.key_data(back.progress.key) == jax.random.key_data(key)).all()
    assert float(back.progress.opt_state.hyperparams["learning_rate"]) == np.float32(
        1e-4
    )


WIDE = {"config": {"num_vertices": 8, "num_types": 7, "features": {"name": "x"}}}


def test_imported_models_and_wrong_folders(tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="orbax is in the extra models")
    path, refused = tmp_path / "x", samples.refused
    given = random_tensors(Generator(SMALL))
    checkpoint.save(path, dicts.from_state_dict(given, features=TINY))
    back = checkpoint.load(path)
    assert back.progress is None
    equal(dicts.to_state_dict(back.model), given)
    other = refused(lambda: checkpoint.load(path, config=config.NB201_GENERATOR))
    assert "hidden=56" in other and "hidden=8" in other and str(path) in other
    file = path / "manifest" / "metadata"
    manifest = json.loads(file.read_text())
    for change in (
        {"kind": "x"},
        {"config": {"a": 1}},
        {"split": 1},
        {"origin": []},
        {"curve": [1.0]},
        WIDE,
    ):
        file.write_text(json.dumps(manifest | change))
        assert f"{path} is not a model of jaxnas" in refused(checkpoint.load, path)
    file.write_text(json.dumps(manifest | {"format": 1}))
    assert f"{path} has the format 1" in refused(checkpoint.load, path)
    huge = manifest["config"] | {"hidden": 10**5}
    file.write_text(json.dumps(manifest | {"config": huge, "collections": ["params"]}))
    assert "would unpack to" in refused(checkpoint.load, path)
    assert "no checkpoint" in refused(checkpoint.load, tmp_path / "y")


def test_the_learning_rate_falls_as_recorded(shared):
    recorded = npz.read_npz(shared / "oracles/metad2a_misc.npz")
    state = plateaus.start(1e-4)
    for loss, rate in zip(
        recorded["plateau/loss"], recorded["plateau/lr_after"], strict=True
    ):
        state = plateaus.step(state, loss)
        np.testing.assert_allclose(state.rate, rate, rtol=1e-12)
    assert state.rate < 1e-5
    assert plateaus.step(plateaus.Plateau(1e-8, 0.0, 10), 1.0).rate == 1e-8
