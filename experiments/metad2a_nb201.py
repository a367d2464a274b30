"""MetaD2A's search on NAS-Bench-201 for CIFAR-10, beside searches without its models.

    python -m experiments.metad2a_nb201 --data photos.npz
    python -m experiments.metad2a_nb201 --data photos.npz --models records

PHOTOS are images of CIFAR-10. The generator makes --cells different cells, the predictor
ranks them, and accuracies after 200 epochs are looked up in NAS-Bench-201: of the first
cell; of the best of the first --top by validation; and of the best of them by test, which
is how Lee et al. (2021) report their search, and no search that a user could make. A
Gaussian process searches the generated cells by validation accuracy, with the predictions
as its prior, in --top evaluations. The controls are cells as they were drawn, cells drawn
by the frequencies of operations at each position of the training pairs, uniform cells, a
Gaussian process on all cells without a prior, and all cells in the order of their accuracy
on ImageNet16-120. The other table has statistics of 1,000 independent samples, and the
mean accuracy of 10,000 beside that of the frequencies.

`shipped` models have seen small tasks of free images. `records` trains both on the 4,230
published records of ImageNet tasks, of whose images one of each class is known, and keeps
them in --out. Table and records are reference files, which JAXNAS_SHARED names.

Takes half a minute, and `records` three minutes of one core more. Writes searches.csv and
samples.csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from experiments.common import meta_models, meta_search
from experiments.common.cell_lookup import Lookup, gp_order, read_lookup
from experiments.task_table import pairs
from jaxnas import datasets, models
from jaxnas.datasets import opened
from jaxnas.io import files, run_folder
from jaxnas.io.cache import array_digest
from jaxnas.models.features import ClassFeatures
from jaxnas.studies import cli, terminal
from jaxnas.studies.metad2a.config import MAX_CELLS
from jaxnas.studies.metad2a.inputs import open_models

_SAMPLES = 1000  # for the statistics
_ACCURACIES = 10_000  # samples whose accuracies are looked up
COLUMNS: tuple[str, ...] = (
    "all",
    "first",
    "best by validation",
    "best by test (oracle)",
)


@dataclass(frozen=True)
class Config:
    """Images, models, and the search."""

    data: str
    """Images of CIFAR-10: an npz of x and y, or a folder."""
    models: Literal["shipped", "records"] = "shipped"
    """The models that ship, or models of the published records."""
    copies: int = 3
    """Training records of one cell that the generator of `records` imitates at most; 0:
    all of them."""
    cells: int = 500
    """Cells that are generated."""
    top: int = 30
    """Of these, cells that are looked up."""
    runs: int = 10
    """Searches, each with draws of its own."""
    base_seed: int = 0
    """Seed of everything that is random."""
    out: str = "results/metad2a_nb201"
    """Folder for the tables."""


def main(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """Searches, prints and writes.

    Returns: accuracies (runs,) by procedure and column.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "cells", "top", "runs")
    cli.at_most(config, cells=MAX_CELLS, runs=1000)
    cli.seed(config)
    if config.copies < 0:
        raise ValueError(f"--copies must be at least 0, not {config.copies}")
    if config.top > config.cells:
        raise ValueError("--cells must be at least --top")
    lookup = read_lookup()
    images, _ = opened.open_images(config.data)
    channels = images.x.shape[-1]
    if (images.num_classes, channels) != (10, 3):
        raise ValueError(
            f"{config.data} has {images.num_classes} classes and {channels} colour "
            "channels: wanted images of CIFAR-10, which has 10 and 3"
        )
    names = ("models", "copies", "cells", "top", "runs", "base_seed")
    identity = {name: getattr(config, name) for name in names}
    identity |= {"driver": "metad2a_nb201", "version": 1}
    identity["images"] = array_digest(images.x, images.y)
    out = run_folder.open_or_create(cli.named(config.out), identity, cli.OUT).path
    if config.models == "records":
        trained = pairs.trained(out, config.copies)
    else:
        trained = _shipped()
    kind = trained.generator.network.config.features
    computed = datasets.image_features(images.x, datasets.extractor_of(kind))
    features = models.class_features(computed, images.y)
    searches: dict[str, list[list[float]]] = {}
    for run in range(config.runs):
        for name, order in orders(config, run, trained, features, lookup).items():
            searches.setdefault(name, []).append(accuracies(order, config.top, lookup))
    rows = {
        name: dict(zip(COLUMNS, np.array(values).T, strict=True))
        for name, values in searches.items()
    }
    samples = sample_figures(config, trained, features, lookup)
    _write(rows, samples, out)
    return rows


def _shipped() -> pairs.Trained:
    """The models that ship, and the cells that their generator imitates."""
    loaded = open_models(None, None)
    assert loaded.predictor is not None
    cells = meta_models.imitated_cells(loaded.trained_on)
    assert cells is not None
    return pairs.Trained(loaded.generator, loaded.predictor, cells, 20)


def orders(
    config: Config,
    run: int,
    trained: pairs.Trained,
    features: ClassFeatures,
    lookup: Lookup,
) -> dict[str, np.ndarray]:
    """Cells in the order in which procedures try them, as rows of the table.

    Args:
      config: number of cells.
      run: of the search, which has draws of its own.
      trained: the models.
      features: of the dataset.
      lookup: of the cells.
    """
    key = jax.random.fold_in(jax.random.key(config.base_seed), run)
    key_cells, key_images, key_search = jax.random.split(key, 3)
    options: Any = {"num_images": trained.images}
    made = models.generate(
        trained.generator, key_cells, features, config.cells, **options
    )
    predicted = models.predict(
        trained.predictor, key_images, features, made.arch, **options
    )
    drawn, number = lookup.rows(made.arch), len(lookup.ops)
    rng = np.random.default_rng([config.base_seed, run])
    share = probabilities(trained.cells, lookup)
    return {
        "generator and predictor": drawn[np.argsort(-predicted.mean, kind="stable")],
        "Gaussian process on these": gp_order(
            key_search, lookup, config.top, made.arch, predicted.mean
        ),
        "generator": drawn,
        "frequencies": rng.choice(number, config.cells, replace=False, p=share),
        "uniform": rng.choice(number, config.cells, replace=False),
        "Gaussian process": gp_order(key_search, lookup, config.top),
        "order on ImageNet16-120": np.argsort(-lookup.other)[: config.cells],
    }


def probabilities(cells: np.ndarray, lookup: Lookup) -> np.ndarray:
    """Probabilities (n,) of all cells by the operations at each position of others.

    Args:
      cells: (m, 6) cells whose operations are counted.
      lookup: of all cells.
    """
    shares = meta_search.frequencies(cells)
    product = np.prod(shares[np.arange(6), lookup.ops], 1)
    return product / product.sum()


def accuracies(order: np.ndarray, top: int, lookup: Lookup) -> list[float]:
    """Test accuracies of what a procedure finds, in the order of `COLUMNS`.

    Args:
      order: (k,) rows of cells, in the order in which they are tried.
      top: cells that are looked up.
      lookup: their accuracies.
    """
    first = order[:top]
    by_validation = first[np.argmax(lookup.validation[first])]
    chosen = lookup.test[order[0]], lookup.test[by_validation], lookup.test[first].max()
    return [float(lookup.test[order].mean()), *map(float, chosen)]


def sample_figures(
    config: Config, trained: pairs.Trained, features: ClassFeatures, lookup: Lookup
) -> dict[str, float]:
    """Statistics of independent samples, and their accuracy beside that of frequencies.

    Args:
      config: the seed.
      trained: the models.
      features: of the dataset.
      lookup: of the cells.
    """
    key = jax.random.key(config.base_seed)
    samples = models.sample_graphs(
        trained.generator, key, features, _ACCURACIES, num_images=trained.images
    )
    first = models.Samples(*(array[:_SAMPLES] for array in samples))
    statistics = models.sample_statistics(
        trained.generator, first, trained_on=trained.cells
    )
    accuracy = lookup.test[lookup.rows(samples.arch[samples.valid])]
    control = float(probabilities(trained.cells, lookup) @ lookup.test)
    return statistics._asdict() | {
        "mean accuracy": float(accuracy.mean()),
        "standard error": float(accuracy.std(ddof=1) / np.sqrt(len(accuracy))),
        "mean accuracy of frequencies": control,
        "mean accuracy of the training cells": float(
            lookup.test[lookup.rows(trained.cells)].mean()
        ),
        "mean accuracy of all cells": float(lookup.test.mean()),
    }


def _write(
    rows: dict[str, dict[str, np.ndarray]], samples: dict[str, float], out: Any
) -> None:
    """Prints and writes the tables."""

    def text(values: np.ndarray) -> str:
        if len(values) == 1:
            return f"{values[0]:.2f}"
        error = values.std(ddof=1) / np.sqrt(len(values))
        return f"{values.mean():.2f} ± {error:.2f}"

    header = ["cells", *COLUMNS]
    cells = [[name, *map(text, row.values())] for name, row in rows.items()]
    terminal.show_rows(Console(), header, cells)
    means = [
        [name, *(f"{v.mean():.4f}" for v in row.values())] for name, row in rows.items()
    ]
    files.write_csv(out / "searches.csv", header, means)
    figures = [[name, f"{value:.4f}"] for name, value in samples.items()]
    terminal.show_rows(Console(), ["samples", ""], figures)
    files.write_csv(out / "samples.csv", ["figure", "value"], figures)


if __name__ == "__main__":
    nothing = "interrupted: trained models are kept in --out"
    cli.command(main, Config, interrupted=nothing, cores=cli.use_one_core)
