"""Meta-training of a generator or a predictor, epoch by epoch.

    training = Training(data, validation, rate=1e-3)
    model, progress = train(jax.random.key(0), model, training, folder="run")

An epoch is one compiled scan over minibatches of tasks, each with all of its records and
with images drawn anew. The learning rate follows the loss of the training (`plateau`), on
the host. The parameters of the epoch with the lowest validation loss are kept. Everything
random derives from the key and the number of the epoch, so that a training that continues
from its saved progress ends with the same bits.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.models import checkpoint, meta_progress, plateau
from jaxnas.models.checkpoint import Progress, adam
from jaxnas.models.meta_data import MetaData, draw_task
from jaxnas.models.model import Model, Network
from jaxnas.models.objectives import Objective, objective_of
from jaxnas.types import Array


class Training(NamedTuple):
    """Data and settings of a meta-training."""

    data: MetaData  # on the device
    validation: MetaData  # of other classes
    batch: int = 8  # tasks of a step
    num_images: int = 20  # of each class, that are drawn for a step
    draws: int = 5  # subsets of the images that the validation loss averages over
    rate: float = 1e-4  # learning rate of Adam before the first reduction
    epochs: int = 400  # at most
    patience: int = 60  # epochs without a lower validation loss until the end
    order_weight: float = 0  # of a predictor's loss, as `objectives.objective_of`
    # Epochs after which the rate is divided by ten; 0: only `plateau` lowers it.
    decay_after: int = 0


class Sizes(NamedTuple):
    """What an epoch is compiled for."""

    network: Network
    batch: int
    num_images: int
    draws: int
    order_weight: float


def train(
    key: Array,
    model: Model,
    training: Training,
    *,
    folder: str | os.PathLike | None = None,
    save_every: int = 10,
    stop_after: int | None = None,
    report: Callable[[Progress], object] | None = None,
) -> tuple[Model, Progress]:
    """Trains a model until its validation loss does not fall any more.

    Args:
      key: random key.
      model: with initial parameters; a predictor has its `accuracy` too.
      training: data and settings.
      folder: of the checkpoint after every `save_every` epochs, whose parent must exist;
        a training that was killed continues from it.
      save_every: epochs between checkpoints.
      stop_after: epochs after which to stop before the end.
      report: called after each epoch.

    Returns: the model with the parameters of the lowest validation loss, and the progress.
    Raises: `ValueError` if a loss is not finite, and for a checkpoint that is damaged or
      of another model, initial parameters, key, data or settings. More epochs or more
      patience are no other settings: the training goes on.
    """
    saved = record = None
    if folder is not None:
        saved = meta_progress.read(folder, model)
        record = meta_progress.record(key, model, training._asdict())
    if folder is None or record is None or saved is None:
        state = start(model, training.rate, key)
    else:
        ended = functools.partial(finished, training=training)
        meta_progress.require_same(folder, saved, record, ended)
        model, state = saved.model, saved.progress
    while not finished(state, training):
        if stop_after is not None and len(state.curve) >= stop_after:
            break
        model, state = run_epoch(model, state, training)
        done = len(state.curve)
        due = done % save_every == 0 or done == stop_after or finished(state, training)
        if folder is not None and due:
            checkpoint.save(folder, model, progress=state, origin=record)
        if report is not None:
            report(state)
    return Model(model.network, {**model.variables, "params": state.best}), state


def start(model: Model, rate: float, key: Array) -> Progress:
    """Makes the progress before the first epoch.

    Args:
      model: with its initial parameters.
      rate: of learning.
      key: of the training.
    """
    params = model.variables["params"]
    return Progress(adam(rate).init(params), 0, plateau.start(rate), key, params, ())


def run_epoch(
    model: Model, progress: Progress, training: Training
) -> tuple[Model, Progress]:
    """Trains for one epoch and computes the validation loss.

    Args:
      model: of the last epoch.
      progress: of its training.
      training: data and settings.

    Raises: `ValueError` if a loss is not finite.
    """
    epoch, validate = programs(sizes_of(model.network, training))
    number, state = len(progress.curve) + 1, progress.opt_state
    rate = jnp.asarray(next_rate(progress, training), jnp.float32)
    state = state._replace(hyperparams=state.hyperparams | {"learning_rate": rate})
    key = jax.random.fold_in(progress.key, number)
    variables, state, loss = epoch(model.variables, state, key, training.data)
    losses = float(loss), float(validate(variables, training.validation))
    progress = recorded(progress, training, losses)
    better = best_epoch(progress) == number
    best = variables["params"] if better else progress.best
    return Model(model.network, variables), progress._replace(
        opt_state=state, best=best
    )


def sizes_of(network: Network, training: Training) -> Sizes:
    """What the epochs of a training are compiled for; arguments as for `run_epoch`."""
    counts = training.batch, training.num_images, training.draws
    return Sizes(network, *counts, training.order_weight)


def next_rate(progress: Progress, training: Training) -> float:
    """The learning rate of the next epoch; arguments as for `run_epoch`."""
    decayed = 0 < training.decay_after <= len(progress.curve)
    return progress.plateau.rate / (10 if decayed else 1)


def recorded(
    progress: Progress, training: Training, losses: tuple[float, float]
) -> Progress:
    """Adds the losses of an epoch to the progress; its arrays stay as they are.

    Args:
      progress: before the epoch.
      training: data and settings.
      losses: of the training and in validation.

    Raises: `ValueError` if a loss is not finite.
    """
    if not np.isfinite(losses).all():
        raise ValueError(
            f"the training has diverged in epoch {len(progress.curve) + 1}: its loss is "
            f"{losses[0]}, and {losses[1]} in validation; a lower learning rate may help"
        )
    return progress._replace(
        step=progress.step - (-len(training.data.types) // training.batch),
        plateau=plateau.step(progress.plateau, losses[0]),
        curve=(*progress.curve, losses),
    )


def best_epoch(progress: Progress) -> int:
    """The number of the epoch with the lowest validation loss, from 1; 0 before any."""
    valid = [loss for _, loss in progress.curve]
    return valid.index(min(valid)) + 1 if valid else 0


def finished(progress: Progress, training: Training) -> bool:
    """Whether a training has reached its last epoch, or has stopped improving."""
    number = len(progress.curve)
    waited = number - best_epoch(progress)
    return number >= training.epochs or waited >= training.patience


@functools.cache
def programs(sizes: Sizes) -> tuple[Callable, Callable]:
    """Compiles the epoch and the validation of a network.

    Returns: (variables, optimiser's state, key, data) -> (variables, state, loss), and
      (variables, data) -> loss; losses are means over the records.
    """
    objective = objective_of(sizes.network, sizes.order_weight)
    optimizer = adam()

    @jax.jit
    def epoch(variables: Any, state: Any, key: Array, data: MetaData) -> Any:
        key_order, key_steps = jax.random.split(key)
        order = _batches(key_order, len(data.types), sizes.batch)

        def step(carry: Any, inputs: Any) -> tuple[Any, Any]:
            (variables, state), (key, numbers) = carry, inputs

            def loss(params: Any) -> Any:
                now = {**variables, "params": params}
                total, count = _losses(objective, now, key, data, numbers, sizes)
                return total / jnp.maximum(count, 1), (total, count)

            params = variables["params"]
            gradients, sums = jax.grad(loss, has_aux=True)(params)
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            return ({**variables, "params": params}, state), sums

        inputs = jax.random.split(key_steps, len(order)), order
        (variables, state), (total, count) = jax.lax.scan(
            step, (variables, state), inputs
        )
        return variables, state, total.sum() / count.sum()

    @jax.jit
    def validate(variables: Any, data: MetaData) -> Array:
        # The same images in every epoch, so that epochs are comparable.
        keys = jax.random.split(jax.random.key(0), sizes.draws)
        numbers = jnp.arange(len(data.types))

        def draw(key: Array) -> Any:
            return _losses(objective, variables, key, data, numbers, sizes, noisy=False)

        total, count = jax.lax.map(draw, keys)
        return total.sum() / count.sum()

    return epoch, validate


def _batches(key: Array, num: int, batch: int) -> Array:
    """Divides the numbers of tasks at random: (steps, batch) int32, padded with -1."""
    order = jax.random.permutation(key, num)
    return jnp.pad(order, (0, -num % batch), constant_values=-1).reshape(-1, batch)


def _losses(
    objective: Objective,
    variables: Any,
    key: Array,
    data: MetaData,
    numbers: Array,
    sizes: Sizes,
    noisy: bool = True,
) -> tuple[Array, Array]:
    """Computes the losses of the records of tasks.

    Args:
      objective: of the network.
      variables: of the network.
      key: random key.
      data: of all tasks.
      numbers: (b,) of the tasks; -1 for padding.
      sizes: for the number of images.
      noisy: whether a generator draws latent noise.

    Returns: () sum of the losses, and () number of records.
    """

    def of_task(key: Array, number: Array) -> tuple[Array, Array]:
        key_images, key_noise = jax.random.split(key)
        task = draw_task(key_images, data, number, sizes.num_images)
        losses = objective(variables, key_noise if noisy else None, task)
        return jnp.where(task.present, losses, 0).sum(), task.present.sum()

    total, count = jax.vmap(of_task)(jax.random.split(key, len(numbers)), numbers)
    return total.sum(), count.sum()
