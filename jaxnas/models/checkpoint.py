"""Models and the progress of their training on disk, by orbax.

    save("generator", model)
    model = load("generator").model

A folder holds the variables of a model, with `accuracy` of a predictor, its configuration
and what it was trained on. With `Progress` an interrupted training continues.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxnas.io import checkpoints, records
from jaxnas.models.config import ModelConfig
from jaxnas.models.generator import Generator
from jaxnas.models.model import Model, init
from jaxnas.models.plateau import Plateau
from jaxnas.models.predictor import Predictor
from jaxnas.models.state_dicts import unused_shapes
from jaxnas.types import Array, FeatureKind

FORMAT = 2
_KINDS = {"generator": Generator, "predictor": Predictor}
_COLLECTIONS = {"params", "unused", "accuracy"}


class Progress(NamedTuple):
    """State from which an interrupted training continues."""

    opt_state: Any  # of the optimiser of `params`
    step: int  # number of optimiser steps so far
    plateau: Plateau  # learning rate and its rule
    key: Array  # () random key
    best: Any  # parameters of the epoch with the lowest validation loss
    curve: tuple[tuple[float, float], ...]  # loss and validation loss of each epoch


class Checkpoint(NamedTuple):
    """The contents of a checkpoint folder."""

    model: Model
    progress: Progress | None
    split: str  # digest of the division of the data, or ""
    origin: Mapping[str, Any]  # what the model was trained on, as JSON values


def adam(rate: float = 1e-4) -> optax.GradientTransformation:
    """Adam with the published settings, whose state holds the learning rate."""
    return optax.inject_hyperparams(optax.adam)(learning_rate=rate)


def save(
    path: str | os.PathLike,
    model: Model,
    *,
    progress: Progress | None = None,
    split: str = "",
    origin: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Writes a model, atomically.

    Args:
      path: the folder, whose parent must exist; an earlier checkpoint is replaced.
      model: the model.
      progress: of its training; None: the model alone.
      split: digest of the division of the data into training and validation.
      origin: what the model was trained on, JSON values by name.
      half: whether parameters are stored in half precision, half as large; they are read
        in single precision.

    Raises: `ValueError` that names the folder and the cause if it cannot be written, for
      parameters too large for half precision, and for half precision with `progress`,
      which continues from all bits.
    """
    network = model.network
    manifest = {
        "kind": next(k for k, v in _KINDS.items() if isinstance(network, v)),
        "format": FORMAT,
        "config": dataclasses.asdict(network.config)
        | {"features": network.config.features._asdict()},
        "collections": sorted(_COLLECTIONS & set(model.variables)),
        "split": split,
        "origin": dict(origin or {}),
        "curve": None if progress is None else progress.curve,
    }
    variables = {name: model.variables[name] for name in manifest["collections"]}
    if half:
        variables["params"] = _halved(path, variables["params"], progress)
    tree = {"variables": jax.tree.map(np.asarray, variables)}
    if progress is not None:
        tree["progress"] = _arrays(progress)
    checkpoints.save(path, tree, manifest)


def _halved(path: str | os.PathLike, params: Any, progress: Progress | None) -> Any:
    """Parameters in half precision; `ValueError` as of `save`."""
    if progress is not None:
        raise ValueError(
            f"{path}: a training continues from single precision, not half"
        )
    largest = max(float(np.max(np.abs(x), initial=0)) for x in jax.tree.leaves(params))
    if largest > (limit := float(np.finfo(np.float16).max)):
        raise ValueError(
            f"{path}: parameters of up to {largest:.3g} are too large for half "
            f"precision, {limit:g}: save them without it"
        )
    return jax.tree.map(lambda x: np.asarray(x, np.float16), params)


def load(
    path: str | os.PathLike,
    *,
    config: ModelConfig | None = None,
) -> Checkpoint:
    """Reads a model.

    Args:
      path: of a folder that `save` wrote.
      config: the configuration that the model must have; default: any.

    Returns: the model, and the progress if there is one.
    Raises: `ValueError`, in one line that names the path, for a folder that is missing,
      damaged, not a model or of another configuration, and if orbax is not installed.
    """
    network, manifest = _parse(path, checkpoints.manifest(path))
    if config is not None and network.config != config:
        raise ValueError(f"{path}: wanted {config}, found {network.config}")
    shapes: dict[str, Any] = {"variables": _shapes(network, manifest["collections"])}
    if manifest["curve"] is not None:
        shapes["progress"] = jax.eval_shape(
            lambda: _initial(shapes["variables"]["params"])
        )
    checkpoints.check_affordable(path, shapes)
    tree = checkpoints.restore(path, shapes)
    model = Model(network, tree["variables"])
    progress = None
    if manifest["curve"] is not None:
        progress = _progress(tree["progress"], manifest["curve"])
    return Checkpoint(model, progress, manifest["split"], manifest["origin"])


def _arrays(progress: Progress) -> dict[str, Any]:
    """Converts progress to a tree of arrays that keeps every bit of the host's floats."""
    rate, best, bad = progress.plateau
    return {
        "opt_state": progress.opt_state,
        "step": np.int32(progress.step),
        "plateau": _words([rate, best, bad]),
        "key": jax.random.key_data(progress.key),
        "best": progress.best,
    }


def _words(values: list[float]) -> np.ndarray:
    """Packs floats (n,) as uint32 (n, 2), since JAX may lack its 64-bit mode."""
    return np.array(values, np.float64).view(np.uint32).reshape(-1, 2)


def _initial(params: Any) -> dict[str, Any]:
    """The tree of `_arrays` before the first step, for its shapes."""
    params = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), params)
    state, key = adam().init(params), jax.random.key(0)
    return _arrays(Progress(state, 0, Plateau(0.0, 0.0, 0), key, params, ()))


def _progress(tree: dict[str, Any], curve: list[list[float]]) -> Progress:
    """Inverts `_arrays`, and adds the losses of the manifest."""
    words = np.ascontiguousarray(np.asarray(tree["plateau"]))
    rate, best, bad = words.view(np.float64).ravel().tolist()
    key = jax.random.wrap_key_data(tree["key"])
    plateau = Plateau(rate, best, int(bad))
    losses = tuple((loss, valid) for loss, valid in curve)
    state, step = tree["opt_state"], int(tree["step"])
    return Progress(state, step, plateau, key, tree["best"], losses)


def _shapes(network: Generator | Predictor, collections: list[str]) -> dict[str, Any]:
    """The collections of a model as shapes."""
    shapes = jax.eval_shape(lambda: init(network, jax.random.key(0)).variables)
    if "unused" in collections:
        shapes["unused"] = unused_shapes(network)
    if "accuracy" in collections:
        num = network.config.members
        number = jax.ShapeDtypeStruct((num,) if num > 1 else (), np.float32)
        shapes["accuracy"] = {"mean": number, "std": number}
    return shapes


def _parse(
    path: str | os.PathLike, manifest: dict[str, Any]
) -> tuple[Generator | Predictor, dict[str, Any]]:
    """The network of a manifest, and the manifest.

    Raises: `ValueError` naming the path, for a manifest that is not of a model.
    """
    remedy = "wanted a model that this version of jaxnas saved"
    records.require_format(path, manifest.get("format"), FORMAT, remedy)
    try:
        features = FeatureKind(**manifest["config"]["features"])
        config = ModelConfig(**manifest["config"] | {"features": features})
        network = _KINDS[manifest["kind"]](config)
        if not {"params"} <= set(manifest["collections"]) <= _COLLECTIONS:
            raise ValueError(f"collections {manifest['collections']}")
        if type(manifest["split"]) is not str or not isinstance(
            manifest["origin"], dict
        ):
            raise ValueError("entries of other types")
        np.asarray(manifest["curve"] or (), float).reshape(-1, 2)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a model of jaxnas: {reason}") from error
    return network, manifest
