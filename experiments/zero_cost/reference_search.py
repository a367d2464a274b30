"""Search for the best score in a table: random search, and evolution by best mutants.

The algorithms of the Free-Training NAS project (Capobianco, Compagnone and De Cristofaro).
Its evolution is not that of `jaxnas.search.evolution`: a child is the best of all mutants
of its parent, because scores cost next to nothing. The cost of a run is counted twice: as
in the project, where a score is computed anew at every lookup, and by the different
architectures that are scored, each of which has to be paid once.

    table = score_table(SPACE, rows.arch, score, seconds)
    runs = jax.jit(jax.vmap(functools.partial(evolution, table=table)))(keys)
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


class ScoreTable(NamedTuple):
    """The scores of all n architectures of a space, as a pytree."""

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


def score_table(
    space: Space, arch: np.ndarray, score: np.ndarray, seconds: np.ndarray
) -> ScoreTable:
    """Prepares a complete table of scores, on the host.

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
        raise ValueError(f"some vectors of {space.name} are not valid architectures")
    return ScoreTable(
        jnp.asarray(ranks.ordinal(score)),
        jnp.asarray(seconds, jnp.float32),
        jnp.asarray(row_of[np.searchsorted(ranks_of, near, sorter=row_of)], jnp.int32),
    )


def random_scores(key: Array, table: ScoreTable, *, visits: int = 500) -> ScoreRun:
    """Visits architectures uniformly at random, with replacement.

    Args:
      key: of the run.
      table: of scores.
      visits: in all.
    """
    check_sizes(visits=visits)
    row = jax.random.randint(key, (visits,), 0, table.order.shape[0], jnp.int32)
    charged = table.seconds[row].sum()
    return ScoreRun(row, _incumbents(table, row), charged, *_paid(table, row))


def evolution(
    key: Array,
    table: ScoreTable,
    *,
    visits: int = 500,
    population: int = 64,
    tournament: int = 10,
    warmup: int = 0,
    wander: float = 0.25,
) -> ScoreRun:
    """Aging evolution by best mutants.

    The parent is the best of a tournament, of equal ones the youngest. The child is its
    best mutant, of equal ones the last, or with probability `wander` any mutant. The
    oldest member dies. The incumbent is the best of all that were visited.

    Args:
      key: of the run.
      table: of scores.
      visits: in all; the first population is part of them.
      population: members at any time.
      tournament: members of a tournament, drawn without replacement.
      warmup: number of random architectures that are scored first if it is larger than
        `population`; the best of them are the first population, the best the oldest.
      wander: probability that the child is any mutant of its parent.

    Raises: `ValueError` for sizes below 1, unless tournament <= population <= visits, and
      for a probability outside of [0, 1].
    """
    check_sizes(visits=visits, population=population, tournament=tournament)
    if not tournament <= population <= visits:
        raise ValueError(
            f"wanted tournament <= population <= visits, not {tournament}, "
            f"{population} and {visits}"
        )
    if not 0 <= wander <= 1 or warmup < 0:
        raise ValueError(
            f"wander must be 0 to 1 and warmup from 0, not {wander} and {warmup}"
        )
    key_first, key_steps = jax.random.split(key)
    num, num_near = table.near.shape
    drawn = jax.random.randint(key_first, (max(population, warmup),), 0, num, jnp.int32)
    members = drawn
    if warmup > population:
        members = drawn[jnp.argsort(-table.order[drawn], stable=True)[:population]]

    def step(members: Array, key: Array):
        key_drawn, key_wander, key_any = jax.random.split(key, 3)
        # Members are in the order of their age, the oldest first.
        drawn = jax.random.choice(key_drawn, population, (tournament,), replace=False)
        rows = members[jnp.sort(drawn)]
        parent = rows[_last_best(table.order[rows])]
        mutants = table.near[parent]
        best = _last_best(table.order[mutants])
        any_one = jax.random.randint(key_any, (), 0, num_near)
        wanders = jax.random.uniform(key_wander) < wander
        child = mutants[jnp.where(wanders, any_one, best)]
        # An oversight of the reference: mutants are free of charge where it wanders.
        charge = jnp.where(wanders, 0.0, table.seconds[mutants].sum())
        return jnp.append(members[1:], child), (child, mutants, charge)

    keys = jax.random.split(key_steps, visits - population)
    _, (children, mutants, charges) = jax.lax.scan(step, members, keys)
    row = jnp.append(members, children)
    charged = table.seconds[drawn].sum() + charges.sum()
    scored = jnp.append(drawn, mutants.reshape(-1))
    return ScoreRun(row, _incumbents(table, row), charged, *_paid(table, scored))


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
    """The index () of the largest of `order` (m,), of equal ones the last."""
    return order.shape[0] - 1 - jnp.argmax(order[::-1])


def _incumbents(table: ScoreTable, row: Array) -> Array:
    """The incumbent (t,) after each visit; -1 until a score is positive.

    As in the reference, a run begins with no architecture and the score 0.
    """
    order = table.order[row]
    visit = metrics.incumbent(jnp.where(order > 0, order, jnp.nan))
    return jnp.where(visit < 0, -1, row[jnp.maximum(visit, 0)])


def _paid(table: ScoreTable, scored: Array) -> tuple[Array, Array, Array]:
    """The numbers of lookups and of distinct architectures, and the seconds of these."""
    seen = jnp.zeros(table.order.shape, bool).at[scored].set(True)
    seconds = jnp.sum(jnp.where(seen, table.seconds, 0.0))
    return jnp.int32(scored.shape[0]), seen.sum(dtype=jnp.int32), seconds
