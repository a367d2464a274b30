"""Training networks of NAS-Bench-201: one compiled epoch, of one architecture or many.

    network = NetworkConfig(stem_channels=8, cells_per_stage=1, image_size=12)
    settings = TrainingSettings(network, RECIPES["short"])
    state = initial_state(key, network, len(archs))
    program = compile_epoch(settings, key, archs, state, data)
    state, metrics = program(0, archs, state, data)

Axes are named in `nasbench201`. The a architectures of a training are lanes: every leaf of
the state begins with (a,). They share initial weights, the order of the images and their
augmentation, so that they differ by architecture alone, and none disturbs another.

An epoch is one program. Its steps are a `scan` over batches, with the state as the carry.
The grouped engine computes all lanes in each step (`cells.grouped_cells`); the sequential
engine is a `lax.map` over the lanes around the whole scan, so that one network is in
memory at a time. Evaluation is a `lax.map` over blocks of images. `runs.train` is the
loop over epochs, with checkpoints.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnas.batching import padded_blocks
from jaxnas.networks import apply, augment
from jaxnas.networks.apply import Model
from jaxnas.networks.blocks import TRAINING
from jaxnas.networks.data import Data
from jaxnas.networks.initialise import (
    initial_running_stats,
    initialise,
    with_running_stats,
)
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.networks.recipes import Recipe, epoch_steps, learning_rates
from jaxnas.types import Array

Engine = Literal["sequential", "grouped"]
STATISTICS_RATE = 0.1  # with which running statistics follow those of the batches
EVALUATION_BLOCK = 250  # images that are evaluated at once
# The mode of trained networks.
TRAINED = TRAINING._replace(norm="running", reduction_norm="running")


class State(NamedTuple):
    """The state of a training; every leaf begins with the lanes (a,)."""

    params: Params
    running: list[Array]  # statistics of the batch norms, (a, ..., 2, k) each
    momentum: Any  # the state of the optimiser (optax)


class EpochMetrics(NamedTuple):
    """The results of an epoch, (a,) each; NaN for a network that has diverged."""

    loss: Array  # mean training loss over the steps
    train: (
        Array  # accuracy in percent on the augmented training images, during the steps
    )
    valid: Array  # accuracy in percent after the epoch, by running statistics
    test: Array  # accuracy in percent after the epoch, by running statistics


class TrainingSettings(NamedTuple):
    """The static part of an epoch: a program is compiled for each value."""

    network: NetworkConfig
    recipe: Recipe
    engine: Engine = "sequential"
    method: Literal["patches", "native"] = "patches"
    # Compiled into the program of the sequential engine, for which it is the only one.
    arch: tuple[int, ...] | None = None


def _optimiser(recipe: Recipe) -> optax.GradientTransformation:
    """SGD of learning rate 1 with decay and Nesterov momentum.

    The learning rate multiplies its updates, as in PyTorch, so the state has no counter.
    """
    return optax.chain(
        optax.add_decayed_weights(recipe.weight_decay),
        optax.trace(recipe.momentum, nesterov=True),
    )


@functools.partial(jax.jit, static_argnums=(1, 2))
def initial_state(key: Array, network: NetworkConfig, lanes: int) -> State:
    """Draws the state before the first epoch.

    Args:
      key: of the initial weights, which all architectures share.
      network: the sizes.
      lanes: the number a of architectures.
    """
    params = initialise(jax.random.fold_in(key, 0), network)
    params = jax.tree.map(lambda x: jnp.broadcast_to(x, (lanes, *x.shape)), params)
    return State(
        params, initial_running_stats(params), _optimiser(Recipe()).init(params)
    )


def compile_epoch(
    settings: TrainingSettings, key: Array, archs: Any, state: Any, data: Data
) -> Callable[[int, Any, State, Data], tuple[State, EpochMetrics]]:
    """Compiles one epoch of training of each architecture, with its evaluation.

    Args:
      settings: one program serves all recipes that differ in `epochs`, `lr`, `warmup` and
        `per_step_schedule` alone, as learning rates are arguments.
      key: that of `initial_state`; the randomness of an epoch depends on it and on the
        number of the epoch.
      archs: (a, 6) int32 for the sequential engine, for the grouped one a
        `cells.GroupPlan`.
      state: on one device, for which the program is compiled.
      data: on the same device.

    Returns:
      (number of the epoch from 0, archs, state, data) -> state, metrics. It takes any
      arrays of these shapes; the state it is given is donated.
    """
    recipe = settings.recipe
    steps, _ = epoch_steps(recipe, len(data.x))
    static = dataclasses.replace(
        recipe, epochs=1, lr=0.0, warmup=0.0, per_step_schedule=False
    )
    arguments = key, learning_rates(recipe, steps, 0), archs, state, data
    leaves, tree = jax.tree.flatten(arguments)
    placement = jax.sharding.SingleDeviceSharding(next(iter(data.x.devices())))
    shapes = tuple(
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement) for x in leaves
    )
    program = _program(settings._replace(recipe=static), tree, shapes)

    def run(number: int, archs: Any, state: State, data: Data):
        drawn = jax.random.fold_in(jax.random.fold_in(key, 1), number)
        placed = jax.device_put(
            (drawn, learning_rates(recipe, steps, number)), placement
        )
        return program(*placed, archs, state, data)

    return run


@functools.lru_cache(maxsize=16)
def _program(settings: TrainingSettings, tree: Any, shapes: tuple) -> Callable:
    """Compiles apart from the first run, so that seconds are those of training alone."""
    return _epoch.lower(settings, *jax.tree.unflatten(tree, shapes)).compile()


@functools.partial(jax.jit, static_argnums=0, donate_argnums=4)
def _epoch(
    settings: TrainingSettings,
    key: Array,
    lr: Array,
    archs: Any,
    state: State,
    data: Data,
) -> tuple[State, EpochMetrics]:
    """Trains and evaluates all lanes by the engine of the settings."""
    network, method = settings.network, settings.method
    train = functools.partial(_train_epoch, settings.recipe, key, lr, data)
    if settings.engine == "grouped":
        return train(apply.several(network, archs, method), state)
    if settings.arch is not None:
        static = apply.static(network, settings.arch, method)
        return lax.map(lambda one: train(static, one), state)
    return lax.map(
        lambda one: train(apply.single(network, one[0], method), one[1]), (archs, state)
    )


def _train_epoch(
    recipe: Recipe, key: Array, lr: Array, data: Data, model: Model, state: State
) -> tuple[State, EpochMetrics]:
    """Trains a model, with or without lanes, for one epoch: a scan over the steps.

    Args:
      recipe: batch size, optimiser, augmentation.
      key: of the epoch.
      lr: (steps,) learning rates.
      data: images on the device.
      model: the architectures.
      state: with the lanes of the model.
    """
    steps, batch = epoch_steps(recipe, len(data.x))
    key_order, key_change = jax.random.split(key)
    order = jax.random.permutation(key_order, len(data.x))[: steps * batch]
    optimiser, num_classes = _optimiser(recipe), model.network.num_classes

    def step(carry: Any, inputs: tuple[Array, Array, Array]) -> tuple[Any, None]:
        state, loss, hits = carry
        chosen, key, lr = inputs
        x, y = data.x[chosen], data.y[chosen]
        x, labels = _augmented(recipe, key, x, y, data.pad_value, num_classes)

        def objective(params: Params, running: list[Array]) -> tuple[Array, Any]:
            logits = apply.run(model, with_running_stats(params, running), x).logits
            each = apply.cross_entropy(logits, labels, recipe.label_smoothing)
            return jnp.sum(each), (each, is_correct(logits, y).sum(-1))

        # The "gradient" by the running statistics is those of this batch (`stat_tap`).
        (_, (each, correct)), (grads, batch_statistics) = jax.value_and_grad(
            objective, (0, 1), has_aux=True
        )(state.params, state.running)
        change, momentum = optimiser.update(grads, state.momentum, state.params)
        params = jax.tree.map(lambda p, c: p - lr * c, state.params, change)
        running = jax.tree.map(
            lambda r, s: r + STATISTICS_RATE * (s - r), state.running, batch_statistics
        )
        return (State(params, running, momentum), loss + each, hits + correct), None

    zero = jnp.zeros(model.lanes)
    inputs = order.reshape(steps, batch), jax.random.split(key_change, steps), lr
    (state, loss, hits), _ = lax.scan(step, (state, zero, zero), inputs)
    valid, test = evaluate(model, with_running_stats(state.params, state.running), data)
    loss = loss / steps
    train = jnp.where(jnp.isfinite(loss), 100 * hits / (steps * batch), jnp.nan)
    loss = jnp.where(jnp.isfinite(loss), loss, jnp.nan)
    return state, EpochMetrics(loss, train, valid, test)


def _augmented(
    recipe: Recipe, key: Array, x: Array, y: Array, pad_value: Array, num_classes: int
) -> tuple[Array, Array]:
    """Augments a batch of training images as the recipe says.

    Args:
      recipe: the augmentation.
      key: of the batch.
      x: (b, h, w, c).
      y: (b,) classes.
      pad_value: (c,), of pixels outside the images.
      num_classes: of the classifier.

    Returns: images, and classes (b,) or, if images are mixed, probabilities (b, k).
    """
    key_flip, key_crop, key_cut, key_mix = jax.random.split(key, 4)
    if recipe.horizontal_flip:
        x = augment.flip(key_flip, x)
    if recipe.crop:
        x = augment.crop(key_crop, x, recipe.crop, pad_value)
    if recipe.cutout:
        x = augment.cutout(key_cut, x, recipe.cutout)
    if not recipe.cutmix:
        return x, y
    x, share = augment.cutmix(key_mix, x, recipe.cutmix)
    own, other = (jax.nn.one_hot(labels, num_classes) for labels in (y, jnp.roll(y, 1)))
    return x, own + share[:, None] * (other - own)


def is_correct(logits: Array, y: Array) -> Array:
    """Scores predictions: 1 if correct, 0 if not, NaN if a logit is not finite.

    Args:
      logits: (..., b, k).
      y: (b,) classes.

    Returns:
      (..., b).
    """
    correct = (jnp.argmax(logits, -1) == y).astype(logits.dtype)
    return jnp.where(jnp.isfinite(logits).all(-1), correct, jnp.nan)


def evaluate(model: Model, params: Params, data: Data) -> tuple[Array, Array]:
    """Measures accuracy in percent on the validation images and on the test images.

    Both parts are evaluated together, in blocks of one size, the last of them padded.

    Args:
      model: the architectures.
      params: with running statistics, and the lanes of the model.
      data: normalised images.

    Returns:
      two arrays () or (a,).
    """
    counts = len(data.x_valid), len(data.x_test)
    x = jnp.concatenate([data.x_valid, data.x_test])
    y = jnp.concatenate([data.y_valid, data.y_test])
    # (images, 2): which part an image counts in; padding counts in neither.
    part = jnp.repeat(jnp.eye(2, dtype=x.dtype), np.array(counts), 0)

    def block(inputs: tuple[Array, Array, Array]) -> Array:
        x, y, part = inputs
        return is_correct(apply.run(model, params, x, TRAINED).logits, y) @ part

    hits = lax.map(block, padded_blocks((x, y, part), EVALUATION_BLOCK)).sum(0)
    return 100 * hits[..., 0] / counts[0], 100 * hits[..., 1] / counts[1]
