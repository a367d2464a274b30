"""Posterior of a Gaussian process over every architecture of a pool.

The state holds the whitened cross-covariance V = L^-1 R(X, pool), with L the Cholesky
factor of the observations' covariance. Mean and variance everywhere follow from V, and one
more observation adds one row to it, in O(t u) for t observations and u columns. `append`
stores an observation, `condition` conditions on it; `refit` fits the hyperparameters anew
and rebuilds V, which a search does only now and then.

Shapes: t is the capacity of the history, n the size of the pool, u its columns (distinct
embeddings) and c the parts of the distance. See `predictors.pool` for the kinds of indices.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from jaxnas import gp
from jaxnas.kernels import gram
from jaxnas.precision import full_precision
from jaxnas.predictors import prior_mean
from jaxnas.predictors.pool import Pool
from jaxnas.types import Array


class PoolGPState(NamedTuple):
    """The observations, in order, and the posterior over the u columns of the pool."""

    index: Array  # (t,) int32, pool indices of the observations
    score: Array  # (t,), NaN where the evaluation failed
    count: Array  # () int32, of observations and of what is expected
    expected: Array  # () int32, the last of them, which are in flight: see `expect`
    seen: Array  # (n,) bool, the architectures that were observed or are expected
    distances: Array  # (c, t, u) by part, from the observations to the columns
    hyper: gp.Hyperparameters
    standardisation: gp.Standardisation
    white_cross: Array  # (t, u), V = L^-1 R(X, pool)
    newest: Array  # (u,), the last row of V, written to V itself a step later
    white_target: Array  # (t,), L^-1 z
    mean: Array  # (u,), V' L^-1 z
    variance_reduction: (
        Array  # (u,), column sums of V^2: prior minus posterior variance
    )


def empty(pool: Pool, size: int) -> PoolGPState:
    """Returns the prior over a pool, with room for `size` observations."""
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
        mean=zeros(distinct) if pool.mean is None else pool.mean,
        variance_reduction=zeros(distinct),
    )


def grow(state: PoolGPState, size: int) -> PoolGPState:
    """Pads the arrays of a state to a capacity of at least `size` observations."""
    more = max(0, size - state.index.shape[0])
    return state._replace(
        index=jnp.pad(state.index, (0, more)),
        score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
        distances=jnp.pad(state.distances, ((0, 0), (0, more), (0, 0))),
        white_cross=jnp.pad(state.white_cross, ((0, more), (0, 0))),
        white_target=jnp.pad(state.white_target, (0, more)),
    )


def marginal_posterior(state: PoolGPState) -> tuple[Array, Array]:
    """Mean (u,) and standard deviation (u,) of each column, in standardised units."""
    remaining = jnp.maximum(1 - state.variance_reduction, 0.0)
    return state.mean, jnp.sqrt(state.hyper.amplitude * remaining)


@full_precision
def joint_posterior(
    pool: Pool, state: PoolGPState, columns: Array
) -> tuple[Array, Array, Array]:
    """Computes the joint posterior of m columns.

    Args:
      pool: whose columns they are.
      state: observations and posterior.
      columns: (m,) int32.

    Returns: mean (m,), covariance (m, m) of the latent function in standardised units,
      and prior distance (m, m) in length-scales.
    """
    scales = state.hyper.scales
    parts = gram.distances_between(pool.embeddings, columns)
    white = state.white_cross[:, columns]
    white = white.at[jnp.maximum(state.count - 1, 0)].set(state.newest[columns])
    cov = state.hyper.amplitude * (gram.laplace(parts, scales) - white.T @ white)
    distance = jnp.tensordot(1 / scales, parts, axes=1)
    return state.mean[columns], (cov + cov.T) / 2, distance


def incumbent(state: PoolGPState) -> Array:
    """Best standardised target () so far; -inf before the first."""
    observed = jnp.arange(state.score.shape[0]) < state.count
    valid = observed & ~jnp.isnan(state.score)
    target = gp.standardise(state.standardisation, state.score)
    return jnp.max(jnp.where(valid, target, -jnp.inf), initial=-jnp.inf)


def append(
    pool: Pool,
    state: PoolGPState,
    index: Array,
    score: Array,
    active: Array | bool = True,
) -> PoolGPState:
    """Appends one observation to the history; the posterior stays as it is.

    Args:
      pool: that is observed.
      state: with room for one more observation.
      index: () int32, pool index.
      score: (), NaN for a failed evaluation.
      active: () bool; False for an idle slot, which changes nothing.
    """
    last = state.count
    column = pool.embeddings.column[index]
    distances = gram.distances_from(pool.embeddings, column)

    def put(rows: Array, value: Array, axis: int = 0) -> Array:
        # A value is written in any case: a choice between whole arrays would copy them.
        old = jax.lax.dynamic_index_in_dim(rows, last, axis, False)
        value = jnp.where(active, value.astype(rows.dtype), old)
        return jax.lax.dynamic_update_index_in_dim(rows, value, last, axis)

    num = state.seen.shape[0]
    return state._replace(
        index=put(state.index, index),
        score=put(state.score, score),
        count=last + active,
        seen=state.seen.at[jnp.where(active, index, num)].set(True, mode="drop"),
        distances=put(state.distances, distances, 1),
    )


@full_precision
def condition(
    pool: Pool, state: PoolGPState, fitted: Array, active: Array | bool = True
) -> PoolGPState:
    """Conditions the posterior on the last appended observation (one Cholesky row).

    Args:
      pool: that is observed.
      state: as `append` returned it.
      fitted: () bool; where it is False, as before the first fit of hyperparameters, the
        posterior stays as it is.
      active: () bool, as `append` was given.
    """
    last = state.count - 1
    put = jax.lax.dynamic_update_index_in_dim
    # Written one step late, and before it is read: then it happens in place.
    previous = jnp.maximum(last - active, 0)
    newest = jnp.where(active, state.newest, state.white_cross[previous])
    white_cross = put(state.white_cross, newest, previous, 0)
    column = pool.embeddings.column[state.index[last]]
    old = white_cross[:, column]
    size = jnp.sqrt(jnp.maximum(1 + state.hyper.noise - old @ old, state.hyper.noise))
    distances = jax.lax.dynamic_index_in_dim(state.distances, last, 1, False)
    new = gram.laplace(distances, state.hyper.scales)
    # Where there is nothing to condition on, a row of zeros adds nothing.
    use = fitted & active
    new = jnp.where(use, (new - old @ white_cross) / size, 0.0)
    z = _target(pool, state.standardisation, state.score[last], column)
    weight = jnp.where(use, (z - old @ state.white_target) / size, 0.0)
    kept = jnp.where(active, weight, state.white_target[last])
    return state._replace(
        white_cross=white_cross,
        newest=jnp.where(active, new, state.newest),
        white_target=put(state.white_target, kept, last, 0),
        mean=state.mean + weight * new,
        variance_reduction=state.variance_reduction + new**2,
    )


def expect(
    pool: Pool, state: PoolGPState, index: Array, fitted: Array, active: Array
) -> PoolGPState:
    """Conditions on an evaluation in flight, as if it had its posterior mean.

    The kriging believer (Ginsbourger et al., 2010): the mean stays, the variance falls.

    Args:
      pool: that is observed.
      state: with room for one more observation.
      index: () int32, pool index of what is in flight.
      fitted: () bool, as for `condition`.
      active: () bool, as for `append`.
    """
    mean = state.mean[pool.embeddings.column[index]]
    score = state.standardisation.mean + state.standardisation.std * mean
    state = append(pool, state, index, score, active)
    state = condition(pool, state, fitted, active)
    return state._replace(expected=state.expected + active)


def _target(
    pool: Pool, standardisation: gp.Standardisation, score: Array, column: Array
) -> Array:
    """Targets (...) of scores (...) of columns (...), less the prior mean."""
    z = gp.standardise(standardisation, score)
    return z if pool.mean is None else z - pool.mean[column]


@full_precision
def refit(pool: Pool, state: PoolGPState, clip_below: float) -> PoolGPState:
    """Fits standardisation and hyperparameters, and rebuilds the posterior from scratch.

    Takes O(t^3) for each of 66 evaluations of the likelihood, and O(t^2 u) for V.

    Args:
      pool: that is observed.
      state: the history.
      clip_below: as for `gp.fit_standardisation`.
    """
    seen = jnp.arange(state.index.shape[0]) < state.count
    columns = pool.embeddings.column[state.index]
    standardisation = gp.fit_standardisation(state.score, seen, clip_below)
    distances = state.distances[:, :, columns]
    z = jnp.where(seen, gp.standardise(standardisation, state.score), 0.0)
    if pool.mean is None:
        hyper = gp.fit(gram.laplace, distances, z, seen, pool.prior)
    else:
        hyper, scale = prior_mean.fit(
            gram.laplace, distances, z, pool.mean[columns], seen, pool.prior
        )
        standardisation = prior_mean.rescale(standardisation, scale)
        z = _target(pool, standardisation, state.score, columns)
        z = jnp.where(seen, z, 0.0)
    correlation = gram.laplace(distances, hyper.scales)
    matrix = gp.padded_covariance(correlation, seen, hyper.noise)
    # A wide triangular solve is slow where a matrix product is fast: invert the factor.
    whiten = solve_triangular(
        jnp.linalg.cholesky(matrix), jnp.eye(len(seen)), lower=True
    )

    cross = gram.laplace(state.distances, hyper.scales)
    cross = jnp.where(seen[:, None], cross, 0.0)
    white_cross, white_target = whiten @ cross, whiten @ z
    mean = white_target @ white_cross
    new = state._replace(
        hyper=hyper,
        standardisation=standardisation,
        white_cross=white_cross,
        newest=white_cross[state.count - 1],
        white_target=white_target,
        mean=mean if pool.mean is None else mean + pool.mean,
        variance_reduction=jnp.sum(white_cross**2, axis=0),
    )
    # The fit may promote: keep the precision of the pool.
    return jax.tree.map(lambda x, old: x.astype(old.dtype), new, state)
