"""Initial parameters, by scheme, and parts that parameters can have besides weights.

Batch norms always start with factor 1 and offset 0. Parameters have both convolutions of
every edge (see `nasbench201`), so one draw serves every architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.networks.blocks import Head, Reduction
from jaxnas.networks.layers import Conv
from jaxnas.networks.nasbench201 import NetworkConfig, Params, StageConvs
from jaxnas.spaces.nasbench201 import EDGES
from jaxnas.types import Array

# (fan-in, fan-out) of a layer: inputs of one output, outputs of one input -> factor
Scale = Callable[[int, int], float]


class Scheme(NamedTuple):
    """A distribution of independent weights: numbers that are drawn, times a factor."""

    draw: Callable[[Array, tuple[int, ...]], Array]  # (key, shape) -> numbers
    scale: Scale
    bias: bool = False  # whether the bias is drawn too; otherwise it is 0


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, minval=-1.0)


SCHEMES: dict[str, Scheme] = {
    "default": Scheme(_uniform, lambda i, o: i**-0.5, bias=True),
    "kaiming": Scheme(jax.random.normal, lambda i, o: math.sqrt(2 / i)),
    "xavier": Scheme(jax.random.normal, lambda i, o: math.sqrt(2 / (i + o))),
    "normal": Scheme(jax.random.normal, lambda i, o: 1.0),
}


def _num_weights(network: NetworkConfig) -> int:
    """Counts the weights and biases of all layers, with both convolutions of every edge."""
    widths = network.widths
    total = 9 * network.in_channels * widths[0]
    total += (widths[-1] + 1) * network.num_classes
    total += sum(10 * network.cells_per_stage * len(EDGES) * c * c for c in widths)
    return total + sum(56 * c * c for c in widths[:-1])


def initialise(key: Array, network: NetworkConfig, scheme: str = "default") -> Params:
    """Draws the parameters of every architecture of a network size.

    Args:
      key: of the one draw.
      network: the sizes.
      scheme: "default", uniform within 1/sqrt(fan-in), bias too, as PyTorch does it;
        "kaiming", normal of variance 2/fan-in (He et al., 2015, eq. 10); "xavier",
        normal of variance 2/(fan-in + fan-out) (Glorot and Bengio, 2010); "normal",
        of variance 1. The bias is 0 in all but the first.

    Returns:
      parameters in the default float type, without lanes. For each architecture
      parameters of its own: `own_parameters`.

    Raises: `ValueError` for an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"no scheme {scheme!r}; available are {', '.join(SCHEMES)}")
    chosen, widths = SCHEMES[scheme], network.widths
    # All weights are one draw: compiling a draw takes seconds for each.
    numbers, used = chosen.draw(key, (_num_weights(network),)), 0

    def draw(shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
        nonlocal used
        first, used = used, used + math.prod(shape)
        return numbers[first:used].reshape(shape) * chosen.scale(fan_in, fan_out)

    def conv(
        size: int,
        inputs: int,
        outputs: int,
        lead: tuple[int, ...] = (),
        norm: bool = True,
    ) -> Conv:
        area = size**2
        shape = (*lead, area * inputs, outputs)
        weight = draw(shape, area * inputs, area * outputs)
        one, zero = jnp.ones((*lead, outputs)), jnp.zeros((*lead, outputs))
        return Conv(weight, one, zero) if norm else Conv(weight, None, None)

    lead = (network.cells_per_stage, len(EDGES))
    stem = conv(3, network.in_channels, widths[0])
    cells = [StageConvs(conv(1, c, c, lead), conv(3, c, c, lead)) for c in widths]
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
    key: Array, network: NetworkConfig, ranks: Array, scheme: str = "default"
) -> Params:
    """Draws independent parameters for each architecture.

    Args:
      key: of all of them.
      network: the sizes.
      ranks: (a,) int32, a number for each architecture; the same number always gives the
        same parameters, whatever the others are.
      scheme: as for `initialise`.

    Returns:
      parameters with lanes (a,).
    """
    keys = jax.vmap(lambda rank: jax.random.fold_in(key, rank))(ranks)
    return jax.vmap(lambda key: initialise(key, network, scheme))(keys)


def with_output_scales(params: Params, batch: int) -> Params:
    """Adds an output scale of ones at every convolution and the classifier.

    Args:
      params: with or without lanes.
      batch: number b of images; the scales are (..., b, k).
    """

    def ones(weight: Array) -> Array:
        # After lanes, cells and edges, the images take the place of a weight's rows.
        shape = (*weight.shape[:-2], batch, weight.shape[-1])
        return jnp.ones(shape, weight.dtype)

    def add(block: Conv | Head) -> Conv | Head:
        return block._replace(output_scale=ones(block.weight))

    kinds = Conv, Head
    return jax.tree.map(add, params, is_leaf=lambda node: isinstance(node, kinds))


def _norms(params: Params) -> tuple[list[Conv | Head], Any]:
    """Flattens parameters to their blocks with (or without) a norm."""
    return jax.tree.flatten(params, is_leaf=lambda n: isinstance(n, Conv | Head))


def initial_running_stats(params: Params) -> list[Array]:
    """Makes running statistics of mean 0 and variance 1 for every batch norm.

    Returns:
      (..., 2, k) for each, in the order of the parameters.
    """
    return [
        jnp.stack([jnp.zeros_like(norm.scale), jnp.ones_like(norm.scale)], -2)
        for norm in _norms(params)[0]
        if norm.scale is not None
    ]


def with_running_stats(params: Params, running: list[Array]) -> Params:
    """Puts running statistics into parameters, for the norm "running".

    Args:
      params: with or without statistics.
      running: (..., 2, k) for each batch norm, in the order of the parameters.
    """
    norms, tree = _norms(params)
    rest = iter(running)
    return jax.tree.unflatten(
        tree,
        [n if n.scale is None else n._replace(running=next(rest)) for n in norms],
    )
