"""The last observed value as prediction of the final one: the baseline."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxnas.curves.extrapolate.types import Extrapolator, observed
from jaxnas.types import Array


class Growth(NamedTuple):
    """Statistics of final value minus value at each epoch, over completed trainings."""

    mean: Array  # (e,)
    std: Array  # (e,) inf with fewer than two curves


def last_value(growth: bool = True) -> Extrapolator:
    """Predicts the last observed value plus the mean growth of completed curves.

    The mean is the last value v plus the mean growth from that epoch to the target; the
    standard deviation is that of the growth. Curves of one length are ranked by v, as
    successive halving ranks them.

    Args:
      growth: False predicts v itself, with the root mean square of the growth as standard
        deviation.

    Returns: an extrapolator that ignores features and reads curves as far as they go.
    """

    def fit(
        curves: Array, final: Array, valid: Array, features: Array | None
    ) -> Growth:
        del features
        gain = final[:, None] - curves
        used = valid[:, None] & jnp.isfinite(gain)
        count = used.sum(0)
        mean = jnp.where(used, gain, 0.0).sum(0) / jnp.maximum(count, 1)
        mean = mean if growth else jnp.zeros_like(mean)
        square = jnp.where(used, (gain - mean) ** 2, 0.0).sum(0)
        variance = square / jnp.maximum(count - growth, 1)
        return Growth(mean, jnp.where(count >= 2, jnp.sqrt(variance), jnp.inf))

    def predict(
        params: Growth, curve: Array, features: Array | None
    ) -> tuple[Array, Array]:
        del features
        count = observed(curve)
        at = jnp.maximum(count - 1, 0)
        mean = jnp.where(count > 0, curve[at] + params.mean[at], jnp.nan)
        return mean, jnp.where(count > 0, params.std[at], jnp.nan)

    return Extrapolator(fit, predict)
