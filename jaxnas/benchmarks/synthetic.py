"""A synthetic benchmark for any space: effects of positions and of pairs of positions.

It needs no data, its true scores are known, and its learning curves cross, so that it tests
searches of one fidelity and of several.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.benchmarks.base import PERCENT, Benchmark, bind, continued_levels
from jaxnas.spaces.base import Space, contains
from jaxnas.types import Array, Query, Result, asked, seed_of

# Standard deviation of all pairs of positions relative to that of the positions.
_INTERACTION = 0.5
# Lowest and highest rate of the learning curves: a range, so that some curves cross.
_RATES = (2.0, 6.0)


class Synthetic(NamedTuple):
    """The parameters of one objective over d positions with at most c choices."""

    effect: Array  # (d, c), of each choice at each position
    pair: Array  # (d, d, c, c), of choices at two positions, above the diagonal
    key: Array  # (), draws the remainder and the rate of each architecture
    noise: Array  # (), standard deviation of what effects and pairs do not explain
    epochs: Array  # (e,) int32, 1 to e
    spread: Array | None = None  # (), standard deviation between repetitions


def synthetic_benchmark(
    key: Array,
    space: Space,
    *,
    epochs: int = 20,
    noise: float = 0.2,
    spread: float | None = None,
) -> Benchmark:
    """Draws an objective on a space, and returns it as a benchmark.

    The final score is `100 sigmoid(z)` percent, where z sums a normal effect of the
    choice at each position, a smaller one of each pair of choices, and a remainder of
    standard deviation `noise` that is drawn once for each architecture; without it z
    has variance 1 over objectives. Training it again gives the same number, and the key
    that `evaluate` gets is not used, unless there is a `spread`. The learning curve is,
    for t = 1 to `epochs`,

        score(t) = score (1 - exp(-rate t / epochs)) / (1 - exp(-rate)),

    with a rate from 2 to 6 that is particular to the architecture too. Two vectors that
    the space counts as the same architecture share the remainder and the rate; their
    effects differ.

    Args:
      key: selects the objective of the family.
      space: any space.
      epochs: e, the length of the full training, at least 1.
      noise: at least 0.
      spread: standard deviation that is added to z, drawn from the key of `evaluate` for
        each architecture and repetition.

    Returns: a benchmark with a level for each epoch and costs in epochs. The truth of an
      architecture is its final score without the spread; the optimum is not known.
    Raises: `ValueError` for fewer than one epoch, and for a noise or spread that is
      negative or not finite.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, not {epochs}")
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise must be finite and at least 0, not {noise}")
    if spread is not None and not 0 <= spread < float("inf"):
        raise ValueError(f"spread must be finite and at least 0, not {spread}")
    key_draw, key_rest = jax.random.split(key)
    effect, pair = _draw(key_draw, (len(space.choices), max(space.choices)))
    steps = jnp.arange(1, epochs + 1, dtype=jnp.int32)
    between = None if spread is None else jnp.float32(spread)
    objective = Synthetic(effect, pair, key_rest, jnp.float32(noise), steps, between)
    return Benchmark(
        space=space,
        evaluate=Partial(bind(_evaluate, space), objective),
        levels=continued_levels(range(1, epochs + 1)),
        target=PERCENT,
        cost_unit="epochs",
        truth=Partial(bind(_truth, space), objective),
        description=f"synthetic objective on {space.name}, {epochs} epochs",
    )


@functools.partial(jax.jit, static_argnums=1)
def _draw(key: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Effects (d, c) and pair effects (d, d, c, c) of `size` (d, c)."""
    d, c = size
    flat = jax.random.normal(key, (d * c + (d * c) ** 2,))
    effect = flat[: d * c].reshape(d, c)
    pair = flat[d * c :].reshape(d, d, c, c) * _INTERACTION
    above = jnp.triu(jnp.ones((d, d)), 1)[:, :, None, None]
    # d effects and d (d - 1) / 2 pairs add up to variance 1.
    num_pairs = max(d * (d - 1) // 2, 1)
    total = (1 + _INTERACTION**2 * (d > 1)) ** 0.5
    return effect / (d**0.5 * total), pair * above / (num_pairs**0.5 * total)


def _learning_curve(
    space: Space, objective: Synthetic, arch: Array, more: Array | float = 0.0
) -> Array:
    """Computes the learning curve of one architecture.

    Args:
      space: gives the identity of `arch`.
      objective: the parameters.
      arch: (d,) int32.
      more: () added to z.

    Returns: (e,) the score in percent after each epoch.
    """
    d = len(space.choices)
    at = jnp.arange(d)
    effects = objective.effect[at, arch].sum()
    pairs = objective.pair[at[:, None], at, arch[:, None], arch].sum()
    key = _fold_in(objective.key, space.identity(arch))
    rest, at_rate = jax.random.normal(key, (2,))
    rate = _RATES[0] + (_RATES[1] - _RATES[0]) * jax.scipy.special.ndtr(at_rate)
    time = objective.epochs / objective.epochs[-1]
    shape = (1 - jnp.exp(-rate * time)) / (1 - jnp.exp(-rate))
    z = effects + pairs + objective.noise * rest + more
    return 100 * jax.nn.sigmoid(z) * shape


def _fold_in(key: Array, words: Array) -> Array:
    """A key for each identity (2,) uint32."""
    for word in words:
        key = jax.random.fold_in(key, word)
    return key


def _evaluate(space: Space, objective: Synthetic, key: Array, query: Query) -> Result:
    """Evaluates the query's architectures; the cost is the epochs trained.

    Args:
      space: the space of the architectures.
      objective: the parameters.
      key: draws the spread between repetitions, if there is one.
      query: b slots.

    Returns: score (b,) in percent, curve (b, e) and cost (b,); NaN, at cost 0, for idle
      slots and for vectors that are not valid in the space.
    """

    def one(arch: Array, seed: Array) -> Array:
        more = 0.0
        if objective.spread is not None:
            key_one = jax.random.fold_in(_fold_in(key, space.identity(arch)), seed)
            more = objective.spread * jax.random.normal(key_one)
        return _learning_curve(space, objective, arch, more)

    curve = jax.vmap(one)(query.arch, seed_of(query))
    in_space = asked(query) & jax.vmap(functools.partial(contains, space))(query.arch)
    reached = objective.epochs <= query.epoch[:, None]
    curve = jnp.where(reached & in_space[:, None], curve, jnp.nan)
    last = jnp.minimum(query.epoch, objective.epochs[-1])
    score = jnp.take_along_axis(curve, jnp.maximum(last - 1, 0)[:, None], 1)[:, 0]
    cost = jnp.where(in_space, jnp.clip(last - query.start, 0), 0).astype(score.dtype)
    return Result(score, curve, cost)


def _truth(space: Space, objective: Synthetic, arch: Array) -> Array:
    score = _learning_curve(space, objective, arch)[-1]
    return jnp.where(contains(space, arch), score, jnp.nan)
