"""Figures of a trained model on the held-out tasks of a meta-database."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from experiments.common import meta_quality, meta_search
from jaxnas import models
from jaxnas.datasets import meta_database, meta_examples
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.models import meta_data
from jaxnas.models.meta_data import MetaData
from jaxnas.models.meta_evaluation import predict_tasks, type_nll
from jaxnas.models.model import Model

_DRAWS = 4  # subsets of the images that figures are means of


def of_predictor(
    model: Model,
    database: MetaDatabase,
    seen: Callable[[MetaData], MetaData],
    images: int,
) -> dict[str, float]:
    """Agreement of predictions with held-out accuracies, and what the first cell reaches.

    Args:
      model: the predictor.
      database: of the tasks.
      seen: makes data those that the model sees.
      images: of each class in a draw.
    """
    figures, options = {}, {"draws": _DRAWS, "num_images": images}
    for part, data in meta_quality.held_out(database).items():
        predicted = predict_tasks(model, jax.random.key(0), seen(data), **options)
        row = meta_quality.agreement(predicted, data)
        del row["number of pairs"]
        figures |= {f"{part}: {name}": value for name, value in row.items()}
    grid, report = (meta_examples.grid_examples(database, seed) for seed in (0, 1))
    predicted = predict_tasks(model, jax.random.key(0), seen(grid), **options)
    # One cell for all tasks, the best by a regression on the tasks for meta-training.
    train = meta_examples.examples(database, "train")
    effects = meta_search.one_hot(grid) @ meta_search.additive_ridge(train)
    first, fixed = (
        np.take_along_axis(report.accuracy, score.argmax(1)[:, None], 1)[:, 0]
        for score in (predicted, effects)
    )
    gap = meta_search.paired(first, fixed)
    return figures | {f"first cell minus fixed cell: {k}": v for k, v in gap.items()}


def of_generator(
    model: Model,
    database: MetaDatabase,
    train: MetaData,
    seen: Callable[[MetaData], MetaData],
    images: int,
) -> dict[str, float]:
    """Likelihoods and accuracies of cells of held-out tasks, minus those of frequencies.

    Args:
      model: the generator.
      database: of the tasks.
      train: pairs whose operations are counted, those of meta-training.
      seen: makes data those that the model sees.
      images: of each class in a draw.
    """
    key, figures = jax.random.key(0), {}
    options = {"draws": _DRAWS, "num_images": images}
    imitated = meta_search.cells_of(train)
    for part, data in meta_quality.held_out(database).items():
        best = meta_data.best_graphs(data, 1)
        nats = type_nll(model, key, seen(best), **options)
        gap = nats + meta_search.log_probabilities(best, imitated)
        figures[f"{part}: nats"] = float(nats[best.present].mean())
        figures[f"{part}: nats minus frequencies"] = float(gap[best.present].mean())
    grids = [meta_examples.grid_examples(database, seed) for seed in (0, 1)]
    accuracy = np.mean([grid.accuracy for grid in grids], 0)
    nats = type_nll(model, key, seen(grids[0]), **options)
    own = meta_quality.expected_accuracy(-nats, accuracy)
    control = meta_search.log_probabilities(grids[0], imitated)
    control = meta_quality.expected_accuracy(control, accuracy)
    figures["grid: accuracy"] = float(own.mean())
    return figures | {
        f"grid: {name}": value
        for name, value in meta_search.paired(own, control).items()
    }


def of_samples(
    model: Model, database: MetaDatabase, train: MetaData, images: int
) -> dict[str, float]:
    """Statistics of 1,000 independent samples for the first task of the grid.

    Args:
      model: the generator, of features that are not standardised.
      database: of the tasks.
      train: pairs of meta-training, by which cells are novel.
      images: of each class in a draw.
    """
    features = meta_database.task_features(database, int(database.grid_task[0]))
    key, cells = jax.random.key(0), meta_search.cells_of(train)
    samples = models.sample_graphs(model, key, features, 1000, num_images=images)
    statistics = models.sample_statistics(model, samples, trained_on=cells)
    return statistics._asdict()
