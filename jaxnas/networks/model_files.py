"""Trained networks on disk, and as functions of raw images.

    save("model", params, network, arch, mean, std, dataset="flowers")
    predict = load("model")
    predict(images)  # (n, classes) probabilities

A folder of orbax with a manifest: nothing in it is run.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.io import checkpoints
from jaxnas.networks import apply
from jaxnas.networks import train as training
from jaxnas.networks.initialise import initialise
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.spaces import nasbench201
from jaxnas.types import Array

# What reading a folder may take, and how many times its size it may be where it is more:
# weights hardly compress, and zeros do to a thousandth.
FREE_BYTES = 2**26
MOST_TIMES = 16
# Of the values between layers while images are predicted; about 32 maps of the first
# stage's size are in memory at a time.
BATCH_BYTES = 2**28
_MAPS = 32

_MODE = training.TRAINING._replace(norm="running", reduction_norm="running")


def save(
    path: str | os.PathLike,
    params: Params,
    network: NetworkConfig,
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
    checkpoints.save(path, params, manifest)


def load(path: str | os.PathLike) -> Callable[[Any], Array]:
    """The network in a folder as a pure function of images.

    Returns: predict: raw images (n, size, size, colours), in the units of the training
      images, of any number type -> probabilities (n, classes). It normalises them; it
      does not resize, and raises `ValueError` for other shapes. Compiled when called,
      and can be part of other programs. Many images are predicted in batches, whose
      values between layers take at most `BATCH_BYTES`, or what one image takes.
    Raises: `ValueError`, in one line, for a folder that is missing, damaged or something
      else, for one that would unpack to more than `FREE_BYTES` and `MOST_TIMES` its size,
      and without orbax.
    """
    network, arch, mean, std = _described(path, checkpoints.manifest(path))
    params = checkpoints.restore(path, _affordable(path, _shapes(network)))
    shape = network.image_size, network.image_size, network.in_channels
    maps = _MAPS * network.image_size**2 * network.stem_channels * mean.dtype.itemsize
    batch = max(1, BATCH_BYTES // maps)

    @jax.jit
    def probabilities(params: Params, x: Array) -> Array:
        model = apply.single(network, jnp.asarray(arch))

        def some(x: Array) -> Array:
            found = apply.run(model, params, (x - mean) / std, _MODE)
            return jax.nn.softmax(found.logits)

        return _in_batches(some, x, batch)

    def predict(images: Any) -> Array:
        if np.ndim(images) != 4 or np.shape(images)[1:] != shape:
            raise ValueError(
                f"wanted images (n, {', '.join(map(str, shape))}), "
                f"found {np.shape(images)}"
            )
        return probabilities(params, jnp.asarray(images))

    return predict


def _in_batches(function: Callable[[Array], Array], x: Array, batch: int) -> Array:
    """`function` of images (n, ...), at most `batch` at a time, one after another."""
    parts = -(-len(x) // batch)
    if parts <= 1:
        return function(x)
    # The last part is filled up: parts of one size are one program.
    size = -(-len(x) // parts)
    padded = jnp.pad(x, [(0, parts * size - len(x))] + [(0, 0)] * (x.ndim - 1))
    found = jax.lax.map(function, padded.reshape(parts, size, *x.shape[1:]))
    return found.reshape(-1, *found.shape[2:])[: len(x)]


def _affordable(path: str | os.PathLike, shapes: Params) -> Params:
    """Returns `shapes`; `ValueError` if the folder is too small to hold such arrays."""
    leaves = jax.tree.leaves(shapes)
    declared = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    stored = checkpoints.stored_bytes(path)
    if declared > max(FREE_BYTES, MOST_TIMES * stored):
        raise ValueError(
            f"{path} has {stored} bytes and would unpack to {declared}: more than "
            f"{MOST_TIMES} times as many"
        )
    return shapes


def _shapes(network: NetworkConfig) -> Params:
    """What is saved of a network, as shapes."""

    def make() -> Params:
        params = initialise(jax.random.key(0), network)
        return training.with_running_stats(
            params, training.initial_running_stats(params)
        )

    return jax.eval_shape(make)


def _described(
    path: str | os.PathLike, manifest: dict[str, Any]
) -> tuple[NetworkConfig, np.ndarray, np.ndarray, np.ndarray]:
    """What a manifest says: network, architecture, mean and standard deviation."""
    try:
        network = NetworkConfig(**manifest["network"])
        arch = nasbench201.from_string(manifest["arch"])
        mean, std = (np.asarray(manifest[n], np.float32) for n in ("mean", "std"))
        _check_constants(network, mean, std)
        _shapes(network)  # sizes can be more than an array can have
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no network of jaxnas: {reason}") from error
    return network, arch, mean, std


def _check_constants(network: NetworkConfig, mean: np.ndarray, std: np.ndarray) -> None:
    shape = (network.in_channels,)
    right = mean.shape == std.shape == shape and np.isfinite([mean, std]).all()
    if not right or not (std > 0).all():
        raise ValueError(
            f"wanted a finite mean and a positive standard deviation {shape}, "
            f"not {mean} and {std}"
        )
