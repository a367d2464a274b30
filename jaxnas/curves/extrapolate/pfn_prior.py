"""The prior of LC-PFN: artificial learning curves (Adriaensen et al., 2023).

A curve is the weighted sum of three parametric families plus normal noise. The weights are
not normalised, and a curve is rejected unless, before the noise, it ends above its start
and stays between 0 and 1. The noise is that of the published program, not of the paper.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.types import Array, check_sizes

EPOCHS = 100
# Candidates per curve, and in addition. A fifth of them is accepted, so that for any number
# of curves the probability of too few is below 1e-7.
_TRIES, _SPARE = 8, 64


class Curves(NamedTuple):
    """Draws of the prior."""

    noisy: Array  # (n, e)
    mean: Array  # (n, e) before the noise
    sigma: Array  # (n,) standard deviation of the noise
    acceptance: Array  # () share of the candidates that were accepted


def sample_prior(key: Array, num: int, epochs: int = EPOCHS) -> Curves:
    """Draws curves from the prior, all at once.

    Args:
      key: random key.
      num: number n of curves, static.
      epochs: number e of epochs, static; the published prior has 100.

    Returns: n curves that were accepted.
    Raises: `ValueError` for sizes below 1.
    """
    check_sizes(num=num, epochs=epochs)
    key_mean, key_sigma, key_noise = jax.random.split(key, 3)
    total = _TRIES * num + _SPARE
    keys = jax.random.split(key_mean, total)
    candidates = jax.vmap(_candidate, (0, None))(keys, epochs)
    inside = ((candidates >= 0) & (candidates <= 1)).all(1)  # False for NaN
    accepted = inside & (candidates[:, -1] > candidates[:, 0])
    first = jnp.argsort(~accepted, stable=True)[:num]
    mean = candidates[first]
    sigma = jnp.exp(-4 + jax.random.normal(key_sigma, (num,)))
    noise = sigma[:, None] * jax.random.normal(key_noise, mean.shape)
    return Curves(mean + noise, mean, sigma, accepted.mean())


def _candidate(key: Array, epochs: int) -> Array:
    """A weighted sum (e,) of pow3, ilog2 and janoschek, which may be rejected."""
    key_uniform, key_normal = jax.random.split(key)
    u = jax.random.uniform(key_uniform, (9,))
    normal = jax.random.normal(key_normal, (3,))
    x = jnp.arange(1, epochs + 1).astype(u.dtype)
    log_x = jnp.log(x)
    pow3 = 1.25 * u[0] - (1.2 * u[1] - 0.6) * jnp.exp(-jnp.exp(2 * normal[0]) * log_x)
    ilog2 = u[2] - (u[3] - 0.5) / jnp.log(x + 1)
    rate, power = jnp.exp(normal[1] - 2), jnp.exp(0.5 * normal[2])
    end, start = u[4], 2 * u[5]
    janoschek = end - (end - start) * jnp.exp(-rate * jnp.exp(power * log_x))
    return u[6] * pow3 + u[7] * ilog2 + u[8] * janoschek
