"""Quality of MetaD2A's models on the tasks of a meta-database, beside controls.

    python -m experiments.metad2a_report
    python -m experiments.metad2a_report --database results/meta/database.npz
        --generator results/metad2a/generator --out results/metad2a_report

Four tables, on tasks whose classes no model has been trained on:

* predictions: correlations over all records of a part, and the share of the pairs of cells
  within tasks that are in the right order; beside them the same predictor with the images
  of other tasks, and a ridge regression and the mean of the nearest records, both on
  operations, number of classes and mean features;
* generated cells: the negative log-likelihood of the best cells of held-out tasks, given
  their images or those of other tasks, beside frequencies of operations by position;
* accuracy of generated cells: the mean over the cells of the grid by their probability of
  being generated, beside those by frequencies of operations in the generator's training;
* search on the grid: accuracies, from the reporting seed, of the cell that is predicted to
  be best, and of the best of five by the other seed, as paired differences with one fixed
  cell, the best by a ridge regression on the tasks for meta-training, and with random
  search. The ceiling is the best of the whole grid by the other seed: label noise allows
  no more.

Writes report.json to --out.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from rich.console import Console

from experiments.common import meta_models, meta_quality, meta_search
from jaxnas.datasets import meta_database, meta_examples
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.io import records
from jaxnas.models import meta_data
from jaxnas.models.meta_data import MetaData
from jaxnas.models.meta_evaluation import predict_tasks, type_nll
from jaxnas.models.model import Model
from jaxnas.studies import cli, terminal
from jaxnas.studies.metad2a.config import MAX_DRAWS
from jaxnas.studies.metad2a.inputs import Models, open_models
from jaxnas.types import require_kind

FORMAT = 1  # of report.json
RANDOM, BEST_OF = 20, 5  # trainings of the search

Rows = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Config:
    """The database and the models."""

    database: str = "free-images"
    """free-images, or database.npz of `experiments.build_meta_database`."""
    generator: str | None = None
    """Folder of a generator; default: the one that ships."""
    predictor: str | None = None
    """Folder of a predictor; default: the one beside the generator."""
    draws: int = 10
    """Subsets of the images; predictions are means over them."""
    images: int = 20
    """Images of each class in a subset."""
    base_seed: int = 0
    """Seed of the draws."""
    out: str = "results/metad2a_report"
    """Folder for the results."""


def main(config: Config) -> dict[str, Rows]:
    """Prints and returns the tables by name.

    Raises: `ValueError` for bad input, before anything is computed or written.
    """
    cli.positive(config, "draws", "images")
    cli.at_most(config, draws=MAX_DRAWS, images=meta_models.MOST["images"])
    cli.seed(config)
    database = meta_database.load(config.database)
    loaded = open_models(config.generator, config.predictor)
    if loaded.predictor is None:
        raise ValueError("there is no predictor beside the generator: give --predictor")
    train = meta_examples.examples(database, "train")
    features = meta_database.task_features(database, 0)
    require_kind(features, loaded.generator.network.config.features)
    out = cli.folder(config.out, "metad2a_report")
    tables = {
        "predictions": predictions(config, loaded.predictor, database, train),
        "generated cells": likelihoods(config, loaded.generator, database, train),
        "accuracy of generated cells": generated_accuracies(
            config, loaded, database, train
        ),
        "search": search(config, loaded.predictor, database, train),
    }
    records.write_record(out / "report.json", records.without_nan(tables), FORMAT)
    for name, rows in tables.items():
        _show(Console(), name, rows)
    return tables


def predictions(
    config: Config, predictor: Model, database: MetaDatabase, train: MetaData
) -> Rows:
    """Correlations of predicted accuracies with those of trainings, by part.

    Args:
      config: draws of the images.
      predictor: of the accuracies.
      database: of the tasks.
      train: its records for meta-training, which the controls are fitted to.
    """
    rows: Rows = {}
    for part, data in meta_quality.held_out(database).items():
        outputs = {
            "predictor": _predict(config, predictor, data),
            "images of other tasks": _predict(
                config, predictor, meta_quality.exchanged(data)
            ),
            "ridge": meta_search.task_ridge(train, data),
            "nearest neighbours": meta_search.task_neighbours(train, data),
        }
        for name, output in outputs.items():
            rows[f"{part}: {name}"] = meta_quality.agreement(output, data)
    noise = meta_database.label_noise(database)
    rows["ceiling by label noise"] = {"pearson": noise.ceiling}
    return rows


def likelihoods(
    config: Config, generator: Model, database: MetaDatabase, train: MetaData
) -> Rows:
    """Negative log-likelihoods of the best cells of tasks, in nats, by part.

    Args:
      config: draws of the images.
      generator: of the cells.
      database: of the tasks.
      train: its records for meta-training.
    """
    key, rows = jax.random.key(config.base_seed), {}
    options = {"draws": config.draws, "num_images": config.images}
    recorded = meta_search.cells_of(meta_data.best_graphs(train, 1))
    for part, data in meta_quality.held_out(database).items():
        best = meta_data.best_graphs(data, 1)
        values = {
            "generator": type_nll(generator, key, best, **options),
            "images of other tasks": type_nll(
                generator, key, meta_quality.exchanged(best), **options
            ),
            "frequencies": -meta_search.log_probabilities(best, recorded),
        }
        control = values["frequencies"][best.present]
        for name, value in values.items():
            nats = value[best.present]
            row = {"nats": float(nats.mean())}
            rows[f"{part}: {name}"] = row | meta_search.paired(nats, control)
    return rows


def generated_accuracies(
    config: Config, loaded: Models, database: MetaDatabase, train: MetaData
) -> Rows:
    """Mean accuracies of cells of the grid, weighted by probabilities of generation.

    Args:
      config: draws of the images.
      loaded: the generator, and what it was trained on.
      database: of the grid.
      train: records for meta-training, whose best cells are counted for the frequencies
        if the checkpoint of the generator does not list its own.
    """
    key, generator = jax.random.key(config.base_seed), loaded.generator
    options = {"draws": config.draws, "num_images": config.images}
    grid, other = (meta_examples.grid_examples(database, seed) for seed in (0, 1))
    # No cell is chosen by them, so that both seeds count.
    accuracy = (np.asarray(grid.accuracy) + np.asarray(other.accuracy)) / 2
    cells = meta_models.imitated_cells(loaded.trained_on)
    if cells is None:
        cells = meta_search.cells_of(meta_data.best_graphs(train, 1))
    scores = {
        "generator": -type_nll(generator, key, grid, **options),
        "images of other tasks": -type_nll(
            generator, key, meta_quality.exchanged(grid), **options
        ),
        "frequencies of its training cells": meta_search.log_probabilities(grid, cells),
        "uniform": np.zeros_like(accuracy),
    }
    values = {
        name: meta_quality.expected_accuracy(score, accuracy)
        for name, score in scores.items()
    }
    control = values["frequencies of its training cells"]
    return {
        name: {"accuracy": float(value.mean())} | meta_search.paired(value, control)
        for name, value in values.items()
    }


def search(
    config: Config, predictor: Model, database: MetaDatabase, train: MetaData
) -> Rows:
    """Accuracies on the reporting seed of cells that are chosen from the grid.

    Args:
      config: draws of the images.
      predictor: of the accuracies.
      database: of the grid.
      train: its records for meta-training.
    """
    grids = [meta_examples.grid_examples(database, seed) for seed in (0, 1)]
    choose, report = (np.asarray(grid.accuracy) for grid in grids)
    effects = meta_search.additive_ridge(train)
    orders = {
        "predictor": _predict(config, predictor, grids[0]),
        "fixed order (ridge)": meta_search.one_hot(grids[0]) @ effects,
    }
    orders = {n: np.argsort(-value, 1, kind="stable") for n, value in orders.items()}
    random = min(RANDOM, choose.shape[1])
    values = {
        f"{name}, {what}": meta_search.best_of(order[:, :count], choose, report)
        for name, order in orders.items()
        for what, count in (("first", 1), (f"best of {BEST_OF}", BEST_OF))
    }
    values["random cell"] = report.mean(1)
    values[f"random search, {random}"] = meta_search.random_search(
        choose, report, random
    )
    values["ceiling: best of the grid by the other seed"] = meta_search.best_of(
        np.broadcast_to(np.arange(choose.shape[1]), choose.shape), choose, report
    )
    fixed, by_chance = (
        values[name]
        for name in ("fixed order (ridge), first", f"random search, {random}")
    )
    names = {"difference": "minus random search", "error": "its error"}
    rows: Rows = {}
    for name, value in values.items():
        row = {"accuracy": float(value.mean())} | meta_search.paired(value, fixed)
        gap = meta_search.paired(value, by_chance)
        rows[name] = row | {names[k]: v for k, v in gap.items()}
    rows["tasks"] = {"accuracy": float(len(choose))}
    return rows


def _predict(config: Config, predictor: Model, data: MetaData) -> np.ndarray:
    """Predicted accuracies (t, n)."""
    key = jax.random.key(config.base_seed)
    options = {"draws": config.draws, "num_images": config.images}
    return predict_tasks(predictor, key, data, **options)


def _show(console: Console, title: str, rows: Rows) -> None:
    """Prints a table; a dash where a row has no such figure."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [
        [name, *(f"{row[c]:.4g}" if c in row else "-" for c in columns)]
        for name, row in rows.items()
    ]
    terminal.show_rows(console, [title, *columns], cells)


if __name__ == "__main__":
    nothing = "interrupted: nothing was written"
    cli.command(main, Config, interrupted=nothing, cores=cli.use_one_core)
