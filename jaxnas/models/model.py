"""A model: a network and its variables."""

from __future__ import annotations

import functools
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
    the tensors of the published file that influence no output.
    """

    network: Network  # static
    variables: dict[str, Any]


def init(network: Network, key: Array) -> Model:
    """Makes a model with random parameters, from the distributions of the published code.

    Args:
      network: a `Generator` or a `Predictor`.
      key: random key.
    """
    return Model(network, dict(_initial(network, key)))


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
      model: a predictor.
      mean: of the training accuracies, in percent.
      std: their standard deviation, with n - 1 degrees of freedom.

    Raises: `ValueError` for numbers that are not finite, or a deviation that is not
      positive.
    """
    if not np.isfinite([mean, std]).all() or std <= 0:
        raise ValueError(
            f"wanted a finite mean and a positive standard deviation, not {mean}, {std}"
        )
    accuracy = {"mean": np.float32(mean), "std": np.float32(std)}
    return Model(model.network, {**model.variables, "accuracy": accuracy})


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
