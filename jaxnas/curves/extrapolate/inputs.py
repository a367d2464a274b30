"""Inputs of regressions: the start of a curve and its architecture as normal scores.

Shared by kernel ridge regression (`regression`) and support-vector regression (`svr`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.curves.extrapolate.normal_scores import (
    NormalScores,
    fit_columns,
    fit_normal_scores,
    score_columns,
    to_scores,
)
from jaxnas.curves.extrapolate.summaries import levels_and_slope
from jaxnas.types import Array


class Inputs(NamedTuple):
    """Inputs of a regression: of the curve, and of the architecture."""

    curve: Array  # (..., 5) `levels_and_slope` of the first epochs
    arch: Array  # (..., f) features of the architecture, f = 0 without any


class InputScores(NamedTuple):
    """The maps from raw inputs to normal scores; the leading axis is the column."""

    curve: NormalScores  # of (5,)
    arch: NormalScores  # of (f,)


class TrainingScores(NamedTuple):
    """Completed trainings as normal scores, and the maps that made them."""

    maps: InputScores
    target: NormalScores
    inputs: Inputs  # (n, ...), 0 in rows that are not used
    y: Array  # (n,) scores of the final values, 0 in rows that are not used
    used: Array  # (n,) bool, valid rows without a missing number


def raw_inputs(starts: Array, features: Array | None) -> Inputs:
    """Computes inputs in the units of the data.

    Args:
      starts: (n, F) first epochs of curves.
      features: (n, f) of the architectures; None: without, f = 0.

    Returns: inputs with leading axis (n,); NaN where `starts` or `features` are.
    """
    if features is None:
        features = jnp.zeros((len(starts), 0), starts.dtype)
    return Inputs(jax.vmap(levels_and_slope)(starts), jnp.asarray(features))


def finite_rows(inputs: Inputs) -> Array:
    """Finds the rows (n,) bool of inputs that are finite everywhere."""
    return jnp.isfinite(inputs.curve).all(1) & jnp.isfinite(inputs.arch).all(1)


def to_inputs(maps: InputScores, raw: Inputs) -> Inputs:
    """Maps raw inputs (n, ...) to normal scores.

    Each part is divided by the square root of its number of columns, so that squared
    distances within a part are means over its columns, and length-scales do not depend on
    the number of features.
    """
    curve, arch = (
        score_columns(columns, part) / max(part.shape[1], 1) ** 0.5
        for columns, part in zip(maps, raw, strict=True)
    )
    return Inputs(curve, arch)


def fit_training(raw: Inputs, final: Array, valid: Array) -> TrainingScores:
    """Fits the maps to completed trainings, and applies them.

    Args:
      raw: inputs (n, ...) of `raw_inputs`.
      final: (n,) final values.
      valid: (n,) bool, rows that count unless one of their numbers is not finite.
    """
    used = valid & jnp.isfinite(final) & finite_rows(raw)
    maps = InputScores(*(fit_columns(part, used) for part in raw))
    scores = to_inputs(maps, raw)
    inputs = Inputs(*(jnp.where(used[:, None], part, 0.0) for part in scores))
    target = fit_normal_scores(final, used)
    y = jnp.where(used, to_scores(target, final), 0.0)
    return TrainingScores(maps, target, inputs, y, used)
