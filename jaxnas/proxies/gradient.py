"""Proxies from gradients of the loss by the weights, on one labelled batch.

The loss is the mean cross-entropy with batch norm in training mode; layers are the
convolutions and the classifier, without norms and bias. All are 0 if a cell does not
connect its input to its output, except Fisher information, which sees the bias.

All functions take a model (of one architecture, or of a as lanes), parameters, images
x (b, h, w, c) and labels y (b,), and return () or (a,).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.networks import initialise
from jaxnas.networks.apply import Model, with_lanes
from jaxnas.networks.nasbench201 import Params
from jaxnas.proxies.base import (
    Weights,
    gradients,
    loss,
    output_scales,
    sum_over_layers,
    weights,
    weights_count,
    with_weights,
)
from jaxnas.types import Array


def _sum(x: Array) -> Array:
    """Sums a layer's (..., rows, k) over the last two axes."""
    return jnp.sum(x, (-2, -1))


def snip(model: Model, params: Params, x: Array, y: Array) -> Array:
    """Sums |w dl/dw| over all weights.

    Lee et al. (2019), as a sum over layers by Abdelfattah et al. (2021), eq. 1.
    """
    params = with_lanes(model, params)
    grads = gradients(model, params, x, y)
    return sum_over_layers(
        model, lambda w, g: _sum(jnp.abs(w * g)), weights(params), grads
    )


def _norm(g: Array) -> Array:
    """Euclidean norm of a layer's (..., rows, k)."""
    return jnp.sqrt(_sum(jnp.square(g)))


def grad_norm(model: Model, params: Params, x: Array, y: Array) -> Array:
    """Sums the Euclidean norms of the layers' gradients (Abdelfattah et al., 2021)."""
    params = with_lanes(model, params)
    return sum_over_layers(model, _norm, gradients(model, params, x, y))


def plain(model: Model, params: Params, x: Array, y: Array) -> Array:
    """Sums w dl/dw with its sign: the derivative of the loss along the weights."""
    params = with_lanes(model, params)
    grads = gradients(model, params, x, y)
    return sum_over_layers(model, lambda w, g: _sum(w * g), weights(params), grads)


def grasp(model: Model, params: Params, x: Array, y: Array) -> Array:
    """Computes -w^T H g, H the Hessian over the layers' weights (Wang et al., 2020, eq. 8).

    The sign is that of Abdelfattah et al. (2021). Computed as -<g, H w>, where H w is one
    forward-mode derivative of the gradient along w.
    """
    params = with_lanes(model, params)

    def grad(values: Weights) -> Weights:
        return gradients(model, with_weights(params, values), x, y)

    values = weights(params)
    grads, along = jax.jvp(grad, (values,), (values,))
    return -sum_over_layers(model, lambda g, h: _sum(g * h), grads, along)


def fisher(model: Model, params: Params, x: Array, y: Array) -> Array:
    """Computes Fisher information (Theis et al., 2018; Turner et al., 2020).

    For outputs o of a layer with gradients d: half of the mean over images of (sum over
    pixels of o d)^2, for each channel, times the number of the channel's weights. That
    sum is the gradient by a factor of the output (`Conv.output_scale`), so no gradient by
    a weight is needed.
    """
    params = initialise.with_output_scales(with_lanes(model, params), x.shape[-4])
    grads = output_scales(jax.grad(lambda p: loss(model, p, x, y))(params))

    def information(w: Array, g: Array) -> Array:
        return w.shape[-2] * jnp.sum(jnp.mean(jnp.square(g), -2) / 2, -1)

    return sum_over_layers(model, information, weights(params), grads)


def zico(model: Model, params: Params, x: Array, y: Array, batches: int = 2) -> Array:
    """Sums ln(sum of mean |g| / std g) over layers (Li et al., 2023, eq. 13).

    Mean and standard deviation are over batches; the latter of g with its sign.

    Args:
      model: the architectures.
      params: with or without lanes.
      x: (b, h, w, c).
      y: (b,) labels.
      batches: number of consecutive parts of x and y, of equal size, with a gradient each.
    """
    params = with_lanes(model, params)
    size = x.shape[-4] // batches
    parts = [v[: size * batches].reshape(batches, size, *v.shape[1:]) for v in (x, y)]
    grads = lax.map(lambda part: gradients(model, params, *part), tuple(parts))

    def layer(g: Array) -> Array:
        mean, std = jnp.mean(jnp.abs(g), 0), jnp.std(g, 0)
        total = _sum(jnp.where(std > 0, mean / jnp.where(std > 0, std, 1.0), 0.0))
        return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1.0)), 0.0)

    return sum_over_layers(model, layer, grads)


def gradsign(model: Model, params: Params, x: Array, y: Array) -> Array:
    """Averages |sum over images of sign(dl_i/dw)| over weights.

    Zhang and Jia (2022), eq. 8. Each image is a batch of its own: a scan over images.
    Weights of dead convolutions count as zeros.
    """
    params = with_lanes(model, params)

    def add(total: Weights, image: tuple[Array, Array]) -> tuple[Weights, None]:
        grads = gradients(model, params, image[0][None], image[1][None])
        return [t + jnp.sign(g) for t, g in zip(total, grads, strict=True)], None

    zero = [jnp.zeros(w.shape, w.dtype) for w in weights(params)]
    total, _ = lax.scan(add, zero, (x, y))
    agree = sum_over_layers(model, lambda t: _sum(jnp.abs(t)), total)
    return agree / weights_count(model, params)


def l2_norm(model: Model, params: Params) -> Array:
    """Sums the Euclidean norms of the weights of the architecture's layers."""
    return sum_over_layers(model, _norm, weights(with_lanes(model, params)))
