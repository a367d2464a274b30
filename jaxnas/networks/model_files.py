"""Trained networks on disk, and as functions of raw images.

    save("model", params, network, arch, mean, std, dataset="flowers")
    predict = load("model")
    predict(images)  # (n, classes) probabilities

A folder of orbax with a manifest: nothing in it is run.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import pytrees
from jaxnas.networks import models
from jaxnas.networks import train as training
from jaxnas.networks.initialise import initialise
from jaxnas.networks.nasbench201 import Network, Params
from jaxnas.spaces import nasbench201
from jaxnas.types import Array

_MODE = training.TRAINING._replace(norm="running", reduction_norm="running")


def save(
    path: str | os.PathLike,
    params: Params,
    network: Network,
    arch: np.ndarray | Array,
    mean: Sequence[float] | np.ndarray,
    std: Sequence[float] | np.ndarray,
    *,
    dataset: str,
) -> None:
    """Writes a network, at once; one that is there is replaced.

    Args:
      path: the folder.
      params: with running statistics and without lanes; of what `runs.train` returns,
        `jax.tree.map(lambda leaf: leaf[lane], trained.params)`.
      arch: (6,).
      mean, std: (colours,), by which the training images were normalised.
      dataset: name of what it was trained on.

    Raises: `ValueError` for parameters of another network, and if it cannot be written.
    """
    wanted, found = (
        [leaf.shape for leaf in jax.tree.leaves(tree)]
        for tree in (_shapes(network), params)
    )
    if wanted != found:
        raise ValueError(
            f"the parameters are none of {network} with running statistics"
        )
    constants = [np.asarray(x, np.float64) for x in (mean, std)]
    _check_constants(network, *constants)
    manifest = {
        "kind": "nasbench201 network",
        "network": dataclasses.asdict(network),
        "arch": nasbench201.to_string(np.asarray(arch)),
        "mean": constants[0].tolist(),
        "std": constants[1].tolist(),
        "dataset": dataset,
    }
    pytrees.save(path, params, manifest)


def load(path: str | os.PathLike) -> Callable[[Any], Array]:
    """The network in a folder as a pure function of images.

    Returns: predict: raw images (n, size, size, colours), in the units of the training
      images, of any number type -> probabilities (n, classes). It normalises them; it
      does not resize, and raises `ValueError` for other shapes. Compiled when called,
      and can be part of other programs.
    Raises: `ValueError`, in one line, for a folder that is missing, damaged or something
      else, and without orbax.
    """
    network, arch, mean, std = _described(path, pytrees.manifest(path))
    params = pytrees.restore(path, _shapes(network))
    shape = network.size, network.size, network.colours

    @jax.jit
    def probabilities(params: Params, x: Array) -> Array:
        model = models.single(network, jnp.asarray(arch))
        return jax.nn.softmax(models.run(model, params, (x - mean) / std, _MODE).logits)

    def predict(images: Any) -> Array:
        if np.ndim(images) != 4 or np.shape(images)[1:] != shape:
            raise ValueError(
                f"wanted images (n, {', '.join(map(str, shape))}), "
                f"found {np.shape(images)}"
            )
        x = jnp.asarray(images)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            x = x.astype(mean.dtype)
        return probabilities(params, x)

    return predict


def _shapes(network: Network) -> Params:
    """What is saved of a network, as shapes."""

    def make() -> Params:
        params = initialise(jax.random.key(0), network)
        return training.with_running(params, training.initial_running(params))

    return jax.eval_shape(make)


def _described(
    path: str | os.PathLike, manifest: dict[str, Any]
) -> tuple[Network, np.ndarray, np.ndarray, np.ndarray]:
    """What a manifest says: network, architecture, mean and standard deviation."""
    try:
        network = Network(**manifest["network"])
        arch = nasbench201.from_string(manifest["arch"])
        mean, std = (np.asarray(manifest[n], np.float32) for n in ("mean", "std"))
        _check_constants(network, mean, std)
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no network of jaxnas: {reason}") from error
    return network, arch, mean, std


def _check_constants(network: Network, mean: np.ndarray, std: np.ndarray) -> None:
    shape = (network.colours,)
    if mean.shape != shape or std.shape != shape or not (std > 0).all():
        raise ValueError(
            f"wanted a mean and a positive standard deviation {shape}, "
            f"not {mean} and {std}"
        )
