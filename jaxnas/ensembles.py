"""Several scores of the same architectures as one, without any label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from jaxnas import ranks


def log_rank_sum(scores: Sequence[ArrayLike]) -> np.ndarray:
    """The sum of ln(rank / n) over scores, as AZ-NAS aggregates (Lee and Ham, 2024).

    One bad rank weighs more than one good rank: a cell has to be good by every score.

    Args:
      scores: m vectors (n,), higher is better; ranks are from 1, the worst, means for
        equal ones. -inf and NaN are the worst.

    Returns: (n,) float64, at most 0. It depends on which architectures there are.
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
    """share * first + (1 - share) * second, each scaled to 0 to 1 by its extremes.

    The combined score of the Free-Training NAS project, with hook_logdet as `first` and
    synflow as `second`. As there, -inf becomes 0 before the scaling, and synflow is
    taken as it is: it spans 50 decades, so that next to nothing is left of it but the
    best cell; give its logarithm to change that. Their share 0.6 was chosen by test
    accuracy.

    Args:
      first, second: (n,); NaN is refused.

    Returns: (n,) float64 between 0 and 1.
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
    orders = [ranks.ordinal(score) for score in scores]
    if len({len(order) for order in orders}) != 1:
        lengths = ", ".join(str(len(order)) for order in orders) or "none"
        raise ValueError(f"wanted scores of the same architectures, found {lengths}")
    return orders
