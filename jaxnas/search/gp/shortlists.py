"""CandidatePosterior under a posterior, and what a selector takes of them.

`best` compares every candidate by itself. The other selectors choose a batch together:
from the joint posterior of a shortlist, since a matrix over a whole space has no room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import acquisition
from jaxnas.predictors import pool_gp
from jaxnas.predictors.pool import Pool
from jaxnas.predictors.pool_gp import PoolGPState
from jaxnas.search.gp.selectors import Select, Shortlist
from jaxnas.types import Array


class CandidatePosterior(NamedTuple):
    """The posterior of n candidates with u embeddings, in standardised units."""

    column: Array  # (n,) int32, which of the u embeddings is each candidate's
    mean: Array  # (u,)
    std: Array  # (u,), of the latent function
    noise: Array  # () variance of the targets' noise
    incumbent: Array  # () the best target so far
    # Embeddings (m,) -> their mean (m,), covariance (m, m) and prior distance (m, m).
    joint: Callable[[Array], tuple[Array, Array, Array]]


def of_pool(pool: Pool, state: PoolGPState) -> CandidatePosterior:
    """Every architecture of a pool."""
    mean, std = pool_gp.marginal_posterior(state)
    noise = state.hyper.noise * state.hyper.amplitude
    joint = lambda rows: pool_gp.joint_posterior(pool, state, rows)  # noqa: E731
    row = pool.embeddings.column
    return CandidatePosterior(row, mean, std, noise, pool_gp.incumbent(state), joint)


def select(
    rule: Select, key: Array, candidates: CandidatePosterior, allowed: Array, batch: int
) -> Array:
    """The places (batch,) of the candidates that are asked next, without repeats.

    Args:
      allowed: (n,) bool, which of the candidates may be asked, at least `batch`.

    Raises: `ValueError` for a batch that is larger than the selector's shortlist.
    """
    if rule.acquire is None:
        return acquisition.top(key, jnp.where(allowed, 0.0, -jnp.inf), batch)
    if rule.choose is not None and batch > rule.size:
        raise ValueError(f"a shortlist of {rule.size} has no batch of {batch}")
    if rule.choose is None and batch == 1:
        return _ranked(key, candidates, allowed, rule.acquire, batch)
    different = _different(jax.random.fold_in(key, 0), candidates, allowed)
    allowed = jnp.where(different.sum() >= batch, different, allowed)
    if rule.choose is None:
        return _ranked(key, candidates, allowed, rule.acquire, batch)
    key_list, key_choose = jax.random.split(key)
    num = min(rule.size, allowed.shape[0])
    place = _ranked(key_list, candidates, allowed, rule.acquire, num)
    mean, cov, distance = candidates.joint(candidates.column[place])
    noise, best = candidates.noise, candidates.incumbent
    shortlist = Shortlist(mean, cov, noise, distance, best, allowed[place])
    return place[rule.choose(key_choose, shortlist, batch)]


def _different(key: Array, candidates: CandidatePosterior, allowed: Array) -> Array:
    """One of the allowed candidates of each embedding, any of them, (n,) bool."""
    lot = acquisition.tie_breakers(key, allowed.shape[0])
    num = candidates.mean.shape[0]
    highest = jax.ops.segment_max(jnp.where(allowed, lot, 0), candidates.column, num)
    return allowed & (lot == highest[candidates.column])


def _ranked(
    key: Array,
    candidates: CandidatePosterior,
    allowed: Array,
    acquire: acquisition.Acquisition,
    num: int,
) -> Array:
    """The `num` places (num,) of largest acquisition, those not allowed last."""
    key_acquire, key_tie = jax.random.split(key)
    mean, std, best = candidates.mean, candidates.std, candidates.incumbent
    utility = acquire(key_acquire, mean, std, best)
    # NaN is the least of all numbers, but more than the -inf of what must not be asked.
    utility = jnp.fmax(utility, jnp.finfo(utility.dtype).min)[candidates.column]
    return acquisition.top(key_tie, jnp.where(allowed, utility, -jnp.inf), num)
