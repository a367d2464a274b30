"""The Gaussian process over architectures and epochs against a dense one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from test_extrapolate import cut, saturating

from jaxnas.curves import extrapolate
from jaxnas.curves.extrapolate import kronecker

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_it_is_the_dense_process(x64):
    rng = np.random.default_rng(0)
    curves = saturating(9, 6, seed=2)
    features = rng.normal(size=(9, 2))
    found = extrapolate.curve_gp(4)
    valid = np.arange(9) != 7
    valid[8] = False
    params = jax.jit(found.fit)(curves, curves[:, -1], valid, features)
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
