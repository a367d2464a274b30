"""Settings of a proposal of architectures, as the command line has them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxnas.studies import cli

# Generators draw few of the other cells of the space, and search them for hours.
MAX_CELLS = 5000
MAX_SAMPLES = 100_000
MAX_DRAWS = 1000


@dataclass(frozen=True)
class Config:
    """Which images, which models, and how many cells."""

    data: str | None = None
    """Images: a folder of class folders with PNG, JPEG or WebP files of any size, an npz of
    x and y, digits, fashion-mnist (Debian: dataset-fashion-mnist), idx files, or
    batches of CIFAR."""
    features: str | None = None
    """Features of images by class in place of --data, NAMEbylabel.pt."""
    generator: str | None = None
    """Generator: a folder that `experiments.train_metad2a` wrote, or a published
    checkpoint. Default: the one that ships."""
    predictor: str | None = None
    """Predictor, likewise; default: the one beside the generator. Without one the cells are
    not ranked."""
    cells: int = 100
    """Different cells that are generated, at most 5,000."""
    draws: int = 10
    """Predictions of each cell, each for other images; at most 1,000."""
    images: int = 40
    """Images of a class whose features are computed, at most."""
    top: int = 10
    """Best cells in the table; cells of the same function count once."""
    pictures: int = 3
    """Best cells that are drawn."""
    samples: int = 1000
    """Independent samples, for validity, uniqueness and novelty; at most 100,000."""
    minutes: float | None = None
    """Minutes for the training and the test of the best cell; default: it is not trained.
    With it, features are those of the training and validation images."""
    seed: int = 0
    """Seed of everything that is random."""
    out: str = "results/metad2a_cells"
    """Folder for the results."""


def validate(config: Config) -> None:
    """Raises `ValueError` for settings that are wrong whatever the images are."""
    names = ("cells", "draws", "images", "top", "samples")
    cli.positive(config, *names)
    cli.at_most(config, cells=MAX_CELLS, draws=MAX_DRAWS, samples=MAX_SAMPLES)
    cli.seed(config, "seed")
    if config.pictures < 0:
        raise ValueError(f"--pictures must be at least 0, not {config.pictures}")
    if (config.data is None) == (config.features is None):
        raise ValueError("give images, --data, or their features, --features")
    if config.minutes is not None:
        cli.minutes(config)
        if config.data is None:
            raise ValueError("--minutes trains on images: give --data")
