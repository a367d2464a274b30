"""Agreement of curves with other trainings of the same architectures.

    floor = seed_reference(curves, 1)  # how well one seed ranks as another does
    gaussian_kl(curves, draws).mean(1)
    spike_share(curves[:, 0], draws[:, 0], maximise=True)

A surrogate that draws noisy curves is as good as a table if its draws cannot be told from
trainings with other seeds (Yan et al., 2021, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxnas.curves import accuracy
from jaxnas.types import check_shapes, check_sizes


def seed_reference(
    curves: ArrayLike,
    others: int,
    metrics: Sequence[str] = ("r2", "kendall", "spearman"),
) -> dict[str, float]:
    """How well the mean of other seeds predicts a seed: a tabular benchmark's accuracy.

    Each seed is the truth once, and the next `others` seeds, the first following the
    last, are the table. A predictor fitted on one seed of each architecture can be
    compared with `others = 1`; it can be better, as it averages over architectures.

    Args:
      curves: (n, r, E) of n architectures trained with r seeds.
      others: m, 1 to r - 1 seeds whose mean is the prediction.
      metrics: names of `accuracy.METRICS`.

    Returns: as `accuracy.curve_scores`, the mean over the r seeds.
    Raises: `ValueError` for another number of axes, for too few seeds, and as
      `accuracy.by_epoch`.
    """
    curves = np.asarray(curves, float)
    check_shapes(curves=(curves, "nre"))
    check_sizes(others=others)
    num = curves.shape[1]
    if others >= num:
        raise ValueError(
            f"others must be below {num}, the number of seeds: one of them is the truth"
        )
    scores = []
    for truth in range(num):
        table = [(truth + 1 + i) % num for i in range(others)]
        mean = curves[:, table].mean(1)
        scores.append(accuracy.curve_scores(curves[:, truth], mean, metrics))
    return {name: float(np.mean([f[name] for f in scores])) for name in scores[0]}


def gaussian_kl(true: ArrayLike, drawn: ArrayLike, floor: float = 0.0) -> np.ndarray:
    """Divergence of drawn from true curves, by Gaussians with diagonal covariance.

    At each epoch D(y || y') = (ln(s' / s) - 1 + (m - m')^2 / s' + s / s') / 2, where m, s
    and m', s' are mean and unbiased variance of the true and the drawn values (Yan et
    al., 2021, section 3.2). Their avg KL is the mean of it over the epochs and the
    architectures, their final KL that of the last epoch.

    Args:
      true: (n, r, E) curves of n architectures with r >= 2 seeds.
      drawn: (n, d, E) of d >= 2 draws from a surrogate.
      floor: smallest standard deviation, in the unit of the curves: few seeds that happen
        to agree would make the divergence infinite.

    Returns: (n, E), infinite where a variance is 0 and `floor` is 0.
    Raises: `ValueError` for other shapes, and for fewer than 2 seeds or draws.
    """
    true, drawn = np.asarray(true, float), np.asarray(drawn, float)
    check_shapes(true=(true, "nre"), drawn=(drawn, "nde"))
    if min(true.shape[1], drawn.shape[1]) < 2:
        raise ValueError(
            f"a variance needs 2 curves or more of each architecture, found "
            f"{true.shape[1]} seeds and {drawn.shape[1]} draws"
        )
    s, s_drawn = (np.maximum(x.var(1, ddof=1), floor**2) for x in (true, drawn))
    gap = (true.mean(1) - drawn.mean(1)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.log(s_drawn / s) - 1 + gap / s_drawn + s / s_drawn
    return np.where((s > 0) & (s_drawn > 0), terms / 2, np.inf)


def spike_threshold(
    curves: ArrayLike, share: float = 0.05, maximise: bool = True
) -> float:
    """The height above which fewer than a share of real curves have a spike.

    The spike of a curve is its best value minus its final one.

    Args:
      curves: (n, E) of real trainings.
      share: of the curves, above 0 and below 1.
      maximise: whether the best value of a curve is its largest.

    Returns: x, the infimum of all heights that fewer than `share` of the curves reach.
    Raises: `ValueError` for another shape or share.
    """
    spikes = _spikes(curves, maximise)
    if not 0 < share < 1:
        raise ValueError(f"share must be above 0 and below 1, not {share}")
    # Rounded, as 0.05 * 100 is a little more than 5 in floating point.
    allowed = math.ceil(round(share * len(spikes), 9))
    return float(np.sort(spikes)[::-1][allowed - 1])


def spike_share(
    curves: ArrayLike, drawn: ArrayLike, share: float = 0.05, maximise: bool = True
) -> float:
    """The share of drawn curves with a spike that is rare among real ones.

    Args:
      curves: (n, E) of real trainings.
      drawn: (m, E) of a surrogate, with its noise.
      share: of the real curves that counts as rare.
      maximise: whether the best value of a curve is its largest.

    Returns: the share of draws above `spike_threshold`; about `share` for noise as that
      of trainings.
    Raises: `ValueError` as `spike_threshold`.
    """
    threshold = spike_threshold(curves, share, maximise)
    return float((_spikes(drawn, maximise) > threshold).mean())


def _spikes(curves: ArrayLike, maximise: bool) -> np.ndarray:
    """Best minus final value (n,) of curves (n, E)."""
    curves = np.asarray(curves, float) * (1 if maximise else -1)
    check_shapes(curves=(curves, "ne"))
    if not curves.size:
        raise ValueError(f"wanted curves, not an array of shape {curves.shape}")
    return curves.max(1) - curves[:, -1]
