"""BANANAS (White et al., 2021): search by a neural predictor of the score.

After a random start, the search proceeds in rounds. In each, an ensemble of networks is
trained on the history, its mean and spread give the utility of the neighbours of the best
architectures, and those of largest utility are evaluated, one step after another. The
state and the choice of a round are in `neural_queue`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnas import acquisition
from jaxnas.predictors.ensemble import Ensemble, mlp_ensemble
from jaxnas.search.base import Search, Stage
from jaxnas.search.common import (
    append_slots,
    require_capacity,
    sample_new,
    train_from_scratch,
)
from jaxnas.search.neural_queue import (
    BananasState,
    ensemble_scorer,
    next_in_queue,
    next_queue,
)
from jaxnas.spaces.base import Space
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes

# Rounds that the first stage has room for, and the factor to each later stage.
_ROUNDS, _GROWTH = 32, 4


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
    epoch: int | None = None,
    capacity: int | None = None,
) -> Search:
    """BANANAS (White et al., 2021, Algorithm 1).

    A round begins with `refresh`, which trains the ensemble and chooses the queries of
    the round. No architecture is evaluated twice; where the best have no new neighbour
    left, random ones are asked (which may repeat in a space that is exhausted). Failed
    evaluations count as the worst score so far.

    Args:
      space: of the architectures.
      encode: arch (d,) -> features (f,), for example the space's path indicators.
      init: random evaluations before the first round.
      round_size: evaluations in a round, between two trainings.
      candidates: neighbours that are compared in a round, at most.
      parents: best architectures so far whose neighbours (one position changed) are the
        candidates, those of the best first.
      ensemble: predictor of scores. Default: `mlp_ensemble()`.
      acquire: utility of the candidates, from the ensemble's mean and standard
        deviation. Default: an independent normal draw for each (independent Thompson
        sampling, ITS).
      clip_below: where to cut off bad scores before training, see
        `gp.fit_standardisation`.
      batch: architectures per step; it divides `init` and `round_size`.
      epoch: the epoch to which each architecture is trained; default: the last one.
      capacity: None for `run` and `simulate`, which give the state the room that the
        run needs. A number of evaluations for ask and tell from Python.

    Raises: `ValueError` for sizes below 1 or that do not fit together; and by `stages`
      for a run that is longer than `capacity`.
    """
    epoch = FULL_TRAINING if epoch is None else epoch
    check_sizes(init=init, round_size=round_size, batch=batch, epoch=epoch)
    check_sizes(candidates=candidates, parents=parents)
    _validate_sizes(space, init, round_size, batch, capacity)
    predict = mlp_ensemble() if ensemble is None else ensemble
    score = ensemble_scorer(encode, predict, acquire, clip_below)

    def start(key: Array) -> BananasState:
        return _initial(key, space, init, 2 * round_size, capacity or 0)

    def ask(key: Array, state: BananasState) -> Query:
        return train_from_scratch(next_in_queue(key, space, state, batch), epoch)

    def tell(state: BananasState, query: Query, result: Result) -> BananasState:
        return _append(space, state, query, result.score)

    def expect(state: BananasState, query: Query) -> BananasState:
        return _append(space, state, query, jnp.full(query.epoch.shape, jnp.nan))

    def grow(state: BananasState, end: int) -> BananasState:
        return state if capacity is not None else _grow(state, end * batch)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        if capacity is not None:
            require_capacity(capacity, batch, num_steps)
        return round_stages(init // batch, round_size // batch, num_steps)

    def refresh(state: BananasState) -> BananasState:
        if state.score.shape[0] <= init:
            return state  # the stage of the random start: known while tracing
        started = state.count >= init
        queue = jax.lax.cond(started, choose, lambda state: state.queue, state)
        return state._replace(queue=queue)

    def choose(state: BananasState) -> Array:
        return next_queue(space, score, state, round_size, candidates, parents)

    return Search(start, ask, tell, grow, refresh, expect, stages=stages, space=space)


def _validate_sizes(
    space: Space, init: int, round_size: int, batch: int, capacity: int | None
) -> None:
    """Raises `ValueError` for sizes that do not fit together or exceed the space."""
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


def _initial(
    key: Array, space: Space, init: int, queue_size: int, capacity: int
) -> BananasState:
    """Empty history, and a queue of `init` random architectures.

    Args:
      key: of the sample, and of the seed of later randomness.
      space: of the architectures.
      init: random architectures.
      queue_size: rows of the queue, at least; those after `init` are padding.
      capacity: rows of the history.
    """
    key_sample, key_seed = jax.random.split(key)
    nothing = jnp.zeros((0, 2), jnp.uint32), jnp.zeros(0, bool)
    queue = sample_new(key_sample, space, init, *nothing)
    # Padded with the first, which has been evaluated by the time the padding is reached.
    padding = jnp.broadcast_to(queue[0], (max(0, queue_size - init), len(queue[0])))
    return BananasState(
        arch=jnp.zeros((capacity, len(space.choices)), jnp.int32),
        identity=jnp.zeros((capacity, 2), jnp.uint32),
        score=jnp.full(capacity, jnp.nan),
        count=jnp.int32(0),
        queue=jnp.concatenate([queue, padding]),
        seed=jax.random.bits(key_seed, (), jnp.uint32),
    )


def _append(
    space: Space, state: BananasState, query: Query, score: Array
) -> BananasState:
    """Appends the slots of a query that are not idle, with scores (b,), to the history."""
    active = asked(query)
    rows = append_slots(state.count, active, len(state.score))
    ids = jax.vmap(space.identity)(query.arch)
    return state._replace(
        arch=state.arch.at[rows].set(query.arch, mode="drop"),
        identity=state.identity.at[rows].set(ids, mode="drop"),
        score=state.score.at[rows].set(score.astype(state.score.dtype), mode="drop"),
        count=state.count + active.sum(dtype=jnp.int32),
    )


def _grow(state: BananasState, size: int) -> BananasState:
    """Pads the history to a capacity of at least `size` evaluations."""
    more = max(0, size - state.score.shape[0])
    return state._replace(
        arch=jnp.pad(state.arch, ((0, more), (0, 0))),
        identity=jnp.pad(state.identity, ((0, more), (0, 0))),
        score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
    )


def round_stages(first: int, every: int, num_steps: int) -> tuple[Stage, ...]:
    """Stages of a run: the random start, then rounds of growing number.

    The second stage has room for 32 rounds, the third for 128, and so on.

    Args:
      first: steps of the random start.
      every: steps of a round.
      num_steps: length of the run.
    """
    stages, rounds = [Stage(first, first)], _ROUNDS
    while stages[-1].end < num_steps:
        stages.append(Stage(first + rounds * every, every))
        rounds *= _GROWTH
    return tuple(stages)
