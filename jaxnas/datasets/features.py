"""Features of images: vectors that describe what an image shows, of a stated kind.

    features = image_features(images.x)  # (m, width), and their kind
    features = image_features(images.x, lite0_extractor(side=128))

An `Extractor` computes features of one kind. Stage means of an ImageNet-trained
EfficientNet-lite0 are the default where its weights are installed (the extra `features`),
histograms of gradients and colours elsewhere; `Features.kind` says which was used. Models
of `jaxnas.models` take such features by class, `models.class_features(features, images.y)`,
and refuse those of another kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.datasets import hog, lite0
from jaxnas.datasets.resample import resize_bicubic
from jaxnas.io import npz
from jaxnas.io.cache import array_digest, cached
from jaxnas.types import FeatureKind, Features

# Increase it when features of the same name change.
_VERSION = 1
# Images that are computed at once: few enough for the cache of a core.
_BLOCK = 64


class Extractor(NamedTuple):
    """A way to compute features.

    `kind.name` names files of the cache: extractors of different results need different
    names.
    """

    kind: FeatureKind
    side: int  # pixels to which images are resized
    # (b, side, side, 3) float32 from 0 to 255 -> (b, width), each image independently.
    compute: Callable[[np.ndarray], np.ndarray]


def lite0_extractor(side: int = 64) -> Extractor:
    """Stage means of EfficientNet-lite0, trained on ImageNet, (544,).

    A linear classifier of 4,000 images of CIFAR-10 gains from larger images: docs/images.md
    has accuracies and times.

    Args:
      side: pixels to which images are resized, at least 32.

    Raises: `ValueError` for a smaller side, and if the weights are not installed.
    """
    _require_side(side, 32, 1)
    lite0.require_package()
    kind = FeatureKind(f"lite0-taps-{side}px", lite0.WIDTH)
    return Extractor(kind, side, lambda x: _stage_means(lite0.pretrained(), x))


def untrained_extractor(side: int = 64, seed: int = 0) -> Extractor:
    """Stage means of a network of the same form with random weights, (544,): a control.

    Args:
      side: pixels to which images are resized, at least 32.
      seed: of the weights.

    Raises: `ValueError` for a smaller side.
    """
    _require_side(side, 32, 1)
    weights = lite0.random_weights(seed)
    kind = FeatureKind(f"untrained{seed}-taps-{side}px", lite0.WIDTH)
    return Extractor(kind, side, lambda x: _stage_means(weights, x))


def hog_extractor(side: int = 32) -> Extractor:
    """Histograms of oriented gradients, and moments of colours; (420,) at 32 pixels.

    Args:
      side: pixels to which images are resized: a multiple of 8, at least 16.

    Raises: `ValueError` for another side.
    """
    _require_side(side, 2 * hog.CELL, hog.CELL)
    kind = FeatureKind(f"hog-colour-{side}px", hog.width(side))
    return Extractor(kind, side, hog.hog_colour)


def default_extractor() -> Extractor:
    """Returns `lite0_extractor()` if its weights are installed, else `hog_extractor()`."""
    return hog_extractor() if lite0.weights_path() is None else lite0_extractor()


def extractor_of(kind: FeatureKind) -> Extractor:
    """Makes the extractor of a kind of features, which a model names.

    Args:
      kind: of `Extractor.kind`.

    Raises: `ValueError` for a kind that no extractor has, and if weights are not
      installed.
    """
    forms = (
        (r"lite0-taps-(\d+)px", lambda side: lite0_extractor(side)),
        (
            r"untrained(\d+)-taps-(\d+)px",
            lambda seed, side: untrained_extractor(side, seed),
        ),
        (r"hog-colour-(\d+)px", lambda side: hog_extractor(side)),
    )
    for pattern, make in forms:
        if match := re.fullmatch(pattern, kind.name):
            extractor = make(*map(int, match.groups()))
            if extractor.kind == kind:
                return extractor
    raise ValueError(
        f"no extractor computes features {kind.name!r} of width {kind.width} from images"
    )


def image_features(
    pixels: np.ndarray, extractor: Extractor | None = None, *, cache: bool = True
) -> Features:
    """Computes features of images, or reads them from the cache.

    Images are resized to squares as Pillow does, bicubically and to 8 bits; an image that
    is not square is distorted. The features of an image do not depend on the others.

    Args:
      pixels: (m, h, w, c) or (m, h, w), of any size; one channel is grey, three are RGB.
        Values are from 0 to 255; floats that are all at most 1 are from 0 to 1.
      extractor: default: `default_extractor()`.
      cache: whether to keep features of these images in the cache folder.

    Returns:
      the features and their kind.

    Raises: `ValueError` for other shapes, types and values, such as NaN or normalised
      images, and for weights that are damaged.
    """
    pixels = as_pixels(pixels)
    extractor = default_extractor() if extractor is None else extractor
    kind = extractor.kind
    if not cache:
        return Features(_computed(pixels, extractor), kind)
    shape = len(pixels), kind.width

    def load(path: Path) -> np.ndarray | None:
        arrays, manifest = npz.load_arrays(path)
        x = arrays["x"]
        sound = manifest == kind._asdict() and x.shape == shape
        return x if sound and np.isfinite(x).all() else None

    x = cached(
        f"features-{kind.name}-{_VERSION}",
        array_digest(np.array(pixels.shape), pixels),
        make=lambda: _computed(pixels, extractor),
        load=load,
        save=lambda path, x: npz.save_arrays(path, {"x": x}, kind._asdict()),
    )
    return Features(x, kind)


def as_pixels(pixels: np.ndarray) -> np.ndarray:
    """Checks images, and converts them to values from 0 to 255.

    Args:
      pixels: as for `image_features`.

    Returns:
      (m, h, w, c) with c = 1 or 3, uint8 or float32.

    Raises: `ValueError` as `image_features`.
    """
    x = np.asarray(pixels)
    x = x[..., None] if x.ndim == 3 else x
    if (
        x.ndim != 4
        or not x.size
        or x.shape[-1] not in (1, 3)
        or x.dtype.kind not in "uif"
    ):
        raise ValueError(
            "wanted images (m, h, w, c) of numbers, with 1 or 3 channels, at least one; "
            f"found {np.shape(pixels)} {x.dtype}"
        )
    bad = ~np.isfinite(x).all((1, 2, 3))
    if bad.any():
        raise ValueError(
            f"{bad.sum()} of {len(x)} images have pixels that are not finite; the first "
            f"is image {np.argmax(bad)}"
        )
    low, high = x.min(), x.max()
    if low < 0 or high > 255:
        raise ValueError(
            f"wanted pixels from 0 to 255, found {low:g} to {high:g}: features are "
            "computed from images before normalisation"
        )
    if x.dtype == np.uint8:
        return x
    return x.astype(np.float32) * np.float32(
        255 if x.dtype.kind == "f" and high <= 1 else 1
    )


def _computed(pixels: np.ndarray, extractor: Extractor) -> np.ndarray:
    """Computes features (m, width) in blocks of one size."""
    # Every size of a block is compiled: black images fill the last one.
    size = min(_BLOCK, 1 << (len(pixels) - 1).bit_length())
    parts = []
    for first in range(0, len(pixels), size):
        block = resize_bicubic(pixels[first : first + size], extractor.side)
        filled = np.zeros((size, extractor.side, extractor.side, 3), np.float32)
        filled[: len(block)] = block  # grey becomes three equal channels
        parts.append(np.asarray(extractor.compute(filled))[: len(block)])
    return np.concatenate(parts).astype(np.float32)


def _stage_means(weights: lite0.Lite0, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(lite0.stage_means(weights, pixels))


def _require_side(side: int, minimum: int, multiple: int) -> None:
    """Raises `ValueError` unless the side is a multiple and at least the minimum."""
    if isinstance(side, bool) or not isinstance(side, int):
        raise ValueError(f"side must be a whole number of pixels, not {side!r}")
    if side < minimum or side % multiple:
        suffix = f" and a multiple of {multiple}" if multiple > 1 else ""
        raise ValueError(f"side must be at least {minimum} pixels{suffix}, not {side}")
