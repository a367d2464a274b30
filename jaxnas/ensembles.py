"""Ensembles of scores of untrained networks: several scores as one, without labels.

Scores differ in scale by many decades, so they are combined by rank (`log_rank_sum`) or
after scaling (`convex_combination`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from jaxnas import ranks


def log_rank_sum(scores: Sequence[ArrayLike]) -> np.ndarray:
    """Sums ln(rank / n) over scores, the aggregation of AZ-NAS (Lee and Ham, 2024).

    One bad rank weighs more than one good rank: a cell has to be good by every score.

    Args:
      scores: m vectors (n,), higher is better; ranks are from 1, the worst, and equal
        scores have their mean rank. -inf and NaN are the worst.

    Returns: (n,) float64, at most 0. The sum of one architecture depends on the others.
    Raises: `ValueError` for no score, and for scores of different lengths.
    """
    orders = _orders(scores)
    num = len(orders[0])
    logs = [
        np.log(np.asarray(ranks.average_ranks(o), np.float64) / num) for o in orders
    ]
    return np.sum(logs, axis=0)


def convex_combination(
    first: ArrayLike, second: ArrayLike, share: float = 0.6
) -> np.ndarray:
    """Computes share * first + (1 - share) * second, each scaled to 0 to 1 by its extremes.

    The combined score of the Free-Training NAS project, with hook_logdet as `first` and
    synflow as `second`. As there, -inf becomes 0 before the scaling, and synflow is not
    transformed: it spans 50 decades, so that after scaling almost all cells are 0; give
    its logarithm to change that. Their share 0.6 was chosen by test accuracy.

    Args:
      first: (n,) scores.
      second: (n,) scores.
      share: weight of `first`, 0 to 1.

    Returns: (n,) float64 between 0 and 1.
    Raises: `ValueError` for scores that are not finite (but -inf) or all equal, for
      different lengths, and for a share out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be 0 to 1, not {share}")
    _orders((first, second))
    scaled = []
    for score in (first, second):
        score = np.asarray(score, np.float64)
        score = np.where(np.isneginf(score), 0.0, score)
        low, high = score.min(), score.max()
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ValueError(f"scores from {low} to {high} cannot be scaled to 0 to 1")
        scaled.append((score - low) / (high - low))
    return share * scaled[0] + (1 - share) * scaled[1]


def _orders(scores: Sequence[ArrayLike]) -> list[np.ndarray]:
    """`ranks.ordinal` of each score; `ValueError` unless all are of one length."""
    orders = [ranks.ordinal(score) for score in scores]
    if len({len(order) for order in orders}) != 1:
        lengths = ", ".join(str(len(order)) for order in orders) or "none"
        raise ValueError(f"wanted scores of the same architectures, found {lengths}")
    return orders
