"""What do MetaD2A's models learn from images, from cells, and from their pairs?

    python -m experiments.metad2a_ablations
    python -m experiments.metad2a_ablations --databases free-images hog.npz untrained.npz

Trains variants of the models on a meta-database, each from --seeds seeds:

* `predictor`; the same that sees the images alone (`predictor-images`), or the cells alone
  (`predictor-cells`);
* `generator`, of the cells that the predictor of the same seed ranks best, as
  `experiments.train_metad2a`; the same of pairs whose tasks are shuffled
  (`generator-shuffled`), as a variational auto-encoder (`generator-noise`, eps_scale 1
  instead of 0.01), and with other edges of the graphs (`generator-line10`,
  `generator-chain11`).

All but the first database, of other features of the same images, are for `predictor` and
`generator` alone; `experiments.build_meta_database --features` writes them.

Prints means over the seeds, on tasks of unseen classes, with their standard errors. Of
predictors: correlations and the share of pairs within tasks that are in the right order. Of
generators: the likelihood of the best recorded cells, and the mean accuracy of the cells
that they generate, estimated on the grid, as differences from the frequencies of operations
at each position of the training pairs; validity and uniqueness of 1,000 samples for the
first task for tests. Writes runs.csv, one row for each training, and the models to --out;
the same command resumes after the last finished training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from experiments.ablations.figures import of_generator, of_predictor, of_samples
from experiments.ablations.variants import ON_ALL, VARIANTS, Variant
from experiments.common import meta_models
from jaxnas import models
from jaxnas.datasets import meta_database, meta_examples
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.io import checkpoints, files, run_folder
from jaxnas.io.cache import array_digest
from jaxnas.io.run_folder import RunFolder
from jaxnas.models import checkpoint, meta_training
from jaxnas.models.meta_data import MetaData
from jaxnas.models.nasbench201 import CODEC
from jaxnas.models.standardise import feature_scale, fold, standardised
from jaxnas.studies import cli, terminal
from jaxnas.studies.progress import Counter, Progress

_PAIRS = "types", "accuracy", "present"  # fields of the data that pairs replace
_ORDER_WEIGHT, _RATE, _HIDDEN = 4.0, 3e-4, 56  # as of `train_metad2a`


@dataclass(frozen=True)
class Config:
    """Which variants, and their training."""

    databases: tuple[str, ...] = ("free-images",)
    """Meta-databases of the same tasks with different features."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which variants, by the names above; all but `predictor-...` need `predictor`."""
    seeds: int = 3
    """Trainings of each variant."""
    base_seed: int = 0
    """The first seed."""
    hidden: int = 128
    """Width of the states of vertices of the predictor."""
    latent: int = 56
    """Width of the embeddings of datasets and graphs, a multiple of 4."""
    images: int = 12
    """Images of each class that a step draws."""
    batch: int = 8
    """Tasks of a step."""
    epochs: int = 60
    """Largest number of epochs."""
    patience: int = 12
    """Epochs without a lower validation loss after which a training ends."""
    out: str = "results/metad2a_ablations"
    """Folder for the results."""


class Run(NamedTuple):
    """A training: a variant on a database from a seed."""

    database: str
    variant: str
    seed: int


def main(config: Config) -> dict[Run, dict[str, float]]:
    """Trains what is missing, prints and writes.

    Returns: the figures of each training.
    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "seeds", "hidden", "latent", "images", "batch", "epochs")
    cli.positive(config, "patience")
    cli.seed(config)
    cli.require_names(config.variants, VARIANTS, "variant")
    if not config.databases:
        raise ValueError("no database given: wanted --databases free-images, say")
    databases = {path: meta_database.load(path) for path in config.databases}
    for database in databases.values():
        meta_examples.grid_examples(database, 0)  # raises without a grid
        _network(config, VARIANTS["generator"], database)  # raises for wrong sizes
    checkpoints.require_orbax()
    names = ("hidden", "latent", "images", "batch", "epochs", "patience")
    identity = {name: getattr(config, name) for name in names}
    identity |= {"driver": "metad2a_ablations"}
    folder = run_folder.open_or_create(cli.named(config.out), identity, cli.OUT)
    runs, figures = list(_runs(config)), {}
    with Progress(Console(stderr=True)) as progress:
        progress.begin("trainings", Counter(len(runs), "training"))
        for run in runs:
            figures[run] = _figures(config, run, databases[run.database], folder)
            progress.advance(1)
    _write(figures, databases, folder.path)
    return figures


def _runs(config: Config) -> Iterator[Run]:
    """Lists the trainings; a predictor precedes the generators of its cells."""
    for number, database in enumerate(config.databases):
        for seed in range(config.base_seed, config.base_seed + config.seeds):
            for variant in VARIANTS:
                if variant in config.variants and (not number or variant in ON_ALL):
                    yield Run(database, variant, seed)


def _figures(
    config: Config, run: Run, database: MetaDatabase, folder: RunFolder
) -> dict[str, float]:
    """The figures of a training, which is done unless the folder has them."""
    parts = [meta_examples.examples(database, p) for p in ("train", "validation")]
    digest = array_digest(*(array for data in parts for array in data))
    name = f"{database.kind.name}/{run.variant}-{run.seed}"
    labels = {"records": digest, "variant": run.variant, "seed": run.seed}
    try:
        piece = run_folder.load_piece(folder, f"figures/{name}", labels)
    except ValueError:
        piece = _trained(config, run, database, parts, folder, digest)
        run_folder.save_piece(folder, f"figures/{name}", piece, labels)
    return {key: float(value) for key, value in piece.items()}


def _trained(
    config: Config,
    run: Run,
    database: MetaDatabase,
    parts: list[MetaData],
    folder: RunFolder,
    digest: str,
) -> dict[str, float]:
    """Trains a model, keeps it in the folder, and evaluates it."""
    variant, scale = VARIANTS[run.variant], feature_scale(parts[0])
    network = _network(config, variant, database)
    if variant.generates:
        parts = _pairs(config, run, parts, folder, database.kind.name)
    train, validation = (standardised(data, scale) for data in parts)
    train = variant.change(train, run.seed)
    if variant.everywhere:
        validation = variant.change(validation, run.seed)
    training = meta_training.Training(
        *map(jax.device_put, (train, validation)),
        batch=config.batch,
        num_images=config.images,
        rate=_RATE,
        epochs=config.epochs,
        patience=config.patience,
        order_weight=_ORDER_WEIGHT,
    )
    model = meta_models.initial_model(network, run.seed, train)
    model, state = meta_training.train(jax.random.key(run.seed), model, training)
    best = meta_training.best_epoch(state)
    figures = {"epoch": best, "validation loss": state.curve[best - 1][1]}
    path = files.make_folder(folder.path / "models" / database.kind.name)
    path /= f"{run.variant}-{run.seed}"
    checkpoint.save(path, fold(model, scale), split=digest)

    def seen(data: MetaData) -> MetaData:
        data = standardised(data, scale)
        return variant.change(data, run.seed) if variant.everywhere else data

    if not variant.generates:
        return figures | of_predictor(model, database, seen, config.images)
    figures |= of_generator(model, database, parts[0], seen, config.images)
    return figures | of_samples(fold(model, scale), database, parts[0], config.images)


def _network(config: Config, variant: Variant, database: MetaDatabase) -> Any:
    """The network of a variant, for the features of a database."""
    sizes = models.ModelConfig(
        CODEC.num_vertices,
        CODEC.num_types,
        hidden=config.hidden,
        latent=config.latent,
        adjacency=variant.adjacency,
        features=database.kind,
        eps_scale=variant.eps_scale,
    )
    if not variant.generates:
        return models.Predictor(sizes)
    return models.Generator(replace(sizes, hidden=min(_HIDDEN, config.hidden)))


def _pairs(
    config: Config, run: Run, parts: list[MetaData], folder: RunFolder, kind: str
) -> list[MetaData]:
    """The cells that the predictor of the same seed ranks best, kept in the folder.

    Raises: `ValueError` if that predictor has not been trained.
    """
    path = folder.path / f"models/{kind}/predictor-{run.seed}"
    if not checkpoints.exists(path):
        raise ValueError(
            f"{path} is missing, which ranks the cells of the generator: add `predictor` "
            "to --variants"
        )
    loaded = checkpoint.load(path)
    name, labels = f"pairs/{kind}/{run.seed}", {"records": loaded.split}
    try:
        piece = run_folder.load_piece(folder, name, labels)
    except ValueError:
        made = meta_models.ranked_cells(
            loaded.model, CODEC, parts, run.seed, images=config.images
        )
        piece = {
            f"{field}/{number}": getattr(data, field)
            for number, data in enumerate(made)
            for field in _PAIRS
        }
        run_folder.save_piece(folder, name, piece, labels)
    return [
        data._replace(**{field: piece[f"{field}/{number}"] for field in _PAIRS})
        for number, data in enumerate(parts)
    ]


def _write(
    figures: dict[Run, dict[str, float]], databases: dict[str, MetaDatabase], out: Path
) -> None:
    """Prints means and standard errors over the seeds, and writes each training."""
    columns = ["features", "variant", "seed", "figure", "value"]
    rows = [
        [databases[run.database].kind.name, run.variant, run.seed, name, f"{value:.6g}"]
        for run, values in figures.items()
        for name, value in values.items()
    ]
    files.write_csv(out / "runs.csv", columns, rows)
    for prefix in ("predictor", "generator"):
        groups: dict[tuple[str, str], list[dict[str, float]]] = {}
        for run, values in figures.items():
            if run.variant.startswith(prefix):
                key = databases[run.database].kind.name, run.variant
                groups.setdefault(key, []).append(values)
        names = dict.fromkeys(n for v in groups.values() for row in v for n in row)
        cells = [
            [
                name,
                *(
                    _mean([row[name] for row in v if name in row])
                    for v in groups.values()
                ),
            ]
            for name in names
        ]
        header = [prefix, *(f"{variant}, {kind}" for kind, variant in groups)]
        if groups:
            terminal.show_rows(Console(), header, cells)


def _mean(values: list[float]) -> str:
    """A mean with its standard error; a dash for no value."""
    if not values:
        return "-"
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):.4g}" + (f" ± {error:.2g}" if len(values) > 1 else "")


if __name__ == "__main__":
    cli.command(main, Config)
