"""Training of an LC-PFN on curves drawn anew in every step (Adriaensen et al., 2023).

The loss is the mean negative log-density of the values past a cut, which is drawn for
every batch, given those before it. Steps run in a compiled loop. The state between two
loops is a pytree, and draws depend on the number of the step alone: a training that was
interrupted and resumed gives the same model as one that was not. Needs flax (extra
`surrogates`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.curves.extrapolate import bars, pfn
from jaxnas.curves.extrapolate.pfn import Model
from jaxnas.curves.extrapolate.pfn_network import Transformer, TransformerConfig
from jaxnas.curves.extrapolate.pfn_prior import EPOCHS, sample_prior
from jaxnas.types import Array

# Curves whose values decide the borders of the bars.
_FOR_BORDERS = 10_000


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training; the published models took 100,000 steps of 100 curves."""

    network: TransformerConfig = TransformerConfig()
    steps: int = 10_000
    batch: int = 100
    learning_rate: float = 1e-3
    warm_up: float = 0.25
    """Share of the steps in which the learning rate rises; then it falls to 0 (cosine)."""
    seed: int = 0


class State(NamedTuple):
    """A training between two steps."""

    params: Any
    optimizer: Any  # state of optax
    borders: Array  # (k + 1,)
    step: Array  # () int32, steps that were made


def _optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """Adam with warm-up, cosine decay, and gradients clipped to norm 1."""
    rise = max(1, round(config.warm_up * config.steps))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, rise, max(config.steps, rise + 1)
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))


@functools.partial(jax.jit, static_argnums=0)
def start(config: TrainingConfig) -> State:
    """Initialises a training: parameters, and borders of bars by 10,000 curves."""
    key_prior, key_network = jax.random.split(jax.random.key(config.seed))
    values = sample_prior(key_prior, _FOR_BORDERS).noisy
    borders = bars.equal_mass_borders(values, config.network.num_bars)
    params = pfn.new_model(key_network, config.network, borders).params
    return State(params, _optimizer(config).init(params), borders, jnp.int32(0))


@functools.partial(jax.jit, static_argnums=(0, 2))
def advance(config: TrainingConfig, state: State, steps: int) -> tuple[State, Array]:
    """Makes steps of a training.

    Args:
      config: settings of the training, static.
      state: of `start` or of an earlier call.
      steps: number of steps, static.

    Returns: the state after the steps, and the loss (steps,) of each.
    """
    optimizer = _optimizer(config)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)

    def step(state: State, _: None) -> tuple[State, Array]:
        key_step = jax.random.fold_in(key, state.step)
        model = Model(config.network, state.params, state.borders)
        objective = lambda p: loss(key_step, model._replace(params=p), config.batch)  # noqa: E731
        value, gradient = jax.value_and_grad(objective)(state.params)
        updates, moments = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, moments, state.borders, state.step + 1), value

    return jax.lax.scan(step, state, None, steps)


def loss(key: Array, model: Model, num: int) -> Array:
    """Computes the mean negative log-density () past a random cut, on new curves.

    Args:
      key: random key, of curves and cut.
      model: the model; differentiable in its parameters.
      num: number of curves, static.
    """
    key_curves, key_cut = jax.random.split(key)
    curves = sample_prior(key_curves, num).noisy
    cut = jax.random.randint(key_cut, (), 1, EPOCHS)
    return -log_densities(model, curves, cut).mean()


def log_densities(model: Model, curves: Array, cut: Array) -> Array:
    """Computes the mean log-density of the values past a cut, given those before.

    Args:
      model: the model.
      curves: (n, e) between 0 and 1, complete.
      cut: () number of observed epochs, below e.

    Returns: (n,) nats per value.
    """
    epochs = jnp.arange(1, curves.shape[1] + 1).astype(curves.dtype)
    seen = jnp.arange(curves.shape[1]) < cut

    def one(curve: Array) -> Array:
        network = Transformer(model.config)
        logits: Any = network.apply(model.params, epochs, curve, seen)
        values = jax.vmap(bars.log_density, (0, None, 0))(logits, model.borders, curve)
        return jnp.where(seen, 0.0, values).sum() / (~seen).sum()

    return jax.vmap(one)(curves)
