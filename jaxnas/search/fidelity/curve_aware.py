"""Learning-curve extrapolation around any search (Yan et al., 2021, Algorithm 2).

    search = curve_aware(regularized_evolution(space), last_value(), *curve_gates.paper(20))

An architecture that the search asks for is trained for a few epochs and its learning curve
is extrapolated. The training continues to the end only if the prediction is good enough,
and the search receives the scores of complete trainings. Each part of a training is a step,
so a complete training takes two.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from statistics import NormalDist
from typing import Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.search.base import UNLIMITED, Search, Stage
from jaxnas.search.common import (
    growing_stages,
    idle_query,
    query_shape,
    require_space,
    trainings,
)
from jaxnas.search.fidelity import curve_queries, curve_state
from jaxnas.search.fidelity.curve_state import PASSED, CurveState, Setting
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked, check_sizes


def curve_aware(
    search: Search,
    extrapolate: Extrapolator,
    epochs: int,
    quantile: float = 0.2,
    target: int | None = None,
    *,
    last: int | None = None,
    init: int = 20,
    confidence: float = 0.5,
    levels: Sequence[int] | None = None,
    features: Callable[[Array], Array] | None = None,
    rejected: Literal["ignored", "predicted"] = "ignored",
    tries: int = 1,
    memory: int = 128,
    refit: int = 1,
) -> Search:
    """Wraps a search so that trainings without promise end after a few epochs.

    Args:
      search: any; the epoch that it was made with is not used.
      extrapolate: predicts the value at the target from the curve so far. One that does
        not learn from complete trainings, as `wpm`, is made with its own `target`.
      epochs: of the first part of a training, after which it is stopped or continued.
      quantile: a training continues if its prediction exceeds the worst of the best
        `quantile` of all complete trainings, and of at least one; from 0 to 1.
      target: the epoch whose value is predicted; default: the last one, by its score.
      last: the epoch to which a training continues; default: the last one.
      init: trainings that are always complete, before the first decision.
      confidence: probability with which the value must exceed the threshold; 0.5
        compares the mean. Less suits regressions on few complete trainings, which shrink
        predictions towards their mean.
      levels: epochs of the columns of the learning curve; default: every epoch.
      features: arch (d,) -> (f,), for the extrapolator; default: none.
      rejected: treatment of a stopped training in the wrapped search. "ignored": nothing
        is learned from it (`Search.abandon`, or `Search.expect` at every query), so that
        the population of evolution does not grow; "predicted": its score is the
        prediction.
      tries: draws of the wrapped search until its architecture is a new one, not trained
        before to any epoch; after so many it may be a repeated one. More than one is for
        searches whose `ask` is random, such as evolution.
      memory: complete trainings that the extrapolator is fitted to, the latest.
      refit: complete trainings between two fits of the extrapolator.

    Returns: a search of the same space, with the stages of `search`.
    Raises: `ValueError` for a search without a space, for sizes below 1, a target before
      `epochs` or that is not a level, shares outside of their range, and an extrapolator
      that needs more epochs or a target.
    """
    check_sizes(epochs=epochs, init=init, memory=memory, refit=refit, tries=tries)
    last = FULL_TRAINING if last is None else last
    space = require_space(search)
    _validate(epochs, last, quantile, confidence, rejected)
    columns, column = _columns(epochs, target, levels)
    curve_state.validate_extrapolator(extrapolate, columns)
    batch, width = query_shape(search)
    setting = Setting(
        extrapolate=extrapolate,
        epochs=epochs,
        last=last,
        columns=columns,
        target=column,
        quantile=quantile,
        margin=NormalDist().inv_cdf(confidence),
        init=init,
        memory=memory,
        refit=refit,
        features=features,
        imputes_rejected=rejected == "predicted",
        tries=tries,
        batch=batch,
        width=width,
    )
    functions = (_init, _ask, _tell, _grow, _refresh, _expect)
    # The search is an argument, so that its arrays are data and no constants.
    bound = (Partial(partial(function, setting), search) for function in functions)
    stages = partial(_stages, search.stages)
    return Search(
        *bound,
        accepts=search.accepts,
        candidates=search.candidates,
        stages=stages,
        space=space,
    )


def _validate(
    epochs: int,
    last: int,
    quantile: float,
    confidence: float,
    rejected: str,
) -> None:
    """Raises `ValueError` for arguments of `curve_aware` that are out of range."""
    if last <= epochs:
        raise ValueError(f"last must be after epochs = {epochs}, not {last}")
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must be between 0 and 1, not {quantile}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    if rejected not in ("ignored", "predicted"):
        raise ValueError(f"rejected must be 'ignored' or 'predicted', not {rejected!r}")


def _columns(
    epochs: int, target: int | None, levels: Sequence[int] | None
) -> tuple[int, int | None]:
    """Number of columns of a curve up to `epochs`, and the column of the target.

    Args:
      epochs: of the decision.
      target: epoch, or None for the score.
      levels: epochs of the columns; None: column i is epoch i + 1.

    Raises: `ValueError` for a target before `epochs`, for levels that do not ascend, and
      for an epoch that is not a level.
    """
    if target is not None and target < epochs:
        raise ValueError(f"target must be at least epochs = {epochs}, not {target}")
    if levels is None:
        return epochs, None if target is None else target - 1
    levels = tuple(levels)
    if any(b <= a for a, b in itertools.pairwise((0, *levels))):
        raise ValueError(f"levels must be ascending epochs from 1 on, not {levels}")
    for name, epoch in (("epochs", epochs), ("target", target)):
        if epoch is not None and epoch not in levels:
            raise ValueError(f"{name} = {epoch} is not one of the levels {levels}")
    column = None if target is None else levels.index(target)
    return levels.index(epochs) + 1, column


def _stages(
    inside: Callable[[int], tuple[Stage, ...]], num_steps: int
) -> tuple[Stage, ...]:
    """The stages of the wrapped search; a stage without an end becomes several."""
    stages: list[Stage] = []
    for stage in inside(num_steps):
        if stage.end < UNLIMITED:
            stages.append(stage)
            continue
        begin = stages[-1].end if stages else 0
        ends = [begin + end for end, _ in growing_stages(num_steps - begin)]
        stages += [Stage(end, stage.every) for end in ends]
    return tuple(stages)


def _init(setting: Setting, search: Search, key: Array) -> CurveState:
    """State without trainings, with rows for one step, to which `_grow` appends more."""
    return curve_state.empty_state(setting, search.init(key), setting.batch)


def _grow(setting: Setting, search: Search, state: CurveState, end: int) -> CurveState:
    """Makes room for the first `end` steps, which add at most one row for each slot."""
    state = state._replace(inside=search.grow(state.inside, end))
    return curve_state.grow_rows(state, end * setting.batch)


def _refresh(setting: Setting, search: Search, state: CurveState) -> CurveState:
    """Refreshes the wrapped search; `_tell` refits the extrapolator."""
    del setting
    return state._replace(inside=search.refresh(state.inside))


def _ask(setting: Setting, search: Search, key: Array, state: CurveState) -> Query:
    """Continues trainings that passed, and fills the other slots with new architectures.

    The first `init` trainings run to the last epoch at once: they are the data of the
    first fit and of the first threshold.

    Returns: a query of b slots; continued trainings start at the epoch of the decision.
    """
    size = len(state.status)
    row = jnp.flatnonzero(state.status == PASSED, size=setting.batch, fill_value=size)
    continues = row < size

    def inside() -> Query:
        return curve_queries.new_query(setting, search, key, state)

    new = jax.lax.cond(continues.all(), lambda: idle_query(inside), inside)
    number = state.begun + jnp.cumsum(~continues)
    until = jnp.where(number <= setting.init, setting.last, setting.epochs)
    until = jnp.where(asked(new), until, 0)
    start = jnp.where(continues, setting.epochs, 0).astype(jnp.int32)
    arch = state.arch.at[row].get(mode="fill", fill_value=0)
    return new._replace(
        arch=jnp.where(continues[:, None], arch, new.arch),
        epoch=jnp.where(continues, setting.last, until).astype(jnp.int32),
        start=start,
    )


def _expect(
    setting: Setting, search: Search, state: CurveState, query: Query
) -> CurveState:
    """Marks trainings in flight; the wrapped search expects complete ones."""
    active, continues = asked(query), query.start > 0
    row = jnp.where(
        active & continues, curve_state.row_of(state, query.arch), len(state.status)
    )
    # To the wrapped search both parts of a training are one.
    whole = trainings(query, active, setting.last)
    return state._replace(
        inside=search.expect(state.inside, whole),
        status=state.status.at[row].set(curve_state.MOVING, mode="drop"),
        begun=state.begun + (active & ~continues).sum(dtype=jnp.int32),
    )


def _tell(
    setting: Setting, search: Search, state: CurveState, query: Query, result: Result
) -> CurveState:
    """Decides on first parts, keeps curves and values, and updates the wrapped search.

    The threshold and the extrapolator do not include this result: all slots of a batch
    are compared with the same threshold.

    Args:
      setting: of the search.
      search: the wrapped search. Its `tell` receives complete trainings and, if
        `rejected` is "predicted", stopped ones with their predictions as scores.
      state: before.
      query: b slots.
      result: of the query, with curves (b, e).

    Raises: `ValueError` for curves that do not reach the columns that are read.
    """
    parts = curve_state.classify(setting, query, result, asked(query))
    passed, mean = curve_state.decide(setting, state, query.arch, parts.prefix)
    passed &= parts.first
    stopped = parts.first & ~passed
    state = curve_state.put(state, query.arch, parts, passed)
    state = state._replace(params=_refitted(setting, state, parts.complete.sum()))
    scored = parts.complete
    if setting.imputes_rejected:
        scored |= stopped
        score = jnp.where(stopped, mean, result.score).astype(result.score.dtype)
        result = result._replace(score=score)

    def tell(inside: object) -> object:
        return search.tell(inside, trainings(query, scored, setting.last), result)

    same = lambda inside: inside  # noqa: E731
    inside = jax.lax.cond(scored.any(), tell, same, state.inside)
    if search.abandon is not None and not setting.imputes_rejected:
        ended = trainings(query, stopped, setting.last)
        inside = jax.lax.cond(
            stopped.any(), search.abandon, lambda inside, _: inside, inside, ended
        )
    return state._replace(inside=inside)


def _refitted(setting: Setting, state: CurveState, new: Array) -> object:
    """Parameters after `new` () complete trainings, refitted if a fit is due.

    It is due whenever the number of complete trainings passes a multiple of `refit`.
    """
    complete = jnp.sum(state.status == curve_state.COMPLETE)
    due = complete // setting.refit > (complete - new) // setting.refit
    fit = lambda: curve_state.fit(setting, state)  # noqa: E731
    return jax.lax.cond(due, fit, lambda: state.params)
