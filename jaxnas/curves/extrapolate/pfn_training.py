"""Training of an LC-PFN on curves drawn anew in every step (Adriaensen et al., 2023).

The loss is the mean negative log-density of the values past a cut, which is drawn for
every curve, given those before it. Steps run in a compiled loop, curves are drawn in it.
The state between two loops is a pytree, and draws depend on the number of the step alone:
a training that was interrupted and resumed gives the same model as one that was not.
Needs flax (extra `surrogates`).
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
    bfloat16: bool = False
    """Whether matrix products of the layers take bfloat16: faster on a GPU."""


class State(NamedTuple):
    """A training between two steps."""

    params: Any
    optimizer: Any  # state of optax
    borders: Array  # (k + 1,)
    step: Array  # () int32, steps that were made


_OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


@functools.partial(jax.jit, static_argnums=0)
def start(config: TrainingConfig) -> State:
    """Initialises a training: parameters, and borders of bars by 10,000 curves."""
    key_prior, key_network = jax.random.split(jax.random.key(config.seed))
    values = sample_prior(key_prior, _FOR_BORDERS).noisy
    borders = bars.equal_mass_borders(values, config.network.num_bars)
    params = pfn.new_model(key_network, config.network, borders).params
    return State(params, _OPTIMIZER.init(params), borders, jnp.int32(0))


def learning_rates(config: TrainingConfig) -> Array:
    """Computes the learning rate (steps,) of every step: warm-up, then cosine decay."""
    rise = max(1, round(config.warm_up * config.steps))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, rise, max(config.steps, rise + 1)
    )
    return jnp.asarray(jax.vmap(schedule)(jnp.arange(config.steps)))


def advance(config: TrainingConfig, state: State, steps: int) -> tuple[State, Array]:
    """Makes steps of a training.

    Args:
      config: settings of the training.
      state: of `start` or of an earlier call.
      steps: number of steps; the compiled program depends on it, on the sizes of network
        and batch, and on `bfloat16`.

    Returns: the state after the steps, and the loss (steps,) of each.
    """
    dtype = jnp.bfloat16 if config.bfloat16 else None
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    first = int(state.step)
    rates = learning_rates(config)[first : first + steps]
    return _advance(config.network, config.batch, dtype, key, state, rates)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _advance(
    network: TransformerConfig,
    batch: int,
    dtype: Any,
    key: Array,
    state: State,
    rates: Array,
) -> tuple[State, Array]:
    """`advance` by learning rates (steps,), with all that shapes the program static."""

    def step(state: State, rate: Array) -> tuple[State, Array]:
        key_step = jax.random.fold_in(key, state.step)

        def objective(params: Any) -> Array:
            return loss(key_step, Model(network, params, state.borders), batch, dtype)

        value, gradient = jax.value_and_grad(objective)(state.params)
        updates, moments = _OPTIMIZER.update(gradient, state.optimizer)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        return State(params, moments, state.borders, state.step + 1), value

    return jax.lax.scan(step, state, rates)


def loss(key: Array, model: Model, num: int, dtype: Any = None) -> Array:
    """Computes the mean negative log-density () past random cuts, on new curves.

    Args:
      key: random key, of curves and cuts.
      model: the model; differentiable in its parameters.
      num: number of curves, static.
      dtype: of the matrix products, see `pfn_network.Layer`.
    """
    key_curves, key_cut = jax.random.split(key)
    curves = sample_prior(key_curves, num).noisy
    cuts = jax.random.randint(key_cut, (num,), 1, EPOCHS)
    return -log_densities(model, curves, cuts, dtype).mean()


def log_densities(model: Model, curves: Array, cuts: Array, dtype: Any = None) -> Array:
    """Computes the mean log-density of the values past a cut, given those before.

    Args:
      model: the model.
      curves: (n, e) between 0 and 1, complete.
      cuts: (n,) number of observed epochs of each, below e.
      dtype: of the matrix products, see `pfn_network.Layer`.

    Returns: (n,) nats per value.
    """
    epochs = jnp.arange(1, curves.shape[1] + 1).astype(curves.dtype)
    network = Transformer(model.config, dtype)

    def one(curve: Array, cut: Array) -> Array:
        seen = jnp.arange(len(curve)) < cut
        logits: Any = network.apply(model.params, epochs, curve, seen)
        values = jax.vmap(bars.log_density, (0, None, 0))(logits, model.borders, curve)
        return jnp.where(seen, 0.0, values).sum() / (~seen).sum()

    return jax.vmap(one)(curves, cuts)
