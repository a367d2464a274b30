"""Acquisition functions for maximisation, in one signature.

An acquisition is `(key, mean (m,), std (m,), best ()) -> utility (m,)`: larger is better
and `best` is the best target so far. All are in the same (standardised) units.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnas.types import Array

Acquisition = Callable[[Array, Array, Array, Array], Array]

_MIN_STD = 1e-9


def _cdf(u: Array) -> Array:
    return 0.5 * jax.lax.erfc(-u / math.sqrt(2))  # accurate far below 0


def _pdf(u: Array) -> Array:
    return jnp.exp(-0.5 * u**2) / math.sqrt(2 * math.pi)


def expected_improvement(key: Array, mean: Array, std: Array, best: Array) -> Array:
    """Expected improvement E max(f - best, 0) (Jones et al., 1998, eq. 15)."""
    del key
    std = jnp.maximum(std, _MIN_STD)
    u = (mean - best) / std
    return std * (u * _cdf(u) + _pdf(u))


def log_expected_improvement(key: Array, mean: Array, std: Array, best: Array) -> Array:
    """Logarithm of `expected_improvement` (Ament et al., 2023).

    It is accurate where expected improvement itself underflows.
    """
    del key
    std = jnp.maximum(std, _MIN_STD)
    u = (mean - best) / std
    near = jnp.maximum(u, -7.0)
    direct = jnp.log(near * _cdf(near) + _pdf(near))
    # phi(u) + u Phi(u) = phi(u) (1 - |u| R(|u|)) with Mills' ratio R, and
    # 1 - t R(t) = 1/t^2 - 3/t^4 + 15/t^6 - 105/t^8 + ... for large t.
    t2 = jnp.maximum(u, -1e15) ** 2
    t2 = jnp.where(u < -7.0, t2, 49.0)
    series = 1 - 3 / t2 + 15 / t2**2 - 105 / t2**3 + 945 / t2**4 - 10395 / t2**5
    far = -0.5 * t2 - 0.5 * math.log(2 * math.pi) - jnp.log(t2) + jnp.log(series)
    return jnp.log(std) + jnp.where(u < -7.0, far, direct)


def probability_of_improvement(
    key: Array, mean: Array, std: Array, best: Array
) -> Array:
    """Probability of improvement P(f > best) (Kushner, 1964)."""
    del key
    return _cdf((mean - best) / jnp.maximum(std, _MIN_STD))


def confidence_bound(beta: float = 2 * math.log(100)) -> Acquisition:
    """Makes the upper confidence bound mean + sqrt(beta) std (Srinivas et al., 2010).

    For targets that are negated errors this is the lower confidence bound of the error.

    Args:
      beta: squared weight of the standard deviation, non-negative. The default is the
        constant of Nguyen et al. (2021), whose program multiplies the variance by it.

    Raises: `ValueError` for a negative beta.
    """
    if not beta >= 0:
        raise ValueError(f"beta must not be negative, not {beta}")

    def bound(key: Array, mean: Array, std: Array, best: Array) -> Array:
        del key, best
        return mean + math.sqrt(beta) * std

    return bound


def thompson(key: Array, mean: Array, std: Array, best: Array) -> Array:
    """Marginal Thompson sampling: an independent normal draw at every point."""
    del best
    return mean + std * jax.random.normal(key, mean.shape, mean.dtype)


def top(key: Array, utility: Array, k: int) -> Array:
    """Selects the k points of largest utility, breaking ties at random.

    Args:
      key: () PRNG key of the tie breaking.
      utility: (m,), -inf for points to avoid; NaN counts as -inf.
      k: number of points, at most m, static.

    Returns: (k,) int32 indices, the largest first.
    """
    utility = jnp.where(jnp.isnan(utility), -jnp.inf, utility)
    tickets = tie_breakers(key, utility.shape[0]) | 1
    if k == 1:
        tied = utility == utility.max()
        return jnp.argmax(jnp.where(tied, tickets, 0))[None]
    order = jnp.argsort(tickets)
    return order[jax.lax.top_k(utility[order], k)[1]]


def tie_breakers(key: Array, num: int) -> Array:
    """Draws different pseudo-random numbers (num,) uint32, one for each point.

    A bijective mix (the finaliser of MurmurHash3) of the index and one random word:
    breaking ties over a whole space would take longer than its posterior with a
    cryptographic generator.
    """
    word = jax.random.bits(key, (), jnp.uint32)
    x = jnp.arange(num, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9) + word
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)
