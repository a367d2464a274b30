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
from jaxnas.search.base import Search, Stage
from jaxnas.search.ensemble import Ensemble, mlp_ensemble
from jaxnas.search.parts import (
    check_sizes,
    failed_last,
    fixed_room,
    from_nothing,
    sample_new,
)
from jaxnas.spaces.base import Space, neighbours
from jaxnas.types import FULL_TRAINING, Array, Query, Result

# The utility of what is asked only when the neighbours run out.
_LAST_RESORT = -1e30


class BananasState(NamedTuple):
    """The history, in order, and what is asked next."""

    arch: Array  # (capacity, d) int32
    code: Array  # (capacity,) int32
    score: Array  # (capacity,), NaN where the evaluation failed
    count: Array  # () int32, evaluations so far
    queue: Array  # (q, d) int32, first the random start, then each round's choice
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
    tail: float = float("inf"),
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
      tail: where to cut off bad scores before training, see `gp.standardise`.
      batch: architectures per step; it divides `init` and `round_size`.
      epoch: the epoch to which each is trained.
      capacity: None for `run` and `simulate`, which give the state the room that the
        run needs. A number of evaluations for ask and tell from Python.

    Raises: ValueError for sizes below 1 or that do not fit together.
    """
    _check(space, init, round_size, candidates, parents, batch, epoch, capacity)
    predict = mlp_ensemble() if ensemble is None else ensemble
    score = scorer(encode, predict, acquire, tail)

    def start(key: Array) -> BananasState:
        key_sample, key_seed = jax.random.split(key)
        nothing = jnp.zeros(0, jnp.int32), jnp.zeros(0, bool)
        queue = sample_new(key_sample, space, init, *nothing)
        rows = capacity or 0
        return BananasState(
            arch=jnp.zeros((rows, len(space.choices)), jnp.int32),
            code=jnp.zeros(rows, jnp.int32),
            score=jnp.full(rows, jnp.nan),
            count=jnp.int32(0),
            queue=jnp.pad(queue, ((0, max(0, round_size - init)), (0, 0))),
            seed=jax.random.bits(key_seed, (), jnp.uint32),
        )

    def ask(key: Array, state: BananasState) -> Query:
        del key  # what to ask was decided when the round began
        done = state.count - init
        place = jnp.where(done < 0, state.count, done % round_size)
        arch = jax.lax.dynamic_slice_in_dim(state.queue, place, batch)
        return from_nothing(arch, epoch)

    def tell(state: BananasState, query: Query, result: Result) -> BananasState:
        return _recorded(space, state, query.arch, result.score)

    def grow(state: BananasState, end: int) -> BananasState:
        if capacity is not None:
            return fixed_room(capacity, batch)(state, end)
        return _grown(state, end * batch)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        return round_stages(init // batch, round_size // batch, num_steps)

    def refresh(state: BananasState) -> BananasState:
        if state.score.shape[0] <= init:
            return state  # the random start, known without looking at the count
        learnt = state.count >= init
        queue = jax.lax.cond(learnt, choose, lambda state: state.queue, state)
        return state._replace(queue=queue)

    def choose(state: BananasState) -> Array:
        return next_queue(space, score, state, round_size, candidates, parents)

    return Search(start, ask, tell, grow, refresh, stages)


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
    if not init <= (init if capacity is None else capacity) <= space.size:
        raise ValueError(
            f"capacity must be between init = {init} and the {space.size} "
            f"architectures of {space.name}, not {capacity}"
        )


def _recorded(
    space: Space, state: BananasState, arch: Array, score: Array
) -> BananasState:
    """The state with architectures (b, d) and their scores (b,) after the others."""
    slots = state.count + jnp.arange(len(arch))
    code = jax.vmap(space.code)(arch)
    return state._replace(
        arch=state.arch.at[slots].set(arch, mode="drop"),
        code=state.code.at[slots].set(code, mode="drop"),
        score=state.score.at[slots].set(score, mode="drop"),
        count=state.count + len(arch),
    )


def _grown(state: BananasState, size: int) -> BananasState:
    """The same, with room for `size` evaluations."""
    more = size - state.score.shape[0]
    return state._replace(
        arch=jnp.pad(state.arch, ((0, more), (0, 0))),
        code=jnp.pad(state.code, (0, more)),
        score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
    )


def round_stages(first: int, every: int, num_steps: int) -> tuple[Stage, ...]:
    """The random start of `first` steps, rounds of `every` steps, and a shorter one."""
    if num_steps <= first:
        return (Stage(num_steps, num_steps),)
    rest = (num_steps - first) % every
    rounds = Stage(num_steps - rest, every)
    ends = [Stage(first, first), rounds, Stage(num_steps, max(rest, 1))]
    # The rounds may be none, and so may the rest.
    begins = (0, *(stage.end for stage in ends[:-1]))
    both = zip(begins, ends, strict=True)
    return tuple(stage for begin, stage in both if stage.end > begin)


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
    """The queue (q, d), beginning with the `round_size` architectures of the next round."""
    # A round outlives the step whose key could have chosen it, so the state brings
    # randomness of its own: the same history leads to the same choice.
    key = jax.random.fold_in(jax.random.key(state.seed), state.count)
    key_score, key_random, key_tie = jax.random.split(key, 3)
    seen = jnp.arange(len(state.score)) < state.count
    arch, code, new = new_neighbours(space, state, seen, parents)
    new &= jnp.cumsum(new) <= candidates
    utility = score(key_score, state, seen, arch)
    utility = jnp.where(new, jnp.maximum(utility, 0.1 * _LAST_RESORT), -jnp.inf)

    codes = jnp.concatenate([state.code, code])
    known = jnp.concatenate([seen, new])
    random = sample_new(key_random, space, round_size, codes, known)
    arch = jnp.concatenate([arch, random])
    utility = jnp.append(utility, jnp.full(round_size, _LAST_RESORT))
    chosen = acquisition.top(key_tie, utility, round_size)
    return state.queue.at[:round_size].set(arch[chosen])


def scorer(
    encode: Callable[[Array], Array],
    predict: Ensemble,
    acquire: acquisition.Acquisition,
    tail: float,
) -> Scorer:
    """Utilities from predictors that are trained anew."""

    def score(key: Array, state: BananasState, seen: Array, arch: Array) -> Array:
        key_fit, key_acquire = jax.random.split(key)
        target = gp.standardise(state.score, seen, tail)
        # With no success at all the floor, which stands for failures, is not finite.
        y = jnp.nan_to_num(gp.apply_target(target, state.score), posinf=0.0)
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

    Returns: vectors (m, d), their codes (m,), and whether each is new, (m,) bool.
    """
    score = failed_last(jnp.where(seen, state.score, jnp.nan))
    _, rows = jax.lax.top_k(score, min(parents, len(score)))
    arch, valid = jax.vmap(lambda arch: neighbours(space, arch))(state.arch[rows])
    valid &= seen[rows][:, None]
    arch, valid = arch.reshape(-1, arch.shape[-1]), valid.reshape(-1)
    code = jax.vmap(space.code)(arch)
    return arch, code, is_new(code, valid, state.code, seen)


def is_new(code: Array, valid: Array, known: Array, seen: Array) -> Array:
    """Which candidates are valid, not known, and the first of their kind.

    Args:
      code: (m,) of the candidates.    valid: (m,) bool.
      known: (n,) codes.               seen: (n,) bool, rows that count.

    Returns: (m,) bool.
    """
    new = valid & ~((code[:, None] == known) & seen).any(1)
    # Only a new one makes a later one a repeat: an invalid vector's code means nothing.
    return new & ~(jnp.tril(code[:, None] == code, -1) & new).any(1)
