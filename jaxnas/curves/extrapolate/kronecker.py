"""A Gaussian process over architectures and epochs (after Lin et al., 2024, LKGP).

Completed curves fill a grid of architectures and epochs, on which the covariance

    k((a, t), (a', t')) = k1(a, a') k2(t, t')

is a Kronecker product: two eigendecompositions, O(n^3 + m^3), condition on all of them
exactly. The curve to predict is then a normal distribution of m values, conditioned on its
own observed ones. Epochs are averaged in bins of equal width in the logarithm, and all
values are normal scores within their bin. k1 is a Gaussian kernel of the features plus an
identity, k2 an exponential kernel of the log epoch plus a constant.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import gp
from jaxnas.batching import map_each
from jaxnas.curves.extrapolate.normal_scores import (
    NormalScores,
    fit_columns,
    score_columns,
    to_scores,
    value_moments,
)
from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.precision import full_precision
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.types import Array, check_sizes

# Points of the design over the hyperparameters, and their log-uniform ranges, in the order
# of `Hyper`.
_DESIGN = 64
_LOW = (0.3, 0.05, 0.3, 0.05, 1e-3)
_HIGH = (10.0, 0.95, 5.0, 0.95, 0.3)


class Hyper(NamedTuple):
    """Hyperparameters of the covariance over the amplitude, each ()."""

    epoch_scale: Array  # length-scale of the log epoch
    constant: Array  # share of k2 that is constant over epochs
    feature_scale: Array  # length-scale of features
    explained: Array  # share of k1 that features explain; 0 without features
    noise: Array  # variance


# Eigenvalues (k,), ascending, and eigenvectors (k, k) as columns.
Eigen = tuple[Array, Array]


class CurveGp(NamedTuple):
    """A process conditioned on n completed curves of m - 1 bins and a target."""

    bins: NormalScores  # maps of the m columns, that of the target last
    arch: NormalScores  # maps of the f features
    features: Array  # (n, f) as normal scores, 0 in rows that do not count
    used: Array  # (n,) bool, rows that count
    hyper: Hyper
    amplitude: Array  # () variance of the process
    left: Eigen  # of k1 (n, n)
    right: Eigen  # of k2 (m, m)
    scores: Array  # (n, m) of the curves, in both eigenbases


def curve_gp(num_bins: int = 16) -> Extrapolator:
    """Predicts by a Gaussian process over architectures and epochs.

    It reads curves as far as they go: one fit predicts from any number of epochs, and
    values that are not finite count as not observed. Hyperparameters are the point of a
    design with the largest evidence.

    Args:
      num_bins: number of bins of epochs; bins without an epoch are left out.

    Returns: an extrapolator that uses features, if there are any. Completed curves with a
      bin without any finite value do not count.
    Raises: `ValueError` for fewer than one bin.
    """
    check_sizes(num_bins=num_bins)
    low, high = np.array(_LOW), np.array(_HIGH)
    designs = low * (high / low) ** gp.low_discrepancy(_DESIGN, len(low))

    @full_precision
    def fit(
        curves: Array, final: Array, valid: Array, features: Array | None
    ) -> CurveGp:
        if features is None:
            features = jnp.zeros((len(curves), 0), curves.dtype)
        member, position = _bins(curves.shape[1], num_bins)
        values = jnp.append(_binned(curves, member), final[:, None], 1)
        finite = jnp.isfinite(values).all(1) & jnp.isfinite(features).all(1)
        used = valid & finite
        bins, arch = fit_columns(values, used), fit_columns(features, used)
        rows = jnp.where(used[:, None], score_columns(arch, features), 0.0)
        targets = jnp.where(used[:, None], score_columns(bins, values), 0.0)
        points = Hyper(*jnp.asarray(designs.T, targets.dtype))
        if not features.shape[1]:
            points = points._replace(explained=jnp.zeros_like(points.explained))

        def evidence(hyper: Hyper) -> tuple[Array, Array]:
            eigen = _eigen(hyper, rows, used, position)
            return _evidence(*eigen, targets, used, hyper.noise)

        evidences, amplitudes = map_each(evidence, points)
        best = jnp.argmax(nan_to_neg_inf(evidences))
        hyper = jax.tree.map(lambda part: part[best], points)
        left, right = _eigen(hyper, rows, used, position)
        rotated = left[1].T @ targets @ right[1]
        fitted = hyper, amplitudes[best], left, right, rotated
        return CurveGp(bins, arch, rows, used, *fitted)

    @full_precision
    def predict(
        params: CurveGp, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        member, _ = _bins(len(curve), num_bins)
        values = jnp.append(_binned(curve[None], member)[0], jnp.nan)
        seen = jnp.isfinite(values)
        scores = jax.vmap(to_scores)(params.bins, jnp.where(seen, values, 0.0))
        if features is None:
            features = jnp.zeros(0, curve.dtype)
        row = score_columns(params.arch, features[None])[0]
        mean, cov = _new_curve(params, row)
        gap = jnp.where(seen, scores - mean, 0.0)
        noise = params.hyper.noise
        change = gp.posterior(cov, cov[:, -1:], cov[-1:, -1:], gap, seen, noise)
        variance = params.amplitude * jnp.maximum(change.cov[0, 0] + noise, 1e-6)
        std = jnp.where(params.used.sum() >= 2, jnp.sqrt(variance), jnp.inf)
        target = jax.tree.map(lambda part: part[-1], params.bins)
        mean, std = value_moments(target, mean[-1] + change.mean[0], std)
        usable = seen.any() & jnp.isfinite(features).all()
        return jnp.where(usable, mean, jnp.nan), jnp.where(usable, std, jnp.nan)

    return Extrapolator(fit, predict)


def _bins(epochs: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Divides epochs into bins of equal width in the logarithm.

    Returns: the bin of each epoch as (b, e) bool, b at most `num`, and positions (b + 1,):
      the mean log epoch of each bin, and the log of the last epoch, which is the target's.
    """
    logs = np.log(np.arange(1, epochs + 1))
    index = np.minimum((num * logs / max(logs[-1], 1e-9)).astype(int), num - 1)
    member = index == np.unique(index)[:, None]
    return member, np.append((member * logs).sum(1) / member.sum(1), logs[-1])


def _binned(curves: Array, member: np.ndarray) -> Array:
    """Means (n, b) of the finite values of curves (n, e) in each bin; NaN without any."""
    finite = jnp.isfinite(curves)
    weights = jnp.asarray(member, curves.dtype).T
    count = finite.astype(curves.dtype) @ weights
    total = jnp.where(finite, curves, 0.0) @ weights
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def _feature_gram(hyper: Hyper, a: Array, b: Array) -> Array:
    """The Gaussian kernel of features (n, f) and (m, f), times the share they explain.

    Squared distances are means over the features, so that length-scales do not depend on
    their number.
    """
    squares = ((a[:, None] - b[None]) ** 2).sum(-1) / max(a.shape[1], 1)
    return hyper.explained * jnp.exp(-0.5 * squares / hyper.feature_scale**2)


def _eigen(
    hyper: Hyper, rows: Array, used: Array, position: np.ndarray
) -> tuple[Eigen, Eigen]:
    """Decomposes k1, which is 0 for rows that do not count, and k2.

    Args:
      hyper: the hyperparameters.
      rows: (n, f) features as normal scores.
      used: (n,) bool, rows that count.
      position: (m,) log epochs.
    """
    own = (1 - hyper.explained) * jnp.eye(len(rows), dtype=rows.dtype)
    left = _feature_gram(hyper, rows, rows) + own
    gaps = jnp.asarray(np.abs(position[:, None] - position), rows.dtype)
    right = (1 - hyper.constant) * jnp.exp(-gaps / hyper.epoch_scale) + hyper.constant
    left = jnp.where(used[:, None] & used[None], left, 0.0)
    first, second = (tuple(jnp.linalg.eigh(gram)) for gram in (left, right))
    return first, second


def _evidence(
    left: Eigen, right: Eigen, targets: Array, used: Array, noise: Array
) -> tuple[Array, Array]:
    """`gp.profile_log_marginal` of a Kronecker product, from its eigenvalues.

    Rows that do not count have eigenvalue 0 and targets 0: each adds the logarithm of the
    noise to the log determinant once per column, which is subtracted.

    Args:
      left: of k1 (n, n).
      right: of k2 (m, m).
      targets: (n, m) normal scores.
      used: (n,) bool, rows that count.
      noise: () variance as a fraction of the amplitude.

    Returns: the profile log likelihood () without constants, and the amplitude ().
    """
    rotated = left[1].T @ targets @ right[1]
    variance = left[0][:, None] * right[0][None] + noise
    num = jnp.maximum(used.sum(), 1) * targets.shape[1]
    amplitude = jnp.maximum((rotated**2 / variance).sum() / num, 1e-6)
    log_det = jnp.log(variance).sum()
    log_det = log_det - (~used).sum() * targets.shape[1] * jnp.log(noise)
    return -0.5 * (num * jnp.log(amplitude) + log_det), amplitude


def _new_curve(params: CurveGp, row: Array) -> tuple[Array, Array]:
    """Predicts a curve of which no epoch was observed, from the completed ones.

    Args:
      params: the conditioned process.
      row: (f,) features of its architecture as normal scores.

    Returns: mean (m,) and covariance (m, m) of the latent values over the amplitude.
    """
    cross = _feature_gram(params.hyper, row[None], params.features)[0]
    cross = jnp.where(params.used, cross, 0.0) @ params.left[1]
    (left, _), (right, vectors) = params.left, params.right
    variance = left[:, None] * right[None] + params.hyper.noise
    mean = right * (cross[:, None] * params.scores / variance).sum(0)
    explained = right**2 * (cross[:, None] ** 2 / variance).sum(0)
    return vectors @ mean, (vectors * (right - explained)) @ vectors.T
