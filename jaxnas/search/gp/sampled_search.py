"""Bayesian optimisation over candidates that are sampled anew in each step.

For spaces that are too large for a pool. The state is the history; the posterior of the m
candidates of a step is exact given it, in O(t^3 + t^2 m) for t evaluations, and so is the
joint posterior of a shortlist of them. See `sampled_gp` for the posterior, `proposals` for
the candidates and `schedule` for the stages of a run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas import gp
from jaxnas.batching import in_chunks
from jaxnas.kernels import gram
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.predictors.pool import default_prior
from jaxnas.search.base import Search, Stage
from jaxnas.search.common import filled, sample_new, train_from_scratch, with_classes
from jaxnas.search.gp import proposals, sampled_gp, selectors, shortlists
from jaxnas.search.gp import schedule as schedules
from jaxnas.search.gp.proposals import Proposals
from jaxnas.search.gp.sampled_gp import Evaluations, Points, SampledGPState
from jaxnas.spaces import identity
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import sample
from jaxnas.types import FULL_TRAINING, Array, Query, Result, check_sizes

# Random architectures from which the prior medians of the length-scales follow.
_SAMPLES = 2000

# Embed = architectures (m, d) -> (f_j, m) by part.
Embed = Callable[[Array], Points]


def bayesopt_sampled(
    space: Space,
    features: Sequence[FeatureMap],
    candidates: Proposals | None = None,
    *,
    init: int = 10,
    batch: int = 1,
    select: selectors.Select | None = None,
    clip_below: float = float("inf"),
    same: Callable[[Array], Array] | None = None,
    scale: float = 1.0,
    capacity: int | None = None,
    epoch: int | None = None,
) -> Search:
    """Gaussian-process search, as `bayesopt`, without a pool of all architectures.

    An evaluated architecture is not asked again, and a batch has no repeats. Where fewer
    than a batch of the candidates are new, random new architectures join them, sampled
    by `common.sample_new`, which repeats one where the space is nearly exhausted.

    Args:
      space: of the architectures.
      features: functions arch (d,) -> tuple of (f,) arrays; every array is a part of the
        distance with a length-scale of its own, as for `make_pool`.
      candidates: (key, state) -> architectures (m, d), see `proposals`; those that are
        not valid are left out. Default: 500 random ones and 500 mutants.
      init: evaluations of random architectures at the start, at least 2; the last step
        of them is a whole batch.
      batch: architectures in each step.
      select: rule for the next batch, see `selectors`. Default: the largest log expected
        improvement.
      clip_below: where to cut off bad scores before standardising, see
        `gp.fit_standardisation`.
      same: arch (d,) -> () int32 from 0, a class of which one architecture is evaluated,
        whichever comes first. Default: each architecture counts for itself.
      scale: prior median of each length-scale, in units of the part's mean distance
        between random architectures times the number of parts.
      capacity: None for `run` and `simulate`, which give the state the room that the run
        needs. A number of evaluations for ask and tell from Python.
      epoch: the epoch to which each architecture is trained; default: the last one.

    Raises: `ValueError` for sizes that do not fit together or exceed the space, and for
      features that are not finite, or the same for all architectures; and by `stages` for
      a run that is longer than the space or `capacity`.
    """
    epoch = FULL_TRAINING if epoch is None else epoch
    validate_sizes(space, init, batch, capacity, epoch)
    embed, prior = embedder(space, features, scale)
    propose = default_proposals(space) if candidates is None else candidates
    rule = selectors.maximise() if select is None else select
    schedule = schedules.make_schedule(init, batch, capacity)
    classes = with_classes(space, same)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        return schedules.stages(schedule, num_steps, space.size, space.name)

    def initial(prior: gp.HyperparameterPrior, key: Array) -> SampledGPState:
        del key
        arch = jnp.zeros((0, len(space.choices)), jnp.int32)
        empty = sampled_gp.empty(arch, embed(arch), prior)
        return sampled_gp.grow(empty, capacity or 0)

    def ask(key: Array, state: SampledGPState) -> Query:
        key_random, key_pool, key_new, key_select = jax.random.split(key, 4)

        def random() -> Array:
            seen = filled(state)
            return sample_new(key_random, classes, batch, state.identity, seen)

        def learned() -> Array:
            proposed = propose(key_pool, state)
            arch, allowed = new_candidates(key_new, classes, state, proposed, batch)
            posterior = sampled_gp.posterior_at(state, embed(arch))
            return arch[shortlists.select(rule, key_select, posterior, allowed, batch)]

        arch = schedules.random_or_learned(
            schedule, state, state.fitted, random, learned
        )
        return train_from_scratch(arch, epoch)

    def tell(state: SampledGPState, query: Query, result: Result) -> SampledGPState:
        return sampled_gp.append(state, query, *describe(query), result.score)

    def expect(state: SampledGPState, query: Query) -> SampledGPState:
        return sampled_gp.expect(state, query, *describe(query))

    def describe(query: Query) -> tuple[Array, Points]:
        """Identities (b, 2) and embeddings (f_j, b) of the query's architectures."""
        return jax.vmap(classes.identity)(query.arch), embed(query.arch)

    def grow(state: SampledGPState, end: int) -> SampledGPState:
        return schedules.grow(schedule, sampled_gp.grow, state, end)

    def refresh(prior: gp.HyperparameterPrior, state: SampledGPState) -> SampledGPState:
        refit = functools.partial(sampled_gp.refit, prior, clip_below=clip_below)
        return schedules.refresh(schedule, refit, state)

    return Search(
        Partial(initial, prior),
        ask,
        tell,
        grow,
        Partial(refresh, prior),
        expect,
        stages=stages,
        space=space,
    )


def new_candidates(
    key: Array, space: Space, state: Evaluations, arch: Array, batch: int
) -> tuple[Array, Array]:
    """Appends a batch of random architectures to candidates and marks the new ones.

    The random ones may be asked only if fewer than `batch` of the candidates are valid,
    new and no repeats.

    Args:
      key: for the random architectures.
      space: whose `identity` says which architectures are the same.
      state: the history.
      arch: (m, d) int32 candidates, valid or not.
      batch: number of random architectures.

    Returns: architectures (m + batch, d), and which may be asked, (m + batch,) bool.
    """
    seen, ids = filled(state), jax.vmap(space.identity)(arch)
    new = jax.vmap(space.is_valid)(arch) & ~identity.member(ids, state.identity, seen)
    # Only new ones can repeat each other: identities of invalid vectors are arbitrary.
    words = jnp.concatenate([~new[:, None], ids], 1)
    new &= sampled_gp.first_occurrence(words) == jnp.arange(len(arch))
    taken = jnp.concatenate([state.identity, ids]), jnp.concatenate([seen, new])
    more = sample_new(key, space, batch, *taken)
    few = jnp.broadcast_to(new.sum() < batch, batch)
    return jnp.concatenate([arch, more]), jnp.concatenate([new, few])


def validate_sizes(
    space: Space, init: int, batch: int, capacity: int | None, epoch: int
) -> None:
    """Checks the sizes of a search over sampled candidates.

    Args:
      space: of the architectures.
      init: random evaluations at the start.
      batch: architectures in each step.
      capacity: evaluations that there is room for; None: as many as a run needs.
      epoch: to which each architecture is trained.

    Raises: `ValueError` for sizes that the space does not allow.
    """
    check_sizes(init=init, batch=batch, epoch=epoch)
    most = float("inf") if space.size is None else space.size
    limit = "" if space.size is None else f" and at most the space's {most}"
    if not 2 <= init <= most:
        raise ValueError(f"init must be at least 2{limit}, not {init}")
    least = max(init, batch)
    if capacity is not None and not least <= capacity <= most:
        raise ValueError(
            f"capacity must be at least {least}, for init and batch{limit}, "
            f"not {capacity}"
        )


def default_proposals(space: Space) -> Proposals:
    """500 random architectures and 500 mutants of the best, for any search.

    Args:
      space: of the architectures.
    """
    return proposals.mixture(
        proposals.uniform(space, 500), proposals.mutants(space, 500)
    )


def embedder(
    space: Space, features: Sequence[FeatureMap], scale: float
) -> tuple[Embed, gp.HyperparameterPrior]:
    """Makes the embedding of a search, and the prior of its length-scales.

    Args:
      space: of the architectures.
      features: functions arch (d,) -> tuple of (f,) arrays, the parts of the distance.
      scale: prior median of each length-scale, see `bayesopt_sampled`.

    Returns: archs (m, d) -> (f_j, m) for the parts that vary over random architectures,
      and the prior of their length-scales.
    """
    with jax.ensure_compile_time_eval():  # a search may be built inside of a trace
        keys = jax.random.split(jax.random.key(0), _SAMPLES)
        archs = np.asarray(jax.vmap(lambda key: sample(key, space))(keys))
        parts = [part for f in features for part in in_chunks(f, archs)]
        prior = default_prior(gram.compress_embeddings(parts), scale)
    # The prior has no length-scale for parts that do not vary.
    varies = [bool(gram.varying_coordinates(np.asarray(p)).any()) for p in parts]
    dtype = prior.scales.dtype

    def embed(archs: Array) -> Points:
        every = (part for f in features for part in jax.vmap(f)(archs))
        kept = (part for part, v in zip(every, varies, strict=True) if v)
        return tuple(jnp.asarray(part.T, dtype) for part in kept)

    return embed, prior
