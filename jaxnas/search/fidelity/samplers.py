"""Samplers of new architectures in multi-fidelity searches: uniform, or from a prior.

`kde.kde_sampler` learns from the evaluations (BOHB), and `priorband.priorband_sampler`
mixes a prior with the incumbent (PriorBand).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import sample
from jaxnas.types import Array

# Draws of an architecture before a uniformly random one is taken, in spaces in which
# independent choices may give an invalid architecture.
_DRAWS = 16


class Observations(NamedTuple):
    """Evaluations of n slots at k levels."""

    arch: Array  # (n, d) int32
    score: Array  # (n,), NaN where the evaluation failed
    level: Array  # (n,) int32, index into `epochs`
    done: Array  # (n,) bool, the slots that hold a finished evaluation
    begun: Array  # (n,) bool, those that hold a finished one or one in flight
    epochs: Array  # (k,) int32, ascending, of the levels


# Sampler = (key, Observations, level () int32 from which the new architecture begins) ->
# architecture (d,) int32, valid.
Sampler = Callable[[Array, Observations, Array], Array]


def by_level(observations: Observations, rows: Array) -> Array:
    """The rows (n,) bool by level, (k, n) bool."""
    levels = jnp.arange(observations.epochs.shape[0])
    return rows & (observations.level == levels[:, None])


def uniform_sampler(space: Space) -> Sampler:
    """Uniformly random architectures, independent of the observations."""

    def draw(key: Array, observations: Observations, level: Array) -> Array:
        del observations, level
        return sample(key, space)

    return draw


def prior_sampler(space: Space, probabilities: Sequence[np.ndarray]) -> Sampler:
    """Architectures whose positions have given probabilities, independently.

    Args:
      space: of the architectures.
      probabilities: of the choices at each of the d positions.

    Raises: `ValueError` for probabilities that do not fit the space.
    """
    logits = jnp.asarray(prior_logits(space, probabilities))

    def draw(key: Array, observations: Observations, level: Array) -> Array:
        del observations, level
        return draw_valid(key, space, logits)

    return draw


def prior_logits(space: Space, probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Logarithms of the probabilities of all choices, padded to one width.

    Args:
      space: of d positions with at most c choices.
      probabilities: of the choices at each position, not necessarily normalised.

    Returns: (d, c) float32 logarithms of normalised probabilities; -inf in the padding.
    Raises: `ValueError` for a wrong number of positions or choices, for negative numbers
      and for positions without a positive one.
    """
    rows = [np.asarray(p, np.float64) for p in probabilities]
    if tuple(row.shape for row in rows) != tuple((c,) for c in space.choices):
        raise ValueError(
            f"wanted probabilities of {space.choices} choices, not of "
            f"{tuple(row.shape for row in rows)}"
        )
    logits = np.full((len(rows), max(space.choices)), -np.inf)
    for position, row in enumerate(rows):
        if not (np.isfinite(row).all() and (row >= 0).all() and row.sum() > 0):
            raise ValueError(
                f"the probabilities of position {position} must be at least 0 and one of "
                f"them positive, not {row.tolist()}"
            )
        with np.errstate(divide="ignore"):
            logits[position, : len(row)] = np.log(row / row.sum())
    return logits.astype(np.float32)


def choice_mask(space: Space) -> np.ndarray:
    """Mask (d, c) bool of the choices of the space in a padded array."""
    return np.arange(max(space.choices)) < np.asarray(space.choices)[:, None]


def draw_valid(key: Array, space: Space, logits: Array) -> Array:
    """Draws every position from its logits (d, c), the first of several valid draws.

    Args:
      key: PRNG key.
      space: of the architectures.
      logits: (d, c), -inf in the padding.

    Returns: (d,) int32; a uniformly random architecture where no draw is valid.
    """
    key_draw, key_uniform = jax.random.split(key)
    shape = (_DRAWS, logits.shape[0])
    archs = jax.random.categorical(key_draw, logits, shape=shape).astype(jnp.int32)
    valid = jax.vmap(space.is_valid)(archs)
    drawn = archs[jnp.argmax(valid)]
    return jnp.where(valid.any(), drawn, sample(key_uniform, space))
