"""Meta-trains MetaD2A's generator and predictor on a meta-database.

    python -m experiments.train_metad2a
    python -m experiments.train_metad2a --database results/meta/database.npz
        --models predictor --hidden 512 --out results/metad2a_512

`free-images` is part of the library, and `experiments.build_meta_database` makes others. The generator imitates the best cells
of each task for meta-training, the predictor learns the accuracies of all of them; each
step draws the images anew. A training ends after --patience epochs without a lower loss on
the tasks for validation, whose classes are others, and keeps the parameters of the lowest.

Every --chunk epochs the state is saved: the same command resumes a run that was killed,
and ends with the same bits. Writes to --out a folder for each model, which
`jaxnas.models.checkpoint.load` and `experiments.metad2a --models` read, and its losses as
csv.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import jaxnas
from jaxnas import models
from jaxnas.datasets import meta_database, meta_examples
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.io import checkpoints, files, run_folder
from jaxnas.io.cache import array_digest
from jaxnas.models import checkpoint, meta_data, meta_training
from jaxnas.models.graphs import adjacency
from jaxnas.models.meta_data import MetaData
from jaxnas.models.meta_training import Training
from jaxnas.models.model import Model
from jaxnas.models.nasbench201 import CODEC
from jaxnas.models.standardise import feature_scale, fold, standardised
from jaxnas.studies import cli, progress

NETWORKS = {"generator": models.Generator, "predictor": models.Predictor}


@dataclass(frozen=True)
class Config:
    """Data, sizes of the models, and the training."""

    database: str = "free-images"
    """free-images, or database.npz of `experiments.build_meta_database`."""
    models: tuple[str, ...] = ("generator", "predictor")
    """Which models to train: generator, predictor."""
    hidden: int = 128
    """Width of the states of vertices; 512 in the published predictor."""
    latent: int = 56
    """Width of the embeddings of datasets and graphs, a multiple of 4."""
    eps_scale: float = 0.01
    """Latent noise of the generator; 1: a variational auto-encoder."""
    adjacency: str = "line15"
    """Edges of the graphs: line10, line15 or chain11."""
    best: int = 1
    """Cells of each task that the generator imitates, the best ones."""
    batch: int = 8
    """Tasks of a step."""
    images: int = 20
    """Images of each class that a step draws."""
    learning_rate: float = 3e-4
    """Of Adam, until the loss stops falling."""
    epochs: int = 400
    """Largest number of epochs."""
    patience: int = 60
    """Epochs without a lower validation loss after which a training ends."""
    seed: int = 0
    """Seed of parameters and draws."""
    chunk: int = 10
    """Epochs between two saves."""
    stop_after: int | None = None
    """Epochs after which this run stops; the same command without it resumes."""
    out: str = "results/metad2a"
    """Folder for the models."""


def main(config: Config) -> dict[str, float]:
    """Trains the models, and writes each that is finished.

    Returns: the lowest validation loss of each model.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    _validate(config)
    database = meta_database.load(config.database)
    parts = [meta_examples.examples(database, p) for p in ("train", "validation")]
    sizes = models.ModelConfig(
        *(CODEC.num_vertices, CODEC.num_types, config.hidden, config.latent),
        adjacency=config.adjacency,
        features=database.kind,
        eps_scale=config.eps_scale,
    )
    digest = array_digest(*(array for data in parts for array in data))
    scale = feature_scale(parts[0])
    parts = [standardised(data, scale) for data in parts]
    inputs = [_inputs(config, name, sizes, parts) for name in config.models]
    checkpoints.require_orbax()
    folder = _open(config, digest)
    origin = {"sha256": digest, **_origin(parts[0], database)}
    losses = {}
    for name, (model, training) in zip(config.models, inputs, strict=True):
        model, state = _train(config, name, model, training, folder)
        losses[name] = min(valid for _, valid in state.curve)
        if meta_training.finished(state, training):
            model = fold(model, scale)
            _write(config, name, model, training, state, folder, origin)
    return losses


def _validate(config: Config) -> None:
    """Raises `ValueError` for settings that are invalid for any data."""
    cli.require_names(config.models, NETWORKS, "model")
    names = ("best", "batch", "images", "epochs", "patience", "chunk")
    cli.positive(config, *names)
    cli.seed(config, "seed")
    adjacency(config.adjacency, CODEC.num_vertices)
    if not 0 < config.learning_rate < 1:
        raise ValueError(
            f"--learning-rate must be between 0 and 1, not {config.learning_rate}"
        )
    if not 0 <= config.eps_scale < np.inf:
        raise ValueError(f"--eps-scale must be at least 0, not {config.eps_scale}")


def _inputs(
    config: Config, name: str, sizes: models.ModelConfig, parts: list[MetaData]
) -> tuple[Model, Training]:
    """Draws the initial parameters of a model, and prepares its data."""
    model = models.init(NETWORKS[name](sizes), jax.random.key(config.seed))
    if name == "generator":
        parts = [meta_data.best_graphs(data, config.best) for data in parts]
    else:
        mean, std = meta_data.moments(parts[0])
        # Outputs are deviations from the mean in units of std; in the published network
        # they are hundredths of these, which Adam resolves less well.
        model = models.with_accuracy(model, mean, std / 100)
    training = Training(
        *map(jax.device_put, parts),
        batch=config.batch,
        num_images=config.images,
        rate=config.learning_rate,
        epochs=config.epochs,
        patience=config.patience,
    )
    return model, training


def _open(config: Config, digest: str) -> Path:
    """Claims --out for these settings and records."""
    free = ("database", "models", "chunk", "stop_after", "out")
    identity = {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
    identity |= {"driver": "train_metad2a", "records_sha256": digest}
    return run_folder.open_or_create(cli.named(config.out), identity, cli.OUT).path


def _origin(data: MetaData, database: MetaDatabase) -> dict[str, Any]:
    """Describes the training data as JSON values."""
    return {
        "tasks": len(data.types),
        "records": int(data.present.sum()),
        "pools": database.manifest.get("pools", {}),
        "trainings": database.manifest.get("settings", {}),
        "jaxnas": jaxnas.__version__,
    }


def _train(
    config: Config, name: str, model: Model, training: Training, folder: Path
) -> tuple[Model, checkpoint.Progress]:
    """Trains a model to its end or to --stop-after, and writes its losses.

    Args:
      config: settings.
      name: of the model.
      model: with initial parameters.
      training: data and settings.
      folder: of the models.
    """
    console, throttle = Console(stderr=True), progress.Throttle(progress.SECONDS)

    def report(state: checkpoint.Progress) -> None:
        ended = meta_training.finished(state, training)
        if ended or throttle.due() or len(state.curve) == config.stop_after:
            throttle.restart()
            console.print(f"{name}: {_line(state)}", highlight=False, soft_wrap=True)

    model, state = meta_training.train(
        jax.random.key(config.seed),
        model,
        training,
        folder=folder / f"{name}-state",
        save_every=config.chunk,
        stop_after=config.stop_after,
        report=report,
    )
    rows = [(n, *losses) for n, losses in enumerate(state.curve, 1)]
    files.write_csv(folder / f"{name}.csv", ["epoch", "training", "validation"], rows)
    return model, state


def _write(
    config: Config,
    name: str,
    model: Model,
    training: Training,
    state: checkpoint.Progress,
    folder: Path,
    origin: dict[str, Any],
) -> None:
    """Writes a trained model, and in its manifest what it was trained on.

    Args:
      config: settings.
      name: of the model.
      model: the best one.
      training: whose records a generator imitates.
      state: of the training.
      folder: of the models.
      origin: of the database.
    """
    best = meta_training.best_epoch(state)
    origin = origin | {"epoch": best, "validation_loss": state.curve[best - 1][1]}
    if name == "generator":
        origin |= {"cells": _cells(training.data)}
    free = ("database", "out", "stop_after")
    settings = dataclasses.asdict(config)
    origin |= {"settings": {k: v for k, v in settings.items() if k not in free}}
    checkpoint.save(folder / name, model, split=origin["sha256"], origin=origin)


def _cells(data: MetaData) -> list[list[int]]:
    """The distinct cells of records, by which the novelty of others is counted."""
    cells = jax.vmap(CODEC.architecture)(data.types[data.present])
    return np.unique(np.asarray(cells), axis=0).tolist()


def _line(state: checkpoint.Progress) -> str:
    """The losses so far, in words."""
    best, (loss, valid) = meta_training.best_epoch(state), state.curve[-1]
    return (
        f"epoch {len(state.curve)}: loss {loss:.4g}, in validation {valid:.4g}; best "
        f"{state.curve[best - 1][1]:.4g} after {best} epochs"
    )


if __name__ == "__main__":
    cli.command(main, Config)
