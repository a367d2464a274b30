"""Quality of models on the tasks of a meta-database, for reports on them.

for part, data in held_out(database).items():
    row = agreement(predict_tasks(predictor, key, data), data)
accuracy = expected_accuracy(-type_nll(generator, key, grid), grid.accuracy)
"""

from __future__ import annotations

import numpy as np

from jaxnas import ranks
from jaxnas.datasets import meta_examples
from jaxnas.datasets.meta_database import MetaDatabase
from jaxnas.datasets.tasks import PARTS
from jaxnas.models.meta_data import MetaData


def held_out(database: MetaDatabase) -> dict[str, MetaData]:
    """Collects the records of the parts that have tasks and are not for training.

    Args:
      database: of the tasks.
    """
    parts = {PARTS[task.part] for task in database.tasks} - {"train"}
    return {n: meta_examples.examples(database, n) for n in PARTS if n in parts}


def exchanged(data: MetaData) -> MetaData:
    """Gives each task the images of the next one, as a control.

    Args:
      data: of all tasks.
    """
    return data._replace(
        first=np.roll(data.first, 1, 0), counts=np.roll(data.counts, 1, 0)
    )


def agreement(predicted: np.ndarray, data: MetaData) -> dict[str, float]:
    """Correlations over all records, and pairs within tasks in the right order.

    Without two different values there is no correlation, nor a share of no pairs.

    Args:
      predicted: (t, n) accuracies.
      data: the records.
    """
    present, accuracy = data.present, np.asarray(data.accuracy)
    x, y = predicted[present], accuracy[present]
    signs = [np.sign(a[:, :, None] - a[:, None]) for a in (predicted, accuracy)]
    pairs = present[:, :, None] & present[:, None] & (signs[1] > 0)
    right = (signs[0] > 0)[pairs] + 0.5 * (signs[0] == 0)[pairs]
    row = {"number of pairs": float(pairs.sum())}
    if np.ptp(x) > 0 and np.ptp(y) > 0:
        row["pearson"] = float(np.corrcoef(x, y)[0, 1])
        row["spearman"] = float(ranks.spearman(ranks.ordinal(x), ranks.ordinal(y)))
    if len(right):
        row["pairs within tasks"] = float(right.mean())
    return row


def expected_accuracy(log_probability: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Mean accuracy of the cells of a distribution that are on the grid of a task.

    On a grid of uniform random cells this estimates the mean accuracy of the samples of a
    generator without a training, by importance sampling with normalised weights.

    Args:
      log_probability: (t, c) of the cells of the grid, up to a constant for each task.
      accuracy: (t, c) of the cells.

    Returns: (t,).
    """
    weight = np.exp(log_probability - log_probability.max(1, keepdims=True))
    return (weight * accuracy).sum(1) / weight.sum(1)
