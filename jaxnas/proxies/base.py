"""Common parts of the proxies: the loss, gradients, sums over the layers of a model.

A proxy is a function of a `Model`, parameters and data. A model is one architecture, or a
of them as lanes (see `jaxnas.networks.cells`). Axes are named in
`jaxnas.networks.nasbench201`: images x (b, h, w, c), labels y (b,), weights (rows, k).
Shapes are those of one architecture; with lanes, all have (a,) first. Proxies are not
vmapped: they broadcast over lanes, and nothing mixes lanes.
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
    """A score of untrained networks and what it needs; higher is better.

    Attributes:
      score: (key, model, parameters, x, y) -> () or (a,); the key is for proxies that
        draw their inputs themselves.
      equivalence: which cells the proxy cannot distinguish, in distribution (its
        score-equivalence classes): "live", cells of the same function (5,260 classes of
        15,625 cells); "present", cells that are also equal in their dead convolutions
        (6,239 classes); None, it distinguishes all.
      scheme: the initialisation with which the score was published.
      is_logarithm: whether `score` is the logarithm of the published value, to be undone
        in float64.
      batch: number of images it uses; None: all it is given.
      columns: names of several scores, which are on an axis after the lanes; (): one.
      backward: whether it keeps what a gradient needs: memory for fewer lanes.
    """

    score: Callable[[Array, Model, Params, Array, Array], Array]
    equivalence: Literal["live", "present"] | None
    scheme: str = "default"
    is_logarithm: bool = False
    batch: int | None = None
    columns: tuple[str, ...] = ()
    backward: bool = False


def map_matrices(function: Callable[[Array], Array], matrices: Array) -> Array:
    """Applies a function of a matrix, such as its eigenvalues, to many matrices.

    On a CPU one after another (`lax.map`): LAPACK distributes a batch over the threads
    that the other steps of a program run on, and two batches can deadlock.

    Args:
      function: (..., n, m) -> (..., *out).
      matrices: (..., n, m).

    Returns:
      (..., *out).
    """
    if matrices.ndim == 2:
        return function(matrices)

    def mapped(matrices: Array) -> Array:
        flat = matrices.reshape(-1, *matrices.shape[-2:])
        values = lax.map(function, flat)
        return values.reshape(*matrices.shape[:-2], *values.shape[1:])

    return lax.platform_dependent(matrices, cpu=mapped, default=function)


def loss(model: Model, params: Params, x: Array, y: Array) -> Array:
    """Sums the mean cross-entropy over lanes, so that one gradient serves all lanes.

    Args:
      model: the architectures.
      params: with lanes if each lane needs its own gradient.
      x: (b, h, w, c).
      y: (b,) labels.

    Returns:
      ().
    """
    return jnp.sum(cross_entropy(run(model, params, x).logits, y))


# Weights of the layers, (rows, k) each: stem; 1 x 1 and 3 x 3 of each stage, with (n, 6)
# before the last two axes; the reductions; the classifier. No norms and no bias.
Weights = list[Array]


def weights(params: Params) -> Weights:
    """Lists the layers' weights, (..., rows, k) each."""
    return (
        [params.stem.weight]
        + [conv.weight for stage in params.cells for conv in stage]
        + [conv.weight for block in params.reductions for conv in block]
        + [params.head.weight]
    )


def output_scales(params: Params) -> list[Array]:
    """Lists the layers' output scales, (..., b, k) each, in the order of the weights."""
    return (
        [params.stem.output_scale]
        + [conv.output_scale for stage in params.cells for conv in stage]
        + [conv.output_scale for block in params.reductions for conv in block]
        + [params.head.output_scale]
    )  # type: ignore[return-value]


def with_weights(params: Params, values: Weights) -> Params:
    """Replaces the layers' weights; `values` are in the order of `weights`."""
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
    """Sums a quantity over the layers of a model.

    Parameters have both convolutions of every edge; those that an architecture does not
    have are left out.

    Args:
      model: the architectures.
      reduce: (..., rows, k), one array of each list -> (...,).
      *lists: arrays in the order of `weights`.

    Returns:
      () or (a,).
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
    """Computes the gradients of the loss by the layers' weights.

    Args:
      model: the architectures.
      params: with the model's lanes.
      x: (b, h, w, c).
      y: (b,) labels.
    """
    return jax.grad(lambda w: loss(model, with_weights(params, w), x, y))(
        weights(params)
    )


def weights_count(model: Model, params: Params) -> Array:
    """Counts the weights of the architecture, as a float: () or (a,)."""
    return sum_over_layers(
        model,
        lambda w: jnp.full(w.shape[:-2], float(w.shape[-2] * w.shape[-1])),
        weights(with_lanes(model, params)),
    )
