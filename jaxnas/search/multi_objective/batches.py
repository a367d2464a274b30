"""Rules by which a search with several objectives chooses a batch of architectures.

The utility of an acquisition ranks candidates one by one; a batch of the best ones would
be of architectures that resemble each other. A batch of one is the candidate of largest
utility, whatever the rule.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnas import acquisition, dpp
from jaxnas.predictors import pool_gp
from jaxnas.search.gp.selectors import SIZE
from jaxnas.search.multi_objective import posteriors
from jaxnas.search.multi_objective.posteriors import ObjectivesState, Pools
from jaxnas.types import Array, check_sizes

# Utility = (key, ObjectivesState) -> (n,), -inf for what has been evaluated.
Utility = Callable[[Array, ObjectivesState], Array]
# Select = (Utility, Pools, key, ObjectivesState, batch) -> (batch,) int32 pool indices.
Select = Callable[[Utility, Pools, Array, ObjectivesState, int], Array]
# The least utility in a k-DPP, as a fraction of the largest.
_LEAST = 1e-3


def select(
    rule: Select,
    utility: Utility,
    pools: Pools,
    key: Array,
    state: ObjectivesState,
    batch: int,
) -> Array:
    """Selects the next batch, without repeats.

    Args:
      rule: of this module.
      utility: of every architecture.
      pools: of the objectives.
      key: of the acquisition, of ties, and for rules that sample.
      state: evaluations and posteriors.
      batch: architectures to select.

    Returns: (batch,) int32 pool indices.
    """
    if batch == 1:
        return _best(utility, key, state, 1)
    return rule(utility, pools, key, state, batch)


def _best(utility: Utility, key: Array, state: ObjectivesState, num: int) -> Array:
    """Pool indices (num,) of largest utility."""
    key_acquire, key_tie = jax.random.split(key)
    return acquisition.top(key_tie, utility(key_acquire, state), num)


def kriging_believer(
    utility: Utility, pools: Pools, key: Array, state: ObjectivesState, batch: int
) -> Array:
    """Chooses one after another, each as if the ones before had their posterior means.

    The kriging believer of Ginsbourger et al. (2010), for every objective. The arguments
    are those of `select`.
    """

    def one(state: ObjectivesState, key: Array) -> tuple[ObjectivesState, Array]:
        index = _best(utility, key, state, 1)[0]
        true = jnp.bool_(True)
        return posteriors.expect(pools, state, index, true, true), index

    return jax.lax.scan(one, state, jax.random.split(key, batch))[1]


def kdpp(temperature: float = 1.0, *, size: int = SIZE) -> Select:
    """Samples the k-DPP of utility and similarity (Kulesza and Taskar, 2012).

    Its kernel is diag(q) S diag(q), with q = u^(1 / (2 temperature)) of the utility u, and
    S the mean over the objectives of the posterior correlations of evaluations. A batch
    weighs det(S) times the product of its utilities, at temperature 1.

    Args:
      temperature: the lower, the more utility outweighs diversity.
      size: candidates in the shortlist, those of largest utility.

    Raises: `ValueError` unless `temperature` is positive, for a size below 1, and by the
      rule for a batch that is larger than the shortlist.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    check_sizes(size=size)

    def rule(
        utility: Utility, pools: Pools, key: Array, state: ObjectivesState, batch: int
    ) -> Array:
        if batch > size:
            raise ValueError(f"a shortlist of {size} has no batch of {batch}")
        key_acquire, key_tie, key_draw = jax.random.split(key, 3)
        value = utility(key_acquire, state)
        index = acquisition.top(key_tie, value, min(size, len(value)))
        kernel = _kernel(value[index], _similarity(pools, state, index), temperature)
        return index[dpp.sample(key_draw, kernel, batch)]

    return rule


def _kernel(utility: Array, similarity: Array, temperature: float) -> Array:
    """Kernel (m, m) of a k-DPP of candidates, the first of which has the most utility.

    Args:
      utility: (m,), at least 0; -inf for what may not be chosen.
      similarity: (m, m), 1 on the diagonal.
      temperature: as for `kdpp`.
    """
    # Not 0: the kernel must have the rank of a batch, however few have a utility.
    least = jnp.maximum(_LEAST * utility[0], jnp.finfo(utility.dtype).tiny)
    quality = jnp.log(jnp.maximum(utility, least)) / 2
    quality = jnp.where(utility == -jnp.inf, -jnp.inf, quality)
    return dpp.quality_diversity(quality, similarity, temperature)


def _similarity(pools: Pools, state: ObjectivesState, index: Array) -> Array:
    """Posterior correlations (m, m) of evaluations, their mean over the objectives."""

    def of_objective(pool: pool_gp.Pool, model: pool_gp.PoolGPState) -> Array:
        columns = pool.embeddings.column[index]
        cov = pool_gp.joint_posterior(pool, model, columns)[1]
        noise = model.hyper.noise * model.hyper.amplitude
        cov = cov + noise * jnp.eye(len(index))
        std = jnp.sqrt(jnp.maximum(jnp.diagonal(cov), 1e-12))
        return cov / (std[:, None] * std)

    pairs = zip(pools, state.models, strict=True)
    return jnp.stack([of_objective(*pair) for pair in pairs]).mean(0)
