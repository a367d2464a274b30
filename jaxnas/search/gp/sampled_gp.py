"""Posterior of a Gaussian process at arbitrary candidates, given a history.

Only the history and the hyperparameters are kept between steps: the posterior at m
candidates after t evaluations is computed anew, exactly, in O(t^3 + t^2 m).

Shapes: t is the capacity of the history, c the parts of the distance, f_j the coordinates
of part j. Embeddings of m architectures are `Points`, coordinates first.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from jaxnas import gp
from jaxnas.kernels import gram
from jaxnas.precision import full_precision
from jaxnas.search.common import append_slots, filled
from jaxnas.search.gp.proposals import ArchHistory
from jaxnas.search.gp.shortlists import CandidatePosterior
from jaxnas.types import Array, Query, asked

# Embeddings that differ by less than this, in median length-scales, count as equal.
_RESOLUTION = 1e-4

# The embeddings of m architectures by part, (f_j, m) each.
Points = tuple[Array, ...]


class SampledGPState(NamedTuple):
    """The evaluations, in order, and the hyperparameters that were fitted to them."""

    arch: Array  # (t, d) int32; t is the capacity
    identity: Array  # (t, 2) uint32, of the architectures or of their classes
    points: Points  # (f_j, t)
    score: Array  # (t,), NaN where the evaluation failed
    count: Array  # () int32, of evaluations, and of those expected: see `expect`
    fitted: Array  # () bool, whether there has been a fit
    hyper: gp.Hyperparameters
    standardisation: gp.Standardisation


def empty(arch: Array, points: Points, prior: gp.HyperparameterPrior) -> SampledGPState:
    """Returns the prior, with a history of capacity 0.

    Args:
      arch: (0, d) int32, for the length of an architecture.
      points: (f_j, 0), for the coordinates of each part.
      prior: of the hyperparameters, for their number and precision.
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
    """Pads the arrays of a state to a capacity of at least `size` evaluations."""
    more = max(0, size - len(state.score))
    return state._replace(
        arch=jnp.pad(state.arch, ((0, more), (0, 0))),
        identity=jnp.pad(state.identity, ((0, more), (0, 0))),
        points=tuple(jnp.pad(part, ((0, 0), (0, more))) for part in state.points),
        score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
    )


class Evaluations(ArchHistory, Protocol):
    """Evaluations in order, possibly none, and which architectures are the same."""

    @property
    def identity(self) -> Array:
        """Identities (t, 2) uint32 of the architectures."""
        ...


def append(
    state: SampledGPState, query: Query, ids: Array, points: Points, score: Array
) -> SampledGPState:
    """Appends the slots of a query that are not idle to the history.

    Args:
      state: with room for them.
      query: of b slots.
      ids: (b, 2) uint32 identities of the query's architectures.
      points: (f_j, b) their embeddings.
      score: (b,), NaN for a failed evaluation.
    """
    active = asked(query)
    rows = append_slots(state.count, active, len(state.score))

    def put(old: Array, new: Array) -> Array:
        return old.at[..., rows].set(new.astype(old.dtype), mode="drop")

    return state._replace(
        arch=put(state.arch.T, query.arch.T).T,
        identity=put(state.identity.T, ids.T).T,
        points=jax.tree.map(put, state.points, points),
        score=put(state.score, score),
        count=state.count + active.sum(dtype=jnp.int32),
    )


def distances(x: Points, y: Points) -> Array:
    """Distances (c, n, m) by part of points (f_j, n) and (f_j, m)."""
    return jnp.stack([gram.l1(a, b) for a, b in zip(x, y, strict=True)])


def _targets(state: SampledGPState) -> Array:
    """Standardised targets (t,), 0 in rows that are not filled."""
    target = gp.standardise(state.standardisation, state.score)
    return jnp.where(filled(state), target, 0.0)


def posterior_at(state: SampledGPState, points: Points) -> CandidatePosterior:
    """Computes the posterior of candidates (f_j, m), in standardised units."""
    hyper, seen = state.hyper, filled(state)
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), state.points, points)
    parts = distances(state.points, joined)
    mean, white = condition(parts, hyper, _targets(state), seen)
    variance = hyper.amplitude * jnp.maximum(1 - jnp.sum(white**2, axis=0), 0.0)

    @full_precision
    def joint(columns: Array) -> tuple[Array, Array, Array]:
        shortlist = jax.tree.map(lambda part: part[:, columns], points)
        parts, root = distances(shortlist, shortlist), white[:, columns]
        cov = hyper.amplitude * (gram.laplace(parts, hyper.scales) - root.T @ root)
        distance = jnp.tensordot(1 / hyper.scales, parts, axes=1)
        return mean[columns], (cov + cov.T) / 2, distance

    return CandidatePosterior(
        column=first_occurrence(_hashes(points, hyper.scales)),
        mean=mean,
        std=jnp.sqrt(variance),
        noise=hyper.noise * hyper.amplitude,
        incumbent=_incumbent(state),
        joint=joint,
    )


@full_precision
def condition(
    parts: Array, hyper: gp.Hyperparameters, target: Array, seen: Array
) -> tuple[Array, Array]:
    """Conditions candidates on a history.

    Args:
      parts: (c, t, t + m) distances of the history to itself and to m candidates.
      hyper: the hyperparameters.
      target: (t,) standardised targets, 0 in rows that are not seen.
      seen: (t,) bool, rows that hold an observation.

    Returns: means (m,), and the whitened correlations (t, m), whose squares add up to the
      share of the prior variance that the history explains.
    """
    num = len(target)
    correlation = gram.laplace(parts, hyper.scales)
    matrix = gp.padded_covariance(correlation[:, :num], seen, hyper.noise)
    # A wide triangular solve is slow where a matrix product is fast: invert the factor.
    whiten = solve_triangular(jnp.linalg.cholesky(matrix), jnp.eye(num), lower=True)
    white = whiten @ jnp.where(seen[:, None], correlation[:, num:], 0.0)
    return (whiten @ target) @ white, white


def _incumbent(state: SampledGPState) -> Array:
    """Best standardised target () so far; -inf before the first."""
    valid = filled(state) & ~jnp.isnan(state.score)
    return jnp.max(jnp.where(valid, _targets(state), -jnp.inf), initial=-jnp.inf)


def expect(
    state: SampledGPState, query: Query, ids: Array, points: Points
) -> SampledGPState:
    """Appends a query in flight, as if its scores were their posterior means.

    The kriging believer (Ginsbourger et al., 2010), as `pool_gp.expect`.

    Args:
      state: with room for the query.
      query: of b slots.
      ids: (b, 2) uint32 identities of the query's architectures.
      points: (f_j, b) their embeddings.
    """
    mean = posterior_at(state, points).mean
    score = state.standardisation.mean + state.standardisation.std * mean
    return append(state, query, ids, points, score)


def refit(
    prior: gp.HyperparameterPrior, state: SampledGPState, clip_below: float
) -> SampledGPState:
    """Fits standardisation and hyperparameters to the history.

    Args:
      prior: of the hyperparameters.
      state: the history.
      clip_below: as for `gp.fit_standardisation`.
    """
    seen = filled(state)
    standardisation = gp.fit_standardisation(state.score, seen, clip_below)
    new = state._replace(standardisation=standardisation)
    pairs = distances(state.points, state.points)
    hyper = gp.fit(gram.laplace, pairs, _targets(new), seen, prior)
    new = new._replace(hyper=hyper, fitted=jnp.bool_(True))
    # The fit may promote: keep the precision of the prior.
    return jax.tree.map(lambda x, old: x.astype(old.dtype), new, state)


def first_occurrence(words: Array) -> Array:
    """Index (m,) int32 of the first row of `words` (m, w) that equals each row."""
    order = jnp.lexsort(words.T[::-1])
    ordered = words[order]
    differs = (ordered[1:] != ordered[:-1]).any(1)
    position = jnp.arange(len(words))
    start = jnp.where(jnp.append(True, differs), position, 0)
    return jnp.zeros_like(order).at[order].set(order[jax.lax.cummax(start)])


def _hashes(points: Points, scales: Array) -> Array:
    """Universal hashes (m, 2) uint32 of rounded embeddings: equal for equal ones."""
    unit = jnp.concatenate([p / s for p, s in zip(points, scales, strict=True)])
    digits = jnp.round(unit / _RESOLUTION).astype(jnp.int32).astype(jnp.uint32)
    factors = np.random.default_rng(0).integers(2**32, size=(2, len(unit)), dtype="u4")
    # Odd factors lose no digit.
    return jnp.stack([(digits * (f | 1)[:, None]).sum(0) for f in factors], 1)
