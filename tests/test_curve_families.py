"""Parametric families: fits against the reference program, SciPy, and their mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats
from test_extrapolate import cut, saturating

from experiments.bench import fits
from jaxnas.curves import extrapolate
from jaxnas.curves.extrapolate import families, least_squares, mcmc, mixture
from jaxnas.io import npz

pytestmark = pytest.mark.usefixtures("quick_compilation")
FIT = jax.jit(least_squares.fit, static_argnums=(0, 3, 4))
FEW = (families.POW3, families.MMF)
# Two families of the reference program differ from the literature's.
LITERATURE = fits.LITERATURE | {
    "vapor_pressure": lambda x, a, b, c: a + b / x + c * np.log(x),
    "hill3": lambda x, top, eta, k: top * x**eta / (k * eta + x**eta),
}


@pytest.fixture(scope="module")
def oracle(shared):
    return npz.read_npz(shared / "oracles/learning_curves.npz")


def test_no_fit_has_a_lower_likelihood_than_the_reference(oracle):
    curves = np.full((24, 20), np.nan)
    for i, length in enumerate((10, 12, 20)):
        curves[8 * i : 8 * i + 8, :length] = oracle[f"fit{length}_curves"]
    found = FIT(families.REFERENCE, jnp.asarray(curves), np.isfinite(curves))
    length = np.repeat([10, 12, 20], 8)
    square = np.asarray(found.square, float)
    nll = length / 2 * (np.log(2 * np.pi * square / length) + 1)
    want = np.concatenate([oracle[f"fit{n}_nll"] for n in (10, 12, 20)]).T
    assert (nll <= want + 5e-3).all()
    # Some of the reference's stopped early.
    assert (nll < want - 0.1).any()


def test_exact_curves_are_fitted_and_have_the_parameters_of_the_literature(oracle, x64):
    names = [family.name for family in families.REFERENCE]
    assert names == list(LITERATURE)
    curves = np.stack([oracle[f"curve_{n}_values"][0, :40] for n in names])
    found = FIT(families.REFERENCE, curves, np.ones(curves.shape, bool), 4, 30)
    x = np.arange(1, 41.0)
    for k, family in enumerate(families.REFERENCE):
        square = float(found.square[k, k])
        assert square < 1e-6, family.name
        z = tuple(found.z[k, :, k])
        theta = family.theta(found.intercept[k, k], found.factor[k, k], z)
        assert len(theta) == family.num_params
        theta = [float(t) for t in theta]
        fitted = LITERATURE[family.name](x, *theta)
        np.testing.assert_allclose(((fitted - curves[k]) ** 2).sum(), square, atol=1e-9)
    original = dict(zip(names, families.ORIGINAL, strict=True))
    z, one = (jnp.array(0.3), jnp.array(-0.2)), jnp.array(0.8)
    a, b, c = original["vapor_pressure"].theta(0, one, z)
    want = one * original["vapor_pressure"].shape(z, x)
    np.testing.assert_allclose(np.exp(a + b / x + c * np.log(x)), want)
    top, eta, kappa = original["hill3"].theta(0, one, z)
    want = one * original["hill3"].shape(z, x)
    np.testing.assert_allclose(top * x**eta / (kappa**eta + x**eta), want)


def test_four_starts_are_as_good_as_scipy_with_many():
    curves = saturating(6, 30)
    found = FIT(families.REFERENCE, curves, np.ones(curves.shape, bool))
    rng, x = np.random.default_rng(0), np.arange(1, 31.0)
    for name in ("janoschek", "mmf"):
        k, function = list(LITERATURE).index(name), LITERATURE[name]
        for i, y in enumerate(curves):
            best = np.inf
            for _ in range(8):
                start = rng.uniform(0.1, 1.5, families.REFERENCE[k].num_params)
                residual = lambda t, y=y, f=function: f(x, *t) - y  # noqa: E731
                with np.errstate(all="ignore"):
                    try:
                        peer = optimize.least_squares(residual, start, method="lm")
                        # Sigmoids and other exponents are outside of our bounds.
                        exponent = peer.x[3 if name == "janoschek" else 2]
                        if 0.1 < exponent < 7:
                            best = min(best, 2 * peer.cost)
                    except ValueError:
                        continue
            assert found.square[k, i] <= 1.01 * best


def test_the_laplace_approximation_is_that_of_the_linear_model(x64):
    """Evidence and prediction against the dense Gaussian of the linearised families."""
    both, num, target = (families.POW3, families.ILOG2), 15, 40
    x = np.arange(1.0, num + 1)
    noise = np.random.default_rng(0).normal(0, 0.01, num)
    y = 1.04 - 0.4 * x**-0.7 + noise  # above 1 with probability 1/3 to 1/2
    fits = FIT(both, y[None], np.ones((1, num), bool), 4, 30)
    # `weigh` gets the log evidences.
    found = mixture.predict_mixture(y[None], target, both, lambda evidence: evidence)
    c, s, rate = fits.intercept[:, 0], fits.factor[:, 0], np.exp(fits.z[0, 0, 0])
    power = lambda x: np.stack(  # noqa: E731
        [x**0, s[0] * (x**-rate - 1), -s[0] * rate * np.log(x) * x**-rate], 1
    )
    inverse_log = lambda x: np.stack([x**0, s[1] / np.log(x + 1)], 1)  # noqa: E731
    # Variances of intercept, factor, and a uniform distribution on the box of z.
    prior = (np.diag([1, 4, 9**2 / 12]), np.diag([1.0, 4]))
    for k, jacobian in enumerate((power, inverse_log)):
        of_curve, (of_target,) = jacobian(x), jacobian(np.array([float(target)]))
        variance = (fits.square[k, 0] + 0.005**2) / (num - len(prior[k]))
        gram = of_curve @ prior[k] @ of_curve.T + variance * np.eye(num)
        residual = y - of_curve[:, :2] @ [c[k], 1]
        cross = of_curve @ prior[k] @ of_target
        left = of_target @ prior[k] @ of_target - cross @ np.linalg.solve(gram, cross)
        mean, std = c[k] + of_target[1], np.sqrt(left + variance)
        mass = np.diff(stats.norm.cdf([y[0], 1], mean, std))[0]
        evidence = -0.5 * (
            np.linalg.slogdet(gram)[1] + residual @ np.linalg.solve(gram, residual)
        )
        np.testing.assert_allclose(found.mean[0, k], mean, atol=1e-4)
        np.testing.assert_allclose(found.std[0, k], std, rtol=1e-3)
        np.testing.assert_allclose(
            found.weight[0, k], evidence + np.log(mass), atol=0.01
        )
    assert mixture.equal_weights(found.weight[0]).tolist() == [0.5, 0.5]


def test_the_log_mass_is_that_of_scipy_in_both_tails():
    low, high = np.array([-9.0, -1, 6, 12]), np.array([-8.5, 2, 7, 13])
    found = mixture._log_mass(low, high)
    # By the survival function, in the tail where it is small.
    flip = low > 0
    ends = np.where(flip, -high, low), np.where(flip, -low, high)
    want = np.log(stats.norm.cdf(ends[1]) - stats.norm.cdf(ends[0]))
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_epochs_that_are_not_observed_change_nothing():
    curves = saturating(5, 12)
    padded = np.concatenate([curves, np.full((5, 20), np.nan)], 1)
    alone = FIT(FEW, curves, np.ones(curves.shape, bool))
    found = FIT(FEW, padded, np.isfinite(padded))
    np.testing.assert_allclose(found.square, alone.square, rtol=1e-3)
    # POW3 has a factor with a sign: falling curves are fitted by constants.
    falling = FIT(FEW, curves[:, ::-1], np.ones(curves.shape, bool))
    assert (falling.factor[0] < 0).all() and np.allclose(
        falling.factor[0], 0, atol=1e-3
    )


@pytest.fixture(scope="module")
def predicted():
    curves = saturating(200, 60, seed=5)
    found = jax.jit(mixture.predict_mixture)(cut(curves, 15))
    return curves, found


def test_the_mixture_predicts_better_than_the_last_value(predicted):
    curves, found = predicted
    mean, std = jax.vmap(mixture.moments)(found)
    truth = curves[:, -1]
    error = np.abs(np.asarray(mean) - truth)
    assert error.mean() < 0.5 * np.abs(curves[:, 14] - truth).mean()
    np.testing.assert_allclose(found.weight.sum(1), 1, rtol=1e-5)
    z = (truth - np.asarray(mean)) / np.asarray(std)
    assert 0.4 < np.mean(np.abs(z) < 0.674) < 0.95
    assert np.mean(np.abs(z) < 1.645) > 0.8


def test_probabilities_are_those_of_draws(predicted):
    one = jax.tree.map(lambda part: part[3], predicted[1])
    rng = np.random.default_rng(0)
    weight = np.asarray(one.weight, float)
    chosen = rng.choice(11, 200_000, p=weight / weight.sum())
    draws = rng.normal(one.mean[chosen], one.std[chosen])
    mean, std = mixture.moments(one)
    assert mean == pytest.approx(draws.mean(), abs=0.01)
    threshold = np.quantile(draws, 0.7)
    assert mixture.probability_above(one, threshold) == pytest.approx(0.3, abs=0.01)
    grid = np.linspace(mean - 20 * std, mean + 20 * std, 20001)
    density = np.exp(jax.vmap(mixture.log_density, (None, 0))(one, grid))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-2)


def test_the_extrapolator_is_the_mixture_in_the_units_of_the_curves():
    new, none = cut(saturating(4, 60, seed=5), 15), (np.zeros((0, 60)), np.zeros(0))
    want = jax.vmap(mixture.moments)(mixture.predict_mixture(new, None, FEW))
    found = extrapolate.wpm(scale=100, families=FEW)
    mean, std = extrapolate.apply(found, none, 100 * new)
    np.testing.assert_allclose(mean, 100 * want[0], rtol=2e-3)
    np.testing.assert_allclose(std, 100 * want[1], rtol=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: (extrapolate.wpm(target=9), c), "has 12 epochs: wanted at most 9"),
        (lambda c: (extrapolate.wpm(), cut(c, 1)), "has 1 epochs: wanted at least 3"),
        (lambda c: (extrapolate.wpm(target=0), c), "target must be at least 1"),
        (lambda c: (extrapolate.wpm(scale=0), c), "scale must be positive, not 0"),
        (lambda c: (extrapolate.wpm(), c[:0]), "at least one curve to predict"),
    ],
)
def test_bad_input_is_refused(make, message):
    none = np.zeros((0, 12)), np.zeros(0)
    with pytest.raises(ValueError, match=message):
        found, curves = make(saturating(3, 12))
        extrapolate.apply(found, none, curves)


def test_stretch_moves_sample_a_correlated_normal():
    covariance = np.array([[1.0, 1.8, 0.0], [1.8, 4.0, 0.0], [0.0, 0.0, 1.0]])
    inverse = np.linalg.inv(covariance)
    density = lambda p: -0.5 * (p - 1) @ inverse @ (p - 1)  # noqa: E731
    start = jax.random.normal(jax.random.key(0), (40, 3))
    draws = jax.jit(lambda k: mcmc.stretch_moves(k, density, start, 4000, 10))(
        jax.random.key(1)
    )
    draws = np.asarray(draws)[50:].reshape(-1, 3)
    np.testing.assert_allclose(draws.mean(0), 1, atol=0.1)
    np.testing.assert_allclose(np.cov(draws.T), covariance, rtol=0.1, atol=0.1)
    with pytest.raises(ValueError, match="3 walkers in 3 dimensions"):
        mcmc.stretch_moves(jax.random.key(0), density, start[:3], 1)


def test_the_sampled_model_agrees_with_the_mixture():
    curves = saturating(1, 40, seed=8)
    found = mixture.predict_mixture(cut(curves, 20), None, FEW)
    sample = jax.jit(
        lambda key, curve: mcmc.sample_target(key, curve, 40, FEW, 40, 2000, 1000)
    )
    sampled = sample(jax.random.key(0), jnp.asarray(cut(curves, 20)[0]))
    draws = np.asarray(sampled.mean)
    mean, std = mixture.moments(jax.tree.map(lambda p: p[0], found))
    assert abs(draws.mean() - mean) < 2 * std
    assert abs(draws.mean() - curves[0, -1]) < 0.05
    # An observation is a draw of the mean curve plus noise.
    grid = jnp.linspace(-1, 2, 3001)
    density = np.exp(jax.vmap(mcmc.log_density, (None, 0))(sampled, grid))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-3)
    variance = np.trapezoid(density * (grid - draws.mean()) ** 2, grid)
    want = draws.var() + np.mean(np.square(sampled.noise))
    assert variance == pytest.approx(want, rel=0.02)
