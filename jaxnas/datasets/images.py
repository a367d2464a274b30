"""Labelled images as arrays on the host: validation, normalisation, batches, parts.

Axes: m images, h rows and w columns of pixels, c channels, last. All functions return new
`Images` and leave their arguments unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Mean and standard deviation by channel, of 255, as NAS-Bench-201 normalises
# (Dong and Yang, 2020, and its program).
NORMALISATION = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    "ImageNet16-120": ((122.68, 116.66, 104.01), (63.22, 61.26, 65.09)),
}


class Images(NamedTuple):
    """Images of one size with their classes.

    Sources return images that `validate_images` has passed.
    """

    x: np.ndarray  # (m, h, w, c) float32
    y: np.ndarray  # (m,) int32, 0 to num_classes - 1
    num_classes: int
    name: str  # of the data set; `NORMALISATION` goes by it
    class_names: tuple[str, ...] = ()  # (num_classes,); () becomes "0", "1", ...


def validate_images(images: Images, *, gaps: bool = False) -> Images:
    """Checks that images can be trained on, and names the classes.

    Args:
      images: of any source.
      gaps: whether classes without an image are allowed.

    Returns:
      the images; without class names, the names are the numbers of the classes.

    Raises:
      ValueError: for other shapes and types, classes out of range or without an image, a
        wrong number of class names, pixels that are not finite, and pixels that are all
        of one colour.
    """
    num, name = images.num_classes, images.name
    _validate_labels(images, gaps)
    _validate_pixels(images)
    names = images.class_names or tuple(map(str, range(num)))
    if len(names) != num:
        raise ValueError(f"{name}: {len(names)} class names for {num} classes")
    return images._replace(class_names=names)


def _validate_labels(images: Images, gaps: bool) -> None:
    """Checks shapes and types, and that classes are in range and have images."""
    x, y, classes, name, _ = images
    if x.ndim != 4 or not x.size or x.dtype != np.float32:
        raise ValueError(
            f"{name}: wanted images (n, h, w, c) float32, not {x.shape} {x.dtype}"
        )
    if y.shape != x.shape[:1] or y.dtype != np.int32:
        raise ValueError(
            f"{name}: wanted {len(x)} labels (n,) int32, one for each image, not "
            f"{y.shape} {y.dtype}"
        )
    if classes < 2:
        raise ValueError(f"{name}: wanted at least 2 classes, found {classes}")
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(
            f"{name}: wanted classes 0 to {classes - 1}, found {y.min()} to {y.max()}"
        )
    present = np.unique(y)
    if len(present) < classes and not gaps:
        first = next((i for i, label in enumerate(present) if label != i), len(present))
        raise ValueError(
            f"{name}: {classes - len(present)} of {classes} classes have no image; the "
            f"first is {first}"
        )


def _validate_pixels(images: Images) -> None:
    """Checks that pixels are finite and not all of one colour."""
    x, name = images.x, images.name
    bad = ~np.isfinite(x).all((1, 2, 3))
    if bad.any():
        raise ValueError(
            f"{name}: {bad.sum()} of {len(x)} images have pixels that are not finite; "
            f"the first is image {np.argmax(bad)}"
        )
    if all((image == x[0, 0, 0]).all() for image in x):
        raise ValueError(
            f"{name}: all {len(x)} images are of one colour, {x[0, 0, 0].tolist()}: "
            "nothing can be learnt from them"
        )


def require_varied(images: Images) -> Images:
    """Returns images that are not all the same picture.

    Raises:
      ValueError: if they are.
    """
    if all(np.array_equal(images.x[0], image) for image in images.x):
        raise ValueError(
            f"{images.name}: all {len(images.x)} images are the same: nothing can be "
            "learnt from them"
        )
    return images


def normalisation_constants(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and standard deviation by channel, published or of the images.

    Published constants, by the name of the images, are of pixels from 0 to 255; they are
    divided by 255 if no pixel is above 1.

    Returns:
      (c,) and (c,) float32; the deviation of a constant channel is 1.

    Raises:
      ValueError: for a known name with another number of channels.
    """
    if images.name in NORMALISATION:
        unit = np.float32(1 if images.x.max() > 1 else 255)
        published = [
            np.array(values, np.float32) / unit for values in NORMALISATION[images.name]
        ]
        if len(published[0]) != images.x.shape[-1]:
            raise ValueError(
                f"{images.name} has 3 channels, these images {images.x.shape[-1]}"
            )
        return published[0], published[1]
    axes = (0, 1, 2)
    mean, std = images.x.mean(axes, np.float64), images.x.std(axes, np.float64)
    # A channel that is the same everywhere becomes 0.
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def normalise(
    images: Images,
    mean: np.ndarray | Sequence[float] | None = None,
    std: np.ndarray | Sequence[float] | None = None,
) -> Images:
    """Normalises pixels by channel: (x - mean) / std.

    Args:
      images: (m, h, w, c).
      mean: (c,); default: of `normalisation_constants`.
      std: (c,), positive; default: of `normalisation_constants`.

    Raises:
      ValueError: for constants of another shape, and deviations that are not positive.
    """
    default = (
        normalisation_constants(images) if mean is None or std is None else (mean, std)
    )
    mean = np.asarray(default[0] if mean is None else mean, np.float32)
    std = np.asarray(default[1] if std is None else std, np.float32)
    channels = images.x.shape[-1:]
    if mean.shape != channels or std.shape != channels or not (std > 0).all():
        raise ValueError(
            f"wanted a mean and a positive standard deviation {channels}, "
            f"not {mean} and {std}"
        )
    return images._replace(x=(images.x - mean) / std)


def batch(
    images: Images, size: int, *, seed: int, number: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a batch: a part of the images shuffled by a seed.

    Batches of one seed have no image in common.

    Args:
      images: to draw from.
      size: images of the batch.
      seed: of the shuffle.
      number: which batch of this seed, from 0.

    Returns:
      x (size, h, w, c) and y (size,).

    Raises:
      ValueError: if there are too few images, and for sizes and numbers out of range.
    """
    for what, value, least in (("size", size, 1), ("number", number, 0)):
        if value < least:
            raise ValueError(f"{what} must be at least {least}, not {value}")
    if (number + 1) * size > len(images.x):
        batches = f"{number + 1} batches" if number else "a batch"
        raise ValueError(
            f"{images.name} has {len(images.x)} images, too few for {batches} of {size}"
        )
    order = np.random.default_rng(seed).permutation(len(images.x))
    chosen = order[number * size : (number + 1) * size]
    return images.x[chosen], images.y[chosen]


def split(
    images: Images, fractions: Sequence[float], *, seed: int
) -> tuple[Images, ...]:
    """Splits images at random into parts with equal shares of every class.

    Args:
      images: to split.
      fractions: of the parts, positive, at most 1 together; each part has its fraction of
        every class to within one image.
      seed: of the split.

    Returns:
      the parts, each in the order of `images`.

    Raises:
      ValueError: for other fractions, and if a part would lack a class.
    """
    ends = np.cumsum(fractions)
    if not len(ends) or min(fractions) <= 0 or ends[-1] > 1 + 1e-6:
        raise ValueError(
            f"fractions must be positive and at most 1 together, not {fractions}"
        )
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    for label in np.unique(images.y):
        members = rng.permutation(np.flatnonzero(images.y == label))
        stops = np.round(ends * len(members)).astype(int)
        for part, piece in zip(parts, np.split(members, stops)[:-1], strict=True):
            if not len(piece):
                raise ValueError(
                    f"{images.name}: class {_class_name(images, label)} has "
                    f"{len(members)} image{'s' * (len(members) > 1)}, too few for parts "
                    f"of {', '.join(f'{f:g}' for f in fractions)}"
                )
            part.append(piece)
    chosen = [np.sort(np.concatenate(part)) for part in parts]
    return tuple(images._replace(x=images.x[c], y=images.y[c]) for c in chosen)


def _class_name(images: Images, label: int) -> str:
    """The name of a class in quotes, or its number if it has no other name."""
    name = images.class_names[label] if images.class_names else str(label)
    return name if name == str(label) else repr(name)


def resize(images: Images, side: int) -> Images:
    """Resizes images to side x side pixels by area averaging.

    A new pixel is the mean of the old ones that it covers, weighted by the covered share;
    larger sizes repeat pixels in the same way.

    Args:
      images: (m, h, w, c).
      side: at least 1.

    Raises:
      ValueError: for a smaller side.
    """
    if side < 1:
        raise ValueError(f"the side must be at least 1 pixel, not {side}")
    height, width = images.x.shape[1:3]
    x = np.einsum("rh,nhwc->nrwc", _shares(height, side), images.x, optimize=True)
    x = np.einsum("sw,nrwc->nrsc", _shares(width, side), x, optimize=True)
    return images._replace(x=x.astype(np.float32))


def _shares(size: int, side: int) -> np.ndarray:
    """Computes the weights (side, size) of each old pixel in the mean of each new one."""
    edges = np.arange(side + 1) * size / side
    first, last = edges[:-1, None], edges[1:, None]
    old = np.arange(size)
    covered = np.minimum(last, old + 1) - np.maximum(first, old)
    return np.clip(covered, 0, None) * side / size
