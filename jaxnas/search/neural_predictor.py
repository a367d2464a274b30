"""BANANAS (White et al., 2021): neural predictors of the score choose what to train.

After a random start, the search goes in rounds: an ensemble of networks is trained on
everything seen so far, its mean and spread score the neighbours of the best
architectures, and the most promising ones are evaluated, one step after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import acquisition, gp
from jaxnas.predictors.ensemble import Ensemble, mlp_ensemble
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.base import Search, Stage
from jaxnas.search.common import (
    append_slots,
    require_capacity,
    sample_new,
    train_from_scratch,
)
from jaxnas.spaces import identity
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import neighbours
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes

# The utility of what is asked only when the neighbours run out.
_LAST_RESORT = -1e30
# Rounds for which the state has room, before it grows by the same factor again and again.
_ROUNDS, _GROWTH = 32, 4


class BananasState(NamedTuple):
    """The history, in order, and what is asked next."""

    arch: Array  # (capacity, d) int32
    identity: Array  # (capacity, 2) uint32
    score: Array  # (capacity,), NaN where the evaluation failed
    count: Array  # () int32, evaluations so far
    # (q, d) int32, best first: the random start, then each round's choice and as many
    # more, for evaluations that are asked while others are in flight
    queue: Array
    seed: Array  # () uint32, with `count` the source of all randomness after the start


def bananas(
    space: Space,
    encode: Callable[[Array], Array],
    *,
    init: int = 20,
    round_size: int = 10,
    candidates: int = 100,
    parents: int = 10,
    ensemble: Ensemble | None = None,
    acquire: acquisition.Acquisition = acquisition.thompson,
    clip_below: float = float("inf"),
    batch: int = 1,
    epoch: int = FULL_TRAINING,
    capacity: int | None = None,
) -> Search:
    """BANANAS (White et al., 2021, Algorithm 1).

    A round begins with `refresh`, which trains the ensemble and chooses what the steps
    of the round ask. No architecture is evaluated twice; where the best have no new
    neighbour left, random ones are asked (and those may repeat in a space used up).
    Failed evaluations count as the worst score so far.

    Args:
      encode: arch (d,) -> features (f,), for example the space's path indicators.
      init: random evaluations before the first round.
      round_size: evaluations in a round, between two trainings.
      candidates: neighbours that are compared in a round, at most.
      parents: the best architectures so far, whose neighbours (one position changed)
        are the candidates, those of the best first.
      ensemble: how scores are predicted. Default: `mlp_ensemble()`.
      acquire: utility of the candidates, from the ensemble's mean and standard
        deviation. Default: an independent normal draw for each (independent Thompson
        sampling, ITS).
      clip_below: where to cut off bad scores before training, see
        `gp.fit_standardisation`.
      batch: architectures per step; it divides `init` and `round_size`.
      epoch: the epoch to which each is trained.
      capacity: None for `run` and `simulate`, which give the state the room that the
        run needs. A number of evaluations for ask and tell from Python.

    Raises: ValueError for sizes below 1 or that do not fit together.
    """
    _check(space, init, round_size, candidates, parents, batch, epoch, capacity)
    predict = mlp_ensemble() if ensemble is None else ensemble
    score = scorer(encode, predict, acquire, clip_below)

    rows = capacity or 0

    def start(key: Array) -> BananasState:
        key_sample, key_seed = jax.random.split(key)
        nothing = jnp.zeros((0, 2), jnp.uint32), jnp.zeros(0, bool)
        queue = sample_new(key_sample, space, init, *nothing)
        # What fills the queue up is seen when it is reached.
        more = jnp.broadcast_to(
            queue[0], (max(0, 2 * round_size - init), len(queue[0]))
        )
        return BananasState(
            arch=jnp.zeros((rows, len(space.choices)), jnp.int32),
            identity=jnp.zeros((rows, 2), jnp.uint32),
            score=jnp.full(rows, jnp.nan),
            count=jnp.int32(0),
            queue=jnp.concatenate([queue, more]),
            seed=jax.random.bits(key_seed, (), jnp.uint32),
        )

    def ask(key: Array, state: BananasState) -> Query:
        return train_from_scratch(next_in_queue(key, space, state, batch), epoch)

    def tell(state: BananasState, query: Query, result: Result) -> BananasState:
        return _recorded(space, state, query, result.score)

    def expect(state: BananasState, query: Query) -> BananasState:
        return _recorded(space, state, query, jnp.full(query.epoch.shape, jnp.nan))

    def grow(state: BananasState, end: int) -> BananasState:
        return state if capacity is not None else _grown(state, end * batch)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        if capacity is not None:
            require_capacity(capacity, batch, num_steps)
        return round_stages(init // batch, round_size // batch, num_steps)

    def refresh(state: BananasState) -> BananasState:
        if state.score.shape[0] <= init:
            return state  # the random start, known without looking at the count
        learnt = state.count >= init
        queue = jax.lax.cond(learnt, choose, lambda state: state.queue, state)
        return state._replace(queue=queue)

    def choose(state: BananasState) -> Array:
        return next_queue(space, score, state, round_size, candidates, parents)

    return Search(start, ask, tell, grow, refresh, expect, stages=stages, space=space)


def _check(
    space: Space,
    init: int,
    round_size: int,
    candidates: int,
    parents: int,
    batch: int,
    epoch: int,
    capacity: int | None,
) -> None:
    check_sizes(init=init, round_size=round_size, batch=batch, epoch=epoch)
    check_sizes(candidates=candidates, parents=parents)
    for name, size in {"init": init, "round_size": round_size}.items():
        if size % batch:
            raise ValueError(f"{name} = {size} must be a multiple of batch = {batch}")
    most = capacity if space.size is None else space.size
    if capacity is not None and not init <= capacity <= (most or capacity):
        raise ValueError(
            f"capacity must be between init = {init} and the {most} architectures of "
            f"{space.name}, not {capacity}"
        )
    if space.size is not None and init > space.size:
        raise ValueError(
            f"init must be at most the {space.size} architectures of {space.name}, "
            f"not {init}"
        )


def _recorded(
    space: Space, state: BananasState, query: Query, score: Array
) -> BananasState:
    """The state with the slots that were asked, and their scores (b,), after the others."""
    wanted = asked(query)
    slots = append_slots(state.count, wanted, len(state.score))
    ids = jax.vmap(space.identity)(query.arch)
    return state._replace(
        arch=state.arch.at[slots].set(query.arch, mode="drop"),
        identity=state.identity.at[slots].set(ids, mode="drop"),
        score=state.score.at[slots].set(score.astype(state.score.dtype), mode="drop"),
        count=state.count + wanted.sum(dtype=jnp.int32),
    )


def _grown(state: BananasState, size: int) -> BananasState:
    """The same, with room for at least `size` evaluations."""
    more = max(0, size - state.score.shape[0])
    return state._replace(
        arch=jnp.pad(state.arch, ((0, more), (0, 0))),
        identity=jnp.pad(state.identity, ((0, more), (0, 0))),
        score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
    )


def round_stages(first: int, every: int, num_steps: int) -> tuple[Stage, ...]:
    """The random start of `first` steps, then rounds of `every` steps.

    The state has room for 32 rounds, then for 128, and so on.
    """
    stages, rounds = [Stage(first, first)], _ROUNDS
    while stages[-1].end < num_steps:
        stages.append(Stage(first + rounds * every, every))
        rounds *= _GROWTH
    return tuple(stages)


def next_in_queue(key: Array, space: Space, state: BananasState, num: int) -> Array:
    """The first `num` new architectures (num, d) of the queue; random ones if it ends."""
    seen = jnp.arange(len(state.score)) < state.count
    ids = jax.vmap(space.identity)(state.queue)
    new = is_new(ids, jnp.ones(len(ids), bool), state.identity, seen)
    first = jnp.argsort(~new, stable=True)[:num]

    def random() -> Array:
        return sample_new(key, space, num, state.identity, seen)

    return jax.lax.cond(new.sum() >= num, lambda: state.queue[first], random)


# (key, state, seen (n,), arch (m, d)) -> utility (m,)
Scorer = Callable[[Array, BananasState, Array, Array], Array]


def next_queue(
    space: Space,
    score: Scorer,
    state: BananasState,
    round_size: int,
    candidates: int,
    parents: int,
) -> Array:
    """The queue (q, d), beginning with the architectures of the next round."""
    # A round outlives the step whose key could have chosen it, so the state brings
    # randomness of its own: the same history leads to the same choice.
    key = jax.random.fold_in(jax.random.key(state.seed), state.count)
    key_score, key_random, key_tie = jax.random.split(key, 3)
    seen = jnp.arange(len(state.score)) < state.count
    arch, ids, new = new_neighbours(space, state, seen, parents)
    new &= jnp.cumsum(new) <= candidates
    utility = score(key_score, state, seen, arch)
    utility = jnp.where(new, jnp.maximum(utility, 0.1 * _LAST_RESORT), -jnp.inf)

    ids = jnp.concatenate([state.identity, ids])
    known = jnp.concatenate([seen, new])
    random = sample_new(key_random, space, round_size, ids, known)
    arch = jnp.concatenate([arch, random])
    utility = jnp.append(utility, jnp.full(round_size, _LAST_RESORT))
    num = min(2 * round_size, len(utility))
    chosen = acquisition.top(key_tie, utility, num)
    # Where there are fewer, the first stands in their places: seen when they are reached.
    chosen = jnp.where(utility[chosen] > -jnp.inf, chosen, chosen[0])
    return state.queue.at[:num].set(arch[chosen])


def scorer(
    encode: Callable[[Array], Array],
    predict: Ensemble,
    acquire: acquisition.Acquisition,
    clip_below: float,
) -> Scorer:
    """Utilities from predictors that are trained anew."""

    def score(key: Array, state: BananasState, seen: Array, arch: Array) -> Array:
        key_fit, key_acquire = jax.random.split(key)
        target = gp.fit_standardisation(state.score, seen, clip_below)
        # With no success at all the floor, which stands for failures, is not finite.
        y = jnp.nan_to_num(gp.standardise(target, state.score), posinf=0.0)
        y = jnp.where(seen, y, 0.0)
        x, pool = (jax.vmap(encode)(a).astype(y.dtype) for a in (state.arch, arch))
        predicted = predict(key_fit, x, y, state.count, pool)
        best = jnp.max(y, where=seen, initial=-jnp.inf)
        return acquire(key_acquire, predicted.mean(0), predicted.std(0), best)

    return score


def new_neighbours(
    space: Space, state: BananasState, seen: Array, parents: int
) -> tuple[Array, Array, Array]:
    """The neighbours of the best architectures so far, those of the best first.

    Returns: vectors (m, d), their identities (m, 2), and whether each is new, (m,) bool.
    """
    score = nan_to_neg_inf(jnp.where(seen, state.score, jnp.nan))
    _, rows = jax.lax.top_k(score, min(parents, len(score)))
    arch, valid = jax.vmap(lambda arch: neighbours(space, arch))(state.arch[rows])
    valid &= seen[rows][:, None]
    arch, valid = arch.reshape(-1, arch.shape[-1]), valid.reshape(-1)
    ids = jax.vmap(space.identity)(arch)
    return arch, ids, is_new(ids, valid, state.identity, seen)


def is_new(ids: Array, valid: Array, known: Array, seen: Array) -> Array:
    """Which candidates are valid, not known, and the first of their kind.

    Args:
      ids: (m, 2) identities of the candidates.   valid: (m,) bool.
      known: (n, 2) identities.                   seen: (n,) bool, rows that count.

    Returns: (m,) bool.
    """
    new = valid & ~identity.member(ids, known, seen)
    # Only a new one makes a later one a repeat: an invalid vector's identity means nothing.
    twice = jnp.tril(identity.equal(ids[:, None], ids), -1)
    return new & ~(twice & new).any(1)
