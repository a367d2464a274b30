"""The posterior of a Gaussian process over every architecture of a pool.

Each observation adds one row to the whitened covariance V = L^-1 R(X, pool), from which
mean and variance everywhere follow in O(n N); hyper-parameters are refitted, and V rebuilt,
only now and then.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from jaxnas import gp
from jaxnas.kernels import gram
from jaxnas.search.pool import Pool
from jaxnas.types import Array


class BayesOptState(NamedTuple):
    """The observations, in order, and the posterior over the u distinct embeddings."""

    index: Array  # (t,) int32, places in the pool; t is the capacity
    score: Array  # (t,), NaN where the evaluation failed
    count: Array  # () int32
    seen: Array  # (n,) bool
    distances: Array  # (c, t, u) by part, from the observations to the pool
    hyper: gp.Hyper
    target: gp.Target
    white_cross: Array  # (t, u), V = L^-1 R(X, pool)
    newest: Array  # (u,), the last row of V, which V itself gets a step later
    white_target: Array  # (t,), L^-1 z
    mean: Array  # (u,), V' L^-1 z
    explained: Array  # (u,), the column sums of V^2


def empty(pool: Pool, size: int) -> BayesOptState:
    """The prior, with room for `size` observations."""
    num_parts = len(pool.embedding.parts)
    distinct = gram.num_distinct(pool.embedding)
    one = jnp.ones(())
    return BayesOptState(
        index=jnp.zeros(size, jnp.int32),
        score=jnp.full(size, jnp.nan),
        count=jnp.int32(0),
        seen=jnp.zeros(pool.code.shape, bool),
        distances=jnp.zeros((num_parts, size, distinct)),
        hyper=gp.Hyper(jnp.ones(num_parts), one, one),
        target=gp.Target(-one, 0 * one, one),
        white_cross=jnp.zeros((size, distinct)),
        newest=jnp.zeros(distinct),
        white_target=jnp.zeros(size),
        mean=jnp.zeros(distinct),
        explained=jnp.zeros(distinct),
    )


def grown(state: BayesOptState, size: int) -> BayesOptState:
    """The same, with room for at least `size` observations."""
    more = max(0, size - state.index.shape[0])
    return state._replace(
        index=jnp.pad(state.index, (0, more)),
        score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
        distances=jnp.pad(state.distances, ((0, 0), (0, more), (0, 0))),
        white_cross=jnp.pad(state.white_cross, ((0, more), (0, 0))),
        white_target=jnp.pad(state.white_target, (0, more)),
    )


def marginal(state: BayesOptState) -> tuple[Array, Array]:
    """Mean and standard deviation (u,) of the latent function, in standardised units."""
    variance = state.hyper.amplitude * jnp.maximum(1 - state.explained, 0.0)
    return state.mean, jnp.sqrt(variance)


def joint(pool: Pool, state: BayesOptState, rows: Array) -> tuple[Array, Array, Array]:
    """Mean (m,), covariance (m, m), and prior distance (m, m) of embeddings (m,)."""
    scales = state.hyper.scales
    parts = gram.pairs(pool.embedding, rows)
    white = state.white_cross[:, rows]
    white = white.at[jnp.maximum(state.count - 1, 0)].set(state.newest[rows])
    cov = state.hyper.amplitude * (gram.laplace(parts, scales) - white.T @ white)
    distance = jnp.tensordot(1 / scales, parts, axes=1)
    return state.mean[rows], (cov + cov.T) / 2, distance


def best(state: BayesOptState) -> Array:
    """The best standardised target () so far, -inf before the first."""
    known = (jnp.arange(state.score.shape[0]) < state.count) & ~jnp.isnan(state.score)
    target = gp.apply_target(state.target, state.score)
    return jnp.max(jnp.where(known, target, -jnp.inf), initial=-jnp.inf)


def record(
    pool: Pool, state: BayesOptState, place: Array, score: Array
) -> BayesOptState:
    """Appends one observation; the posterior does not know of it yet."""
    put, last = jax.lax.dynamic_update_index_in_dim, state.count
    column = gram.column(pool.embedding, pool.embedding.row[place])
    return state._replace(
        index=put(state.index, place.astype(jnp.int32), last, 0),
        score=put(state.score, score, last, 0),
        count=last + 1,
        seen=state.seen.at[place].set(True),
        distances=put(state.distances, column, last, 1),
    )


def extend(pool: Pool, state: BayesOptState, use: Array) -> BayesOptState:
    """Conditions the posterior on the last recorded observation (one Cholesky row).

    Where `use` () is False, as before the first fit, the posterior stays as it is.
    """
    last = state.count - 1
    put = jax.lax.dynamic_update_index_in_dim
    # Written one step late, and before it is read: then it happens in place.
    white_cross = put(state.white_cross, state.newest, jnp.maximum(last - 1, 0), 0)
    column = pool.embedding.row[state.index[last]]
    old = white_cross[:, column]
    size = jnp.sqrt(jnp.maximum(1 + state.hyper.noise - old @ old, state.hyper.noise))
    distances = jax.lax.dynamic_index_in_dim(state.distances, last, 1, False)
    new = gram.laplace(distances, state.hyper.scales)
    new = jnp.where(use, (new - old @ white_cross) / size, 0.0)
    z = gp.apply_target(state.target, state.score[last])
    weight = jnp.where(use, (z - old @ state.white_target) / size, 0.0)
    return state._replace(
        white_cross=white_cross,
        newest=new,
        white_target=put(state.white_target, weight, last, 0),
        mean=state.mean + weight * new,
        explained=state.explained + new**2,
    )


def refit(pool: Pool, state: BayesOptState, tail: float) -> BayesOptState:
    """Fits target scale and hyper-parameters, and rebuilds the posterior from nothing."""
    seen = jnp.arange(state.index.shape[0]) < state.count
    rows = pool.embedding.row[state.index]
    target = gp.standardise(state.score, seen, tail)
    z = jnp.where(seen, gp.apply_target(target, state.score), 0.0)
    distances = state.distances[:, :, rows]
    hyper = gp.fit(gram.laplace, distances, z, seen, pool.prior)
    matrix = gp.padded(gram.laplace(distances, hyper.scales), seen, hyper.noise)
    # A wide triangular solve is slow where a matrix product is fast: invert the factor.
    whiten = solve_triangular(
        jnp.linalg.cholesky(matrix), jnp.eye(len(seen)), lower=True
    )

    cross = gram.laplace(state.distances, hyper.scales)
    cross = jnp.where(seen[:, None], cross, 0.0)
    white_cross, white_target = whiten @ cross, whiten @ z
    return state._replace(
        hyper=hyper,
        target=target,
        white_cross=white_cross,
        newest=white_cross[state.count - 1],
        white_target=white_target,
        mean=white_target @ white_cross,
        explained=jnp.sum(white_cross**2, axis=0),
    )
