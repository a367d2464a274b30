"""Bayesian optimisation over a candidate pool, in one compiled program.

The pool is every architecture of a table or a space, each embedded once, so the
acquisition is exact over all of them (Nguyen et al., 2021, score 100 mutants instead).
Hyperparameters are refitted a few times in each stage of a run, see `schedule`; between
two fits every evaluation costs O(t u) for t evaluations and u distinct embeddings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.acquisition import confidence_bound
from jaxnas.predictors import pool_gp
from jaxnas.predictors.pool import Pool, index_of
from jaxnas.predictors.pool_gp import PoolGPState
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.base import Search, Stage
from jaxnas.search.common import train_from_scratch
from jaxnas.search.gp import schedule as schedules
from jaxnas.search.gp import selectors, shortlists
from jaxnas.search.gp.schedule import Schedule
from jaxnas.spaces.moves import mutate
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes

# CandidateMask = (key, Pool, PoolGPState) -> (n,) bool, the candidates of a step.
CandidateMask = Callable[[Array, Pool, PoolGPState], Array]
S = TypeVar("S")


def unseen(key: Array, pool: Pool, state: PoolGPState) -> Array:
    """Every architecture of the pool that has not been evaluated, (n,) bool."""
    del key, pool
    return ~state.seen


def mutants(*, parents: int = 10, children: int = 30, size: int = 100) -> CandidateMask:
    """Mutants of the best architectures so far, the pool of the paper's program.

    The candidates are the first `size` new architectures among the mutants (one position
    changed) of each parent, best parent first. Where none is new, all unseen ones are
    candidates (the program samples new random architectures).

    Args:
      parents: best architectures that are mutated.
      children: mutants of each.
      size: candidates at most.

    Raises: `ValueError` for sizes below 1.
    """
    for name, value in (("parents", parents), ("children", children), ("size", size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")

    def candidates(key: Array, pool: Pool, state: PoolGPState) -> Array:
        score = nan_to_neg_inf(state.score)
        best = jax.lax.top_k(score, min(parents, len(score)))[1]
        keys = jax.random.split(key, (len(best), children))
        arch = pool.arch[state.index[best]]
        of_one = jax.vmap(mutate, (0, None, None))
        child = jax.vmap(of_one, (0, None, 0))(keys, pool.space, arch)
        child = child.reshape(-1, child.shape[-1])
        index = jax.vmap(index_of, (None, 0))(pool, child)
        unscored = jnp.repeat(score[best] == -jnp.inf, children)
        new = (index >= 0) & ~state.seen[index] & ~unscored & ~_is_repeat(index)
        first = new & (jnp.cumsum(new) <= size)
        allowed = jnp.zeros(state.seen.shape, bool).at[index].max(first)
        return jnp.where(allowed.any(), allowed, ~state.seen)

    return candidates


def _is_repeat(index: Array) -> Array:
    """Which entries (m,) occur earlier in `index` (m,)."""
    return jnp.tril(index[:, None] == index, -1).any(1)


greedy = selectors.maximise(confidence_bound(0.0))
"""The largest posterior mean: before the first fit, that of the prior."""


def bayesopt(
    pool: Pool,
    *,
    init: int = 10,
    batch: int = 1,
    select: selectors.Select | None = None,
    candidates: CandidateMask = unseen,
    clip_below: float = float("inf"),
    capacity: int | None = None,
    epoch: int | None = None,
) -> Search:
    """Gaussian-process search with a product of kernels exp(-d / l), one for each part.

    Args:
      pool: the candidate pool, from `make_pool`.
      init: evaluations of uniformly random architectures at the start, at least 2; the
        last step of them is a whole batch. Where the pool has a prior mean, they are the
        largest of it.
      batch: architectures in each step.
      select: rule for the next batch, see `selectors`. Default: the largest log expected
        improvement, or the largest posterior mean where the pool has a prior mean; ties
        are broken by the key.
      candidates: which architectures may be asked after the random ones; all unseen ones
        where these are fewer than a batch.
      clip_below: where to cut off bad scores before standardising, see
        `gp.fit_standardisation`.
      capacity: None for `run` and `simulate`: arrays grow in a few stages of static size,
        which is fastest. A number of evaluations for ask and tell from Python: arrays of
        that size from the start. Both give the same posterior.
      epoch: the epoch to which each architecture is trained; default: the last one.

    Raises: `ValueError` for sizes that do not fit the pool; and by `stages` for a run
      that is longer than the pool or `capacity`.
    """
    epoch = FULL_TRAINING if epoch is None else epoch
    num = pool.arch.shape[0]
    validate_sizes(num, init, batch, capacity, epoch)
    guided = pool.mean is not None
    if select is None:
        select = greedy if guided else selectors.maximise()
    schedule = schedules.make_schedule(init, batch, capacity)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        return schedules.stages(schedule, num_steps, num, "the pool")

    def initial(pool: Pool, key: Array) -> PoolGPState:
        del key
        return pool_gp.empty(pool, capacity or 0)

    def ask(pool: Pool, key: Array, state: PoolGPState) -> Query:
        key_pool, key_select, key_random = jax.random.split(key, 3)

        def unfitted() -> Array:
            first = greedy if guided else selectors.uniform
            return _select(first, key_random, pool, state, ~state.seen, batch)

        def learned() -> Array:
            allowed = candidates(key_pool, pool, state)
            allowed = jnp.where(allowed.sum() >= batch, allowed, ~state.seen)
            return _select(select, key_select, pool, state, allowed, batch)

        fitted = _is_fitted(schedule, state)
        chosen = schedules.random_or_learned(schedule, state, fitted, unfitted, learned)
        return train_from_scratch(pool.arch[chosen], epoch)

    def tell(
        pool: Pool, state: PoolGPState, query: Query, result: Result
    ) -> PoolGPState:
        return _observe(schedule, pool, state, query, result.score)

    def grow(pool: Pool, state: PoolGPState, end: int) -> PoolGPState:
        del pool
        return schedules.grow(schedule, pool_gp.grow, state, end)

    def refresh(pool: Pool, state: PoolGPState) -> PoolGPState:
        refit = functools.partial(pool_gp.refit, pool, clip_below=clip_below)
        return schedules.refresh(schedule, refit, state)

    def expect(pool: Pool, state: PoolGPState, query: Query) -> PoolGPState:
        return _expect(schedule, pool, state, query)

    functions = (initial, ask, tell, grow, refresh, expect, accepts)
    return Search(
        *(Partial(f, pool) for f in functions),
        abandon=Partial(_abandon, pool),
        candidates=pool.arch,
        stages=stages,
        space=pool.space,
    )


def validate_sizes(
    num: int, init: int, batch: int, capacity: int | None, epoch: int
) -> None:
    """Raises `ValueError` for sizes that a pool of `num` architectures does not allow."""
    check_sizes(init=init, batch=batch, epoch=epoch)
    if not 2 <= init <= num:
        raise ValueError(f"init must be between 2 and the pool's {num}, not {init}")
    if batch > num:
        raise ValueError(f"batch must be at most the pool's {num}, not {batch}")
    if capacity is not None and not max(init, batch) <= capacity <= num:
        raise ValueError(
            f"capacity must be between init = {init}, batch = {batch} and the pool's "
            f"{num}, not {capacity}"
        )


def _select(
    rule: selectors.Select,
    key: Array,
    pool: Pool,
    state: PoolGPState,
    allowed: Array,
    batch: int,
) -> Array:
    """Pool indices (batch,) that `rule` selects among the `allowed` (n,) bool."""
    posterior = shortlists.of_pool(pool, state)
    return shortlists.select(rule, key, posterior, allowed, batch)


def _is_fitted(schedule: Schedule, state: PoolGPState) -> Array:
    """Whether all random evaluations are finished, none in flight, () bool."""
    return state.count - state.expected >= schedule.num_random


def _observe(
    schedule: Schedule, pool: Pool, state: PoolGPState, query: Query, score: Array
) -> PoolGPState:
    """Appends the scores (b,) of a query, slot by slot, and conditions on each."""
    index, active = slots(pool, query)

    def one(i: Array | int, state: PoolGPState) -> PoolGPState:
        state = pool_gp.append(pool, state, index[i], score[i], active[i])
        fitted = state.count > schedule.num_random
        return pool_gp.condition(pool, state, fitted, active[i])

    return for_each_slot(one, len(index), state)


def _expect(
    schedule: Schedule, pool: Pool, state: PoolGPState, query: Query
) -> PoolGPState:
    """Conditions on the expected scores of a query in flight, slot by slot."""
    index, active = slots(pool, query)
    fitted = _is_fitted(schedule, state)

    def one(i: Array | int, state: PoolGPState) -> PoolGPState:
        return pool_gp.expect(pool, state, index[i], fitted, active[i])

    return for_each_slot(one, len(index), state)


def _abandon(pool: Pool, state: PoolGPState, query: Query) -> PoolGPState:
    """Excludes the architectures of a query from what is asked, without observations."""
    index, active = slots(pool, query)
    index = jnp.where(active, index, len(state.seen))
    return state._replace(seen=state.seen.at[index].set(True, mode="drop"))


def slots(pool: Pool, query: Query) -> tuple[Array, Array]:
    """Pool index (b,) of each slot, and which slots are observed, (b,) bool.

    Idle slots and architectures outside of the pool are not.
    """
    index = jax.vmap(index_of, (None, 0))(pool, query.arch)
    return jnp.maximum(index, 0), asked(query) & (index >= 0)


def for_each_slot(one: Callable, num: int, state: S) -> S:
    """Folds `one` (i, state) -> state over `num` slots, without a loop for one."""
    return jax.lax.fori_loop(0, num, one, state) if num > 1 else one(0, state)


def accepts(pool: Pool, arch: Array) -> Array:
    """Whether the pool holds an architecture (d,), () bool."""
    return index_of(pool, arch) >= 0
