"""A Gaussian process on a history of evaluations, and its posterior at any candidates.

Nothing is kept between two steps but the history and the hyper-parameters: a posterior
at m candidates after t evaluations takes O(t^3 + t^2 m), exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from jaxnas import gp
from jaxnas.kernels import gram
from jaxnas.search.common import append_slots
from jaxnas.search.gp.shortlists import CandidatePosterior
from jaxnas.types import Array, Query, asked

# Embeddings that differ by less than this, in median length-scales, count as the same.
_RESOLUTION = 1e-4

# The embeddings of m architectures by part, (f_j, m) each.
Points = tuple[Array, ...]


class SampledGPState(NamedTuple):
    """The evaluations, in order, and the hyper-parameters that were fitted to them."""

    arch: Array  # (t, d) int32; t is the capacity
    identity: Array  # (t, 2) uint32, of the architectures or of their classes
    points: Points  # (f_j, t)
    score: Array  # (t,), NaN where the evaluation failed
    count: Array  # () int32, of evaluations, and of those expected: see `expect`
    fitted: Array  # () bool, whether there has been a fit
    hyper: gp.Hyperparameters
    standardisation: gp.Standardisation


def empty(arch: Array, points: Points, prior: gp.HyperparameterPrior) -> SampledGPState:
    """No evaluation, and no room for any.

    Args:
      arch: (0, d) int32.   points: (f_j, 0).
    """
    one = jnp.ones((), prior.scales.dtype)
    return SampledGPState(
        arch=arch,
        identity=jnp.zeros((0, 2), jnp.uint32),
        points=points,
        score=jnp.zeros(0, one.dtype),
        count=jnp.int32(0),
        fitted=jnp.bool_(False),
        hyper=gp.Hyperparameters(jnp.ones_like(prior.scales), one, one),
        standardisation=gp.Standardisation(-one, 0 * one, one),
    )


def grow(state: SampledGPState, size: int) -> SampledGPState:
    """The same, with room for at least `size` evaluations."""
    more = max(0, size - len(state.score))
    return state._replace(
        arch=jnp.pad(state.arch, ((0, more), (0, 0))),
        identity=jnp.pad(state.identity, ((0, more), (0, 0))),
        points=tuple(jnp.pad(part, ((0, 0), (0, more))) for part in state.points),
        score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
    )


def filled(state: SampledGPState) -> Array:
    """Which rows (t,) bool hold an evaluation."""
    return jnp.arange(len(state.score)) < state.count


def append(
    state: SampledGPState, query: Query, ids: Array, points: Points, score: Array
) -> SampledGPState:
    """Appends the slots of `query` that are asked.

    Args:
      ids: (b, 2) uint32.   points: (f_j, b).   score: (b,).
    """
    wanted = asked(query)
    slots = append_slots(state.count, wanted, len(state.score))

    def put(rows: Array, new: Array) -> Array:
        return rows.at[..., slots].set(new.astype(rows.dtype), mode="drop")

    return state._replace(
        arch=put(state.arch.T, query.arch.T).T,
        identity=put(state.identity.T, ids.T).T,
        points=jax.tree.map(put, state.points, points),
        score=put(state.score, score),
        count=state.count + wanted.sum(dtype=jnp.int32),
    )


def _distances(x: Points, y: Points) -> Array:
    """Distances (c, n, m) by part of points (f_j, n) and (f_j, m)."""
    return jnp.stack([gram.l1(a, b) for a, b in zip(x, y, strict=True)])


def _targets(state: SampledGPState) -> Array:
    return jnp.where(
        filled(state), gp.standardise(state.standardisation, state.score), 0.0
    )


def posterior_at(state: SampledGPState, points: Points) -> CandidatePosterior:
    """The posterior of candidates (f_j, m), in standardised units."""
    hyper, seen, num = state.hyper, filled(state), len(state.score)
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), state.points, points)
    correlation = gram.laplace(_distances(state.points, joined), hyper.scales)
    matrix = gp.padded_covariance(correlation[:, :num], seen, hyper.noise)
    # A wide triangular solve is slow where a matrix product is fast: invert the factor.
    whiten = solve_triangular(jnp.linalg.cholesky(matrix), jnp.eye(num), lower=True)
    white = whiten @ jnp.where(seen[:, None], correlation[:, num:], 0.0)
    mean = (whiten @ _targets(state)) @ white
    variance = hyper.amplitude * jnp.maximum(1 - jnp.sum(white**2, axis=0), 0.0)

    def joint(places: Array) -> tuple[Array, Array, Array]:
        some = jax.tree.map(lambda part: part[:, places], points)
        parts, root = _distances(some, some), white[:, places]
        cov = hyper.amplitude * (gram.laplace(parts, hyper.scales) - root.T @ root)
        distance = jnp.tensordot(1 / hyper.scales, parts, axes=1)
        return mean[places], (cov + cov.T) / 2, distance

    return CandidatePosterior(
        column=first_occurrence(_digits(points, hyper.scales)),
        mean=mean,
        std=jnp.sqrt(variance),
        noise=hyper.noise * hyper.amplitude,
        incumbent=_incumbent(state),
        joint=joint,
    )


def _incumbent(state: SampledGPState) -> Array:
    known = filled(state) & ~jnp.isnan(state.score)
    return jnp.max(jnp.where(known, _targets(state), -jnp.inf), initial=-jnp.inf)


def expect(
    state: SampledGPState, query: Query, ids: Array, points: Points
) -> SampledGPState:
    """The state as if those in flight had given what is expected of them.

    The kriging believer (Ginsbourger et al., 2010), see `posterior.expect`. Arguments
    are as for `record`.
    """
    mean = posterior_at(state, points).mean
    score = state.standardisation.mean + state.standardisation.std * mean
    return append(state, query, ids, points, score)


def refit(
    prior: gp.HyperparameterPrior, state: SampledGPState, clip_below: float
) -> SampledGPState:
    """Fits target scale and hyper-parameters to the history."""
    seen = filled(state)
    new = state._replace(
        standardisation=gp.fit_standardisation(state.score, seen, clip_below)
    )
    distances = _distances(state.points, state.points)
    hyper = gp.fit(gram.laplace, distances, _targets(new), seen, prior)
    new = new._replace(hyper=hyper, fitted=jnp.bool_(True))
    # The precision is the prior's, whatever that of the fit is.
    return jax.tree.map(lambda x, old: x.astype(old.dtype), new, state)


def first_occurrence(words: Array) -> Array:
    """The first index (m,) int32 of a row of `words` (m, w) that equals each row."""
    order = jnp.lexsort(words.T[::-1])
    ordered = words[order]
    differs = (ordered[1:] != ordered[:-1]).any(1)
    place = jnp.arange(len(words))
    start = jnp.where(jnp.append(True, differs), place, 0)
    return jnp.zeros_like(order).at[order].set(order[jax.lax.cummax(start)])


def _digits(points: Points, scales: Array) -> Array:
    """Two words (m, 2) uint32 of the embeddings: a universal hash of their digits."""
    unit = jnp.concatenate([p / s for p, s in zip(points, scales, strict=True)])
    digits = jnp.round(unit / _RESOLUTION).astype(jnp.int32).astype(jnp.uint32)
    factors = np.random.default_rng(0).integers(2**32, size=(2, len(unit)), dtype="u4")
    # Odd factors lose no digit.
    return jnp.stack([(digits * (f | 1)[:, None]).sum(0) for f in factors], 1)
