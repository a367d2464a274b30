"""Features of images: values against references, kinds, the cache, bad images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import feature_report
from jaxnas import datasets
from jaxnas.datasets import features, hog, lite0
from jaxnas.datasets.resample import resize_bicubic
from jaxnas.io import npz, run_folder
from jaxnas.types import require_kind

RNG = np.random.default_rng(0)
SOME = RNG.integers(0, 256, (5, 24, 20, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def installed():
    if lite0.weights_path() is None:
        pytest.skip(f"{lite0.PACKAGE} is not installed")


def refused(*args, **kwargs):
    with pytest.raises(ValueError) as caught:
        datasets.image_features(*args, **kwargs)
    return str(caught.value)


def test_stage_means_are_those_of_the_reference(shared, installed):
    images = npz.read_npz(shared / "data/tiny_imagenet_32px_200x40.npz")["x"]
    taps = npz.read_npz(shared / "data/tiny_imagenet_features.npz")["taps"]
    one = npz.read_npz(shared / "data/imagenet_one_image_32px.npz")["x"]
    one_taps = npz.read_npz(shared / "data/imagenet_class_prototypes.npz")
    x = np.concatenate([images[:, ::8].reshape(-1, 32, 32, 3), one[::8]])
    wanted = taps[:, :40:8].reshape(-1, 544), one_taps["one_image_taps"][::8]
    result = datasets.image_features(x, cache=False)
    assert len(x) > 1000 and result.x.dtype == np.float32
    assert result.kind == ("lite0-taps-64px", 544)
    # The reference is stored in half precision.
    wanted = np.concatenate(wanted)
    np.testing.assert_allclose(result.x, wanted, atol=1e-2, rtol=2**-11)


@pytest.mark.parametrize(
    ("size", "stride", "length"), [(3, 1, 5), (3, 2, 7), (5, 2, 8)]
)
def test_depthwise_convolutions_against_those_of_xla(size, stride, length):
    x = jnp.asarray(RNG.normal(size=(2, length, length + 1, 4)), jnp.float32)
    weight = jnp.asarray(RNG.normal(size=(size, size, 1, 4)), jnp.float32)
    layer = lite0.Layer(weight, jnp.arange(4.0))
    wanted = jax.lax.conv_general_dilated(
        x, weight, (stride, stride), "SAME", feature_group_count=4,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    given = jax.jit(lite0.depthwise, static_argnums=2)(layer, x, stride)
    np.testing.assert_allclose(given, wanted + jnp.arange(4.0), atol=1e-5)


@pytest.mark.parametrize("side", [8, 20, 24, 33, 64])
def test_resizing_against_pillow(side):
    image = pytest.importorskip("PIL.Image")
    # Sharp edges overshoot, and levels halfway between two are common.
    x = np.where(RNG.random(SOME.shape) < 0.5, SOME, SOME // 128 * 255).astype(np.uint8)
    how = image.Resampling.BICUBIC
    wanted = [np.asarray(image.fromarray(i).resize((side, side), how)) for i in x]
    np.testing.assert_array_equal(resize_bicubic(x, side), wanted)
    np.testing.assert_array_equal(resize_bicubic(x[:, :, :, :1], side)[..., 0],
                                  np.stack(wanted)[..., 0])  # fmt: skip


def histograms_by_loops(image):
    """Dalal and Triggs (2005) as scikit-image has it, pixel by pixel."""
    side, hist = len(image), np.zeros((len(image) // 8, len(image) // 8, 9))
    for i in range(side):
        for j in range(side):
            best = (-1.0, 0.0, 0.0)
            for colour in image.transpose(2, 0, 1):
                gy = colour[i + 1, j] - colour[i - 1, j] if 0 < i < side - 1 else 0
                gx = colour[i, j + 1] - colour[i, j - 1] if 0 < j < side - 1 else 0
                best = max(best, (np.hypot(gy, gx), gy, gx), key=lambda t: t[0])
            degrees = np.rad2deg(np.arctan2(best[1], best[2])) % 180
            hist[i // 8, j // 8, int(degrees // 20) % 9] += best[0] / 64
    blocks = []
    for i in range(len(hist) - 1):
        for j in range(len(hist) - 1):
            block = hist[i : i + 2, j : j + 2].ravel()
            block = np.minimum(block / np.sqrt(block @ block + 1e-10), 0.2)
            blocks.append(block / np.sqrt(block @ block + 1e-10))
    return np.concatenate(blocks)


def test_histograms_of_gradients_against_loops():
    x = RNG.uniform(0, 255, (2, 24, 24, 3)).astype(np.float32)
    given = hog.hog_colour(x)
    assert given.shape == (2, hog.width(24))
    for image, values in zip(x, given, strict=True):
        wanted = histograms_by_loops(image / 255)
        np.testing.assert_allclose(values[: len(wanted)], wanted, atol=1e-4)
    corner = x[1, 8:16, :8, 1] / 255
    colours = given[1, len(wanted) :].reshape(3, 3, 6)[1, 0]
    np.testing.assert_allclose(colours[[1, 4]], [corner.mean(), corner.std()], 1e-5)


def test_a_linear_classifier_of_histograms(shared):
    linear = pytest.importorskip("sklearn.linear_model")
    images = npz.read_npz(shared / "data/images_cifar10_5000.npz")
    x = datasets.image_features(images["x"], datasets.hog_extractor(), cache=False).x
    x = (x - x[:4000].mean(0)) / x[:4000].std(0)
    model = linear.LogisticRegression(C=0.01).fit(x[:4000], images["y"][:4000])
    assert model.score(x[4000:], images["y"][4000:]) > 0.55


def test_an_image_has_its_features_whatever_the_others_are():
    extractor = datasets.hog_extractor(16)
    whole = datasets.image_features(SOME, extractor, cache=False)
    assert np.unique(whole.x, axis=0).shape == (5, extractor.kind.width)
    alone = datasets.image_features(SOME[3:4], extractor, cache=False).x
    np.testing.assert_array_equal(alone[0], whole.x[3])


def test_an_untrained_network_is_a_kind_of_its_own_for_each_seed():
    x = np.tile(SOME, (13, 1, 1, 1))[:64]  # a size that is compiled already
    zero, one = (
        datasets.image_features(x, datasets.untrained_extractor(seed=s), cache=False)
        for s in (0, 1)
    )
    assert zero.kind != one.kind and not np.allclose(zero.x, one.x)
    assert (zero.x[:5].std(0) > 1e-3).mean() > 0.9


def test_bytes_floats_and_grey_images():
    extractor = datasets.hog_extractor()
    whole = datasets.image_features(SOME, extractor).x
    for same in (SOME.astype(float), SOME.astype(np.int64), SOME / np.float32(255)):
        x = datasets.image_features(same, extractor).x
        np.testing.assert_allclose(x, whole, atol=1e-5)
    grey = SOME[..., :1]
    wanted = datasets.image_features(np.repeat(grey, 3, -1), extractor).x
    for same in (grey, grey[..., 0]):
        np.testing.assert_array_equal(
            datasets.image_features(same, extractor).x, wanted
        )
    dot = datasets.image_features(np.zeros((1, 1, 1, 1)), extractor)
    assert not dot.x.any()


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((0, 8, 8, 3)), "at least one"),
        (np.zeros((8, 8)), "found (8, 8)"),
        (np.zeros((2, 8, 8, 4)), "with 1 or 3 channels"),
        (np.zeros((2, 8, 8, 3), bool), "bool"),
        (np.full((2, 8, 8, 3), "a"), "<U1"),
        (np.full((2, 8, 8, 3), [[[[np.nan]]], [[[1]]]]), "1 of 2 images"),
        (np.array([[[[0.0]]], [[[-1]]]]), "from 0 to 255, found -1 to 0"),
        (np.array([[[[256]]]]), "found 256 to 256"),
    ],
)
def test_bad_images_are_refused(images, says):
    message = refused(images)
    assert says in message and "\n" not in message


@pytest.mark.parametrize("side", [0, 31, 64.0, True])
def test_bad_sizes_are_refused(side):
    for extractor in (datasets.lite0_extractor, datasets.hog_extractor):
        with pytest.raises(ValueError, match="side must be"):
            extractor(side)


def counting(name):
    """An extractor of 3 numbers, and the list of the blocks that it was given."""
    blocks = []

    def compute(x):
        blocks.append(x)
        return x.mean((1, 2))

    return features.Extractor(datasets.FeatureKind(name, 3), 16, compute), blocks


def test_features_are_kept_by_images_and_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path))
    first, blocks = counting("first")
    x = datasets.image_features(SOME, first).x
    np.testing.assert_array_equal(datasets.image_features(SOME, first).x, x)
    assert len(blocks) == 1 and len(list(tmp_path.iterdir())) == 1
    second, others = counting("second")
    datasets.image_features(SOME, second)
    assert len(others) == 1
    # The same bytes as images of another form.
    turned = datasets.image_features(SOME.reshape(5, 20, 24, 3), first).x
    assert len(blocks) == 2 and not np.allclose(turned, x)
    (path,) = tmp_path.glob("features-second*")
    path.write_bytes(b"damaged")
    datasets.image_features(SOME, second)
    datasets.image_features(SOME, second)
    assert len(others) == 2


def test_many_images_are_computed_in_blocks_of_one_size():
    extractor, blocks = counting("blocks")
    x = RNG.integers(0, 256, (130, 16, 16, 1)).astype(np.uint8)
    given = datasets.image_features(x, extractor, cache=False).x
    assert {len(block) for block in blocks} == {64} and len(blocks) == 3
    np.testing.assert_allclose(given[:, 0], x.mean((1, 2))[:, 0], rtol=1e-5)


def test_a_model_refuses_features_of_another_kind():
    first, second = counting("first")[0], counting("second")[0]
    given = datasets.image_features(SOME, first, cache=False)
    assert require_kind(given, first.kind) is given.x
    with pytest.raises(ValueError, match="'second' of width 3, not 'first' of width 3"):
        require_kind(given, second.kind)
    with pytest.raises(ValueError, match="'first' of width 4, not 'first' of width 3"):
        require_kind(given, first.kind._replace(width=4))


def test_without_weights_histograms_are_the_default(monkeypatch):
    monkeypatch.setattr(lite0, "PACKAGE", "no-such-package")
    assert datasets.image_features(SOME, cache=False).kind.name == "hog-colour-32px"
    with pytest.raises(ValueError, match="needs the package no-such-package: install"):
        datasets.lite0_extractor()


def test_damaged_weights_are_refused(tmp_path, installed):
    raw = bytearray(lite0.weights_path().read_bytes())
    raw[-1000] ^= 1  # within the numbers
    path = tmp_path / "weights.pth"
    path.write_bytes(raw)
    for change in (None, raw[: len(raw) // 2], b"", b"no weights"):
        if change is not None:
            path.write_bytes(change)
        with pytest.raises(ValueError) as caught:
            lite0.read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="missing"):
        lite0.read(tmp_path / "missing")


def test_untrained_networks_have_the_sizes_of_the_trained_one(installed):
    shapes = [
        jax.tree.map(jnp.shape, network)
        for network in (lite0.pretrained(), lite0.random_weights(0))
    ]
    assert shapes[0] == shapes[1]


def test_the_report_compares_kinds_of_features(tmp_path):
    pytest.importorskip("sklearn")
    out, kinds = str(tmp_path / "out"), ("pixels", "hog")
    config = feature_report.Config(data="digits", kinds=kinds, max_images=300, out=out)
    pixels, histograms = feature_report.main(config)
    assert (pixels.kind.name, histograms.kind.width) == ("pixels-16px", 420)
    assert min(pixels.accuracy, histograms.accuracy) > 75
    lines = (tmp_path / "out/table.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[2].startswith("hog-colour-32px,420,")
    # The table of another driver stays as it is.
    run_folder.open_or_create(tmp_path / "other", {"driver": "table_report"})
    with pytest.raises(ValueError, match="made by table_report, not feature_report"):
        feature_report.main(dataclasses.replace(config, out=str(tmp_path / "other")))
    with pytest.raises(ValueError, match="no features sift: choose from lite0"):
        feature_report.main(feature_report.Config(kinds=("sift",)))
    few = dataclasses.replace(config, max_images=20, out=str(tmp_path / "few"))
    with pytest.raises(ValueError, match="class 0 has .*--max-images 20"):
        feature_report.main(few)
