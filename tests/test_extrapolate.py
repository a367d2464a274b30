"""Extrapolators: the interface, the last value, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnas.curves import extrapolate


def saturating(num=30, epochs=12, seed=0):
    """Curves that approach asymptotes at rates of their own, and their last values."""
    rng = np.random.default_rng(seed)
    top, rate = rng.uniform(0.5, 0.9, (num, 1)), rng.uniform(0.5, 1.5, (num, 1))
    curves = top * (1 - (1 + np.arange(1, epochs + 1)) ** -rate)
    return curves + rng.normal(0, 0.01, curves.shape)


def cut(curves, epochs):
    return np.where(np.arange(curves.shape[-1]) < epochs, curves, np.nan)


def test_the_last_value_is_shifted_by_the_mean_growth():
    curves = saturating()
    known, new = curves[:20], curves[20:]
    found = extrapolate.last_value()
    for epochs in (3, 11):
        mean, std = extrapolate.apply(found, (known, known[:, -1]), cut(new, epochs))
        gain = known[:, -1] - known[:, epochs - 1]
        np.testing.assert_allclose(mean, new[:, epochs - 1] + gain.mean(), rtol=1e-5)
        np.testing.assert_allclose(std, gain.std(ddof=1), rtol=1e-4)
    plain = extrapolate.last_value(growth=False)
    mean, std = extrapolate.apply(plain, (known, known[:, -1]), cut(new, 4))
    gain = known[:, -1] - known[:, 3]
    np.testing.assert_allclose(mean, new[:, 3], rtol=1e-6)
    np.testing.assert_allclose(std, np.sqrt((gain**2).mean()), rtol=1e-5)


def test_rows_that_are_not_valid_do_not_count():
    curves, found = saturating(), extrapolate.last_value()
    valid = jnp.arange(30) < 7
    damaged = jnp.where(valid[:, None], curves, jnp.nan)
    got = jax.jit(found.fit)(damaged, damaged[:, -1], valid, None)
    want = found.fit(curves[:7], curves[:7, -1], valid[:7], None)
    np.testing.assert_allclose(got.mean, want.mean, rtol=1e-5)
    np.testing.assert_allclose(got.std[:-1], want.std[:-1], rtol=1e-4)
    alone = found.fit(curves, curves[:, -1], jnp.arange(30) < 1, None)
    assert np.isinf(alone.std).all()
    assert np.isnan(found.predict(got, jnp.full(12, jnp.nan), None)).all()


def test_the_observed_part_ends_with_the_last_value():
    curves = jnp.array([[1, 2, jnp.nan], [jnp.nan, 1, jnp.nan], [jnp.nan] * 3])
    assert extrapolate.observed(curves).tolist() == [2, 2, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, c: ((t[0], t[1][:5]), c), "wanted curves"),
        (lambda t, c: (t, c[:, :6]), "wanted curves"),
        (lambda t, c: ((t[0][:1], t[1][:1]), c), "1 curves to fit: wanted at least 2"),
        (lambda t, c: ((t[0], t[1] * np.nan), c), "final value of curve 0 is nan"),
        (lambda t, c: (t, cut(c, 0)), "curve 0 has 0 epochs: wanted at least 1"),
        (
            lambda t, c: (t, np.where(np.arange(12) == 1, np.inf, c)),
            "curve 0 has inf at epoch 2, and values up to epoch 12",
        ),
    ],
)
def test_bad_curves_are_refused_in_one_line(change, message):
    curves = saturating()
    training, new = change((curves[:20], curves[:20, -1]), curves[20:])
    with pytest.raises(ValueError, match=message):
        extrapolate.apply(extrapolate.last_value(), training, new)


def test_features_must_belong_to_the_curves():
    curves = saturating()
    features = (np.zeros((20, 2)), np.zeros((10, 3)))
    with pytest.raises(ValueError, match="wanted curves"):
        training = (curves[:20], curves[:20, -1])
        extrapolate.apply(extrapolate.last_value(), training, curves[20:], features)


@pytest.mark.parametrize(("part", "name"), [(0, "curve to fit"), (1, "curve")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_must_be_finite(part, name, value):
    curves = saturating()
    features = np.zeros((20, 2)), np.zeros((10, 2))
    features[part][3, 1] = value
    training = curves[:20], curves[:20, -1]
    with pytest.raises(ValueError, match=f"feature 1 of {name} 3 is {value}: wanted"):
        extrapolate.apply(extrapolate.kernel_ridge(3), training, curves[20:], features)


def test_features_may_be_lists_of_numbers():
    curves = saturating()
    features = np.random.default_rng(0).random((30, 2)).astype(np.float32)
    parts, training = (features[:20], features[20:]), (curves[:20], curves[:20, -1])
    ridge = extrapolate.kernel_ridge(3)
    one = extrapolate.apply(ridge, training, curves[20:], parts)
    lists = tuple(x.tolist() for x in parts)
    other = extrapolate.apply(ridge, training, curves[20:], lists)
    np.testing.assert_array_equal(one, other)


def test_a_line_maps_sums_of_training_losses_to_final_values():
    curves = saturating(40)
    known, new = curves[:30], curves[30:]
    found = extrapolate.training_sum(6, last=2)
    mean, std = extrapolate.apply(found, (known, known[:, -1]), cut(new, 6))
    line = stats.linregress(known[:, 4:6].sum(1), known[:, -1])
    want = line.intercept + line.slope * new[:, 4:6].sum(1)
    np.testing.assert_allclose(mean, want, rtol=1e-4)
    left = known[:, -1] - line.intercept - line.slope * known[:, 4:6].sum(1)
    np.testing.assert_allclose(std, np.sqrt((left**2).sum() / 28), rtol=1e-3)
    with pytest.raises(ValueError, match="last must be at most epochs = 6, not 7"):
        extrapolate.training_sum(6, last=7)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        extrapolate.training_sum(0)
