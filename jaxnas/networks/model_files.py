"""Trained networks on disk, and as functions of raw images.

    save("model", params, network, arch, mean, std, dataset="flowers", class_names=names)
    predict = load("model")
    predict(images)  # (m, num_classes) probabilities
    predict.classes  # names of the classes, in the order of the probabilities

A network is an orbax checkpoint of its parameters with a JSON manifest: sizes,
architecture, normalisation, class names. Nothing in the folder is executed when it is
loaded, and its sizes are checked before anything is allocated.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.batching import padded_blocks
from jaxnas.io import checkpoints, records
from jaxnas.networks import apply
from jaxnas.networks import train as training
from jaxnas.networks.initialise import initialise
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.spaces import nasbench201
from jaxnas.types import Array

FORMAT = 2  # of the manifest; 1 had no class names and other names of sizes
# Bytes of the values between layers during a prediction; about 32 maps of the first
# stage's size are in memory at a time.
BATCH_BYTES = 2**28
_MAPS = 32


def save(
    path: str | os.PathLike,
    params: Params,
    network: NetworkConfig,
    arch: np.ndarray | Array,
    mean: Sequence[float] | np.ndarray,
    std: Sequence[float] | np.ndarray,
    *,
    dataset: str,
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a network atomically, replacing one that is there.

    Args:
      path: of the folder.
      params: with running statistics and without lanes; from `runs.train`,
        `jax.tree.map(lambda leaf: leaf[lane], trained.params)`.
      network: the sizes.
      arch: (6,) integers.
      mean: (in_channels,), by which the training images were normalised.
      std: (in_channels,), positive.
      dataset: name of the training images.
      class_names: (num_classes,); default: "0", "1", ...

    Raises: `ValueError` for parameters, constants or names that do not fit the network,
      and if it cannot be written.
    """
    expected, shapes = (
        [leaf.shape for leaf in jax.tree.leaves(tree)]
        for tree in (_shapes(network), params)
    )
    if expected != shapes:
        raise ValueError(f"the parameters do not fit {network} with running statistics")
    constants = [np.asarray(x, np.float64) for x in (mean, std)]
    _validate_constants(network, *constants)
    if class_names is None:
        class_names = [str(label) for label in range(network.num_classes)]
    _validate_names(network, list(class_names))
    manifest = {
        "kind": "nasbench201 network",
        "format": FORMAT,
        "network": dataclasses.asdict(network),
        "arch": nasbench201.to_string(np.asarray(arch)),
        "mean": constants[0].tolist(),
        "std": constants[1].tolist(),
        "dataset": dataset,
        "classes": list(class_names),
    }
    checkpoints.save(path, params, manifest)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network as a pure function of raw images.

    It can be called, compiled (`jax.jit`), mapped and differentiated as any function.

    Attributes:
      classes: (num_classes,) names, in the order of the probabilities.
      image_shape: (size, size, in_channels) of the images it takes.
      dataset: name of the images it was trained on.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    dataset: str
    _probabilities: Callable[[Array], Array] = dataclasses.field(repr=False)

    def __call__(self, images: Any) -> Array:
        """Predicts class probabilities.

        Images are normalised here, and not resized. Many images are predicted in batches,
        of one image at least, whose activations take at most `BATCH_BYTES`.

        Args:
          images: (m, *image_shape), of any number type, in the units of the training
            images.

        Returns:
          (m, num_classes) probabilities.

        Raises: `ValueError` for images of another shape.
        """
        if np.ndim(images) != 4 or np.shape(images)[1:] != self.image_shape:
            raise ValueError(
                f"wanted images (n, {', '.join(map(str, self.image_shape))}), "
                f"found {np.shape(images)}"
            )
        return self._probabilities(jnp.asarray(images))


def load(path: str | os.PathLike) -> Predictor:
    """Loads a network as a function of images.

    Args:
      path: of a folder that `save` wrote.

    Returns:
      predict: raw images (m, size, size, in_channels) -> probabilities (m, num_classes).

    Raises: `ValueError`, in one line, for a folder that is missing, damaged or of
      another kind, for one that would unpack to far more than its size, and without
      orbax.
    """
    manifest = checkpoints.manifest(path)
    network, arch, mean, std, names = _parse(path, manifest)
    shapes = _shapes(network)
    checkpoints.check_affordable(path, shapes)
    params = checkpoints.restore(path, shapes)
    shape = network.image_size, network.image_size, network.in_channels
    maps = _MAPS * network.image_size**2 * network.stem_channels * mean.dtype.itemsize
    batch = max(1, BATCH_BYTES // maps)

    @jax.jit
    def probabilities(params: Params, x: Array) -> Array:
        model = apply.single(network, jnp.asarray(arch))

        def softmax(x: Array) -> Array:
            out = apply.run(model, params, (x - mean) / std, training.TRAINED)
            return jax.nn.softmax(out.logits)

        return _in_batches(softmax, x, batch)

    # Parameters are an argument of the program, so that they are not constants in it.
    predict = functools.partial(probabilities, params)
    return Predictor(names, shape, str(manifest.get("dataset")), predict)


def _in_batches(function: Callable[[Array], Array], x: Array, batch: int) -> Array:
    """Applies a function to images (m, ...), at most `batch` at a time, by `lax.map`."""
    if not len(x):  # convolutions of no image fail
        return function(jnp.zeros((1, *x.shape[1:]), x.dtype))[:0]
    if len(x) <= batch:
        return function(x)
    values = jax.lax.map(function, padded_blocks(x, batch))
    return values.reshape(-1, *values.shape[2:])[: len(x)]


def _shapes(network: NetworkConfig) -> Params:
    """Returns the parameters with running statistics of a network, as shapes."""

    def make() -> Params:
        params = initialise(jax.random.key(0), network)
        return training.with_running_stats(
            params, training.initial_running_stats(params)
        )

    return jax.eval_shape(make)


def _parse(
    path: str | os.PathLike, manifest: dict[str, Any]
) -> tuple[NetworkConfig, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Parses a manifest: network, architecture, mean, deviation and class names.

    Raises: `ValueError` naming the path, for a manifest of something else.
    """
    remedy = "wanted a network that this version of jaxnas saved"
    records.require_format(path, manifest.get("format"), FORMAT, remedy)
    try:
        network = NetworkConfig(**manifest["network"])
        arch = nasbench201.from_string(manifest["arch"])
        mean, std = (np.asarray(manifest[n], np.float32) for n in ("mean", "std"))
        _validate_constants(network, mean, std)
        names = manifest["classes"]
        _validate_names(network, names)
        _shapes(network)  # sizes can be more than an array can have
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a network of jaxnas: {reason}") from error
    return network, arch, mean, std, tuple(names)


def _validate_names(network: NetworkConfig, names: Any) -> None:
    """Raises `ValueError` unless there is a text for every class."""
    texts = isinstance(names, list) and all(isinstance(n, str) for n in names)
    if not texts or len(names) != network.num_classes:
        raise ValueError(
            f"wanted names of {network.num_classes} classes, not {names!r}"
        )


def _validate_constants(
    network: NetworkConfig, mean: np.ndarray, std: np.ndarray
) -> None:
    """Raises `ValueError` unless images can be normalised by these constants."""
    shape = (network.in_channels,)
    right = mean.shape == std.shape == shape and np.isfinite([mean, std]).all()
    if not right or not (std > 0).all():
        raise ValueError(
            f"wanted a finite mean and a positive standard deviation {shape}, "
            f"not {mean} and {std}"
        )
