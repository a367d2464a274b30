"""The sampler of PriorBand (Mallik et al., 2023): uniform, prior and incumbent mixed."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.fidelity.brackets import require_eta
from jaxnas.search.fidelity.samplers import (
    Observations,
    Sampler,
    by_level,
    choice_mask,
    draw_valid,
    prior_logits,
)
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import sample
from jaxnas.types import Array


def priorband_sampler(
    space: Space,
    probabilities: Sequence[np.ndarray],
    *,
    eta: int = 3,
    mutation: float = 0.5,
) -> Sampler:
    """The sampler of PriorBand (Mallik et al., 2023, Algorithm 2).

    A bracket that begins at level r draws uniformly with probability 1 / (1 + eta^r), and
    otherwise from the prior. Once a training has reached the last level, the prior's share
    is divided between the prior and mutants of the incumbent, in proportion to the
    likelihood of the best 1 / eta of the highest level with `eta` evaluations, weighted by
    rank.

    Args:
      space: of the architectures.
      probabilities: the prior, of the choices at each of the d positions.
      eta: of the brackets.
      mutation: probability of each position of the incumbent to change, to another
        choice.

    Raises: `ValueError` for a prior that does not fit the space, an `eta` of 1 or less,
      and a mutation probability outside of (0, 1).
    """
    prior = jnp.asarray(prior_logits(space, probabilities))
    require_eta(eta)
    if not 0 < mutation < 1:
        raise ValueError(f"mutation must be between 0 and 1, not {mutation}")
    inside = jnp.asarray(choice_mask(space))

    def draw(key: Array, observations: Observations, level: Array) -> Array:
        key_policy, key_prior, key_near, key_uniform = jax.random.split(key, 4)
        near = near_incumbent(inside, incumbent(observations), mutation)
        to_near, to_prior = shares(observations, near, prior, eta)
        share = 1 - 1 / (1 + eta ** level.astype(float))
        weights = jnp.stack([1 - share, share * to_prior, share * to_near])
        policy = jax.random.categorical(key_policy, jnp.log(weights))
        branches = (
            lambda: sample(key_uniform, space),
            lambda: draw_valid(key_prior, space, prior),
            lambda: draw_valid(key_near, space, near),
        )
        return jax.lax.switch(policy, branches)

    return draw


def incumbent(observations: Observations) -> Array:
    """The architecture (d,) of the best score at any level."""
    score = nan_to_neg_inf(observations.score)
    return observations.arch[jnp.argmax(jnp.where(observations.done, score, -jnp.inf))]


def near_incumbent(inside: Array, arch: Array, mutation: float) -> Array:
    """Log probabilities (d, c) of the mutants of an architecture.

    Args:
      inside: (d, c) bool, the choices.
      arch: (d,) int32.
      mutation: probability that a position changes, to a uniform other choice.
    """
    others = jnp.maximum(inside.sum(1, keepdims=True) - 1, 1)
    same = jnp.arange(inside.shape[1]) == arch[:, None]
    probability = jnp.where(same, 1 - mutation, mutation / others)
    return jnp.where(inside, jnp.log(probability), -jnp.inf)


def shares(
    observations: Observations, near: Array, prior: Array, eta: int
) -> tuple[Array, Array]:
    """Shares of mutants of the incumbent and of the prior in draws that are not uniform.

    Args:
      observations: so far.
      near: (d, c) log probabilities of the mutants.
      prior: (d, c) log probabilities of the prior.
      eta: of the brackets.

    Returns: two numbers () that add up to 1; the first is 0 before a training has reached
      the last level, and before a level has `eta` evaluations.
    """
    usable = observations.done & ~jnp.isnan(observations.score)
    of_level = by_level(observations, usable)
    counts = of_level.sum(1)
    highest = len(counts) - 1 - jnp.argmax((counts >= eta)[::-1])
    active = (counts >= eta).any() & (counts[-1] > 0)
    rows = of_level[highest]
    order = jnp.argsort(-jnp.where(rows, observations.score, -jnp.inf), stable=True)
    num_best = jnp.floor(rows.sum() / eta).astype(jnp.int32)
    weight = jnp.maximum(num_best - jnp.arange(len(order)), 0)

    def log_total(logits: Array) -> Array:
        best = observations.arch[order]
        each = jnp.take_along_axis(logits[None], best[..., None], 2)[..., 0].sum(-1)
        return jax.nn.logsumexp(jnp.where(weight > 0, each, -jnp.inf), b=weight)

    to_near = jax.nn.sigmoid(log_total(near) - log_total(prior))
    to_near = jnp.where(active, jnp.nan_to_num(to_near, nan=0.5), 0.0)
    return to_near, 1 - to_near
