"""Picture files as a viewer shows them: upright, over white, 8 bits of each colour.

Pillow (the extra `images`) is imported when a picture is read.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.io.streams import printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")
# More pixels than any benchmark's images have: a small file can unpack to gigabytes.
MAX_PIXELS = 2**24
_ORIENTATION = 0x0112  # the tag of EXIF
# How a stored picture (h, w, 3) becomes upright, by orientation (EXIF 2.32, 4.6.4 A).
_TURNS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}
# The grey of level 1 in files with 2 or 4 bits, by Pillow's raw modes.
_STEPS = {"L;2": 85, "L;4": 17}


def read(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Reads a PNG, JPEG or WebP file as it is displayed on white; see `displayed`.

    Args:
      path: of the file.
      size: height and width to resize to, bilinearly.

    Returns:
      RGB (h, w, 3) uint8.

    Raises: `ValueError`, in one line that names the file, if it is not a regular file,
      is damaged, has more than `MAX_PIXELS` or pixels without a known range; and
      without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ValueError("images are read by Pillow: install it") from error
    try:
        # Opening a pipe or a device could block forever.
        if not path.is_file():
            raise ValueError("it is not a regular file")
        with warnings.catch_warnings():
            # Decompression bombs, of which Pillow warns, are refused below.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(
                        f"it has {image.width} x {image.height} pixels, more than "
                        f"{MAX_PIXELS}"
                    )
                pixels = displayed(image)
        if size is None:
            return pixels
        height, width = size
        stored, how = Image.fromarray(pixels), Image.Resampling.BILINEAR
        return np.asarray(stored.resize((width, height), how))
    # Decoders raise all kinds of exceptions for damaged files.
    except Exception as error:
        reason = printable(error, 200) or type(error).__name__
        raise ValueError(f"cannot read the image {path}: {reason}") from error


def displayed(image: Any) -> np.ndarray:
    """Converts a Pillow image to the pixels a viewer shows on a white background.

    It is turned upright by its orientation in EXIF or XMP; 16 bits become 8; palettes,
    CMYK and other colour models become RGB; transparent parts show white. Colour profiles
    and gamma are not applied. The first frame stands for an animation.

    Args:
      image: a `PIL.Image.Image`; from a file, before its pixels are loaded.

    Returns:
      RGB (h, w, 3) uint8.

    Raises: `ValueError` for pixels of 32 bits, whose range is not known, and for a
      transparent colour of 16 bits.
    """
    tiles = getattr(image, "tile", None)
    raw = tiles[0][3] if tiles else None  # forgotten once the pixels are loaded
    image.load()
    turn = _TURNS.get(_orientation(image))
    pixels = _over_white(image, raw)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _orientation(image: Any) -> Any:
    """Reads the orientation, 1 to 8; None if it is missing or damaged."""
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:
        # A picture with damaged EXIF data is displayed as it is stored.
        return None


def _over_white(image: Any, raw: Any) -> np.ndarray:
    """Composes a loaded image over white, without turning it.

    Args:
      image: a `PIL.Image.Image` whose pixels are loaded.
      raw: Pillow's raw mode of the file, such as "L;2" for 2 bits of grey.

    Returns:
      RGB (h, w, 3) uint8.
    """
    key = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return _of_16_bits(np.asarray(image), key)
    if image.mode in ("I", "F"):
        raise ValueError(
            "its pixels have 32 bits and no known range: save it with 8 or 16 bits"
        )
    if key is None and not _has_alpha(image):
        return np.asarray(image.convert("RGB"))
    if key is not None and raw == "RGB;16B":
        # Pillow keeps 8 bits of the pixels and 16 of the transparent colour.
        raise ValueError("it has a transparent colour of 16 bits: save it with 8 bits")
    if key is not None and raw in _STEPS:
        # Pillow scales the pixels and leaves the transparent level as it is stored.
        step = _STEPS[raw]
        image.info["transparency"] = key % (255 // step + 1) * step
    if image.mode == "La":  # premultiplied alpha converts to nothing else
        image = image.convert("LA")
    pixels = np.asarray(image.convert("RGBA")).astype(np.int32)
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _of_16_bits(grey: np.ndarray, key: int | None) -> np.ndarray:
    """Converts 16-bit grey (h, w) to RGB (h, w, 3) uint8; the level `key` becomes white."""
    levels = (grey.astype(np.int32) + 128) // 257
    if key is not None:
        levels = np.where(grey == key, 255, levels)
    return np.repeat(levels.astype(np.uint8)[..., None], 3, -1)


def _has_alpha(image: Any) -> bool:
    """Tells whether the mode, or the palette, has an alpha channel."""
    mode = image.palette.mode if image.mode == "P" and image.palette else image.mode
    return mode[-1] in "Aa"
