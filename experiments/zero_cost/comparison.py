"""How zero-cost scores rank architectures: correlations, the best-scored, recall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from experiments.zero_cost.score_columns import Score
from experiments.zero_cost.score_figures import Interval
from jaxnas import ranks

# As published: of the best-scored cells, and the share of all cells that counts as good.
TOP, GOOD = 64, 0.05
# Quantiles of the bootstrap samples at the ends of an interval.
SHARES = (0.025, 0.975)


class ScoreSummary(NamedTuple):
    """How one score ranks the cells of one dataset."""

    dataset: str
    score: str
    cells: int  # that have this score
    spearman: Interval
    kendall: Interval
    good: int  # of the 64 best-scored, how many are among the best 5 %
    best_row: int  # row of the best-scored cell in the table
    best_accuracy: float  # of this cell, in percent
    best_rank: int  # of this accuracy, 1 is the best
    seconds: float  # to score all cells; NaN where that is not known


class Comparison(NamedTuple):
    """The scores of one dataset."""

    summaries: dict[str, ScoreSummary]
    pairs: np.ndarray  # (m, m) Spearman's correlation between scores
    points: dict[str, tuple[np.ndarray, np.ndarray]]  # rank 0 to 1, and accuracy
    recalls: dict[str, np.ndarray]  # (k,) share of good cells among the best-scored
    accuracy: str  # the column


def compare(
    dataset: str,
    scores: Mapping[str, Score],
    accuracy: tuple[str, np.ndarray],
    counts: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> Comparison:
    """Compares the scores of one dataset with its accuracy, and with each other.

    Args:
      dataset: its name, for the summaries.
      scores: by name, of n cells each; NaN where a cell has no score.
      accuracy: the column's name, and its values (n,) in percent.
      counts: (k,) numbers of best-scored cells whose recall is measured.
      resamples: bootstrap samples of the intervals.
      seed: they are drawn from it.
    """
    column, truth = accuracy
    key = jax.random.key(seed)
    done = Comparison({}, _correlations(list(scores.values())), {}, {}, column)
    for name, score in scores.items():
        # NaN is no score at all; -inf is one.
        scored = np.flatnonzero(~np.isnan(score.value))
        order, true = (ranks.ordinal(x[scored]) for x in (score.value, truth))
        weights = ranks.bootstrap_weights(key, resamples, len(scored))
        by_accuracy, (best,) = ranks.average_ranks(-true), ranks.top(order, 1)
        good, top = max(1, round(GOOD * len(scored))), min(TOP, len(scored))
        done.summaries[name] = ScoreSummary(
            dataset,
            name,
            cells=len(scored),
            spearman=_interval(ranks.spearman, order, true, weights),
            kendall=_interval(ranks.kendall, order, true, weights),
            good=round(top * ranks.recall(order, true, top, good)),
            best_row=int(scored[best]),
            best_accuracy=float(truth[scored[best]]),
            best_rank=int(np.floor(by_accuracy[best])),
            seconds=float(score.seconds[scored].sum(dtype=float)),
        )
        rank = np.asarray(ranks.average_ranks(order)) / len(scored)
        done.points[name] = rank, truth[scored]
        sizes = [min(int(count), len(scored)) for count in counts]
        recalls = [ranks.recall(order, true, size, good) for size in sizes]
        done.recalls[name] = np.array(recalls)
    return done


def _correlations(scores: Sequence[Score]) -> np.ndarray:
    """Spearman's correlation (m, m) between scores, of the cells that have both."""
    pairs = np.ones((len(scores),) * 2)
    values = [score.value for score in scores]
    for i, first in enumerate(values):
        for j, second in enumerate(values[:i]):
            both = ~np.isnan(first) & ~np.isnan(second)
            x, y = (ranks.ordinal(v[both]) for v in (first, second))
            # Two scores of different cells have nothing to correlate.
            rho = float(ranks.spearman(x, y)) if both.sum() > 1 else np.nan
            pairs[i, j] = pairs[j, i] = rho
    return pairs


def _interval(
    correlation: Callable, x: np.ndarray, y: np.ndarray, weights: jax.Array
) -> Interval:
    """A rank correlation of x and y (n,), and the ends of its bootstrap interval."""
    low, high = np.quantile(np.asarray(correlation(x, y, weights)), SHARES)
    return float(correlation(x, y)), float(low), float(high)
