"""Initial parameters, by scheme; batch norms always start with factor 1 and offset 0."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks.layers import Conv
from jaxnas.networks.nasbench201 import (
    STAGES,
    Cells,
    Head,
    Network,
    Params,
    Reduction,
)
from jaxnas.spaces.nasbench201 import EDGES
from jaxnas.types import Array

# (key, shape (..., fan_in, k), inputs of one output, outputs of one input) -> weights
Draw = Callable[[Array, tuple[int, ...], int, int], Array]


def _uniform(key: Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    del fan_out
    bound = float(fan_in**-0.5)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _kaiming(key: Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    del fan_out
    return jax.random.normal(key, shape) * float(np.sqrt(2 / fan_in))


def _xavier(key: Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    return jax.random.normal(key, shape) * float(np.sqrt(2 / (fan_in + fan_out)))


def _normal(key: Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    del fan_in, fan_out
    return jax.random.normal(key, shape)


SCHEMES: dict[str, Draw] = {
    "default": _uniform,
    "kaiming": _kaiming,
    "xavier": _xavier,
    "normal": _normal,
}


def initialise(key: Array, network: Network, scheme: str = "default") -> Params:
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
    draw, keys = SCHEMES[scheme], iter(jax.random.split(key, 3 * STAGES + 6))

    def conv(size: int, inputs: int, outputs: int, lead=(), norm=True) -> Conv:
        area = size**2
        shape = (*lead, area * inputs, outputs)
        weight = draw(next(keys), shape, area * inputs, area * outputs)
        one, zero = jnp.ones((*lead, outputs)), jnp.zeros((*lead, outputs))
        return Conv(weight, one, zero) if norm else Conv(weight, None, None)

    widths = [network.channels * 2**stage for stage in range(STAGES)]
    lead = (network.cells, len(EDGES))
    stem = conv(3, network.colours, widths[0])
    cells = [Cells(conv(1, c, c, lead), conv(3, c, c, lead)) for c in widths]
    reductions = [
        Reduction(
            conv(3, c, 2 * c), conv(3, 2 * c, 2 * c), conv(1, c, 2 * c, (), False)
        )
        for c in widths[:-1]
    ]
    last, classes = widths[-1], network.classes
    weight = draw(next(keys), (last, classes), last, classes)
    bias = jnp.zeros(classes)
    if scheme == "default":
        bias = draw(next(keys), (classes,), last, classes)
    head = Head(jnp.ones(last), jnp.zeros(last), weight, bias)
    return Params(stem, tuple(cells), tuple(reductions), head)


def own_parameters(
    key: Array, network: Network, codes: Array, scheme: str = "default"
) -> Params:
    """Independent parameters for each architecture, with lanes (a,).

    Args:
      codes: (a,) int32, a number for each architecture, as its rank; the same number
        always gives the same parameters.
    """
    keys = jax.vmap(lambda code: jax.random.fold_in(key, code))(codes)
    return jax.vmap(lambda key: initialise(key, network, scheme))(keys)


def with_gates(params: Params, batch: int) -> Params:
    """The parameters with a gate of ones at every convolution and the classifier."""

    def ones(weight: Array) -> Array:
        # After lanes, cells and edges, the rows of a weight are the gate's images.
        shape = (*weight.shape[:-2], batch, weight.shape[-1])
        return jnp.ones(shape, weight.dtype)

    def gate(node):
        return node._replace(gate=ones(node.weight))

    layers = Conv, Head
    return jax.tree.map(gate, params, is_leaf=lambda node: isinstance(node, layers))
