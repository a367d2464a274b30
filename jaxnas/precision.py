"""Products of matrices in full precision, on every backend.

GPUs and TPUs multiply float32 matrices in fewer bits by default: TF32, on recent NVIDIA
cards, keeps 11 significant bits of every factor. Networks train well with that. A
posterior variance, `prior - white.T @ white`, does not survive it: what is left of the
difference can be all rounding, and negative.

    @full_precision
    def variance(prior: Array, white: Array) -> Array:
        return prior - white.T @ white

holds for every product that is traced while the function runs, those of the functions it
calls and of their derivatives included, under `jit` and without. Everything in jaxnas
that multiplies matrices is under it, except networks: those that are searched over,
trained or scored, and those that generate or embed. They are computed in the precision
of the backend, which `jax.default_matmul_precision` sets. A CPU computes the same bits
with and without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax

F = TypeVar("F", bound=Callable)


def full_precision(function: F) -> F:
    """Decorates a function so that it multiplies matrices in the precision of its inputs.

    Args:
      function: traced by JAX or called on arrays. What it returns may hold no function
        that multiplies: that would run without the decorator.
    """
    return jax.default_matmul_precision("highest")(function)
