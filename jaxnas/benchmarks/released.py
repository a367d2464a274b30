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
from jaxnas.benchmarks.surrogate_ensemble import SurrogateEnsemble
from jaxnas.curves import packing, released_model, surrogate_files
from jaxnas.types import Array


class ReleasedEnsemble:
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

    def predict(
        self,
        config: Any,
        representation: str,
        with_noise: bool = False,
        search_space: str = "darts",
        components: bool = False,
    ) -> np.ndarray:
        """Predicts the validation learning curve of an architecture.

        Args:
          config: the architecture.
          representation: its notation: genotype, configspace, compact or arch_str of
            DARTS, arch_str of NAS-Bench-201, and vector, its features, of each space.
          with_noise: add one draw of the noise model; each call draws anew.
          search_space: darts, nb201, nb101 or nlp: that of the surrogate.
          components: return the coefficients of the curve's components instead; ignored
            if `with_noise`.

        Returns: (e,) float64, the value after 1 to e epochs in the unit of the surrogate,
          averaged over members; (1, k) components; or (1,) for a model of one number.
        Raises: `ValueError` for another space, an unknown representation, a malformed
          architecture, and for noise or components that the surrogate does not have.
        """
        kind, d = self.released.kind, self.released.num_features
        x = released_inputs.encode(kind, d, config, representation, search_space)
        batch = jnp.asarray(x)[None]
        if not self.released.members:
            return self._number(batch, with_noise or components)
        if with_noise:
            return self._noisy(batch)
        function: Callable = self._components if components else self._mean
        found = np.asarray(function(self.params, batch), np.float64)
        return found if components else found[0]

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
) -> ReleasedEnsemble | SurrogateEnsemble:
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
