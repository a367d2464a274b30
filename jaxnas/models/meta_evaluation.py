"""What trained models say of the tasks of a meta-database.

predicted = predict_tasks(predictor, key, examples(database, "test"))
nats = type_nll(generator, key, examples(database, "validation"))
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.models.generator import Generator, generator_losses
from jaxnas.models.graphs import Codec, adjacency
from jaxnas.models.meta_data import MetaData, TaskBatch, best_graphs, draw_task
from jaxnas.models.model import Model, members
from jaxnas.models.predictor import denormalise_accuracy
from jaxnas.spaces import base
from jaxnas.types import Array


def predict_tasks(
    model: Model, key: Array, data: MetaData, *, draws: int = 10, num_images: int = 20
) -> np.ndarray:
    """Predicts the accuracies of the graphs of all tasks, in percent.

    Args:
      model: a predictor with `accuracy`, or an ensemble, whose mean is predicted.
      key: random key of the images.
      data: of t tasks with n graphs each.
      draws: subsets of the images, over which predictions are averaged.
      num_images: images of each class in a subset.

    Returns: (t, n), also for graphs that are not present.
    """
    parts = []
    for member in members(model):
        network: Any = member.network
        output = _over_tasks(network, draws, num_images)(member.variables, key, data)
        accuracy = member.variables["accuracy"]
        parts.append(denormalise_accuracy(output, accuracy["mean"], accuracy["std"]))
    return np.mean(parts, 0)


def draw_graphs(
    rng: np.random.Generator, codec: Codec, tasks: int, count: int
) -> np.ndarray:
    """Draws graphs for each task, as candidates of `predicted_best`.

    Candidates that tasks share would leave few different graphs to imitate.

    Args:
      rng: generator of random numbers.
      codec: of the search space.
      tasks: t, number of tasks.
      count: c, graphs of a task, all different if the space has at most 2^20 vectors;
        otherwise uniform vectors, which hardly ever repeat.

    Returns: (t, c, N) int32.
    """
    space = codec.space
    if (num := base.num_vectors(space)) <= 2**20:
        draws = [rng.choice(num, count, replace=False) for _ in range(tasks)]
        archs = base.every(space)[np.stack(draws)]
    else:
        shape = tasks, count, len(space.choices)
        archs = rng.integers(0, space.choices, shape, np.int32)
    return np.asarray(jax.vmap(jax.vmap(codec.types_of))(jnp.asarray(archs)))


def predicted_best(
    model: Model,
    key: Array,
    data: MetaData,
    types: np.ndarray,
    count: int,
    *,
    draws: int = 10,
    num_images: int = 20,
) -> MetaData:
    """Replaces the records of each task by the candidates of the best predictions.

    Lee et al. (2021) made the pairs of their generator for MobileNetV3 in this way.

    Args:
      model: a predictor with `accuracy`.
      key: random key of the images.
      data: of the tasks.
      types: (t, c, N) int32 graphs, the candidates of each task.
      count: graphs of a task.
      draws: subsets of the images, over which predictions are averaged.
      num_images: images of each class in a subset.

    Returns: data with `count` graphs a task and their predicted accuracies.
    """
    shape = types.shape[:2]
    wide = data._replace(
        types=types,
        accuracy=np.zeros(shape, np.float32),
        present=np.ones(shape, bool),
    )
    options = {"draws": draws, "num_images": num_images}
    accuracy = predict_tasks(model, key, wide, **options)
    return best_graphs(wide._replace(accuracy=accuracy), count)


def type_nll(
    model: Model, key: Array, data: MetaData, *, draws: int = 10, num_images: int = 20
) -> np.ndarray:
    """Computes negative log-likelihoods of the vertex types of graphs, in nats.

    Args:
      model: a generator; latent vectors are posterior means.
      key: random key of the images.
      data: of t tasks with n graphs each.
      draws: subsets of the images, over which values are averaged.
      num_images: images of each class in a subset.

    Returns: (t, n), also for graphs that are not present.
    """
    network: Any = model.network
    program = _over_tasks(network, draws, num_images)
    return np.asarray(program(model.variables, key, data))


@functools.cache
def _over_tasks(network: Any, draws: int, num_images: int) -> Callable:
    """Compiles (variables, key, data) -> (t, n) means over subsets of the images."""
    config = network.config
    edges = jnp.asarray(adjacency(config.adjacency, config.num_vertices))

    def nll(variables: Any, tasks: TaskBatch) -> Array:
        def of_graph(features: Array, mask: Array, types: Array) -> Array:
            inputs = network, variables, None, features, mask, types, edges
            return generator_losses(*inputs).types

        of_graphs = jax.vmap(of_graph, (None, None, 0))
        return jax.vmap(of_graphs)(tasks.features, tasks.mask, tasks.types)

    def score(variables: Any, tasks: TaskBatch) -> Array:
        bound = network.bind({"params": variables["params"]})
        datasets = jax.vmap(bound.dataset)(tasks.features, tasks.mask)
        graphs = jax.vmap(lambda types: bound.graph(types, edges))(tasks.types[0])
        pairs = jax.vmap(jax.vmap(bound.score, (None, 0)), (0, None))
        return pairs(datasets, graphs)

    values = nll if isinstance(network, Generator) else score

    @jax.jit
    def program(variables: Any, key: Array, data: MetaData) -> Array:
        def of_task(number: Array) -> Array:
            keys = jax.random.split(jax.random.fold_in(key, number), draws)
            draw = functools.partial(draw_task, data=data, number=number)
            tasks = jax.vmap(lambda key: draw(key, num_images=num_images))(keys)
            return values(variables, tasks).mean(0)

        return jax.lax.map(of_task, jnp.arange(len(data.types)))

    return program
