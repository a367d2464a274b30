"""Initial parameters and training pairs of MetaD2A's models.

model = initial_model(network, 0, train)
pairs = ranked_cells(predictor, codec, [train, validation], 0)  # for a generator
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnas
from jaxnas import models
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.datasets.tasks import PARTS
from jaxnas.models import checkpoint, meta_data
from jaxnas.models.checkpoint import Checkpoint
from jaxnas.models.graphs import Codec
from jaxnas.models.meta_data import MetaData
from jaxnas.models.meta_evaluation import draw_graphs, predicted_best
from jaxnas.models.model import Model, check_model
from jaxnas.studies import cli

LEARNED = ("train", "validation")  # parts that parameters and their epoch depend on
# Largest values of flags; a step of a training takes a few gigabytes with them.
MOST = {
    "hidden": 2048,
    "generator_hidden": 2048,
    "latent": 2048,
    "images": 200,
    "batch": 512,
}


def check_sizes(config: Any) -> None:
    """Checks the sizes of models and steps that a driver has as flags.

    Args:
      config: the settings of the driver, with `latent` and others of `MOST`.

    Raises: `ValueError` that names the flag, for sizes below 1 or above `MOST`, and for a
      `latent` that the heads of attention do not divide.
    """
    limits = {name: most for name, most in MOST.items() if hasattr(config, name)}
    cli.positive(config, *limits)
    cli.at_most(config, **limits)
    if config.latent % models.ModelConfig.num_heads:
        raise ValueError(
            f"--latent must be a multiple of {models.ModelConfig.num_heads}, not "
            f"{config.latent}"
        )


def initial_model(network: Any, seed: int, data: MetaData) -> Model:
    """Draws the initial parameters of a generator or a predictor.

    Args:
      network: the generator or predictor.
      seed: of the parameters.
      data: for meta-training; a predictor has mean and deviation of its accuracies.

    Raises: `ValueError` for a predictor of accuracies without variation.
    """
    model = models.init(network, jax.random.key(seed))
    if not isinstance(network, models.Predictor):
        return model
    mean, std = meta_data.moments(data)
    # Outputs are deviations from the mean in units of std; in the published network
    # they are hundredths of these, which Adam resolves less well.
    return models.with_accuracy(model, mean, std / 100)


def ranked_cells(
    predictor: Model,
    codec: Codec,
    parts: Sequence[MetaData],
    seed: int,
    *,
    candidates: int = 50,
    best: int = 10,
    images: int = 20,
) -> list[MetaData]:
    """Makes the pairs of tasks and cells that a generator imitates.

    Args:
      predictor: which ranks the candidates of each task.
      codec: of the search space.
      parts: for meta-training and validation.
      seed: of the candidates and of the draws of images.
      candidates: random cells of each task.
      best: cells of each task that are kept, those of the best predictions.
      images: of each class in a draw.
    """
    key, rng = jax.random.key(seed), np.random.default_rng(seed)
    draws = [draw_graphs(rng, codec, len(data.types), candidates) for data in parts]
    return [
        predicted_best(predictor, key, data, own, best, num_images=images)
        for data, own in zip(parts, draws, strict=True)
    ]


def describe_cells(codec: Codec, data: MetaData) -> dict[str, Any]:
    """Lists the cells that a generator imitates, for the manifest of its checkpoint.

    Args:
      codec: of the search space.
      data: the records.

    Returns: "cells", the distinct ones, and "copies", the records of each.
    """
    cells = jax.vmap(codec.architecture)(jnp.asarray(data.types[data.present]))
    cells, copies = np.unique(np.asarray(cells), axis=0, return_counts=True)
    return {"cells": cells.tolist(), "copies": copies.tolist()}


def imitated_cells(trained_on: Mapping[str, Any]) -> np.ndarray | None:
    """The cells (m, d) that a generator imitates, each as often as there are records.

    Args:
      trained_on: of its checkpoint.

    Returns: None if the checkpoint does not list them with their numbers of records.
    """
    if "copies" not in trained_on:
        return None
    return np.repeat(np.array(trained_on["cells"]), trained_on["copies"], axis=0)


def origin(data: MetaData, database: MetaDatabase) -> dict[str, Any]:
    """Describes training data as JSON values, for the manifest of a checkpoint.

    Args:
      data: for meta-training.
      database: that it is of; pools of tasks for tests alone are left out.
    """
    learned = {t.pool for t in database.tasks if PARTS[t.part] in LEARNED}
    pools = database.manifest.get("pools", {})
    return {
        "tasks": len(data.types),
        "records": int(data.present.sum()),
        "pools": {name: pool for name, pool in pools.items() if name in learned},
        "trainings": database.manifest.get("settings", {}),
        "added": database.manifest.get("added", []),
        "jaxnas": jaxnas.__version__,
    }


def joined_predictors(
    paths: Sequence[str], network: models.Predictor, codec: Codec, sha256: str
) -> list[Checkpoint]:
    """Reads predictors, or ensembles of them, that are joined with one to be trained.

    Args:
      paths: their folders.
      network: of the one to be trained.
      codec: of the search space.
      sha256: digest of its records.

    Raises: `ValueError` that names the folder, for one that is given twice, damaged or not
      of a predictor, of other sizes, or trained on other records.
    """
    found = []
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"--join {path} is given twice")
        try:
            found.append(other := checkpoint.load(path))
            check_model(other.model, models.Predictor, codec)
        except ValueError as error:
            raise ValueError(f"--join {path}: {error}") from error
        wanted, own = (
            dataclasses.asdict(dataclasses.replace(net.config, members=1))
            for net in (network, other.model.network)
        )
        if differ := [
            f"{k} {own[k]!r}, not {wanted[k]!r}" for k in own if own[k] != wanted[k]
        ]:
            raise ValueError(f"--join {path} has {'; '.join(differ)}")
        if other.origin.get("sha256") != sha256:
            raise ValueError(f"--join {path} was trained on other records")
    return found
