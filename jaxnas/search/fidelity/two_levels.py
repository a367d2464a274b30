"""A search at a low fidelity, interleaved with complete trainings of its best.

    search = two_levels(presets.gp_tw2g_plus(space), low=10)

Short trainings rank architectures well enough to find the region of the best ones, and
not well enough to order these. So the wrapped search learns from short trainings alone, and
the architectures with the best short trainings are trained to the end, in small groups
between further short trainings. No setting depends on the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.base import Search
from jaxnas.search.common import (
    append_slots,
    filled,
    idle_query,
    query_shape,
    require_space,
    trainings,
)
from jaxnas.search.fidelity.rhythm import Group, Rhythm, stages
from jaxnas.types import FULL_TRAINING, Array, Query, Result, State, asked, check_sizes


class TwoLevelState(NamedTuple):
    """The state of the wrapped search, and all short trainings in their order."""

    inside: State
    arch: Array  # (n, d) int32
    score: Array  # (n,) at the low level, NaN if the training failed
    final: Array  # (n,) at the last epoch, NaN unless trained to the end
    taken: Array  # (n,) bool, whether it is or was trained to the end
    short: Array  # () int32, short trainings so far, and those in flight
    complete: Array  # () int32, trainings to the end so far, and those in flight
    count: Array  # () int32, rows
    group: Group  # of complete trainings


# Rank = (state of the wrapped search, architectures (n, d), scores (n,) at the low level,
# final scores (n,), NaN before they are known) -> (n,), highest for the next to complete,
# or (r, n): r orders that take turns.
Rank = Callable[[State, Array, Array, Array], Array]


def by_score(inside: State, arch: Array, score: Array, final: Array) -> Array:
    """Ranks architectures by their scores at the low level."""
    del inside, arch, final
    return score


def two_levels(
    search: Search,
    low: int,
    *,
    last: int | None = None,
    first: int = 100,
    short: int = 50,
    complete: int = 10,
    patience: int | None = None,
    continues: bool = True,
    rank: Rank = by_score,
) -> Search:
    """Trains the architectures of a search briefly, and the best of them to the end.

    Args:
      search: any; the epoch that it was made with is not used. It learns from the short
        trainings alone.
      low: epoch of the short trainings.
      last: epoch of the complete ones; default: the last one.
      first: short trainings before the first complete one.
      short: short trainings between two groups of complete ones.
      complete: complete trainings in a group, of the best architectures at the low level
        that have not been trained to the end.
      patience: a group ends early after so many of its complete trainings in succession
        that are no better than the best before them; with workers, those that are in
        flight then belong to the next group. Default: `complete`, so that none does.
      continues: whether a complete training continues a short one. Otherwise it starts
        from epoch 0.
      rank: order of the architectures, highest first, or several orders, which complete
        trainings follow in turn; a `jax.tree_util.Partial` if it needs arrays.

    Returns: a search of the same space. Complete trainings of architectures whose short
      one failed come last. A search with candidates completes what is left when it has
      begun all of them, and then asks for nothing.
    Raises: `ValueError` for a search without a space, and for sizes below 1; the first
      `ask` if `rank` returns values of another shape.
    """
    patience = complete if patience is None else patience
    check_sizes(low=low, first=first, short=short, complete=complete, patience=patience)
    sizes = first, short, complete, patience
    last = FULL_TRAINING if last is None else last
    if last <= low:
        raise ValueError(f"last must be after low = {low}, not {last}")
    space, shape = require_space(search), query_shape(search)
    candidates = None if search.candidates is None else len(search.candidates)
    rhythm = Rhythm(low, last, *sizes, continues, *shape, candidates)
    functions = (_init, _ask, _tell, _grow, _refresh, _expect)
    # The search is an argument, so that its arrays are data and no constants.
    bound = [Partial(partial(function, rhythm), search) for function in functions]
    ranked = rank if isinstance(rank, Partial) else Partial(rank)
    bound[1] = Partial(partial(_ask, rhythm), search, ranked)
    return Search(
        *bound,
        accepts=search.accepts,
        candidates=search.candidates,
        stages=partial(stages, rhythm, search.stages),
        space=space,
    )


def _init(rhythm: Rhythm, search: Search, key: Array) -> TwoLevelState:
    """State without trainings, with rows for one step, to which `_grow` appends more."""
    size = rhythm.batch
    return TwoLevelState(
        inside=search.init(key),
        arch=jnp.zeros((size, rhythm.width), jnp.int32),
        score=jnp.full(size, jnp.nan),
        final=jnp.full(size, jnp.nan),
        taken=jnp.ones(size, bool),  # rows without a training cannot be taken
        short=jnp.int32(0),
        complete=jnp.int32(0),
        count=jnp.int32(0),
        group=rhythm.first_group(),
    )


def _grow(
    rhythm: Rhythm, search: Search, state: TwoLevelState, end: int
) -> TwoLevelState:
    """Makes room for the first `end` steps, any of which may be short trainings.

    Repeated architectures and results from outside change the order of the trainings.
    """
    steps = rhythm.room(end)
    more = max(0, steps * rhythm.batch - len(state.score))
    return state._replace(
        inside=search.grow(state.inside, steps),
        arch=jnp.pad(state.arch, ((0, more), (0, 0))),
        score=jnp.pad(state.score, (0, more), constant_values=jnp.nan),
        final=jnp.pad(state.final, (0, more), constant_values=jnp.nan),
        taken=jnp.pad(state.taken, (0, more), constant_values=True),
    )


def _refresh(_: Rhythm, search: Search, state: TwoLevelState) -> TwoLevelState:
    """Refreshes the wrapped search."""
    return state._replace(inside=search.refresh(state.inside))


def _ask(
    rhythm: Rhythm, search: Search, rank: Rank, key: Array, state: TwoLevelState
) -> Query:
    """Asks the wrapped search, or for complete trainings of the highest rank.

    Returns: a query of b slots. If fewer than b architectures are left for complete
      trainings, the other slots are idle.
    """
    left = ~state.taken

    def inside() -> Query:
        new = search.ask(key, state.inside)
        return trainings(new, asked(new), rhythm.low)

    def best() -> Query:
        slots = jnp.arange(rhythm.batch)
        values = rank(state.inside, state.arch, state.score, state.final)
        values = _orders(values, len(state.score))
        turns = (state.complete + slots) % len(values)
        row = _best_in_turn(values[turns], state)
        start = jnp.full(rhythm.batch, rhythm.low if rhythm.continues else 0, jnp.int32)
        epoch = jnp.where(slots < left.sum(), rhythm.last, start).astype(jnp.int32)
        chosen = {"arch": state.arch[row], "epoch": epoch, "start": start}
        return idle_query(inside)._replace(**chosen)

    exhausted = rhythm.exhausted(state.short)

    def begin() -> Query:
        return jax.lax.cond(exhausted, lambda: idle_query(inside), inside)

    due = (exhausted | (state.short >= state.group.begin)) & left.any()
    # A state without room for the first of them compiles none of `best`.
    has_room = len(state.score) >= rhythm.least_short
    return jax.lax.cond(due, best, begin) if has_room else begin()


def _orders(values: Array, rows: int) -> Array:
    """The orders (r, n) of a rank, from one or several.

    Args:
      values: what the rank returned.
      rows: n.

    Raises: `ValueError` if they are not a value for each row.
    """
    orders = jnp.atleast_2d(values)
    if orders.ndim > 2 or orders.shape[1] != rows or not len(orders):
        raise ValueError(
            f"rank must return one value for each of {rows} architectures, ({rows},), or "
            f"several orders, (r, {rows}), not {jnp.shape(values)}"
        )
    return orders


def _best_in_turn(values: Array, state: TwoLevelState) -> Array:
    """Chooses the best row by each of b orders in turn, each row once.

    Args:
      values: (b, n), highest for the best.
      state: the rows. Failed trainings come last of those that are not taken.

    Returns: (b,) int32; anything where no row is left.
    """

    def choose(taken: Array, value: Array) -> tuple[Array, Array]:
        value = jnp.where(jnp.isnan(state.score), -jnp.inf, nan_to_neg_inf(value))
        row = jnp.lexsort((-value, taken))[0]
        return taken.at[row].set(True), row

    return jax.lax.scan(choose, state.taken, values)[1]


def _take(state: TwoLevelState, query: Query, complete: Array) -> TwoLevelState:
    """Counts complete trainings (b,) bool and marks their architectures as taken."""
    same = (state.arch[:, None] == query.arch).all(-1) & complete
    return state._replace(
        taken=state.taken | same.any(1),
        complete=state.complete + complete.sum(dtype=jnp.int32),
    )


def _expect(
    rhythm: Rhythm, search: Search, state: TwoLevelState, query: Query
) -> TwoLevelState:
    """Marks short trainings as in flight, and architectures of complete ones as taken."""
    short, complete = rhythm.parts(query)
    inside = search.expect(state.inside, trainings(query, short, rhythm.low))
    state = _take(state, query, complete)
    count = state.short + short.sum(dtype=jnp.int32)
    group = rhythm.after(state.group, count, state.complete)
    return state._replace(inside=inside, short=count, group=group)


def _tell(
    rhythm: Rhythm, search: Search, state: TwoLevelState, query: Query, result: Result
) -> TwoLevelState:
    """Updates the wrapped search by the short trainings, and appends their scores.

    The wrapped search learns from one level; final scores are for the rank alone.
    """
    short, complete = rhythm.parts(query)
    state = _take(state, query, complete)
    best = nan_to_neg_inf(state.final).max()
    group = state.group.told(state.short, best, result.score, complete)
    count = short.sum(dtype=jnp.int32)
    # An architecture that the search repeats is not trained to the end again.
    known = (state.arch[:, None] == query.arch).all(-1) & filled(state)[:, None]
    final = _final_scores(state, known & complete, result.score)
    earlier = jnp.tril((query.arch[:, None] == query.arch).all(-1) & short, -1).any(1)
    repeat = known.any(0) | earlier
    row = append_slots(state.count, short, len(state.score))
    low = trainings(query, short, rhythm.low)
    inside = jax.lax.cond(
        short.any(),
        lambda inside: search.tell(inside, low, result),
        lambda inside: inside,
        state.inside,
    )
    return state._replace(
        inside=inside,
        arch=state.arch.at[row].set(query.arch, mode="drop"),
        score=state.score.at[row].set(result.score, mode="drop"),
        final=final.at[row].set(jnp.nan, mode="drop"),
        taken=state.taken.at[row].set(repeat, mode="drop"),
        short=state.short + count,
        count=state.count + count,
        group=rhythm.after(group, state.short + count, state.complete),
    )


def _final_scores(state: TwoLevelState, same: Array, score: Array) -> Array:
    """Final scores (n,) with those (b,) of slots that are the `same` (n, b) as a row.

    Of several slots the mean counts; failed ones leave the final score as it is.
    """
    valid = same & ~jnp.isnan(score)
    total = jnp.where(valid, score, 0.0).sum(1)
    new = (total / jnp.maximum(valid.sum(1), 1)).astype(state.final.dtype)
    return jnp.where(valid.any(1), new, state.final)
