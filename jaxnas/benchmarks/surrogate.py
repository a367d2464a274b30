"""A learning-curve surrogate as a benchmark.

    surrogate = surrogate_files.load("nb211.npz")
    benchmark = surrogate_benchmark(surrogate, nasbench201.SPACE, nb211_vector)
    trace = simulate(keys, search, benchmark, num_steps=150)

Every architecture of the space has a curve, and a query costs one prediction. Costs are
seconds if the surrogate predicts training times, otherwise epochs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxnas.benchmarks.base import Benchmark, Target, as_score, continued_levels
from jaxnas.curves import surrogate as surrogates
from jaxnas.curves.surrogate import Surrogate
from jaxnas.spaces.base import Space, contains
from jaxnas.types import Array, Query, Result, asked, seed_of

Encode = Callable[[Array], Array]


class _Setting(NamedTuple):
    """Static settings of a benchmark; hashable."""

    space: Space
    encode: Encode
    target: Target
    noisy: bool


def surrogate_benchmark(
    surrogate: Surrogate,
    space: Space,
    encode: Encode,
    *,
    noise: Literal["none", "draws"] = "none",
) -> Benchmark:
    """Makes a benchmark of a surrogate.

    Levels are the epochs of the curves, each of which continues the previous one. Curves
    are within the surrogate's valid range.

    Args:
      surrogate: from `fit_surrogate` or a file; a pytree, so that it is data to `jit`.
      space: the space of its architectures.
      encode: arch (d,) -> features (f,), the encoding that it was fitted with.
      noise: "none" for mean curves; "draws" for curves with noise, drawn from the key of
        `evaluate` for each architecture and repetition: repeated queries of one training
        have the same curve.

    Returns: a benchmark whose truth is the last value of the mean curve. The optimum is
      not known.
    Raises: `ValueError` for another space, an encoding of another length, an unknown kind
      of noise, and noise that the surrogate has no model of.
    """
    info = surrogate.info
    if info.space != space.name:
        raise ValueError(
            f"the surrogate is of the space {info.space!r}, not {space.name!r}"
        )
    if noise not in ("none", "draws"):
        raise ValueError(f"noise must be 'none' or 'draws', not {noise!r}")
    if noise == "draws" and surrogate.noise is None:
        raise ValueError("noise 'draws' needs a surrogate with a noise model")
    _check_encoding(surrogate, space, encode)
    target = Target(info.target, info.unit, info.direction)  # type: ignore[arg-type]
    setting = _Setting(space, encode, target, noise == "draws")
    return Benchmark(
        space=space,
        evaluate=Partial(_evaluate_in(setting), surrogate),
        levels=continued_levels(surrogates.epoch_numbers(surrogate)),
        target=target,
        cost_unit="epochs" if surrogate.time is None else "seconds",
        truth=Partial(_truth_in(setting), surrogate),
        description=f"surrogate of {info.space}, {info.target} in {info.unit} by epoch, "
        f"{'noisy' if noise == 'draws' else 'mean'} curves; {info.source}".rstrip("; "),
    )


def _check_encoding(surrogate: Surrogate, space: Space, encode: Encode) -> None:
    arch = jax.ShapeDtypeStruct((len(space.choices),), jnp.int32)
    shape = jax.eval_shape(encode, arch).shape
    expected = (surrogates.num_features(surrogate),)
    if shape != expected:
        raise ValueError(
            f"the encoding of {space.name} has shape {shape}, the surrogate takes "
            f"{expected} ({surrogate.info.features})"
        )


def _curves(
    setting: _Setting, surrogate: Surrogate, key: Array, archs: Array, seeds: Array
) -> Array:
    """Learning curves (b, e), in the unit of the surrogate.

    Args:
      setting: of the benchmark.
      surrogate: the model.
      key: draws the noise.
      archs: (b, d) int32.
      seeds: (b,) int32 repetitions.
    """
    features = jax.vmap(setting.encode)(archs)
    if not setting.noisy:
        return surrogates.predict(surrogate, features)

    def key_of(arch: Array, seed: Array) -> Array:
        words = (*setting.space.identity(arch), seed)
        return functools.reduce(jax.random.fold_in, words, key)

    keys = jax.vmap(key_of)(archs, seeds)
    return surrogates.sample_with(surrogate, keys, features)


def evaluate(
    setting: _Setting, surrogate: Surrogate, key: Array, query: Query
) -> Result:
    """Evaluates the query's architectures.

    Args:
      setting: of the benchmark.
      surrogate: the model.
      key: of the noise.
      query: b slots.

    Returns: score (b,), curve (b, e) and cost (b,) of the increment from `start`; NaN, at
      cost 0, for idle slots, for vectors that are not valid in the space, and before the
      first epoch of the curves.
    """
    curve = _curves(setting, surrogate, key, query.arch, seed_of(query))
    curve = as_score(setting.target, curve)
    epochs = jnp.asarray(surrogates.epoch_numbers(surrogate), jnp.int32)
    in_space = asked(query) & jax.vmap(functools.partial(contains, setting.space))(
        query.arch
    )
    reached = epochs <= query.epoch[:, None]
    curve = jnp.where(reached & in_space[:, None], curve, jnp.nan)
    last = jnp.maximum(reached.sum(1) - 1, 0)
    score = jnp.take_along_axis(curve, last[:, None], 1)[:, 0]
    cost = _cost(setting, surrogate, query).astype(score.dtype)
    return Result(score, curve, jnp.where(in_space, cost, 0))


def _cost(setting: _Setting, surrogate: Surrogate, query: Query) -> Array:
    """Cost (b,) of the trainings from `start` to `epoch`."""
    last = surrogates.last_epoch(surrogate)
    ends = [jnp.clip(e, 0, last) for e in (query.start, query.epoch)]
    if surrogate.time is None:
        return jnp.maximum(ends[1] - ends[0], 0)
    features = jax.vmap(setting.encode)(query.arch)
    start, end = (surrogates.runtime(surrogate, features, e) for e in ends)
    return jnp.maximum(end - start, 0)


def _truth(setting: _Setting, surrogate: Surrogate, arch: Array) -> Array:
    curve = surrogates.predict(surrogate, setting.encode(arch)[None])[0]
    score = as_score(setting.target, curve[-1])
    return jnp.where(contains(setting.space, arch), score, jnp.nan)


# One function object for each setting: a new one would be compiled anew.
@functools.cache
def _evaluate_in(setting: _Setting) -> Callable[..., Result]:
    return functools.partial(evaluate, setting)


@functools.cache
def _truth_in(setting: _Setting) -> Callable[..., Array]:
    return functools.partial(_truth, setting)
