"""Training speed as predictor: the sum of the training losses of the observed epochs."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.types import Array, check_sizes


class Line(NamedTuple):
    """Least-squares line of final values over sums, and its residual deviation."""

    centre: Array  # () mean sum
    mean: Array  # () mean final value
    slope: Array  # ()
    std: Array  # () inf with fewer than three curves


def training_sum(epochs: int, last: int | None = None) -> Extrapolator:
    """Predicts from the sum of training losses (Ru et al., 2021, TSE and TSE-E).

    Curves are training losses with the opposite sign, or training accuracies: more is
    better. A line maps their sum to the final value, which keeps the order of the sums
    as long as its slope is positive.

    Args:
      epochs: number of epochs that are read of each curve.
      last: how many of these count, from the last one back: 1 is the last training loss.
        None: all.

    Returns: an extrapolator that ignores features.
    Raises: `ValueError` for sizes below 1, and for more epochs that count than are read.
    """
    check_sizes(epochs=epochs, last=epochs if last is None else last)
    if last is not None and last > epochs:
        raise ValueError(f"last must be at most epochs = {epochs}, not {last}")
    start = 0 if last is None else epochs - last

    def fit(curves: Array, final: Array, valid: Array, features: Array | None) -> Line:
        del features
        total = curves[:, start:epochs].sum(1)
        used = valid & jnp.isfinite(total) & jnp.isfinite(final)
        count = jnp.maximum(used.sum(), 1)
        mean = lambda x: jnp.where(used, x, 0.0).sum() / count  # noqa: E731
        x, y = total - mean(total), final - mean(final)
        slope = mean(x * y) / jnp.maximum(mean(x * x), jnp.finfo(x.dtype).tiny)
        square = count * mean((y - slope * x) ** 2)
        std = jnp.where(
            count > 2, jnp.sqrt(square / jnp.maximum(count - 2, 1)), jnp.inf
        )
        return Line(mean(total), mean(final), slope, std)

    def predict(
        params: Line, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        del features
        total = curve[start:epochs].sum()
        mean = params.mean + params.slope * (total - params.centre)
        return mean, jnp.where(jnp.isfinite(mean), params.std, jnp.nan)

    return Extrapolator(fit, predict, epochs, 3)
