"""Rules by which a Gaussian-process search selects the next batch of architectures.

A rule says how candidates are ranked one by one, and how a batch is chosen together from
the joint posterior of a shortlist of the best. It depends on neither pools nor states:
every Gaussian-process search takes the same rules, and `shortlists` applies them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import acquisition, dpp, gp
from jaxnas.precision import full_precision
from jaxnas.types import Array, check_sizes

# Candidates in a shortlist; a k-DPP factorises a matrix of this size for each batch.
SIZE = 200
# Quality against diversity, in standard deviations of the targets. In batches of 5 on the
# 12-epoch CIFAR-100 table of NAS-Bench-201 (40 runs of tuning seeds) the median number of
# evaluations until the best cell is 51, 57 and 119 with 0.3, 0.6 and 1.
TEMPERATURE = 0.3


class Shortlist(NamedTuple):
    """The joint posterior of m candidates, in standardised units."""

    mean: Array  # (m,)
    cov: Array  # (m, m), of the latent function
    noise: Array  # () variance of the targets' noise
    distance: Array  # (m, m) prior distance, in length-scales
    incumbent: Array  # () the best target so far
    allowed: Array  # (m,) bool; False for the padding of fewer than m candidates


# Choose = (key, Shortlist, k) -> (k,) int32, different slots of the shortlist.
Choose = Callable[[Array, Shortlist, int], Array]


class Select(NamedTuple):
    """A rule for the next batch, which `shortlists.select` applies."""

    # utility by which candidates are ranked; None: uniformly random candidates
    acquire: acquisition.Acquisition | None
    # how a batch is chosen from the shortlist; None: the largest acquisitions
    choose: Choose | None = None
    size: int = SIZE  # candidates in the shortlist, those of largest acquisition


def maximise(
    acquire: acquisition.Acquisition = acquisition.log_expected_improvement,
) -> Select:
    """Selects the candidates of largest acquisition; ties are broken by the key.

    The architectures of a batch have different embeddings if there are enough of them.
    """
    return Select(acquire)


# Uniformly random candidates, without replacement.
uniform = Select(None)


def from_shortlist(
    choose: Choose, acquire: acquisition.Acquisition, size: int = SIZE
) -> Select:
    """Applies `choose` to the `size` candidates of largest acquisition.

    The shortlist holds one candidate of each embedding, as candidates of one embedding
    have the same posterior, unless there are fewer embeddings than a batch needs.

    Args:
      choose: selects a batch from the joint posterior of the shortlist.
      acquire: utility by which candidates enter the shortlist.
      size: candidates in the shortlist.

    Raises: `ValueError` for a size below 1.
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
    """Samples the k-DPP with kernel diag(q) Sigma diag(q), q = exp(mean / temperature).

    Sigma is the posterior covariance, so this is the k-DPP of the prior conditioned on
    the observations (Nguyen et al., 2021). The shortlist holds the candidates of largest
    q^2 Sigma_ii.

    Args:
      temperature: of the quality q, in standard deviations of the targets.
      quality: False sets q to 1.
      diversity: False keeps only the diagonal of Sigma, as in that paper's program.
      size: candidates in the shortlist.

    Raises: `ValueError` unless `temperature` is positive, and if both quality and
      diversity are False.
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
    """Selects the most probable batch of `kdpp` approximately, by greedy MAP inference.

    Args:
      temperature: of the quality, as for `kdpp`.
      size: candidates in the shortlist.

    Raises: `ValueError` unless `temperature` is positive.
    """

    def choose(key: Array, shortlist: Shortlist, k: int) -> Array:
        del key
        return dpp.greedy_map(_kernel(shortlist, temperature, True), k)

    return from_shortlist(choose, _weight(temperature, True), size)


def _weight(temperature: float, quality: bool) -> acquisition.Acquisition:
    """Acquisition log(q^2 Sigma_ii), the log-weight of a candidate alone."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    factor = 2 / temperature if quality else 0.0

    def weight(key: Array, mean: Array, std: Array, best: Array) -> Array:
        del key, best
        return factor * mean + 2 * jnp.log(jnp.maximum(std, 1e-9))

    return weight


def _kernel(shortlist: Shortlist, temperature: float, quality: bool) -> Array:
    """Kernel (m, m) of the k-DPP, with weight 0 for the shortlist's padding."""
    score = shortlist.mean if quality else jnp.zeros_like(shortlist.mean)
    score = jnp.where(shortlist.allowed, score, -jnp.inf)
    return dpp.quality_diversity(score, shortlist.cov, temperature)


def thompson(*, size: int = SIZE) -> Select:
    """Selects the maxima of k samples of the joint posterior, without repeats.

    Batch Thompson sampling; the shortlist holds the largest upper confidence bounds.

    Args:
      size: candidates in the shortlist.
    """

    @full_precision
    def choose(key: Array, shortlist: Shortlist, k: int) -> Array:
        mean, cov = shortlist.mean, shortlist.cov
        # By eigenvectors, as a posterior covariance may be singular.
        value, vector = jnp.linalg.eigh(cov)
        root = vector * jnp.sqrt(jnp.maximum(value, 0.0))
        samples = mean[:, None] + root @ jax.random.normal(key, (len(mean), k))

        def one(free: Array, sample: Array) -> tuple[Array, Array]:
            slot = jnp.argmax(jnp.where(free, sample, -jnp.inf))
            return free.at[slot].set(False), slot

        return jax.lax.scan(one, shortlist.allowed, samples.T)[1]

    return from_shortlist(choose, acquisition.confidence_bound(4.0), size)


# Fantasy = (mean (m,), slot (), incumbent ()) -> () the target assumed in that slot.
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
    return _one_after_another(lambda mean, slot, incumbent: mean[slot], acquire, size)


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
        "best": lambda mean, slot, incumbent: incumbent,
        "worst": lambda mean, slot, incumbent: mean.min(),
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
            mean, cov, free, incumbent = carry
            std = jnp.sqrt(jnp.maximum(jnp.diagonal(cov), 0.0))
            utility = jnp.nan_to_num(acquire(key, mean, std, incumbent))
            slot = jnp.argmax(jnp.where(free, utility, -jnp.inf))
            value = fantasy(mean, slot, shortlist.incumbent)
            posterior = gp.condition(mean, cov, slot, value, shortlist.noise)
            free = free.at[slot].set(False)
            return (*posterior, free, jnp.maximum(incumbent, value)), slot

        start = (shortlist.mean, shortlist.cov, shortlist.allowed, shortlist.incumbent)
        return jax.lax.scan(one, start, jax.random.split(key, k))[1]

    return from_shortlist(choose, acquire, size)


def local_penalisation(*, size: int = SIZE) -> Select:
    """Selects by expected improvement, penalised around earlier choices of the batch.

    Local penalisation of Gonzalez et al. (2016), with the penaliser of their eq. 6 in the
    distance of the kernel. The Lipschitz constant is the steepest slope of the posterior
    mean between two candidates of the shortlist, as embedded cells have no gradient.

    Args:
      size: candidates in the shortlist.
    """

    def choose(key: Array, shortlist: Shortlist, k: int) -> Array:
        mean, distance = shortlist.mean, shortlist.distance
        std = jnp.sqrt(jnp.maximum(jnp.diagonal(shortlist.cov), 1e-12))
        apart = distance > 1e-6
        rise = jnp.abs(mean[:, None] - mean[None])
        slope = jnp.max(jnp.where(apart, rise / jnp.where(apart, distance, 1.0), 0.0))
        maximum = jnp.maximum(shortlist.incumbent, mean.max())

        def one(carry: tuple, _: None) -> tuple[tuple, Array]:
            utility, free = carry
            slot = jnp.argmax(jnp.where(free, utility, -jnp.inf))
            reach = slope * distance[slot] - maximum + mean[slot]
            outside = 0.5 * jax.lax.erfc(-reach / (std[slot] * 2**0.5))
            utility = utility + jnp.log(jnp.maximum(outside, 1e-30))
            return (utility, free.at[slot].set(False)), slot

        utility = acquisition.log_expected_improvement(
            key, mean, std, shortlist.incumbent
        )
        start = (utility, shortlist.allowed)
        return jax.lax.scan(one, start, None, length=k)[1]

    return from_shortlist(choose, acquisition.log_expected_improvement, size)
