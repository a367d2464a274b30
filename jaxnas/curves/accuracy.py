"""Accuracy of predicted learning curves against curves that were not fitted on.

    scores = curve_scores(true, predicted)
    scores["kendall"], scores["final_kendall"]

The metrics of Yan et al. (2021, section 3.2) and of their programs. Kendall's and
Spearman's correlations and R2 are of all architectures at one epoch; the average over the
epochs says how well whole curves are predicted, the last epoch how well a search that
trains to the end would be served. What needs several trainings of an architecture is in
`repeated`. All of it runs on the host, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxnas import ranks
from jaxnas.types import check_shapes

# (true (n,), predicted (n,)) of one epoch -> one number.
Metric = Callable[[np.ndarray, np.ndarray], float]


def mean_squared_error(true: np.ndarray, predicted: np.ndarray) -> float:
    """The mean squared error, in squared units of the curves."""
    return float(np.mean((true - predicted) ** 2))


def root_mean_squared_error(true: np.ndarray, predicted: np.ndarray) -> float:
    """The root mean squared error; its average over epochs is a mean of roots."""
    return float(np.sqrt(mean_squared_error(true, predicted)))


def coefficient_of_determination(true: np.ndarray, predicted: np.ndarray) -> float:
    """R2 = 1 - (residual sum of squares) / (total sum of squares).

    Args:
      true: (n,).
      predicted: (n,).

    Returns: 1 for exact predictions, 0 for the mean of `true`; NaN if all of `true` are
      equal.
    """
    total = np.sum((true - true.mean()) ** 2)
    residual = np.sum((true - predicted) ** 2)
    return float(1 - residual / total) if total > 0 else float("nan")


def kendall(
    true: np.ndarray, predicted: np.ndarray, decimals: int | None = None
) -> float:
    """Kendall's tau-b.

    Args:
      true: (n,), n >= 2.
      predicted: (n,).
      decimals: digits after the point that predictions are rounded to, so that
        differences too small to matter become ties: the sparse tau of Yu et al. (2020).
        None: not rounded.

    Returns: NaN if all of `true` or all of the rounded predictions are equal.
    """
    if decimals is not None:
        predicted = np.round(predicted, decimals)
    return float(ranks.kendall(ranks.ordinal(true), ranks.ordinal(predicted)))


def spearman(true: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's rank correlation; NaN if all of `true` or of `predicted` are equal."""
    # SciPy takes longer to import than all of this library.
    from scipy.stats import rankdata

    x, y = (rankdata(values) for values in (true, predicted))
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 0 else float("nan")


METRICS: dict[str, Metric] = {
    "mse": mean_squared_error,
    "rmse": root_mean_squared_error,
    "r2": coefficient_of_determination,
    "kendall": kendall,
    "kendall_2_decimals": lambda true, predicted: kendall(true, predicted, 2),
    "kendall_1_decimal": lambda true, predicted: kendall(true, predicted, 1),
    "spearman": spearman,
}
"""The metrics of one epoch, by name."""

LOWER_IS_BETTER = frozenset({"mse", "rmse"})
"""The metrics of which less is better."""


def by_epoch(
    true: ArrayLike, predicted: ArrayLike, metrics: Sequence[str] = tuple(METRICS)
) -> dict[str, np.ndarray]:
    """Computes metrics at every epoch.

    Args:
      true: (n, E) curves of n >= 2 architectures.
      predicted: (n, E) curves of the same architectures.
      metrics: names of `METRICS`.

    Returns: (E,) float64 for each metric.
    Raises: `ValueError` for arrays of other shapes, values that are not finite, and
      unknown metrics.
    """
    true, predicted = np.asarray(true, float), np.asarray(predicted, float)
    check_shapes(true=(true, "ne"), predicted=(predicted, "ne"))
    if len(true) < 2 or not true.shape[1]:
        raise ValueError(
            f"wanted 2 curves or more of 1 epoch or more, not {true.shape}"
        )
    for name, curves in (("true", true), ("predicted", predicted)):
        bad = np.flatnonzero(~np.isfinite(curves).all(1))
        if len(bad):
            raise ValueError(
                f"{name}: {len(bad)} of {len(curves)} curves have values that are not "
                f"finite; the first is row {bad[0]}"
            )
    if unknown := set(metrics) - set(METRICS):
        raise ValueError(
            f"unknown metric {min(unknown)!r}: wanted some of {', '.join(METRICS)}"
        )
    columns = list(zip(true.T, predicted.T, strict=True))
    return {m: np.array([METRICS[m](*pair) for pair in columns]) for m in metrics}


def curve_scores(
    true: ArrayLike, predicted: ArrayLike, metrics: Sequence[str] = tuple(METRICS)
) -> dict[str, float]:
    """Computes the average over epochs and the final value of metrics.

    Args:
      true: (n, E) curves of n >= 2 architectures.
      predicted: (n, E) curves of the same architectures.
      metrics: names of `METRICS`.

    Returns: for each metric m the mean over epochs as m, and that of the last epoch as
      final_m. NaN where a metric is not defined at an epoch.
    Raises: `ValueError` as `by_epoch`.
    """
    return summarise(by_epoch(true, predicted, metrics))


def summarise(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Averages and final values of metrics by epoch, named as in `curve_scores`."""
    average = {name: float(value.mean()) for name, value in values.items()}
    return average | {f"final_{n}": float(value[-1]) for n, value in values.items()}
