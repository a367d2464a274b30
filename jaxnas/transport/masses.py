"""Checks of transport problems: one floating type, and masses of equal totals."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnas.types import Array

# Relative difference of totals that is allowed: this, or a few roundings if more.
_TOLERANCE = 1e-4
_ROUNDINGS = 4


def promote_floating(*arrays: Any, least: Any = float) -> tuple[Array, ...]:
    """Converts arrays to one floating type: the widest of theirs, or `least` if wider.

    Integers become the default floating type. Doubles are rounded to single precision
    unless x64 is enabled, without a warning.

    Args:
      *arrays: of any numeric type.
      least: floating type, narrowest of the result.
    """
    converted = [jnp.asarray(x) for x in arrays]
    dtype = jnp.result_type(least, *converted)
    return tuple(x.astype(dtype) for x in converted)


def promote_problem(*arrays: Any) -> tuple[Array, ...]:
    """Converts the arrays of a transport problem to one floating type.

    Args:
      *arrays: such as costs (n, m, ...); the last two are the masses.

    Returns: the arrays in their widest floating type, float32 or wider: a solver in half
      precision would not converge.
    Raises: `ValueError` as `require_equal_totals`.
    """
    require_equal_totals(*arrays[-2:])
    return promote_floating(*arrays, least=jnp.float32)


def require_equal_totals(u: Any, v: Any) -> None:
    """Raises `ValueError` if masses have different totals, or NaN.

    Inside a transformation such as `jit`, where values are unknown, nothing is checked.

    Args:
      u: (n, ...) masses.
      v: (m, ...) masses.
    """
    if isinstance(u, Tracer) or isinstance(v, Tracer):
        return
    masses = np.asarray(u), np.asarray(v)
    totals = [x.astype(np.float64).sum(0) for x in masses]
    share = max(_TOLERANCE, *(_ROUNDINGS * _rounding(x) for x in masses))
    allowed = share * np.maximum(*np.abs(totals))
    # Written so that NaN is refused, too.
    wrong = np.atleast_1d(~(np.abs(totals[0] - totals[1]) <= allowed))
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0])
        of_u, of_v = (float(np.atleast_1d(total)[first]) for total in totals)
        where = f" in {wrong.sum()} of {wrong.size} problems" if wrong.size > 1 else ""
        raise ValueError(
            f"masses must have equal totals, not {of_u:.6g} and {of_v:.6g}{where}"
        )


def _rounding(x: np.ndarray) -> float:
    """The relative spacing of floating numbers of this type."""
    dtype = x.dtype
    return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.floating) else 0.0
