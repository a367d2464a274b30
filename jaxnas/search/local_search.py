"""Local search (White et al., 2021): a descent over the neighbours of the incumbent.

The state is the centre of the neighbourhood, the best architecture of this descent, and the
neighbours that have been evaluated.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import acquisition
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.base import Search
from jaxnas.search.common import train_from_scratch
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import neighbours, sample
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes


class LocalSearchState(NamedTuple):
    """A descent; before the random start is complete there is no centre."""

    centre: Array  # (d,) int32, whose neighbours are evaluated
    centre_score: Array  # (), -inf if its training failed
    best: Array  # (d,) int32, of this descent
    best_score: Array  # ()
    visited: Array  # (k,) bool, neighbours of the centre that have been evaluated
    restart: Array  # () bool, whether the next random architecture becomes the centre
    count: Array  # () int32, evaluations so far


def local_search(
    space: Space, *, init: int = 20, batch: int = 1, epoch: int | None = None
) -> Search:
    """Local search (White et al., 2021, Algorithm 1), with restarts.

    The centre is the best of `init` random architectures. All of its neighbours are
    evaluated in random order. If one of them is better than the centre, the best is the
    next centre; otherwise the search restarts from one random architecture, which is
    evaluated like any other.

    Args:
      space: of the architectures, each of which must have a neighbour.
      init: random architectures at the start.
      batch: architectures per step. Random architectures fill a step for which too few
        neighbours are left that are not in flight.
      epoch: the epoch to which each architecture is trained; default: the last one.

    Raises: `ValueError` for sizes below 1.
    """
    epoch = FULL_TRAINING if epoch is None else epoch
    check_sizes(init=init, batch=batch, epoch=epoch)

    def start(key: Array) -> LocalSearchState:
        arch = sample(key, space)
        worst = jnp.float32(-jnp.inf).astype(jnp.zeros(0).dtype)
        visited = jnp.zeros(len(neighbours(space, arch)[1]), bool)
        return LocalSearchState(
            arch, worst, arch, worst, visited, jnp.bool_(False), jnp.int32(0)
        )

    def ask(key: Array, state: LocalSearchState) -> Query:
        key_order, key_random = jax.random.split(key)
        arch, valid = neighbours(space, state.centre)
        left = valid & ~state.visited & (state.count >= init)
        slots = min(batch, len(left))
        utility = jnp.where(left, 0.0, -jnp.inf)
        first = acquisition.top(key_order, utility, slots)
        keys = jax.random.split(key_random, batch)
        random = jax.vmap(lambda key: sample(key, space))(keys)
        near = jnp.where(left[first][:, None], arch[first], random[:slots])
        return train_from_scratch(random.at[:slots].set(near), epoch)

    def expect(state: LocalSearchState, query: Query) -> LocalSearchState:
        arch, _ = neighbours(space, state.centre)
        same = (arch[:, None] == query.arch).all(-1) & asked(query)
        return state._replace(visited=state.visited | same.any(1))

    def tell(state: LocalSearchState, query: Query, result: Result) -> LocalSearchState:
        def one(
            state: LocalSearchState, evaluation: tuple
        ) -> tuple[LocalSearchState, None]:
            arch, score, active = evaluation
            new = _tell(space, init, state, arch, nan_to_neg_inf(score))
            return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, state), None

        return jax.lax.scan(one, state, (query.arch, result.score, asked(query)))[0]

    # A neighbour without a score is visited: the descent would wait for it for ever.
    return Search(start, ask, tell, expect=expect, abandon=expect, space=space)


def _tell(
    space: Space, init: int, state: LocalSearchState, arch: Array, score: Array
) -> LocalSearchState:
    """The state after the score () of one architecture (d,), -inf if it failed."""
    near, valid = neighbours(space, state.centre)
    same = valid & (near == arch).all(-1) & (state.count >= init)
    # Among random architectures the first one after the descent is the restart; others
    # compete for the best.
    restarts = state.restart & ~same.any()
    better = restarts | (score > state.best_score)
    state = state._replace(
        best=jnp.where(better, arch, state.best),
        best_score=jnp.where(better, score, state.best_score),
        visited=state.visited | same,
        count=state.count + 1,
    )
    exhausted = (state.visited | ~valid).all() & (state.count > init)
    improved = state.best_score > state.centre_score
    moves = restarts | (state.count == init) | (exhausted & improved)
    return state._replace(
        centre=jnp.where(moves, state.best, state.centre),
        centre_score=jnp.where(moves, state.best_score, state.centre_score),
        visited=state.visited & ~moves,
        restart=(exhausted | state.restart) & ~moves,
    )
