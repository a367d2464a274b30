"""The state of a curve-aware search, and the decision whether a training continues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.search.common import append_slots
from jaxnas.types import Array, Query, Result, State

# Status of a row: a `PASSED` training waits to continue, a `MOVING` one is in flight to its
# last epoch, and a `STOPPED` one has ended before.
EMPTY, PASSED, MOVING, COMPLETE, STOPPED = range(5)


@dataclass(frozen=True)
class Setting:
    """The constants of a curve-aware search; see the arguments of `curve_aware`."""

    extrapolate: Extrapolator
    epochs: int  # of the decision
    last: int  # of a complete training
    columns: int  # of the curve up to the decision
    target: int | None  # column of the value that is predicted; None: the score
    quantile: float
    margin: float  # standard deviations below the mean that must exceed the threshold
    init: int
    memory: int
    refit: int
    features: Callable[[Array], Array] | None
    imputes_rejected: bool  # whether stopped trainings count with their predictions
    tries: int  # draws of an architecture until it is a new one
    batch: int
    width: int  # positions of an architecture


class CurveState(NamedTuple):
    """The state of the wrapped search, and all trainings with a curve."""

    inside: State
    arch: Array  # (n, d) int32
    prefix: Array  # (n, k), the curve up to the epoch of the decision
    value: Array  # (n,), at the target; NaN before it is reached, or if it failed
    status: Array  # (n,) int32, EMPTY, PASSED, MOVING, COMPLETE or STOPPED
    count: Array  # () int32, rows that are not empty
    begun: Array  # () int32, trainings so far, of any length
    params: Any  # of the extrapolator


class Parts(NamedTuple):
    """The parts of trainings in the slots (b,) of a query, with their curves and values."""

    first: Array  # bool, the first part of a training, after which it may be stopped
    complete: Array  # bool, a training that has ended
    continued: Array  # bool, a complete training that passed the decision
    prefix: Array  # (b, k)
    value: Array  # (b,), at the target


def validate_extrapolator(extrapolate: Extrapolator, columns: int) -> None:
    """Raises `ValueError` for an extrapolator that cannot predict any training.

    Args:
      extrapolate: of the search.
      columns: values of a curve at the epoch of the decision.
    """
    if columns < extrapolate.min_epochs:
        raise ValueError(
            f"the extrapolator reads {extrapolate.min_epochs} values of a curve, of which "
            f"{columns} are known at the decision: wanted a decision after more epochs"
        )
    # Without complete trainings it sees no epoch after the decision.
    if extrapolate.min_curves == 0 and extrapolate.target is None:
        raise ValueError(
            "the extrapolator does not learn which epoch it predicts: make it with "
            "target=, the number of values of a complete curve"
        )


def empty_state(setting: Setting, inside: State, size: int) -> CurveState:
    """State of a search without trainings, with `size` rows.

    The extrapolator is fitted to no curves, which gives its parameters their shapes.
    """
    state = CurveState(
        inside=inside,
        arch=jnp.zeros((size, setting.width), jnp.int32),
        prefix=jnp.full((size, setting.columns), jnp.nan),
        value=jnp.full(size, jnp.nan),
        status=jnp.full(size, EMPTY, jnp.int32),
        count=jnp.int32(0),
        begun=jnp.int32(0),
        params=None,
    )
    return state._replace(params=fit(setting, state))


def grow_rows(state: CurveState, size: int) -> CurveState:
    """Appends empty rows up to `size`."""
    more = max(0, size - len(state.status))
    return state._replace(
        arch=jnp.pad(state.arch, ((0, more), (0, 0))),
        prefix=jnp.pad(state.prefix, ((0, more), (0, 0)), constant_values=jnp.nan),
        value=jnp.pad(state.value, (0, more), constant_values=jnp.nan),
        status=jnp.pad(state.status, (0, more)),
    )


def classify(setting: Setting, query: Query, result: Result, active: Array) -> Parts:
    """Classifies the slots of a query as first parts and complete trainings.

    Args:
      setting: of the search.
      query: b slots.
      result: of the query.
      active: (b,) bool, slots that are not idle.

    Raises: `ValueError` for curves that do not reach the columns that are read.
    """
    columns = result.curve.shape[1]
    wanted = max(setting.columns, 1 + (setting.target or 0))
    if columns < wanted:
        raise ValueError(
            f"the learning curves have {columns} values, of which {wanted} are needed: "
            "levels= names the epochs of a curve, and points= of `drive.optimise` is "
            "their number"
        )
    first = active & (query.start == 0) & (query.epoch == setting.epochs)
    # Results from outside may be of other epochs, which are no part of a training.
    complete = active & (query.epoch >= setting.last)
    value = result.score
    if setting.target is not None:
        value = result.curve[:, setting.target]
    return Parts(
        first=first,
        complete=complete,
        continued=complete & (query.start > 0),
        prefix=result.curve[:, : setting.columns],
        value=value,
    )


def decide(
    setting: Setting, state: CurveState, arch: Array, prefix: Array
) -> tuple[Array, Array]:
    """Predicts the values of trainings and decides which of them continue.

    Args:
      setting: of the search.
      state: with the complete trainings.
      arch: (b, d) int32.
      prefix: (b, k) curves so far.

    Returns: whether each prediction exceeds the threshold, (b,) bool, False for NaN; and
      the predicted means (b,).
    """

    def predict(arch: Array, curve: Array) -> tuple[Array, Array]:
        features = None if setting.features is None else setting.features(arch)
        return setting.extrapolate.predict(state.params, curve, features)

    mean, std = jax.vmap(predict)(arch, prefix)
    # Not 0 * inf: an extrapolator without enough curves has an infinite deviation.
    lowered = mean - setting.margin * std if setting.margin else mean
    return lowered > threshold(
        state.value, state.status == COMPLETE, setting.quantile
    ), mean


def threshold(value: Array, complete: Array, quantile: float) -> Array:
    """The worst of the best floor(quantile m) of m values, and of at least one.

    Args:
      value: (n,), NaN for a training that failed.
      complete: (n,) bool, the values that count.
      quantile: from 0 to 1.

    Returns: (), -inf if no value counts.
    """
    valid = complete & ~jnp.isnan(value)
    ordered = jnp.sort(jnp.where(valid, value, -jnp.inf), descending=True)
    num = jnp.floor(quantile * valid.sum() + 1e-6).astype(jnp.int32)
    return ordered[jnp.maximum(num, 1) - 1]


def fit(setting: Setting, state: CurveState) -> Any:
    """Fits the extrapolator to the latest complete trainings, at most `memory`.

    Failed ones do not count. The curves end at the epoch of the decision, as the curves
    that `decide` predicts from.

    Returns: parameters of the extrapolator, any pytree.
    """
    complete = state.status == COMPLETE
    size = len(complete)
    # From the last to the first; the padding is not valid.
    index = jnp.flatnonzero(complete[::-1], size=setting.memory, fill_value=0)
    row = size - 1 - index
    valid = jnp.arange(setting.memory) < complete.sum()
    valid &= ~jnp.isnan(state.value[row])
    arch, features = state.arch[row], None
    if setting.features is not None:
        features = jax.vmap(setting.features)(arch)
    value = jnp.where(valid, state.value[row], 0.0)
    return setting.extrapolate.fit(state.prefix[row], value, valid, features)


def put(state: CurveState, arch: Array, parts: Parts, passed: Array) -> CurveState:
    """Writes trainings that passed, were stopped or ended to their rows.

    Args:
      state: before.
      arch: (b, d) int32.
      parts: the trainings in the slots.
      passed: (b,) bool, trainings that continue.

    Returns: the state with new rows for first parts and for trainings that were complete
      at once; a continued training keeps its row.
    """
    size = len(state.status)
    stopped = parts.first & ~passed
    new = parts.first | (parts.complete & ~parts.continued)
    row = append_slots(state.count, new, size)
    row = jnp.where(parts.continued, row_of(state, arch), row)
    value = jnp.where(parts.complete, parts.value, jnp.nan).astype(state.value.dtype)
    # The curve of the second part may not have the first epochs.
    kept = jnp.where(parts.continued, row, size)
    prefix = state.prefix.at[kept].get(mode="fill")
    prefix = jnp.where(parts.continued[:, None], prefix, parts.prefix)
    status = jnp.where(passed, PASSED, jnp.where(stopped, STOPPED, COMPLETE))
    status = status.astype(jnp.int32)
    return state._replace(
        arch=state.arch.at[row].set(arch, mode="drop"),
        prefix=state.prefix.at[row].set(prefix.astype(state.prefix.dtype), mode="drop"),
        value=state.value.at[row].set(value, mode="drop"),
        status=state.status.at[row].set(status, mode="drop"),
        count=state.count + new.sum(dtype=jnp.int32),
        begun=state.begun + new.sum(dtype=jnp.int32),
    )


def row_of(state: CurveState, arch: Array) -> Array:
    """The rows (b,) of the trainings of architectures (b, d) that passed; n for others.

    Several trainings of one architecture are identical: the first counts.
    """
    same = (state.arch == arch[:, None]).all(-1) & (state.status == PASSED)
    return jnp.where(same.any(1), jnp.argmax(same, 1), len(state.status))
