"""An architecture in the notations of NAS-Bench-x11, as the features of its surrogates."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.benchmarks.importers.x11 import Kind
from jaxnas.curves.packing import round_down
from jaxnas.io.streams import printable
from jaxnas.spaces import darts_features, darts_text, encodings, nasbench201

# Accepted names of each space, the first as in the release.
SEARCH_SPACES = {
    "darts": ("darts", "nb301", "nb311"),
    "nasbench201": ("nb201", "nasbench201", "nb211"),
    "nasbench101": ("nb101", "nasbench101", "nb111"),
    "nlp": ("nlp",),
}
VECTOR = "vector"
# Name of vectors in search programs, for spaces without another notation.
_NAMED_COMPACT = "compact"
_surrogate_vector = jax.jit(darts_features.surrogate_vector)


def encode(
    kind: Kind, num_features: int, config: Any, representation: str, search_space: str
) -> np.ndarray:
    """The features of an architecture for a published surrogate.

    Args:
      kind: of the surrogate.
      num_features: d, of the surrogate.
      config: the architecture.
      representation: its notation: of DARTS genotype, configspace, compact, BANANAS or
        arch_str, of NAS-Bench-201 arch_str, of each space vector, the features themselves.
      search_space: as the release names it: darts, nb201, nb101 or nlp.

    Returns: (d,) float64, or float32 if JAX has no float64.
    Raises: `ValueError` for a space that the surrogate is not of, an unknown notation
      (the known ones are listed), and a malformed architecture (its node is named).
    """
    check_space(kind.space, search_space)
    readers = _readers(kind.space, num_features)
    check_notation(readers, representation, kind.name)
    features = readers[representation](config)
    # Rounded as the thresholds are, so that none is crossed.
    double = bool(jax.config.values["jax_enable_x64"])
    return features if double else round_down(features, np.float32)


def check_space(space: str, search_space: str) -> None:
    """Checks the name of a space in a query.

    Args:
      space: of the surrogate.
      search_space: the name.

    Raises: `ValueError`, with the right name, if it is of another space.
    """
    names = SEARCH_SPACES.get(space, (space,))
    if not isinstance(search_space, str) or not any(n in search_space for n in names):
        raise ValueError(
            f"this surrogate is of {space}: pass search_space={names[0]!r}, "
            f"not {search_space!r:.100}"
        )


def check_notation(notations: Collection[str], representation: str, what: str) -> None:
    """Checks the name of a notation in a query.

    Args:
      notations: the names that are allowed.
      representation: the name.
      what: of what, for the message.

    Raises: `ValueError` that lists the known ones.
    """
    if representation not in notations:
        raise ValueError(
            f"representation is one of {', '.join(notations)} for {what}, "
            f"not {representation!r:.100}"
        )


def _readers(space: str, num_features: int) -> dict[str, Callable[[Any], np.ndarray]]:
    """The notations of a space.

    Args:
      space: its name.
      num_features: d, of the surrogate.

    Returns: by name of the notation, a function of an architecture in that notation that
      returns its features (d,) float64.
    """
    vector = lambda config: read_vector(config, num_features)  # noqa: E731
    if space == "darts":
        notations = {name: _darts(name) for name in darts_text.READERS}
        return notations | {VECTOR: vector}
    if space == "nasbench201":
        return {"arch_str": _nasbench201, VECTOR: vector}
    return {VECTOR: vector, _NAMED_COMPACT: vector}


def _darts(representation: str) -> Callable[[Any], np.ndarray]:
    """A reader of one notation of DARTS.

    The surrogate's features are those of the architecture, and constants of how the
    benchmark trains; a dictionary of hyper-parameters may have other values of these.

    Args:
      representation: a key of `darts_text.READERS`.
    """

    def read(config: Any) -> np.ndarray:
        arch = jnp.asarray(darts_text.read(config, representation))
        settings = {}
        if representation == "configspace":
            given = getattr(config, "get_dictionary", None)
            settings = dict(given() if given else config)
        columns = darts_features.template(settings)
        # In float64 whatever the precision of JAX: only integers are from the device.
        encoded = np.asarray(_surrogate_vector(arch, columns))
        return np.where(_varies(), encoded, columns).astype(np.float64)

    return read


def _varies() -> np.ndarray:
    """The columns (56,) bool of a DARTS vector that depend on the architecture."""
    return np.array(["edge_" in p or "inputs_" in p for p in darts_features.PARAMETERS])


def _nasbench201(config: Any) -> np.ndarray:
    arch = jnp.asarray(nasbench201.from_string(config))
    return np.asarray(encodings.nb211_vector(arch), np.float64)


def read_vector(config: Any, num_features: int) -> np.ndarray:
    """Features that are passed as a vector.

    Args:
      config: (d,) or (1, d) numbers.
      num_features: d.

    Returns: (d,) float64.
    Raises: `ValueError` for another shape, and for numbers that are not finite.
    """
    try:
        vector = np.asarray(config, np.float64)
    except (TypeError, ValueError):
        vector = np.zeros(0)
    if vector.shape not in ((num_features,), (1, num_features)):
        size = f"{vector.shape}" if vector.size else printable(config)
        raise ValueError(
            f"wanted a vector of {num_features} features as the architecture, found {size}"
        )
    if not np.isfinite(vector).all():
        raise ValueError(f"feature {int(np.isfinite(vector).argmin())} is not finite")
    return vector.reshape(num_features)
