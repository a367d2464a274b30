"""Images rendered from the fonts of installed packages: characters and emoji.

    train, test = glyphs()  # one class for each character
    train, test = noto_emoji()  # one class for each subgroup of Unicode's emoji

Each image is one picture (a character in one face, or an emoji) that is rotated, scaled and
shifted at random, over a random light background; characters have a random dark colour. The
pictures of a class are divided before that: no face and no emoji of a test image occurs in
a training image. The images depend on the installed fonts alone. Pillow (the extra
`images`) renders them.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.datasets.images import Images, validate_images
from jaxnas.io import files

# No two are the same shape in most faces, as A and the Greek capital alpha would be.
CHARACTERS = (
    "23456789ABDEFGHJKLMNPQRTUYabdefghijkmnqrty#%&?@+=$"
    "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπφψωБДЖИЛЦЧШЫЭЮЯбджилцчшыэюя"
)
EMOJI_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
EMOJI_LIST = "/usr/share/unicode/emoji/emoji-test.txt"
MIN_EMOJI = 12  # of a subgroup
TRAIN, TEST = 60, 100  # images of a class
_TEST_SHARE = 0.4  # of the pictures of a class
_MIN_FACES = 5  # of glyphs: three for training and two for tests
_BITMAP_SIZE = 109  # points at which the emoji font has its bitmaps of 136 x 128 pixels
_GLYPH_SIDE, _EMOJI_SIDE = 32, 64  # pixels of an image
# Degrees, factors, and parts of the side.
_ROTATION, _SCALE, _SHIFT = 15.0, (0.8, 1.15), 0.08


class FontPackage(NamedTuple):
    """An openly licensed package of fonts, some of which have all of `CHARACTERS`."""

    name: str
    folder: str  # of its faces; "" for the Python package matplotlib
    licence: str


FONT_PACKAGES = (
    FontPackage("matplotlib", "", "Bitstream Vera, STIX (OFL-1.0)"),
    FontPackage("fonts-cantarell", "/usr/share/fonts/opentype/cantarell", "OFL-1.1"),
    FontPackage(
        "fonts-crosextra-carlito", "/usr/share/fonts/truetype/crosextra", "OFL-1.1"
    ),
    FontPackage("fonts-ebgaramond", "/usr/share/fonts/opentype/ebgaramond", "OFL-1.1"),
    FontPackage("fonts-lato", "/usr/share/fonts/truetype/lato", "OFL-1.1"),
    FontPackage("fonts-liberation", "/usr/share/fonts/truetype/liberation", "OFL-1.1"),
    FontPackage(
        "fonts-linuxlibertine", "/usr/share/fonts/opentype/linux-libertine", "OFL-1.1"
    ),
)


def glyphs() -> tuple[Images, Images]:
    """Renders `CHARACTERS` in the faces of the installed `FONT_PACKAGES`.

    Returns:
      training images (60 of a class) and test images (100), 32 x 32, RGB, in other faces.

    Raises: `ValueError` if fewer than 5 faces have all characters, and without Pillow.
    """
    _require_pillow()
    faces = [
        pictures
        for package in font_packages()
        for path in _faces(package)
        if (pictures := _characters(path)) is not None
    ]
    if len(faces) < _MIN_FACES:
        raise ValueError(
            f"glyphs need {_MIN_FACES} faces, found {len(faces)}: install matplotlib or "
            f"packages of {', '.join(p.name for p in FONT_PACKAGES[1:])}"
        )
    # All classes have the same test faces.
    order = np.random.default_rng(0).permutation(len(faces)).tolist()
    classes = {
        character: [faces[face][number] for face in order]
        for number, character in enumerate(CHARACTERS)
    }
    return _drawn(classes, "glyphs", _GLYPH_SIDE, coloured=False)


def noto_emoji() -> tuple[Images, Images]:
    """Renders the emoji of one code point in each subgroup with at least 12 of them.

    The font and Unicode's list are those of the Debian packages fonts-noto-color-emoji and
    unicode-data.

    Returns:
      training images (60 of a class) and test images (100) of other emoji, 64 x 64, RGB.

    Raises: `ValueError` if a package is missing or damaged, and without Pillow.
    """
    _require_pillow()
    font = _font(EMOJI_FONT, _BITMAP_SIZE)
    classes = {
        name: [_bitmap(font, character) for character in characters]
        for name, characters in emoji_subgroups().items()
        if len(characters) >= MIN_EMOJI
    }
    rng = np.random.default_rng(0)
    shuffled = {n: [c[i] for i in rng.permutation(len(c))] for n, c in classes.items()}
    return _drawn(shuffled, "noto-emoji", _EMOJI_SIDE, coloured=True)


def font_packages() -> list[FontPackage]:
    """Lists the installed packages of `FONT_PACKAGES`, with their folders."""
    spec = importlib.util.find_spec("matplotlib")
    inner = Path(spec.origin or "").parent / "mpl-data/fonts/ttf" if spec else Path()
    packages = [p._replace(folder=p.folder or str(inner)) for p in FONT_PACKAGES]
    return [p for p in packages if _faces(p)]


def emoji_subgroups() -> dict[str, list[str]]:
    """Reads the emoji of one code point by subgroup, in the order of Unicode's list.

    Raises: `ValueError` if the list is missing or has no emoji.
    """
    with files.reading(EMOJI_LIST):
        path = Path(EMOJI_LIST)
        text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    groups: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("# subgroup: "):
            name = line.removeprefix("# subgroup: ")
        elif m := re.match(r"([0-9A-F]{4,5})(?: FE0F)?\s*; fully-qualified", line):
            groups.setdefault(name, []).append(chr(int(m[1], 16)))
    if not groups:
        raise ValueError(
            f"{EMOJI_LIST} lists no emoji: install the Debian package unicode-data"
        )
    return groups


def _require_pillow() -> None:
    """Raises `ValueError` without Pillow, which other functions import."""
    if importlib.util.find_spec("PIL") is None:
        raise ValueError("fonts are rendered by Pillow: install it")


def _font(path: str, size: int) -> Any:
    """Opens a face in one size, or raises `ValueError` that names the file."""
    from PIL import ImageFont

    try:
        return ImageFont.truetype(path, size)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the font {path}: {error}") from error


def _faces(package: FontPackage) -> list[str]:
    """Lists the font files of a package by file name; none if it is not installed."""
    folder = Path(package.folder)
    if not package.folder or not folder.is_dir():
        return []
    paths = (p for p in folder.iterdir() if p.suffix in (".ttf", ".otf"))
    return sorted(str(p) for p in paths)


def _characters(path: str) -> list[Any] | None:
    """Renders all characters in one face, black and transparent.

    Args:
      path: of the font file.

    Returns:
      an RGBA picture of each character; None if the face lacks one, or has one glyph for
      several, as faces of placeholders do.
    """
    from PIL import Image, ImageDraw

    font = _font(path, _GLYPH_SIDE - 8)
    missing = bytes(font.getmask("\uffff"))
    masks = [bytes(font.getmask(character)) for character in CHARACTERS]
    if missing in masks or len(set(masks)) < len(masks):
        return None
    side, pictures = 2 * _GLYPH_SIDE, []
    large = _font(path, int(1.8 * _GLYPH_SIDE))
    for character in CHARACTERS:
        picture = Image.new("RGBA", (side, side))
        middle = side // 2, side // 2
        ImageDraw.Draw(picture).text(middle, character, "black", large, "mm")
        pictures.append(picture)
    return pictures


def _bitmap(font: Any, character: str) -> Any:
    """Renders one emoji: RGBA, 128 x 128."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGBA", (136, 128))
    ImageDraw.Draw(picture).text((0, 0), character, font=font, embedded_color=True)
    return picture.resize((128, 128))


def _drawn(
    classes: Mapping[str, Sequence[Any]],
    name: str,
    side: int,
    *,
    coloured: bool,
) -> tuple[Images, Images]:
    """Divides the pictures of each class, and makes images of both parts.

    Each picture of a part gives as many images as the others, or one more.

    Args:
      classes: square RGBA pictures by class, shuffled: the first are for tests.
      name: of the images.
      side: pixels of an image.
      coloured: whether the pictures have colours; black ones get a random colour.

    Returns:
      training images, `TRAIN` of a class, and test images, `TEST` of a class.
    """
    x: tuple[list, list] = [], []
    for label, pictures in enumerate(classes.values()):
        rng = np.random.default_rng((1, label))
        num_test = round(_TEST_SHARE * len(pictures))
        parts = pictures[num_test:], pictures[:num_test]
        for images, part, count in zip(x, parts, (TRAIN, TEST), strict=True):
            images += [
                _varied(rng, part[i % len(part)], side, coloured) for i in range(count)
            ]
    labels = (np.repeat(np.arange(len(classes)), n) for n in (TRAIN, TEST))
    train, test = (
        Images(np.stack(images).astype(np.float32), y.astype(np.int32), len(classes),
               name, tuple(classes))
        for images, y in zip(x, labels, strict=True)
    )  # fmt: skip
    return validate_images(train), validate_images(test)


def _varied(
    rng: np.random.Generator, picture: Any, side: int, coloured: bool
) -> np.ndarray:
    """Applies a random affine map to a picture, and composes it over a random colour.

    Args:
      rng: of the map and the colours.
      picture: RGBA, square.
      side: pixels of the image.
      coloured: whether to keep the picture's colours, not a random dark one.

    Returns:
      (side, side, 3) uint8.
    """
    from PIL import Image

    angle = np.deg2rad(rng.uniform(-_ROTATION, _ROTATION))
    # Pixels of the picture for one pixel of the image.
    step = picture.width / side / rng.uniform(*_SCALE)
    linear = step * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    centre = side / 2 + rng.uniform(-_SHIFT, _SHIFT, 2) * side
    offset = picture.width / 2 - linear @ centre
    # Pillow maps pixels of the image to those of the picture.
    matrix = np.column_stack([linear, offset]).ravel().tolist()
    how = Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    placed = np.asarray(picture.transform((side, side), *how)).astype(np.float32)
    background, ink = rng.uniform(150, 256, 3), rng.uniform(0, 106, 3)
    colour = placed[..., :3] if coloured else ink
    alpha = placed[..., 3:] / 255
    return (alpha * colour + (1 - alpha) * background).astype(np.uint8)
