"""Learning-curve surrogates: from features of an architecture to its learning curve.

    surrogate = fit_surrogate(key, features, curves, info=info).surrogate
    mean = predict(surrogate, x)  # (n, E)
    noisy = sample(surrogate, key, x)  # (n, E)

A surrogate is a pytree: an ensemble of members, each a compression of curves and a
regressor of its components, a noise model, and a model of the training time. `fit` makes
one, `surrogate_files` keeps one on disk, and all functions here can be traced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves import compress, noise
from jaxnas.curves.members import Member as Member
from jaxnas.curves.members import decode, num_inputs, regress
from jaxnas.types import Array


@dataclass(frozen=True)
class Info:
    """Metadata of a surrogate; static and hashable.

    Attributes:
      space: name of the space of the architectures.
      features: name of the encoding that the surrogate takes.
      target: the quantity of the curves, such as "accuracy" or "loss".
      unit: of the curves, such as "percent" or "nats".
      direction: "maximise" or "minimise".
      low: the lowest value that a curve can have.
      high: the highest value; predictions and draws are clipped to both.
      epochs: E whole numbers, ascending: value e is that after `epochs[e]` epochs of
        training; () means 1, 2, ..., E.
      source: where the curves come from, in one line.
    """

    space: str
    features: str
    target: str = "accuracy"
    unit: str = "percent"
    direction: str = "maximise"
    low: float = 0.0
    high: float = 100.0
    epochs: tuple[int, ...] = ()
    source: str = ""


class Time(NamedTuple):
    """A model of the time that a full training takes."""

    regressor: Any  # from d features to one number; None: the same for all
    mean: Array  # (), of the number: standardised as components are
    scale: Array  # ()
    logarithm: Array  # () bool, whether the number is the logarithm of seconds


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Surrogate:
    """A learning-curve surrogate, as a pytree of arrays.

    Attributes:
      members: of the ensemble, at least one.
      noise: a model of `noise`; None: curves cannot be sampled.
      time: of a full training; None: not known.
      info: metadata.
    """

    members: tuple[Member, ...]
    noise: Any
    time: Time | None
    info: Info = field(metadata={"static": True})


def predict(surrogate: Surrogate, features: Array | np.ndarray) -> Array:
    """Predicts mean learning curves: the mean over members.

    Args:
      surrogate: of d features and E epochs.
      features: (n, d).

    Returns: (n, E), within the valid range.
    Raises: `ValueError` for features of another shape.
    """
    encoded = _member_components(surrogate, _checked(surrogate, features))
    return _clipped(surrogate, _mean_curve(surrogate, encoded))


def member_curve(member: Member, features: Array) -> Array:
    """The curves (n, E) of one member for features (n, d), not clipped."""
    return decode(member.compression, regress(member.regressor, features))


def member_curves(surrogate: Surrogate, features: Array | np.ndarray) -> Array:
    """The curves (m, n, E) of m members for features (n, d), not clipped."""
    features = _checked(surrogate, features)
    return jnp.stack([member_curve(m, features) for m in surrogate.members])


def _checked(surrogate: Surrogate, features: Array | np.ndarray) -> Array:
    """The features; `ValueError` unless they are (n, d)."""
    features, width = jnp.asarray(features), num_features(surrogate)
    if features.ndim != 2 or features.shape[1] != width:
        raise ValueError(
            f"features must be (n, {width}), {surrogate.info.features} of architectures "
            f"of {surrogate.info.space}; found {features.shape}"
        )
    return features


def _member_components(surrogate: Surrogate, features: Array) -> list[Array]:
    return [regress(member.regressor, features) for member in surrogate.members]


def _mean_curve(surrogate: Surrogate, encoded: list[Array]) -> Array:
    """The mean (n, E) of the members' curves, given their components, each (n, k)."""
    pairs = zip(surrogate.members, encoded, strict=True)
    return sum(decode(m.compression, z) for m, z in pairs) / len(encoded)  # type: ignore


def _clipped(surrogate: Surrogate, curves: Array) -> Array:
    return jnp.clip(curves, surrogate.info.low, surrogate.info.high)


def components(surrogate: Surrogate, features: Array | np.ndarray) -> Array:
    """Predicts the components of linear compressions.

    Args:
      surrogate: of d features.
      features: (n, d).

    Returns: (m, n, k), of each member, on the scale of its compression. Signs differ
      between members, so that their mean says something only if all share a compression.
    """
    encoded = _member_components(surrogate, _checked(surrogate, features))
    pairs = zip(surrogate.members, encoded, strict=True)
    return jnp.stack([compress.unscale(m.compression, z) for m, z in pairs])


def spread(surrogate: Surrogate, features: Array | np.ndarray) -> Array:
    """The epistemic standard deviation (n, E): that of the members' curves.

    Args:
      surrogate: of d features and m members; of one member the spread is 0.
      features: (n, d).
    """
    return member_curves(surrogate, features).std(0)


def sample(surrogate: Surrogate, key: Array, features: Array | np.ndarray) -> Array:
    """Draws noisy learning curves, as trainings with other seeds would give them.

    Args:
      surrogate: with a noise model.
      key: random key; each row has a draw of its own.
      features: (n, d).

    Returns: (n, E), within the valid range.
    Raises: `ValueError` for a surrogate without noise.
    """
    return sample_with(surrogate, jax.random.split(key, len(features)), features)


def sample_with(
    surrogate: Surrogate, keys: Array, features: Array | np.ndarray
) -> Array:
    """`sample` with a random key for each row, `keys` (n,)."""
    if surrogate.noise is None:
        raise ValueError(
            "the surrogate has no noise model: only means can be predicted"
        )
    features = _checked(surrogate, features)
    encoded = _member_components(surrogate, features)
    draws = noise.draw(surrogate.noise, keys, features, encoded[0])
    return _clipped(surrogate, _mean_curve(surrogate, encoded) + draws)


def runtime(
    surrogate: Surrogate, features: Array | np.ndarray, epochs: Array | int
) -> Array:
    """The cumulative training time up to an epoch, which never decreases.

    Args:
      surrogate: with a model of the training time.
      features: (n, d).
      epochs: (n,) or () epochs of training, counted from 1; past the last one the time
        is that of the full training.

    Returns: (n,) seconds: the time of a full training times the share of its epochs.
    Raises: `ValueError` for a surrogate without training times.
    """
    if surrogate.time is None:
        raise ValueError("the surrogate has no training times: costs are epochs")
    time, features = surrogate.time, _checked(surrogate, features)
    number = time.mean + jnp.zeros(len(features))
    if time.regressor is not None:
        number = number + time.scale * regress(time.regressor, features)[:, 0]
    seconds = jnp.where(time.logarithm, jnp.exp(number), jnp.maximum(number, 0.0))
    return seconds * jnp.clip(epochs / last_epoch(surrogate), 0.0, 1.0)


def last_epoch(surrogate: Surrogate) -> int:
    """Epochs of a full training."""
    return int(epoch_numbers(surrogate)[-1])


def epoch_numbers(surrogate: Surrogate) -> np.ndarray:
    """The epochs (E,) of training after which the values of a curve are known."""
    given = surrogate.info.epochs
    length = surrogate.members[0].compression.centre.shape[-1]
    return np.asarray(given) if given else np.arange(1, length + 1)


def num_features(surrogate: Surrogate) -> int:
    """Number d of features of an architecture."""
    return num_inputs(surrogate.members[0].regressor)
