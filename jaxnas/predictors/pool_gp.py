"""The posterior of a Gaussian process over every architecture of a pool.

Each observation adds one row to the whitened covariance V = L^-1 R(X, pool), from which
mean and variance everywhere follow in O(n N); hyper-parameters are refitted, and V rebuilt,
only now and then.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from jaxnas import gp
from jaxnas.kernels import gram
from jaxnas.predictors.pool import Pool
from jaxnas.types import Array


class PoolGPState(NamedTuple):
    """The observations, in order, and the posterior over the u distinct embeddings."""

    index: Array  # (t,) int32, pool indices; t is the capacity
    score: Array  # (t,), NaN where the evaluation failed
    count: Array  # () int32, of observations and of what is expected
    expected: Array  # () int32, the last of them, which are in flight: see `expect`
    seen: Array  # (n,) bool
    distances: Array  # (c, t, u) by part, from the observations to the pool
    hyper: gp.Hyperparameters
    standardisation: gp.Standardisation
    white_cross: Array  # (t, u), V = L^-1 R(X, pool)
    newest: Array  # (u,), the last row of V, which V itself gets a step later
    white_target: Array  # (t,), L^-1 z
    mean: Array  # (u,), V' L^-1 z
    variance_reduction: Array  # (u,), the column sums of V^2


def empty(pool: Pool, size: int) -> PoolGPState:
    """The prior, with room for `size` observations."""
    num_parts = len(pool.embeddings.parts)
    distinct = gram.num_distinct(pool.embeddings)
    dtype = pool.prior.scales.dtype
    one = jnp.ones((), dtype)
    zeros = functools.partial(jnp.zeros, dtype=dtype)
    return PoolGPState(
        index=jnp.zeros(size, jnp.int32),
        score=jnp.full(size, jnp.nan, dtype),
        count=jnp.int32(0),
        expected=jnp.int32(0),
        seen=jnp.zeros(len(pool.arch), bool),
        distances=zeros((num_parts, size, distinct)),
        hyper=gp.Hyperparameters(jnp.ones(num_parts, dtype), one, one),
        standardisation=gp.Standardisation(-one, 0 * one, one),
        white_cross=zeros((size, distinct)),
        newest=zeros(distinct),
        white_target=zeros(size),
        mean=zeros(distinct),
        variance_reduction=zeros(distinct),
    )


def grown(state: PoolGPState, size: int) -> PoolGPState:
    """The same, with room for at least `size` observations."""
    more = max(0, size - state.index.shape[0])
    return state._replace(
        index=jnp.pad(state.index, (0, more)),
        score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
        distances=jnp.pad(state.distances, ((0, 0), (0, more), (0, 0))),
        white_cross=jnp.pad(state.white_cross, ((0, more), (0, 0))),
        white_target=jnp.pad(state.white_target, (0, more)),
    )


def marginal_posterior(state: PoolGPState) -> tuple[Array, Array]:
    """Mean and standard deviation (u,) of the latent function, in standardised units."""
    variance = state.hyper.amplitude * jnp.maximum(1 - state.variance_reduction, 0.0)
    return state.mean, jnp.sqrt(variance)


def joint_posterior(
    pool: Pool, state: PoolGPState, rows: Array
) -> tuple[Array, Array, Array]:
    """Mean (m,), covariance (m, m), and prior distance (m, m) of embeddings (m,)."""
    scales = state.hyper.scales
    parts = gram.distances_between(pool.embeddings, rows)
    white = state.white_cross[:, rows]
    white = white.at[jnp.maximum(state.count - 1, 0)].set(state.newest[rows])
    cov = state.hyper.amplitude * (gram.laplace(parts, scales) - white.T @ white)
    distance = jnp.tensordot(1 / scales, parts, axes=1)
    return state.mean[rows], (cov + cov.T) / 2, distance


def incumbent(state: PoolGPState) -> Array:
    """The best standardised target () so far, -inf before the first."""
    known = (jnp.arange(state.score.shape[0]) < state.count) & ~jnp.isnan(state.score)
    target = gp.standardise(state.standardisation, state.score)
    return jnp.max(jnp.where(known, target, -jnp.inf), initial=-jnp.inf)


def record(
    pool: Pool,
    state: PoolGPState,
    index: Array,
    score: Array,
    wanted: Array | bool = True,
) -> PoolGPState:
    """Appends one observation; the posterior does not know of it yet.

    Args:
      index: () pool index.   score: ().
      wanted: () bool; False where there is nothing to append.
    """
    last = state.count
    column = gram.distances_from(pool.embeddings, pool.embeddings.column[index])

    def put(rows: Array, value: Array, axis: int = 0) -> Array:
        # A value is written in any case: a choice between whole arrays would copy them.
        old = jax.lax.dynamic_index_in_dim(rows, last, axis, False)
        value = jnp.where(wanted, value.astype(rows.dtype), old)
        return jax.lax.dynamic_update_index_in_dim(rows, value, last, axis)

    num = state.seen.shape[0]
    return state._replace(
        index=put(state.index, index),
        score=put(state.score, score),
        count=last + wanted,
        seen=state.seen.at[jnp.where(wanted, index, num)].set(True, mode="drop"),
        distances=put(state.distances, column, 1),
    )


def extend(
    pool: Pool, state: PoolGPState, use: Array, wanted: Array | bool = True
) -> PoolGPState:
    """Conditions the posterior on the last recorded observation (one Cholesky row).

    Args:
      use: () bool; where it is False, as before the first fit, the posterior stays as it
        is.
      wanted: () bool, as `record` was given.
    """
    last = state.count - 1
    put = jax.lax.dynamic_update_index_in_dim
    # Written one step late, and before it is read: then it happens in place.
    before = jnp.maximum(last - wanted, 0)
    newest = jnp.where(wanted, state.newest, state.white_cross[before])
    white_cross = put(state.white_cross, newest, before, 0)
    column = pool.embeddings.column[state.index[last]]
    old = white_cross[:, column]
    size = jnp.sqrt(jnp.maximum(1 + state.hyper.noise - old @ old, state.hyper.noise))
    distances = jax.lax.dynamic_index_in_dim(state.distances, last, 1, False)
    new = gram.laplace(distances, state.hyper.scales)
    # Where there is nothing to condition on, a row of zeros adds nothing.
    use = use & wanted
    new = jnp.where(use, (new - old @ white_cross) / size, 0.0)
    z = gp.standardise(state.standardisation, state.score[last])
    weight = jnp.where(use, (z - old @ state.white_target) / size, 0.0)
    there = state.white_target[last]
    return state._replace(
        white_cross=white_cross,
        newest=jnp.where(wanted, new, state.newest),
        white_target=put(state.white_target, jnp.where(wanted, weight, there), last, 0),
        mean=state.mean + weight * new,
        variance_reduction=state.variance_reduction + new**2,
    )


def expect(
    pool: Pool, state: PoolGPState, index: Array, use: Array, wanted: Array
) -> PoolGPState:
    """The state as if one in flight had given what is expected of it.

    The kriging believer (Ginsbourger et al., 2010): the mean stays, the variance falls.

    Args:
      index: () pool index.   use, wanted: () bool, as for `extend`.
    """
    mean = state.mean[pool.embeddings.column[index]]
    score = state.standardisation.mean + state.standardisation.std * mean
    state = record(pool, state, index, score, wanted)
    state = extend(pool, state, use, wanted)
    return state._replace(expected=state.expected + wanted)


def refit(pool: Pool, state: PoolGPState, clip_below: float) -> PoolGPState:
    """Fits target scale and hyper-parameters, and rebuilds the posterior from nothing."""
    seen = jnp.arange(state.index.shape[0]) < state.count
    rows = pool.embeddings.column[state.index]
    target = gp.fit_standardisation(state.score, seen, clip_below)
    z = jnp.where(seen, gp.standardise(target, state.score), 0.0)
    distances = state.distances[:, :, rows]
    hyper = gp.fit(gram.laplace, distances, z, seen, pool.prior)
    matrix = gp.padded_covariance(
        gram.laplace(distances, hyper.scales), seen, hyper.noise
    )
    # A wide triangular solve is slow where a matrix product is fast: invert the factor.
    whiten = solve_triangular(
        jnp.linalg.cholesky(matrix), jnp.eye(len(seen)), lower=True
    )

    cross = gram.laplace(state.distances, hyper.scales)
    cross = jnp.where(seen[:, None], cross, 0.0)
    white_cross, white_target = whiten @ cross, whiten @ z
    new = state._replace(
        hyper=hyper,
        standardisation=target,
        white_cross=white_cross,
        newest=white_cross[state.count - 1],
        white_target=white_target,
        mean=white_target @ white_cross,
        variance_reduction=jnp.sum(white_cross**2, axis=0),
    )
    # The precision is the pool's, whatever that of the fit is.
    return jax.tree.map(lambda x, old: x.astype(old.dtype), new, state)
