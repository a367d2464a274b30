"""Published surrogates as the library's own, for every search and driver.

    surrogate = to_surrogate(x11.read("nb311-v0.5"), x11.read("lgb_runtime_v1.0"))
    benchmark = surrogate_benchmark(surrogate, darts.SPACE, darts_features.surrogate_vector)

Curves are the release's, clipped to their valid range; noise has the spread of the
residuals that the release stores.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from jaxnas.benchmarks.importers import x11_records
from jaxnas.benchmarks.importers.x11 import Released
from jaxnas.curves import compress, noise, packing, released_model
from jaxnas.curves.members import Member
from jaxnas.curves.regress_boosting import Chain
from jaxnas.curves.surrogate import Info, Surrogate, Time

# By number of features: the function of an architecture that the surrogate takes.
_FEATURES = {
    **{26: "nb111_vector", 30: "nb111_vector", 6: "nb211_vector"},
    **{56: "surrogate_vector", 185: "surrogate_vector", 188: "surrogate_vector"},
}
_HIGHEST = {"fraction": 1.0}


def to_surrogate(released: Released, runtime: Released | None = None) -> Surrogate:
    """Makes a surrogate of the library.

    Args:
      released: a model of curves.
      runtime: a model of the seconds of a full training, of the same space; default: the
        surrogate has no training times.

    Raises: `ValueError` for models of other kinds, and of two spaces.
    """
    kind = released.kind
    if not released.members:
        raise ValueError(f"{released.model} predicts one number, not a curve")
    info = Info(
        space=kind.space,
        features=_FEATURES[released.num_features],
        unit=kind.unit,
        high=_HIGHEST.get(kind.unit, 100.0),
        source=f"{kind.name}, {released.model}, as it was released",
    )
    kernel = released.members[0].kernel
    return Surrogate(
        members=tuple(map(_member, released.members)),
        noise=None if kernel is None else _noise(kernel),
        time=None if runtime is None else _time(runtime, kind.space),
        info=info,
    )


def _member(member: x11_records.ReleasedMember) -> Member:
    """One member: a curve is u diag(s) V^T, u = z scale + mean."""
    parts = (
        np.zeros(member.right.shape[1]),
        member.singular[:, None] * member.right,
        member.right.T / member.singular,
        member.mean,
        member.scale,
    )
    compression = compress.Linear(*(jnp.asarray(part, float) for part in parts))
    return Member(compression, Chain(tuple(packing.pack(f) for f in member.chain)))


def _noise(kernel: x11_records.Kernel) -> noise.KdeNoise:
    """Noise of residuals as curve minus reconstruction; the release stores the opposite."""
    root = released_model.covariance_root(kernel.covariance)
    shrink = 1 / math.sqrt(1 + kernel.factor**2)
    parts = (-kernel.rows, root.T, shrink)
    return noise.KdeNoise(*(jnp.asarray(part, float) for part in parts))


def _time(runtime: Released, space: str) -> Time:
    """A model of the seconds of a full training; `ValueError` if it is of another space."""
    kind = runtime.kind
    if kind.unit != "seconds" or kind.space != space or len(runtime.regressors) != 1:
        raise ValueError(
            f"wanted one model of seconds of {space}, found {runtime.model} of "
            f"{kind.space}, in {kind.unit}"
        )
    (forest,) = runtime.regressors
    numbers = (jnp.asarray(0.0), jnp.asarray(1.0), jnp.asarray(False))
    return Time(Chain((packing.pack(forest),)), *numbers)
