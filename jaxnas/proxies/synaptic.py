"""Synaptic flow (Tanaka et al., 2020): the flow of ones through positive weights.

Every parameter is replaced by its absolute value, the input is one image of ones, and R
is the sum of the logits; the score is the sum over the layers' weights of w dR/dw. It
is 0 exactly if a cell does not connect its input to its output.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.networks.apply import Model, run, with_lanes
from jaxnas.networks.blocks import Mode
from jaxnas.networks.nasbench201 import Block, Params
from jaxnas.proxies.base import Weights, sum_over_layers, weights, with_weights
from jaxnas.types import Array


def _ones(model: Model) -> Array:
    """One image of ones, (1, h, w, c)."""
    network = model.network
    return jnp.ones((1, network.image_size, network.image_size, network.in_channels))


def log_synflow(model: Model, params: Params) -> Array:
    """Computes the natural logarithm of the score without batch norms.

    Without norms R is linear in each layer, so the score is the derivative of R along
    all weights, one forward-mode derivative. Values reach 1e50: after each block the image
    is divided by its largest value and the logarithms are added, for which float32 is
    enough.

    Args:
      model: the architectures.
      params: with or without lanes.

    Returns:
      () or (a,); -inf for no flow.
    """
    params = jax.tree.map(jnp.abs, params)

    def rescaled(block: Block, x: Array, block_input: None):
        y, seen = block(x)
        largest = jnp.max(y, (-4, -3, -2, -1), keepdims=True)
        # Constants to the derivative: they are taken out of R and put back at the end.
        scale = lax.stop_gradient(jnp.where(largest > 0, largest, 1.0))
        return y / scale, seen, jnp.log(scale[..., 0, 0, 0, 0])

    def flow(values: Weights) -> tuple[Array, Array]:
        out = run(
            model,
            with_weights(params, values),
            _ones(model),
            Mode("off", "off"),
            block_wrapper=rescaled,
        )
        # The bias does not matter to the derivative by the weights.
        logits = out.logits - params.head.bias[..., None, :]
        logs = (
            log if i % 2 else jnp.sum(log, 0) for i, log in enumerate(out.block_outputs)
        )
        return jnp.sum(logits, (-2, -1)), sum(logs)  # type: ignore[return-value]

    values = weights(params)
    _, along, logs = jax.jvp(flow, (values,), (values,), has_aux=True)
    return logs + jnp.log(along)


def synflow_bn(model: Model, params: Params, *, all_norms: bool = True) -> Array:
    """Computes the score with batch norms: sum of |w dR/dw|, in the default precision.

    Args:
      model: the architectures.
      params: with or without lanes.
      all_norms: keep all norms; otherwise those of the reductions only, which is what
        the program of Abdelfattah et al. (2021) computes on these networks.

    Returns:
      () or (a,).
    """
    params = with_lanes(model, jax.tree.map(jnp.abs, params))
    mode = Mode("batch" if all_norms else "off", "batch")
    values = weights(params)
    grads = jax.grad(
        lambda w: jnp.sum(
            run(model, with_weights(params, w), _ones(model), mode).logits
        )
    )(values)
    return sum_over_layers(
        model, lambda w, g: jnp.sum(jnp.abs(w * g), (-2, -1)), values, grads
    )
