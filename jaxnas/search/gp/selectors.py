"""What a search by Gaussian process asks next: one architecture, or a batch of them.

A selector says how candidates are compared one by one, and how a batch is chosen together
from the joint posterior of a shortlist of the best. It knows neither pools nor states:
every Gaussian-process search takes the same ones, see `shortlists`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import acquisition, dpp, gp
from jaxnas.types import Array, check_sizes

# Of the shortlist; a k-DPP factorises a matrix of this size for each batch.
SIZE = 200
# Quality against diversity, in standard deviations of the targets. In batches of 5 on the
# 12-epoch CIFAR-100 table of NAS-Bench-201 (40 runs of tuning seeds) the best cell takes a
# median of 51, 57 and 119 evaluations with 0.3, 0.6 and 1.
TEMPERATURE = 0.3


class Shortlist(NamedTuple):
    """The joint posterior of m candidates, in standardised units."""

    mean: Array  # (m,)
    cov: Array  # (m, m), of the latent function
    noise: Array  # () variance of the targets' noise
    distance: Array  # (m, m) prior distance, in length-scales
    incumbent: Array  # () the best target so far
    allowed: Array  # (m,) bool; False only where there are not m candidates


# Choose = (key, Shortlist, k) -> (k,) different places in the shortlist.
Choose = Callable[[Array, Shortlist, int], Array]


class Select(NamedTuple):
    """A rule for what is asked next, which every Gaussian-process search interprets."""

    # By which candidates are compared; None: all alike, whatever their posterior.
    acquire: acquisition.Acquisition | None
    # How a batch is chosen from a shortlist; None: the largest acquisitions.
    choose: Choose | None = None
    size: int = SIZE  # candidates in the shortlist, those of largest acquisition


def maximise(
    acquire: acquisition.Acquisition = acquisition.log_expected_improvement,
) -> Select:
    """The candidates of largest acquisition, each by itself; ties broken by the key.

    The architectures of a batch have different embeddings as far as there are enough.
    """
    return Select(acquire)


# Any candidates, with the same probability, without repeats.
uniform = Select(None)


def from_shortlist(
    choose: Choose, acquire: acquisition.Acquisition, size: int = SIZE
) -> Select:
    """`choose` from the `size` candidates of largest acquisition.

    The shortlist holds one candidate of each embedding, as what is known of one is known
    of all; and the others only where there are fewer embeddings than a batch needs.
    """
    check_sizes(size=size)
    return Select(acquire, choose, size)


def kdpp(
    temperature: float = TEMPERATURE,
    *,
    quality: bool = True,
    diversity: bool = True,
    size: int = SIZE,
) -> Select:
    """A draw of the k-DPP with kernel diag(q) Sigma diag(q), q = exp(mean / temperature).

    Sigma is the posterior covariance, so this is the k-DPP of the prior conditioned on
    what was evaluated (Nguyen et al., 2021). Without `quality` q is 1; without
    `diversity` only the diagonal of Sigma is left, as in that paper's program. The
    shortlist are the candidates of largest q^2 Sigma_ii.

    Raises: `ValueError` unless `temperature` is positive, or without both parts.
    """
    weight = _weight(temperature, quality)

    def choose(key: Array, shortlist: Shortlist, k: int) -> Array:
        kernel = _kernel(shortlist, temperature, quality)
        if not diversity:
            kernel = jnp.diag(jnp.diagonal(kernel))
        return dpp.sample(key, kernel, k)

    if not (quality or diversity):
        raise ValueError("a k-DPP needs quality or diversity: see uniform for neither")
    return from_shortlist(choose, weight, size)


def greedy_map(temperature: float = TEMPERATURE, *, size: int = SIZE) -> Select:
    """The most probable batch of `kdpp`, approximately: greedy MAP inference."""

    def choose(key: Array, shortlist: Shortlist, k: int) -> Array:
        del key
        return dpp.greedy_map(_kernel(shortlist, temperature, True), k)

    return from_shortlist(choose, _weight(temperature, True), size)


def _weight(temperature: float, quality: bool) -> acquisition.Acquisition:
    """log(q^2 Sigma_ii): the log-weight of a candidate alone."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    factor = 2 / temperature if quality else 0.0

    def weight(key: Array, mean: Array, std: Array, best: Array) -> Array:
        del key, best
        return factor * mean + 2 * jnp.log(jnp.maximum(std, 1e-9))

    return weight


def _kernel(shortlist: Shortlist, temperature: float, quality: bool) -> Array:
    score = shortlist.mean if quality else jnp.zeros_like(shortlist.mean)
    score = jnp.where(shortlist.allowed, score, -jnp.inf)
    return dpp.quality_diversity(score, shortlist.cov, temperature)


def thompson(*, size: int = SIZE) -> Select:
    """The best of each of k draws of the joint posterior, without repeats."""

    def choose(key: Array, shortlist: Shortlist, k: int) -> Array:
        mean, cov = shortlist.mean, shortlist.cov
        # Eigenvectors: a posterior covariance is singular but for rounding.
        value, vector = jnp.linalg.eigh(cov)
        root = vector * jnp.sqrt(jnp.maximum(value, 0.0))
        draws = mean[:, None] + root @ jax.random.normal(key, (len(mean), k))

        def one(free: Array, draw: Array) -> tuple[Array, Array]:
            place = jnp.argmax(jnp.where(free, draw, -jnp.inf))
            return free.at[place].set(False), place

        return jax.lax.scan(one, shortlist.allowed, draws.T)[1]

    return from_shortlist(choose, acquisition.confidence_bound(4.0), size)


# Fantasy = (mean (m,), place (), best ()) -> () the target assumed of `place`.
_Fantasy = Callable[[Array, Array, Array], Array]


def kriging_believer(
    acquire: acquisition.Acquisition = acquisition.log_expected_improvement,
    *,
    size: int = SIZE,
) -> Select:
    """Chooses one after another, each as if the last had its posterior mean.

    The kriging believer of Ginsbourger et al. (2010); with
    `acquisition.confidence_bound` it is GP-BUCB (Desautels et al., 2014).

    Args:
      acquire: utility of a candidate, recomputed after each choice.
      size: candidates in the shortlist.
    """
    return _one_after_another(lambda mean, place, best: mean[place], acquire, size)


def constant_liar(
    acquire: acquisition.Acquisition = acquisition.log_expected_improvement,
    *,
    value: Literal["best", "worst"] = "best",
    size: int = SIZE,
) -> Select:
    """Chooses one after another, each as if the last had a constant target.

    The constant liar of Ginsbourger et al. (2010).

    Args:
      acquire: utility of a candidate, recomputed after each choice.
      value: the constant: "best" is the incumbent's target, "worst" the least posterior
        mean of the shortlist.
      size: candidates in the shortlist.

    Raises: `ValueError` for another `value`.
    """
    fantasies: dict[str, _Fantasy] = {
        "best": lambda mean, place, best: best,
        "worst": lambda mean, place, best: mean.min(),
    }
    if value not in fantasies:
        raise ValueError(f"value must be one of {', '.join(fantasies)}, not {value!r}")
    return _one_after_another(fantasies[value], acquire, size)


def _one_after_another(
    fantasy: _Fantasy, acquire: acquisition.Acquisition, size: int
) -> Select:
    """Maximises `acquire` k times, conditioning on a fantasy of each choice."""

    def choose(key: Array, shortlist: Shortlist, k: int) -> Array:
        def one(carry: tuple, key: Array) -> tuple[tuple, Array]:
            mean, cov, free, best = carry
            std = jnp.sqrt(jnp.maximum(jnp.diagonal(cov), 0.0))
            utility = jnp.nan_to_num(acquire(key, mean, std, best))
            place = jnp.argmax(jnp.where(free, utility, -jnp.inf))
            value = fantasy(mean, place, shortlist.incumbent)
            posterior = gp.condition(mean, cov, place, value, shortlist.noise)
            free = free.at[place].set(False)
            return (*posterior, free, jnp.maximum(best, value)), place

        start = (shortlist.mean, shortlist.cov, shortlist.allowed, shortlist.incumbent)
        return jax.lax.scan(one, start, jax.random.split(key, k))[1]

    return from_shortlist(choose, acquire, size)


def local_penalisation(*, size: int = SIZE) -> Select:
    """Expected improvement, less around what the batch has (Gonzalez et al., 2016).

    The penaliser is their eq. 6, in the distance of the kernel. The Lipschitz constant is
    the steepest slope of the posterior mean between two of the shortlist, since embedded
    cells have no gradient.
    """

    def choose(key: Array, shortlist: Shortlist, k: int) -> Array:
        mean, distance = shortlist.mean, shortlist.distance
        std = jnp.sqrt(jnp.maximum(jnp.diagonal(shortlist.cov), 1e-12))
        apart = distance > 1e-6
        rise = jnp.abs(mean[:, None] - mean[None])
        slope = jnp.max(jnp.where(apart, rise / jnp.where(apart, distance, 1.0), 0.0))
        top = jnp.maximum(shortlist.incumbent, mean.max())

        def one(carry: tuple, _) -> tuple[tuple, Array]:
            utility, free = carry
            place = jnp.argmax(jnp.where(free, utility, -jnp.inf))
            reach = slope * distance[place] - top + mean[place]
            outside = 0.5 * jax.lax.erfc(-reach / (std[place] * 2**0.5))
            utility = utility + jnp.log(jnp.maximum(outside, 1e-30))
            return (utility, free.at[place].set(False)), place

        utility = acquisition.log_expected_improvement(
            key, mean, std, shortlist.incumbent
        )
        start = (utility, shortlist.allowed)
        return jax.lax.scan(one, start, None, length=k)[1]

    return from_shortlist(choose, acquisition.log_expected_improvement, size)
