"""Meta-trains MetaD2A's generator and predictor on a meta-database.

    python -m experiments.train_metad2a
    python -m experiments.train_metad2a --database results/meta/database.npz
        --models predictor --hidden 512 --out results/metad2a_512

`free-images` is part of the library; `experiments.build_meta_database` makes others. The
predictor learns the accuracies of the recorded cells. The generator imitates, on each task,
the best of --candidates random cells by the prediction of the predictor in --out, as Lee et
al. made their pairs for MobileNetV3. Each step draws the images anew. A training ends after
--patience epochs without a lower loss on the tasks for validation, whose classes are
others, and keeps the parameters of the lowest.

Every --chunk epochs the state is saved: the same command resumes a run that was killed,
and ends with the same bits. Writes a folder for each model to --out, which
`checkpoint.load` and `experiments.metad2a --generator` read, and its losses as csv.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.common import meta_models
from jaxnas import models
from jaxnas.datasets import meta_database, meta_examples
from jaxnas.io import checkpoints, files, run_folder
from jaxnas.io.cache import array_digest
from jaxnas.models import checkpoint, meta_data, meta_training
from jaxnas.models.codecs import codec_of
from jaxnas.models.graphs import Codec, adjacency
from jaxnas.models.meta_data import MetaData
from jaxnas.models.meta_training import Training
from jaxnas.models.model import Model
from jaxnas.models.standardise import feature_scale, fold, standardised
from jaxnas.spaces import base
from jaxnas.studies import cli, progress
from jaxnas.types import FeatureKind

NETWORKS = {"predictor": models.Predictor, "generator": models.Generator}


@dataclass(frozen=True)
class Config:
    """Data, sizes of the models, and the training."""

    database: str = "free-images"
    """free-images, or database.npz of `experiments.build_meta_database`."""
    models: tuple[str, ...] = ("predictor", "generator")
    """Which models to train: predictor, generator."""
    hidden: int = 128
    """Width of the predictor's states of vertices; 512 in the published one."""
    generator_hidden: int = 56
    """Width of the generator's states of vertices; as published."""
    latent: int = 56
    """Width of the embeddings of datasets and graphs, a multiple of 4."""
    eps_scale: float = 0.01
    """Latent noise of the generator; 1: a variational auto-encoder."""
    adjacency: str | None = None
    """Edges of the graphs: line10, line15, chain11, chain; default: as published."""
    candidates: int = 50
    """Random cells that the predictor ranks on each task, for the generator; 0: it imitates
    the best of the recorded cells."""
    best: int = 10
    """Cells of each task that the generator imitates, the best ones."""
    batch: int = 8
    """Tasks of a step."""
    images: int = 20
    """Images of each class that a step draws."""
    order_weight: float = 4.0
    """Weight of the order within tasks in the loss of the predictor; 0 as published."""
    learning_rate: float = 3e-4
    """Learning rate of Adam, until the loss stops falling."""
    decay_after: int = 0
    """Epochs after which the rate is divided by ten in any case; 0: never."""
    epochs: int = 400
    """Largest number of epochs."""
    patience: int = 60
    """Epochs without a lower validation loss after which a training ends."""
    seed: int = 0
    """Seed of parameters and draws."""
    chunk: int = 10
    """Epochs between two saves."""
    join: tuple[str, ...] = ()
    """Folders of predictors of other seeds: the mean of all is written and ranks."""
    half: bool = False
    """Store the parameters in half precision, as those that ship are."""
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
    codec = codec_of(database.manifest)
    config = replace(config, adjacency=config.adjacency or codec.edges)
    adjacency(str(config.adjacency), codec.num_vertices)  # refuses unknown ones
    most = min(base.num_vectors(codec.space), 2**20)
    if not 0 <= config.candidates <= most:
        raise ValueError(f"--candidates must be 0 to {most}, not {config.candidates}")
    parts = [meta_examples.examples(database, p) for p in ("train", "validation")]
    networks = {name: _network(config, name, codec, database.kind) for name in NETWORKS}
    if "predictor" in config.models:
        meta_data.moments(parts[0])  # raises for records that teach nothing
    elif config.candidates:
        _require_ranking(config, Path(config.out))
    digest = array_digest(*(array for data in parts for array in data))
    scale = feature_scale(parts[0])
    checkpoints.require_orbax()
    predictor = networks["predictor"]
    joined = meta_models.joined_predictors(config.join, predictor, codec, digest)
    folder = _open(config, digest, [other.model for other in joined])
    origin = {"sha256": digest, **meta_models.origin(parts[0], database)}
    losses = {}
    for name in sorted(config.models, key=list(NETWORKS).index):
        made = _targets(config, name, codec, parts, folder)
        made = [standardised(data, scale) for data in made]
        model, training = _inputs(config, networks[name], made)
        model, state = _train(config, name, model, training, folder)
        losses[name] = min(valid for _, valid in state.curve)
        if not meta_training.finished(state, training):
            break
        model, described = fold(model, scale), origin
        if name == "predictor" and joined:
            model = models.ensemble([model, *(other.model for other in joined)])
            described = origin | {"joined": [dict(other.origin) for other in joined]}
        _write(config, name, codec, model, training, state, folder, described)
    return losses


def _validate(config: Config) -> None:
    """Raises `ValueError` for settings that are invalid for any data."""
    cli.require_names(config.models, NETWORKS, "model")
    cli.positive(config, "best", "epochs", "patience", "chunk")
    cli.at_most(config, epochs=1_000_000, candidates=10_000)
    meta_models.check_sizes(config)
    cli.seed(config, "seed")
    if config.join and "predictor" not in config.models:
        raise ValueError("--join is of the predictor, which is not one of --models")
    if config.stop_after is not None:
        cli.positive(config, "stop_after")
    if not 0 < (rate := config.learning_rate) < 1:
        raise ValueError(f"--learning-rate must be between 0 and 1, not {rate}")
    for flag in ("eps-scale", "order-weight", "decay-after"):
        if not 0 <= (value := getattr(config, flag.replace("-", "_"))) < np.inf:
            raise ValueError(f"--{flag} must be a finite number from 0, not {value}")


def _targets(
    config: Config, name: str, codec: Codec, parts: list[MetaData], folder: Path
) -> list[MetaData]:
    """Chooses the records that a model learns: all, or good cells for a generator.

    Raises: `ValueError` if a generator needs a predictor and the folder has none.
    """
    if name == "predictor":
        return parts
    if not config.candidates:
        return [meta_data.best_graphs(data, config.best) for data in parts]
    path = _require_ranking(config, folder)
    return meta_models.ranked_cells(
        checkpoint.load(path).model,
        codec,
        parts,
        config.seed,
        candidates=config.candidates,
        best=config.best,
        images=config.images,
    )


def _require_ranking(config: Config, folder: Path) -> Path:
    """The predictor that ranks the candidates of a generator; `ValueError` without it."""
    if not checkpoints.exists(path := folder / "predictor"):
        raise ValueError(
            f"{path} is missing, which ranks the candidates of the generator: train it "
            "too, or give --candidates 0"
        )
    return path


def _network(config: Config, name: str, codec: Codec, kind: FeatureKind) -> Any:
    """The network of a model, for features of a kind."""
    return NETWORKS[name](
        models.ModelConfig(
            codec.num_vertices,
            codec.num_types,
            hidden=config.hidden if name == "predictor" else config.generator_hidden,
            latent=config.latent,
            adjacency=str(config.adjacency),
            features=kind,
            eps_scale=config.eps_scale,
        )
    )


def _inputs(
    config: Config, network: Any, parts: list[MetaData]
) -> tuple[Model, Training]:
    """Draws the initial parameters of a model, and prepares its data."""
    model = meta_models.initial_model(network, config.seed, parts[0])
    training = Training(
        *map(jax.device_put, parts),
        batch=config.batch,
        num_images=config.images,
        rate=config.learning_rate,
        epochs=config.epochs,
        patience=config.patience,
        order_weight=config.order_weight,
        decay_after=config.decay_after,
    )
    return model, training


def _open(config: Config, digest: str, joined: list[Model]) -> Path:
    """Claims --out for these settings, records and joined predictors."""
    free = ["database", "models", "chunk", "stop_after", "out", "half"]
    # Folders of runs before there were these settings have no record of them.
    free += [n for n in ("decay_after", "join") if not getattr(config, n)]
    identity = {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
    identity |= {"driver": "train_metad2a", "records_sha256": digest}
    leaves = jax.tree.leaves([model.variables for model in joined])
    identity |= {"join": array_digest(*leaves)} if joined else {}
    return run_folder.open_or_create(cli.named(config.out), identity, cli.OUT).path


def _train(
    config: Config, name: str, model: Model, training: Training, folder: Path
) -> tuple[Model, checkpoint.Progress]:
    """Trains a model to its end or to --stop-after, and writes its losses."""
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
    codec: Codec,
    model: Model,
    training: Training,
    state: checkpoint.Progress,
    folder: Path,
    origin: dict[str, Any],
) -> None:
    """Writes a trained model, and in its manifest what it was trained on."""
    best = meta_training.best_epoch(state)
    origin = origin | {"epoch": best, "validation_loss": state.curve[best - 1][1]}
    if name == "generator":
        origin |= meta_models.describe_cells(codec, training.data)
    free = ("database", "out", "stop_after")
    settings = dataclasses.asdict(config)
    origin |= {"settings": {k: v for k, v in settings.items() if k not in free}}
    folder /= name
    checkpoint.save(
        folder, model, split=origin["sha256"], origin=origin, half=config.half
    )


def _line(state: checkpoint.Progress) -> str:
    """The losses so far, in words."""
    best, (loss, valid) = meta_training.best_epoch(state), state.curve[-1]
    return (
        f"epoch {len(state.curve)}: loss {loss:.4g}, in validation {valid:.4g}; best "
        f"{state.curve[best - 1][1]:.4g} after {best} epochs"
    )


if __name__ == "__main__":
    cli.command(main, Config)
