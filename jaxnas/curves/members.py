"""A member of a surrogate: compression and regressor, of any of their kinds."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves import compress, regress_boosting
from jaxnas.types import Array


class Member(NamedTuple):
    """One member of an ensemble."""

    compression: Any  # a compress.Linear or a vae.Vae, of E epochs and k components
    regressor: Any  # from d features to k standardised components


class Mean(NamedTuple):
    """The weighted mean of p regressors of the same components."""

    parts: tuple  # of regressors
    weight: Array  # (p, k), or (p,) for all components; they add up to 1 over p


def regress(regressor: Any, features: Array) -> Array:
    """The standardised components (n, k) that a regressor predicts from features (n, d)."""
    if isinstance(regressor, Mean):
        predictions = jnp.stack([regress(part, features) for part in regressor.parts])
        weight = regressor.weight.reshape(len(predictions), 1, -1)
        return (weight * predictions).sum(0)
    if isinstance(regressor, regress_boosting.Chain | regress_boosting.Heads):
        return regress_boosting.predict(regressor, features)
    from jaxnas.curves import regress_mlp  # networks alone need flax

    return regress_mlp.predict(regressor, features)


regress_compiled = jax.jit(regress)
"""`regress`, compiled once for regressors of one shape."""


def num_inputs(regressor: Any) -> int:
    """Number d of features that a regressor takes."""
    if isinstance(regressor, Mean):
        return num_inputs(regressor.parts[0])
    if isinstance(regressor, regress_boosting.Chain):
        return regressor.ensembles[0].num_features
    if isinstance(regressor, regress_boosting.Heads):
        return regressor.ensemble.num_features
    return len(regressor.mean)


def encode(compression: Any, curves: Array | np.ndarray) -> Array:
    """The standardised components (..., k) of curves (..., E)."""
    if isinstance(compression, compress.Linear):
        return compress.encode(compression, jnp.asarray(curves))
    from jaxnas.curves import vae

    return vae.encode(compression, jnp.asarray(curves))


def decode(compression: Any, z: Array) -> Array:
    """The curves (..., E) of standardised components (..., k)."""
    if isinstance(compression, compress.Linear):
        return compress.decode(compression, z)
    from jaxnas.curves import vae

    return vae.decode(compression, z)


def importance(compression: Any) -> np.ndarray:
    """Root mean square change (k,) of a curve per standardised unit of each component.

    Components of an auto-encoder have equal importance, as their scale is arbitrary.
    """
    if not isinstance(compression, compress.Linear):
        return np.ones(compression.num_components)
    scale, basis = np.asarray(compression.scale), np.asarray(compression.basis)
    return np.sqrt(np.square(scale[:, None] * basis).mean(1))
