"""An objective for any space that needs no data: effects of positions and pairs."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.benchmarks.base import PERCENT, Benchmark, continued
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Query, Result, asked, seed_of

# How much the pairs of positions weigh beside the positions themselves, and how fast
# the learning curves rise (a range, so that some curves cross).
_INTERACTION = 0.5
_RATES = (2.0, 6.0)


class Synthetic(NamedTuple):
    """The parameters of one objective over d positions with at most c choices."""

    effect: Array  # (d, c), of each choice at each position
    pair: Array  # (d, d, c, c), of choices at two positions, above the diagonal
    key: Array  # (), of what is particular to each architecture
    noise: Array  # (), standard deviation of what effects and pairs do not explain
    epochs: Array  # (e,) int32, 1 to e
    spread: Array | None = None  # (), standard deviation between repetitions


def benchmark(
    key: Array,
    space: Space,
    *,
    epochs: int = 20,
    noise: float = 0.2,
    spread: float | None = None,
) -> Benchmark:
    """The objective that `synthetic` draws, as a benchmark; costs are epochs.

    The truth of an architecture is its final score without the spread of repetitions.
    """
    evaluate = synthetic(key, space, epochs=epochs, noise=noise, spread=spread)
    return Benchmark(
        space=space,
        evaluate=evaluate,
        levels=continued(range(1, epochs + 1)),
        target=PERCENT,
        cost_unit="epochs",
        truth=Partial(_truth_in(space), *evaluate.args),
        description=f"synthetic objective on {space.name}, {epochs} epochs",
    )


def synthetic(
    key: Array,
    space: Space,
    *,
    epochs: int = 20,
    noise: float = 0.2,
    spread: float | None = None,
) -> Partial:
    """Draws an objective, and returns it as evaluate: (key, Query) -> Result.

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
      key: which objective of the family.
      space: any space.
      epochs: e, the length of the full training, at least 1.
      noise: at least 0.
      spread: standard deviation that is added to z, drawn from the key of `evaluate` for
        each architecture and repetition.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, not {epochs}")
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise must be finite and at least 0, not {noise}")
    if spread is not None and not 0 <= spread < float("inf"):
        raise ValueError(f"spread must be finite and at least 0, not {spread}")
    key_draw, key_rest = jax.random.split(key)
    size = (len(space.choices), max(space.choices))
    effect, pair = _draw(key_draw, size)
    steps = jnp.arange(1, epochs + 1, dtype=jnp.int32)
    between = None if spread is None else jnp.float32(spread)
    objective = Synthetic(effect, pair, key_rest, jnp.float32(noise), steps, between)
    return Partial(_evaluate_in(space), objective)


@functools.partial(jax.jit, static_argnums=1)
def _draw(key: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    d, c = size
    flat = jax.random.normal(key, (d * c + (d * c) ** 2,))
    effect = flat[: d * c].reshape(d, c)
    pair = flat[d * c :].reshape(d, d, c, c) * _INTERACTION
    above = jnp.triu(jnp.ones((d, d)), 1)[:, :, None, None]
    # d effects and d (d - 1) / 2 pairs add up to variance 1.
    num_pairs = max(d * (d - 1) // 2, 1)
    total = (1 + _INTERACTION**2 * (d > 1)) ** 0.5
    return effect / (d**0.5 * total), pair * above / (num_pairs**0.5 * total)


def learning_curve(
    space: Space, objective: Synthetic, arch: Array, more: Array | float = 0.0
) -> Array:
    """The score (e,) in percent after each epoch of training `arch` (d,).

    Args:
      more: () added to z.
    """
    d = len(space.choices)
    at = jnp.arange(d)
    own = objective.effect[at, arch].sum()
    pairs = objective.pair[at[:, None], at, arch[:, None], arch].sum()
    key = _fold_in(objective.key, space.identity(arch))
    rest, at_rate = jax.random.normal(key, (2,))
    rate = _RATES[0] + (_RATES[1] - _RATES[0]) * jax.scipy.special.ndtr(at_rate)
    time = objective.epochs / objective.epochs[-1]
    shape = (1 - jnp.exp(-rate * time)) / (1 - jnp.exp(-rate))
    z = own + pairs + objective.noise * rest + more
    return 100 * jax.nn.sigmoid(z) * shape


def _fold_in(key: Array, words: Array) -> Array:
    for word in words:
        key = jax.random.fold_in(key, word)
    return key


def evaluate(space: Space, objective: Synthetic, key: Array, query: Query) -> Result:
    """Trains the query's architectures; the cost is the epochs trained.

    NaN, at cost 0, for idle slots and for vectors that are not valid in the space.
    """

    def one(arch: Array, seed: Array) -> Array:
        more = 0.0
        if objective.spread is not None:
            own = jax.random.fold_in(_fold_in(key, space.identity(arch)), seed)
            more = objective.spread * jax.random.normal(own)
        return learning_curve(space, objective, arch, more)

    curve = jax.vmap(one)(query.arch, seed_of(query))
    known = asked(query) & jax.vmap(functools.partial(_is_known, space))(query.arch)
    reached = objective.epochs <= query.epoch[:, None]
    curve = jnp.where(reached & known[:, None], curve, jnp.nan)
    last = jnp.minimum(query.epoch, objective.epochs[-1])
    score = jnp.take_along_axis(curve, jnp.maximum(last - 1, 0)[:, None], 1)[:, 0]
    cost = jnp.where(known, jnp.clip(last - query.start, 0), 0).astype(score.dtype)
    return Result(score, curve, cost)


def _is_known(space: Space, arch: Array) -> Array:
    inside = jnp.all((arch >= 0) & (arch < jnp.asarray(space.choices)))
    return inside & space.is_valid(arch)


def _truth(space: Space, objective: Synthetic, arch: Array) -> Array:
    score = learning_curve(space, objective, arch)[-1]
    return jnp.where(_is_known(space, arch), score, jnp.nan)


@functools.cache
def _evaluate_in(space: Space):
    # One function object for each space: a new one would be compiled anew.
    return functools.partial(evaluate, space)


@functools.cache
def _truth_in(space: Space):
    return functools.partial(_truth, space)
