"""Tuned searches, under the names that the results in README and docs use.

Each preset takes a space and returns a `Search`; the README's `gp-tw2g-plus` is
`gp_tw2g_plus`. The constants below were chosen by regret on runs of the embedded
NAS-Bench-201 table from `--base-seed 0`, and the published figures are of other runs.

    search = presets.gp_tw2g_plus(SPACE)
    trace = simulate(keys, search, benchmark, 100)

All Gaussian-process presets share these arguments:

  * `arch`: (n, d) int32 candidates; default: every architecture of the space.
  * `init`: random evaluations before the first fit, at least 2; with `prior` they are
    the best by it.
  * `batch`: architectures in a step.
  * `copies`: whether cells of NAS-Bench-201 that compute the same function are different
    candidates. By default they count once, as a search that cannot tell them apart
    trains one function again and again.
  * `extra`: further feature maps, such as scores of untrained networks
    (`few_labels.features_by_architecture`), each of whose arrays is a part of the
    distance.
  * `prior`: a feature map of accuracies on other datasets, measured or predicted, one
    each. They are the prior mean (`predictors.prior_mean`), the first evaluations are
    in their order, and after them the largest posterior mean is asked:

        prior = features_by_architecture(SPACE, arch, accuracies)  # (n, d), (n, datasets)
        search = presets.gp_tw2g_plus(SPACE, prior=prior)

  * `epoch`: the epoch to which every architecture is trained; default: the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jax.tree_util import Partial

from jaxnas.acquisition import confidence_bound
from jaxnas.kernels import feature_maps
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.predictors.pool import Pool, make_pool
from jaxnas.search import neural_predictor
from jaxnas.search.base import Search
from jaxnas.search.fidelity.asynchronous import asynchronous_halving
from jaxnas.search.fidelity.freeze_thaw import rank_by_final_mean
from jaxnas.search.fidelity.kde import kde_sampler, shrinkage
from jaxnas.search.fidelity.two_levels import two_levels
from jaxnas.search.gp import selectors
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.gp.sampled_search import bayesopt_sampled
from jaxnas.search.kernel_presets import Preset as Preset
from jaxnas.search.kernel_presets import features_of, function_classes_of
from jaxnas.search.kernel_presets import gp_fgw as gp_fgw
from jaxnas.search.kernel_presets import gp_gw as gp_gw
from jaxnas.search.kernel_presets import gp_gwot as gp_gwot
from jaxnas.search.kernel_presets import gp_hamming as gp_hamming
from jaxnas.search.kernel_presets import gp_nasbot as gp_nasbot
from jaxnas.search.kernel_presets import gp_ot as gp_ot
from jaxnas.search.kernel_presets import gp_otmann as gp_otmann
from jaxnas.search.kernel_presets import gp_path as gp_path
from jaxnas.search.kernel_presets import gp_sinkhorn as gp_sinkhorn
from jaxnas.search.kernel_presets import gp_tw as gp_tw
from jaxnas.search.kernel_presets import gp_tw2g as gp_tw2g
from jaxnas.spaces.base import Space
from jaxnas.types import Array

CLIP_BELOW = 2.0
"""Clipping of low scores, in distances from the median to the upper quartile below the
median: how badly a network failed to train carries no information."""

INIT = 5
"""Random evaluations of `gp_tw2g_plus`; few, as its priors follow the distances."""

SHORT_INIT = 10
"""Random short trainings of `gp_two_levels`, which begins hundreds: after five bad ones its
model may be sure of a wrong region."""

GUIDED_INIT = 2
"""Evaluations of `gp_tw2g_plus` with a prior before the first fit, the best by it."""

EXPLORE = selectors.maximise(confidence_bound(2.25))
"""Mean + 1.5 standard deviations (Srinivas et al., 2010, with beta = 2.25). Expected
improvement stops exploring as soon as the model is confident."""

FEATURES: tuple[Callable[[Space], FeatureMap], ...] = (
    partial(feature_maps.tree_wasserstein_features, n=2),
    feature_maps.hamming_features,
)
"""Feature maps of `gp_tw2g_plus`: tree-Wasserstein on 1- and 2-grams, and Hamming."""

LOW_SHARE = 0.05
"""Share of a complete training that is the least of a short one in `gp_two_levels`."""

CORRELATION = 0.5
"""Correlation of scores after short and complete trainings in `gp_two_levels`."""

PATIENCE = 5
"""Complete trainings without an improvement that end a group in `gp_two_levels`."""


def bananas(
    space: Space, *, init: int = 10, batch: int = 1, epoch: int | None = None
) -> Search:
    """BANANAS (White et al., 2021) on path encodings, with failed trainings clipped."""
    encode = feature_maps.path_encoder(space)
    options = {"init": init, "batch": batch, "clip_below": CLIP_BELOW, "epoch": epoch}
    return neural_predictor.bananas(space, encode, **options)


def bohb_plus(
    space: Space, levels: Sequence[int], *, eta: float = 3, batch: int = 1
) -> Search:
    """BOHB (Falkner et al., 2018) for architectures, asynchronous.

    Its model chooses the new architectures of asynchronous successive halving (Li et al.,
    2020), as in MOBSTER (Klein et al., 2020), and differs from the published one in three
    settings of `kde_sampler`: bandwidths that do not depend on the order of the choices,
    no architecture that has been evaluated or is in flight, and no random ones besides
    the model's. Chosen on `fashion-surrogate` and `fashion-curves`; of the settings of the
    model that were equal there, the last was chosen on JAHS-Bench-201.

    Args:
      space: of the architectures.
      levels: epochs of the rungs, as from `fidelity.brackets.geometric_levels`.
      eta: about 1 / eta of the trainings of a rung continue.
      batch: architectures in a step.

    Raises: `ValueError` as `asynchronous_halving` does.
    """
    sampler = kde_sampler(space, random=0.0, bandwidths=shrinkage, repeats=False)
    return asynchronous_halving(space, levels, eta=eta, sampler=sampler, batch=batch)


def gp_tw2g_plus(
    space: Space,
    arch: Array | np.ndarray | None = None,
    *,
    init: int | None = None,
    batch: int = 1,
    copies: bool = False,
    extra: Sequence[FeatureMap] = (),
    prior: FeatureMap | None = None,
    epoch: int | None = None,
    select: selectors.Select | None = None,
    capacity: int | None = None,
) -> Search:
    """The best search of the published comparisons.

    A Gaussian process on tree-Wasserstein distances of operation 1- and 2-grams (Nguyen
    et al., 2021) and a Hamming distance, failed trainings clipped, an upper confidence
    bound as acquisition, and five random evaluations.

    Args:
      space: of the architectures.
      arch: (n, d) int32 candidates; default: every architecture of the space.
      init: evaluations before the first fit; default: 5, or 2 with a prior.
      batch: architectures in a step.
      copies: whether cells that compute the same function are different candidates.
      extra: further feature maps.
      prior: feature map of accuracies on other datasets.
      epoch: the epoch to which every architecture is trained; default: the last one.
      select: how a batch is chosen, such as `selectors.kdpp()`; default: `EXPLORE`, or
        the largest posterior mean with a prior.
      capacity: evaluations that there is room for, for ask and tell from Python.

    Raises: `ValueError` for candidates that are not of the space, and for a prior that is
      not finite for all of them.
    """
    pool = _plus_pool(space, arch, copies=copies, extra=extra, prior=prior)
    return _plus_search(
        pool, init=init, batch=batch, select=select, epoch=epoch, capacity=capacity
    )


def _plus_pool(
    space: Space,
    arch: Array | np.ndarray | None = None,
    *,
    copies: bool,
    extra: Sequence[FeatureMap] = (),
    prior: FeatureMap | None = None,
) -> Pool:
    """The candidates of `gp_tw2g_plus`, which has the same arguments."""
    same = None if copies else function_classes_of(space)
    features = features_of(space, FEATURES, extra)
    return make_pool(space, features, arch=arch, same=same, prior_scores=prior)


def _plus_search(
    pool: Pool,
    *,
    init: int | None = None,
    select: selectors.Select | None = None,
    **options: Any,
) -> Search:
    """`gp_tw2g_plus` over candidates of `_plus_pool`; `options` are for `bayesopt`."""
    guided = pool.mean is not None
    if init is None:
        init = GUIDED_INIT if guided else INIT
    if select is None and not guided:
        select = EXPLORE
    return bayesopt(pool, init=init, select=select, clip_below=CLIP_BELOW, **options)


def gp_tw2g_plus_sampled(
    space: Space,
    *,
    batch: int = 1,
    copies: bool = False,
    extra: Sequence[FeatureMap] = (),
    epoch: int | None = None,
) -> Search:
    """`gp_tw2g_plus` over 1,000 candidates that are sampled for each step.

    For spaces that are too large for a pool.

    Args:
      space: of the architectures.
      batch: architectures in a step.
      copies: whether cells that compute the same function are different candidates.
      extra: further feature maps.
      epoch: the epoch to which every architecture is trained; default: the last one.
    """
    same = None if copies else function_classes_of(space)
    features = features_of(space, FEATURES, extra)
    options = {
        "init": INIT,
        "batch": batch,
        "select": EXPLORE,
        "clip_below": CLIP_BELOW,
    }
    return bayesopt_sampled(space, features, same=same, epoch=epoch, **options)


def gp_two_levels(
    space: Space,
    arch: Array | np.ndarray | None = None,
    *,
    epochs: Sequence[int],
    continues: bool = True,
    batch: int = 1,
    copies: bool = False,
) -> Search:
    """A freeze-thaw search with two levels: the best short trainings are completed.

    A Gaussian process over (architecture, epoch) with the kernel of `gp_tw2g_plus`. An
    upper confidence bound of the score at the low level chooses what is trained briefly,
    after 10 random architectures, and the largest posterior mean of the final score what is
    completed: 10 architectures after the first 100 short trainings, and then after every
    50; fewer if 5 of them in succession are no better than the best one before. A short
    training has at least 5 % of the epochs of a complete one; see `fidelity.two_levels` and
    `fidelity.freeze_thaw`. No setting depends on the budget. The numbers and the
    correlation of both levels were chosen on the embedded tables of learning curves.

    Args:
      space: of the architectures.
      arch: (n, d) int32 candidates; default: every architecture of the space.
      epochs: of the levels of the benchmark, `[level.epoch for level in levels]`.
      continues: whether a complete training continues a short one, or starts from
        epoch 0.
      batch: architectures in a step.
      copies: whether cells that compute the same function are different candidates.

    Raises: `ValueError` for levels of which none is between 5 % and all of the last one.
    """
    last = max(epochs, default=0)
    low = min((e for e in epochs if LOW_SHARE * last <= e < last), default=None)
    if low is None:
        raise ValueError(
            f"wanted a level between {LOW_SHARE:.0%} of the last one and the last one, not "
            f"the levels {tuple(epochs)}"
        )
    pool = _plus_pool(space, arch, copies=copies)
    init = min(SHORT_INIT, len(pool.arch))
    search = _plus_search(pool, init=init, batch=batch)
    rank = Partial(rank_by_final_mean, pool, CORRELATION)
    return two_levels(
        search, low, last=last, patience=PATIENCE, continues=continues, rank=rank
    )
