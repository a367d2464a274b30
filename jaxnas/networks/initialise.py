"""Initial parameters, by scheme; batch norms always start with factor 1 and offset 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.networks.layers import Conv
from jaxnas.networks.nasbench201 import (
    Cells,
    Head,
    NetworkConfig,
    Params,
    Reduction,
)
from jaxnas.spaces.nasbench201 import EDGES
from jaxnas.types import Array


class Scheme(NamedTuple):
    """Independent weights: what is drawn, and by what it is multiplied."""

    draw: Callable[[Array, tuple[int, ...]], Array]
    # (inputs of one output, outputs of one input)
    scale: Callable[[int, int], float]
    bias: bool = False  # drawn too; otherwise 0


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, minval=-1.0)


SCHEMES: dict[str, Scheme] = {
    "default": Scheme(_uniform, lambda i, o: i**-0.5, bias=True),
    "kaiming": Scheme(jax.random.normal, lambda i, o: math.sqrt(2 / i)),
    "xavier": Scheme(jax.random.normal, lambda i, o: math.sqrt(2 / (i + o))),
    "normal": Scheme(jax.random.normal, lambda i, o: 1.0),
}


def _total(network: NetworkConfig) -> int:
    """How many weights and biases there are."""
    widths = network.widths
    total = 9 * network.in_channels * widths[0] + (widths[-1] + 1) * network.num_classes
    total += sum(10 * network.cells_per_stage * len(EDGES) * c * c for c in widths)
    return total + sum(56 * c * c for c in widths[:-1])


def initialise(key: Array, network: NetworkConfig, scheme: str = "default") -> Params:
    """Draws the parameters of every architecture of a network size.

    Args:
      scheme: "default", uniform within 1/sqrt(fan-in), bias too, as PyTorch does it;
        "kaiming", normal of variance 2/fan-in (He et al., 2015, eq. 10); "xavier",
        normal of variance 2/(fan-in + fan-out) (Glorot and Bengio, 2010); "normal",
        of variance 1. The bias is 0 in all but the first.

    Returns: parameters in the default float type, without lanes. For parameters of
      their own for each architecture, `jax.vmap` this over keys.
    Raises: `ValueError` for an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"no scheme {scheme!r}; there are {', '.join(SCHEMES)}")
    chosen, widths = SCHEMES[scheme], network.widths
    # All of them are one draw: a program compiles each of its draws, for seconds.
    numbers, used = chosen.draw(key, (_total(network),)), 0

    def draw(shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
        nonlocal used
        first, used = used, used + math.prod(shape)
        return numbers[first:used].reshape(shape) * chosen.scale(fan_in, fan_out)

    def conv(size: int, inputs: int, outputs: int, lead=(), norm=True) -> Conv:
        area = size**2
        shape = (*lead, area * inputs, outputs)
        weight = draw(shape, area * inputs, area * outputs)
        one, zero = jnp.ones((*lead, outputs)), jnp.zeros((*lead, outputs))
        return Conv(weight, one, zero) if norm else Conv(weight, None, None)

    lead = (network.cells_per_stage, len(EDGES))
    stem = conv(3, network.in_channels, widths[0])
    cells = [Cells(conv(1, c, c, lead), conv(3, c, c, lead)) for c in widths]
    reductions = [
        Reduction(
            conv(3, c, 2 * c), conv(3, 2 * c, 2 * c), conv(1, c, 2 * c, (), False)
        )
        for c in widths[:-1]
    ]
    last, classes = widths[-1], network.num_classes
    weight = draw((last, classes), last, classes)
    bias = draw((classes,), last, classes) if chosen.bias else jnp.zeros(classes)
    head = Head(jnp.ones(last), jnp.zeros(last), weight, bias)
    return Params(stem, tuple(cells), tuple(reductions), head)


def own_parameters(
    key: Array, network: NetworkConfig, codes: Array, scheme: str = "default"
) -> Params:
    """Independent parameters for each architecture, with lanes (a,).

    Args:
      codes: (a,) int32, a number for each architecture, as its rank; the same number
        always gives the same parameters.
    """
    keys = jax.vmap(lambda code: jax.random.fold_in(key, code))(codes)
    return jax.vmap(lambda key: initialise(key, network, scheme))(keys)


def with_output_scales(params: Params, batch: int) -> Params:
    """The parameters with a output_scale of ones at every convolution and the classifier."""

    def ones(weight: Array) -> Array:
        # After lanes, cells and edges, the rows of a weight are the output_scale's images.
        shape = (*weight.shape[:-2], batch, weight.shape[-1])
        return jnp.ones(shape, weight.dtype)

    def output_scale(node):
        return node._replace(output_scale=ones(node.weight))

    layers = Conv, Head
    return jax.tree.map(
        output_scale, params, is_leaf=lambda node: isinstance(node, layers)
    )
