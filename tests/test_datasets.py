"""Images from every source, what is done with them, and files that are not right."""

import gzip
import pickle
import struct

import numpy as np
import pytest
from helpers import refused

from jaxnas import datasets
from jaxnas.datasets import Images, opened
from jaxnas.io import cifar


@pytest.fixture
def small():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (40, 4, 4, 3)).astype(np.float32)
    return Images(x, np.repeat(np.arange(4), [4, 8, 12, 16]).astype(np.int32), 4, "s")


# --- sources --------------------------------------------------------------------------


def test_digits():
    pytest.importorskip("sklearn")
    images = datasets.digits()
    assert images.x.shape == (1797, 8, 8, 1) and images.num_classes == 10
    assert (images.x.min(), images.x.max()) == (0, 255)


def test_npz_of_bytes_and_of_floats(tmp_path, small):
    path = tmp_path / "toy.npz"
    np.savez(path, x=small.x.astype(np.uint8), y=small.y.astype(np.uint8))
    images = datasets.from_npz(path)
    np.testing.assert_array_equal(images.x, small.x.astype(np.uint8))
    assert (images.name, images.num_classes, images.x.dtype) == ("toy", 4, np.float32)
    np.savez(path, x=small.x[..., 0], y=small.y)
    assert datasets.from_npz(path, name="grey").x.shape == (40, 4, 4, 1)
    np.savez(path, x=small.x, y=2 * small.y)
    assert "2 of 7 classes" not in refused(datasets.from_npz, path)
    assert "3 of 7 classes have no image; the first is 1" in refused(
        datasets.from_npz, path
    )
    assert datasets.from_npz(path, classes=7).num_classes == 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": np.zeros((3, 4), np.uint8)}, "wanted x (n, h, w, c)"),
        ({"x": np.zeros((40, 4, 4, 3), "S1")}, "of bytes or floats"),
        ({"x": np.zeros((0, 4, 4, 3), np.uint8)}, "wanted images"),
        ({"y": np.zeros(39, int)}, "wanted 40 labels y, one for each image, not 39"),
        ({"y": np.zeros(40)}, "wanted y (n,) of integers"),
        ({"y": np.zeros(40, int)}, "wanted at least 2 classes, found 1"),
        ({"y": np.full(40, -1)}, "wanted classes from 0, found -1 to -1"),
        ({"x": np.full((40, 4, 4, 3), np.nan, np.float32)}, "40 of 40 images"),
    ],
)
def test_npz_files_that_are_not_right(tmp_path, small, change, says):
    path = tmp_path / "bad.npz"
    np.savez(path, **({"x": small.x, "y": small.y} | change))
    message = refused(datasets.from_npz, path)
    assert says in message and message.startswith(f"{path}: ")


def test_a_folder_of_class_folders(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (2, 3, 6, 5, 3)).astype(np.uint8)
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for i in range(3):
            image.fromarray(pixels[label, i]).save(tmp_path / name / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not a class")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "bee" / "list.csv").write_text("not an image")
    images = datasets.from_folder(tmp_path)
    np.testing.assert_array_equal(images.x, pixels.reshape(6, 6, 5, 3))
    assert images.y.tolist() == [0, 0, 0, 1, 1, 1] and images.name == tmp_path.name

    image.fromarray(pixels[0, 0, :4, :, 0]).save(tmp_path / "bee" / "grey.jpg")
    assert "grey.jpg is 4 x 5 and the first image 6 x 5" in refused(
        datasets.from_folder, tmp_path
    )
    assert datasets.from_folder(tmp_path, size=(8, 7)).x.shape == (7, 8, 7, 3)
    whole = (tmp_path / "ant" / "0.png").read_bytes()
    for damaged in (b"", b"GIF89a", whole[:40], whole[:-30]):
        (tmp_path / "ant" / "1.png").write_bytes(damaged)
        assert "1.png" in refused(datasets.from_folder, tmp_path)


def save_parts(root, parts, side=6):
    """Saves random pictures as PART/CLASS/NUMBER.png; `parts` has classes of each part.

    Returns: (k, side, side, 3) pixels of each part, by class and number.
    """
    image = pytest.importorskip("PIL.Image")
    rng, saved = np.random.default_rng(2), {}
    for part, classes in parts.items():
        saved[part] = rng.integers(0, 256, (2 * len(classes), side, side, 3))
        for i, pixels in enumerate(saved[part].astype(np.uint8)):
            folder = root / part / classes[i // 2]
            folder.mkdir(parents=True, exist_ok=True)
            image.fromarray(pixels).save(folder / f"{i}.png")
    return saved


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_a_folder_of_parts_has_test_images(tmp_path, test):
    saved = save_parts(
        tmp_path, {"train": ("ant", "bee", "fly"), test: ("ant", "bee", "fly")}
    )
    (tmp_path / ".cache").mkdir()
    (tmp_path / "notes.txt").write_text("not a part")
    train, tests = opened.open_images(str(tmp_path))
    for images, part in ((train, "train"), (tests, test)):
        np.testing.assert_array_equal(images.x, saved[part])
        assert images.y.tolist() == [0, 0, 1, 1, 2, 2]
        assert images.class_names == ("ant", "bee", "fly")
        assert images.name == tmp_path.name


def test_validation_images_join_those_for_training_where_there_are_tests(tmp_path):
    names = ("ant", "bee")
    saved = save_parts(tmp_path, dict.fromkeys(("test", "train", "val"), names))
    train, tests = opened.open_images(str(tmp_path))
    np.testing.assert_array_equal(train.x, [*saved["train"], *saved["val"]])
    assert train.y.tolist() == [0, 0, 1, 1] * 2
    np.testing.assert_array_equal(tests.x, saved["test"])

    save_parts(tmp_path, {"val": names}, side=5)
    message = refused(opened.open_images, str(tmp_path))
    assert message.endswith("val has images of 5 x 5, and train of 6 x 6: give a size")
    assert opened.open_images(str(tmp_path), size=8)[0].x.shape == (8, 8, 8, 3)


def test_parts_with_other_classes_are_told(tmp_path):
    save_parts(tmp_path, {"train": ("ant", "bee", "cat"), "test": ("ant", "dog")})
    assert refused(opened.open_images, str(tmp_path)) == (
        f"{tmp_path}: test and train must have the same classes: only train has bee, cat; "
        "only test has dog"
    )


def test_a_part_without_classes_is_told(tmp_path):
    save_parts(tmp_path, {"train": ("ant", "bee"), "test": (".",)})
    assert refused(opened.open_images, str(tmp_path)) == (
        f"{tmp_path}/test has no class folders, but {tmp_path}/train has"
    )


def test_classes_may_be_called_like_parts(tmp_path):
    save_parts(tmp_path, {".": ("train", "test")})
    images, tests = opened.open_images(str(tmp_path))
    assert images.class_names == ("test", "train") and tests is None
    save_parts(tmp_path, {"": ("bus",), "train": ("old",)})
    assert opened.open_images(str(tmp_path))[0].class_names == ("bus", "test", "train")


def test_unknown_images_are_answered_with_all_sources():
    message = refused(opened.open_images, "nosuch")
    assert message.startswith("no such file or folder 'nosuch': wanted fashion-mnist")
    assert opened.HELP in message


def test_folders_without_class_folders_and_single_pictures(tmp_path):
    path = tmp_path / "one.png"
    for name, what in ((tmp_path, "a folder without class"), (path, "one picture")):
        message = refused(opened.open_images, str(name))
        assert message.startswith(f"{str(name)!r} is {what}")
        assert "wanted a folder with a subfolder of images for each class" in message
        path.write_bytes(b"x")  # in the folder too
    assert "one picture" not in refused(opened.open_images, str(tmp_path))


def test_images_that_are_all_the_same_name_their_file(tmp_path, small):
    path = tmp_path / "same.npz"
    x = np.repeat(small.x[:1], len(small.x), 0)
    np.savez(path, x=x, y=small.y)
    assert refused(opened.open_images, str(path)).startswith(f"{path}: all 40 images")


def test_folders_that_are_not_right(tmp_path):
    assert "no such folder" in refused(datasets.from_folder, tmp_path / "none")
    assert "found 0" in refused(datasets.from_folder, tmp_path)
    (tmp_path / "a").mkdir()
    assert "found 1" in refused(datasets.from_folder, tmp_path)
    (tmp_path / "b").mkdir()
    assert "a has no image" in refused(datasets.from_folder, tmp_path)


def test_class_folders_are_in_natural_order(tmp_path):
    from PIL import Image

    names = ["class10", "class2", "class1", "b", "a3c20", "a3c4", "7"]
    for level, name in enumerate(names):
        (tmp_path / name).mkdir()
        pixels = np.full((4, 4, 3), level, np.uint8)
        pixels[0, 0] = 200
        Image.fromarray(pixels).save(tmp_path / name / "only.png")
    images = datasets.from_folder(tmp_path)
    order = ("7", "a3c4", "a3c20", "b", "class1", "class2", "class10")
    assert images.class_names == order and images.num_classes == 7
    assert images.y.tolist() == list(range(7))
    levels = [names.index(name) for name in order]
    assert images.x[:, 1, 1, 0].tolist() == levels
    parts = datasets.split(images._replace(y=images.y * 0), (0.5, 0.5), seed=0)
    assert all(part.class_names == order for part in parts)


def test_classes_without_names_have_their_numbers(small):
    assert small.class_names == ()
    images = datasets.validate_images(small)
    assert images.class_names == ("0", "1", "2", "3")
    named = small._replace(class_names=("a", "b"))
    assert "2 class names for 4 classes" in refused(datasets.validate_images, named)


# --- CIFAR ----------------------------------------------------------------------------


def of_python_2(data, labels, key=b"labels"):
    """The bytes that Python 2 and the NumPy of its time wrote for such a batch."""
    text = lambda s: b"U" + bytes([len(s)]) + s  # noqa: E731
    shape = b"".join(b"M" + struct.pack("<H", size) for size in data.shape)
    raw = data.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
    array += text(b"b") + b"\x87R(K\x01" + shape + b"\x86cnumpy\ndtype\n"
    array += text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN"
    array += b"J\xff\xff\xff\xff" * 2 + b"K\x00tb\x89"
    array += b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(key) + numbers + b"u."


@pytest.fixture
def batches():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (3, 4, 32, 32, 3)).astype(np.uint8)
    return x, rng.integers(0, 10, (3, 4))


def flat(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)).reshape(-1, 3072)


def test_cifar_batches_of_python_2_and_3(tmp_path, batches):
    x, y = batches
    first = of_python_2(flat(x[0]), y[0].tolist())
    with_python = pickle.loads(first, encoding="bytes")
    np.testing.assert_array_equal(with_python[b"data"], flat(x[0]))
    assert with_python[b"labels"] == y[0].tolist()
    second = {"data": flat(x[1]), "labels": y[1].tolist()}
    (tmp_path / "data_batch_1").write_bytes(first)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(second, 2))
    (tmp_path / "test_batch").write_bytes(of_python_2(flat(x[2]), y[2].tolist()))
    train, test = (datasets.from_cifar(tmp_path, train=t) for t in (True, False))
    np.testing.assert_array_equal(train.x, x[:2].reshape(8, 32, 32, 3))
    assert train.y.tolist() == y[:2].ravel().tolist()
    np.testing.assert_array_equal(test.x, x[2])
    assert (train.name, train.num_classes) == ("cifar10", 10)
    hundred = of_python_2(flat(x[0]), [99, 0, 1, 2], b"fine_labels")
    (tmp_path / "train").write_bytes(hundred)
    assert datasets.from_cifar(tmp_path / "train").num_classes == 100
    assert "of CIFAR-10 and of CIFAR-100" in refused(datasets.from_cifar, tmp_path)


def test_whole_batches_of_cifar(tmp_path):
    # The pixels are one string of bytes, or one text as Python 3 writes protocol 2.
    rng = np.random.default_rng(3)
    data = np.frombuffer(rng.bytes(10_000 * 3072), np.uint8).reshape(-1, 3072)
    labels = rng.integers(0, 10, 10_000).tolist()
    content = {"data": data, "labels": labels}
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(of_python_2(data, labels))
    (folder / "test_batch").write_bytes(pickle.dumps(content, 4))
    train, test = opened.open_images(str(folder))
    assert train.y.tolist() == test.y.tolist() == labels
    assert np.array_equal(flat(train.x), data) and np.array_equal(train.x, test.x)
    (tmp_path / "train").write_bytes(pickle.dumps(content, 2))
    x, y, _ = cifar.read_batch(tmp_path / "train")
    assert np.array_equal(flat(x), data) and y.tolist() == labels


def test_cifar_names_its_classes(tmp_path, batches):
    x, y = batches
    (tmp_path / "data_batch_1").write_bytes(of_python_2(flat(x[0]), y[0].tolist()))
    digits = tuple(map(str, range(10)))
    assert datasets.from_cifar(tmp_path).class_names == digits
    names = [f"kind {label}" for label in range(10)]
    meta = tmp_path / "batches.meta"
    # Python 2 wrote both keys and names as bytes.
    written = {b"label_names": [name.encode() for name in names]}
    meta.write_bytes(pickle.dumps(written, 2))
    assert datasets.from_cifar(tmp_path).class_names == tuple(names)
    alone = datasets.from_cifar(tmp_path / "data_batch_1")
    assert alone.class_names == tuple(names)
    for wrong in ({"label_names": names[:9]}, {"label_names": [1] * 10}, {}, [1]):
        meta.write_bytes(pickle.dumps(wrong, 2))
        assert "no class names of CIFAR" in refused(datasets.from_cifar, tmp_path)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_cifar_files_that_are_not_right(tmp_path, batches, capsys):
    x, y = batches
    good, labels = flat(x[0]), y[0].tolist()
    path = tmp_path / "data_batch_1"
    assert "no batch of CIFAR" in refused(datasets.from_cifar, tmp_path)
    assert "cannot read" in refused(datasets.from_cifar, path)
    for content in (
        b"",
        of_python_2(good, labels)[:5000],
        of_python_2(good[:, :3000], labels),
        of_python_2(good, labels[:3]),
        of_python_2(good, [10, *labels[1:]]),
        of_python_2(good.view(np.int8), labels).replace(b"u1", b"i1"),
        of_python_2(good, labels, b"names"),
        of_python_2(good, labels).replace(b"M\x04\x00", b"M\x05\x00"),
        pickle.dumps([1, 2], 2),
        pickle.dumps({"data": Evil(), "labels": labels}, 2),
        pickle.dumps({"data": good.tolist(), "labels": labels}, 2),
        pickle.dumps({"data": good.astype(object), "labels": labels}, 2),
    ):
        path.write_bytes(content)
        assert "not a batch of CIFAR" in refused(datasets.from_cifar, path)
    assert capsys.readouterr().out == ""


# --- what is done with them -----------------------------------------------------------


def test_known_constants_go_by_name_and_others_are_computed(small):
    mean, std = datasets.normalisation_constants(small._replace(name="cifar10"))
    assert mean.tolist() == pytest.approx([125.3, 123.0, 113.9])
    shares = small._replace(x=small.x / small.x.max(), name="cifar10")
    np.testing.assert_allclose(datasets.normalisation_constants(shares)[0], mean / 255)
    np.testing.assert_allclose(datasets.normalisation_constants(shares)[1], std / 255)
    normal = datasets.normalise(small)
    np.testing.assert_allclose(normal.x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normal.x.std((0, 1, 2)), 1, atol=1e-5)
    flat_channel = small._replace(x=small.x * np.float32([1, 0, 1]))
    assert not datasets.normalise(flat_channel).x[..., 1].any()
    own = datasets.normalise(small, (1, 2, 3), (1, 1, 2)).x
    np.testing.assert_allclose(own, (small.x - [1, 2, 3]) / [1, 1, 2], rtol=1e-5)
    assert "(3,)" in refused(datasets.normalise, small, (1, 2), (1, 1))
    assert "positive" in refused(datasets.normalise, small, std=(1, 0, 1))
    grey = small._replace(x=small.x[..., :1], name="cifar10")
    assert "3 channels" in refused(datasets.normalisation_constants, grey)


def test_batches_of_a_seed_are_fixed_and_disjoint(small):
    numbered = small._replace(x=small.x * 0 + np.arange(40.0)[:, None, None, None])
    parts = [datasets.batch(numbered, 10, seed=3, number=i) for i in range(4)]
    seen = np.concatenate([x[:, 0, 0, 0] for x, _ in parts]).astype(int)
    assert sorted(seen) == list(range(40)) and seen.tolist() != sorted(seen)
    np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), small.y[seen])
    again, _ = datasets.batch(numbered, 10, seed=3, number=2)
    np.testing.assert_array_equal(again, parts[2][0])
    assert not np.array_equal(datasets.batch(numbered, 10, seed=4)[0], parts[0][0])
    message = refused(datasets.batch, small, 10, seed=0, number=4)
    assert "has 40 images, too few for 5 batches of 10" in message
    message = refused(datasets.batch, small, 41, seed=0)
    assert "has 40 images, too few for a batch of 41" in message
    assert "size must be at least 1, not 0" in refused(datasets.batch, small, 0, seed=0)
    wrong = refused(datasets.batch, small, 1, seed=0, number=-1)
    assert "number must be at least 0, not -1" in wrong


def test_splits_keep_the_classes(small):
    numbered = small._replace(x=small.x * 0 + np.arange(40.0)[:, None, None, None])
    parts = datasets.split(numbered, (0.5, 0.25, 0.25), seed=0)
    assert [np.bincount(p.y).tolist() for p in parts] == [
        [2, 4, 6, 8], [1, 2, 3, 4], [1, 2, 3, 4],
    ]  # fmt: skip
    rows = np.concatenate([p.x[:, 0, 0, 0] for p in parts]).astype(int)
    assert sorted(rows) == list(range(40))
    for part in parts:
        np.testing.assert_array_equal(part.y, small.y[part.x[:, 0, 0, 0].astype(int)])
    (some,) = datasets.split(numbered, (0.5,), seed=0)
    np.testing.assert_array_equal(some.x, parts[0].x)
    assert "class 0 has 4 images, too few for parts of 0.9, 0.1" in refused(
        datasets.split, small, (0.9, 0.1), seed=0
    )
    one = small._replace(x=small.x[3:], y=small.y[3:], class_names=("cat", *"bcd"))
    assert "class 'cat' has 1 image, too few" in refused(
        datasets.split, one, (0.5, 0.5), seed=0
    )
    for wrong in ((), (0.5, 0.6), (1.0, 0.0)):
        assert "fractions" in refused(datasets.split, small, wrong, seed=0)


# --- idx files --------------------------------------------------------------------------


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, num in (("train", 9), ("t10k", 6)):
        x, y = rng.integers(0, 256, (num, 5, 4)), np.arange(num) % 3
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(x))
        packed = gzip.compress(idx(y), mtime=0)
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(packed)
    return tmp_path


def test_idx_files_plain_and_compressed(idx_folder, monkeypatch):
    train = datasets.from_idx(idx_folder)
    test = datasets.from_idx(idx_folder, train=False)
    assert train.x.shape == (9, 5, 4, 1) and test.x.shape == (6, 5, 4, 1)
    wanted = np.random.default_rng(0).integers(0, 256, (9, 5, 4))
    np.testing.assert_array_equal(train.x[..., 0], wanted)
    assert train.y.tolist() == [0, 1, 2] * 3 and train.num_classes == 3
    monkeypatch.setenv("JAXNAS_FASHION_MNIST", str(idx_folder))
    fashion = datasets.fashion_mnist(train=False)
    assert fashion.name == "fashion-mnist"
    assert fashion.class_names == ("T-shirt/top", "Trouser", "Pullover")
    assert train.class_names == ("0", "1", "2")
    monkeypatch.setenv("JAXNAS_FASHION_MNIST", str(idx_folder / "none"))
    assert "dataset-fashion-mnist" in refused(datasets.fashion_mnist)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file"),
        (idx(np.zeros((9, 5))), "not an idx file of bytes with 3 axes"),
        (idx(np.zeros((9, 5, 4)))[:-1], "claims"),
        (idx(np.zeros((8, 5, 4))), "8 images of train and 9 labels"),
        (gzip.compress(idx(np.zeros((9, 5, 4))), mtime=0)[:-9], "damaged"),
        (struct.pack(">4I", 0x803, 2**31, 2**31, 2**31), "claims"),
    ],
    ids=["empty", "two axes", "cut short", "too few", "gzip cut short", "too large"],
)
def test_idx_files_that_are_not_right(idx_folder, content, message):
    (idx_folder / "train-images-idx3-ubyte").write_bytes(content)
    assert message in refused(datasets.from_idx, idx_folder)
    (idx_folder / "train-images-idx3-ubyte").unlink()
    assert "has no train-images" in refused(datasets.from_idx, idx_folder)


def test_scaled_images_are_means_of_pixels(small):
    half = datasets.resize(small, 2).x
    blocks = small.x.reshape(40, 2, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(half, blocks, 1e-5)
    np.testing.assert_allclose(datasets.resize(small, 4).x, small.x, 1e-6)
    twice = datasets.resize(small, 8).x
    np.testing.assert_allclose(twice, small.x.repeat(2, 1).repeat(2, 2), 1e-5)
    # 4 pixels to 3: each new one has one old and a third of the next.
    row = datasets.resize(small, 3).x[0, 0, 0, 0]
    old = small.x[0, :2, :2, 0]
    weights = np.array([0.75, 0.25])
    np.testing.assert_allclose(row, weights @ old @ weights, 1e-5)
    assert "at least 1 pixel" in refused(datasets.resize, small, 0)


@pytest.mark.parametrize(
    ("file", "shape", "classes"),
    [
        ("images_cifar10_5000", (5000, 32, 32, 3), 10),
        ("images_flowers5_3000", (3000, 32, 32, 3), 5),
        ("images_flowers17_16px_1360", (1360, 16, 16, 3), 17),
    ],
)
def test_the_reference_images(shared, file, shape, classes):
    name = "cifar10" if "cifar" in file else None
    images = datasets.from_npz(shared / "data" / f"{file}.npz", name=name)
    assert (images.x.shape, images.num_classes) == (shape, classes)
    normal = datasets.normalise(images)
    assert np.abs(normal.x.mean()) < 0.05 and 0.9 < normal.x.std() < 1.1
