"""Pools of classes from fonts and folders of packages, on faces and files made here."""

import importlib.util
import struct

import numpy as np
import pytest

from jaxnas.datasets import opened, packaged, rendered

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def faces(monkeypatch):
    """Few characters in the faces of matplotlib alone."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(rendered, "CHARACTERS", "AgД")
    monkeypatch.setattr(rendered, "FONT_PACKAGES", rendered.FONT_PACKAGES[:1])
    monkeypatch.setattr(rendered, "TRAIN", 12)
    monkeypatch.setattr(rendered, "TEST", 9)


@pytest.fixture
def drawn_pictures(monkeypatch):
    """The pictures of which images are made, in their order."""
    pictures, varied = [], rendered._varied

    def record(rng, picture, *rest):
        pictures.append(picture.tobytes())
        return varied(rng, picture, *rest)

    monkeypatch.setattr(rendered, "_varied", record)
    return pictures


def test_no_face_of_a_test_image_is_in_a_training_image(faces, drawn_pictures):
    train, test = opened.open_images("glyphs")
    assert train.x.shape == (3 * 12, 32, 32, 3) and test.x.shape == (3 * 9, 32, 32, 3)
    assert train.class_names == test.class_names == ("A", "g", "Д")
    assert np.bincount(train.y).tolist() == [12] * 3 and (np.diff(test.y) >= 0).all()
    for label in range(3):
        mine = drawn_pictures[label * 21 : (label + 1) * 21]
        # 16 faces: 10 for training, 6 for tests.
        assert (len(set(mine[:12])), len(set(mine[12:]))) == (10, 6)
        assert not set(mine[:12]) & set(mine[12:])
    again, _ = rendered.glyphs()
    np.testing.assert_array_equal(again.x, train.x)


def test_an_image_shows_its_character_turned_and_shifted(faces):
    train, _ = rendered.glyphs()
    assert len(np.unique(train.x.reshape(36, -1), axis=0)) == 36
    # Ink is dark and paper light, and the ink is near the middle.
    dark = train.x.mean(-1) < 128
    assert (train.x[:, 0, 0] >= 150).all() and dark.any((1, 2)).all()
    rows, columns = np.nonzero(dark.mean(0) > 0.2)
    assert abs(rows.mean() - 15.5) < 3 and abs(columns.mean() - 15.5) < 3


def test_faces_without_a_character_are_left_out(faces, monkeypatch):
    # The fonts of Computer Modern and of large symbols have no Cyrillic letters.
    package = rendered.font_packages()[0]
    paths = rendered._faces(package)
    complete = {path for path in paths if rendered._characters(path) is not None}
    assert {p.rsplit("/", 1)[1][:4] for p in complete} == {"Deja", "STIX"}
    monkeypatch.setattr(rendered, "FONT_PACKAGES", ())
    with pytest.raises(ValueError, match="glyphs need 5 faces, found 0"):
        rendered.glyphs()


def test_emoji_are_divided_by_subgroup(faces, tmp_path, monkeypatch, drawn_pictures):
    package = rendered.font_packages()[0]
    lines = ["# group: X", "# subgroup: stars"]
    lines += [f"{0x41 + i:05X} FE0F ; fully-qualified # x" for i in range(3)]
    lines += ["00044 ; unqualified # x", "00045 200D 00046 ; fully-qualified # x"]
    lines += ["# subgroup: few", "00058 ; fully-qualified # x", "# subgroup: cats"]
    lines += [f"{0x61 + i:05X}      ; fully-qualified # x" for i in range(5)]
    path = tmp_path / "emoji-test.txt"
    monkeypatch.setattr(rendered, "EMOJI_LIST", str(path))
    monkeypatch.setattr(rendered, "MIN_EMOJI", 3)
    monkeypatch.setattr(rendered, "EMOJI_FONT", f"{package.folder}/DejaVuSans.ttf")
    with pytest.raises(ValueError, match="install the Debian package unicode-data"):
        opened.open_images("noto-emoji")
    path.write_text("\n".join(lines))
    train, test = opened.open_images("noto-emoji")
    assert train.class_names == ("stars", "cats")
    assert train.x.shape == (24, 64, 64, 3) and test.x.shape == (18, 64, 64, 3)
    counts = [len(set(drawn_pictures[a:b])) for a, b in ((0, 12), (12, 21), (21, 33))]
    assert counts == [2, 1, 3] and len(set(drawn_pictures)) == 8
    monkeypatch.setattr(rendered, "EMOJI_FONT", str(path))
    with pytest.raises(ValueError, match="cannot read the font .*emoji-test.txt"):
        rendered.noto_emoji()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="rendered by Pillow: install it"):
        rendered.noto_emoji()


def test_clipart_is_read_by_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "OPENCLIPART", str(tmp_path))
    monkeypatch.setattr(packaged, "MIN_CLIPART", 3)
    monkeypatch.setattr(packaged, "MAX_CLIPART", 4)
    with pytest.raises(ValueError, match="install the Debian package openclipart-png"):
        opened.open_images("openclipart")
    folders = {"food": 3, "food/fruit": 6, "few": 2, "tools": 3}
    for label, (name, count) in enumerate(folders.items()):
        (tmp_path / name).mkdir()
        for i in range(count):
            colour = 60 * label, 10 * i, 0
            Image.new("RGB", (5 + i, 9), colour).save(tmp_path / name / f"{i}.png")
    (tmp_path / "few/link.png").symlink_to(tmp_path / "few/0.png")
    huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">2I", 5000, 5000)
    (tmp_path / "tools/huge.png").write_bytes(huge)
    images, tests = opened.open_images("openclipart", size=16)
    assert tests is None and images.class_names == ("food", "food/fruit", "tools")
    assert np.bincount(images.y).tolist() == [3, 4, 3]
    assert images.x.shape == (10, 16, 16, 3)
    np.testing.assert_array_equal(images.x[:, 0, 0, 0], [0] * 3 + [60] * 4 + [180] * 3)
    (tmp_path / "tools/0.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match="cannot read the image .*tools/0.png"):
        packaged.openclipart()


def test_the_origin_of_glyphs_names_all_packages(faces, monkeypatch):
    other = rendered.FontPackage("fonts-x", rendered.font_packages()[0].folder, "OFL")
    missing = other._replace(name="fonts-y", folder="/nonexistent")
    packages = (*rendered.FONT_PACKAGES, other, missing)
    monkeypatch.setattr(rendered, "FONT_PACKAGES", packages)
    origin = packaged.origin("glyphs")
    assert origin.package == "matplotlib, fonts-x" and origin.licence.endswith(", OFL")
    assert origin.version.split(", ")[1] == "unknown"
    assert packaged.origin("openclipart").licence == "public domain"
    assert packaged.origin("noto-emoji").package == "fonts-noto-color-emoji"
