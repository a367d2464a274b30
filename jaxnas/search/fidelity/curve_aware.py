"""Learning-curve extrapolation around any search (Yan et al., 2021, Algorithm 2).

    search = curve_aware(regularized_evolution(space), last_value(), *curve_gates.paper(20))

What the search asks is trained briefly; its curve is extrapolated, and only if the
prediction is good enough the training goes on to the end. The search is told of complete
trainings. A step is a part of a training, so that a complete one takes two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import NormalDist
from typing import Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.search.base import UNLIMITED, Search, Stage
from jaxnas.search.common import growing_stages
from jaxnas.search.fidelity import curve_state
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
    memory: int = 128,
    refit: int = 1,
) -> Search:
    """Wraps a search so that it decides after a few epochs whether a training goes on.

    Args:
      search: any; the epoch that it was made with is not used.
      extrapolate: predicts the value at the target from the curve so far. One that does
        not learn from complete trainings, as `wpm`, is made with its own `target`.
      epochs: of the first part of a training.
      quantile: a training goes on if its prediction exceeds the worst of the best
        `quantile` of all complete trainings, and of at least one; from 0 to 1.
      target: the epoch whose value is predicted; default: the last one, by its score.
      last: the epoch to which a training goes on; default: the last one.
      init: trainings that are complete in any case, before the first decision.
      confidence: probability with which the value must exceed the threshold; 0.5
        compares the mean.
      levels: epochs of the columns of the learning curve; default: every epoch.
      features: arch (d,) -> (f,), for the extrapolator; default: none.
      rejected: what the search learns of a training that was stopped. "ignored": that it
        is in flight for ever (`Search.expect`), which adds nothing to the population of
        evolution; "predicted": the prediction, as its score.
      memory: complete trainings that the extrapolator is fitted to, the latest.
      refit: complete trainings between two fits.

    Returns: a search of the same space, with the stages of `search`.
    Raises: `ValueError` for a search without a space, for sizes below 1, a target before
      `epochs` or that is no level, shares outside of their range, and an extrapolator that
      needs more epochs or a target.
    """
    check_sizes(epochs=epochs, init=init, memory=memory, refit=refit)
    last = FULL_TRAINING if last is None else last
    _validate(search, epochs, last, quantile, confidence, rejected)
    columns, column = _columns(epochs, target, levels)
    curve_state.validate_extrapolator(extrapolate, columns)
    first = jax.eval_shape(lambda key: search.ask(key, search.init(key)), _key())
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
        tells_prediction=rejected == "predicted",
        batch=first.arch.shape[0],
        width=first.arch.shape[1],
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
        space=search.space,
    )


def _key() -> Array:
    """The shape of a key."""
    return jax.eval_shape(lambda: jax.random.key(0))  # pyright: ignore[reportReturnType]


def _validate(
    search: Search,
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
    if search.space is None:
        raise ValueError("the search does not know its space: make it with space=...")


def _columns(
    epochs: int, target: int | None, levels: Sequence[int] | None
) -> tuple[int, int | None]:
    """Number of columns of a curve up to `epochs`, and the column of the target.

    Args:
      epochs: of the decision.
      target: epoch, or None for the score.
      levels: epochs of the columns; None: column i is epoch i + 1.

    Raises: `ValueError` for a target before `epochs`, and for either if it is no level.
    """
    if target is not None and target < epochs:
        raise ValueError(f"target must be at least epochs = {epochs}, not {target}")
    if levels is None:
        return epochs, None if target is None else target - 1
    levels = tuple(levels)
    for name, epoch in (("epochs", epochs), ("target", target)):
        if epoch is not None and epoch not in levels:
            raise ValueError(f"{name} = {epoch} is none of the levels {levels}")
    column = None if target is None else levels.index(target)
    return levels.index(epochs) + 1, column


def _stages(
    inside: Callable[[int], tuple[Stage, ...]], num_steps: int
) -> tuple[Stage, ...]:
    """The stages of the search inside; one without an end becomes several."""
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
    """State without trainings, with rows for one step; `_grow` appends the others."""
    return curve_state.empty_state(setting, search.init(key), setting.batch)


def _grow(setting: Setting, search: Search, state: CurveState, end: int) -> CurveState:
    """Makes room for the first `end` steps, each of which may add a row a slot."""
    state = state._replace(inside=search.grow(state.inside, end))
    return curve_state.grow_rows(state, end * setting.batch)


def _refresh(setting: Setting, search: Search, state: CurveState) -> CurveState:
    """Refreshes the search inside; the extrapolator is refitted in `_tell`."""
    del setting
    return state._replace(inside=search.refresh(state.inside))


def _ask(setting: Setting, search: Search, key: Array, state: CurveState) -> Query:
    """Trainings that passed, and what the search asks in the slots that are left.

    The first `init` trainings are asked to the last epoch at once: before them there is
    nothing to fit and no threshold.

    Returns: a query of b slots, with `start` at the epoch of the decision in those that
      go on.
    """
    size = len(state.status)
    row = jnp.flatnonzero(state.status == PASSED, size=setting.batch, fill_value=size)
    goes_on = row < size

    def inside() -> Query:
        return search.ask(key, state.inside)

    def nothing() -> Query:
        shapes = jax.eval_shape(inside)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    new = jax.lax.cond(goes_on.all(), nothing, inside)
    number = state.begun + jnp.cumsum(~goes_on)
    until = jnp.where(number <= setting.init, setting.last, setting.epochs)
    until = jnp.where(asked(new), until, 0)
    start = jnp.where(goes_on, setting.epochs, 0).astype(jnp.int32)
    arch = state.arch.at[row].get(mode="fill", fill_value=0)
    return new._replace(
        arch=jnp.where(goes_on[:, None], arch, new.arch),
        epoch=jnp.where(goes_on, setting.last, until).astype(jnp.int32),
        start=start,
    )


def _expect(
    setting: Setting, search: Search, state: CurveState, query: Query
) -> CurveState:
    """Marks the trainings in flight; inside, they are complete ones in flight."""
    active, goes_on = asked(query), query.start > 0
    row = jnp.where(
        active & goes_on, curve_state.row_of(state, query.arch), len(state.status)
    )
    whole = _whole(setting, query, active)
    return state._replace(
        inside=search.expect(state.inside, whole),
        status=state.status.at[row].set(curve_state.MOVING, mode="drop"),
        begun=state.begun + (active & ~goes_on).sum(dtype=jnp.int32),
    )


def _whole(setting: Setting, query: Query, slots: Array) -> Query:
    """The query as complete trainings, of which those in `slots` (b,) bool count.

    To the search inside both parts of a training are one, from epoch 0 to the last.
    """
    epoch = jnp.where(slots, setting.last, 0).astype(jnp.int32)
    return query._replace(epoch=epoch, start=jnp.zeros_like(epoch))


def _tell(
    setting: Setting, search: Search, state: CurveState, query: Query, result: Result
) -> CurveState:
    """Decides on first parts, keeps curves and values, and tells the search inside.

    The threshold and the extrapolator are those of before this result, so the slots of
    one batch are decided on alike.

    Args:
      setting: of the search.
      search: inside; it is told complete trainings, and stopped ones by their predictions
        if `rejected` is "predicted".
      state: before.
      query: b slots.
      result: of the query, with curves (b, e).

    Raises: `ValueError` for curves that do not reach the columns that are read.
    """
    told = curve_state.classify(setting, query, result, asked(query))
    passed, mean = curve_state.decide(setting, state, query.arch, told.prefix)
    passed &= told.first
    stopped = told.first & ~passed
    state = curve_state.put(state, query.arch, told, passed)
    state = state._replace(params=_refitted(setting, state, told.complete.sum()))
    tells = told.complete
    if setting.tells_prediction:
        tells |= stopped
        score = jnp.where(stopped, mean, result.score).astype(result.score.dtype)
        result = result._replace(score=score)

    def tell(inside: object) -> object:
        return search.tell(inside, _whole(setting, query, tells), result)

    def expect(inside: object) -> object:
        return search.expect(inside, _whole(setting, query, stopped))

    same = lambda inside: inside  # noqa: E731
    inside = jax.lax.cond(tells.any(), tell, same, state.inside)
    if not setting.tells_prediction:
        inside = jax.lax.cond(stopped.any(), expect, same, inside)
    return state._replace(inside=inside)


def _refitted(setting: Setting, state: CurveState, new: Array) -> object:
    """Parameters after `new` () complete trainings, fitted anew if that is due.

    That is whenever the number of complete trainings passes a multiple of `refit`.
    """
    complete = jnp.sum(state.status == curve_state.COMPLETE)
    due = complete // setting.refit > (complete - new) // setting.refit
    fit = lambda: curve_state.fit(setting, state)  # noqa: E731
    return jax.lax.cond(due, fit, lambda: state.params)
