"""Losses of the records of one task, which meta-training minimises.

An objective maps (variables, key, task) to the losses (n,) of the task's graphs. The key is
for the latent noise of a generator; None: none, as in validation. The dataset is embedded
once for all graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.models.generator import Generator, generator_losses, total_loss
from jaxnas.models.graphs import adjacency
from jaxnas.models.meta_data import TaskBatch
from jaxnas.models.predictor import Predictor, normalise_accuracy
from jaxnas.types import Array

Objective = Callable[[Any, Array | None, TaskBatch], Array]


def objective_of(network: Generator | Predictor, order_weight: float = 0) -> Objective:
    """Makes the objective of a network.

    A generator has the loss of Lee et al. (2021), `total_loss`, in nats. A predictor has
    the squared error of its output from `normalise_accuracy` of the accuracy, by the mean
    and deviation in its variables, and `order_weight` times the squared error of the
    differences from the mean of the task, which decide on the order of its graphs.

    Args:
      network: of the variables that the objective takes.
      order_weight: 0 for the published loss.
    """
    if isinstance(network, Generator):
        return _generator(network)
    return _predictor(network, order_weight)


def _edges(network: Generator | Predictor) -> Array:
    """The edges (N, N) that all graphs of the space share."""
    config = network.config
    return jnp.asarray(adjacency(config.adjacency, config.num_vertices))


def _generator(network: Generator) -> Objective:
    """The objective of a generator, with latent noise of its own for each graph."""
    edges = _edges(network)

    def objective(variables: Any, key: Array | None, task: TaskBatch) -> Array:
        keys = None if key is None else jax.random.split(key, len(task.types))

        def loss(key: Array | None, types: Array) -> Array:
            inputs = key, task.features, task.mask, types, edges
            parts = generator_losses(network, variables, *inputs)
            return total_loss(network.config, parts)

        return jax.vmap(loss, (None if key is None else 0, 0))(keys, task.types)

    return objective


def _predictor(network: Predictor, order_weight: float) -> Objective:
    """The objective of a predictor."""
    edges = _edges(network)

    def objective(variables: Any, key: Array | None, task: TaskBatch) -> Array:
        del key
        scale = variables["accuracy"]["mean"], variables["accuracy"]["std"]
        target = normalise_accuracy(task.accuracy, *scale)
        bound = network.bind({"params": variables["params"]})

        def output(types: Array) -> Array:
            return bound(task.features, task.mask, types, edges)

        error = jax.vmap(output)(task.types) - target
        present = task.present / jnp.maximum(task.present.sum(), 1)
        within = error - (present * error).sum()
        return error**2 + order_weight * within**2

    return objective
