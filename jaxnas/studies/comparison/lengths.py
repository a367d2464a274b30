"""Runs of other lengths and budgets: which of them a comparison can read instead.

The runs of a folder begin alike, whatever their length. A run with another budget is the
same as long as neither budget refuses an evaluation that the other one pays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from jaxnas.studies.comparison.settings import Config


def limit_of(config: Config) -> float:
    """The budget as a number: infinity where there is no limit."""
    return math.inf if config.budget is None else config.budget


def as_long(
    config: Config, part: dict[str, np.ndarray], *, workers: int = 1
) -> dict[str, np.ndarray] | None:
    """Cuts the arrays of a saved chunk to the evaluations and the budget of the config.

    Args:
      config: how long the runs are to be.
      part: the arrays of the chunk.
      workers: simulated workers of each run.

    Returns: None if the runs were shorter, or if runs with this budget may differ: they
      are run again.
    """
    score = part.get("score", np.zeros((0, 0)))
    if score.ndim != 2 or score.shape[1] < config.evaluations or "budget" not in part:
        return None
    cut = {n: x[:, : config.evaluations] for n, x in part.items() if x.ndim == 2}
    # With several workers, evaluations that finish later have been paid before.
    if not _same_within(limit_of(config), part, part if workers > 1 else cut):
        return None
    # Chunks of earlier versions have no overhead.
    cut["budget"] = np.full(len(score), limit_of(config))
    return {"overhead": np.full(len(score), np.nan)} | part | cut


def _same_within(
    limit: float, part: Mapping[str, np.ndarray], runs: Mapping[str, np.ndarray]
) -> bool:
    """Whether runs are the same with another budget.

    Args:
      limit: the other budget.
      part: with the budget of the runs, infinity where there was none.
      runs: their evaluations, in the order in which they were paid.
    """
    before = part["budget"]
    if (before == limit).all():
        return True
    if (before <= limit).all():  # more can be paid: nothing may have been refused
        return bool(np.all(runs["asked"]))
    cost = np.asarray(runs["cost"], float)
    spent = np.nansum(cost, axis=1).max(initial=0.0)
    # Whole numbers add up exactly in single precision, others nearly.
    whole = spent < 2**24 and np.equal(np.mod(cost, 1), 0).all()
    fits = spent <= limit * (1 if whole else 1 - 1e-5)
    return bool((before > limit).all() and fits)


def is_longer(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> bool:
    """Whether new runs hold those of a saved chunk.

    Args:
      old: arrays of a saved chunk; those of earlier versions without a budget are of no
        use.
      new: arrays of the same seeds.
    """
    score = old.get("score")
    if "budget" not in old or score is None or score.ndim != 2:
        return True
    same = np.array_equal(old["budget"], new["budget"])
    return same and score.shape[1] <= new["score"].shape[1]
