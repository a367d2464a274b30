"""Final scores from short and complete trainings: one process over (architecture, epoch).

The model of freeze-thaw Bayesian optimisation (Swersky et al., 2014), with the kernel
of a pool in place of theirs. Standardised scores of architectures a and a' after e and e'
epochs have the covariance

    A R(a, a') C(e, e'),    C(e, e) = 1,    C(low, last) = correlation,

and noise, and the mean of the scores after the last epoch is unknown. Given the process at
the low level, f(a, last) = mean + correlation f(a, low) + a process of covariance
(1 - correlation^2) A R. So the posterior of a pool's process at the low level is the prior
of the final scores, and complete trainings condition it once more (as in the recursive
co-kriging of Le Gratiet and Garnier, 2014). No approximation is made: noise at the low
level stays in the covariance.

What a short training differs by from the process may be noise, or a property of its
architecture, which the complete training shares. A few complete trainings cannot tell, and
which is true depends on the benchmark. So there is an order for either case.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnas import gp
from jaxnas.predictors import pool_gp
from jaxnas.predictors.pool import Pool, index_of
from jaxnas.predictors.pool_gp import PoolGPState
from jaxnas.types import Array

# Prior variance of the mean of the final scores, in squared standard deviations of the
# scores at the low level: so large that it is flat, and small enough for float32.
_FLAT = 100.0
# Variance of the noise of final scores that have none, for the Cholesky factor alone.
_JITTER = 1e-3


def final_mean(
    low: gp.Posterior,
    prior: Array,
    target: Array,
    done: Array,
    noise: Array | float,
    correlation: Array | float,
) -> Array:
    """Posterior mean of final scores, up to a constant.

    Args:
      low: posterior of n architectures at the low level, given the short trainings.
      prior: (n, n) prior covariance A R of the architectures at one level.
      target: (n,) final scores, in the units of `low`.
      done: (n,) bool, the architectures whose final score is measured.
      noise: () variance of the noise of a final score.
      correlation: between the scores of one architecture at both levels.

    Returns: (n,), in the order of `correlation * low.mean` before the first final score.
    """
    mean = correlation * low.mean
    cov = correlation**2 * low.cov + (1 - correlation**2) * prior + _FLAT
    error = jnp.where(done, target - mean, 0.0)
    # Centred, so that the prior of the mean need not reach as far as scores may rise.
    error = error - error.sum() / jnp.maximum(done.sum(), 1)
    return mean + gp.posterior(cov, cov, cov, error, done, jnp.asarray(noise)).mean


def rank_by_final_mean(
    pool: Pool,
    correlation: float | Array,
    state: PoolGPState,
    arch: Array,
    score: Array,
    final: Array,
) -> Array:
    """Ranks architectures by two posterior means of their final scores.

    A `two_levels.Rank` once `pool` and `correlation` are bound. Takes O(t n^2) for the
    t short trainings in the state.

    Args:
      pool: of the search at the low level.
      correlation: between the scores of one architecture at both levels.
      state: of that search, fitted.
      arch: (n, d) int32.
      score: (n,) at the low level, those of `state`.
      final: (n,), NaN where no complete training is finished.

    Returns: (2, n), if the residuals of short trainings are noise, and if they are a
      property of the architecture.
    """
    index = jnp.maximum(jax.vmap(index_of, (None, 0))(pool, arch), 0)
    columns = pool.embeddings.column[index]
    mean, cov, distance = pool_gp.joint_posterior(pool, state, columns)
    amplitude = state.hyper.amplitude
    prior, noise = amplitude * jnp.exp(-distance), amplitude * state.hyper.noise
    done = ~jnp.isnan(final)
    # Not raised to the floor of the short trainings, which is for failures.
    target = (final - state.standardisation.mean) / state.standardisation.std
    target = jnp.where(done, target, 0.0)
    smooth = gp.Posterior(mean, cov)
    # A process with an independent term for each architecture, observed without noise.
    exact = gp.Posterior(
        gp.standardise(state.standardisation, score), jnp.zeros_like(cov)
    )
    rough = prior + noise * jnp.eye(len(prior))
    return jnp.stack(
        [
            final_mean(smooth, prior, target, done, noise, correlation),
            final_mean(exact, rough, target, done, _JITTER, correlation),
        ]
    )
