"""Data, networks and settings of the trainings of a variant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax

from experiments.ablations.config import Config, Run
from experiments.ablations.variants import Variant
from experiments.common import meta_models
from jaxnas import models
from jaxnas.datasets import meta_database, meta_examples
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.io import checkpoints, run_folder
from jaxnas.io.cache import array_digest
from jaxnas.io.run_folder import RunFolder
from jaxnas.models import checkpoint
from jaxnas.models.meta_data import MetaData
from jaxnas.models.meta_training import Training
from jaxnas.models.nasbench201 import CODEC
from jaxnas.models.standardise import FeatureScale, feature_scale, standardised

_PAIRS = "types", "accuracy", "present"  # fields of the data that pairs replace
_ORDER_WEIGHT, _RATE, _HIDDEN = 4.0, 3e-4, 56  # as of `train_metad2a`


class Source(NamedTuple):
    """A database, its records for meta-training and validation, and their digest."""

    database: MetaDatabase
    parts: list[MetaData]
    scale: FeatureScale
    digest: str

    @property
    def kind(self) -> str:
        """The name of the features."""
        return self.database.kind.name


def open_source(path: str) -> Source:
    """Reads a database.

    Raises: `ValueError` for one without a grid, or that cannot be read.
    """
    database = meta_database.load(path)
    meta_examples.grid_examples(database, 0)
    parts = [meta_examples.examples(database, p) for p in ("train", "validation")]
    digest = array_digest(*(array for data in parts for array in data))
    return Source(database, parts, feature_scale(parts[0]), digest)


def network_of(config: Config, variant: Variant, source: Source) -> Any:
    """The network of a variant, for the features of a database."""
    sizes = models.ModelConfig(
        CODEC.num_vertices,
        CODEC.num_types,
        hidden=config.hidden,
        latent=config.latent,
        adjacency=variant.adjacency,
        features=source.database.kind,
        eps_scale=variant.eps_scale,
    )
    if not variant.generates:
        return models.Predictor(sizes)
    return models.Generator(replace(sizes, hidden=min(_HIDDEN, config.hidden)))


def trainings_of(
    config: Config,
    variant: Variant,
    runs: list[Run],
    source: Source,
    parts: list[list[MetaData]],
) -> list[Training]:
    """The trainings of a variant, which share the features."""
    trainings, shared = [], None
    for run, own in zip(runs, parts, strict=True):
        train, validation = (standardised(data, source.scale) for data in own)
        train = variant.change(train, run.seed)
        if variant.everywhere:
            validation = variant.change(validation, run.seed)
        # Both parts have the features of all images, which do not depend on the seed.
        shared = jax.device_put(train.x) if shared is None else shared
        trainings.append(
            Training(
                train._replace(x=shared),
                validation._replace(x=shared),
                batch=config.batch,
                num_images=config.images,
                rate=_RATE,
                epochs=config.epochs,
                patience=config.patience,
                order_weight=_ORDER_WEIGHT,
            )
        )
    return trainings


def pairs_of(
    config: Config, run: Run, source: Source, folder: RunFolder
) -> list[MetaData]:
    """The cells that the predictor of the same seed ranks best, kept in the folder.

    Raises: `ValueError` if that predictor has not been trained.
    """
    path = folder.path / f"models/{source.kind}/predictor-{run.seed}"
    if not checkpoints.exists(path):
        raise ValueError(
            f"{path} is missing, which ranks the cells of the generator: add `predictor` "
            "to --variants"
        )
    loaded = checkpoint.load(path)
    name, labels = f"pairs/{source.kind}/{run.seed}", {"records": loaded.split}
    try:
        piece = run_folder.load_piece(folder, name, labels)
    except ValueError:
        made = meta_models.ranked_cells(
            loaded.model, CODEC, source.parts, run.seed, images=config.images
        )
        piece = {
            f"{field}/{number}": getattr(data, field)
            for number, data in enumerate(made)
            for field in _PAIRS
        }
        run_folder.save_piece(folder, name, piece, labels)
    return [
        data._replace(**{field: piece[f"{field}/{number}"] for field in _PAIRS})
        for number, data in enumerate(source.parts)
    ]
