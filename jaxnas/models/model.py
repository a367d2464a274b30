"""A model: a network and its variables."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.models.generator import Generator
from jaxnas.models.graphs import Codec
from jaxnas.models.predictor import Predictor
from jaxnas.types import Array

Network = Generator | Predictor


class Model(NamedTuple):
    """A network with its variables, collections of arrays by name.

    `params` are the parameters. `accuracy`, of a predictor, has `mean` and `std` () of
    the accuracies in percent that it was trained on. `unused`, of an imported model, holds
    the tensors of the published file that influence no output. In an ensemble all arrays
    have a leading axis of `network.config.members`.
    """

    network: Network  # static
    variables: dict[str, Any]


def init(network: Network, key: Array) -> Model:
    """Makes a model with random parameters, from the distributions of the published code.

    Args:
      network: a `Generator` or a `Predictor`.
      key: random key.

    Raises: `ValueError` for a generator of several members.
    """
    if (num := network.config.members) > 1 and isinstance(network, Generator):
        raise ValueError(f"an ensemble is of predictors: wanted members = 1, not {num}")
    if num == 1:
        return Model(network, dict(_initial(network, key)))
    drawn = jax.vmap(functools.partial(_initial, network))(jax.random.split(key, num))
    return Model(network, dict(drawn))


@functools.partial(jax.jit, static_argnums=0)
def _initial(network: Network, key: Array) -> Any:
    """Draws initial parameters; compiled, so that the forward pass is not computed."""
    config = network.config
    features = jnp.zeros((1, 1, config.features.width))
    types = jnp.zeros(config.num_vertices, jnp.int32)
    adj = jnp.zeros((config.num_vertices, config.num_vertices), bool)
    return network.init(key, features, jnp.ones((1, 1), bool), types, adj)


def with_accuracy(model: Model, mean: float, std: float) -> Model:
    """Adds the mean and deviation by which outputs of a predictor become accuracies.

    Args:
      model: a predictor that is not an ensemble.
      mean: of the training accuracies, in percent.
      std: their standard deviation, with n - 1 degrees of freedom.

    Raises: `ValueError` for numbers that are not finite, a deviation that is not
      positive, and an ensemble.
    """
    if not np.isfinite([mean, std]).all() or std <= 0:
        raise ValueError(
            f"wanted a finite mean and a positive standard deviation, not {mean}, {std}"
        )
    if model.network.config.members > 1:
        raise ValueError("the members of an ensemble have accuracies of their own")
    accuracy = {"mean": np.float32(mean), "std": np.float32(std)}
    return Model(model.network, {**model.variables, "accuracy": accuracy})


def ensemble(predictors: Sequence[Model]) -> Model:
    """Joins predictors into one, whose predictions are the mean of theirs.

    Trainings that differ by their seed err in different directions, and so does the order
    of architectures within a dataset.

    Args:
      predictors: with `accuracy`, of one configuration; ensembles count as their members.
        Their `unused` tensors are left out.

    Raises: `ValueError` for no predictors, other models, other configurations, and
      predictors without `accuracy`.
    """
    single = [member for model in predictors for member in members(model)]
    if not single:
        raise ValueError("wanted at least one predictor")
    network = single[0].network
    if not isinstance(network, Predictor):
        raise ValueError(f"wanted predictors, not a {type(network).__name__}")
    used = [{n: x for n, x in m.variables.items() if n != "unused"} for m in single]
    for other, variables in zip(single, used, strict=True):
        if other.network != network:
            raise ValueError(
                "predictors differ in their configuration: wanted "
                f"{network.config}, found {other.network.config}"
            )
        if "accuracy" not in variables:
            raise ValueError(
                "a predictor has no mean and deviation of accuracies: see `with_accuracy`"
            )
    if len(single) == 1:
        return single[0]
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *used)
    config = dataclasses.replace(network.config, members=len(single))
    return Model(Predictor(config), stacked)


def members(model: Model) -> list[Model]:
    """The models of an ensemble, or the model itself if it is not one."""
    config = model.network.config
    if config.members == 1:
        return [model]
    network = type(model.network)(dataclasses.replace(config, members=1))
    return [
        Model(network, jax.tree.map(lambda x, i=i: x[i], model.variables))
        for i in range(config.members)
    ]


def check_model(model: Model, kind: type, codec: Codec) -> Any:
    """Returns the network of a model.

    Raises: `ValueError` if it is of another kind, or of another space than the codec.
    """
    network = model.network
    if not isinstance(network, kind):
        raise ValueError(f"wanted a {kind.__name__}, not a {type(network).__name__}")
    sizes = network.config.num_vertices, network.config.num_types
    if sizes != (codec.num_vertices, codec.num_types):
        raise ValueError(
            f"the model is of graphs with {sizes[0]} vertices of {sizes[1]} types; "
            f"{codec.space.name} has {codec.num_vertices} of {codec.num_types}"
        )
    return network
