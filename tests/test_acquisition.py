"""Acquisition functions against SciPy's and quadrature; the choice of the largest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from jaxnas import acquisition

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
top = jax.jit(acquisition.top, static_argnums=2)


def improvement(mean, std, best):
    """log E max(f - best, 0), in double precision, by quadrature of the tail.

    E max(f - best, 0) = s phi(u) int_0^inf t exp(u t - t^2 / 2) dt with u = (m - b) / s.
    """
    u = (mean - best) / std
    integral = quad(lambda t: t * np.exp(u * t - t * t / 2), 0, np.inf, epsabs=0)[0]
    return np.log(std) + norm.logpdf(u) + np.log(integral)


# Standardised improvements down to where float32 has lost even the logarithm's body.
U = [-2000.0, -300, -40, -13, -7.01, -7, -6.99, -5, -3, -1, -0.1, 0, 0.1, 1, 4, 8]


@pytest.mark.parametrize("std", [0.03, 1.0, 20.0])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_log_expected_improvement(std, precision):
    with jax.enable_x64(precision == "float64"):
        u = jnp.array(U, precision)
        best, deviation = jnp.array(0.0, precision), jnp.full(len(U), std, precision)
        found = acquisition.log_expected_improvement(KEY, u * std, deviation, best)
        assert found.dtype == precision
    wanted = [improvement(x * std, std, 0.0) for x in U]
    # In the tail a series is cut off.
    tolerance = 3e-4 if precision == "float32" else 2e-5
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=tolerance)
    assert (np.diff(found) > 0).all()


def test_expected_improvement(x64):
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=50), rng.lognormal(size=50)
    found = acquisition.expected_improvement(KEY, mean, std, 0.4)
    u = (mean - 0.4) / std
    wanted = std * (u * norm.cdf(u) + norm.pdf(u))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    logarithm = acquisition.log_expected_improvement(KEY, mean, std, 0.4)
    np.testing.assert_allclose(logarithm, np.log(found), atol=2e-5)


def test_probability_of_improvement(x64):
    u = np.linspace(-30, 8, 77)
    found = acquisition.probability_of_improvement(
        KEY, 2 * u + 3, np.full(77, 2.0), 3.0
    )
    np.testing.assert_allclose(found, norm.cdf(u), rtol=1e-11)


def test_without_any_doubt():
    """A standard deviation of 0: the improvement is what it is."""
    mean, std = jnp.array([-1.0, 0.0, 2.0]), jnp.zeros(3)
    found = acquisition.expected_improvement(KEY, mean, std, jnp.array(0.5))
    np.testing.assert_allclose(found, [0, 0, 1.5], atol=1e-6)
    found = acquisition.probability_of_improvement(KEY, mean, std, jnp.array(0.5))
    np.testing.assert_array_equal(found, [0, 0, 1])
    found = acquisition.log_expected_improvement(KEY, mean, std, jnp.array(0.5))
    assert np.isfinite(found).all() and (np.diff(found) > 0).all()


def test_confidence_bound():
    mean, std = jnp.array([0.0, 1.0]), jnp.array([2.0, 0.5])
    for beta in (0.0, 4.0):
        bound = acquisition.confidence_bound(beta)(KEY, mean, std, jnp.array(9.0))
        np.testing.assert_allclose(bound, mean + np.sqrt(beta) * std)
    default = acquisition.confidence_bound()(KEY, mean, std, jnp.array(9.0))
    np.testing.assert_allclose((default - mean) / std, 3.0349, atol=1e-3)
    for beta in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="beta must not be negative, not"):
            acquisition.confidence_bound(beta)


def test_thompson_sampling_draws_from_the_posterior():
    mean, std = jnp.array([3.0] * 4000 + [-1.0] * 4000), jnp.array([0.5] * 8000)
    draw = acquisition.thompson(KEY, mean, std, jnp.array(0.0))
    for part, centre in ((draw[:4000], 3), (draw[4000:], -1)):
        assert abs(part.mean() - centre) < 0.04 and abs(part.std() - 0.5) < 0.03
    other = acquisition.thompson(jax.random.key(1), mean, std, jnp.array(0.0))
    assert (draw != other).mean() > 0.99


# The largest.


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_are_the_largest(k):
    rng = np.random.default_rng(k)
    for seed in range(10):
        utility = rng.normal(size=50).astype(np.float32)
        found = np.asarray(top(jax.random.key(seed), utility, k))
        assert found.shape == (k,)
        np.testing.assert_array_equal(found, np.argsort(-utility)[:k])


@pytest.mark.parametrize("k", [1, 2])
def test_ties_are_broken_by_the_key_alone(k):
    utility = jnp.where(jnp.arange(30) % 3 == 1, 2.0, 1.0)  # ten are the largest
    draw = jax.jit(jax.vmap(lambda key: acquisition.top(key, utility, k)))
    keys = jax.random.split(jax.random.key(3), 5000)
    found = np.asarray(draw(keys))
    np.testing.assert_array_equal(found, draw(keys))
    assert (found % 3 == 1).all()
    for place in range(k):
        counts = np.bincount(found[:, place] // 3, minlength=10)
        chi2 = ((counts - 500) ** 2 / 500).sum()
        assert chi2 < 33.7  # 9 degrees of freedom: the 0.9999 quantile
    if k == 2:
        assert (found[:, 0] != found[:, 1]).all()
        pairs = np.unique(found, axis=0, return_counts=True)[1]
        assert len(pairs) == 90 and pairs.max() < 110


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("bad", [-np.inf, np.nan])
def test_what_is_to_be_avoided_is_avoided(k, bad):
    utility = np.full(40, bad, np.float32)
    utility[[4, 17, 30]] = -1e30, -np.finfo(np.float32).max, -7
    for seed in range(20):
        found = np.asarray(top(jax.random.key(seed), utility, k))
        np.testing.assert_array_equal(found, [30, 4, 17][:k])
    # Where all are, it is still some point.
    found = np.asarray(top(KEY, np.full(40, bad, np.float32), k))
    assert (found >= 0).all() and (found < 40).all() and len(set(found)) == k


def test_a_lottery_has_no_equal_tickets():
    for seed in range(5):
        tickets = np.asarray(acquisition.tie_breakers(jax.random.key(seed), 20_000))
        assert tickets.dtype == np.uint32 and len(np.unique(tickets)) == 20_000
