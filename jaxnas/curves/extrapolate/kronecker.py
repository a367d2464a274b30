"""A Gaussian process over architectures and epochs (after Lin et al., 2024, LKGP).

Completed curves fill a grid of architectures and epochs, on which the covariance

    k((a, t), (a', t')) = k1(a, a') k2(t, t')

is a Kronecker product: two eigendecompositions, O(n^3 + m^3), condition on all of them
exactly. A curve that is predicted adds its own observed epochs to that, which is a normal
distribution of m values conditioned on some of them. Epochs are gathered in bins of equal
width in the logarithm, and all values are normal scores of their bin.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import gp
from jaxnas.curves.extrapolate.normal_scores import (
    NormalScores,
    fit_normal_scores,
    to_scores,
    value_moments,
)
from jaxnas.curves.extrapolate.types import Extrapolator, observed
from jaxnas.types import Array, check_sizes

# Points of the design over the hyperparameters, and their ranges: length-scale of the log
# epoch, share of the variance that is constant over epochs, length-scale of features, share
# of the variance that features explain, noise.
_DESIGN = 64
_LOW = (0.3, 0.05, 0.3, 0.05, 1e-3)
_HIGH = (10.0, 0.95, 5.0, 0.95, 0.3)


class Hyper(NamedTuple):
    """Hyperparameters of the covariance, each ()."""

    epoch_scale: Array
    constant: Array  # share
    feature_scale: Array
    explained: Array  # share; 0 without features
    noise: Array  # variance


class CurveGp(NamedTuple):
    """A process conditioned on n completed curves of m - 1 bins and a target."""

    bins: NormalScores  # maps of (m,)
    arch: NormalScores  # maps of (f,)
    features: Array  # (n, f) as normal scores, 0 in rows that do not count
    used: Array  # (n,) bool
    hyper: Hyper
    amplitude: Array  # ()
    left: tuple[Array, Array]  # eigenvalues (n,) and vectors (n, n) of k1
    right: tuple[Array, Array]  # eigenvalues (m,) and vectors (m, m) of k2
    scores: Array  # (n, m) of the curves, in both eigenbases


def curve_gp(num_bins: int = 16) -> Extrapolator:
    """Predicts by a Gaussian process over architectures and epochs.

    It reads curves as far as they go: one fit predicts from any number of epochs.
    Hyperparameters are the point of a design with the largest evidence.

    Args:
      num_bins: of epochs, at most as many as there are epochs.

    Returns: an extrapolator that uses features, if there are any.
    Raises: `ValueError` for bins below 1.
    """
    check_sizes(num_bins=num_bins)
    low, high = np.array(_LOW), np.array(_HIGH)
    designs = low * (high / low) ** gp.low_discrepancy(_DESIGN, len(low))

    def fit(
        curves: Array, final: Array, valid: Array, features: Array | None
    ) -> CurveGp:
        if features is None:
            features = jnp.zeros((len(curves), 0), curves.dtype)
        member, position = _bins(curves.shape[1], num_bins)
        values = jnp.append(_binned(curves, member), final[:, None], 1)
        fine = jnp.isfinite(values).all(1) & jnp.isfinite(features).all(1)
        used = valid & fine
        maps = jax.vmap(fit_normal_scores, (1, None))(values, used)
        arch = jax.vmap(fit_normal_scores, (1, None))(features, used)
        rows = jnp.where(used[:, None], _scores(arch, features), 0.0)
        targets = jnp.where(used[:, None], _scores(maps, values), 0.0)
        parts = jnp.asarray(designs, targets.dtype)
        share = 1.0 if features.shape[1] else 0.0

        def evidence(design: Array) -> Array:
            hyper = Hyper(*design)._replace(explained=share * design[3])
            grams = _grams(hyper, rows, used, position)
            return _evidence(grams, targets, used, hyper.noise)[0]

        best = parts[jnp.argmax(jax.lax.map(evidence, parts))]
        hyper = Hyper(*best)._replace(explained=share * best[3])
        left, right = map(jnp.linalg.eigh, _grams(hyper, rows, used, position))
        _, amplitude = _evidence((left, right), targets, used, hyper.noise, True)
        rotated = left[1].T @ targets @ right[1]
        return CurveGp(
            *(maps, arch, rows, used, hyper, amplitude),
            *(tuple(left), tuple(right), rotated),
        )

    def predict(
        params: CurveGp, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        member, _ = _bins(len(curve), num_bins)
        values = jnp.append(_binned(curve[None], member)[0], jnp.nan)
        seen = jnp.isfinite(values)
        scores = jax.vmap(to_scores)(params.bins, jnp.where(seen, values, 0.0))
        if features is None:
            features = jnp.zeros(0, curve.dtype)
        row = _scores(params.arch, features[None])[0]
        mean, cov = _new_curve(params, row)
        gap = jnp.where(seen, scores - mean, 0.0)
        noise = params.hyper.noise
        found = gp.posterior(cov, cov[:, -1:], cov[-1:, -1:], gap, seen, noise)
        variance = params.amplitude * jnp.maximum(found.cov[0, 0] + noise, 1e-6)
        std = jnp.where(params.used.sum() >= 2, jnp.sqrt(variance), jnp.inf)
        target = jax.tree.map(lambda part: part[-1], params.bins)
        mean, std = value_moments(target, mean[-1] + found.mean[0], std)
        fine = (observed(curve) > 0) & jnp.isfinite(features).all()
        return jnp.where(fine, mean, jnp.nan), jnp.where(fine, std, jnp.nan)

    return Extrapolator(fit, predict)


def _bins(epochs: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Which bin holds each epoch, (b, e) bool, and positions (b + 1,): mean log epochs.

    The last position is the target's, that of the last epoch.
    """
    logs = np.log(np.arange(1, epochs + 1))
    index = np.minimum((num * logs / max(logs[-1], 1e-9)).astype(int), num - 1)
    names = np.unique(index)
    member = index == names[:, None]
    return member, np.append((member * logs).sum(1) / member.sum(1), logs[-1])


def _binned(curves: Array, member: np.ndarray) -> Array:
    """Means (n, b) of the finite values of curves (n, e) in each bin; NaN without any."""
    finite = jnp.isfinite(curves)
    weights = jnp.asarray(member, curves.dtype).T
    count = finite.astype(curves.dtype) @ weights
    total = jnp.where(finite, curves, 0.0) @ weights
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def _scores(maps: NormalScores, values: Array) -> Array:
    """Normal scores (n, c) of values by column."""
    return jax.vmap(to_scores, (0, 1), 1)(maps, values)


def _feature_gram(hyper: Hyper, a: Array, b: Array) -> Array:
    """(n, m) Gaussian kernel of features, times the share that they explain."""
    squares = ((a[:, None] - b[None]) ** 2).sum(-1) / max(a.shape[1], 1)
    return hyper.explained * jnp.exp(-0.5 * squares / hyper.feature_scale**2)


def _grams(
    hyper: Hyper, rows: Array, used: Array, position: np.ndarray
) -> tuple[Array, Array]:
    """k1 (n, n), 0 for rows that do not count, and k2 (m, m)."""
    own = (1 - hyper.explained) * jnp.eye(len(rows), dtype=rows.dtype)
    left = _feature_gram(hyper, rows, rows) + own
    gaps = jnp.asarray(np.abs(position[:, None] - position), rows.dtype)
    right = (1 - hyper.constant) * jnp.exp(-gaps / hyper.epoch_scale) + hyper.constant
    return jnp.where(used[:, None] & used[None], left, 0.0), right


def _evidence(
    grams: tuple, targets: Array, used: Array, noise: Array, factored: bool = False
) -> tuple[Array, Array]:
    """Profile log evidence () over the amplitude, and the amplitude ().

    Rows that do not count have eigenvalue 0 and targets 0: they add a multiple of the
    logarithm of the noise to the determinant, which is taken out again.
    """
    left, right = grams if factored else map(jnp.linalg.eigh, grams)
    rotated = left[1].T @ targets @ right[1]
    variance = left[0][:, None] * right[0][None] + noise
    num = jnp.maximum(used.sum(), 1) * targets.shape[1]
    amplitude = jnp.maximum((rotated**2 / variance).sum() / num, 1e-6)
    log_det = jnp.log(variance).sum()
    log_det = log_det - (~used).sum() * targets.shape[1] * jnp.log(noise)
    return -0.5 * (num * jnp.log(amplitude) + log_det), amplitude


def _new_curve(params: CurveGp, row: Array) -> tuple[Array, Array]:
    """Mean (m,) and covariance (m, m) of an architecture's curve given the others'.

    Args:
      params: the process.
      row: (f,) features as normal scores.
    """
    cross = _feature_gram(params.hyper, row[None], params.features)[0]
    cross = jnp.where(params.used, cross, 0.0) @ params.left[1]
    (left, _), (right, vectors) = params.left, params.right
    variance = left[:, None] * right[None] + params.hyper.noise
    mean = right * (cross[:, None] * params.scores / variance).sum(0)
    known = right**2 * (cross[:, None] ** 2 / variance).sum(0)
    return vectors @ mean, (vectors * (right - known)) @ vectors.T
