"""Batch norms of one network or many: by the batch, by running statistics, initial.

Axes are named in `nasbench201`: values (..., b, h, w, k), where "..." are lanes. Every
statistic is of one channel, over images and pixels, and never over lanes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.types import Array

EPSILON = 1e-5  # of every batch norm


def per_channel(vector: Array) -> Array:
    """Reshapes (k,) or (a, k) to broadcast with images (..., b, h, w, k)."""
    return vector.reshape(*vector.shape[:-1], 1, 1, 1, vector.shape[-1])


def variance(x: Array, groups: int) -> tuple[Array, Array]:
    """Computes mean and biased variance by channel, each (..., groups, 1, 1, 1, k).

    Args:
      x: (..., b, h, w, k).
      groups: consecutive parts of the batch; divides b.
    """
    split = _split(x, groups)
    mean = jnp.mean(split, (-4, -3, -2), keepdims=True)
    return mean, jnp.mean(jnp.square(split - mean), (-4, -3, -2), keepdims=True)


def unbiased_variance(x: Array, groups: int) -> Array:
    """Computes the variances that update running statistics, (..., groups, k).

    Args:
      x: (..., b, h, w, k).
      groups: consecutive parts of the batch; divides b.
    """
    count = x.shape[-4] // groups * x.shape[-3] * x.shape[-2]
    var = variance(x, groups)[1][..., 0, 0, 0, :]
    return var * (count / max(count - 1, 1))


def _split(x: Array, groups: int) -> Array:
    """Divides the batch axis: (..., groups, b / groups, h, w, k)."""
    batch = x.shape[-4]
    return x.reshape(*x.shape[:-4], groups, batch // groups, *x.shape[-3:])


def batch_norm(x: Array, scale: Array, offset: Array, groups: int) -> Array:
    """Normalises by the statistics of the batch, as in training (Ioffe and Szegedy, 2015).

    Args:
      x: (..., b, h, w, k).
      scale: (k,) or (a, k), the factor after normalisation.
      offset: (k,) or (a, k), added last.
      groups: consecutive parts of the batch with statistics of their own; divides b.

    Returns:
      (..., b, h, w, k).
    """
    mean, var = variance(x, groups)
    # One more axis than `per_channel` gives: that of the groups.
    scale, offset = per_channel(scale)[..., None, :, :, :, :], per_channel(offset)
    normal = (_split(x, groups) - mean) * (scale * lax.rsqrt(var + EPSILON))
    return normal.reshape(x.shape) + offset


def moments(x: Array) -> Array:
    """Stacks mean and unbiased variance by channel, (..., 2, k), of x (..., b, h, w, k).

    Running statistics are exponential averages of these.
    """
    mean = variance(x, 1)[0][..., 0, 0, 0, 0, :]
    return jnp.stack([mean, unbiased_variance(x, 1)[..., 0, :]], -2)


@jax.custom_vjp
def stat_tap(y: Array, running: Array, statistics: Array) -> Array:
    """Returns y, and passes `statistics` off as the gradient by `running`.

    A training step needs the batch statistics of every norm besides the gradients. With
    this function they come out of the same backward pass, at the place of the running
    statistics in the parameters, through whatever scans, switches and groups lie between:
    the "gradient" of any loss by `running` is exactly `statistics`, whatever the loss.

    Args:
      y: any array, which is returned, and through which gradients flow as usual.
      running: (..., 2, k) running statistics; their values are not used.
      statistics: (..., 2, k) of the batch; no gradient flows to them.
    """
    del running, statistics
    return y


def _stat_tap_forward(
    y: Array, running: Array, statistics: Array
) -> tuple[Array, Array]:
    del running
    return y, statistics


def _stat_tap_backward(statistics: Array, grad: Array) -> tuple[Array, Array, Array]:
    return grad, statistics, jnp.zeros_like(statistics)


stat_tap.defvjp(_stat_tap_forward, _stat_tap_backward)


def running_norm(x: Array, scale: Array, offset: Array, running: Array) -> Array:
    """Normalises by running statistics, as a trained network does.

    Args:
      x: (..., b, h, w, k).
      scale: (k,) or (a, k).
      offset: (k,) or (a, k).
      running: (2, k) or (a, 2, k), means and variances.
    """
    mean, var = running[..., 0, :], running[..., 1, :]
    factor = scale * lax.rsqrt(var + EPSILON)
    return x * per_channel(factor) + per_channel(offset - mean * factor)


def initial_norm(x: Array, scale: Array, offset: Array) -> Array:
    """Normalises by the running statistics of an untrained network: mean 0, variance 1."""
    factor = 1 / np.sqrt(1 + EPSILON)
    return x * (per_channel(scale) * factor) + per_channel(offset)
