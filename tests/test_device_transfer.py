"""Latencies on a new device from few measurements, and the report on them."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from experiments import latency_transfer as driver
from experiments import network_distances
from jaxnas.predictors import device_features, transfer_to_device
from jaxnas.predictors import device_transfer as module

pytestmark = pytest.mark.usefixtures("quick_compilation")
M = 10


@pytest.fixture(scope="module")
def task():
    """Log latencies on 6 devices (400, 6) and on a new one (400,), and measured rows."""
    rng = np.random.default_rng(0)
    cost = rng.normal(size=(400, 3))
    logs = 3 + cost @ rng.uniform(0, 1, (3, 7)) + 0.1 * rng.normal(size=(400, 7))
    rows = rng.choice(400, M, replace=False)
    return logs[:, :6], logs[:, 6], rows.astype(np.int32)


@pytest.fixture(scope="module")
def predict():
    return jax.jit(transfer_to_device)


def numpy_transfer(features, weights, rows, target):
    """The same by definition: every architecture is really left out."""
    prior = weights / weights.sum()
    mean = features @ prior
    mean = mean / mean.std()
    order = np.array([rankdata(x) for x in (target, *features[rows].T)])
    rho = np.array([np.corrcoef(order[0], o)[0, 1] for o in order[1:]])
    likelihood = np.maximum(1 - np.clip(rho, 0, 1) ** 2, 0.05) ** (-M / 2)
    weight = prior * (likelihood / likelihood.max()) ** 0.3
    weight = weight / weight.sum()
    z = (target - np.median(target)) / target.std()
    predictions, densities = [], []
    for noise, share in ((0.05, 0.0), (0.1, 0.3), (0.3, 0.7)):
        kernel = (1 - share) * (features * weight) @ features.T
        kernel += share * np.outer(mean, mean)
        gram, count = kernel[np.ix_(rows, rows)], np.ones(M)

        def leave_out(variance, gram=gram):
            """Constant, leave-one-out residuals and variances."""
            inverse = np.linalg.inv(gram + np.diag(variance))
            constant = np.ones(M) @ inverse @ z / inverse.sum()
            residual, spread = np.zeros(M), np.zeros(M)
            for i in range(M):
                rest = np.delete(np.arange(M), i)
                block = gram[np.ix_(rest, rest)] + np.diag(variance[rest])
                gain = np.linalg.solve(block, gram[rest, i])
                residual[i] = z[i] - constant - gain @ (z[rest] - constant)
                spread[i] = gram[i, i] - gain @ gram[rest, i] + variance[i]
            return constant, residual, spread

        for _ in range(8):
            variance = noise / count
            _, residual, spread = leave_out(variance)
            count = 1.5 / (0.5 + residual**2 / (spread - variance + noise))
        constant = leave_out(noise / count)[0]
        solved = np.linalg.solve(gram + np.diag(noise / count), z - constant)
        predictions.append(constant + kernel[:, rows] @ solved)
        _, residual, spread = leave_out(noise * np.ones(M))
        amplitude = np.median(residual**2 / spread) / 0.455
        tails = 1.5 * np.log(1 + residual**2 / spread / amplitude / 2)
        densities.append(-(tails + 0.5 * np.log(spread * amplitude)).sum())
    shares = np.exp(0.5 * (np.array(densities) - max(densities)))
    mixed = shares / shares.sum() @ np.array(predictions)
    return np.median(target) + target.std() * mixed


def test_it_is_the_definition(x64, task):
    known, new, rows = task
    features = np.asarray(device_features(np.exp(known)), float)
    weights = np.array([1, 1, 0.5, 0.5, 1, 0])
    found = jax.jit(transfer_to_device)(
        jnp.asarray(features), jnp.asarray(weights), jnp.asarray(rows), new[rows]
    )
    wanted = numpy_transfer(features, weights, rows, new[rows])
    np.testing.assert_allclose(found, wanted, rtol=1e-8)


def test_features_are_standardised_logarithms_without_extremes():
    rng = np.random.default_rng(0)
    latency = np.exp(rng.normal(size=(1000, 2)) * [0.1, 2] + [3, -2])
    latency[0, 0] = 1e9
    features = np.asarray(device_features(latency))
    assert features[0, 0] == np.float32(2.5)
    np.testing.assert_allclose(features[:, 1].std(), 1, atol=0.02)
    assert spearmanr(features[1:, 0], latency[1:, 0])[0] > 0.999


def test_predictions_rank_and_follow_the_unit(task, predict):
    known, new, rows = task
    features, weights = device_features(np.exp(known)), jnp.ones(6)
    predicted = predict(features, weights, rows, new[rows])
    assert spearmanr(predicted, new)[0] > 0.94
    other = predict(features, weights, rows, 5 + 3 * new[rows])
    np.testing.assert_allclose(other, 5 + 3 * predicted, rtol=1e-4)


def test_a_device_of_weight_zero_does_not_count(task, predict):
    """Otherwise the new device would be predicted from its own latencies."""
    known, new, rows = task
    weights = jnp.array([1.0] * 6 + [0])
    noise = np.random.default_rng(1).normal(size=400)
    both = [
        predict(
            device_features(np.exp(np.column_stack([known, column]))),
            *(weights, rows, new[rows]),
        )
        for column in (noise, new)
    ]
    np.testing.assert_allclose(*both, rtol=1e-5)


def test_one_wrong_measurement_does_little(task, predict):
    known, new, rows = task
    features, weights = device_features(np.exp(known)), jnp.ones(6)
    target = new[rows].copy()
    target[np.argmin(target)] += 4  # 55 times as slow
    predicted = predict(features, weights, rows, target)
    assert spearmanr(predicted, new)[0] > 0.93
    # The same with a normal likelihood, which the wrong one misleads.
    linear = np.asarray(features) / 6**0.5
    gram = linear[rows] @ linear[rows].T + 0.1 * np.eye(M)
    z = (target - target.mean()) / target.std()
    plain = linear @ (linear[rows].T @ np.linalg.solve(gram, z))
    assert spearmanr(plain, new)[0] < 0.9


def test_bad_input(task):
    known, new, rows = task
    features, weights = device_features(np.exp(known)), jnp.ones(6)
    with pytest.raises(ValueError, match="wanted three measurements or more, not 2"):
        transfer_to_device(features, weights, rows[:2], new[rows[:2]])
    with pytest.raises(ValueError, match=r"wanted features \(n, s\).*found .*\(9,\)"):
        transfer_to_device(features, weights, rows, new[rows][:9])
    for wrong in (known - 5, np.where(known > 4, np.nan, 1), known[0]):
        with pytest.raises(ValueError, match=r"must be \(n, s\), positive and finite"):
            module.device_features(wrong)


# The driver.


def test_other_batch_sizes_of_a_card_are_left_out(shared):
    devices = driver.open_devices("nb201-devices")
    assert len(devices.names) == 27
    weights = dict(
        zip(devices.names, driver.prior_weights(devices, "titan_rtx_32"), strict=True)
    )
    left_out = [name for name, weight in weights.items() if not weight]
    assert left_out == ["titan_rtx_1", "titan_rtx_256", "titan_rtx_32"]
    assert weights["titanx_1"] == np.float32(1 / 3) and weights["gold_6226"] == 1
    alone = driver.prior_weights(devices, "gold_6240")
    assert np.flatnonzero(alone == 0).tolist() == [devices.names.index("gold_6240")]


def test_the_report(shared, tmp_path, capsys):
    config = driver.Config(
        sets=("fbnet",), devices=("eyeriss",), draws=3, out=str(tmp_path)
    )
    rows = driver.main(config)
    assert [row.method for row in rows] == ["transfer", "nearest", "mean"]
    transfer, nearest, mean = rows
    assert 0.95 < transfer.spearman < 0.99 and transfer.lowest <= transfer.spearman
    assert mean.spearman < nearest.spearman < transfer.spearman
    assert transfer.fastest_tenth < 0.04 < mean.fastest_tenth
    assert f"{transfer.spearman:.3f}" in capsys.readouterr().out
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert float(lines[0]["spearman"]) == pytest.approx(transfer.spearman, 1e-4)


def test_the_rank_error_of_the_fastest_tenth():
    latency = np.arange(1, 42, dtype=float)
    predicted = latency.copy()
    predicted[[0, 39]] = predicted[
        [39, 0]
    ]  # the fastest is taken for the second slowest
    spearman, error = driver._quality(latency, predicted, np.array([40]))
    assert error == pytest.approx(39 / 4 / 40)
    assert spearman == pytest.approx(spearmanr(latency[:40], predicted[:40])[0], 1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sets": ("nb101",)}, "no set nb101: choose from nb201, fbnet"),
        ({"devices": ("tpu",)}, "no device tpu: choose from 1080ti_1"),
        ({"measurements": 2}, "--measurements must be 3 to 4999, not 2"),
        ({"draws": 0}, "--draws must be at least 1"),
    ],
)
def test_bad_input_of_the_driver(shared, change, words, tmp_path):
    config = driver.Config(sets=("fbnet",), out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match=words):
        driver.main(dataclasses.replace(config, **change))
    assert not (tmp_path / "out").exists()


def test_the_report_on_distances_refuses_bad_input(tmp_path):
    for change, words in (
        ({"distances": ("euclid",)}, "no distance euclid: choose from canonical, ham"),
        ({"labels": (1,)}, "--labels must be 2 to 98, not"),
        ({"labels": ()}, "--labels must be 2 to 98, not empty"),
        ({"sets": 0}, "--sets must be at least 1"),
        ({"networks": -5}, "--networks must be at least 4, not -5"),
    ):
        config = network_distances.Config(networks=100, out=str(tmp_path / "out"))
        with pytest.raises(ValueError, match=words):
            network_distances.main(dataclasses.replace(config, **change))
    assert not (tmp_path / "out").exists()
