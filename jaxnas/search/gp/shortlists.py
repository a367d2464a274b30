"""Posterior of the candidates of a step, and selection of a batch from it.

`CandidatePosterior` is what a search knows about its candidates, whether they are a pool
(`of_pool`) or sampled (`sampled_gp.posterior_at`). `select` applies a rule of `selectors`
to it: `maximise` ranks every candidate by itself; the other rules choose a batch from the
joint posterior of a shortlist, since a covariance over a whole space does not fit memory.
"""

from __future__ import annotations

import functools
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
    """The posterior of n candidates with u distinct embeddings, in standardised units."""

    column: Array  # (n,) int32, the distinct embedding of each candidate, below u
    mean: Array  # (u,)
    std: Array  # (u,), of the latent function
    noise: Array  # () variance of the targets' noise
    incumbent: Array  # () the best target so far
    # columns (m,) -> their mean (m,), covariance (m, m) and prior distance (m, m)
    joint: Callable[[Array], tuple[Array, Array, Array]]


def of_pool(pool: Pool, state: PoolGPState) -> CandidatePosterior:
    """Posterior of every architecture of a pool, in the order of pool indices."""
    mean, std = pool_gp.marginal_posterior(state)
    noise = state.hyper.noise * state.hyper.amplitude
    joint = functools.partial(pool_gp.joint_posterior, pool, state)
    column, incumbent = pool.embeddings.column, pool_gp.incumbent(state)
    return CandidatePosterior(column, mean, std, noise, incumbent, joint)


def select(
    rule: Select, key: Array, candidates: CandidatePosterior, allowed: Array, batch: int
) -> Array:
    """Selects the next batch, without repeats.

    Args:
      rule: from `selectors`.
      key: for ties, and for rules that sample.
      candidates: posterior of n candidates.
      allowed: (n,) bool, which of the candidates may be asked, at least `batch`.
      batch: number of candidates to select.

    Returns: (batch,) int32 indices of candidates.
    Raises: `ValueError` for a batch that is larger than the rule's shortlist.
    """
    if rule.acquire is None:
        return acquisition.top(key, jnp.where(allowed, 0.0, -jnp.inf), batch)
    if rule.choose is not None and batch > rule.size:
        raise ValueError(f"a shortlist of {rule.size} has no batch of {batch}")
    if rule.choose is None and batch == 1:
        return _ranked(key, candidates, allowed, rule.acquire, batch)
    distinct = _one_of_each_column(jax.random.fold_in(key, 0), candidates, allowed)
    allowed = jnp.where(distinct.sum() >= batch, distinct, allowed)
    if rule.choose is None:
        return _ranked(key, candidates, allowed, rule.acquire, batch)
    key_list, key_choose = jax.random.split(key)
    num = min(rule.size, allowed.shape[0])
    index = _ranked(key_list, candidates, allowed, rule.acquire, num)
    mean, cov, distance = candidates.joint(candidates.column[index])
    noise, incumbent = candidates.noise, candidates.incumbent
    shortlist = Shortlist(mean, cov, noise, distance, incumbent, allowed[index])
    return index[rule.choose(key_choose, shortlist, batch)]


def _one_of_each_column(
    key: Array, candidates: CandidatePosterior, allowed: Array
) -> Array:
    """A random one of the allowed candidates of each distinct embedding, (n,) bool."""
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
    """Indices (num,) of largest acquisition, padded with disallowed candidates.

    Padding occurs only if fewer than `num` candidates are allowed.
    """
    key_acquire, key_tie = jax.random.split(key)
    mean, std, incumbent = candidates.mean, candidates.std, candidates.incumbent
    utility = acquire(key_acquire, mean, std, incumbent)
    # NaN counts as the smallest number, above the -inf of disallowed candidates.
    utility = jnp.fmax(utility, jnp.finfo(utility.dtype).min)[candidates.column]
    return acquisition.top(key_tie, jnp.where(allowed, utility, -jnp.inf), num)
