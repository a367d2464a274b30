"""Search on the grid of a meta-database: cells in an order that was decided beforehand.

The cells of the grid were trained from two seeds on every task: by the accuracies of the
first a cell is chosen, those of the second are reported.
"""

from __future__ import annotations

import numpy as np
from scipy.special import comb
from sklearn.neighbors import KNeighborsRegressor

from jaxnas.models.meta_data import MetaData


def one_hot(data: MetaData) -> np.ndarray:
    """Operations (t, n, 30) of the graphs of cells."""
    return np.eye(5)[data.types[..., 1:-1] - 2].reshape(*data.types.shape[:2], 30)


def additive_ridge(data: MetaData, penalty: float = 10.0) -> np.ndarray:
    """Fits the effects of operations on accuracies within tasks, with equal weights.

    Args:
      data: for meta-training.
      penalty: of the squared effects.

    Returns: (30,) percent, of the operations at each position.
    """
    weight = data.present[..., None] / data.present.sum(1)[:, None, None]
    x, y = one_hot(data), data.accuracy[..., None]
    x, y = (a - (weight * a).sum(1, keepdims=True) for a in (x, y))
    x, y = (a[data.present] for a in (x, y))
    return np.linalg.solve(x.T @ x + penalty * np.eye(30), x.T @ y)[:, 0]


def cells_of(data: MetaData) -> np.ndarray:
    """Operations (m, 6) of the cells of all records, repeated ones included."""
    return data.types[data.present][:, 1:-1] - 2


def frequencies(cells: np.ndarray) -> np.ndarray:
    """Shares (6, 5) of the operations at each position.

    Args:
      cells: (m, 6) that are counted; every count is one larger.
    """
    counts = np.eye(5)[cells].sum(0) + 1
    return counts / counts.sum(1, keepdims=True)


def log_probabilities(data: MetaData, cells: np.ndarray) -> np.ndarray:
    """Log-probabilities (t, n) of cells by the frequencies of others.

    Args:
      data: of the cells.
      cells: (m, 6) whose operations are counted.
    """
    return one_hot(data) @ np.log(frequencies(cells)).ravel()


def task_ridge(train: MetaData, data: MetaData, penalty: float = 10.0) -> np.ndarray:
    """Predicts accuracies by a ridge regression on cells and tasks: a control.

    Args:
      train: what it is fitted to.
      data: of the tasks that are predicted.
      penalty: of the squared coefficients.

    Returns: (t, n).
    """
    inputs = _inputs(train, train), _inputs(train, data)
    x, y = inputs[0][train.present], train.accuracy[train.present]
    shift, level = x.mean(0), y.mean()
    kernel = (x - shift) @ (x - shift).T + penalty * np.eye(len(x))
    weights = (x - shift).T @ np.linalg.solve(kernel, y - level)
    return (inputs[1] - shift) @ weights + level


def task_neighbours(train: MetaData, data: MetaData, count: int = 40) -> np.ndarray:
    """Predicts accuracies by the mean of the nearest records: a control.

    Args:
      train: the records.
      data: of the tasks that are predicted.
      count: of records in a mean, at most as many as there are.

    Returns: (t, n).
    """
    x, y = _inputs(train, train)[train.present], train.accuracy[train.present]
    model = KNeighborsRegressor(min(count, len(x))).fit(x, y)
    wanted = _inputs(train, data)
    return model.predict(wanted.reshape(-1, wanted.shape[-1])).reshape(wanted.shape[:2])


def _inputs(train: MetaData, data: MetaData) -> np.ndarray:
    """Numbers (t, n, d) of the cells and tasks, in which controls are fitted.

    Operations, logarithm and reciprocal of the number of classes, and mean features of the
    images, standardised over the tasks for training; the scales of these are fixed.
    """
    means = [_mean_features(part) for part in (train, data)]
    count = (data.counts > 0).sum(1, keepdims=True)
    features = (means[1] - means[0].mean(0)) / means[0].std(0).mean() / 3
    task = np.concatenate([5 * np.log(count), 5 / count, features], 1)
    wide = task[:, None].repeat(data.types.shape[1], 1)
    return np.concatenate([one_hot(data), wide], 2)


def _mean_features(data: MetaData) -> np.ndarray:
    """Mean features (t, F) of the classes of each task."""
    return np.stack(
        [
            np.mean(
                [data.x[i : i + n].mean(0) for i, n in zip(*rows, strict=True) if n], 0
            )
            for rows in zip(data.first, data.counts, strict=True)
        ]
    )


def best_of(order: np.ndarray, choose: np.ndarray, report: np.ndarray) -> np.ndarray:
    """Trains the first cells of an order, and reports the one chosen among them.

    Args:
      order: (t, k) cells of each task.
      choose: (t, c) accuracies by which one of the k is chosen.
      report: (t, c) accuracies from the other seed.

    Returns: (t,) reported accuracies.
    """
    chosen = np.take_along_axis(choose, order, 1).argmax(1)[:, None]
    return np.take_along_axis(report, np.take_along_axis(order, chosen, 1), 1)[:, 0]


def random_search(choose: np.ndarray, report: np.ndarray, count: int) -> np.ndarray:
    """Expects the reported accuracy of the best of `count` different random cells.

    Args:
      choose: (t, c) accuracies by which the best is chosen.
      report: (t, c) accuracies from the other seed.
      count: of cells, at most c.

    Returns: (t,).
    """
    cells = choose.shape[1]
    # The best of the sample has rank r (from 0) if all others rank behind it.
    rank = np.arange(cells)
    weight = comb(cells - 1 - rank, count - 1) / comb(cells, count)
    order = np.argsort(-choose, 1, kind="stable")
    return np.take_along_axis(report, order, 1) @ weight


def paired(value: np.ndarray, control: np.ndarray) -> dict[str, float]:
    """Mean difference from a control over tasks (t,), and its standard error.

    One task has no standard error.
    """
    difference = value - control
    row, count = {"difference": float(difference.mean())}, len(difference)
    if count > 1:
        row["error"] = float(difference.std(ddof=1) / np.sqrt(count))
    return row
