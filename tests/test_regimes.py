"""Labels of two hidden regimes, and kernels between tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.predictors import regimes, tasks

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETTINGS = regimes.Settings(0.6, 0.1, 0.2)


def two_regimes(num, seed=0, gap=9.0):
    """Labels at two levels, the low one in a corner of the inputs."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (num, 2))
    low = x[:, 1] + 0.2 * rng.normal(size=num) > 0.5
    y = 70 + 4 * np.sin(3 * x[:, 0]) + 0.4 * rng.normal(size=num) - gap * low
    square = ((x[:, None] - x[None]) ** 2).sum(-1)
    parts = [0.5 * np.exp(-square), 0.4 * np.exp(-3 * square), np.exp(-2 * square)]
    return regimes.Covariances(*parts), y, low


def cut(covariances, rows, columns):
    return regimes.Covariances(
        *(np.asarray(c)[np.ix_(rows, columns)] for c in covariances)
    )


def gram(covariances, low, other):
    same = low[:, None] == other
    shared = np.where(same, 1, SETTINGS.correlation) * covariances.shared
    return shared + np.where(same, covariances.separate, 0)


def regression(matrix, cross, target, noise):
    return cross @ np.linalg.solve(matrix + noise * np.eye(len(target)), target)


def reference_step(covariances, y, low):
    """One assignment, with every label left out in a loop."""
    num, every = len(y), np.arange(len(y))
    mean, std = (np.array([f(y[~low]), f(y[low])]) for f in (np.mean, np.std))
    z = (y - mean[low.astype(int)]) / std[low.astype(int)]
    predicted, prior = np.empty((num, 2)), np.empty(num)
    for i in range(num):
        rest = np.delete(every, i)
        among, cross = cut(covariances, rest, rest), cut(covariances, [i], rest)
        matrix = gram(among, low[rest], low[rest])
        for k in (0, 1):
            row = gram(cross, np.array([k == 1]), low[rest])
            process = regression(matrix, row, z[rest], SETTINGS.noise)[0]
            predicted[i, k] = mean[k] + std[k] * process
        indicator = low[rest] - low.mean()
        gate = regression(among.gate, cross.gate, indicator, SETTINGS.gate_noise)[0]
        prior[i] = np.clip(low.mean() + gate, 0.01, 0.99)
    error = (y[:, None] - predicted) ** 2
    variance = np.array([error[~low, 0].mean(), error[low, 1].mean()])
    odds = np.log(np.stack([1 - prior, prior], 1))
    score = odds - 0.5 * error / variance - 0.5 * np.log(variance)
    return score[:, 1] > score[:, 0]


def test_a_fit_is_that_of_a_loop_over_the_labels():
    covariances, y, _ = two_regimes(num=40, seed=5, gap=6.0)
    train, test = np.arange(30), np.arange(30, 40)
    among, cross = cut(covariances, train, train), cut(covariances, test, train)
    steps, low = [], y[:30] < (y[:30].max() + y[:30].min()) / 2
    for _ in range(50):
        low = y[:30] < (y[:30][low].mean() + y[:30][~low].mean()) / 2
    for _ in range(2):
        steps.append(low)
        low = reference_step(among, y[:30], low)
    assert (steps[0] != low).any(), "the test needs labels that change their regime"
    mean, std = (np.array([f(y[:30][~low]), f(y[:30][low])]) for f in (np.mean, np.std))
    z = (y[:30] - mean[low.astype(int)]) / std[low.astype(int)]
    matrix = gram(among, low, low)
    by_regime = np.stack(
        [
            mean[k]
            + std[k]
            * regression(
                matrix, gram(cross, np.full(10, k == 1), low), z, SETTINGS.noise
            )
            for k in (0, 1)
        ],
        1,
    )
    gate = regression(among.gate, cross.gate, low - low.mean(), SETTINGS.gate_noise)
    gate = np.clip(low.mean() + gate, 0, 1)

    # Rows that are not seen hold anything.
    order = np.random.default_rng(1).permutation(34)
    padded = np.resize(train, 34)[order]
    seen = np.array(order < 30)
    labels = np.where(seen, y[padded], 1e3)
    with jax.enable_x64(True):
        fitted = regimes.fit(
            cut(covariances, padded, padded), labels, seen, settings=SETTINGS, steps=2
        )
        prediction = regimes.predict(fitted, cut(covariances, test, padded))
    np.testing.assert_array_equal(fitted.low[seen], low[padded[seen]])
    assert not fitted.low[~seen].any()
    np.testing.assert_allclose(prediction.by_regime, by_regime, rtol=1e-8)
    np.testing.assert_allclose(prediction.low, gate, atol=1e-8)
    expected = (1 - gate) * by_regime[:, 0] + gate * by_regime[:, 1]
    np.testing.assert_allclose(prediction.mean, expected, rtol=1e-8)


def test_hidden_regimes_are_recovered_where_levels_overlap():
    covariances, y, low = two_regimes(num=200)
    seen = np.ones(200, bool)
    first = np.asarray(regimes.two_levels(jnp.asarray(y), jnp.asarray(seen)))
    assert (first != low).mean() > 0.05
    np.testing.assert_array_equal(regimes.fit(covariances, y, seen).low, low)


def test_labels_of_one_value_are_predicted_as_it():
    covariances, _, _ = two_regimes(num=10)
    fitted = regimes.fit(covariances, np.full(10, 3.0), np.arange(10) < 7)
    np.testing.assert_allclose(
        regimes.predict(fitted, covariances).mean, 3.0, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(9)}, "wanted shared"),
        ({"settings": regimes.Settings(correlation=1.5)}, "correlation must be from 0"),
        ({"settings": regimes.Settings(noise=0)}, "noise must be positive"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_bad_input_of_a_mixture(change, message):
    covariances, y, _ = two_regimes(num=10)
    inputs = {"covariances": covariances, "y": y, "seen": y > 0} | change
    with pytest.raises(ValueError, match=message):
        regimes.fit(**inputs)


def test_kernels_of_tasks_against_loops():
    rng = np.random.default_rng(0)
    classes = np.stack([rng.permutation(9)[:4] for _ in range(5)])
    embeddings = rng.normal(size=(9, 3)) + 5
    unit = embeddings - embeddings.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    means = np.array([unit[row].mean(0) for row in classes])
    square = ((means[:, None] - means[None]) ** 2).sum(-1)
    statistics = []
    for row in classes:
        pairs = [(i, j) for i in row for j in row if i != j]
        cosines = {pair: unit[pair[0]] @ unit[pair[1]] for pair in pairs}
        nearest = [max(c for (i, _), c in cosines.items() if i == k) for k in row]
        values = np.array(list(cosines.values()))
        statistics.append([values.mean(), (values**2).mean(), np.mean(nearest)])
    scaled = np.array(statistics) - np.mean(statistics, 0)
    scaled /= scaled.std(0)
    shared = [[len(set(a) & set(b)) / 4 for b in classes] for a in classes]
    kernels = tasks.task_kernels(classes, embeddings)
    np.testing.assert_allclose(kernels.shared, shared, rtol=1e-6)
    expected = np.exp(-square / square.mean())
    np.testing.assert_allclose(kernels.embedding, expected, rtol=1e-4)
    np.testing.assert_allclose(kernels.similarity, scaled @ scaled.T / 3, atol=1e-3)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.zeros((3, 2)), "classes must be integers"),
        (np.zeros((3, 1), int), "at least two classes"),
        (np.array([[0, 1], [2, 4]]), "from 0 to 3, not 0 to 4"),
        (np.array([[0, 1], [2, 2]]), "task 1 has a class twice"),
    ],
)
def test_bad_input_of_kernels_of_tasks(classes, message):
    with pytest.raises(ValueError, match=message):
        tasks.task_kernels(classes, np.ones((4, 2)))
    with pytest.raises(ValueError, match="embeddings must be finite"):
        tasks.task_kernels(np.array([[0, 1]]), np.full((4, 2), np.nan))
