"""Bayesian optimisation over a whole pool of architectures, in one program.

The pool is every architecture of a table or a space, each embedded once, so the
acquisition is exact over all of them (Nguyen et al., 2021, score 100 mutants instead).
Each observation adds one row to the whitened covariance V = L^-1 R(X, pool), from which
mean and variance everywhere follow in O(n N); hyper-parameters are refitted, and V rebuilt,
a few times in each stage of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.tree_util import Partial

from jaxnas import acquisition, gp
from jaxnas.kernels import gram
from jaxnas.search.base import Search, Stage
from jaxnas.search.pool import Pool, place_of
from jaxnas.spaces.base import Space, mutate
from jaxnas.types import FULL_TRAINING, Array, Query, Result


class BayesOptState(NamedTuple):
    """The observations, in order, and the posterior over the u distinct embeddings."""

    index: Array  # (t,) int32, places in the pool; t is the capacity
    score: Array  # (t,), NaN where the evaluation failed
    count: Array  # () int32
    seen: Array  # (n,) bool
    distances: Array  # (c, t, u) by part, from the observations to the pool
    hyper: gp.Hyper
    target: gp.Target
    white_cross: Array  # (t, u), V = L^-1 R(X, pool)
    newest: Array  # (u,), the last row of V, which V itself gets a step later
    white_target: Array  # (t,), L^-1 z
    mean: Array  # (u,), V' L^-1 z
    explained: Array  # (u,), the column sums of V^2


# Candidates = (key, Pool, BayesOptState) -> (n,) bool, where the acquisition is compared.
Candidates = Callable[[Array, Pool, BayesOptState], Array]


def unseen(key: Array, pool: Pool, state: BayesOptState) -> Array:
    """Every architecture of the pool that was not evaluated."""
    del key, pool
    return ~state.seen


def mutants(
    space: Space, *, parents: int = 10, children: int = 30, size: int = 100
) -> Candidates:
    """The pool of the paper's program: mutants of the best architectures so far.

    `children` mutants (one position changed) of each of the `parents` best, best first,
    of which the first `size` new ones are candidates. Where none is new, all unseen ones
    are (the program draws new random architectures).
    """
    for name, value in (("parents", parents), ("children", children), ("size", size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")

    def candidates(key: Array, pool: Pool, state: BayesOptState) -> Array:
        score = jnp.where(jnp.isnan(state.score), -jnp.inf, state.score)
        best = jax.lax.top_k(score, min(parents, len(score)))[1]
        keys = jax.random.split(key, (len(best), children))
        arch = pool.arch[state.index[best]]
        of_one = jax.vmap(mutate, (0, None, None))
        child = jax.vmap(of_one, (0, None, 0))(keys, space, arch)
        place = place_of(pool, jax.vmap(jax.vmap(space.code))(child).reshape(-1))
        unscored = jnp.repeat(score[best] == -jnp.inf, children)
        new = ~state.seen[place] & ~unscored & ~_stands_before(place)
        first = new & (jnp.cumsum(new) <= size)
        allowed = jnp.zeros(state.seen.shape, bool).at[place].max(first)
        return jnp.where(allowed.any(), allowed, ~state.seen)

    return candidates


def _stands_before(place: Array) -> Array:
    return jnp.tril(place[:, None] == place, -1).any(1)


def bayesopt(
    space: Space,
    pool: Pool,
    *,
    init: int = 10,
    acquire: acquisition.Acquisition = acquisition.log_expected_improvement,
    candidates: Candidates = unseen,
    tail: float = float("inf"),
    capacity: int | None = None,
    epoch: int = FULL_TRAINING,
) -> Search:
    """Gaussian-process search with a product of kernels exp(-d / l), one for each part.

    Args:
      space, pool: the space, and a pool of it from `make_pool`.
      init: evaluations of uniformly random architectures at the start, at least 2.
      acquire: scores every candidate by the posterior; ties are broken by the key.
      candidates: which architectures may be asked.
      tail: where to cut off bad scores before standardising, see `gp.standardise`.
      capacity: None for `run` and `simulate`: arrays grow in a few stages of static size,
        which is fastest. A number of evaluations for ask and tell from Python: arrays of
        that size from the start. Both give the same posterior.
      epoch: how long to train each architecture.
    """
    num = pool.arch.shape[0]
    if not 2 <= init <= num:
        raise ValueError(f"init must be between 2 and the pool's {num}, not {init}")
    if capacity is not None and not init <= capacity <= num:
        raise ValueError(
            f"capacity must be between init = {init} and the pool's {num}, not {capacity}"
        )

    def stages(num_steps: int) -> tuple[Stage, ...]:
        return refit_stages(init, num_steps)

    def initial(pool: Pool, key: Array) -> BayesOptState:
        del key
        parts, size = pool.embedding.parts, capacity or 0
        num_parts, distinct = len(parts), gram.num_distinct(pool.embedding)
        one = jnp.ones(())
        return BayesOptState(
            index=jnp.zeros(size, jnp.int32),
            score=jnp.full(size, jnp.nan),
            count=jnp.int32(0),
            seen=jnp.zeros(num, bool),
            distances=jnp.zeros((num_parts, size, distinct)),
            hyper=gp.Hyper(jnp.ones(num_parts), one, one),
            target=gp.Target(-one, 0 * one, one),
            white_cross=jnp.zeros((size, distinct)),
            newest=jnp.zeros(distinct),
            white_target=jnp.zeros(size),
            mean=jnp.zeros(distinct),
            explained=jnp.zeros(distinct),
        )

    def ask(pool: Pool, key: Array, state: BayesOptState) -> Query:
        key_pool, key_acquire, key_tie = jax.random.split(key, 3)
        # Before the first fit the posterior is the same everywhere: a uniform choice.
        std = jnp.sqrt(state.hyper.amplitude * jnp.maximum(1 - state.explained, 0.0))
        best = jnp.max(observed(state), initial=-jnp.inf)
        utility = acquire(key_acquire, state.mean, std, best)[pool.embedding.row]
        allowed = candidates(key_pool, pool, state)
        chosen = acquisition.top(key_tie, jnp.where(allowed, utility, -jnp.inf), 1)
        epochs = jnp.full(1, epoch, jnp.int32)
        return Query(pool.arch[chosen], epochs, jnp.zeros(1, jnp.int32))

    def tell(
        pool: Pool, state: BayesOptState, query: Query, result: Result
    ) -> BayesOptState:
        place = place_of(pool, space.code(query.arch[0]))
        state = record(pool, state, place, result.score[0])
        return extend(pool, state, state.count > init)

    def grow(pool: Pool, state: BayesOptState, end: int) -> BayesOptState:
        del pool
        more = max(0, end - state.index.shape[0])
        return state._replace(
            index=jnp.pad(state.index, (0, more)),
            score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
            distances=jnp.pad(state.distances, ((0, 0), (0, more), (0, 0))),
            white_cross=jnp.pad(state.white_cross, ((0, more), (0, 0))),
            white_target=jnp.pad(state.white_target, (0, more)),
        )

    def refresh(pool: Pool, state: BayesOptState) -> BayesOptState:
        if state.index.shape[0] <= init:
            return state
        return refit(pool, state, tail)

    functions = (Partial(f, pool) for f in (initial, ask, tell, grow, refresh))
    return Search(*functions, stages=stages)


def refit_stages(init: int, num_steps: int) -> tuple[Stage, ...]:
    """Random evaluations, then stages up to 5 times as long, each with 4 to 7 refits.

    Every stage is compiled, so they are few, and close to evenly spaced in proportion.
    """
    if num_steps <= init:
        return (Stage(num_steps, num_steps),)
    few = max(1, math.ceil(math.log(num_steps / init) / math.log(5)))
    options = (_divide(init, num_steps, num) for num in (few, few + 1))
    found = next((o for o in options if o), (Stage(num_steps, num_steps - init),))
    return (Stage(init, init), *found)


def _divide(begin: int, end: int, num: int) -> tuple[Stage, ...]:
    """`num` stages from `begin` to `end`, or none if they cannot have equal parts."""
    length = end - begin
    if num == 1:
        parts = [k for k in (5, 6, 4, 7) if length % k == 0] + [length] * (length < 4)
        return tuple(Stage(end, length // k) for k in parts[:1])
    ideal = begin * (end / begin) ** (1 / num)
    for middle in sorted(range(begin + 1, end), key=lambda m: abs(m - ideal)):
        first = _divide(begin, middle, 1)
        rest = _divide(middle, end, num - 1) if first else ()
        if rest:
            return (*first, *rest)
    return ()


def observed(state: BayesOptState) -> Array:
    """The standardised targets (t,), -inf where there is none yet or it failed."""
    known = (jnp.arange(state.score.shape[0]) < state.count) & ~jnp.isnan(state.score)
    return jnp.where(known, gp.apply_target(state.target, state.score), -jnp.inf)


def record(
    pool: Pool, state: BayesOptState, place: Array, score: Array
) -> BayesOptState:
    """Appends one observation; the posterior does not know of it yet."""
    put, last = jax.lax.dynamic_update_index_in_dim, state.count
    column = gram.column(pool.embedding, pool.embedding.row[place])
    return state._replace(
        index=put(state.index, place.astype(jnp.int32), last, 0),
        score=put(state.score, score, last, 0),
        count=last + 1,
        seen=state.seen.at[place].set(True),
        distances=put(state.distances, column, last, 1),
    )


def extend(pool: Pool, state: BayesOptState, use: Array) -> BayesOptState:
    """Conditions the posterior on the last recorded observation (one Cholesky row).

    Where `use` () is False, as before the first fit, the posterior stays as it is.
    """
    last = state.count - 1
    put = jax.lax.dynamic_update_index_in_dim
    # Written one step late, and before it is read: then it happens in place.
    white_cross = put(state.white_cross, state.newest, jnp.maximum(last - 1, 0), 0)
    column = pool.embedding.row[state.index[last]]
    old = white_cross[:, column]
    size = jnp.sqrt(jnp.maximum(1 + state.hyper.noise - old @ old, state.hyper.noise))
    distances = jax.lax.dynamic_index_in_dim(state.distances, last, 1, False)
    new = gram.laplace(distances, state.hyper.scales)
    new = jnp.where(use, (new - old @ white_cross) / size, 0.0)
    z = gp.apply_target(state.target, state.score[last])
    weight = jnp.where(use, (z - old @ state.white_target) / size, 0.0)
    return state._replace(
        white_cross=white_cross,
        newest=new,
        white_target=put(state.white_target, weight, last, 0),
        mean=state.mean + weight * new,
        explained=state.explained + new**2,
    )


def refit(pool: Pool, state: BayesOptState, tail: float) -> BayesOptState:
    """Fits target scale and hyper-parameters, and rebuilds the posterior from nothing."""
    seen = jnp.arange(state.index.shape[0]) < state.count
    rows = pool.embedding.row[state.index]
    target = gp.standardise(state.score, seen, tail)
    z = jnp.where(seen, gp.apply_target(target, state.score), 0.0)
    distances = state.distances[:, :, rows]
    hyper = gp.fit(gram.laplace, distances, z, seen, pool.prior)
    matrix = gp.padded(gram.laplace(distances, hyper.scales), seen, hyper.noise)
    # A wide triangular solve is slow where a matrix product is fast: invert the factor.
    whiten = solve_triangular(
        jnp.linalg.cholesky(matrix), jnp.eye(len(seen)), lower=True
    )

    cross = gram.laplace(state.distances, hyper.scales)
    cross = jnp.where(seen[:, None], cross, 0.0)
    white_cross, white_target = whiten @ cross, whiten @ z
    return state._replace(
        hyper=hyper,
        target=target,
        white_cross=white_cross,
        newest=white_cross[state.count - 1],
        white_target=white_target,
        mean=white_target @ white_cross,
        explained=jnp.sum(white_cross**2, axis=0),
    )
