"""Bayesian optimisation over candidates that are drawn anew in each step.

For spaces that are too large for a pool. The state is the history; the posterior of the
m candidates of a step is exact given it, O(t^3 + t^2 m) for t evaluations, and so is the
joint posterior of a shortlist of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnas import gp
from jaxnas.batching import in_chunks
from jaxnas.kernels import gram
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.search.base import Search, Stage
from jaxnas.search.common import require_capacity, sample_new, train_from_scratch
from jaxnas.search.gp import proposals, sampled_gp, selectors, shortlists
from jaxnas.search.gp.pool_search import refit_stages
from jaxnas.search.gp.proposals import Proposals
from jaxnas.search.gp.sampled_gp import Points, SampledGPState
from jaxnas.spaces import identity
from jaxnas.spaces.base import Space
from jaxnas.spaces.moves import sample
from jaxnas.types import FULL_TRAINING, Array, Query, Result, check_sizes

# Architectures from which the prior medians of the length-scales follow.
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
    epoch: int = FULL_TRAINING,
) -> Search:
    """Gaussian-process search, as `bayesopt`, without a pool of all architectures.

    What was evaluated is not asked again, and a batch has no repeats. Where fewer than a
    batch of the candidates are new, random new ones join them; they are sought by
    `parts.sample_new`, which repeats one where the space is nearly used up.

    Args:
      features: functions arch (d,) -> tuple of (f,) arrays; every array is a part of the
        distance with a length-scale of its own, as for `make_pool`.
      candidates: (key, state) -> architectures (m, d), see `proposals`; those that are
        not valid are left out. Default: 500 random ones and 500 mutants.
      init: evaluations of random architectures at the start, at least 2; the last step
        of them is a whole batch.
      batch: architectures in each step.
      select: what is asked next, see `selectors`; default: the largest log expected
        improvement.
      clip_below: where to cut off bad scores before standardising, see
        `gp.fit_standardisation`.
      same: arch (d,) -> () int32 from 0, a class of which one architecture is evaluated,
        whichever comes first. Default: each architecture counts for itself.
      scale: prior median of each length-scale, in units of the part's mean distance
        between random architectures times the number of parts.
      capacity: None for `run` and `simulate`, which give the state the room that the run
        needs. A number of evaluations for ask and tell from Python.
      epoch: the epoch to which each is trained.

    Raises: `ValueError` for sizes that do not fit together or exceed the space, and for
      features that are not finite, or the same for all architectures.
    """
    _check(space, init, batch, capacity, epoch)
    embed, prior = _embedding(space, features, scale)
    propose = _default(space) if candidates is None else candidates
    rule = selectors.maximise() if select is None else select
    begin = -(-init // batch)  # steps of random architectures
    # The space in which two of one class are the same.
    classes = space
    if same is not None:
        by_class = identity.from_integer(same)
        classes = dataclasses.replace(space, identity=by_class, size=None)

    def stages(num_steps: int) -> tuple[Stage, ...]:
        if capacity is not None:
            require_capacity(capacity, batch, num_steps)
        if space.size is not None and num_steps * batch > space.size:
            raise ValueError(
                f"{space.name} has {space.size} architectures: not enough for "
                f"{num_steps} steps of {batch}"
            )
        return refit_stages(begin, num_steps)

    def initial(prior: gp.HyperparameterPrior, key: Array) -> SampledGPState:
        del key
        arch = jnp.zeros((0, len(space.choices)), jnp.int32)
        empty = sampled_gp.empty(arch, embed(arch), prior)
        return sampled_gp.grow(empty, capacity or 0)

    def ask(key: Array, state: SampledGPState) -> Query:
        key_first, key_pool, key_new, key_select = jax.random.split(key, 4)

        def random() -> Array:
            seen = sampled_gp.filled(state)
            return sample_new(key_first, classes, batch, state.identity, seen)

        def learned() -> Array:
            drawn = propose(key_pool, state)
            arch, allowed = new_ones(key_new, classes, state, drawn, batch)
            here = sampled_gp.posterior_at(state, embed(arch))
            return arch[shortlists.select(rule, key_select, here, allowed, batch)]

        if not may_fit(state):
            return train_from_scratch(random(), epoch)
        return train_from_scratch(jax.lax.cond(state.fitted, learned, random), epoch)

    def tell(state: SampledGPState, query: Query, result: Result) -> SampledGPState:
        return sampled_gp.append(state, query, *known(query), result.score)

    def expect(state: SampledGPState, query: Query) -> SampledGPState:
        return sampled_gp.expect(state, query, *known(query))

    def known(query: Query) -> tuple[Array, Points]:
        return jax.vmap(classes.identity)(query.arch), embed(query.arch)

    def grow(state: SampledGPState, end: int) -> SampledGPState:
        return state if capacity is not None else sampled_gp.grow(state, end * batch)

    def refresh(prior: gp.HyperparameterPrior, state: SampledGPState) -> SampledGPState:
        if not may_fit(state):
            return state
        # Where idle steps have left too few evaluations, there is nothing to fit yet.
        enough = state.count >= begin * batch
        refit = lambda state: sampled_gp.refit(prior, state, clip_below)  # noqa: E731
        return jax.lax.cond(enough, refit, lambda state: state, state)

    def may_fit(state: SampledGPState) -> bool:
        """Whether there is room for more than the first, random evaluations."""
        return len(state.score) > begin * batch

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


def new_ones(
    key: Array, space: Space, state: SampledGPState, arch: Array, batch: int
) -> tuple[Array, Array]:
    """Candidates (m, d), with a batch of random ones, and which may be asked.

    The random ones may be asked only if fewer than `batch` of the candidates are valid,
    new and no repeats.

    Returns: architectures (m + batch, d) and (m + batch,) bool.
    """
    seen, ids = sampled_gp.filled(state), jax.vmap(space.identity)(arch)
    new = jax.vmap(space.is_valid)(arch) & ~identity.member(ids, state.identity, seen)
    # The first of its kind: an invalid vector's identity means nothing.
    words = jnp.concatenate([~new[:, None], ids], 1)
    new &= sampled_gp.first_occurrence(words) == jnp.arange(len(arch))
    taken = jnp.concatenate([state.identity, ids]), jnp.concatenate([seen, new])
    more = sample_new(key, space, batch, *taken)
    few = jnp.broadcast_to(new.sum() < batch, batch)
    return jnp.concatenate([arch, more]), jnp.concatenate([new, few])


def _check(
    space: Space, init: int, batch: int, capacity: int | None, epoch: int
) -> None:
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


def _default(space: Space) -> Proposals:
    return proposals.mixture(
        proposals.uniform(space, 500), proposals.mutants(space, 500)
    )


def _embedding(
    space: Space, features: Sequence[FeatureMap], scale: float
) -> tuple[Embed, gp.HyperparameterPrior]:
    """The parts of the distance that vary, and the prior, from random architectures."""
    with jax.ensure_compile_time_eval():  # a search may be built inside of a trace
        keys = jax.random.split(jax.random.key(0), _SAMPLES)
        archs = np.asarray(jax.vmap(lambda key: sample(key, space))(keys))
        parts = [part for f in features for part in in_chunks(f, archs)]
        sampled = gram.compress_embeddings(parts)
        medians = scale * len(sampled.parts) * gram.mean_distances(sampled)
        values = medians, 1.0, 0.01, 2.0
        prior = gp.HyperparameterPrior(*(jnp.asarray(value, float) for value in values))
    # As `gram.compress_embeddings` leaves out those that do not vary.
    varies = [bool((np.ptp(p, 0) > 1e-14 * np.abs(p).max(0)).any()) for p in parts]
    dtype = prior.scales.dtype

    def embed(archs: Array) -> Points:
        every = (part for f in features for part in jax.vmap(f)(archs))
        kept = (part for part, v in zip(every, varies, strict=True) if v)
        return tuple(jnp.asarray(part.T, dtype) for part in kept)

    return embed, prior
