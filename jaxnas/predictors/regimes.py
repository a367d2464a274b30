"""Regression on labels of two regimes: a mixture of Gaussian processes.

A table that was collected by two procedures, such as a full and a short training, has
labels at two levels, and often nothing says which label is of which. Here each label has
a hidden regime; within a regime labels are a Gaussian process, and a gate, the mean of
another one, gives the probability of the regime. Hidden regimes are found by
classification EM (Celeux and Govaert, 1992), which assigns each label to the more
probable regime given all others, fits anew, and repeats.

    mixture = fit(covariances, y, seen)
    prediction = predict(mixture, cross)  # .mean, .low

Arrays are padded, as in `gp`: `seen` (n,) says which rows hold a label.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

from jaxnas import gp
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_shapes, check_sizes


class Covariances(NamedTuple):
    """Covariances of m points with n labels, or of the labels with each other.

    Those of labels are in units of the variance of a regime, that of the gate in units of
    its prior variance.
    """

    shared: Array  # (m, n) part that is correlated between regimes
    separate: Array  # (m, n) part that is independent between regimes
    gate: Array  # (m, n) of the indicator of the low regime


class Settings(NamedTuple):
    """Hyperparameters of a mixture."""

    correlation: float = 0.5  # of the shared part between the regimes, 0 to 1
    noise: float = (
        0.11  # variance of the labels' noise, in units of a regime's variance
    )
    gate_noise: float = 0.3  # variance of the indicator's noise


class Mixture(NamedTuple):
    """A fitted mixture; where two values differ by regime, the low one is the second."""

    low: Array  # (n,) bool, the labels of the low regime
    weights: Array  # (n,) of the labels' process, 0 where no label was seen
    mean: Array  # (2,) of the labels of each regime
    std: Array  # (2,)
    gate_weights: Array  # (n,)
    share: Array  # () of the low regime among the labels
    settings: Settings


class Prediction(NamedTuple):
    """What a mixture says of m points."""

    mean: Array  # (m,) expected label
    low: Array  # (m,) probability of the low regime
    by_regime: Array  # (m, 2) expected label in the high and in the low regime


def fit(
    covariances: Covariances,
    y: Array,
    seen: Array,
    *,
    settings: Settings = Settings(),  # noqa: B008  (immutable)
    steps: int = 4,
) -> Mixture:
    """Assigns regimes to labels and fits both processes and the gate.

    The first assignment divides the labels themselves (`two_levels`), so the levels must
    differ by more than labels of one regime do: EM may keep a poor division. O(n^3) a step.

    Args:
      covariances: (n, n) each; unseen rows hold anything finite.
      y: (n,) labels, finite where seen.
      seen: (n,) bool, rows that hold a label.
      settings: hyperparameters.
      steps: of the assignment.

    Raises: `ValueError` for shapes that do not fit together, a correlation that is not
      from 0 to 1, noise that is not positive, and steps below 1.
    """
    check_shapes(
        shared=(covariances.shared, "nn"),
        separate=(covariances.separate, "nn"),
        gate=(covariances.gate, "nn"),
        y=(y, "n"),
        seen=(seen, "n"),
    )
    check_sizes(steps=steps)
    if not 0 <= settings.correlation <= 1:
        raise ValueError(f"correlation must be from 0 to 1, not {settings.correlation}")
    if not (settings.noise > 0 and settings.gate_noise > 0):
        raise ValueError(
            f"noise must be positive, not {settings.noise}, {settings.gate_noise}"
        )
    return _fit(covariances, jnp.asarray(y), jnp.asarray(seen), settings, steps)


def predict(mixture: Mixture, cross: Covariances) -> Prediction:
    """Predicts labels whose regimes are not known.

    Args:
      mixture: of n labels.
      cross: (m, n) each, of the points with the labels.

    Raises: `ValueError` for shapes that do not fit together.
    """
    check_shapes(
        shared=(cross.shared, "mn"),
        separate=(cross.separate, "mn"),
        gate=(cross.gate, "mn"),
        weights=(mixture.weights, "n"),
    )
    return _predict(mixture, cross)


def two_levels(y: Array, seen: Array) -> Array:
    """Divides labels into high and low ones, by k-means with two centres.

    Args:
      y: (n,) labels.
      seen: (n,) bool, which of them count.

    Returns: (n,) bool, the low ones; False where not seen.
    """

    def step(_: int, centres: Array) -> Array:
        low = y < centres.mean()
        return jnp.stack([_mean(y, seen & ~low), _mean(y, seen & low)])

    ends = jnp.where(seen, y, -jnp.inf).max(), jnp.where(seen, y, jnp.inf).min()
    centres = jax.lax.fori_loop(0, 50, step, jnp.stack(ends))
    return seen & (y < centres.mean())


@jax.jit
@full_precision
def _predict(mixture: Mixture, cross: Covariances) -> Prediction:
    process = jnp.stack(
        [
            _correlated(cross, mixture.low[None] == low, mixture.settings)
            @ mixture.weights
            for low in (False, True)
        ],
        1,
    )
    by_regime = mixture.mean + mixture.std * process
    low = jnp.clip(mixture.share + cross.gate @ mixture.gate_weights, 0, 1)
    mean = (1 - low) * by_regime[:, 0] + low * by_regime[:, 1]
    return Prediction(mean, low, by_regime)


@jax.jit(static_argnames="steps")
@full_precision
def _fit(
    covariances: Covariances, y: Array, seen: Array, settings: Settings, steps: int
) -> Mixture:
    y = jnp.where(seen, y, 0.0)
    gate = _with_noise(covariances.gate, seen, settings.gate_noise)
    gate_inverse = _inverse(gate)

    def step(low: Array, _: None) -> tuple[Array, None]:
        return _assign(covariances, gate_inverse, y, seen, low, settings), None

    low, _ = jax.lax.scan(step, two_levels(y, seen), None, length=steps)
    z, mean, std = _standardised(y, seen, low)
    factor = jnp.linalg.cholesky(_labels(covariances, seen, low, settings))
    share, indicator = _indicator(seen, low)
    weights, gate_weights = cho_solve((factor, True), z), gate_inverse @ indicator
    return Mixture(low, weights, mean, std, gate_weights, share, settings)


def _assign(
    covariances: Covariances,
    gate_inverse: Array,
    y: Array,
    seen: Array,
    low: Array,
    settings: Settings,
) -> Array:
    """The more probable regime (n,) of each label, given the regimes of all others."""
    z, mean, std = _standardised(y, seen, low)
    z_by_regime = _left_out(covariances, z, seen, low, settings)
    error = (y[:, None] - mean - std * z_by_regime) ** 2
    members = seen & ~low, seen & low
    variance = jnp.stack([_mean(error[:, k], of) for k, of in enumerate(members)])
    # A regime without members keeps the log finite.
    variance = jnp.maximum(variance, 1e-6 * jnp.maximum(std**2, 1e-6))
    share, indicator = _indicator(seen, low)
    change = (gate_inverse @ indicator) / jnp.diagonal(gate_inverse)
    # Bounded, so that no label is excluded from a regime by its gate alone.
    prior = jnp.clip(share + indicator - change, 0.01, 0.99)
    prior = jnp.stack([1 - prior, prior], 1)
    log_density = jnp.log(prior) - 0.5 * (error / variance + jnp.log(variance))
    return seen & (log_density[:, 1] > log_density[:, 0])


def _left_out(
    covariances: Covariances, z: Array, seen: Array, low: Array, settings: Settings
) -> Array:
    """Predicted target (n, 2) of each label in each regime, from all other labels."""
    inverse = _inverse(_labels(covariances, seen, low, settings))
    weights = inverse @ z
    # Without a label its weight vanishes, and those of the others change by this
    # multiple of its column of the inverse (Rasmussen and Williams, 2006, section 5.4.2).
    change = weights / jnp.diagonal(inverse)
    own = z - change
    opposite = _correlated(covariances, low[:, None] != low, settings)
    opposite = jnp.where(seen, opposite, 0.0)
    other = opposite @ weights - change * (opposite * inverse).sum(1)
    return jnp.stack([jnp.where(low, other, own), jnp.where(low, own, other)], 1)


def _indicator(seen: Array, low: Array) -> tuple[Array, Array]:
    """Share () of the low regime, and its centred indicator (n,), 0 where unseen."""
    share = _mean(low, seen)
    return share, jnp.where(seen, low - share, 0.0)


def _standardised(y: Array, seen: Array, low: Array) -> tuple[Array, Array, Array]:
    """Targets (n,) within regimes, 0 where unseen; means (2,), deviations (2,)."""
    members = seen & ~low, seen & low
    mean = jnp.stack([_mean(y, of) for of in members])
    variance = [_mean((y - mean[k]) ** 2, of) for k, of in enumerate(members)]
    std = jnp.sqrt(jnp.maximum(jnp.stack(variance), 1e-12))
    regime = low.astype(jnp.int32)
    return jnp.where(seen, (y - mean[regime]) / std[regime], 0.0), mean, std


def _labels(
    covariances: Covariances, seen: Array, low: Array, settings: Settings
) -> Array:
    """Covariance (n, n) of the targets; unit rows where unseen."""
    gram = _correlated(covariances, low[:, None] == low, settings)
    return _with_noise(gram, seen, settings.noise)


def _correlated(covariances: Covariances, same: Array, settings: Settings) -> Array:
    """Covariances (m, n) of processes, where `same` (m, n) or (1, n) says which regimes
    are equal."""
    shared = jnp.where(same, 1.0, settings.correlation) * covariances.shared
    return shared + jnp.where(same, covariances.separate, 0.0)


def _with_noise(gram: Array, seen: Array, noise: float) -> Array:
    return gp.padded_covariance(gram, seen, jnp.asarray(noise, gram.dtype))


def _inverse(matrix: Array) -> Array:
    """Inverse (n, n) of a positive definite matrix."""
    half = solve_triangular(
        jnp.linalg.cholesky(matrix),
        jnp.eye(len(matrix), dtype=matrix.dtype),
        lower=True,
    )
    return half.T @ half


def _mean(x: Array, members: Array) -> Array:
    """Mean () over members (n,) bool; 0 without any."""
    return jnp.where(members, x, 0.0).sum() / jnp.maximum(members.sum(), 1)
