"""Regression of components by multilayer perceptrons, in flax.

All members of an ensemble are trained side by side in one compiled program. Needs flax
(extra `surrogates`), to predict too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.curves.regress_boosting import FitTask
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_sizes

# Features are divided by their standard deviation, but by no less than this share of
# their range: rare bits would become large inputs.
_LEAST_SCALE = 0.25


class Perceptron(nn.Module):
    """Layers (d) -> hidden -> ... -> hidden -> (k), with residual connections.

    Attributes:
      hidden: width of the hidden layers.
      num_layers: how many of them, at least 1.
      num_outputs: k.
    """

    hidden: int
    num_layers: int
    num_outputs: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The outputs (..., k) of inputs (..., d)."""
        x = nn.silu(nn.Dense(self.hidden, kernel_init=nn.initializers.he_normal())(x))
        for _ in range(self.num_layers - 1):
            dense = nn.Dense(self.hidden, kernel_init=nn.initializers.he_normal())
            x = x + nn.silu(dense(x))
        return nn.Dense(self.num_outputs)(x)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mlp:
    """A trained perceptron; a pytree.

    Attributes:
      params: of the layers.
      mean: (d,) of the features.
      scale: (d,) that features are divided by.
      hidden: width of the hidden layers.
      num_layers: hidden layers.
      num_outputs: k.
    """

    params: Any
    mean: Array
    scale: Array
    hidden: int = field(metadata={"static": True})
    num_layers: int = field(metadata={"static": True})
    num_outputs: int = field(metadata={"static": True})


class _Training(NamedTuple):
    """Sizes of a training; static."""

    network: Perceptron
    learning_rate: float
    weight_decay: float
    steps: int
    batch: int


def mlp(
    hidden: int = 256,
    num_layers: int = 3,
    *,
    epochs: int = 50,
    batch: int = 64,
    learning_rate: float = 5e-3,
    weight_decay: float = 1e-4,
    min_steps: int = 500,
) -> Callable[..., tuple]:
    """Regression by perceptrons, one for all components.

    Trained by AdamW with a cosine schedule on the squared error of the standardised
    components, weighted by their importance: between the squared error of the curve, in
    which small components do not count, and all components alike.

    Args:
      hidden: width of the hidden layers.
      num_layers: hidden layers.
      epochs: passes over the rows.
      batch: rows of a step, at most the number of rows.
      learning_rate: at the beginning of the cosine schedule.
      weight_decay: of AdamW.
      min_steps: steps that are made at least, so that few rows are enough.

    Returns: a function that fits `Mlp`.
    Raises: `ValueError` for sizes below 1.
    """
    check_sizes(hidden=hidden, num_layers=num_layers, epochs=epochs, batch=batch)

    def fit(keys: Array, task: FitTask) -> tuple[Mlp, ...]:
        features, targets, rows, importance = task
        mean = features.mean(0)
        least = _LEAST_SCALE * (features.max(0) - features.min(0))
        scale = np.maximum(features.std(0), least)
        scale = np.where(scale > 0, scale, 1.0)
        x = jnp.asarray((features - mean) / scale, jnp.float32)
        z = jnp.asarray(np.stack(targets), jnp.float32)
        weight = jnp.asarray(np.stack(importance), jnp.float32)
        size = min(batch, rows.shape[1])
        training = _Training(
            Perceptron(hidden, num_layers, z.shape[-1]),
            learning_rate,
            weight_decay,
            max(min_steps, epochs * (rows.shape[1] // size)),
            size,
        )
        params = _train(training, keys, x, z, jnp.asarray(rows), weight)
        sizes = (hidden, num_layers, z.shape[-1])
        constants = (jnp.asarray(mean, float), jnp.asarray(scale, float))
        params = jax.tree.map(np.asarray, params)
        pick = lambda i: jax.tree.map(lambda p: jnp.asarray(p[i]), params)  # noqa: E731
        return tuple(Mlp(pick(i), *constants, *sizes) for i in range(len(rows)))

    return fit


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.vmap, in_axes=(None, 0, None, 0, 0, 0))
def _train(
    training: _Training, key: Array, x: Array, z: Array, rows: Array, weight: Array
) -> Any:
    """Parameters of each of m members.

    Args:
      training: sizes.
      key: (m,) random keys.
      x: (n, d) standardised features, of all members.
      z: (m, n, k) targets.
      rows: (m, r) that each member is trained on.
      weight: (m, k) of the squared error of each component.
    """
    network, rate, decay, steps, batch = training
    schedule = optax.cosine_decay_schedule(rate, steps)
    optimizer = optax.adamw(schedule, weight_decay=decay)
    key_init, key_rows = jax.random.split(key)
    params = network.init(key_init, x[0])
    weight = weight / weight.mean()

    def loss(params: Any, at: Array) -> Array:
        prediction: Any = network.apply(params, x[at])
        error = prediction - z[at]
        return (weight * error**2).mean()

    def step(carry: tuple, at: Array) -> tuple[tuple, None]:
        params, state = carry
        grads = jax.grad(loss)(params, rows[at])
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    order = batches(key_rows, rows.shape[0], steps, batch)
    return jax.lax.scan(step, (params, optimizer.init(params)), order)[0][0]


def batches(key: Array, num: int, steps: int, batch: int) -> Array:
    """Shuffled rows for each step: as many whole passes as needed, each in a new order.

    Args:
      key: random key.
      num: number of rows.
      steps: steps of the training.
      batch: rows of a step, at most `num`.

    Returns: (steps, batch) int32; the rows that do not fill a batch are left out of a
      pass.
    """
    each = num // batch
    passes = -(-steps // each)
    draw = lambda key: jax.random.permutation(key, num)[: each * batch]  # noqa: E731
    order = jax.vmap(draw)(jax.random.split(key, passes))
    return order.reshape(passes * each, batch)[:steps].astype(jnp.int32)


@full_precision
def predict(regressor: Mlp, features: Array) -> Array:
    """The standardised components (n, k) for features (n, d)."""
    network = Perceptron(regressor.hidden, regressor.num_layers, regressor.num_outputs)
    x = (features - regressor.mean) / regressor.scale
    z: Any = network.apply(regressor.params, x)
    return z
