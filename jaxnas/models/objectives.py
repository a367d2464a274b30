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


def objective_of(network: Generator | Predictor) -> Objective:
    """Makes the objective of a network.

    A generator has the loss of Lee et al. (2021), `total_loss`, in nats. A predictor has
    the squared error of its output from `normalise_accuracy` of the accuracy, by the mean
    and deviation in its variables.

    Args:
      network: of the variables that the objective takes.
    """
    config = network.config
    edges = jnp.asarray(adjacency(config.adjacency, config.num_vertices))

    def generator(variables: Any, key: Array | None, task: TaskBatch) -> Array:
        num = len(task.types)
        keys = None if key is None else jax.random.split(key, num)

        def loss(key: Array | None, types: Array) -> Array:
            inputs = key, task.features, task.mask, types, edges
            return total_loss(config, generator_losses(network, variables, *inputs))

        return jax.vmap(loss, (None if key is None else 0, 0))(keys, task.types)

    def predictor(variables: Any, key: Array | None, task: TaskBatch) -> Array:
        del key
        scale = variables["accuracy"]["mean"], variables["accuracy"]["std"]
        target = normalise_accuracy(task.accuracy, *scale)

        def output(types: Array) -> Array:
            params = {"params": variables["params"]}
            return network.apply(params, task.features, task.mask, types, edges)

        return (jax.vmap(output)(task.types) - target) ** 2

    return generator if isinstance(network, Generator) else predictor
