"""Markov chain Monte Carlo of the weighted parametric families, to check `mixture` with.

The model of Domhan et al. (2015): a curve is sum_k w_k f_k(x), w_k > 0, plus normal noise,
with flat priors. As in their program, it is sampled by affine-invariant stretch moves
(Goodman and Weare, 2010), which takes far longer than `mixture`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.curves.extrapolate import family_arrays, least_squares
from jaxnas.curves.extrapolate.families import ORIGINAL, Family
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_sizes

# Largest factor of a stretch.
_STRETCH = 2.0
# Range of the standard deviation of the noise.
_NOISE = (1e-4, 1.0)


class Draws(NamedTuple):
    """Draws from the posterior of a curve."""

    mean: Array  # (m,) of the mean curve at the target epoch
    noise: Array  # (m,) standard deviation of an observation around it


def stretch_moves(
    key: Array,
    log_density: Callable[[Array], Array],
    walkers: Array,
    steps: int,
    thin: int = 1,
) -> Array:
    """Samples a density by an ensemble of walkers (Goodman and Weare, 2010).

    Half of the walkers move at a time, each along the line to a walker of the other half.

    Args:
      key: random key.
      log_density: of a point (d,), up to a constant; -inf or NaN outside of the support.
      walkers: (2 h, d) starting points, inside of the support and in general position,
        2 h > d.
      steps: moves of every walker, a multiple of `thin`.
      thin: number of moves between two samples that are kept.

    Returns: (steps / thin, 2 h, d) samples, in order.
    Raises: `ValueError` for an odd number of walkers, no more walkers than dimensions, and
      steps that are not a multiple of `thin`.
    """
    num, dimension = walkers.shape
    if num % 2 or num <= dimension:
        raise ValueError(
            f"{num} walkers in {dimension} dimensions: wanted an even number of more"
        )
    check_sizes(steps=steps, thin=thin)
    if steps % thin:
        raise ValueError(f"steps must be a multiple of thin = {thin}, not {steps}")
    density = jax.vmap(log_density)

    def half(key: Array, moving: tuple, others: Array) -> tuple:
        points, logs = moving
        key_factor, key_other, key_accept = jax.random.split(key, 3)
        uniform = jax.random.uniform(key_factor, logs.shape, points.dtype)
        # Density of the factor proportional to z^-1/2 between 1/a and a.
        factor = (1 + (_STRETCH - 1) * uniform) ** 2 / _STRETCH
        other = others[jax.random.randint(key_other, logs.shape, 0, len(others))]
        new = other + factor[:, None] * (points - other)
        new_logs = density(new)
        ratio = (dimension - 1) * jnp.log(factor) + new_logs - logs
        uniform = jax.random.uniform(key_accept, logs.shape, points.dtype)
        accept = jnp.log(uniform) < ratio  # never for NaN
        return jnp.where(accept[:, None], new, points), jnp.where(
            accept, new_logs, logs
        )

    def step(state: tuple, key: Array) -> tuple[tuple, None]:
        first, second = state
        key_first, key_second = jax.random.split(key)
        first = half(key_first, first, second[0])
        return (first, half(key_second, second, first[0])), None

    def sample(state: tuple, keys: Array) -> tuple[tuple, Array]:
        state, _ = jax.lax.scan(step, state, keys)
        return state, jnp.concatenate([state[0][0], state[1][0]])

    halves = walkers[: num // 2], walkers[num // 2 :]
    begin = tuple((points, density(points)) for points in halves)
    keys = jax.random.split(key, steps).reshape(steps // thin, thin)
    return jax.lax.scan(sample, begin, keys)[1]


@full_precision
def sample_target(
    key: Array,
    curve: Array,
    target: int,
    families: Sequence[Family] = ORIGINAL,
    walkers: int = 128,
    steps: int = 2500,
    burn_in: int = 500,
) -> Draws:
    """Draws the mean curve at the target epoch, and the noise, from the posterior.

    A state of the chain is the coefficients c, s, z0, z1 and w of k families and the log
    of the noise. Coordinates and noise stay in bounds; curves that do not end above their
    start, which the paper excludes, or that end above 1.5 have no mass.

    Args:
      key: random key.
      curve: (e,) values between 0 and 1, NaN where not observed.
      target: epoch that is predicted, from 1; it may be an observed one.
      families: k families; the dimension of the chain is 5 k + 1.
      walkers: size of the ensemble, even and more than the dimension.
      steps: moves of every walker, a multiple of 10. Every tenth is kept.
      burn_in: moves at the start that are dropped.

    Returns: m = walkers (steps - burn_in) / 10 draws.
    Raises: `ValueError` as `stretch_moves`.
    """
    observed = jnp.isfinite(curve)
    fits = least_squares.fit(families, curve[None], observed[None])
    constants = family_arrays.stack(families)
    y = jnp.where(observed, curve, 0.0)
    x = jnp.append(jnp.arange(1, len(curve) + 1), target).astype(curve.dtype)

    def mean_curve(point: Array) -> Array:
        parts = point[:-1].reshape(5, -1)
        parts = parts.at[1].set(jnp.where(constants.factor > 0, parts[1], 1.0))
        intercept = jnp.where(constants.intercept > 0, parts[0], 0.0)

        def one(values: tuple) -> Array:
            index, c, s, first, second = values
            return c + s * family_arrays.evaluate_shape(
                families, index, (first, second), x
            )

        curves = jax.lax.map(one, (constants.index, intercept, *parts[1:4]))
        return parts[4] @ curves

    def log_density(point: Array) -> Array:
        parts, log_noise = point[:-1].reshape(5, -1), point[-1]
        values = mean_curve(point)
        residual = jnp.where(observed, values[:-1] - y, 0.0)
        log = -observed.sum() * log_noise - 0.5 * (residual**2).sum() * jnp.exp(
            -2 * log_noise
        )
        # Coefficients that a family lacks have a normal prior, so that they stay bounded.
        log = log - 0.5 * (jnp.where(constants.intercept > 0, 0, parts[0]) ** 2).sum()
        log = log - 0.5 * (jnp.where(constants.factor > 0, 0, parts[1] - 1) ** 2).sum()
        idle = constants.high == constants.low
        log = log - 0.5 * (jnp.where(idle.T, parts[2:4], 0) ** 2).sum()
        inside = (parts[2:4].T >= constants.low) & (parts[2:4].T <= constants.high)
        signed = (constants.sign * parts[1] >= 0) & (parts[4] > 0)
        limits = jnp.log(jnp.array(_NOISE))
        valid = (idle | inside).all() & signed.all() & (values[-1] > values[0])
        valid = valid & (limits[0] < log_noise) & (log_noise < limits[1])
        return jnp.where(valid & (values[-1] < 1.5), log, -jnp.inf)

    parts = (fits.intercept, fits.factor, fits.z[:, 0], fits.z[:, 1])
    middle = jnp.concatenate([p[..., 0] for p in parts])
    key_start, key_move = jax.random.split(key)
    start = _starting_walkers(
        key_start, middle, fits.square[:, 0] / observed.sum(), walkers
    )
    draws = stretch_moves(key_move, log_density, start, steps, 10)[burn_in // 10 :]
    draws = draws.reshape(-1, draws.shape[-1])
    last = lambda point: mean_curve(point)[-1]  # noqa: E731
    mean = jax.lax.map(last, draws, batch_size=256)
    return Draws(mean, jnp.exp(draws[:, -1]))


def log_density(draws: Draws, value: Array) -> Array:
    """Computes the log-density () of an observation () at the target epoch."""
    logs = jax.scipy.stats.norm.logpdf(value, draws.mean, draws.noise)
    return jax.nn.logsumexp(logs) - jnp.log(len(logs))


def _starting_walkers(
    key: Array, middle: Array, variance: Array, walkers: int
) -> Array:
    """Draws points (walkers, 5 k + 1) around the least-squares fits, equally weighted.

    Args:
      key: random key.
      middle: (4 k,) coefficients c, s, z0 and z1 of the fits.
      variance: (k,) mean squared residuals, whose mean is that of the noise.
      walkers: number of points.
    """
    num = len(variance)
    noise = jnp.clip(0.5 * jnp.log(variance.mean()), *jnp.log(jnp.array(_NOISE)) * 0.9)
    centre = jnp.concatenate([middle, jnp.full(num, 1 / num), noise[None]])
    draws = jax.random.normal(key, (walkers, len(centre)), centre.dtype)
    return centre * (1 + 1e-3 * draws) + 1e-6 * draws
