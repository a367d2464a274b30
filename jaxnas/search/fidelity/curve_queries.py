"""The new architectures of a curve-aware search: asked of the wrapped search."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnas.search.base import Search
from jaxnas.search.fidelity.curve_state import EMPTY, STOPPED, CurveState, Setting
from jaxnas.types import Array, Query, State, asked


def is_known(state: CurveState, query: Query) -> Array:
    """Which slots (b,) ask for an architecture that has a row."""
    rows = state.status != EMPTY
    same = (state.arch == query.arch[:, None]).all(-1) & rows
    return same.any(1) & asked(query)


def _without_stopped(setting: Setting, search: Search, state: CurveState) -> State:
    """The state of the wrapped search to ask from, which expects stopped trainings.

    They have no score, so that its own state must not learn from them.
    """
    if setting.imputes_rejected or search.abandon is not None:
        return state.inside
    stopped = state.status == STOPPED
    start = jnp.zeros_like(state.status)
    query = Query(state.arch, jnp.where(stopped, setting.last, 0), start)
    return jax.lax.cond(
        stopped.any(),
        lambda inside: search.expect(inside, query),
        lambda inside: inside,
        state.inside,
    )


def new_query(setting: Setting, search: Search, key: Array, state: CurveState) -> Query:
    """Asks the wrapped search, again where an architecture was trained before.

    Args:
      setting: with the number of tries.
      search: the wrapped one.
      key: of the step.
      state: with all trainings that have a curve; those in flight are not among them.
    """
    inside = _without_stopped(setting, search, state)
    if setting.tries == 1:
        return search.ask(key, inside)
    keys = jax.random.split(key, setting.tries)

    def repeated(carry: tuple[Array, Query]) -> Array:
        number, query = carry
        return (number < setting.tries) & is_known(state, query).any()

    def again(carry: tuple[Array, Query]) -> tuple[Array, Query]:
        number, query = carry
        known = is_known(state, query)
        other = search.ask(keys[number], inside)
        arch = jnp.where(known[:, None], other.arch, query.arch)
        return number + 1, query._replace(arch=arch)

    first = search.ask(keys[0], inside)
    return jax.lax.while_loop(repeated, again, (jnp.int32(1), first))[1]
