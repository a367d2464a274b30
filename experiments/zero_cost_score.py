"""Scores untrained networks of NAS-Bench-201 with zero-cost proxies, all cells or some.

    python -m experiments.zero_cost_score --images digits --cells 100
    python -m experiments.zero_cost_score --images cifar-10-batches-py
        --proxies hook_logdet synflow snip live_macs --out results/cifar10
    python -m experiments.zero_cost_score --images photos.npz --dataset cifar10
        --cells 1000 --proxies az zen

Writes scores.npz to --out, a table file whose columns are score/PROXY/DATASET, which
zero_cost_report, zero_cost_search and few_labels take as --scores-from. Every finished
chunk is kept in --out; a run can be killed and started again, and later runs add columns
of other proxies on the same images, cells and networks.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxnas import datasets
from jaxnas.benchmarks import table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.datasets import Images, opened
from jaxnas.io import run_folder
from jaxnas.io.cache import array_digest
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.proxies import scoring
from jaxnas.proxies.catalogue import CATALOGUE, CLOSED_FORM
from jaxnas.proxies.engine import Engine
from jaxnas.spaces import base
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.studies import cli, seed_store
from jaxnas.studies.progress import Counter, Progress


@dataclass(frozen=True)
class Config:
    """What to score, on which images, and with what."""

    images: str = "digits"
    """digits, those of scikit-learn; fashion-mnist; an npz of x and y; a folder of class
    folders with PNG, JPEG or WebP files, which are read as a viewer shows them: upright,
    and over white where they are transparent; a folder whose folder train has such class
    folders; a folder of idx files; a batch of CIFAR for Python, or the folder of its
    batches."""
    dataset: str | None = None
    """Name of the images in the columns; those of known datasets are normalised by the
    constants of these, others by their own mean and deviation. Default: by the images."""
    as_they_are: bool = False
    """Leave the images as they are, where they have been normalised before."""
    proxies: tuple[str, ...] = ("hook_logdet", "synflow", "snip", "macs", "live_macs")
    """Which scores; jaxnas/proxies/catalogue.py has all of them."""
    cells: int | None = None
    """How many random cells; default: all 15,625."""
    cell_list: str | None = None
    """A text file with an architecture string in each line, instead."""
    classes: int | None = None
    """Classes of the network's head; default: those of the images."""
    channels: int = 16
    """Channels of the first stage."""
    cells_per_stage: int = 5
    """Cells in each stage."""
    images_used: int = 128
    """Size of the random batch of images, the same for every network."""
    own_weights: bool = False
    """Draw weights for each architecture; default: common random numbers."""
    deduplicate: bool = True
    """Score cells that the proxy cannot tell apart once."""
    engine: Engine | None = None
    """How networks are scored: sequential, which is the default on a CPU, or grouped, the
    default on an accelerator."""
    lanes: int | None = None
    """Architectures in one chunk of a device; default: by engine and proxy."""
    seed: int = 0
    """Seed of the weights, the batch of images and the random cells."""
    out: str = "results/zero_cost_score"
    """Folder for the results."""


def main(config: Config) -> BenchmarkTable:
    """Scores the cells and writes the table.

    Returns: the table that was written, with the columns of earlier runs in the folder.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    _validate(config)
    archs = _cells(config)
    images = _images(config)
    x, y = _batch(config, images)
    network = NetworkConfig(
        stem_channels=config.channels,
        cells_per_stage=config.cells_per_stage,
        num_classes=config.classes or images.num_classes,
        image_size=x.shape[1],
        in_channels=x.shape[3],
    )
    folder = seed_store.open_folder(
        config.out, _identity(config, images.name, archs, network, (x, y))
    )
    out, console = folder.path, Console(stderr=True)
    columns = _earlier(out / "scores.npz")
    run_folder.create(folder)
    with Progress(console) as shown:
        options = {"folder": out / "chunks", "report": functools.partial(_show, shown)}
        for proxy in config.proxies:
            if proxy in CLOSED_FORM:
                value = CLOSED_FORM[proxy](network, archs).astype(np.float64)
                columns.add(f"score/{proxy}/{images.name}", value, "closed form")
                continue
            shown.begin(proxy, Counter(len(archs), "cell"))
            settings = _settings(config, network, proxy)
            key = jax.random.key(config.seed)
            scores = scoring.score_many(key, settings, archs, x, y, **options)
            origin = f"{settings}, seed {config.seed}, {len(x)} images"
            columns.add_scores(proxy, images.name, scores, origin)
    manifest = {
        "source": f"zero_cost_score on {Path(config.images).name}",
        # Of the batch: the images can come from many files, or from none.
        "sha256": array_digest(x, y),
        "columns": columns.meanings,
    }
    table = BenchmarkTable(
        "zero-cost", nb201.SPACE.name, archs, columns.values, manifest
    )
    if jax.process_index() == 0:
        table_files.save(out / "scores.npz", table)
        line = f"{out / 'scores.npz'}: {len(archs)} cells, "
        line += ", ".join(name for name in columns.values if name[:6] == "score/")
        console.print(line, highlight=False, soft_wrap=True)
    return table


class Columns(NamedTuple):
    """Columns of a table file, and what they mean, by name."""

    values: dict[str, np.ndarray]  # (n,) each
    meanings: dict[str, str]

    def add(self, name: str, values: np.ndarray, meaning: str) -> None:
        """Adds one column."""
        self.values[name], self.meanings[name] = values, meaning

    def add_scores(
        self, proxy: str, dataset: str, scores: scoring.Scores, origin: str
    ) -> None:
        """Adds all scores that one proxy computes, and the seconds that they took."""
        seconds = scores.seconds.astype(np.float32)
        for name, values in scores.values.items():
            self.add(f"score/{name}/{dataset}", values, origin)
            meaning = f"seconds of {proxy}, all its scores"
            self.add(f"scoring/{name}/{dataset}", seconds, meaning)


def _earlier(path: Path) -> Columns:
    """Reads the columns of earlier runs from a table file; none if there is no file."""
    if not path.exists():
        return Columns({}, {})
    table = table_files.load(path)
    return Columns(dict(table.columns), dict(table.manifest["columns"]))


def _identity(
    config: Config,
    dataset: str,
    archs: np.ndarray,
    network: NetworkConfig,
    batch: tuple[np.ndarray, np.ndarray],
) -> dict[str, Any]:
    """All that a column depends on besides its proxy, as JSON values by name.

    Args:
      config: the settings.
      dataset: the name of the images in the columns.
      archs: (n, 6) the cells.
      network: its sizes.
      batch: the images x (b, h, w, c) and labels y (b,).
    """
    return {
        "driver": "zero_cost_score",
        "dataset": dataset,
        "images_sha256": array_digest(*batch),
        "cells": len(archs),
        "cells_sha256": array_digest(archs),
        "network": dataclasses.asdict(network),
        "own_weights": config.own_weights,
        "deduplicate": config.deduplicate,
        "seed": config.seed,
    }


def _validate(config: Config) -> None:
    """Raises `ValueError` for settings that are wrong whatever the images are."""
    cli.positive(config, "images_used", "channels", "cells_per_stage")
    cli.at_most(config, channels=512, cells_per_stage=50)
    given = (n for n in ("classes", "lanes") if getattr(config, n) is not None)
    cli.positive(config, *given)
    num = len(base.every(nb201.SPACE))
    if config.lanes is not None and config.lanes > num:
        raise ValueError(
            f"--lanes must be at most the number of cells, {num}, not {config.lanes}"
        )
    cli.seed(config, "seed")
    cli.require_names(config.proxies, (*CATALOGUE, *CLOSED_FORM), "proxy")


def _settings(
    config: Config, network: NetworkConfig, proxy: str
) -> scoring.ScoringSettings:
    return scoring.ScoringSettings(
        network,
        proxy,
        own_weights=config.own_weights,
        deduplicate=config.deduplicate,
        engine=config.engine,
        lanes=config.lanes,
    )


def _cells(config: Config) -> np.ndarray:
    """The architectures (n, 6) int32 to score: listed, drawn at random, or all."""
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
    """The images, normalised, with the name that the columns carry."""
    images, _ = opened.open_images(config.images)
    images = images._replace(name=config.dataset or images.name)
    if not table_files.is_name(images.name):
        raise ValueError(
            f"columns cannot be called {images.name!r}: give --dataset a name of "
            "letters, digits, points, dashes and underscores"
        )
    images = opened.resize_square(images, images.x.shape[2])
    return images if config.as_they_are else datasets.normalise(images)


def _batch(config: Config, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """The batch by which networks are scored: x (b, h, w, c) and y (b,)."""
    if config.images_used > (num := len(images.x)):
        raise ValueError(
            f"{images.name} has {num} images, fewer than a batch of "
            f"{config.images_used}: give --images-used {num} or less"
        )
    return datasets.batch(images, config.images_used, seed=config.seed)


def _show(shown: Progress, done: int, total: int) -> None:
    """Shows how many of the cells of this process have scores."""
    shown.advance(done - shown.done, total=total)


if __name__ == "__main__":
    cli.command(main, Config)
