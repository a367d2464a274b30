"""Predicted accuracies of architectures on a dataset by a trained predictor."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.models.features import ClassFeatures, embed_subsets
from jaxnas.models.graphs import Codec, adjacency
from jaxnas.models.model import Model, check_model, members
from jaxnas.models.nasbench201 import CODEC
from jaxnas.models.predictor import Predictor, denormalise_accuracy
from jaxnas.spaces.base import as_choices
from jaxnas.types import Array, check_sizes, require_kind

BLOCK = 256
"""Graphs that are embedded together, at most."""


class Predictions(NamedTuple):
    """Accuracies of n architectures, in percent, over random subsets of the images."""

    mean: np.ndarray  # (n,)
    # (n,) over the subsets and the members of an ensemble; 0 for one subset and network.
    std: np.ndarray


@functools.cache
def _programs(network: Predictor, codec: Codec) -> tuple[Callable, Callable, Callable]:
    """The compiled parts of a predictor, for many datasets, architectures and pairs."""
    config = network.config
    edges = jnp.asarray(adjacency(config.adjacency, config.num_vertices))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def datasets(variables: Any, features: Array, mask: Array) -> Array:
        return network.bind(variables).dataset(features, mask)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def graphs(variables: Any, arch: Array) -> Array:
        return network.bind(variables).graph(codec.types_of(arch), edges)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, None, 0))
    @functools.partial(jax.vmap, in_axes=(None, 0, None))
    def scores(variables: Any, dataset: Array, graph: Array) -> Array:
        return network.bind(variables).score(dataset, graph)

    return datasets, graphs, scores


def best_within(predicted: np.ndarray, cost: np.ndarray, bound: float) -> int:
    """Chooses the architecture of the highest prediction within a bound on its cost.

    The evaluator of Lee et al. (2021) for MobileNetV3 does the same: it takes the first of
    its candidates, in descending order of predictions, whose multiply-adds do not exceed
    the bound.

    Args:
      predicted: (n,) accuracies.
      cost: (n,), such as multiply-adds.
      bound: the largest cost that is allowed.

    Returns: the index.
    Raises: `ValueError` if no architecture is within the bound, with the lowest cost.
    """
    within = np.asarray(cost) <= bound
    if not within.any():
        raise ValueError(
            f"no architecture has a cost of at most {bound:g}: the lowest is "
            f"{np.min(cost, initial=np.inf):g}"
        )
    return int(np.argmax(np.where(within, predicted, -np.inf)))


def predict(
    model: Model,
    key: Array,
    features: ClassFeatures,
    arch: np.ndarray,
    *,
    draws: int = 10,
    num_images: int = 20,
    codec: Codec = CODEC,
) -> Predictions:
    """Predicts accuracies as means over random subsets of the images.

    All architectures share the subsets. So each subset is embedded once, and differences
    between predictions are not due to the draw of images.

    Args:
      model: a predictor with `accuracy`, or an ensemble, whose mean is predicted.
      key: random key.
      features: of the dataset.
      arch: (n, d) int32, n >= 1.
      draws: number of subsets.
      num_images: images of each class in a subset.
      codec: of the search space.

    Raises: `ValueError` for features of another kind than the model's, for a model of
      another kind or space or without `accuracy`, for `arch` that are not architectures
      of the space, and for sizes below 1.
    """
    network = check_model(model, Predictor, codec)
    require_kind(features, network.config.features)
    check_sizes(draws=draws, num_images=num_images, architectures=len(arch))
    if "accuracy" not in model.variables:
        raise ValueError(
            "the predictor has no mean and deviation of accuracies: see `with_accuracy`"
        )
    arch = np.asarray(arch)
    for extreme in (arch.min(0), arch.max(0)):
        as_choices(codec.space, extreme)
    sizes = draws, num_images
    parts = [
        _of_member(member, key, features, arch, sizes, codec)
        for member in members(model)
    ]
    values = np.concatenate(parts, 1)
    return Predictions(values.mean(1), values.std(1))


def _of_member(
    model: Model,
    key: Array,
    features: ClassFeatures,
    arch: np.ndarray,
    sizes: tuple[int, int],
    codec: Codec,
) -> np.ndarray:
    """Accuracies (n, draws) in percent of one network, by subset of the images.

    Args:
      model: not an ensemble.
      key: random key.
      features: of the dataset.
      arch: (n, d) int32.
      sizes: number of subsets, and images of each class in one.
      codec: of the search space.
    """
    network: Any = model.network
    datasets, graphs, scores = _programs(network, codec)
    params = {"params": model.variables["params"]}
    sets = embed_subsets(datasets, params, key, features, *sizes)
    # A power of two, as each size is compiled: the first architectures fill it up.
    block, parts = min(BLOCK, 1 << (len(arch) - 1).bit_length()), []
    for i in range(0, len(arch), block):
        rows = np.arange(i, i + block) % len(arch)
        parts.append(np.asarray(scores(params, sets, graphs(params, arch[rows]))))
    accuracy = model.variables["accuracy"]
    targets = np.concatenate(parts)[: len(arch)]
    return np.asarray(denormalise_accuracy(targets, accuracy["mean"], accuracy["std"]))
