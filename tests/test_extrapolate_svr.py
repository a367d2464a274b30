"""nu-SVR against libsvm and the reference program, normal scores, and kernel ridge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.gaussian_process.kernels import Matern
from test_extrapolate import cut, saturating

from jaxnas.curves import extrapolate
from jaxnas.curves.extrapolate import inputs, normal_scores, nu_svr, summaries, svr
from jaxnas.io import npz

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def oracle(shared):
    return npz.read_npz(shared / "oracles/learning_curves.npz")


def gram(a, b, gamma):
    return np.exp(-gamma * ((a[:, None] - b[None]) ** 2).sum(-1))


def test_inputs_are_those_of_the_release(oracle):
    starts = oracle["svr_curves"][:, :20]
    inputs = jax.vmap(summaries.values_and_differences)(starts)
    want = oracle["svr_features_fid20"]
    np.testing.assert_allclose(inputs, want, rtol=1e-4, atol=1e-5)


def test_predictions_and_folds_are_those_of_the_release(oracle, x64):
    rows, y = oracle["svr_features_fid20"], oracle["svr_targets_idx48"]
    known, squares = rows[:30], ((rows[:30, None] - rows[None, :30]) ** 2).sum(-1)
    solve = jax.jit(nu_svr.solve)
    score = jax.jit(svr.held_out)
    used, fold = jnp.ones(30, bool), jnp.arange(30) // 10
    for i, (cost, nu, gamma) in enumerate(oracle["svr_hypers_C_nu_gamma"]):
        dual = solve(np.exp(-gamma * squares), y[:30], used, cost, nu)
        assert dual.gap <= 1e-3 and dual.steps < 5000
        found = gram(rows[30:], known, gamma) @ dual.coef + dual.intercept
        want = oracle["svr_pred_train30_test10"][i]
        np.testing.assert_allclose(found, want, atol=2e-3)
        if cost == 0.1:
            # Three entries are at C and none between the bounds: every b of an interval
            # is optimal, and libsvm takes the one that a rounding error of 0.3 picks.
            continue
        r2, _ = score(squares, y[:30], used, fold, jnp.array([cost, nu, gamma]))
        want = oracle["svr_cv3_r2_unshuffled"][i].mean()
        np.testing.assert_allclose(r2, want, atol=2e-3)


def test_the_dual_is_solved_with_padding_and_in_single_precision():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = np.sin(x).sum(1) + rng.normal(0, 0.1, 40)
    valid = np.arange(40) < 25
    solve = jax.jit(jax.vmap(nu_svr.solve, (0, None, None, 0, 0)))
    costs, nus, gammas = np.array([[1, 0.3, 0.5], [30, 0.8, 0.1], [0.01, 0.5, 2]]).T
    grams = np.stack([gram(x, x, gamma) for gamma in gammas])
    dual = solve(grams, y, valid, costs, nus)
    assert (dual.coef[:, 25:] == 0).all()
    sums = np.clip(dual.coef, 0, None).sum(1), np.clip(dual.coef, None, 0).sum(1)
    assert (np.abs(dual.coef) <= costs[:, None] * (1 + 1e-6)).all()
    np.testing.assert_allclose(sums[0], -sums[1], rtol=1e-4)
    for i, cost in enumerate(costs):
        objective, want = (
            0.5 * d @ grams[i][:25, :25] @ d - y[:25] @ d
            for d in (
                np.asarray(dual.coef[i, :25], float),
                peer(grams[i], y, cost, nus[i]),
            )
        )
        assert objective <= want + 1e-3 * abs(want)


def peer(gram, y, cost, nu):
    """libsvm's solution for the first 25 rows."""
    svm = pytest.importorskip("sklearn.svm")
    model = svm.NuSVR(C=cost, nu=nu, kernel="precomputed", tol=1e-6)
    model.fit(gram[:25, :25], y[:25])
    coef = np.zeros(25)
    coef[model.support_] = model.dual_coef_[0]
    return coef


def test_normal_scores_are_van_der_waerdens_and_have_an_inverse():
    values = np.array([3.0, 1, 2, 2, 10, 99, -5])
    valid = np.array([1, 1, 1, 1, 1, 0, 0], bool)
    found = normal_scores.fit_normal_scores(values, valid)
    ranks = (stats.rankdata(values[:5]) - 0.5) / 5
    scores = normal_scores.to_scores(found, values[:5])
    np.testing.assert_allclose(scores, stats.norm.ppf(ranks), atol=1e-5)
    # As far beyond an end as that is from the median doubles the score.
    beyond = normal_scores.to_scores(found, np.array([0.0, 18.0]))
    np.testing.assert_allclose(beyond, 2 * stats.norm.ppf([0.1, 0.9]), rtol=1e-5)
    more = np.array([-4.0, 1.5, 2.5, 30, 31])
    scores = normal_scores.to_scores(found, more)
    assert (np.diff(scores) > 0).all()
    np.testing.assert_allclose(normal_scores.to_values(found, scores), more, rtol=1e-4)
    draws = 0.3 + 0.5 * np.random.default_rng(0).normal(size=100_000)
    draws = np.asarray(normal_scores.to_values(found, draws))
    mean, std = normal_scores.value_moments(found, jnp.array(0.3), jnp.array(0.5))
    assert mean == pytest.approx(draws.mean(), rel=0.05)
    assert std == pytest.approx(draws.std(), rel=0.1)
    constant = normal_scores.fit_normal_scores(np.full(4, 7.0), np.ones(4, bool))
    assert normal_scores.to_scores(constant, jnp.array([7.0, 9.0])).tolist() == [0, 0]


def featured(num=60):
    """Curves whose last quarter depends on a feature alone."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(num, 2))
    curves = saturating(num, 12, seed=4)
    curves[:, 8:] += 0.2 * np.tanh(features[:, :1])
    return curves, features


@pytest.mark.parametrize(
    "found",
    [
        extrapolate.kernel_ridge(6),
        extrapolate.averaged_gp(6, 16),
        extrapolate.lc_svr(6, draws=24),
    ],
)
def test_regressions_learn_from_curve_and_features(found):
    curves, features = featured(140)
    training, new = (curves[:40], curves[:40, -1]), cut(curves[40:], 6)
    both = (features[:40], features[40:])
    truth = curves[40:, -1]
    mean, std = extrapolate.apply(found, training, new, both)
    last = stats.spearmanr(new[:, 5], truth)[0]
    assert last + 0.1 < stats.spearmanr(mean, truth)[0] > 0.85
    z = (truth - mean) / std
    assert 0.4 < z.std() < 1.8
    with pytest.raises(ValueError, match="curve 0 has 5 epochs: wanted at least 6"):
        extrapolate.apply(found, training, cut(new, 5))


def test_the_averaged_process_is_a_mixture_of_textbook_ones(x64):
    curves, features = featured(20)
    found, num = extrapolate.averaged_gp(6, 3), 18
    final = jnp.asarray(curves[:, -1]).at[5].set(jnp.nan)  # does not count
    params = jax.jit(found.fit)(curves, final, jnp.arange(20) < 19, features)
    inside, training = np.arange(20) != 5, params.training
    inside[19] = False
    u, v = (np.asarray(part)[inside] for part in training.inputs)
    y = np.asarray(training.y)[inside]
    new = inputs.to_inputs(
        training.maps, inputs.raw_inputs(curves[19:, :6], features[19:])
    )
    moments, evidence = [], []
    for scales, noise in zip(*params.processes.hyper[:2], strict=True):
        rows = np.concatenate([u / scales[0], v / scales[1]], 1)
        point = np.concatenate([new.curve / scales[0], new.arch / scales[1]], 1)
        matern = Matern(1.0, nu=1.5)
        linear = lambda a, b, c=scales[2]: a[0] @ b[0].T + a[1] @ b[1].T / c**2  # noqa: E731
        gram = matern(rows) + linear((u, v), (u, v)) + noise * np.eye(num)
        cross = (matern(point, rows) + linear(new, (u, v)))[0]
        amplitude = y @ np.linalg.solve(gram, y) / num
        evidence.append(stats.multivariate_normal(None, amplitude * gram).logpdf(y))
        prior = 1 + linear(new, new)[0, 0] + noise
        variance = amplitude * (prior - cross @ np.linalg.solve(gram, cross))
        moments.append((cross @ np.linalg.solve(gram, y), variance))
    share = np.exp(evidence - np.max(evidence))
    share /= share.sum()
    assert share.max() < 0.99  # else nothing is averaged
    np.testing.assert_allclose(params.probability, share, rtol=1e-5)
    means, variances = np.array(moments).T
    mean = share @ means
    std = np.sqrt(share @ (variances + (means - mean) ** 2))
    want = normal_scores.value_moments(training.target, *map(jnp.asarray, (mean, std)))
    got = jax.jit(found.predict)(params, curves[19], features[19])
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_kernel_ridge_is_the_formula_of_kernel_ridge_regression(x64):
    curves, features = featured(30)
    valid = jnp.arange(30) < 20
    found = extrapolate.kernel_ridge(6)
    fit, predict = jax.jit(found.fit), jax.jit(found.predict)
    damaged = jnp.where(valid[:, None], curves, jnp.nan).at[3, 2].set(jnp.nan)
    final = jnp.asarray(curves[:, -1]).at[5].set(jnp.nan)
    params = fit(damaged, final, valid, features)
    assert params.training.used.sum() == 18
    rows = [*range(3), 4, *range(6, 20)]
    raw = inputs.raw_inputs(curves[:, :6], features)
    scores = np.concatenate(
        [
            np.stack(
                [
                    stats.norm.ppf((stats.rankdata(column) - 0.5) / 18)
                    for column in np.asarray(part)[rows].T
                ],
                1,
            )
            for part in raw
        ],
        1,
    )
    # A part is divided by the root of its size, so that distances are means.
    parts = scores[:, :5] / 5**0.5, scores[:, 5:] / 2**0.5
    first, second, third = np.asarray(params.process.hyper.scales)
    gaps = [((p[:, None] - p[None]) ** 2).sum(-1) for p in parts]
    kernel = np.exp(-0.5 * (gaps[0] / first**2 + gaps[1] / second**2))
    kernel += parts[0] @ parts[0].T + parts[1] @ parts[1].T / third**2
    y = stats.norm.ppf((stats.rankdata(curves[rows, -1]) - 0.5) / 18)
    fitted = kernel @ np.linalg.solve(
        kernel + params.process.hyper.noise * np.eye(18), y
    )
    small = params.process.hyper._replace(amplitude=1e-12)
    process = params.process._replace(hyper=small)
    mean, _ = predict(params._replace(process=process), curves[7], features[7])
    want = normal_scores.to_values(params.training.target, fitted[rows.index(7)])
    assert mean == pytest.approx(float(want), abs=1e-3)
    at = rows.index(7)
    noisy = kernel + params.process.hyper.noise * np.eye(18)
    left = noisy[at, at] - kernel[at] @ np.linalg.solve(noisy, kernel[at])
    score_std = jnp.sqrt(params.process.hyper.amplitude * left)
    _, want = normal_scores.value_moments(params.training.target, fitted[at], score_std)
    assert predict(params, curves[7], features[7])[1] == pytest.approx(
        float(want), 1e-3
    )
    damaged = jnp.asarray(curves[7]).at[2].set(jnp.nan)
    assert np.isnan(predict(params, damaged, features[7])).all()


def test_levels_and_slope_of_a_start():
    start = jnp.array([3.0, 1, 4, 1, 5, 9, 2, 6])
    found = summaries.levels_and_slope(start)
    np.testing.assert_allclose(found, [6, 4, 31 / 8, 9, 4 - 7])
    np.testing.assert_allclose(summaries.levels_and_slope(start[:1]), [3, 3, 3, 3, 0])


def test_the_released_machine_has_raw_inputs_and_contiguous_folds():
    curves, features = featured(12)
    found, valid = extrapolate.released_lc_svr(4, draws=1), np.arange(12) < 9
    machine = jax.jit(found.fit)(curves, curves[:, -1], valid, features)
    starts = jax.vmap(summaries.values_and_differences)(jnp.asarray(curves[:, :4]))
    rows = np.concatenate([features, starts], 1)[:9]
    np.testing.assert_allclose(machine.rows[:9], rows, rtol=1e-5, atol=1e-6)
    squares = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    fold, design = jnp.arange(9) // 3, svr._designs(1, **svr._RELEASED)[0]
    used = jnp.ones(9, bool)
    _, want = jax.jit(svr.held_out)(squares, curves[:9, -1], used, fold, design)
    assert machine.std == pytest.approx(float(want), rel=1e-3)
