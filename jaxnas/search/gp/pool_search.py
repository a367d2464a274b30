"""Bayesian optimisation over a whole pool of architectures, in one program.

The pool is every architecture of a table or a space, each embedded once, so the
acquisition is exact over all of them (Nguyen et al., 2021, score 100 mutants instead).
Hyper-parameters are refitted a few times in each stage of a run; between two fits every
evaluation costs O(n N).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.predictors import pool_gp
from jaxnas.predictors.pool import Pool, index_of
from jaxnas.predictors.pool_gp import PoolGPState
from jaxnas.search.base import Search, Stage
from jaxnas.search.common import require_capacity, train_from_scratch
from jaxnas.search.gp import selectors, shortlists
from jaxnas.spaces.moves import mutate
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes

# CandidateMask = (key, Pool, PoolGPState) -> (n,) bool, where the acquisition is compared.
CandidateMask = Callable[[Array, Pool, PoolGPState], Array]


def unseen(key: Array, pool: Pool, state: PoolGPState) -> Array:
    """Every architecture of the pool that was not evaluated."""
    del key, pool
    return ~state.seen


def mutants(*, parents: int = 10, children: int = 30, size: int = 100) -> CandidateMask:
    """The pool of the paper's program: mutants of the best architectures so far.

    `children` mutants (one position changed) of each of the `parents` best, best first,
    of which the first `size` new ones are candidates. Where none is new, all unseen ones
    are (the program draws new random architectures).
    """
    for name, value in (("parents", parents), ("children", children), ("size", size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")

    def candidates(key: Array, pool: Pool, state: PoolGPState) -> Array:
        score = jnp.where(jnp.isnan(state.score), -jnp.inf, state.score)
        best = jax.lax.top_k(score, min(parents, len(score)))[1]
        keys = jax.random.split(key, (len(best), children))
        arch = pool.arch[state.index[best]]
        of_one = jax.vmap(mutate, (0, None, None))
        child = jax.vmap(of_one, (0, None, 0))(keys, pool.space, arch)
        child = child.reshape(-1, child.shape[-1])
        place = jax.vmap(index_of, (None, 0))(pool, child)
        unscored = jnp.repeat(score[best] == -jnp.inf, children)
        new = (place >= 0) & ~state.seen[place] & ~unscored & ~_stands_before(place)
        first = new & (jnp.cumsum(new) <= size)
        allowed = jnp.zeros(state.seen.shape, bool).at[place].max(first)
        return jnp.where(allowed.any(), allowed, ~state.seen)

    return candidates


def _stands_before(place: Array) -> Array:
    return jnp.tril(place[:, None] == place, -1).any(1)


def bayesopt(
    pool: Pool,
    *,
    init: int = 10,
    batch: int = 1,
    select: selectors.Select | None = None,
    candidates: CandidateMask = unseen,
    clip_below: float = float("inf"),
    capacity: int | None = None,
    epoch: int = FULL_TRAINING,
) -> Search:
    """Gaussian-process search with a product of kernels exp(-d / l), one for each part.

    Args:
      pool: the candidates, from `make_pool`.
      init: evaluations of uniformly random architectures at the start, at least 2; the
        last step of them is a whole batch.
      batch: architectures in each step.
      select: what is asked next, see `selectors`; default: the largest log expected
        improvement, ties broken by the key.
      candidates: which architectures may be asked after the first ones; all that are
        new where these are fewer than a batch.
      clip_below: where to cut off bad scores before standardising, see
        `gp.fit_standardisation`.
      capacity: None for `run` and `simulate`: arrays grow in a few stages of static size,
        which is fastest. A number of evaluations for ask and tell from Python: arrays of
        that size from the start. Both give the same posterior.
      epoch: how long to train each architecture.

    Raises: `ValueError` for sizes that the pool does not have.
    """
    num = pool.arch.shape[0]
    _check(num, init, batch, capacity, epoch)
    select = selectors.maximise() if select is None else select
    begin = -(-init // batch)  # steps of random architectures

    def stages(num_steps: int) -> tuple[Stage, ...]:
        if num_steps * batch > num:
            raise ValueError(
                f"the pool has {num} architectures: not enough for {num_steps} steps "
                f"of {batch}"
            )
        if capacity is not None:
            require_capacity(capacity, batch, num_steps)
        return refit_stages(begin, num_steps)

    def initial(pool: Pool, key: Array) -> PoolGPState:
        del key
        return pool_gp.empty(pool, capacity or 0)

    def ask(pool: Pool, key: Array, state: PoolGPState) -> Query:
        key_pool, key_select, key_first = jax.random.split(key, 3)

        def first() -> Array:
            here = shortlists.of_pool(pool, state)
            rule = selectors.uniform
            return shortlists.select(rule, key_first, here, ~state.seen, batch)

        def learned() -> Array:
            allowed = candidates(key_pool, pool, state)
            allowed = jnp.where(allowed.sum() >= batch, allowed, ~state.seen)
            here = shortlists.of_pool(pool, state)
            return shortlists.select(select, key_select, here, allowed, batch)

        if may_fit(state):
            chosen = jax.lax.cond(fitted(state), learned, first)
        else:
            chosen = first()
        return train_from_scratch(pool.arch[chosen], epoch)

    def tell(
        pool: Pool, state: PoolGPState, query: Query, result: Result
    ) -> PoolGPState:
        index, wanted = known(pool, query)

        def one(i: Array | int, state: PoolGPState) -> PoolGPState:
            given = index[i], result.score[i], wanted[i]
            state = pool_gp.append(pool, state, *given)
            return pool_gp.condition(
                pool, state, state.count > begin * batch, wanted[i]
            )

        return _each(one, len(index), state)

    def expect(pool: Pool, state: PoolGPState, query: Query) -> PoolGPState:
        index, wanted = known(pool, query)
        use = fitted(state)

        def one(i: Array | int, state: PoolGPState) -> PoolGPState:
            return pool_gp.expect(pool, state, index[i], use, wanted[i])

        return _each(one, len(index), state)

    def known(pool: Pool, query: Query) -> tuple[Array, Array]:
        """Pool indices (b,), and which slots have something to tell, (b,) bool."""
        index = jax.vmap(index_of, (None, 0))(pool, query.arch)
        return jnp.maximum(index, 0), asked(query) & (index >= 0)

    def accepts(pool: Pool, arch: Array) -> Array:
        return index_of(pool, arch) >= 0

    def grow(pool: Pool, state: PoolGPState, end: int) -> PoolGPState:
        del pool
        return state if capacity is not None else pool_gp.grow(state, end * batch)

    def refresh(pool: Pool, state: PoolGPState) -> PoolGPState:
        if not may_fit(state):
            return state
        # Where idle steps have left too few observations, there is nothing to fit yet.
        enough = state.count >= begin * batch
        refit = lambda state: pool_gp.refit(pool, state, clip_below)  # noqa: E731
        return jax.lax.cond(enough, refit, lambda state: state, state)

    def may_fit(state: PoolGPState) -> bool:
        """Whether there is room for more than the first, random evaluations."""
        return state.index.shape[0] > begin * batch

    def fitted(state: PoolGPState) -> Array:
        return state.count - state.expected >= begin * batch

    functions = (
        Partial(f, pool) for f in (initial, ask, tell, grow, refresh, expect, accepts)
    )
    settings = {"stages": stages, "space": pool.space}
    return Search(*functions, candidates=pool.arch, **settings)


def _each(one: Callable, num: int, state: PoolGPState) -> PoolGPState:
    return jax.lax.fori_loop(0, num, one, state) if num > 1 else one(0, state)


def _check(num: int, init: int, batch: int, capacity: int | None, epoch: int) -> None:
    check_sizes(init=init, batch=batch, epoch=epoch)
    if not 2 <= init <= num:
        raise ValueError(f"init must be between 2 and the pool's {num}, not {init}")
    if capacity is not None and not max(init, batch) <= capacity <= num:
        raise ValueError(
            f"capacity must be between init = {init}, batch = {batch} and the pool's "
            f"{num}, not {capacity}"
        )


# Steps for which the state has room, one stage after another: three times as many each,
# and then fewer, as a fit takes the cube of them.
_ROOM = (4, 8, 20, 60, 150, 200, 300, 500, 800, 1200, 2000, 3000, 5000, 8000, 12000)


def refit_stages(begin: int, num_steps: int) -> tuple[Stage, ...]:
    """Random evaluations, then stages of growing room with 1 to 5 refits each.

    Every stage is compiled, so they are few; the first ends after at least twice the
    random steps. Their ends do not depend on the length of the run. There are 5 refits
    in each of the first stages, and then for each factor of 4 in the number of steps.

    Raises: `ValueError` for a run of more than 12,000 steps.
    """
    if num_steps > _ROOM[-1]:
        raise ValueError(f"wanted at most {_ROOM[-1]} steps, not {num_steps}")
    stages = [Stage(begin, begin)]
    for end in (end for end in _ROOM if end >= 2 * begin):
        if stages[-1].end >= num_steps:
            break
        first = stages[-1].end
        # Early ones cost next to nothing, and batches learn the most from them.
        refits = 5 if end <= 20 else max(1, round(5 * math.log(end / first, 4)))
        stages.append(Stage(end, -(-(end - first) // refits)))
    return tuple(stages)
