"""Search for the best of stored scores: random search, and evolution by best mutants.

The algorithms of the Free-Training NAS project (Capobianco, Compagnone and De Cristofaro).
Its evolution is not that of `jaxnas.search.evolution`: a child is the best of all mutants
of its parent, because scores cost next to nothing. The cost of a run is counted twice: as
in the project, where a score is computed anew at every lookup, and by the different
architectures that are scored, each of which has to be paid once.

    landscape = fitness_landscape(SPACE, rows.arch, score, seconds)
    runs = jax.jit(jax.vmap(functools.partial(evolution, landscape=landscape)))(keys)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import metrics, ranks
from jaxnas.batching import in_chunks
from jaxnas.spaces.base import Space, rank
from jaxnas.spaces.moves import neighbours
from jaxnas.types import Array, check_sizes


class FitnessLandscape(NamedTuple):
    """The scores of all n architectures of a space and their mutants, as a pytree."""

    order: Array  # (n,) int32, as from `ranks.ordinal`
    seconds: Array  # (n,) to compute the score
    near: Array  # (n, k) int32, rows of the mutants, by position, then by choice


class ScoreRun(NamedTuple):
    """The architectures that one run visited, and their cost."""

    row: Array  # (t,) int32, the architectures that were visited, in order
    incumbent: Array  # (t,) int32, the best so far; -1 until a score is positive
    charged: Array  # () seconds, as the reference counts them: for every lookup
    lookups: Array  # () int32, scores that were looked up
    distinct: Array  # () int32, different architectures among them
    seconds: Array  # () to score each of these once


def fitness_landscape(
    space: Space, arch: np.ndarray, score: np.ndarray, seconds: np.ndarray
) -> FitnessLandscape:
    """Prepares the landscape of a complete table of scores, on the host.

    Args:
      space: of n architectures, all of whose vectors are valid.
      arch: (n, d) all vectors of the space, in any order.
      score: (n,) higher is better, in any precision; NaN is the worst, as is -inf.
      seconds: (n,) what scoring costs; NaN where it is not known.

    Raises: `ValueError` for lengths that differ, for vectors that are missing, and for a
      space with vectors that are not valid: its architectures differ in the number of
      mutants.
    """
    num = len(arch)
    if len(score) != num or len(seconds) != num:
        raise ValueError(
            f"{num} architectures have {len(score)} scores and {len(seconds)} times"
        )
    archs = np.asarray(arch, np.int32)
    ranks_of = np.asarray(in_chunks(lambda arch: rank(space, arch), archs))
    row_of = np.argsort(ranks_of)
    if len(np.unique(ranks_of)) != space.size or num != space.size:
        raise ValueError(
            f"wanted each of the {space.size} architectures of {space.name} once, "
            f"found {num} rows, {len(np.unique(ranks_of))} of them different"
        )

    def mutants(arch: Array) -> tuple[Array, Array]:
        changed, valid = neighbours(space, arch)
        # `neighbours` cycles from the present choice on: put the choices in order.
        position = jnp.argmax(changed != arch, axis=1)
        value = jnp.take_along_axis(changed, position[:, None], 1)[:, 0]
        ascending = jnp.lexsort((value, position))
        return rank(space, changed)[ascending], valid.all()

    near, valid = in_chunks(mutants, archs)
    if not valid.all():
        raise ValueError(f"{space.name} has vectors that are not valid architectures")
    return FitnessLandscape(
        jnp.asarray(ranks.ordinal(score)),
        jnp.asarray(seconds, jnp.float32),
        jnp.asarray(row_of[np.searchsorted(ranks_of, near, sorter=row_of)], jnp.int32),
    )


def random_scores(
    key: Array, landscape: FitnessLandscape, *, visits: int = 500
) -> ScoreRun:
    """Visits architectures uniformly at random, with replacement.

    Args:
      key: of the run.
      landscape: of scores.
      visits: in all.
    """
    check_sizes(visits=visits)
    row = jax.random.randint(key, (visits,), 0, landscape.order.shape[0], jnp.int32)
    charged = landscape.seconds[row].sum()
    return ScoreRun(row, _incumbents(landscape, row), charged, *_paid(landscape, row))


def evolution(
    key: Array,
    landscape: FitnessLandscape,
    *,
    visits: int = 500,
    population: int = 64,
    tournament: int = 10,
    warmup: int = 0,
    epsilon: float = 0.25,
) -> ScoreRun:
    """Aging evolution by best mutants.

    The parent is the best of a tournament; ties go to the youngest. The child is its best
    mutant; ties go to the last. With probability `epsilon` it is a random mutant. The
    oldest member dies. The incumbent is the best of all that were visited.

    Args:
      key: of the run.
      landscape: of scores.
      visits: in all; the first population is part of them.
      population: members at any time.
      tournament: members of a tournament, drawn without replacement.
      warmup: number of random architectures that are scored first if it is larger than
        `population`; the best of them are the first population, the best the oldest.
      epsilon: probability that the child is a mutant drawn uniformly, as in
        epsilon-greedy exploration.

    Raises: `ValueError` for sizes below 1, unless tournament <= population <= visits, and
      for a probability outside of [0, 1].
    """
    check_sizes(visits=visits, population=population, tournament=tournament)
    if not tournament <= population <= visits:
        raise ValueError(
            f"wanted tournament <= population <= visits, not {tournament}, "
            f"{population} and {visits}"
        )
    if not 0 <= epsilon <= 1 or warmup < 0:
        raise ValueError(
            f"epsilon must be 0 to 1 and warmup from 0, not {epsilon} and {warmup}"
        )
    key_first, key_steps = jax.random.split(key)
    num, num_near = landscape.near.shape
    drawn = jax.random.randint(key_first, (max(population, warmup),), 0, num, jnp.int32)
    members = drawn
    if warmup > population:
        members = drawn[jnp.argsort(-landscape.order[drawn], stable=True)[:population]]

    def step(members: Array, key: Array):
        key_drawn, key_epsilon, key_any = jax.random.split(key, 3)
        # Members are in the order of their age, the oldest first.
        drawn = jax.random.choice(key_drawn, population, (tournament,), replace=False)
        rows = members[jnp.sort(drawn)]
        parent = rows[_last_best(landscape.order[rows])]
        mutants = landscape.near[parent]
        best = _last_best(landscape.order[mutants])
        any_one = jax.random.randint(key_any, (), 0, num_near)
        explores = jax.random.uniform(key_epsilon) < epsilon
        child = mutants[jnp.where(explores, any_one, best)]
        # An oversight of the reference: mutants are free of charge where it explores.
        charge = jnp.where(explores, 0.0, landscape.seconds[mutants].sum())
        return jnp.append(members[1:], child), (child, mutants, charge)

    keys = jax.random.split(key_steps, visits - population)
    _, (children, mutants, charges) = jax.lax.scan(step, members, keys)
    row = jnp.append(members, children)
    charged = landscape.seconds[drawn].sum() + charges.sum()
    scored = jnp.append(drawn, mutants.reshape(-1))
    return ScoreRun(
        row, _incumbents(landscape, row), charged, *_paid(landscape, scored)
    )


def expected_random(
    score: np.ndarray, value: np.ndarray, visits: int
) -> tuple[float, float]:
    """Mean and standard deviation of `value` at the best of random visits, exactly.

    The best of t draws with replacement is in a group of equal scores, on the ranks a + 1
    to b of n from below, with probability (b / n)^t - (a / n)^t.

    Args:
      score: (n,) of all architectures, higher is better.
      value: (n,) what is reported of the best-scored one, such as its accuracy.
      visits: t.
    """
    _, group, size = np.unique(
        ranks.ordinal(score), return_inverse=True, return_counts=True
    )
    upper = (np.cumsum(size) / len(group)) ** visits
    share = (np.diff(upper, prepend=0.0) / size)[group]
    value = np.asarray(value, np.float64)
    mean = share @ value
    return float(mean), float(np.sqrt(share @ (value - mean) ** 2))


def _last_best(order: Array) -> Array:
    """The index () of the largest of `order` (m,); ties go to the last."""
    return order.shape[0] - 1 - jnp.argmax(order[::-1])


def _incumbents(landscape: FitnessLandscape, row: Array) -> Array:
    """The incumbent (t,) after each visit; -1 until a score is positive.

    As in the reference, a run begins with no architecture and the score 0.
    """
    order = landscape.order[row]
    visit = metrics.incumbent(jnp.where(order > 0, order, jnp.nan))
    return jnp.where(visit < 0, -1, row[jnp.maximum(visit, 0)])


def _paid(landscape: FitnessLandscape, scored: Array) -> tuple[Array, Array, Array]:
    """The numbers of lookups and of distinct architectures, and the seconds of these."""
    seen = jnp.zeros(landscape.order.shape, bool).at[scored].set(True)
    seconds = jnp.sum(jnp.where(seen, landscape.seconds, 0.0))
    return jnp.int32(scored.shape[0]), seen.sum(dtype=jnp.int32), seconds
