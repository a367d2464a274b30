"""The Gaussian process over architectures and epochs against a dense one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from test_extrapolate import cut, saturating

from jaxnas.curves import extrapolate
from jaxnas.curves.extrapolate import kronecker
from jaxnas.curves.extrapolate.normal_scores import (
    score_columns,
    to_scores,
    value_moments,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
FOUND = extrapolate.curve_gp(4)
FIT = jax.jit(FOUND.fit)


def test_it_is_the_dense_process(x64):
    rng = np.random.default_rng(0)
    curves = saturating(9, 6, seed=2)
    features = rng.normal(size=(9, 2))
    valid = np.arange(9) != 7
    valid[8] = False
    params = FIT(curves, curves[:, -1], valid, features)
    hyper = params.hyper
    row = params.features[:1] + 0.3
    mean, cov = kronecker._new_curve(params, row[0])
    rows = np.asarray(params.features)[:7]
    all_rows = np.concatenate([rows, row])
    left = np.asarray(kronecker._feature_gram(hyper, all_rows, all_rows))
    left = left + (1 - float(hyper.explained)) * np.eye(8)
    right = np.asarray(params.right[1] * params.right[0] @ params.right[1].T)
    targets = params.left[1] @ params.scores @ params.right[1].T
    full = np.kron(left, right)
    size = 7 * right.shape[0]
    gram = full[:size, :size] + float(hyper.noise) * np.eye(size)
    y = np.asarray(targets)[:7].ravel()
    want = full[size:, :size] @ np.linalg.solve(gram, y)
    np.testing.assert_allclose(mean, want, atol=1e-8)
    reduced = full[size:, :size] @ np.linalg.solve(gram, full[:size, size:])
    np.testing.assert_allclose(cov, full[size:, size:] - reduced, atol=1e-8)
    _, logdet = np.linalg.slogdet(gram)
    amplitude = y @ np.linalg.solve(gram, y) / size
    assert params.amplitude == pytest.approx(amplitude)
    eigen = (jnp.linalg.eigh(gram) for gram in (left[:7, :7], right))
    evidence, _ = kronecker._evidence(
        *eigen, jnp.asarray(y).reshape(7, -1), jnp.ones(7, bool), hyper.noise
    )
    assert evidence == pytest.approx(-0.5 * (size * np.log(amplitude) + logdet))
    # Rows that do not count change nothing.
    padded = params.left, params.right, targets, params.used, hyper.noise
    assert kronecker._evidence(*padded)[0] == pytest.approx(float(evidence))


def test_a_curve_is_conditioned_on_its_own_epochs(x64):
    curves, rng = saturating(9, 6, seed=2), np.random.default_rng(1)
    features = rng.normal(size=(9, 2))
    params = FIT(curves, curves[:, -1], np.ones(9, bool), features)
    # Bins of equal width in the logarithm: epochs 1, 2, 3, and 4 to 6.
    _, position = kronecker._bins(6, 4)
    logs = np.log(np.arange(1, 7))
    np.testing.assert_allclose(position, [*logs[:3], logs[3:].mean(), logs[5]])
    new = np.array([0.2, 0.3, np.nan, 0.4, 0.44, np.nan])
    seen, given = [0, 1, 3], np.array([0.2, 0.3, 0.42])
    scores = [
        float(to_scores(jax.tree.map(lambda p, i=i: p[i], params.bins), value))
        for i, value in zip(seen, given, strict=True)
    ]
    row = score_columns(params.arch, features[:1])[0]
    mean, cov = map(np.asarray, kronecker._new_curve(params, row))
    noise = float(params.hyper.noise)
    cross = cov[seen, 4]
    gain = np.linalg.solve(cov[np.ix_(seen, seen)] + noise * np.eye(3), cross)
    centre = mean[4] + gain @ (scores - mean[seen])
    variance = float(params.amplitude) * (cov[4, 4] - gain @ cross + noise)
    target = jax.tree.map(lambda part: part[-1], params.bins)
    want = value_moments(target, jnp.asarray(centre), jnp.sqrt(variance))
    predicted = jax.jit(FOUND.predict)(params, jnp.asarray(new), features[0])
    np.testing.assert_allclose(predicted, want, rtol=1e-5)


def test_one_fit_predicts_from_any_number_of_epochs():
    curves = saturating(120, 20, seed=6)
    features = curves[:, -1:] + np.random.default_rng(0).normal(0, 0.05, (120, 1))
    found = extrapolate.curve_gp(8)
    training, both = (curves[:40], curves[:40, -1]), (features[:40], features[40:])
    errors = []
    for epochs in (2, 6, 14):
        new = cut(curves[40:], epochs)
        mean, std = extrapolate.apply(found, training, new, both)
        truth = curves[40:, -1]
        last = stats.spearmanr(new[:, epochs - 1], truth)[0]
        assert stats.spearmanr(mean, truth)[0] > min(last, 0.93)
        errors.append(np.mean((mean - truth) ** 2))
        assert 0.3 < np.std((truth - mean) / std) < 2
    assert errors[0] > errors[1] > errors[2]
