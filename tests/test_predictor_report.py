"""The report on predictors of accuracy over tasks and cells."""

import csv
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from experiments import predictor_report as driver
from experiments.task_table import (
    class_effects,
    evaluation,
    network,
    predictors,
    records,
)
from jaxnas.predictors.tasks import task_kernels

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def small():
    """60 records of 12 cells on 20 tasks of 3 of 9 classes, at two levels."""
    rng = np.random.default_rng(0)
    classes = np.stack([rng.permutation(9)[:3] for _ in range(20)])
    embeddings = rng.normal(size=(9, 5)).astype(np.float32)
    operations = np.eye(5)[rng.integers(5, size=(12, 6))].reshape(12, -1)
    arch, task = rng.integers(12, size=60), rng.integers(20, size=60)
    accuracy = 70 + rng.normal(size=9)[classes].sum(1)[task] - 20 * (arch < 3)
    return records.Records(
        accuracy.astype(np.float32),
        arch,
        task,
        rng.permutation(60),
        operations,
        rng.normal(size=(12, 9)),
        classes,
        embeddings,
        embeddings[:, :2],
        task_kernels(classes, embeddings),
    )


def test_metrics_are_those_of_repeated_tasks():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 30)).round(1)
    task = rng.integers(8, size=30)
    counts = rng.integers(3, size=8)[task]
    repeated = np.repeat(np.arange(30), counts)
    got = evaluation.metrics(x, y, task, np.stack([np.ones(30), counts]))
    for rows, (pearson, spearman, _) in zip(
        (np.arange(30), repeated), got, strict=True
    ):
        assert pearson == pytest.approx(stats.pearsonr(x[rows], y[rows])[0])
        assert spearman == pytest.approx(stats.spearmanr(x[rows], y[rows])[0], abs=1e-5)
    for weight, (_, _, pairs) in zip((np.ones(30), counts), got, strict=True):
        correct = total = 0
        for i in range(30):
            for j in range(i):
                if task[i] == task[j]:
                    order = np.sign((x[i] - x[j]) * (y[i] - y[j]))
                    correct += weight[i] * (1 + order) / 2
                    total += weight[i]
        assert pairs == pytest.approx(correct / total)
    np.testing.assert_allclose(evaluation.metrics(x, y, task), got[0])


def test_folds_keep_tasks_together_and_bootstrap_too(small):
    fold = evaluation.task_folds(small.task, 5, 0)
    assert all(
        len(np.unique(fold[small.task == t])) == 1 for t in np.unique(small.task)
    )
    sizes = [len(np.unique(small.task[fold == f])) for f in range(5)]
    assert max(sizes) - min(sizes) <= 1
    assert (fold != evaluation.task_folds(small.task, 5, 1)).any()
    weights = evaluation.bootstrap_by_task(small.task, 3, 0)
    for task in np.unique(small.task):
        assert (np.ptp(weights[:, small.task == task], axis=1) == 0).all()


def test_a_fold_is_predicted_from_the_others_alone(small):
    division = driver.divisions(small, "folds", 1)[0]

    def mark(rows, seen):
        # 1 for training records, 0 for those that are predicted.
        return jnp.zeros(60).at[rows].max(seen.astype(float))

    assert (driver.out_of_fold(mark, division) == 0).all()


def test_divisions_leave_the_published_validation_out(small, monkeypatch):
    monkeypatch.setattr(records, "NUM_VALIDATION", 10)
    (published,) = driver.divisions(small, "published", 5)
    assert set(np.flatnonzero(published.fold == 0)) == set(small.order[:10])
    inner = driver.divisions(small, "inner", 2)
    assert len(inner) == 2 and not np.isin(small.order[:10], inner[0].among).any()


@pytest.mark.parametrize("name", ["ridge-classes", predictors.CONTROL])
def test_controls_against_a_library(small, name):
    rows, num = np.resize(np.arange(40), 45), 40
    fit = predictors.PREDICTORS[name](small)
    got = fit(jnp.asarray(rows), jnp.arange(45) < num)
    y = small.accuracy
    if name == "ridge-classes":
        x = predictors.class_indicators(small)
        expected = Ridge(alpha=10).fit(x[:num], y[:num]).predict(x)
    else:
        gram = np.asarray(predictors.control_rows(small), np.float64)
        model = KernelRidge(alpha=0.3, kernel="precomputed")
        z = (y[:num] - y[:num].mean()) / y[:num].std()
        model.fit(gram[:num, :num], z)
        expected = y[:num].mean() + y[:num].std() * model.predict(gram[:, :num])
    np.testing.assert_allclose(got, expected, atol=5e-3)


def test_the_mixture_predicts_hidden_levels(small):
    fit = predictors.PREDICTORS[predictors.MIXTURE](small)
    got = np.asarray(fit(jnp.arange(45), jnp.ones(45, bool)))[45:]
    assert np.abs(got - small.accuracy[45:]).mean() < 4


def test_effects_are_predicted_from_other_classes():
    rng = np.random.default_rng(2)
    gram = class_effects.cosine_kernel(rng.normal(size=(40, 4)))
    y = np.asarray(gram) @ rng.normal(size=40)
    first = class_effects.cross_validated(gram, y, 0)
    assert np.corrcoef(first, y)[0, 1] > 0.8
    changed = y + 5 * (np.arange(40) == 7)
    second = class_effects.cross_validated(gram, changed, 0)
    assert first[7] == pytest.approx(second[7], abs=1e-4)
    assert np.abs(first - second).max() > 0.05
    # The penalty is among those that leave-one-out regressions choose from.
    gram = np.asarray(gram)
    train = np.arange(36)  # as many as of nine folds: compiled already
    got = class_effects.kernel_ridge(jnp.asarray(gram), jnp.asarray(train), y[train])
    z = y[train] - y[train].mean()
    errors, predictions = [], []
    for penalty in 10.0 ** np.arange(-3, 2.1, 0.5):
        residual = []
        model = KernelRidge(alpha=penalty, kernel="precomputed")
        for i in train:
            rest = np.delete(train, i)
            model.fit(gram[np.ix_(rest, rest)], z[rest])
            residual.append(z[i] - model.predict(gram[np.ix_([i], rest)])[0])
        errors.append(np.mean(np.square(residual)))
        model.fit(gram[:36, :36], z)
        predictions.append(y[train].mean() + model.predict(gram[:, :36]))
    np.testing.assert_allclose(got, predictions[np.argmin(errors)], atol=2e-3)


def test_the_report_resumes(small, monkeypatch, tmp_path):
    effects = [class_effects.ClassEffects("rows", 9, 0.5, 0.1, 0.1)]
    monkeypatch.setattr(records, "NUM_VALIDATION", 20)
    monkeypatch.setattr(records, "SECOND_PROCEDURE", 50)
    monkeypatch.setattr(driver, "read_records", lambda: small)
    monkeypatch.setattr(driver.class_effects, "class_effects", lambda *_: effects)
    names = ("ridge-classes", predictors.CONTROL)
    config = driver.Config(("published", "folds"), names, 2, 5, str(tmp_path / "out"))
    tables = driver.main(config)
    assert [row[:3] for row in tables["differences"]] == [
        [scheme, part, "ridge-classes"]
        for scheme in ("published", "folds")
        for part in ("all", "first part")
    ]
    first, control, gap = (
        tables[name][row][3]
        for name, row in (("predictions", 0), ("predictions", 1), ("differences", 0))
    )
    assert np.isfinite([first, control]).all() and gap == pytest.approx(first - control)
    monkeypatch.setattr(driver, "out_of_fold", None)
    assert driver.main(config) == tables
    with open(tmp_path / "out" / "predictions.csv") as file:
        assert len(list(csv.DictReader(file))) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemes": ("all",)}, "scheme"),
        ({"predictors": ("gp",)}, "predictor"),
        ({"partitions": 0}, "partitions"),
        ({"samples": 10**9}, "--samples must be at most 10000"),
    ],
)
def test_bad_input_of_the_report(change, message, tmp_path):
    config = dataclasses.replace(driver.Config(out=str(tmp_path / "out")), **change)
    with pytest.raises(ValueError, match=message):
        driver.main(config)
    assert not (tmp_path / "out").exists()


def test_the_published_records(shared):
    table = records.read_records()
    assert table.accuracy.shape == (4630,) and len(table.training) == 4230
    training = table.accuracy[table.training].astype(np.float64)
    assert training.mean() == pytest.approx(71.5715, abs=1e-3)
    # The second procedure: 17 points lower, in the order of the tasks.
    second = table.second
    assert (np.diff(table.task[second][:100]) > 0).all()
    gap = table.accuracy[~second].mean() - table.accuracy[second].mean()
    assert gap == pytest.approx(16.6, abs=0.1)


def test_the_network_sees_each_record_as_a_task(small):
    rows = network.principal_components(small.embeddings, 128)
    data = network.as_data(small, rows)
    assert data.types.shape == (60, 1, 8)
    operations = data.types[:, 0, 1:7] - 2
    expected = small.operations.reshape(-1, 6, 5).argmax(-1)[small.arch]
    np.testing.assert_array_equal(operations, expected)
    np.testing.assert_array_equal(data.first, small.classes[small.task])
    some = network.take(data, np.array([3, 5]))
    np.testing.assert_array_equal(some.accuracy[:, 0], small.accuracy[[3, 5]])
    # All components keep the angles between centred rows.
    centred = small.embeddings - small.embeddings.mean(0)
    gram = np.asarray(data.x) @ np.asarray(data.x).T
    ratio = gram / (centred @ centred.T)
    np.testing.assert_allclose(ratio, np.full_like(ratio, ratio[0, 0]), rtol=1e-3)
    assert network.principal_components(small.embeddings, 2).shape == (9, 2)
