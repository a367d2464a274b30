"""A surrogate of the library behind the interface of NAS-Bench-x11's own package.

`released.load_ensemble` makes it from a file that `surrogate_files` wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.benchmarks import released_inputs
from jaxnas.curves import surrogate as surrogates
from jaxnas.curves.surrogate import Info, Surrogate
from jaxnas.spaces import (
    darts_features,
    darts_text,
    encodings,
    nasbench101,
    nasbench201,
    nasbench201_paths,
    nlp_features,
    nlp_formats,
)
from jaxnas.types import Array

# Notations of an architecture by space: functions that return it as a vector (d,).
_NOTATIONS: dict[str, dict[str, Callable[[Any], np.ndarray]]] = {
    "darts": darts_text.READERS,
    "nasbench201": {"arch_str": nasbench201.from_string},
    "nasbench101": {"arch_str": nasbench101.from_string},
    "nlp": {
        "arch_str": nlp_formats.from_string,
        "compact": nlp_formats.from_compact,
        "recipe": nlp_formats.from_recipe,
    },
}
# Encodings by space and `Info.features`: the name of the function.
_ENCODINGS: dict[str, tuple[Callable[[Array], Array], ...]] = {
    "darts": (
        darts_features.surrogate_vector,
        darts_features.one_hot,
        darts_features.adjacency,
        darts_features.path_indicators,
    ),
    "nasbench201": (
        encodings.nb211_vector,
        encodings.nb201_one_hot,
        encodings.nb201_paths,
        nasbench201_paths.function_features,
    ),
    "nasbench101": (
        encodings.nb111_vector,
        encodings.nb101_one_hot,
        encodings.nb101_categorical,
    ),
    "nlp": (nlp_features.surrogate_vector, nlp_features.one_hot),
}


@dataclass(frozen=True)
class CurveEnsemble:
    """The interface of the published package: one architecture at a time.

    Attributes:
      model: an `x11.Released` or a `Surrogate`.
      encode: (config, representation, search_space) -> features (d,), as for `predict`.
      answer: (features (1, d), with_noise, components) -> what `predict` returns.
    """

    model: Any
    encode: Callable[[Any, str, str], Array]
    answer: Callable[[Array, bool, bool], np.ndarray]

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
          representation: its notation: genotype, configspace, compact, BANANAS or
            arch_str of DARTS, arch_str of NAS-Bench-201, and vector, its features, of
            each space; a surrogate of the library also takes arch_str of every space, and
            recipe and compact of NAS-Bench-NLP.
          with_noise: add one draw of the noise model; each call draws anew.
          search_space: darts, nb201, nb101 or nlp: that of the surrogate.
          components: return the coefficients of the curve's components instead; ignored
            if `with_noise`.

        Returns: (e,) float64, the value after 1 to e epochs in the unit of the surrogate,
          averaged over members; (1, k) components; or (1,) for a model of one number.
        Raises: `ValueError` for another space, an unknown representation, a malformed
          architecture, and for noise or components that the surrogate does not have.
        """
        batch = self.encode(config, representation, search_space)[None]
        return self.answer(batch, with_noise, components)


def key_stream(key: Array) -> Iterator[Array]:
    """Keys of successive draws, each used once."""
    while True:
        key, draw = jax.random.split(key)
        yield draw


def surrogate_ensemble(surrogate: Surrogate, key: Array) -> CurveEnsemble:
    """A surrogate of the library; its curves are within their valid range.

    Args:
      surrogate: the model.
      key: of the noise.
    """
    keys, mean = key_stream(key), jax.jit(surrogates.predict)
    sample, components_of = jax.jit(surrogates.sample), jax.jit(surrogates.components)

    def answer(batch: Array, with_noise: bool, components: bool) -> np.ndarray:
        if with_noise:
            return np.asarray(sample(surrogate, next(keys), batch), np.float64)[0]
        if components:
            return np.asarray(components_of(surrogate, batch).mean(0), np.float64)
        return np.asarray(mean(surrogate, batch), np.float64)[0]

    return CurveEnsemble(surrogate, partial(_features, surrogate), answer)


def _features(
    surrogate: Surrogate, config: Any, representation: str, search_space: str
) -> Array:
    """The features (d,) of an architecture; arguments as for `CurveEnsemble.predict`."""
    info, d = surrogate.info, surrogates.num_features(surrogate)
    released_inputs.check_space(info.space, search_space)
    encode = encoding_of(info)
    notations = {} if encode is None else _NOTATIONS[info.space]
    allowed = (*notations, released_inputs.VECTOR)
    released_inputs.check_notation(allowed, representation, info.space)
    if encode is None or representation == released_inputs.VECTOR:
        return jnp.asarray(released_inputs.read_vector(config, d))
    features = jax.jit(encode)(jnp.asarray(notations[representation](config)))
    if features.shape != (d,):
        raise ValueError(
            f"the surrogate takes {d} features, of which {info.features} is "
            f"{features.shape[0]}: pass all as representation='vector'"
        )
    return features


def encoding_of(info: Info) -> Callable[[Array], Array] | None:
    """The encoding (d,) -> (f,) that `info.features` names; None if it is unknown."""
    for encode in _ENCODINGS.get(info.space, ()):
        if encode.__name__ == info.features:
            return encode
    return None
