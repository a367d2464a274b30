"""The queue of BANANAS: neighbours of the best architectures, ranked by an ensemble.

A round of the search begins with `next_queue`. It trains an ensemble on the history,
scores the new neighbours of the best architectures and sorts them by utility; the steps
of the round take them from the queue with `next_in_queue`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import acquisition, gp
from jaxnas.predictors.ensemble import Ensemble
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.common import filled, sample_new
from jaxnas.spaces import identity
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import neighbours
from jaxnas.types import Array

# Utility of the random architectures that are asked only when the neighbours run out.
_LAST_RESORT = -1e30


class BananasState(NamedTuple):
    """The history, in order, and the queue of architectures to ask next."""

    arch: Array  # (capacity, d) int32
    identity: Array  # (capacity, 2) uint32
    score: Array  # (capacity,), NaN where the evaluation failed
    count: Array  # () int32, evaluations so far
    # (q, d) int32, best first: the random start, then each round's choice and as many
    # more, for evaluations that are asked while others are in flight
    queue: Array
    seed: Array  # () uint32, with `count` the source of all randomness after the start


# Scorer = (key, state, seen (n,) bool, arch (m, d)) -> utility (m,), n the capacity.
Scorer = Callable[[Array, BananasState, Array, Array], Array]


def next_in_queue(key: Array, space: Space, state: BananasState, num: int) -> Array:
    """Takes the first new architectures of the queue.

    Args:
      key: for random architectures, all of which are random if the queue has too few.
      space: of the architectures.
      state: with the queue.
      num: architectures to take.

    Returns: (num, d) int32.
    """
    seen = filled(state)
    ids = jax.vmap(space.identity)(state.queue)
    new = is_new(ids, jnp.ones(len(ids), bool), state.identity, seen)
    first = jnp.argsort(~new, stable=True)[:num]

    def random() -> Array:
        return sample_new(key, space, num, state.identity, seen)

    return jax.lax.cond(new.sum() >= num, lambda: state.queue[first], random)


def next_queue(
    space: Space,
    score: Scorer,
    state: BananasState,
    round_size: int,
    candidates: int,
    parents: int,
) -> Array:
    """Fills the queue for the next round.

    Args:
      space: of the architectures.
      score: utilities of candidates.
      state: with the history.
      round_size: evaluations in a round; the queue gets twice as many.
      candidates: neighbours that are compared, at most.
      parents: best architectures whose neighbours are candidates.

    Returns: (q, d) int32, the architectures of largest utility first, and random new
      ones after them.
    """
    # A round outlives the step whose key could have chosen it, so the state brings
    # randomness of its own: the same history leads to the same choice.
    key = jax.random.fold_in(jax.random.key(state.seed), state.count)
    key_score, key_random, key_tie = jax.random.split(key, 3)
    seen = filled(state)
    arch, ids, new = new_neighbours(space, state, seen, parents)
    new &= jnp.cumsum(new) <= candidates
    utility = score(key_score, state, seen, arch)
    utility = jnp.where(new, jnp.maximum(utility, 0.1 * _LAST_RESORT), -jnp.inf)

    ids = jnp.concatenate([state.identity, ids])
    valid = jnp.concatenate([seen, new])
    random = sample_new(key_random, space, round_size, ids, valid)
    arch = jnp.concatenate([arch, random])
    utility = jnp.append(utility, jnp.full(round_size, _LAST_RESORT))
    num = min(2 * round_size, len(utility))
    chosen = acquisition.top(key_tie, utility, num)
    # Padded with the first, which has been evaluated by the time the padding is reached.
    chosen = jnp.where(utility[chosen] > -jnp.inf, chosen, chosen[0])
    return state.queue.at[:num].set(arch[chosen])


def ensemble_scorer(
    encode: Callable[[Array], Array],
    predict: Ensemble,
    acquire: acquisition.Acquisition,
    clip_below: float,
) -> Scorer:
    """Utilities from an ensemble that is trained on the whole history at each call.

    Args:
      encode: arch (d,) -> features (f,).
      predict: trains the ensemble and predicts.
      acquire: utility from the ensemble's mean and standard deviation.
      clip_below: as for `gp.fit_standardisation`.
    """

    def score(key: Array, state: BananasState, seen: Array, arch: Array) -> Array:
        key_fit, key_acquire = jax.random.split(key)
        unit = gp.fit_standardisation(state.score, seen, clip_below)
        y = jnp.where(seen, gp.standardise(unit, state.score), 0.0)
        x, new = (jax.vmap(encode)(a).astype(y.dtype) for a in (state.arch, arch))
        predicted = predict(key_fit, x, y, state.count, new)
        incumbent = jnp.max(y, where=seen, initial=-jnp.inf)
        return acquire(key_acquire, predicted.mean(0), predicted.std(0), incumbent)

    return score


def new_neighbours(
    space: Space, state: BananasState, seen: Array, parents: int
) -> tuple[Array, Array, Array]:
    """Lists the neighbours of the best architectures so far, those of the best first.

    Args:
      space: of the architectures.
      state: with the history.
      seen: (capacity,) bool, rows of the history that count.
      parents: best architectures whose neighbours are listed.

    Returns: vectors (m, d), their identities (m, 2), and whether each is valid, new and
      no repeat, (m,) bool.
    """
    score = nan_to_neg_inf(jnp.where(seen, state.score, jnp.nan))
    _, best = jax.lax.top_k(score, min(parents, len(score)))
    arch, valid = jax.vmap(lambda arch: neighbours(space, arch))(state.arch[best])
    valid &= seen[best][:, None]
    arch, valid = arch.reshape(-1, arch.shape[-1]), valid.reshape(-1)
    ids = jax.vmap(space.identity)(arch)
    return arch, ids, is_new(ids, valid, state.identity, seen)


def is_new(ids: Array, valid: Array, known: Array, seen: Array) -> Array:
    """Which candidates are valid, not known, and no repeats of earlier candidates.

    Args:
      ids: (m, 2) identities of the candidates.
      valid: (m,) bool, candidates that are valid architectures.
      known: (n, 2) identities of known architectures.
      seen: (n,) bool, rows of `known` that count.

    Returns: (m,) bool.
    """
    new = valid & ~identity.member(ids, known, seen)
    # Only a new candidate makes a later one a repeat: an invalid vector's identity means
    # nothing.
    repeat = jnp.tril(identity.equal(ids[:, None], ids), -1)
    return new & ~(repeat & new).any(1)
