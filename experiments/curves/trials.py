"""One surrogate fitted on one split, and its metrics on the held-out curves.

A trial is a dictionary of arrays, small enough to be kept for each surrogate and split.
Metrics are by epoch, (E,). Those on further curves are called NAME/metric, and what a
noise model adds noise/NAME/what: all of them are fitted on the residuals of one predictor.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.curves.sets import CurveSet
from jaxnas.curves import accuracy, fit, noise, repeated, residuals, splits
from jaxnas.curves import surrogate as surrogates
from jaxnas.curves.noise import FitNoise
from jaxnas.curves.surrogate import Surrogate

FURTHER = ("r2", "kendall", "spearman", "rmse")
# The weighted quantiles of 99 draws are unbiased: a draw more is above the fifth largest
# and below the fifth smallest of them with probability 0.1 in all.
DRAWS = 99
BAND = (0.05, 0.95)
EXAMPLES = 4
# Architectures whose draws are in memory at once.
_AT_ONCE = 256
# Smallest standard deviation, in percent or 0.01 nats, in the KL divergence: two or three
# seeds can agree by chance.
FLOOR = 0.1


def split(
    base_seed: int, number: int, data: CurveSet, share: float
) -> tuple[jax.Array, tuple[np.ndarray, np.ndarray]]:
    """Splits architectures; all surrogates have the same splits and keys.

    Args:
      base_seed: of the report.
      number: of the split.
      data: the curves.
      share: of the architectures to fit on.

    Returns: the key of fits and draws, and the rows to fit and to test on.
    Raises: `ValueError` for too few architectures.
    """
    key = jax.random.fold_in(jax.random.key(base_seed), number)
    key_split, key_fit = jax.random.split(key)
    train, test = splits.split(key_split, data.groups, (share, 1 - share))
    return key_fit, (train, test)


def run(
    key: jax.Array,
    data: CurveSet,
    parts: tuple[np.ndarray, np.ndarray],
    own: bool,
    settings: Mapping[str, Any],
    noises: Mapping[str, FitNoise],
) -> dict[str, np.ndarray]:
    """Fits a surrogate, and tests it.

    Args:
      key: random key.
      data: the curves.
      parts: rows to fit on, and rows to test on.
      own: whether the surrogate takes our features, and not the release's.
      settings: arguments of `fit_surrogate`, without noise.
      noises: by name; nothing for a surrogate that predicts means alone.

    Returns: the metrics (E,) of `accuracy.METRICS`; fit_seconds, predict_seconds and
      rmse_train (); FURTHER for each set of further curves; `_examples` with their rows,
      true curves and means; and what `_noise_quality` says of each noise.
    """
    key_fit, key_draw = jax.random.split(key)
    train, test = parts
    x, y = np.asarray(data.features.own if own else data.features.release), data.curves
    begin = time.process_time()
    fitted = fit.fit_surrogate(
        key_fit,
        x[train],
        y[train],
        info=data.info,
        groups=data.groups[train],
        noise=_all(noises) if noises else None,
        **settings,
    )
    seconds = time.process_time() - begin
    surrogate = dataclasses.replace(fitted.surrogate, noise=None)
    mean = np.asarray(surrogates.predict(surrogate, x[test]), float)
    y = y if data.truth is None else data.truth
    found: dict[str, Any] = accuracy.by_epoch(y[test], mean)
    found |= {"fit_seconds": seconds, "rmse_train": np.mean(fitted.rmse)}
    found["predict_seconds"] = _predict_seconds(fitted.surrogate, x)
    shown = _examples(y[test])
    found |= {"example/rows": test[shown], "example/true": y[test][shown]}
    found["example/mean"] = mean[shown]
    for name, (features, curves) in data.further.items():
        there = features.own if own else features.release
        predicted = surrogates.predict(surrogate, there)
        scores = accuracy.by_epoch(curves, predicted, FURTHER)
        found |= {f"{name}/{metric}": value for metric, value in scores.items()}
    seeds = None if data.seeds is None else data.seeds[test]
    for name in noises:
        noisy = dataclasses.replace(surrogate, noise=fitted.surrogate.noise[name])
        arrays = _noise_quality(key_draw, noisy, x[test], (y[test], mean), shown, seeds)
        found |= {f"noise/{name}/{what}": value for what, value in arrays.items()}
    return {name: np.asarray(value) for name, value in found.items()}


def _predict_seconds(surrogate: Surrogate, features: np.ndarray) -> float:
    """The shortest wall time of three in which curves (n, E) are predicted.

    The first call compiles what the fit has not compiled already.
    """
    seconds = []
    for _ in range(4):
        begin = time.perf_counter()
        residuals.predict(surrogate, features)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def _all(noises: Mapping[str, FitNoise]) -> Any:
    """Fits several noise models on the same residuals; a dictionary of them."""

    def fit_all(
        key: jax.Array, residuals: np.ndarray, features: np.ndarray, z: np.ndarray
    ) -> dict[str, Any]:
        return {n: one(key, residuals, features, z) for n, one in noises.items()}

    return fit_all


def _examples(curves: np.ndarray) -> np.ndarray:
    """Rows (4,) of curves (n, E) to draw, from a bad to a good final value."""
    order = np.argsort(curves[:, -1], kind="stable")
    place = np.linspace(0.1, 0.95, EXAMPLES) * (len(order) - 1)
    return order[place.round().astype(int)]


def draws(
    key: jax.Array, surrogate: Surrogate, features: np.ndarray, num: int
) -> np.ndarray:
    """Draws several noisy curves of each architecture.

    As `surrogate.sample` does, but the trees are evaluated once for all draws.

    Args:
      key: random key.
      surrogate: with noise.
      features: (n, d).
      num: draws of each.

    Returns: (n, num, E).
    """
    x = jnp.asarray(features)
    z = surrogates.regress(surrogate.members[0].regressor, x)
    mean = surrogates.member_curves(surrogate, x).mean(0)
    keys = jax.random.split(key, (len(x), num))
    info = surrogate.info
    return np.asarray(_drawn(surrogate.noise, keys, x, z, mean, info.low, info.high))


@jax.jit
def _drawn(
    model: Any,
    keys: jax.Array,
    x: jax.Array,
    z: jax.Array,
    mean: jax.Array,
    low: float,
    high: float,
) -> jax.Array:
    each = jax.vmap(noise.draw, (None, 1, None, None), 1)
    return jnp.clip(mean[:, None] + each(model, keys, x, z), low, high)


def _noise_quality(
    key: jax.Array,
    surrogate: Surrogate,
    x: np.ndarray,
    curves: tuple[np.ndarray, np.ndarray],
    shown: np.ndarray,
    seeds: np.ndarray | None,
) -> dict[str, Any]:
    """Compares draws for held-out architectures with their curves.

    Args:
      key: random key.
      surrogate: with noise.
      x: (n, d) features.
      curves: (n, E) true ones, and predictions.
      shown: rows that figures show.
      seeds: (n, r, E) as `CurveSet.seeds`, or None.

    Returns: ratio (E,), the standard deviation of draws minus predictions over that of
      the residuals; cover (E,), the share of true values in the band of 90 % of the
      draws; spikes (), of draws that are higher than 5 % of the real ones are; kl (E,),
      the mean over architectures with several seeds, if there are any; and a draw and the
      band of each example.
    """
    y, mean = curves
    square, inside, spiky = np.zeros(y.shape[1]), np.zeros(y.shape[1]), []
    found: dict[str, Any] = {}
    for i in range(0, len(x), _AT_ONCE):
        part = slice(i, i + _AT_ONCE)
        drawn = draws(jax.random.fold_in(key, i), surrogate, x[part], DRAWS)
        band = np.quantile(drawn, BAND, axis=1, method="weibull")
        square += ((drawn - mean[part, None]) ** 2).mean(1).sum(0)
        inside += ((band[0] <= y[part]) & (y[part] <= band[1])).sum(0)
        spiky.append(drawn[:, 0])
    residual = np.sqrt(((y - mean) ** 2).mean(0))
    found["ratio"] = np.sqrt(square / len(x)) / np.maximum(residual, 1e-12)
    found["cover"] = inside / len(x)
    found["spikes"] = repeated.spike_share(y, np.concatenate(spiky))
    drawn = draws(key, surrogate, x[shown], DRAWS)
    found["draw"] = drawn[:, 0]
    found["band"] = np.quantile(drawn, BAND, axis=1, method="weibull")
    if seeds is None:
        return found
    complete = np.isfinite(seeds).all((1, 2))
    if complete.any():
        drawn = draws(key, surrogate, x[complete], DRAWS)
        found["kl"] = repeated.gaussian_kl(seeds[complete], drawn, FLOOR).mean(0)
    return found
