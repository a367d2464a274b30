"""What every proxy is made of: a network as a function, its loss, sums over its layers.

A proxy is a function of a `Model`, parameters and data. A model is one architecture, or
several as lanes (see `jaxnas.networks.cells`); what is said of shapes here is for one,
and lanes stand before everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.networks.apply import Model, cross_entropy, run, with_lanes
from jaxnas.networks.nasbench201 import Params
from jaxnas.spaces.nasbench201 import CONV1, CONV3
from jaxnas.types import Array


class Proxy(NamedTuple):
    """A score and what it needs; higher is better as all of them are written.

    `equivalence` says which cells it may take for one another, in distribution:
    "live", cells of the same function (5,260 of 15,625); "present", cells that are the
    same with their dead convolutions as well (6,239); None, no others.
    """

    # (key, model, parameters, x, y) -> () or (a,); the key is for proxies that draw
    # their inputs themselves.
    score: Callable[[Array, Model, Params, Array, Array], Array]
    equivalence: Literal["live", "present"] | None
    scheme: str = "default"  # of the parameters, as the score was published
    logarithm: bool = False  # of the published value, to be undone in float64
    batch: int | None = None  # of images that are looked at; None: all that there are
    # Names of several scores in one, on an axis after the lanes; (): a single one.
    columns: tuple[str, ...] = ()
    backward: bool = False  # keeps what a gradient needs: memory for fewer lanes


def map_matrices(function: Callable[[Array], Array], matrices: Array) -> Array:
    """A function of a matrix, such as its eigenvalues, of each of matrices (..., n, m).

    On a CPU one after another: LAPACK shares a batch out over the threads that the other
    steps of a program run on, and two that wait for each other wait for ever.
    """
    if matrices.ndim == 2:
        return function(matrices)

    def mapped(matrices: Array) -> Array:
        flat = matrices.reshape(-1, *matrices.shape[-2:])
        found = lax.map(function, flat)
        return found.reshape(*matrices.shape[:-2], *found.shape[1:])

    return lax.platform_dependent(matrices, cpu=mapped, default=function)


def loss(model: Model, params: Params, x: Array, y: Array) -> Array:
    """The sum over lanes of the mean cross-entropy; its gradients have lanes."""
    return jnp.sum(cross_entropy(run(model, params, x).logits, y))


# Weights of the layers: stem; 1 x 1 and 3 x 3 of each stage, (cells, 6) before the last
# two axes; the reductions; the classifier. No norms and no bias.
Weights = list[Array]


def weights(params: Params) -> Weights:
    """The layers' weights (..., rows, k) in one list."""
    return (
        [params.stem.weight]
        + [conv.weight for stage in params.cells for conv in stage]
        + [conv.weight for block in params.reductions for conv in block]
        + [params.head.weight]
    )


def output_scales(params: Params) -> list[Array]:
    """The layers' output_scales (..., b, k), in the order of the weights."""
    return (
        [params.stem.output_scale]
        + [conv.output_scale for stage in params.cells for conv in stage]
        + [conv.output_scale for block in params.reductions for conv in block]
        + [params.head.output_scale]
    )  # type: ignore[return-value]


def with_weights(params: Params, values: Weights) -> Params:
    """The parameters with other weights."""
    rest = iter(values)
    return Params(
        params.stem._replace(weight=next(rest)),
        tuple(
            type(stage)(*(conv._replace(weight=next(rest)) for conv in stage))
            for stage in params.cells
        ),
        tuple(
            type(block)(*(conv._replace(weight=next(rest)) for conv in block))
            for block in params.reductions
        ),
        params.head._replace(weight=next(rest)),
    )


def sum_over_layers(
    model: Model, reduce: Callable[..., Array], *lists: list[Array]
) -> Array:
    """The sum over the layers of a model of what `reduce` makes of the last two axes.

    Convolutions that an architecture does not have count nothing.
    """
    total = jnp.zeros(model.lanes)
    for index, leaves in enumerate(zip(*lists, strict=True)):
        value = reduce(*leaves)
        if 0 < index <= 2 * model.network.num_stages:
            present = model.archs == (CONV1 if index % 2 else CONV3)
            value = jnp.where(present[..., None, :], value, 0.0).sum((-2, -1))
        total = total + value
    return total


def gradients(model: Model, params: Params, x: Array, y: Array) -> Weights:
    """Gradients of the loss by the layers' weights; `params` with the model's lanes."""
    return jax.grad(lambda w: loss(model, with_weights(params, w), x, y))(
        weights(params)
    )


def weights_count(model: Model, params: Params) -> Array:
    """How many weights the architecture has, as a float: () or (a,)."""
    return sum_over_layers(
        model,
        lambda w: jnp.full(w.shape[:-2], float(w.shape[-2] * w.shape[-1])),
        weights(with_lanes(model, params)),
    )
