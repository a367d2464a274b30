"""The tuned search for benchmarks with several fidelities.

epochs = [level.epoch for level in benchmark.levels]
search = gp_two_levels(benchmark.space, benchmark.archs, epochs=epochs)
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.tree_util import Partial

from jaxnas.predictors.pool import Pool, index_of
from jaxnas.predictors.pool_gp import PoolGPState
from jaxnas.search import presets
from jaxnas.search.base import Search
from jaxnas.search.fidelity.two_levels import two_levels
from jaxnas.spaces.base import Space
from jaxnas.types import Array

LOW_SHARE = 0.05
"""Share of a complete training that is the least of a short one."""


def posterior_mean(pool: Pool, state: PoolGPState, arch: Array, score: Array) -> Array:
    """The posterior mean (n,) of architectures (n, d), which is less noisy than `score`."""
    del score
    index = jax.vmap(index_of, (None, 0))(pool, arch)
    return state.mean[pool.embeddings.column[index]]


def gp_two_levels(
    space: Space,
    arch: Array | np.ndarray | None = None,
    *,
    epochs: Sequence[int],
    continues: bool = True,
    batch: int = 1,
    copies: bool = False,
) -> Search:
    """`gp_tw2g_plus` on short trainings, and complete trainings of the best of them.

    Half of the cost, about, is spent on either after the first 100 short trainings, which
    are of at least 5 % of a complete one; see `fidelity.two_levels`. The budget need not
    be known, and no setting depends on the benchmark.

    Args:
      space: of the architectures.
      arch: (n, d) int32 candidates; default: every architecture of the space.
      epochs: of the levels of the benchmark, `[level.epoch for level in levels]`.
      continues: whether a complete training goes on from a short one, or the levels are
        trainings of their own.
      batch: architectures in a step.
      copies: whether cells that compute the same function are different candidates.

    Raises: `ValueError` for levels of which none is between 5 % and all of the last one.
    """
    last = max(epochs, default=0)
    low = min((e for e in epochs if LOW_SHARE * last <= e < last), default=None)
    if low is None:
        raise ValueError(
            f"wanted a level from {LOW_SHARE:.0%} of the last one on and below it, found "
            f"the levels {tuple(epochs)}"
        )
    search = presets.gp_tw2g_plus(space, arch, batch=batch, copies=copies)
    (pool,) = search.ask.args  # pyright: ignore[reportFunctionMemberAccess]
    rank = Partial(posterior_mean, pool)
    return two_levels(search, low, last=last, continues=continues, rank=rank)
