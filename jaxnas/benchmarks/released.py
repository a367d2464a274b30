"""The interface of NAS-Bench-x11's own package, for its programs to go on running.

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
from jaxnas.benchmarks.surrogate_ensemble import CurveEnsemble, SurrogateEnsemble
from jaxnas.curves import packing, released_model, surrogate_files
from jaxnas.types import Array


class ReleasedEnsemble(CurveEnsemble):
    """A published surrogate, asked for one architecture at a time; see `load_ensemble`.

    Attributes:
      released: what the files say: benchmark, unit, members, sources.
      params: the packed model: an `ImportedSurrogate`, or regressors of one number.
    """

    def __init__(self, released: Released, key: Array, reference: bool):
        self.released, self._key, self._reference = released, key, reference
        if released.members:
            self.params: Any = x11.surrogate(released)
        else:
            self.params = tuple(map(packing.pack, released.regressors))
        self._mean = jax.jit(released_model.predict_mean)
        self._first = jax.jit(lambda p, x: released_model.predict_members(p, x)[0])
        self._components = jax.jit(released_model.components)

    def _encode(self, config: Any, representation: str, search_space: str) -> Array:
        kind, d = self.released.kind, self.released.num_features
        notation = representation, search_space
        return jnp.asarray(released_inputs.encode(kind, d, config, *notation))

    def _answer(self, batch: Array, with_noise: bool, components: bool) -> np.ndarray:
        if not self.released.members:
            return self._number(batch, with_noise or components)
        if with_noise:
            return self._noisy(batch)
        function: Callable = self._components if components else self._mean
        values = np.asarray(function(self.params, batch), np.float64)
        return values if components else values[0]

    def _number(self, batch: Array, more: bool) -> np.ndarray:
        """The prediction (1,) of a model of one number."""
        if more:
            raise ValueError(
                f"{self.released.model} predicts {self.released.kind.unit}, "
                "without noise or components"
            )
        return np.asarray(released_model.predict_number(self.params, batch), np.float64)

    def _noisy(self, batch: Array) -> np.ndarray:
        """A predicted curve (e,) with one draw of noise."""
        self._key, key = jax.random.split(self._key)
        draw = released_model.noise(self.params, key, 1, reference=self._reference)
        # The published program takes its first member, not the mean.
        mean = (self._first if self._reference else self._mean)(self.params, batch)
        return np.asarray(mean + draw, np.float64)[0]


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
        return ReleasedEnsemble(x11.read(path), key, reference)
    if released_files.is_released(path):
        return ReleasedEnsemble(released_files.load(path), key, reference)
    if reference:
        raise ValueError(f"{path} is not of a release: reference=True is for these")
    return SurrogateEnsemble(surrogate_files.load(path), key)
