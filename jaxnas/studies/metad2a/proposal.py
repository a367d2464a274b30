"""The program: features of the images, generation, ranking, and a final training."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxnas import models
from jaxnas.io import run_folder
from jaxnas.models.model import Model
from jaxnas.models.statistics import SampleStatistics
from jaxnas.studies import cli, images
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.studies.images.study import Inputs, check_folder, open_inputs
from jaxnas.studies.metad2a import results
from jaxnas.studies.metad2a.config import Config, validate
from jaxnas.studies.metad2a.inputs import (
    Dataset,
    Models,
    learned_pool,
    open_dataset,
    open_models,
)
from jaxnas.studies.metad2a.ranking import rank


def propose(config: Config) -> dict[str, Any]:
    """Proposes architectures for images, and trains the best one if there are minutes.

    Args:
      config: the images, the models, the sizes and the folder.

    Returns: the content of result.json: "cells", best first, each with "architecture",
      "predicted" and "spread"; "statistics", "seconds" and others.
    Raises: `ValueError` for bad input, before anything is generated or written; for a
      folder with the training of another cell, before results are written.
    """
    validate(config)
    seconds: dict[str, float] = {}
    with _timed(seconds, "models"):
        loaded = open_models(config.generator, config.predictor)
    with _timed(seconds, "features"):
        dataset = open_dataset(config, loaded.generator.network.config.features)
    trained = _open_training(config)
    out = cli.folder(config.out, "metad2a")
    keys = jax.random.split(jax.random.key(config.seed), 3)
    with _timed(seconds, "generation"):
        arch = _generate(config, loaded.generator, keys[0], dataset)
    with _timed(seconds, "ranking"):
        ranked = rank(loaded.predictor, keys[1], dataset.features, arch, config.draws)
    with _timed(seconds, "statistics"):
        statistics = _statistics(config, loaded, keys[2], dataset)
    result = results.summary(config, dataset, ranked, statistics)
    training = None
    if trained is not None:
        best = result["cells"][0]["architecture"]
        training = dataclasses.replace(trained.config, arch=best)
        run_folder.create(check_folder(training, trained.task))
    console = Console(stderr=True)
    if pool := learned_pool(loaded.trained_on, dataset.name):
        console.print(
            f"the models were trained on accuracies on {pool}: predictions for it are "
            "better than for other images",
            highlight=False,
        )
    with _timed(seconds, "pictures"):
        results.draw_cells(out, result, config.pictures)
    results.show(console, result, seconds)
    result["seconds"] = seconds
    results.write(out, result, ranked)
    if training is not None:
        with _timed(seconds, "training"):
            test = images.search_images(training)["test"]
        result |= {"test": test, "seconds": seconds}
        results.write(out, result, ranked)
    return result


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Notes the seconds that the body takes."""
    begin = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - begin, 3)


def _generate(
    config: Config, generator: Model, key: jax.Array, dataset: Dataset
) -> np.ndarray:
    """Generates different cells (K, 6).

    Raises: `ValueError` if the generator does not make that many.
    """
    try:
        return models.generate(generator, key, dataset.features, config.cells).arch
    except ValueError as error:
        raise ValueError(f"{error}: ask for fewer by --cells") from error


def _statistics(
    config: Config, loaded: Models, key: jax.Array, dataset: Dataset
) -> SampleStatistics:
    """Statistics of independent samples, before any selection."""
    generator, cells = loaded.generator, loaded.trained_on.get("cells")
    samples = models.sample_graphs(generator, key, dataset.features, config.samples)
    known = None if cells is None else np.asarray(cells)
    return models.sample_statistics(generator, samples, trained_on=known)


def _open_training(config: Config) -> Inputs | None:
    """Opens the images and settings of the training; None without --minutes.

    Raises: `ValueError` if they, or the folder of the training, cannot be used.
    """
    if config.minutes is None:
        return None
    out = Path(cli.named(config.out)) / "training"
    settings = images.Config(
        data=config.data, minutes=config.minutes, seed=config.seed, out=str(out)
    )
    inputs = open_inputs(settings)
    # The best cell, which the folder belongs to as well, is not known yet.
    found = (out / run_folder.RECORD).exists()
    arch = run_folder.read_identity(out).get("arch") if found else None
    check_folder(dataclasses.replace(inputs.config, arch=arch), inputs.task)
    TimeBudget(out / "budget.json", 60 * config.minutes)  # refuses fewer minutes
    return inputs
