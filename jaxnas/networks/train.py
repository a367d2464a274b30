"""Training networks of NAS-Bench-201: one compiled epoch, of one architecture or many.

    settings = TrainingSettings(NetworkConfig(stem_channels=8, cells_per_stage=1, image_size=12, in_channels=1), SHORT)
    state = start(key, settings.network, len(archs))
    program = compiled(settings, key, archs, state, data)
    state, measured = program(0, archs, state, data)

Architectures are lanes: they share initial weights, the order of the images and what is
done to them, so that they differ by architecture alone, and none disturbs another.
`runs.train` is the loop over epochs, with files.
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

from jaxnas.networks import apply, augment
from jaxnas.networks.apply import Model
from jaxnas.networks.initialise import initialise
from jaxnas.networks.layers import Conv
from jaxnas.networks.nasbench201 import TRAINING, Head, NetworkConfig, Params
from jaxnas.types import Array

Engine = Literal["sequential", "grouped"]
RATE = 0.1  # at which running statistics follow those of the batches
BLOCK = 250  # images that are evaluated at once


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum under a cosine schedule.

    Attributes:
      epochs: passes over the training images; what does not fill a batch is left out of
        an epoch, other images each time.
      batch: images in a step; all of them where there are fewer.
      lr: learning rate, which goes to 0 along half a cosine.
      warmup: first epochs in which it rises from 0 instead; needs `per_step_schedule`.
      per_step_schedule: the rate changes with every step, otherwise with every epoch.
      momentum, weight_decay: of SGD; the decay is of all parameters.
      label_smoothing: of labels (Szegedy et al., 2016), the share that all classes get.
      horizontal_flip: half of the images are mirrored.
      crop: pixels that images are moved by, at most, each way; what comes in is black.
      cutout: pixels of the side of a square that is set to the mean; 0 for none.

    Raises: `ValueError` for values that no training has.
    """

    epochs: int = 200
    batch: int = 256
    lr: float = 0.1
    warmup: float = 0.0
    per_step_schedule: bool = False
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    horizontal_flip: bool = False
    crop: int = 0
    cutout: int = 0

    def __post_init__(self):
        for name, least in (("epochs", 1), ("batch", 2), ("crop", 0), ("cutout", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer from {least}: {value!r}")
        for name, most in (
            ("lr", np.inf),
            ("warmup", np.inf),
            ("weight_decay", np.inf),
        ):
            value = getattr(self, name)
            if not 0 <= value < most:
                raise ValueError(f"{name} must be finite and not negative: {value!r}")
        for name in ("momentum", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1): {getattr(self, name)!r}")
        if self.warmup and not self.per_step_schedule:
            raise ValueError("a warm-up needs per_step_schedule=True")


RECIPES = {
    # Dong and Yang (2020), section 2.4, and their program.
    "nb201": Recipe(horizontal_flip=True, crop=4),
    # Small images and few of them, in seconds on a CPU.
    "short": Recipe(epochs=12, batch=64, lr=0.2, warmup=1.0, per_step_schedule=True),
}


class Data(NamedTuple):
    """Normalised images (n, size, size, colours) and their classes (n,) int32.

    NumPy arrays do as well, for `runs.train`.
    """

    x: Array
    y: Array
    x_valid: Array
    y_valid: Array
    x_test: Array
    y_test: Array
    pad_value: Array  # (colours,): what a black pixel has become

    @classmethod
    def without_test(
        cls, x: Any, y: Any, x_valid: Any, y_valid: Any, pad_value: Any = None
    ) -> Data:
        """The data that a search may see: images for training and validation alone.

        The first validation image stands in for the test images; the test accuracy means
        nothing.

        Args:
          x: (n, size, size, colours) normalised images to train on.
          y: (n,) their classes.
          x_valid: (m, size, size, colours) normalised images to validate on.
          y_valid: (m,) their classes.
          pad_value: (colours,), what a black pixel has become; default: 0, the mean.
        """
        pad = np.zeros(np.shape(x)[-1:], np.float32) if pad_value is None else pad_value
        return cls(x, y, x_valid, y_valid, x_valid[:1], y_valid[:1], pad)


class State(NamedTuple):
    """Of a training; every leaf begins with the lanes (a,)."""

    params: Params
    running: list[Array]  # statistics of the batch norms, (..., 2, k)
    momentum: Any  # of optax


class EpochMetrics(NamedTuple):
    """What an epoch gave, each (a,); NaN for a network that has diverged."""

    loss: Array  # mean of the steps' training losses
    train: Array  # percent of the training images, as they were trained on
    valid: Array  # percent, by running statistics
    test: Array  # percent


class TrainingSettings(NamedTuple):
    """What is static of an epoch."""

    network: NetworkConfig
    recipe: Recipe
    engine: Engine = "sequential"
    method: Literal["patches", "native"] = "patches"


def _norms(params: Params) -> tuple[list[Conv | Head], Any]:
    return jax.tree.flatten(params, is_leaf=lambda n: isinstance(n, Conv | Head))


def initial_running_stats(params: Params) -> list[Array]:
    """Mean 0 and variance 1 for each batch norm, in the order of the parameters."""
    return [
        jnp.stack([jnp.zeros_like(norm.scale), jnp.ones_like(norm.scale)], -2)
        for norm in _norms(params)[0]
        if norm.scale is not None
    ]


def with_running_stats(params: Params, running: list[Array]) -> Params:
    """The parameters with running statistics, for the norm "running"."""
    norms, tree = _norms(params)
    rest = iter(running)
    return jax.tree.unflatten(
        tree,
        [n if n.scale is None else n._replace(running=next(rest)) for n in norms],
    )


def _rule(recipe: Recipe) -> optax.GradientTransformation:
    # The rate multiplies what this gives, as in PyTorch; the state has no counter.
    return optax.chain(
        optax.add_decayed_weights(recipe.weight_decay),
        optax.trace(recipe.momentum, nesterov=True),
    )


@functools.partial(jax.jit, static_argnums=(1, 2))
def initial_state(key: Array, network: NetworkConfig, lanes: int) -> State:
    """The state before the first epoch of `lanes` architectures, from one key."""
    params = initialise(jax.random.fold_in(key, 0), network)
    params = jax.tree.map(lambda x: jnp.broadcast_to(x, (lanes, *x.shape)), params)
    return State(params, initial_running_stats(params), _rule(Recipe()).init(params))


def learning_rates(recipe: Recipe, steps: int, epoch: int) -> np.ndarray:
    """Learning rates (steps,) of an epoch, counted from 0, of so many steps each."""
    at = np.full(steps, float(epoch))
    if recipe.per_step_schedule:
        at = epoch + (np.arange(steps) + 0.5) / steps
    left = (at - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
    falling = 0.5 * (1 + np.cos(np.pi * np.clip(left, 0, 1)))
    rising = at / recipe.warmup if recipe.warmup else np.ones(steps)
    return (recipe.lr * np.minimum(falling, rising)).astype(np.float32)


def epoch_steps(recipe: Recipe, images: int) -> tuple[int, int]:
    """Steps of an epoch, and images in each of them."""
    batch = min(recipe.batch, images)
    return images // batch, batch


def compile_epoch(
    settings: TrainingSettings, key: Array, archs: Any, state: Any, data: Data
) -> Callable[[int, Any, State, Data], tuple[State, EpochMetrics]]:
    """The program of one epoch of each architecture with its evaluation, compiled here.

    Args:
      settings: one program serves all recipes that differ in `epochs`, `lr`, `warmup` and
        `per_step_schedule` alone.
      key: that of `start`; what an epoch draws depends on it and on its number.
      archs: (a, 6) int32 for the sequential engine, for the grouped one a plan of them.
      state, data: on one device, for which it is compiled.

    Returns: (number of the epoch from 0, archs, state, data) -> state, measured; it takes
      any arrays of these shapes, and the state it is given is used up.
    """
    recipe = settings.recipe
    steps, _ = epoch_steps(recipe, len(data.x))
    static = dataclasses.replace(
        recipe, epochs=1, lr=0.0, warmup=0.0, per_step_schedule=False
    )
    arguments = key, learning_rates(recipe, steps, 0), archs, state, data
    leaves, tree = jax.tree.flatten(arguments)
    own = jax.sharding.SingleDeviceSharding(next(iter(data.x.devices())))
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own) for x in leaves)
    program = _program(settings._replace(recipe=static), tree, shapes)

    def run(number: int, archs: Any, state: State, data: Data):
        drawn = jax.random.fold_in(jax.random.fold_in(key, 1), number)
        placed = jax.device_put((drawn, learning_rates(recipe, steps, number)), own)
        return program(*placed, archs, state, data)

    return run


@functools.lru_cache(maxsize=16)
def _program(settings: TrainingSettings, tree: Any, shapes: tuple) -> Callable:
    """Compiled apart from the first run, so that seconds are those of training."""
    return _epoch.lower(settings, *jax.tree.unflatten(tree, shapes)).compile()


@functools.partial(jax.jit, static_argnums=0, donate_argnums=4)
def _epoch(settings, key, lr, archs, state, data):
    network, method = settings.network, settings.method
    run = functools.partial(_lanes, settings.recipe, key, lr, data)
    if settings.engine == "grouped":
        return run(apply.several(network, archs, method), state)
    return lax.map(
        lambda one: run(apply.single(network, one[0], method), one[1]), (archs, state)
    )


def _lanes(
    recipe: Recipe, key: Array, lr: Array, data: Data, model: Model, state: State
) -> tuple[State, EpochMetrics]:
    """One epoch of a model with or without lanes."""
    steps, batch = epoch_steps(recipe, len(data.x))
    key_order, key_change = jax.random.split(key)
    order = jax.random.permutation(key_order, len(data.x))[: steps * batch]
    rule = _rule(recipe)

    def step(carry, inputs):
        state, loss, hits = carry
        chosen, key, lr = inputs
        x, y = _changed(recipe, key, data.x[chosen], data.pad_value), data.y[chosen]

        def objective(params, running):
            logits = apply.run(model, with_running_stats(params, running), x).logits
            each = apply.cross_entropy(logits, y, recipe.label_smoothing)
            return jnp.sum(each), (each, _hits(logits, y).sum(-1))

        (_, (each, right)), (grads, found) = jax.value_and_grad(
            objective, (0, 1), has_aux=True
        )(state.params, state.running)
        change, momentum = rule.update(grads, state.momentum, state.params)
        params = jax.tree.map(lambda p, c: p - lr * c, state.params, change)
        running = jax.tree.map(lambda r, f: r + RATE * (f - r), state.running, found)
        return (State(params, running, momentum), loss + each, hits + right), None

    zero = jnp.zeros(model.lanes)
    inputs = order.reshape(steps, batch), jax.random.split(key_change, steps), lr
    (state, loss, hits), _ = lax.scan(step, (state, zero, zero), inputs)
    valid, test = evaluate(model, with_running_stats(state.params, state.running), data)
    loss = loss / steps
    train = jnp.where(jnp.isfinite(loss), 100 * hits / (steps * batch), jnp.nan)
    loss = jnp.where(jnp.isfinite(loss), loss, jnp.nan)
    return state, EpochMetrics(loss, train, valid, test)


def _changed(recipe: Recipe, key: Array, x: Array, black: Array) -> Array:
    key_flip, key_crop, key_cut = jax.random.split(key, 3)
    if recipe.horizontal_flip:
        x = augment.flip(key_flip, x)
    if recipe.crop:
        x = augment.crop(key_crop, x, recipe.crop, black)
    if recipe.cutout:
        x = augment.cutout(key_cut, x, recipe.cutout)
    return x


def _hits(logits: Array, y: Array) -> Array:
    """1 where the class is right, 0 where not, NaN where the network has diverged."""
    right = (jnp.argmax(logits, -1) == y).astype(logits.dtype)
    return jnp.where(jnp.isfinite(logits).all(-1), right, jnp.nan)


def evaluate(model: Model, params: Params, data: Data) -> tuple[Array, Array]:
    """Percent of the validation and of the test images, () or (a,), in equal blocks."""
    counts = len(data.x_valid), len(data.x_test)
    total = sum(counts)
    blocks = -(-total // BLOCK)
    size = -(-total // blocks)
    x = jnp.concatenate([data.x_valid, data.x_test])
    y = jnp.concatenate([data.y_valid, data.y_test])
    of = jnp.repeat(jnp.eye(2, dtype=x.dtype), np.array(counts), 0)
    x, y, of = (
        jnp.pad(a, [(0, blocks * size - total)] + [(0, 0)] * (a.ndim - 1)).reshape(
            blocks, size, *a.shape[1:]
        )
        for a in (x, y, of)
    )
    mode = TRAINING._replace(norm="running", reduction_norm="running")

    def block(inputs):
        x, y, of = inputs
        return _hits(apply.run(model, params, x, mode).logits, y) @ of

    hits = lax.map(block, (x, y, of)).sum(0)
    return 100 * hits[..., 0] / counts[0], 100 * hits[..., 1] / counts[1]
