"""Accuracy of linear classifiers on features of images, and the time of the features.

    python -m experiments.feature_report
    python -m experiments.feature_report --data photos.npz --sides 64 128

Logistic regression is trained on the standardised features of four fifths of the images
and tested on the rest, whose classes have equal shares; `pixels` are the images
themselves at 16 pixels. Milliseconds are CPU time of an image, the median of five batches
of 50 after one that compiles. docs/images.md has results on 5,000 images of CIFAR-10.

Writes table.csv to --out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxnas import datasets
from jaxnas.datasets import Images, lite0, opened
from jaxnas.datasets.features import Extractor
from jaxnas.io import files
from jaxnas.studies import cli, terminal
from jaxnas.types import FeatureKind

EXTRACTORS = {
    "lite0": datasets.lite0_extractor,
    "untrained": datasets.untrained_extractor,
    "hog": datasets.hog_extractor,
    "pixels": lambda side: Extractor(
        FeatureKind(f"pixels-{side}px", side * side * 3),
        side,
        lambda x: x.reshape(len(x), -1),
    ),
}
# Of standardised features; the penalty of each weight is its square / (2 C).
_C = 0.01
_BATCH = 50


@dataclass(frozen=True)
class Config:
    """Images, and kinds of features."""

    data: str = "fashion-mnist"
    """The images, as search_images takes them."""
    size: int = 64
    """Pixels to which picture files are scaled when they are read."""
    kinds: tuple[str, ...] = ()
    """Features: lite0, untrained, hog, pixels; default: all that are installed."""
    sides: tuple[int, ...] = (64,)
    """Pixels to which lite0 and untrained resize images."""
    max_images: int = 5000
    """Largest number of images, drawn at random."""
    seed: int = 0
    """Seed of the draw and of the division."""
    out: str = "results/feature_report"
    """Folder for the results."""


class Row(NamedTuple):
    """Results of one kind of features."""

    kind: FeatureKind
    accuracy: float  # percent of the test images
    milliseconds: float  # CPU time of an image


def main(config: Config) -> list[Row]:
    """Trains a classifier for each kind of features.

    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "size", "max_images")
    cli.seed(config, "seed")
    extractors = _extractors(config)
    images, _ = opened.open_images(config.data, size=config.size)
    share = min(1.0, config.max_images / len(images.x))
    try:
        parts = datasets.split(images, (0.8 * share, 0.2 * share), seed=config.seed)
    except ValueError as error:
        raise ValueError(f"{error} (--max-images {config.max_images})") from None
    out = cli.folder(config.out, "feature_report")
    rows = [_measure(extractor, *parts) for extractor in extractors]
    names = ("features", "width", "accuracy", "milliseconds")
    cells = [
        (*map(str, row.kind), f"{row.accuracy:.1f}", f"{row.milliseconds:.2f}")
        for row in rows
    ]
    files.write_csv(out / "table.csv", names, cells)
    title = f"{images.name}: {len(parts[0].x)} images, tested on {len(parts[1].x)}"
    terminal.show_rows(Console(), names, cells, title)
    return rows


def _extractors(config: Config) -> list[Extractor]:
    """Makes the extractors of the chosen kinds and sizes."""
    kinds = config.kinds or [
        k for k in EXTRACTORS if k != "lite0" or lite0.weights_path()
    ]
    cli.require_names(kinds, EXTRACTORS, "features")
    sides = {"hog": (32,), "pixels": (16,)}
    return [EXTRACTORS[k](s) for k in kinds for s in sides.get(k, config.sides)]


def _measure(extractor: Extractor, train: Images, test: Images) -> Row:
    """Tests a linear classifier of the features, and times them."""
    x, x_test = (datasets.image_features(part.x, extractor).x for part in (train, test))
    mean, std = x.mean(0), x.std(0) + 1e-6
    model = _classifier().fit((x - mean) / std, train.y)
    accuracy = 100 * model.score((x_test - mean) / std, test.y)
    batch = np.resize(train.x, (_BATCH, *train.x.shape[1:]))
    times = []
    for _ in range(6):
        start = time.process_time()
        datasets.image_features(batch, extractor, cache=False)
        times.append(1000 * (time.process_time() - start) / _BATCH)
    return Row(extractor.kind, accuracy, float(np.median(times[1:])))


def _classifier() -> Any:
    """Returns scikit-learn's logistic regression.

    Raises: `ValueError` if it is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ValueError("the classifier is scikit-learn's: install it") from error
    return LogisticRegression(C=_C, max_iter=1000)


if __name__ == "__main__":
    lost = "interrupted: table.csv was not written; the features made so far are cached"
    cli.command(main, Config, interrupted=lost, cores=cli.use_one_core)
