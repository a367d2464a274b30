"""Settings of a search on images, as the command line has them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax

from jaxnas.io import checkpoints
from jaxnas.spaces import nasbench201
from jaxnas.studies import cli
from jaxnas.studies.images import cell_scores


@dataclass(frozen=True)
class Config:
    """Which images, how long, and how large the networks are."""

    data: str | None = None
    """fashion-mnist (Debian: dataset-fashion-mnist), digits, an npz of x and y, a folder of
    class folders with PNG, JPEG or WebP files, which are read as a viewer shows them:
    upright, and over white where they are transparent, a folder of train and test (or val,
    valid) with class folders, a folder of idx files or of CIFAR's batches, or a batch of
    CIFAR. Default: fashion-mnist where it is installed, else
    digits."""
    minutes: float = 10.0
    """Minutes of work, compilation included, which alone takes up to two. The time of a run
    that was killed counts."""
    clock: Literal["wall", "cpu"] = "wall"
    """What --minutes counts, and latencies: wall-clock time, or CPU time, of which other
    programs take nothing, with --workers 1 on a CPU."""
    method: Literal["gp", "random"] = "gp"
    """Gaussian process over the best-scored cells, or random search over all."""
    prior: tuple[str, ...] = ()
    """Accuracies of the cells on other images, which decide how few cells are trained:
    fashion (predicted for Fashion-MNIST, part of the library), metad2a (predicted for these
    images by the models that ship; needs the extras models and features), or columns
    DATASET/SPLIT/EPOCHS of the table of --prior-from."""
    prior_from: str | None = None
    """The table of --prior, such as nb201."""
    latency: float | None = None
    """Largest latency of the network, in milliseconds: one image on one thread of this
    machine, compiled. Cells beyond it are not trained."""
    macs: float | None = None
    """Largest number of multiply-accumulates of the network, in millions."""
    final_network: Literal["sized", "searched"] | None = None
    """The network of the final training: as large as there is time for, or that of the
    search. Default: sized from 24 pixels on."""
    arch: str | None = None
    """A cell in NAS-Bench-201's notation that is trained without a search."""
    size: int | None = None
    """Pixels on each side to which images are scaled; non-square images are squeezed;
    default: those of the images, to the nearest multiple of 4, at most 32."""
    channels: int | None = None
    """Channels of the first stage; default: 8, and 16 from 32 pixels."""
    cells_per_stage: int = 1
    """Cells in each of the three stages."""
    batch: int | None = None
    """Architectures that are chosen together; default: by the devices."""
    workers: int = 1
    """Trainings of the search at the same time on a CPU, at most 50. The program
    is compiled separately for each, which pays on many cores. The first device may use all
    cores too."""
    keep: float = 0.25
    """Share of the cells that is searched, those with the best scores."""
    train_images: int = 2000
    """Images of a training of the search, at most."""
    valid_images: int = 1000
    """Images by which these trainings are compared, at most."""
    valid_share: float = 0.2
    """Share of the images for validation."""
    test_share: float = 0.2
    """Share of the images for tests, where they have no test part of their own."""
    lr: float = 0.1
    """Highest learning rate."""
    horizontal_flip: bool | None = None
    """Mirror half of the training images; default: those with colours."""
    seed: int = 0
    """Seed of the division of the images, the weights and the search."""
    out: str = "results/search_images"
    """Folder for the results."""


def validate(config: Config) -> None:
    """Raises `ValueError` for settings that are wrong whatever the images are.

    It is raised too if orbax is not installed, which keeps checkpoints.
    """
    cli.minutes(config)
    if not 0 < config.keep <= 1:
        raise ValueError(f"--keep must be above 0 and at most 1, not {config.keep}")
    cli.seed(config, "seed")
    if config.arch is not None:
        nasbench201.from_string(config.arch)
    cli.positive(config, "train_images", "valid_images")
    for flag in ("latency", "macs", "lr"):
        limit = getattr(config, flag)
        if limit is not None and not 0 < limit < math.inf:
            raise ValueError(f"--{flag} must be above 0 and finite, not {limit}")
    if config.prior_from is not None and not config.prior:
        raise ValueError("--prior-from is the table of --prior: give its columns too")
    if config.prior and (config.method == "random" or config.arch is not None):
        raise ValueError(
            "--prior guides --method gp: give no --arch and no other method"
        )
    if config.clock == "cpu" and (config.workers > 1 or jax.default_backend() != "cpu"):
        raise ValueError("--clock cpu counts the work of a CPU, with --workers 1")
    # By default a batch has a cell for every worker.
    for flag, value in (("batch", config.batch), ("workers", config.workers)):
        if value is not None and not 1 <= value <= cell_scores.MIN_CELLS:
            raise ValueError(
                f"--{flag} must be 1 to {cell_scores.MIN_CELLS}, the fewest cells that are "
                f"searched, not {value}"
            )
    checkpoints.require_orbax()
