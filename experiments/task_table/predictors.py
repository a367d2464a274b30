"""Predictors of accuracy over tasks and cells, the controls among them.

A predictor takes records, computes what does not depend on labels, and returns a function
of the training rows that predicts all records. Hyperparameters of the mixture were chosen
on folds of the 4,230 training records: covariances by marginal likelihood, the rest by
cross-validation. Those of the controls are from the project's specification.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.task_table import network
from experiments.task_table.records import Records, cell_kernel
from jaxnas import gp
from jaxnas.predictors import regimes
from jaxnas.types import Array

# Training rows (m,), padded where `seen` (m,) is False -> predictions (n,).
Fit = Callable[[Array, Array], Array]
Predictor = Callable[[Records], Fit]

_RIDGE = 10.0  # penalty
_NOISE = 0.3  # of the controls, in units of the variance of accuracies
# Variances, in units of the variance of accuracies within a regime, and length-scales.
_SHARED, _EMBEDDING, _SIMILARITY, _CELL = 0.18, 0.59, 0.035, 0.155
_CELL_SCALE, _GATE_SCALE = 27.0, 16.0


def ridge(features: Callable[[Records], np.ndarray]) -> Predictor:
    """Ridge regression on features of a record, with a fixed penalty.

    Args:
      features: records -> (n, f).
    """

    def of_records(records: Records) -> Fit:
        x = jnp.asarray(features(records), jnp.float32)
        return functools.partial(_ridge, x, jnp.asarray(records.accuracy))

    return of_records


@jax.jit
def _ridge(x: Array, y: Array, rows: Array, seen: Array) -> Array:
    weights = seen.astype(x.dtype)
    total = weights.sum()
    centre, mean = weights @ x[rows] / total, weights @ y[rows] / total
    used = (x[rows] - centre) * weights[:, None]
    gram = used.T @ used + _RIDGE * jnp.eye(x.shape[1])
    slope = jnp.linalg.solve(gram, used.T @ (weights * (y[rows] - mean)))
    return mean + (x - centre) @ slope


def operation_pairs(records: Records) -> np.ndarray:
    """One-hot operations and products of two of them, (n, 465)."""
    x = records.operations
    first, second = np.triu_indices(x.shape[1])
    return (x[:, first] * x[:, second])[records.arch]


def class_indicators(records: Records) -> np.ndarray:
    """Which of the k classes a task has, (n, k)."""
    return _membership(records)[records.task]


def mean_rows(records: Records) -> np.ndarray:
    """Standardised mean classifier row of a task, (n, 1280)."""
    return _task_means(records, records.embeddings)


def mean_images(records: Records) -> np.ndarray:
    """Standardised mean features of one image of each class of a task, (n, 544)."""
    return _task_means(records, records.images)


def joined(*parts: Callable[[Records], np.ndarray]) -> Callable[[Records], np.ndarray]:
    """Features side by side."""
    return lambda records: np.concatenate([part(records) for part in parts], 1)


def _membership(records: Records) -> np.ndarray:
    member = np.zeros((len(records.classes), records.classes.max() + 1))
    np.put_along_axis(member, records.classes, 1.0, 1)
    return member


def _task_means(records: Records, embeddings: np.ndarray) -> np.ndarray:
    means = embeddings[records.classes].mean(1)[records.task]
    # Some features are the same for all tasks.
    return (means - means.mean(0)) / np.maximum(means.std(0), 1e-6)


def gaussian_process(covariance: Callable[[Records], Array]) -> Predictor:
    """Regression by one Gaussian process with unit signal and fixed noise.

    Args:
      covariance: records -> (n, n), in units of the variance of training accuracies.
    """

    def of_records(records: Records) -> Fit:
        y = jnp.asarray(records.accuracy)
        return functools.partial(_posterior_mean, covariance(records), y)

    return of_records


@jax.jit
def _posterior_mean(gram: Array, y: Array, rows: Array, seen: Array) -> Array:
    unit = gp.fit_standardisation(y[rows], seen)
    target = jnp.where(seen, gp.standardise(unit, y[rows]), 0.0)
    cross = jnp.where(seen[:, None], gram[rows], 0.0)
    matrix = gp.padded_covariance(cross[:, rows], seen, jnp.asarray(_NOISE))
    factor = jnp.linalg.cholesky(matrix)
    weights = jax.scipy.linalg.cho_solve((factor, True), target)
    return unit.mean + unit.std * (weights @ cross)


def cell_alone(records: Records) -> Array:
    """Covariance of the control that sees the cell and not the task."""
    cell = cell_kernel(records, True, 16.0)
    return cell[records.arch[:, None], records.arch]


def control(records: Records) -> Array:
    """Covariance of the stronger control, with shared classes as the task's part."""
    shared = records.kernels.shared
    return _control(records, 3 * shared, jnp.exp(-(1 - shared) / 0.3))


def control_rows(records: Records) -> Array:
    """Covariance of the same control with classifier rows as the task's part."""
    embedding = records.kernels.embedding
    return _control(records, 3 * embedding, embedding)


def _control(records: Records, task: Array, product: Array) -> Array:
    tasks = records.task[:, None], records.task
    return cell_alone(records) * (1 + 0.5 * product[tasks]) + task[tasks]


def one_regime(records: Records) -> Array:
    """Covariance of the mixture, for one Gaussian process."""
    shared, separate, _ = _mixture(records, True)
    return shared + separate


def mixture(table: bool) -> Predictor:
    """Mixture of two Gaussian processes, see `regimes`.

    Args:
      table: whether it knows accuracies of the cells on other datasets.
    """

    def of_records(records: Records) -> Fit:
        covariances, y = _mixture(records, table), jnp.asarray(records.accuracy)

        def fit(rows: Array, seen: Array) -> Array:
            cross = regimes.Covariances(*(c[:, rows] for c in covariances))
            among = regimes.Covariances(*(c[rows] for c in cross))
            fitted = regimes.fit(among, y[rows], seen)
            return regimes.predict(fitted, cross).mean

        return fit

    return of_records


def _mixture(records: Records, table: bool) -> regimes.Covariances:
    """Covariances (n, n) of the records."""
    kernels, cells = records.kernels, (records.arch[:, None], records.arch)
    task = _SHARED * kernels.shared + _EMBEDDING * kernels.embedding
    task += _SIMILARITY * kernels.similarity
    return regimes.Covariances(
        task[records.task[:, None], records.task],
        _CELL * cell_kernel(records, table, _CELL_SCALE)[cells],
        cell_kernel(records, table, _GATE_SCALE)[cells],
    )


MIXTURE, CONTROL = "mixture", "gp-classifier-rows"
PREDICTORS: dict[str, Predictor] = {
    MIXTURE: mixture(True),
    CONTROL: gaussian_process(control_rows),
    "mixture-no-table": mixture(False),
    "gp-mixture-covariance": gaussian_process(one_regime),
    "gp-shared-classes": gaussian_process(control),
    "gp-cell-alone": gaussian_process(cell_alone),
    "ridge-pairs-classes": ridge(joined(operation_pairs, class_indicators)),
    "ridge-pairs-classifier-rows": ridge(joined(operation_pairs, mean_rows)),
    "ridge-pairs-one-image": ridge(joined(operation_pairs, mean_images)),
    "ridge-classes": ridge(class_indicators),
    "ridge-pairs": ridge(operation_pairs),
    network.NAME: network.network,
}
PUBLISHED_ONLY = (network.NAME,)  # too slow for many folds
