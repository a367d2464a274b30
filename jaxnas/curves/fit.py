"""Fits learning-curve surrogates.

    info = Info(space="nb201", features="nb211_vector")
    fitted = fit_surrogate(key, features, curves, info=info, **presets.release())

Compression, regressor and noise are functions, so that any of the combinations of Yan et
al. (2021, section 3.1) is one call.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves import compress, presets, splits
from jaxnas.curves import members as members_
from jaxnas.curves import noise as noises
from jaxnas.curves import residuals as residuals_
from jaxnas.curves.compress import Compress
from jaxnas.curves.noise import FitNoise
from jaxnas.curves.regress_boosting import FitTask, Regress
from jaxnas.curves.residuals import Residuals
from jaxnas.curves.surrogate import Info, Surrogate, Time
from jaxnas.types import Array, check_shapes, check_sizes

# Total number of rows of the members of the default ensemble: more members are cheap for
# few curves, which gain the most from them.
MEMBER_ROWS = 12_000
MOST_MEMBERS = 10
DEFAULT_NOISE = noises.kernel_density()


class Fitted(NamedTuple):
    """A surrogate, its errors on the training curves, and held-out residuals."""

    surrogate: Surrogate
    rmse: np.ndarray  # (n,) root mean square error over epochs of each training curve
    error: np.ndarray  # (n,) largest absolute error of each training curve
    rows: np.ndarray  # (m,) curves that the noise was fitted on
    residual: np.ndarray  # (m, E), their residuals


class _Recipe(NamedTuple):
    """Settings of the predictor of a surrogate."""

    compression: Compress
    regressor: Regress
    members: int
    bagging: float
    info: Info


def fit_surrogate(
    key: Array,
    features: np.ndarray,
    curves: np.ndarray,
    *,
    info: Info,
    compression: Compress | None = None,
    regressor: Regress | None = None,
    noise: FitNoise | None = DEFAULT_NOISE,
    members: int | None = None,
    bagging: float = 0.8,
    folds: int = 10,
    groups: np.ndarray | None = None,
    seconds: np.ndarray | None = None,
) -> Fitted:
    """Fits a surrogate to learning curves.

    Each of several members is fitted to its own subsample of the groups. The noise is
    fitted to out-of-bag residuals of the ensemble. A single member has residuals of a
    cross-validation; if one fold has enough curves, the predictor fitted to the other
    folds is the surrogate itself.

    Args:
      key: random key.
      features: (n, d) of the architectures.
      curves: (n, E).
      info: what the numbers mean.
      compression: from `compress` or `vae`; default: `final_value_svd`.
      regressor: from `regress_boosting`, `regress_mlp` or `stacking`; default:
        `presets.default_regressor`.
      noise: from `noise`; None: without noise, and fitted on all rows.
      members: number of members; default: `MEMBER_ROWS` divided by n, between 2 and
        `MOST_MEMBERS`.
      bagging: share of the rows that each of several members is fitted on.
      folds: number of folds for the residuals of a single member, which are held out
        until there are `residuals.MIN_RESIDUALS` residuals.
      groups: (n,) rows of one group are in one fold, and in one bag: trainings of one
        architecture with other seeds. Default: rows of equal features.
      seconds: (n,) of each full training; None: not known.

    Returns: the surrogate with its agreement.
    Raises: `ValueError` for arrays that do not belong together, values that are not
      finite or outside the valid range, and settings out of range.
    """
    features, curves = _validated(features, curves, info)
    seconds = None if seconds is None else _validated_seconds(seconds, len(curves))
    if members is None:
        members = int(np.clip(MEMBER_ROWS // len(curves), 2, MOST_MEMBERS))
    check_sizes(members=members, folds=folds)
    if not 0 < bagging <= 1:
        raise ValueError(f"bagging must be a share above 0 and up to 1, not {bagging}")
    if groups is None:
        _, groups = np.unique(features, axis=0, return_inverse=True)
    groups = np.asarray(groups).reshape(-1)
    check_shapes(features=(features, "nd"), groups=(groups, "n"))
    recipe = _Recipe(
        compression or compress.final_value_svd(),
        regressor or presets.default_regressor(),
        members,
        bagging,
        info,
    )
    key_fit, key_time, key_noise = jax.random.split(key, 3)
    data = (features, curves, groups)
    predictor, rest = _with_residuals(
        key_fit, data, recipe, None if noise is None else folds
    )
    if seconds is not None:
        time = _fit_time(key_time, features, seconds, recipe)
        predictor = replace(predictor, time=time)
    if noise is not None:
        x = features[rest.rows]
        # Of the surrogate itself, as in draws: predictors differ in their components.
        regressor = predictor.members[0].regressor
        z = members_.regress_compiled(regressor, jnp.asarray(x))
        model = noise(key_noise, rest.residual, x, np.asarray(z))
        predictor = replace(predictor, noise=model)
    gap = np.abs(curves - residuals_.predict(predictor, features))
    rmse = np.sqrt((gap**2).mean(1))
    return Fitted(predictor, rmse, gap.max(1), rest.rows, rest.residual)


def _with_residuals(
    key: Array,
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
    recipe: _Recipe,
    folds: int | None,
) -> tuple[Surrogate, Residuals]:
    """Fits the predictor, and computes residuals of held-out curves.

    Args:
      key: random key.
      data: features (n, d), curves (n, E) and their groups (n,).
      recipe: of the predictor.
      folds: for the residuals; None: without them.
    """
    key_fit, key_held = jax.random.split(key)
    fit = partial(_fit_predictor, recipe=recipe)
    if folds is None:
        predictor, _ = fit(key_fit, *data)
        return predictor, Residuals(np.zeros(0, int), data[1][:0])
    if recipe.members > 1:
        predictor, bags = fit(key_fit, *data)
        return predictor, residuals_.out_of_bag(predictor, bags, *data)
    rest, predictors = residuals_.held_out(key_held, *data, fit, folds)
    # If one fold was enough, its predictor is the surrogate, and is not fitted again.
    alone = len(predictors) == 1
    return (predictors[0] if alone else fit(key_fit, *data)[0]), rest


def _validated(
    features: np.ndarray, curves: np.ndarray, info: Info
) -> tuple[np.ndarray, np.ndarray]:
    """Features and curves as matrices of numbers that belong together.

    Raises: `ValueError` that names the first row that is wrong.
    """
    if not len(curves):
        raise ValueError("no curves: a surrogate is fitted to at least one")
    lengths = {np.size(curve) for curve in curves}
    if len(lengths) != 1:
        raise ValueError(
            f"curves must be of one length, not of lengths from {min(lengths)} to "
            f"{max(lengths)}: cut them, or repeat the last value"
        )
    features, curves = np.asarray(features, float), np.asarray(curves, float)
    check_shapes(features=(features, "nd"), curves=(curves, "ne"))
    for name, array in (("features", features), ("curves", curves)):
        bad = np.asarray(~np.isfinite(array).all(1))
        if bad.any():
            raise ValueError(
                f"{name}: {bad.sum()} of {len(bad)} rows have values that are not finite; "
                f"the first is row {bad.argmax()}"
            )
    outside = np.asarray((curves < info.low) | (curves > info.high))
    if outside.any():
        row = outside.any(1).argmax()
        raise ValueError(
            f"curves: row {row} is outside the valid range of {info.low} to {info.high} "
            f"{info.unit} that its info has"
        )
    if info.epochs and len(info.epochs) != curves.shape[1]:
        raise ValueError(
            f"info has {len(info.epochs)} epochs, the curves have {curves.shape[1]}"
        )
    return features, curves


def _validated_seconds(seconds: np.ndarray, num: int) -> np.ndarray:
    """The times (num,) of full trainings; `ValueError` unless all are positive."""
    seconds = np.asarray(seconds, float)
    if seconds.shape != (num,) or not (np.isfinite(seconds) & (seconds > 0)).all():
        raise ValueError(
            f"seconds must be ({num},), positive and finite: one for each curve; found "
            f"{seconds.shape}"
        )
    return seconds


def _fit_predictor(
    key: Array,
    features: np.ndarray,
    curves: np.ndarray,
    groups: np.ndarray,
    recipe: _Recipe,
) -> tuple[Surrogate, np.ndarray]:
    """A surrogate without noise and time, and the rows of each of its members."""
    keys = jax.random.split(key, 3)
    rows = splits.bags(keys[0], groups, recipe.members, recipe.bagging)
    keys = [jax.random.split(k, recipe.members) for k in keys[1:]]
    compressions = recipe.compression(keys[0], curves, rows)
    targets = [np.asarray(members_.encode(c, curves)) for c in compressions]
    importance = [members_.importance(c) for c in compressions]
    regressors = recipe.regressor(keys[1], FitTask(features, targets, rows, importance))
    members = map(members_.Member, compressions, regressors)
    return Surrogate(tuple(members), None, None, recipe.info), rows


def _fit_time(
    key: Array, features: np.ndarray, seconds: np.ndarray, recipe: _Recipe
) -> Time:
    """Fits the logarithm of the time (n,) of each full training."""
    log = np.log(seconds)
    mean, scale = log.mean(), log.std() or 1.0
    rows = np.arange(len(log))[None]
    target = ((log - mean) / scale)[:, None]
    task = FitTask(features, [target], rows, [np.ones(1)])
    (regressor,) = recipe.regressor(jax.random.split(key, 1), task)
    return Time(regressor, jnp.asarray(mean), jnp.asarray(scale), jnp.asarray(True))
