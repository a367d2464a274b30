"""Scores untrained networks of NAS-Bench-201 with zero-cost proxies, all cells or some.

    python -m experiments.zero_cost_score --images digits --cells 100
    python -m experiments.zero_cost_score --images cifar-10-batches-py
        --proxies hook_logdet synflow snip live_macs --out results/cifar10
    python -m experiments.zero_cost_score --images photos.npz --dataset cifar10
        --cells 1000 --proxies az zen

Writes scores.npz to --out, a table file whose columns are score/PROXY/DATASET. Every
finished chunk is kept in --out; a run can be killed and started again.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from jaxnas import datasets
from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.datasets import Images
from jaxnas.datasets import opened as image_sources
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.proxies import scoring
from jaxnas.proxies.catalogue import CATALOGUE, CLOSED_FORM
from jaxnas.proxies.engine import Engine
from jaxnas.spaces import base
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.studies import cli
from jaxnas.studies.progress import SECONDS, duration


@dataclass(frozen=True)
class Config:
    """What to score, on which images, and with what."""

    images: str = "digits"
    """digits, those of scikit-learn; fashion-mnist; an npz of x and y; a folder of class
    folders with PNG, JPEG or WebP files, which are turned upright and laid over white where
    they are transparent; a folder of idx files; a batch of CIFAR for Python, or the folder
    of its batches."""
    dataset: str | None = None
    """What the columns call the images, and whose normalisation they get, if it is known;
    default: by the images. Others are normalised by their own mean and deviation."""
    as_they_are: bool = False
    """Do not normalise the images: they are normalised."""
    proxies: tuple[str, ...] = ("hook_logdet", "synflow", "snip", "macs", "live_macs")
    """Which scores; all that there are: jaxnas/proxies/catalogue.py."""
    cells: int | None = None
    """How many random cells; default: all 15,625."""
    cell_list: str | None = None
    """A text file with an architecture string in each line, instead."""
    classes: int | None = None
    """Of the network's head; default: those of the images."""
    channels: int = 16
    """Of the first stage."""
    cells_per_stage: int = 5
    """Cells in each stage."""
    images_used: int = 128
    """A random batch of so many of the images, the same for every network."""
    own_weights: bool = False
    """Draw weights for each architecture; default: common random numbers."""
    deduplicate: bool = True
    """Score cells that the proxy cannot tell apart once."""
    engine: Engine | None = None
    """Default: sequential on a CPU, grouped on an accelerator."""
    lanes: int | None = None
    """Architectures of a device in one chunk; default: by engine and proxy."""
    seed: int = 0
    """Of the weights, the batch and the cells."""
    out: str = "results/zero_cost_score"
    """Folder for the results."""


def main(config: Config) -> BenchmarkTable:
    """Scores the cells and writes the table.

    Returns: the table that was written.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    cli.positive(config, "images_used", "channels", "cells_per_stage")
    given = (n for n in ("classes", "lanes") if getattr(config, n) is not None)
    cli.positive(config, *given)
    if config.lanes is not None and config.lanes > nb201.SPACE.size:
        raise ValueError(
            f"--lanes must be at most {nb201.SPACE.size}, the cells that there are, not "
            f"{config.lanes}"
        )
    cli.seed(config, "seed")
    names = ", ".join((*CATALOGUE, *CLOSED_FORM))
    if not config.proxies:
        raise ValueError(f"no proxy given; there are {names}")
    for proxy in config.proxies:
        if proxy not in CATALOGUE and proxy not in CLOSED_FORM:
            raise ValueError(f"no proxy {proxy!r}; there are {names}")
    archs = _cells(config)
    images = _images(config)
    x, y = datasets.batch(images, config.images_used, seed=config.seed)
    network = NetworkConfig(
        stem_channels=config.channels,
        cells_per_stage=config.cells_per_stage,
        num_classes=config.classes or images.num_classes,
        image_size=x.shape[1],
        in_channels=x.shape[3],
    )
    dataset = images.name
    # A run that was killed has chunks alone, one of closed forms the scores alone.
    out = cli.folder(config.out, "chunks", "scores.npz")
    console = Console(stderr=True)
    columns, meaning = {}, {}

    for proxy in config.proxies:
        if proxy in CLOSED_FORM:
            counted = CLOSED_FORM[proxy](network, archs)
            columns[f"score/{proxy}/{dataset}"] = counted.astype(np.float64)
            meaning[f"score/{proxy}/{dataset}"] = "closed form"
            continue
        how = scoring.ScoringSettings(
            network,
            proxy,
            own_weights=config.own_weights,
            deduplicate=config.deduplicate,
            engine=config.engine,
            lanes=config.lanes,
        )
        found = scoring.score_many(
            jax.random.key(config.seed),
            how,
            archs,
            x,
            y,
            folder=out / "chunks",
            report=_Reporter(console, proxy),
        )
        says = f"{how}, seed {config.seed}, {len(x)} images"
        for name, values in found.values.items():
            columns[f"score/{name}/{dataset}"] = values
            meaning[f"score/{name}/{dataset}"] = says
            columns[f"scoring/{name}/{dataset}"] = found.seconds.astype(np.float32)
            meaning[f"scoring/{name}/{dataset}"] = f"seconds of {proxy}, all its scores"
    used = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    manifest = {
        "source": f"zero_cost_score on {Path(config.images).name}",
        "sha256": used,  # of the batch: images can be many files, or none
        "columns": meaning,
    }
    table = BenchmarkTable("zero-cost", nb201.SPACE.name, archs, columns, manifest)
    if jax.process_index() == 0:
        table_files.save(out / "scores.npz", table)
        console.print(
            f"{out / 'scores.npz'}: {len(archs)} cells, {len(columns)} columns"
        )
    return table


def _cells(config: Config) -> np.ndarray:
    """Architectures (n, 6) int32."""
    if config.cell_list is not None:
        try:
            lines = Path(config.cell_list).read_text().split()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {config.cell_list}: {error}") from error
        if not lines:
            raise ValueError(f"{config.cell_list} has no architectures")
        return np.stack([nb201.from_string(line) for line in lines])
    every = base.every(nb201.SPACE)
    if config.cells is None:
        return every
    if not 1 <= config.cells <= len(every):
        raise ValueError(f"--cells must be 1 to {len(every)}, not {config.cells}")
    chosen = np.random.default_rng(config.seed).permutation(len(every))
    return every[np.sort(chosen[: config.cells])]


def _images(config: Config) -> Images:
    """All images, normalised, of the name that the columns carry."""
    images, _ = image_sources.open_images(config.images)
    images = images._replace(name=config.dataset or images.name)
    if not table_files.is_name(images.name):
        raise ValueError(
            f"columns cannot be called {images.name!r}: give --dataset a name of "
            "letters, digits, points, dashes and underscores"
        )
    height, width = images.x.shape[1:3]
    if height != width:
        raise ValueError(
            f"wanted square images, {config.images} has {height} x {width}"
        )
    return images if config.as_they_are else datasets.normalise(images)


class _Reporter:
    """Prints a line after each 15 seconds, and at the end."""

    def __init__(self, console: Console, proxy: str):
        self._console, self._proxy = console, proxy
        self._start = self._shown = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._shown < SECONDS:
            return
        self._shown = now
        left = (now - self._start) * (total - done) / max(done, 1)
        ending = f", {duration(left)} left" if done < total else ""
        line = f"{self._proxy}: {done} of {total} cells{ending}"
        self._console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    cli.command(main, Config)
