"""The model of BOHB (Falkner et al., 2018): densities of good and of bad architectures.

Both are kernel density estimates with a product of kernels for unordered categories
(Aitchison & Aitken, 1976): k(x, x_i) = prod_j (1 - h_j if x_j = x_ij else h_j / (c_j - 1)).
A new architecture is the one of many, drawn near good ones, with the largest ratio of the
two densities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.precision import full_precision
from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.fidelity.samplers import Observations, Sampler, by_level
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import sample
from jaxnas.types import Array, check_sizes


class Density(NamedTuple):
    """A kernel density estimate over the rows that count, of n."""

    arch: Array  # (n, d) int32
    counts: Array  # (n,) bool
    bandwidth: Array  # (d,), from 0 to (c - 1) / c, at which the kernel is uniform


# Bandwidths = (space, architectures (n, d), counts (n,) bool) -> (d,), see `Density`.
Bandwidths = Callable[[Space, Array, Array], Array]


def kde_sampler(
    space: Space,
    *,
    good: float = 0.15,
    candidates: int = 64,
    random: float = 1 / 3,
    min_points: int | None = None,
    bandwidths: Bandwidths | None = None,
    min_bandwidth: float = 1e-3,
    memory: int = 256,
    repeats: bool = True,
) -> Sampler:
    """The sampler of BOHB (Falkner et al., 2018, Algorithm 2).

    The model is fitted to the evaluations at the highest level that has enough of them,
    the best of which are good and the others bad; before any level has enough,
    architectures are uniformly random.

    Args:
      space: of the architectures.
      good: share of the evaluations that are good.
      candidates: architectures that are compared. Each is a good one in which every
        position is kept with probability 1 - h and else uniformly random.
      random: share of the architectures that are always uniformly random.
      min_points: smallest number of good and of bad evaluations; default: d + 1.
      bandwidths: of a density; default: `normal_reference`, as published.
      min_bandwidth: smallest bandwidth.
      memory: largest number of evaluations in the model, the latest.
      repeats: whether the model may choose an architecture that has been evaluated at any
        level or is in flight, as published.

    Raises: `ValueError` for shares outside of [0, 1], sizes below 1, and a memory of
      fewer than twice `min_points`.
    """
    need = len(space.choices) + 1 if min_points is None else min_points
    check_sizes(candidates=candidates, min_points=need, memory=memory)
    if memory < 2 * need:
        raise ValueError(
            f"memory must be at least {2 * need}, for min_points = {need} good and as many "
            f"bad evaluations, not {memory}"
        )
    for name, share in (("good", good), ("random", random)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be a share between 0 and 1, not {share}")

    bandwidths = normal_reference if bandwidths is None else bandwidths

    def draw(key: Array, observations: Observations, level: Array) -> Array:
        del level
        key_choice, key_model, key_uniform = jax.random.split(key, 3)
        rows, enough = model_rows(observations, need)
        learned = enough & (jax.random.uniform(key_choice) >= random)

        def usable(archs: Array) -> Array:
            valid = jax.vmap(space.is_valid)(archs)
            return valid if repeats else valid & ~known(observations, archs)

        def from_model() -> Array:
            arch, score, valid = _latest(observations, rows, memory)
            index, chosen, others = split(score, valid, good, need)
            best, rest = (
                Density(
                    arch,
                    counts,
                    jnp.maximum(bandwidths(space, arch, counts), min_bandwidth),
                )
                for arch, counts in ((arch[index], chosen), (arch, others))
            )
            return best_candidate(key_model, space, best, rest, candidates, usable)

        return jax.lax.cond(learned, from_model, lambda: sample(key_uniform, space))

    return draw


def model_rows(observations: Observations, need: int) -> tuple[Array, Array]:
    """Finds the rows (n,) bool of the highest level with at least 2 `need` evaluations.

    Returns: the rows, and whether such a level exists, () bool.
    """
    of_level = by_level(observations, observations.done)
    enough = of_level.sum(1) >= 2 * need
    highest = len(enough) - 1 - jnp.argmax(enough[::-1])
    return of_level[highest], enough.any()


def known(observations: Observations, archs: Array) -> Array:
    """Whether each architecture (m, d) has a training at any level, (m,) bool."""
    # Position by position, with the candidates along the vector: a comparison of all
    # pairs of rows at once is not vectorised.
    pairs = zip(observations.arch.T, archs.T, strict=True)
    equal = reduce(jnp.logical_and, (a[:, None] == b for a, b in pairs))
    return (equal & observations.begun[:, None]).any(0)


def _latest(
    observations: Observations, rows: Array, memory: int
) -> tuple[Array, Array, Array]:
    """Architectures, scores and validity of the last `memory` of the rows (n,) bool."""
    size = min(memory, len(rows))
    # From the last to the first, padded with a row that does not count.
    count = jnp.cumsum(rows[::-1])
    index = len(rows) - 1 - jnp.searchsorted(count, jnp.arange(1, size + 1))
    return observations.arch[index], observations.score[index], index >= 0


def split(
    score: Array, rows: Array, good: float, need: int
) -> tuple[Array, Array, Array]:
    """Splits evaluations into good and bad ones.

    Good rows are few, so that their indices are returned: a density of them is cheaper
    than that of a mask.

    Args:
      score: (n,), NaN where the evaluation failed.
      rows: (n,) bool, the evaluations that count, at least 2 `need`.
      good: share of them that are good.
      need: smallest number of good ones, and of bad ones, which are the others.

    Returns: ascending indices (m,) of the good ones; which of them count, (m,) bool; and
      the mask (n,) bool of the bad ones.
    """
    most = min(max(need, math.ceil(good * len(rows))), len(rows))
    # Failed trainings come after all others, and rows that do not count after these.
    score = jnp.maximum(nan_to_neg_inf(score), jnp.finfo(score.dtype).min)
    best = jax.lax.top_k(jnp.where(rows, score, -jnp.inf), most)[1]
    count = rows.sum(dtype=jnp.int32)
    num = jnp.maximum(need, jnp.floor(good * count).astype(jnp.int32))
    num = jnp.minimum(num, count - need)
    counts = jnp.arange(most) < num
    index = jnp.sort(jnp.where(counts, best, len(rows)))
    return index, counts, rows.at[index].set(False, mode="drop")


def normal_reference(space: Space, arch: Array, counts: Array) -> Array:
    """Normal-reference bandwidths 1.06 s n^(-1 / (4 + d)), as in the published program.

    s is the standard deviation of the codes of a position, although they have no order.
    They are at most (c - 1) / c, at which the kernel is uniform.

    Args:
      space: of the architectures.
      arch: (n, d) int32.
      counts: (n,) bool, the rows that count, at least one.

    Returns: (d,).
    """
    num = counts.sum()
    std = jnp.std(arch.astype(float), axis=0, where=counts[:, None])
    width = 1.06 * std * num ** (-1 / (4 + arch.shape[1]))
    choices = np.asarray(space.choices, float)
    return jnp.minimum(width, (choices - 1) / choices)


@full_precision
def shrinkage(space: Space, arch: Array, counts: Array) -> Array:
    """Bandwidths that minimise an estimate of the squared error of each position.

    The kernel mixes the frequencies of the choices with the uniform distribution. The
    weight of the latter is the James-Stein estimate of Hausser & Strimmer (2009). Unlike
    the normal reference, it depends neither on the order nor on the names of choices.

    Args:
      space: of the architectures.
      arch: (n, d) int32.
      counts: (n,) bool, the rows that count, at least one.

    Returns: (d,).
    """
    choices = np.asarray(space.choices, float)
    inside = np.arange(max(space.choices)) < choices[:, None]
    num = counts.sum()
    one_hot = jax.nn.one_hot(arch, max(space.choices))
    share = jnp.einsum("n,ndc->dc", counts.astype(one_hot.dtype), one_hot) / num
    apart = jnp.where(inside, (share - 1 / choices[:, None]) ** 2, 0).sum(1)
    # The variance of the shares, and their squared distance from uniform ones.
    weight = (1 - (share**2).sum(1)) / jnp.maximum((num - 1) * apart, 1e-9)
    return jnp.clip(weight, 0, 1) * (choices - 1) / choices


def best_candidate(
    key: Array,
    space: Space,
    good: Density,
    bad: Density,
    candidates: int,
    usable: Callable[[Array], Array],
) -> Array:
    """Draws candidates near good rows and returns the one of the largest density ratio.

    Args:
      key: PRNG key.
      space: of the architectures.
      good: density of the good evaluations.
      bad: density of the others.
      candidates: that are compared.
      usable: architectures (m, d) -> (m,) bool, whether each may be returned.

    Returns: (d,) int32; a uniformly random architecture if no candidate is usable.
    """
    key_row, key_change, key_uniform = jax.random.split(key, 3)
    num, counts = len(good.counts), good.counts.astype(float)
    near = good.arch[jax.random.choice(key_row, num, (candidates,), p=counts)]
    # One uniform number decides whether a position changes, u < h, and to what: u / h is
    # uniform again.
    u = jax.random.uniform(key_change, near.shape)
    choices, h = jnp.asarray(space.choices), good.bandwidth
    new = jnp.floor(u / jnp.maximum(h, 1e-12) * choices).astype(jnp.int32)
    archs = jnp.where(u < h, jnp.minimum(new, choices - 1), near)
    valid = usable(archs)
    ratio = log_density(space, good, archs) - log_density(space, bad, archs)
    best = archs[jnp.argmax(jnp.where(valid, ratio, -jnp.inf))]
    return jax.lax.cond(valid.any(), lambda: best, lambda: sample(key_uniform, space))


@full_precision
def log_density(space: Space, density: Density, arch: Array) -> Array:
    """Logarithm of a kernel density estimate at architectures (m, d), shape (m,)."""
    others = jnp.maximum(jnp.asarray(space.choices, float) - 1, 1)
    h = density.bandwidth
    # A bandwidth of 0 would make an architecture impossible that has not been seen.
    stay = jnp.log(jnp.maximum(1 - h, 1e-12))
    move = jnp.log(jnp.maximum(h / others, 1e-12))
    # The number of equal positions, weighted, as a product of one-hot vectors: faster than
    # to compare all pairs of architectures. Sums over the first axis are vectorised.
    one, other = (jax.nn.one_hot(x, max(space.choices)) for x in (arch, density.arch))
    gain = (one * (stay - move)[:, None]).reshape(len(arch), -1)
    equal = other.reshape(len(other), -1) @ gain.T
    total = jax.nn.logsumexp(
        jnp.where(density.counts[:, None], move.sum() + equal, -jnp.inf), axis=0
    )
    return total - jnp.log(density.counts.sum())
