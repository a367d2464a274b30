"""The program: features of the images, generation, ranking, and a final training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxnas import models
from jaxnas.models.model import Model
from jaxnas.models.statistics import SampleStatistics
from jaxnas.studies import cli, images
from jaxnas.studies.images.study import open_study
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
    Raises: `ValueError` for bad input, before anything is generated or written.
    """
    validate(config)
    seconds: dict[str, float] = {}
    with _timed(seconds, "models"):
        loaded = open_models(config.generator, config.predictor)
    with _timed(seconds, "features"):
        dataset = open_dataset(config, loaded.generator.network.config.features)
    out = cli.folder(config.out, "metad2a")
    keys = jax.random.split(jax.random.key(config.seed), 3)
    with _timed(seconds, "generation"):
        arch = _generate(config, loaded.generator, keys[0], dataset)
    with _timed(seconds, "ranking"):
        ranked = rank(loaded.predictor, keys[1], dataset.features, arch, config.draws)
    with _timed(seconds, "statistics"):
        statistics = _statistics(config, loaded, keys[2], dataset)
    result = results.summary(config, dataset, ranked, statistics)
    training = _training(config, out / "training", result)
    if training is not None:
        open_study(training)  # raises for one of other settings in the folder
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


def _training(
    config: Config, out: Path, result: dict[str, Any]
) -> images.Config | None:
    """Settings of the training and test of the best cell; None without --minutes."""
    if config.minutes is None:
        return None
    return images.Config(
        data=config.data,
        minutes=config.minutes,
        arch=result["cells"][0]["architecture"],
        seed=config.seed,
        out=str(out),
    )
