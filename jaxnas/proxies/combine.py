"""Scores made of scores, on the host: arrays (n,) of one candidate set.

A score that is not finite is the worst there is, whatever it is: -inf and NaN alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ranks(score: np.ndarray) -> np.ndarray:
    """Ranks (n,) from 1, the worst, to n; equal scores have their average rank."""
    score = np.asarray(score, np.float64)
    score = np.where(np.isnan(score), -np.inf, score)
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place]


def rank_sum(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of ln(rank / n) over scores (Lee and Ham, 2024, eq. 12).

    AZ-NAS is that of expressivity, progressivity, trainability and flops.

    Raises: `ValueError` if there are none, or of different numbers of architectures.
    """
    if len({len(score) for score in scores}) != 1:
        lengths = [len(score) for score in scores]
        raise ValueError(f"scores must be of one length, found {lengths}")
    return np.sum([np.log(ranks(s) / len(s)) for s in scores], axis=0)


def _unit(score: np.ndarray) -> np.ndarray:
    low, high = score.min(), score.max()
    return (score - low) / (high - low if high > low else 1.0)


def convex(
    hook_logdet: np.ndarray,
    synflow: np.ndarray,
    alpha: float = 0.6,
    *,
    log: bool = False,
) -> np.ndarray:
    """alpha hook_logdet + (1 - alpha) synflow, each scaled to [0, 1] over the set.

    As published -inf becomes 0 first, and synflow is raw, so that but for its largest
    values hook_logdet alone counts.

    Args:
      log: take log10 of synflow, 0 where it is 0: better, with alpha 0.8.

    Raises: `ValueError` for an alpha outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, not {alpha}")
    hook = np.where(np.isfinite(hook_logdet), hook_logdet, 0.0)
    flow = np.asarray(synflow, np.float64)
    if log:
        flow = np.where(flow > 0, np.log10(np.where(flow > 0, flow, 1.0)), 0.0)
    return alpha * _unit(hook) + (1 - alpha) * _unit(flow)
