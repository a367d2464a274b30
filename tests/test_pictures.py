"""Pictures arrive as a viewer shows them, or are refused by name."""

import contextlib
import os
import signal
import struct
import zlib

import numpy as np
import pytest
from helpers import refused

from experiments import zero_cost_score
from jaxnas import datasets
from jaxnas.datasets import Images, pictures
from jaxnas.datasets import opened as image_sources

Image = pytest.importorskip("PIL.Image")


def over_white(colours, alpha):
    """Of 255, as real numbers; alpha (h, w)."""
    share = np.asarray(alpha, float)[..., None] / 255
    return colours * share + 255 * (1 - share)


# --- PNG, written by hand: every colour type, depth and transparent colour ---------------

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
KINDS = [
    (kind, depth, key)
    for kind, depths in DEPTHS.items()
    for depth in depths
    for key in ((False, True) if kind < 4 else (False,))
    if (kind, depth, key) != (2, 16, True)
]


def chunk(name, data):
    return b"".join(
        [struct.pack(">I", len(data)), name, data]
        + [struct.pack(">I", zlib.crc32(name + data))]
    )


def png(samples, kind, depth, *extra):
    """A file of samples (h, w, channels) of `depth` bits."""
    height, width, _ = samples.shape
    bits = samples.reshape(height, -1, 1) >> np.arange(depth)[::-1] & 1
    rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    packed = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(packed))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, chunk(b"IEND", b"")])


def example(kind, depth, with_key):
    """A file and the colours that a viewer shows, by the definition of PNG."""
    rng = np.random.default_rng(17 * kind + depth)
    samples = rng.integers(0, 2**depth, (6, 5, CHANNELS[kind]))
    extra, alpha = [], np.full((6, 5), 255.0)
    if kind == 3:
        palette = rng.integers(0, 256, (2**depth, 3))
        extra.append(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
        colours = palette[samples[..., 0]].astype(float)
        if with_key:
            of_entry = np.array([0, 100])  # entries behind these are opaque
            extra.append(chunk(b"tRNS", of_entry.astype(np.uint8).tobytes()))
            padded = np.pad(of_entry, (0, 2**depth - 2), constant_values=255)
            alpha = padded[samples[..., 0]]
    else:
        scaled = samples * 255 / (2**depth - 1)
        colours = np.broadcast_to(scaled[..., : (kind & 2) + 1], (6, 5, 3))
        if kind >= 4:
            alpha = scaled[..., -1]
        elif with_key:
            key = samples[2, 3]
            extra.append(chunk(b"tRNS", key.astype(">u2").tobytes()))
            alpha = np.where((samples == key).all(-1), 0, 255)
    return png(samples, kind, depth, *extra), over_white(colours, alpha)


@pytest.mark.parametrize(("kind", "depth", "key"), KINDS)
def test_png_of_every_kind(tmp_path, kind, depth, key):
    content, wanted = example(kind, depth, key)
    (tmp_path / "x.png").write_bytes(content)
    found = pictures.read(tmp_path / "x.png")
    assert found.dtype == np.uint8 and found.shape == (6, 5, 3)
    # Pillow cuts colours and alpha of 16 bits to the upper 8.
    loss = 0.501 if depth < 16 or kind == 0 else 2
    np.testing.assert_allclose(found, wanted, atol=loss)


def test_16_bit_pngs_are_scaled_and_a_transparent_colour_of_them_is_refused(tmp_path):
    content, _ = example(2, 16, True)
    (tmp_path / "x.png").write_bytes(content)
    message = refused(pictures.read, tmp_path / "x.png")
    assert "x.png" in message and "transparent colour of 16 bits" in message
    levels = np.arange(0, 65536, 257).reshape(16, 16)
    (tmp_path / "x.png").write_bytes(png(levels[..., None], 0, 16))
    found = pictures.read(tmp_path / "x.png")
    np.testing.assert_array_equal(found[..., 1].ravel(), np.arange(256))


def test_pixels_of_8_bit_grey_and_colours_are_those_of_the_file(tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((7, 5), (7, 5, 3)):
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "x.png")
        wanted = np.broadcast_to(pixels.reshape(7, 5, -1), (7, 5, 3))
        np.testing.assert_array_equal(pictures.read(tmp_path / "x.png"), wanted)
        resized = Image.fromarray(np.ascontiguousarray(wanted)).resize((4, 3), 2)
        found = pictures.read(tmp_path / "x.png", (3, 4))
        np.testing.assert_array_equal(found, np.asarray(resized))


# --- every mode of Pillow ---------------------------------------------------------------

COLOURS = np.random.default_rng(3).integers(0, 256, (6, 5, 3)).astype(np.uint8)
ALPHA = np.random.default_rng(4).integers(0, 256, (6, 5)).astype(np.uint8)
ALPHA[0] = 0


def opened(mode):
    """An image of this mode and what a viewer shows of it."""
    rgb = Image.fromarray(COLOURS)
    rgba = Image.fromarray(np.dstack([COLOURS, ALPHA]))
    grey = np.asarray(rgb.convert("L"))
    if mode in ("RGBA", "RGBa"):
        return rgba.convert(mode), over_white(COLOURS, ALPHA)
    if mode in ("LA", "La"):
        image = Image.fromarray(np.dstack([grey, ALPHA]), "LA")
        return image.convert(mode), over_white(grey[..., None].repeat(3, -1), ALPHA)
    if mode in ("P", "PA"):
        image = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(6, 5), "P")
        image.putpalette(COLOURS.tobytes())
        if mode == "P":
            return image, COLOURS
        image = image.convert("PA")
        image.putalpha(Image.fromarray(ALPHA))
        return image, over_white(COLOURS, ALPHA)
    if mode == "P RGBA":
        image = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(6, 5), "P")
        image.putpalette(np.dstack([COLOURS, ALPHA]).tobytes(), "RGBA")
        return image, over_white(COLOURS, ALPHA)
    if mode.startswith("I;16"):
        kind = ">u2" if mode.endswith("B") else "<u2"
        levels = (grey.astype(int) * 257).astype(kind)
        image = Image.frombytes(mode, (5, 6), levels.tobytes())
        return image, grey[..., None].repeat(3, -1)
    if mode == "1":
        image = Image.fromarray(grey > 128)
        return image, np.where(grey > 128, 255, 0)[..., None].repeat(3, -1)
    if mode == "L":
        return Image.fromarray(grey), grey[..., None].repeat(3, -1)
    return rgb.convert(mode), COLOURS


@pytest.mark.parametrize(
    ("mode", "loss"),
    [("1", 0), ("L", 0), ("LA", 0.5), ("P", 0), ("P RGBA", 0.5), ("PA", 0.5)]
    + [("RGB", 0), ("RGBX", 0), ("RGBA", 0.5), ("RGBa", 2), ("La", 2), ("CMYK", 0)]
    + [("YCbCr", 3), ("HSV", 6), ("LAB", 26), ("I;16", 0), ("I;16L", 0), ("I;16B", 0)],
)  # fmt: skip
def test_every_mode_of_pillow(mode, loss):
    if mode == "LAB":
        pytest.importorskip("PIL.ImageCms")
    image, wanted = opened(mode)
    assert image.mode == mode.split()[0]
    found = pictures.displayed(image)
    assert found.dtype == np.uint8 and found.shape == (6, 5, 3)
    np.testing.assert_allclose(found, wanted, atol=loss + 0.01)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_known_range_are_refused(mode):
    image = Image.new(mode, (5, 6), 70000)
    assert "no known range" in refused(pictures.displayed, image)


def test_colours_under_alpha_0_are_not_seen(tmp_path):
    drawing = np.zeros((8, 8, 4), np.uint8)
    drawing[2:4, :, 3] = 255  # black on a ground that is black, and transparent
    for name in ("x.png", "x.webp"):
        Image.fromarray(drawing).save(tmp_path / name, lossless=True)
        found = pictures.read(tmp_path / name)
        assert (found[2:4] == 0).all() and (found[[0, 1, 4, 5, 6, 7]] == 255).all()
        # Nor where colours of neighbours are mixed.
        assert pictures.read(tmp_path / name, (4, 4)).max() == 255


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpegs_of_every_mode(tmp_path, mode):
    smooth = np.linspace(0, 200, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    image = Image.fromarray(smooth).convert(mode)
    image.save(tmp_path / "x.jpg", quality=100)
    found = pictures.read(tmp_path / "x.jpg").astype(float)
    np.testing.assert_allclose(found, np.asarray(image.convert("RGB")), atol=3)


# --- orientation ------------------------------------------------------------------------


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, suffix, orientation):
    ops = pytest.importorskip("PIL.ImageOps")
    blocks = np.random.default_rng(5).integers(0, 200, (3, 2, 3)).astype(np.uint8)
    path, stored = tmp_path / f"x.{suffix}", blocks.repeat(8, 0).repeat(8, 1)
    options = {"quality": 100, "lossless": True, "exif": exif_of(orientation)}
    Image.fromarray(stored).save(path, **options)
    with Image.open(path) as image:
        wanted = np.asarray(ops.exif_transpose(image).convert("RGB"))
    found = pictures.read(path)
    np.testing.assert_array_equal(found, wanted)
    assert found.shape == ((24, 16, 3) if orientation < 5 else (16, 24, 3))
    # Sides are those of the upright picture.
    assert pictures.read(path, (4, 6)).shape == (4, 6, 3)


def test_photographs_of_one_upright_size_are_one_size(tmp_path):
    pixels = np.random.default_rng(6).integers(0, 256, (2, 12, 8, 3)).astype(np.uint8)
    for name, stored, orientation in (
        ("a", pixels[0], 1), ("b", pixels[1].swapaxes(0, 1)[::-1], 6),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        image = Image.fromarray(np.ascontiguousarray(stored))
        image.save(tmp_path / name / "0.jpg", exif=exif_of(orientation))
    assert datasets.from_folder(tmp_path).x.shape == (2, 12, 8, 3)


@pytest.mark.parametrize(
    "content", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x"]
)
def test_damaged_orientations_leave_a_picture_as_it_is_stored(tmp_path, content):
    pixels = COLOURS.repeat(8, 0).repeat(8, 1)
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=content)
    np.testing.assert_array_equal(pictures.read(tmp_path / "x.png"), pixels)


# --- what is refused ----------------------------------------------------------------------


@contextlib.contextmanager
def within(seconds):
    """Fails what would wait for ever."""

    def fail(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def class_folders(root, pixels):
    for name, images in zip("ab", pixels, strict=True):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"{i}.png")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to nothing"])
def test_what_is_not_a_regular_file_is_refused(tmp_path, kind):
    class_folders(tmp_path, np.stack([COLOURS] * 2)[:, None])
    path = tmp_path / "a" / "x.png"
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "link to nothing": lambda: path.symlink_to(tmp_path / "none"),
    }[kind]()
    with within(20):
        message = refused(datasets.from_folder, tmp_path)
    assert str(path) in message and "not a regular file" in message


def test_a_pipe_in_place_of_a_batch_is_refused(tmp_path):
    os.mkfifo(tmp_path / "data_batch_1")
    with within(20):
        for path in (tmp_path, tmp_path / "data_batch_1"):
            assert "not a regular file" in refused(image_sources.open_images, str(path))


def test_images_without_variation_are_refused(tmp_path):
    white = np.full((4, 6, 5, 3), 255, np.uint8)
    class_folders(tmp_path / "white", white.reshape(2, 2, 6, 5, 3))
    message = refused(datasets.from_folder, tmp_path / "white")
    assert "all 4 images are of one colour, [255.0, 255.0, 255.0]" in message
    class_folders(tmp_path / "same", np.stack([COLOURS] * 4).reshape(2, 2, 6, 5, 3))
    config = zero_cost_score.Config(images=str(tmp_path / "same"), cells=1)
    for function, given in (
        (image_sources.open_images, str(tmp_path / "same")),
        (zero_cost_score.main, config),
    ):
        assert "all 4 images are the same" in refused(function, given)
    np.savez(tmp_path / "x.npz", x=white * 0, y=[0, 0, 1, 1])
    assert "of one colour" in refused(datasets.from_npz, tmp_path / "x.npz")
    # One pixel of one image is enough.
    other = white.astype(np.float32)
    other[3, 5, 4, 2] = 0
    datasets.validate_images(Images(other, np.int32([0, 0, 1, 1]), 2, "x"))
