"""The interface of NAS-Bench-x11's package, so that programs written for it keep working.

    from jaxnas.benchmarks import load_ensemble

    model = load_ensemble("checkpoints/nb311-v0.5")
    curve = model.predict(config=genotype, representation="genotype", with_noise=True)

Folders that NAS-Bench-x11 and NAS-Bench-301 publish are read without their libraries (see
`importers.x11`), and so are the files that `released_files` and `surrogate_files` write.
For searches, `released_model` has the same predictions as pure functions of batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.benchmarks import released_files, released_inputs
from jaxnas.benchmarks.importers import x11
from jaxnas.benchmarks.importers.x11 import Released
from jaxnas.benchmarks.surrogate_ensemble import (
    CurveEnsemble,
    key_stream,
    surrogate_ensemble,
)
from jaxnas.curves import packing, released_model, surrogate_files
from jaxnas.types import Array


def released_ensemble(released: Released, key: Array, reference: bool) -> CurveEnsemble:
    """A published surrogate behind the interface of its package.

    Args:
      released: the surrogate on the host.
      key: of the noise.
      reference: noise as the published program draws it, see `load_ensemble`.
    """

    def encode(config: Any, representation: str, search_space: str) -> Array:
        notation = representation, search_space
        d = released.num_features
        return jnp.asarray(released_inputs.encode(released.kind, d, config, *notation))

    answer = _curve_answer(released, key, reference) if released.members else None
    return CurveEnsemble(released, encode, answer or _number_answer(released))


def _curve_answer(
    released: Released, key: Array, reference: bool
) -> Callable[[Array, bool, bool], np.ndarray]:
    """`CurveEnsemble.answer` of a model of curves."""
    params, keys = x11.surrogate(released), key_stream(key)
    mean = jax.jit(released_model.predict_mean)
    first = jax.jit(lambda p, x: released_model.predict_members(p, x)[0])
    components_of = jax.jit(released_model.components)

    def answer(batch: Array, with_noise: bool, components: bool) -> np.ndarray:
        if with_noise:
            draw = released_model.noise(params, next(keys), 1, reference=reference)
            # The published program takes its first member, not the mean.
            curve = (first if reference else mean)(params, batch)
            return np.asarray(curve + draw, np.float64)[0]
        if components:
            return np.asarray(components_of(params, batch), np.float64)
        return np.asarray(mean(params, batch), np.float64)[0]

    return answer


def _number_answer(released: Released) -> Callable[[Array, bool, bool], np.ndarray]:
    """`CurveEnsemble.answer` of a model of one number: (1,)."""
    params = tuple(map(packing.pack, released.regressors))

    def answer(batch: Array, with_noise: bool, components: bool) -> np.ndarray:
        if with_noise or components:
            raise ValueError(
                f"{released.model} predicts {released.kind.unit}, "
                "without noise or components"
            )
        return np.asarray(released_model.predict_number(params, batch), np.float64)

    return answer


def load_ensemble(
    path: str | os.PathLike, *, seed: int = 0, reference: bool = False
) -> CurveEnsemble:
    """Loads a published surrogate, or one of the library.

    Members that are equal, as those of the releases are, are evaluated once.

    Args:
      path: the folder of a release (`nb111-v0.5`, `lgb_runtime_v1.0` ...), or a file that
        `released_files.save` or `surrogate_files.save` wrote.
      seed: of the noise.
      reference: noise as the published program draws it: clipped to -3 and 3, halved, with
        the opposite sign, and added to the first member. By default it has the spread of
        the residuals of the training curves.

    Raises: `ValueError`, of one line that names the file, if one is missing, damaged, of
      another class, or does not fit together.
    """
    key = jax.random.key(seed)
    if not Path(path).is_file():
        return released_ensemble(x11.read(path), key, reference)
    if released_files.is_released(path):
        return released_ensemble(released_files.load(path), key, reference)
    if reference:
        raise ValueError(f"{path} is not of a release: reference=True is for these")
    return surrogate_ensemble(surrogate_files.load(path), key)
