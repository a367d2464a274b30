"""Models of MetaD2A by path, and the features that they take of the user's images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas import datasets, models
from jaxnas.datasets import Images, opened
from jaxnas.io import checkpoints, files
from jaxnas.models import checkpoint
from jaxnas.models.config import RESNET18_32
from jaxnas.models.features import ClassFeatures
from jaxnas.models.graphs import Codec
from jaxnas.models.model import Model, check_model
from jaxnas.models.nasbench201 import CODEC
from jaxnas.studies.comparison import prior_scores
from jaxnas.studies.metad2a.config import Config
from jaxnas.types import FeatureKind, require_kind

SHIPPED = "metad2a"  # folder of `checkpoints/`
# Parts of images without a test part, as in `studies.images`: the rest is for tests.
_TRAIN_AND_VALID = (0.6, 0.2)


class Models(NamedTuple):
    """A generator, the predictor that ranks its cells, and what they were trained on."""

    generator: Model
    predictor: Model | None
    trained_on: dict[str, Any]  # as the generator's checkpoint has it; {} if published


class Dataset(NamedTuple):
    """The user's images as the models see them."""

    name: str
    features: ClassFeatures
    class_names: tuple[str, ...]


def open_models(generator: str | None, predictor: str | None) -> Models:
    """Opens a generator and a predictor.

    Args:
      generator: a folder of `checkpoint.save`, or a file of the published code; None: the
        generator that ships.
      predictor: likewise; None: the folder `predictor` beside the generator, if there is
        one.

    Raises: `ValueError` for files that are missing or damaged, for models of another kind
      than their flag is of, and for a predictor of other features than the generator.
    """
    if generator is None:
        generator = os.fspath(_shipped_generator())
    path = Path(generator)
    made, trained_on = _open_model(path)
    if predictor is None and checkpoints.exists(path.with_name("predictor")):
        predictor = os.fspath(path.with_name("predictor"))
    check_flag("generator", path, made, models.Generator)
    if predictor is None:
        return Models(made, None, trained_on)
    ranks, _ = _open_model(Path(predictor))
    check_flag("predictor", predictor, ranks, models.Predictor)
    kinds = [model.network.config.features for model in (made, ranks)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the generator takes features {kinds[0].name!r} and the predictor "
            f"{kinds[1].name!r}: wanted models of the same features"
        )
    return Models(made, ranks, trained_on)


def learned_pool(trained_on: Mapping[str, Any], name: str) -> str | None:
    """The pool of images that models have learned from, if a dataset is of that name.

    Args:
      trained_on: of `Models`.
      name: of the dataset.
    """
    pools = trained_on.get("pools", ())
    return next((p for p in pools if prior_scores.same_images(p, name)), None)


def check_flag(
    flag: str, path: str | Path, model: Model, kind: type, codec: Codec = CODEC
) -> None:
    """Checks the model that a flag names.

    Args:
      flag: its name, without dashes.
      path: its value.
      model: which was read from there.
      kind: the class of the network that is wanted.
      codec: of the search space.

    Raises: `ValueError` that names flag and path, for a model of another kind or space.
    """
    try:
        check_model(model, kind, codec)
    except ValueError as error:
        raise ValueError(f"--{flag} {path}: {error}") from error


def _shipped_generator() -> Path:
    """The folder of the generator that ships; `ValueError` with a remedy if none does."""
    path = files.shipped_checkpoint(SHIPPED) / "generator"
    if not checkpoints.exists(path):
        raise ValueError(
            "no generator ships with this version: train one by "
            "`python -m experiments.train_metad2a`, and give it by --generator"
        )
    return path


def _open_model(path: Path) -> tuple[Model, dict[str, Any]]:
    """Opens a model by its path, and what it was trained on."""
    if path.is_file():
        return models.read_published(path), {}
    loaded = checkpoint.load(path)
    return loaded.model, dict(loaded.origin)


def open_dataset(config: Config, kind: FeatureKind) -> Dataset:
    """Computes or reads the features of the user's images.

    Args:
      config: the images, or the file of their features.
      kind: of the features that the models take.

    Raises: `ValueError` for images that cannot be read or are of one class, for features
      of another kind, and for a kind that jaxnas does not compute or whose weights are not
      installed.
    """
    if config.features is not None:
        features = models.read_by_label(config.features)
        require_kind(features, kind)
        if features.num_classes < 2:
            raise ValueError(f"{config.features} has one class: wanted at least 2")
        names = tuple(map(str, range(features.num_classes)))
        return Dataset(Path(config.features).name, features, names)
    assert config.data is not None
    extractor = _extractor(config, kind)
    images = _images(config, config.data, extractor.side)
    images = few_of_each(images, config.images, config.seed)
    features = models.class_features(
        datasets.image_features(images.x, extractor), images.y
    )
    return Dataset(images.name, features, images.class_names)


def _extractor(config: Config, kind: FeatureKind) -> datasets.Extractor:
    """The extractor of features that the models take; `ValueError` as `open_dataset`."""
    try:
        return datasets.extractor_of(kind)
    except ValueError as error:
        if config.generator is None:
            raise
        message = f"--generator {config.generator}: {error}"
        if kind == RESNET18_32:
            message += ": give a file of them, --features NAMEbylabel.pt, not --data"
        raise ValueError(message) from error


def _images(config: Config, name: str, side: int) -> Images:
    """Opens the images; without those that the final training tests, if there is one."""
    images, tests = opened.open_images(name, size=side)
    if config.minutes is None or tests is not None:
        return images
    train, valid = datasets.split(images, (*_TRAIN_AND_VALID, 0.2), seed=config.seed)[
        :2
    ]
    x, y = (np.concatenate(pair) for pair in zip(train[:2], valid[:2], strict=True))
    return images._replace(x=x, y=y)


def few_of_each(images: Images, count: int, seed: int) -> Images:
    """Draws at most `count` images of each class.

    Args:
      images: of all classes.
      count: of a class.
      seed: of the draw.
    """
    rng, kept = np.random.default_rng(seed), []
    for label in range(images.num_classes):
        members = np.flatnonzero(images.y == label)
        kept.append(np.sort(rng.permutation(members)[:count]))
    rows = np.concatenate(kept)
    return images._replace(x=images.x[rows], y=images.y[rows])
