"""Gaussian processes against scikit-learn, and their parts against their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal

from jaxnas import gp
from jaxnas.kernels import gram

pytestmark = pytest.mark.usefixtures("quick_compilation")

posterior, log_marginal = jax.jit(gp.posterior), jax.jit(gp.log_marginal)
fit = jax.jit(functools.partial(gp.fit, gram.laplace))
fit_standardisation = jax.jit(gp.fit_standardisation)
standardise = jax.jit(gp.standardise)


def problem(seed=0, num=12, points=5, noise=0.03):
    """Distances (2, n + m, n + m), targets (n,), scales (2,), noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num + points, 2))
    apart = np.abs(x[:, None] - x[None]).transpose(2, 0, 1)
    return apart, np.sin(2 * x[:num]).sum(1), np.array([0.7, 1.9]), noise


def blocks(apart, scales, num):
    kernel = np.exp(-(apart / scales[:, None, None]).sum(0))
    return kernel[:num, :num], kernel[:num, num:], kernel[num:, num:]


def padded(array, rows, capacity, axes, fill):
    out = np.full(
        [capacity if i in axes else n for i, n in enumerate(array.shape)], fill
    )
    out[
        np.ix_(*[rows if i in axes else range(n) for i, n in enumerate(array.shape)])
    ] = array
    return out


def test_padding_changes_nothing_and_it_is_scikit_learns(x64):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import PairwiseKernel

    apart, y, scales, noise = problem()
    k, cross, prior = blocks(apart, scales, 12)
    plain = posterior(k, cross, prior, y, np.ones(12, bool), noise)
    value = log_marginal(k, y, np.ones(12, bool), noise)
    rows = np.array([0, 1, 4, 5, 6, 7, 8, 11, 12, 13, 14, 18])  # holes everywhere
    seen = np.isin(np.arange(20), rows)
    big = padded(k, rows, 20, (0, 1), 3.3)
    target = padded(y, rows, 20, (0,), -9.0)
    with_holes = posterior(
        big, padded(cross, rows, 20, (0,), 5.0), prior, target, seen, noise
    )
    for a, b in zip(plain, with_holes, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    np.testing.assert_allclose(log_marginal(big, target, seen, noise), value)

    # Their inputs are indices, and their kernel a table.
    whole = np.block([[k, cross], [cross.T, prior]])
    table = PairwiseKernel(metric=lambda a, b, gamma: whole[int(a[0]), int(b[0])])
    theirs = GaussianProcessRegressor(table, alpha=noise, optimizer=None)
    theirs.fit(np.arange(12)[:, None], y)
    mean, cov = theirs.predict(np.arange(12, 17)[:, None], return_cov=True)
    np.testing.assert_allclose(plain.mean, mean, atol=1e-9)
    np.testing.assert_allclose(plain.cov, cov, atol=1e-9)
    np.testing.assert_allclose(value, theirs.log_marginal_likelihood_value_, atol=1e-9)
    density = multivariate_normal(np.zeros(12), k + noise * np.eye(12)).logpdf(y)
    np.testing.assert_allclose(value, density, atol=1e-9)


def test_nothing_seen_is_the_prior():
    apart, y, scales, noise = problem()
    k, cross, prior = blocks(apart, scales, 12)
    nothing = np.zeros(12, bool)
    found = posterior(k, cross, prior, y, nothing, noise)
    np.testing.assert_array_equal(found.mean, np.zeros(5))
    np.testing.assert_allclose(found.cov, prior, atol=1e-6)
    assert log_marginal(k, y, nothing, noise) == 0


def test_single_precision_is_enough():
    apart, y, scales, _ = problem(num=150)
    k, cross, prior = blocks(apart, scales, 150)
    found = posterior(*(jnp.float32(a) for a in (k, cross, prior, y)), y > -99, 1e-3)
    inverse = np.linalg.inv(k + 1e-3 * np.eye(150))
    np.testing.assert_allclose(found.mean, cross.T @ inverse @ y, atol=1e-3)
    np.testing.assert_allclose(found.cov, prior - cross.T @ inverse @ cross, atol=1e-3)


def test_gradients_of_the_likelihood(x64):
    apart, y, scales, noise = problem(seed=1)
    apart, seen = apart[:, :12, :12], np.arange(12) < 9

    @jax.jit
    def value(logarithms):
        scales, noise = jnp.exp(logarithms[:2]), jnp.exp(logarithms[2])
        return gp.log_marginal(gram.laplace(apart, scales), y, seen, noise)

    at = np.log([*scales, noise])
    gradient = jax.jit(jax.grad(value))(at)
    for i, step in enumerate(1e-5 * np.eye(3)):
        numerical = (value(at + step) - value(at - step)) / 2e-5
        np.testing.assert_allclose(gradient[i], numerical, rtol=1e-6, atol=1e-8)


def test_the_evidence_is_the_likelihood_at_its_best_amplitude(x64):
    apart, y, scales, noise = problem(seed=2)
    k = blocks(apart, scales, 12)[0]
    seen = np.arange(12) != 3
    evidence, amplitude = jax.jit(gp.profile_log_marginal)(k, y, seen, noise)

    def minus_log_marginal(log_amplitude):
        a = np.exp(log_amplitude)
        return -float(log_marginal(a * k, y, seen, a * noise))

    best = minimize_scalar(minus_log_marginal, bounds=(-5, 5), method="bounded")
    np.testing.assert_allclose(np.log(amplitude), best.x, atol=1e-4)
    # Constants: -n/2 (1 + log 2 pi).
    constant = -11 / 2 * (1 + np.log(2 * np.pi))
    np.testing.assert_allclose(evidence + constant, -best.fun, atol=1e-8)


def prior(medians):
    return gp.HyperparameterPrior(
        jnp.array(medians), *map(jnp.float32, (1.0, 0.01, 2.0))
    )


def log_posterior(hyper, apart, y, seen, prior):
    k = gram.laplace(jnp.asarray(apart), hyper.scales)
    scales = jnp.log(hyper.scales / prior.scales) / prior.spread
    noise = jnp.log(hyper.noise / prior.noise) / prior.noise_spread
    evidence = gp.profile_log_marginal(k, y, seen, hyper.noise)[0]
    return float(evidence - 0.5 * (scales @ scales + noise**2))


@pytest.mark.parametrize("truth", [0.3, 1.2, 5.0])
def test_a_fit_finds_the_length_scale(truth):
    """Samples of the process on 80 points, prior median 1: within a factor."""
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0, 4, (80, 2))
        apart = np.abs(x[:, None] - x[None]).sum(-1)[None]
        k = np.exp(-apart[0] / truth)
        y = np.linalg.cholesky(k + 0.01 * np.eye(80)) @ rng.normal(size=80)
        seen = np.arange(80) < 75
        y, apart = jnp.float32(y), jnp.float32(apart)
        hyper = fit(apart, jnp.where(seen, y, 99.0) * seen, seen, prior([1.0]))
        found.append(float(hyper.scales[0]))
        median = hyper._replace(scales=jnp.array([1.0]), noise=jnp.float32(0.01))
        ours, theirs = (
            log_posterior(h, apart, y, seen, prior([1.0])) for h in (hyper, median)
        )
        assert ours > theirs
    # A long scale and a large amplitude together look like a short scale.
    assert truth / 2 < np.exp(np.median(np.log(found))) < truth * 2


def test_a_part_that_says_nothing_gets_a_long_scale():
    ratios = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0, 4, (60, 2))
        apart = np.abs(x[:, None] - x[None]).transpose(2, 0, 1)
        k = np.exp(-apart[0])
        y = np.linalg.cholesky(k + 0.01 * np.eye(60)) @ rng.normal(size=60)
        hyper = fit(jnp.float32(apart), jnp.float32(y), y > -99, prior([1.0, 1.0]))
        ratios.append(hyper.scales[1] / hyper.scales[0])
    assert np.median(ratios) > 2


def test_a_fit_of_nothing_and_of_equal_targets_is_finite():
    apart = jnp.float32(problem()[0][:, :12, :12])
    for y, seen in ((0.0, False), (0.0, True)):
        hyper = fit(apart, jnp.full(12, y), jnp.full(12, seen), prior([1.0, 1.0]))
        assert all(np.isfinite(x).all() and (x > 0).all() for x in hyper)


def test_a_fit_does_not_see_what_is_not_seen():
    apart, y, _, _ = problem()
    apart, y, seen = jnp.float32(apart[:, :12, :12]), jnp.float32(y), np.arange(12) < 8
    other = jnp.where(seen[:, None] & seen, apart, 4.0)
    a = fit(apart, jnp.where(seen, y, 0.0), seen, prior([1.0, 1.0]))
    b = fit(other, jnp.where(seen, y, 0.0), seen, prior([1.0, 1.0]))
    for one, two in zip(a, b, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


# Targets.


def test_standardised_scores_have_mean_0_and_variance_1():
    rng = np.random.default_rng(0)
    score = np.float32(70 + 5 * rng.normal(size=30))
    score[[3, 8]] = np.nan
    seen = np.arange(30) < 25
    target = fit_standardisation(score, seen)
    used = seen & ~np.isnan(score)
    z = np.asarray(standardise(target, score))
    np.testing.assert_allclose(z[used].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(z[used].std(), 1, atol=1e-5)
    np.testing.assert_allclose(target.floor, score[used].min())
    # A failure is as bad as the worst success.
    np.testing.assert_allclose(z[[3, 8]], z[used].min(), atol=1e-5)


def test_the_lower_tail_is_cut_off():
    score = np.float32([10, 20, *range(60, 79), np.nan, 55])
    seen = np.ones(22, bool)
    seen = np.append(seen[:-1], False)
    score = score[:22]
    for clip_below in (0.5, 2.0):
        target = fit_standardisation(score, seen, clip_below)
        ordered = np.sort(score[:21])
        median, upper = ordered[10], ordered[15]
        floor = median - clip_below * (upper - median)
        np.testing.assert_allclose(target.floor, floor)
        kept = np.maximum(score[:21], floor)
        np.testing.assert_allclose(target.mean, kept.mean(), rtol=1e-6)
        np.testing.assert_allclose(target.std, kept.std(), rtol=1e-5)
        z = np.asarray(standardise(target, score))
        np.testing.assert_allclose(z[:21], (kept - kept.mean()) / kept.std(), atol=1e-4)
        # All that is below the floor is alike, failures included.
        assert z[0] == z[1] == z[21] == z.min()
        assert (z == z.min()).sum() == 1 + (score[:21] <= floor).sum()


@pytest.mark.parametrize("clip_below", [2.0, np.inf])
@pytest.mark.parametrize(
    "score", [[np.nan] * 4, [5.0] * 4, [np.nan, 5, 5, 5], [1, np.inf, -np.inf, 3]]
)
def test_scores_without_anything_to_scale(score, clip_below):
    score = jnp.float32(score)
    for seen in (np.ones(4, bool), np.zeros(4, bool)):
        target = fit_standardisation(score, seen, clip_below)
        z = standardise(target, score)
        assert np.isfinite(target.mean) and np.isfinite(target.std) and target.std > 0
        if seen.any() or np.isnan(score).all():
            assert np.isfinite(z).all() and (np.abs(z) < 2).all()


def test_wrong_shapes_are_named():
    eye, y, seen = np.eye(3), np.ones(3), np.ones(3, bool)
    with pytest.raises(ValueError, match=r"prior \(m, m\).*; found .* prior \(2,\)"):
        gp.posterior(eye, np.ones((3, 2)), np.ones(2), y, seen, 0.1)
    with pytest.raises(ValueError, match=r"y \(n\).*; found .* y \(3, 1\)"):
        gp.log_marginal(eye, y[:, None], seen, 0.1)
