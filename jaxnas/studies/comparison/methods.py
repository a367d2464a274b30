"""The searches of comparisons, by the names that results carry.

`METHODS` and `BATCH_METHODS` map a name to a function of the space, the candidates and the
terms of the comparison; the searches themselves are `jaxnas.search.presets`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxnas.acquisition import confidence_bound
from jaxnas.batching import in_chunks
from jaxnas.kernels import distance_matrices
from jaxnas.kernels.feature_maps import FeatureMap
from jaxnas.predictors import few_labels
from jaxnas.predictors.pool import make_pool
from jaxnas.search import presets
from jaxnas.search.base import Search
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.gp import selectors
from jaxnas.search.ordered import in_order
from jaxnas.search.presets import Preset
from jaxnas.search.random import random_search
from jaxnas.spaces.base import Space
from jaxnas.studies import cli


class Terms(NamedTuple):
    """Settings that all methods of a comparison share."""

    evaluations: int  # of one run
    init: int = 10  # random ones among them, before a method begins to learn
    batch: int = 1  # architectures in a step
    copies: bool = False  # whether cells of the same function are different candidates
    extra: tuple[FeatureMap, ...] = ()  # feature maps beside a Gaussian process's own
    prior: FeatureMap | None = None  # accuracies on other datasets


# (space, candidates (n, d) int32, terms) -> the search.
Method = Callable[[Space, np.ndarray, Terms], Search]


def require_candidates(space: Space, archs: np.ndarray, terms: Terms) -> int:
    """Counts the candidates of a Gaussian process, and checks that they suffice.

    Args:
      space: of the architectures.
      archs: (n, d) int32 architectures of the benchmark.
      terms: of the comparison.

    Returns: the number of architectures, or of functions where copies count once.
    Raises: `ValueError` if there are fewer candidates than evaluations or `init`.
    """
    same = None if terms.copies else presets.function_classes_of(space)
    classes = in_chunks(same or space.identity, archs.astype(np.int32))
    num = len(np.unique(classes, axis=0))
    bound = f"{num}, the number of distinct candidates"
    if terms.evaluations > num:
        given = terms.evaluations
        raise ValueError(f"--evaluations must be at most {bound}, not {given}")
    if not 2 <= terms.init <= num:
        raise ValueError(f"--init must be between 2 and {bound}, not {terms.init}")
    return num


def _pool_options(terms: Terms) -> dict[str, Any]:
    """The terms that every preset over a pool takes."""
    names = "batch", "copies", "extra", "prior"
    return {name: getattr(terms, name) for name in names}


def _gaussian_process(preset: Preset, *, copies: bool | None = None) -> Method:
    """The method of a preset.

    Args:
      preset: a Gaussian-process search.
      copies: overrides `Terms.copies`; default: as the terms say.
    """

    def method(space: Space, archs: np.ndarray, terms: Terms) -> Search:
        if copies is not None:
            terms = terms._replace(copies=copies)
        require_candidates(space, archs, terms)
        return preset(space, archs, init=terms.init, **_pool_options(terms))

    return method


def _from_matrix(preset: Preset) -> Method:
    """The method of a preset on a distance matrix.

    It shows a status line, as the matrix may take minutes, and raises `ValueError` for
    more than `distance_matrices.MAX_KINDS` candidates.
    """
    method = _gaussian_process(preset)

    def with_status(space: Space, archs: np.ndarray, terms: Terms) -> Search:
        if require_candidates(space, archs, terms) > distance_matrices.MAX_KINDS:
            raise ValueError(
                "this distance has no embedding, and the matrix of the distances of all "
                f"{len(archs)} cells is too large: wanted at most "
                f"{distance_matrices.MAX_KINDS}"
            )
        with Console(stderr=True).status("distances of all pairs of cells"):
            return method(space, archs, terms)

    return with_status


def _plus(space: Space, archs: np.ndarray, terms: Terms) -> Search:
    """`presets.gp_tw2g_plus`, which has its own number of random evaluations."""
    require_candidates(space, archs, terms)
    return presets.gp_tw2g_plus(space, archs, **_pool_options(terms))


def _plus_sampled(space: Space, archs: np.ndarray, terms: Terms) -> Search:
    """`presets.gp_tw2g_plus_sampled`, whose candidates are of the whole space."""
    if terms.prior is not None:
        raise ValueError("gp-tw2g-plus-sampled takes no --prior: use gp-tw2g-plus")
    require_candidates(space, archs, terms)
    shared = {"batch": terms.batch, "copies": terms.copies, "extra": terms.extra}
    return presets.gp_tw2g_plus_sampled(space, **shared)


def _random(space: Space, archs: np.ndarray, terms: Terms) -> Search:
    """Random search without repeats."""
    del archs
    steps = -(-terms.evaluations // terms.batch)
    return random_search(space, batch=terms.batch, capacity=steps * terms.batch)


def _evolution(space: Space, archs: np.ndarray, terms: Terms) -> Search:
    """Aging evolution (Real et al., 2019) with its published sizes."""
    del archs
    return regularized_evolution(space, init=terms.init, batch=terms.batch)


def _bananas(space: Space, archs: np.ndarray, terms: Terms) -> Search:
    """BANANAS (White et al., 2021)."""
    del archs
    return presets.bananas(space, init=terms.init, batch=terms.batch)


def _prior_order(space: Space, archs: np.ndarray, terms: Terms) -> Search:
    """The candidates of Gaussian processes in the order of summed Savage scores.

    A control of searches with a prior, which learns nothing.
    """
    if terms.prior is None:
        raise ValueError("prior-order needs --prior")
    require_candidates(space, archs, terms)
    same = None if terms.copies else presets.function_classes_of(space)
    candidates = np.asarray(make_pool(space, [terms.prior], arch=archs, same=same).arch)
    scores = few_labels.savage_scores(in_chunks(terms.prior, candidates)[0])
    order = np.argsort(-scores.sum(1), kind="stable")
    return in_order(space, candidates[order], batch=terms.batch)


BUCB_BETA = 4.0
"""Squared weight of the standard deviation in GP-BUCB (Desautels et al., 2014), mean + 2
standard deviations: set by hand, not the schedule of the paper, and not tuned."""


def _batches(select: selectors.Select) -> Method:
    """`presets.gp_tw2g_plus` with batches that `select` chooses."""
    return _gaussian_process(partial(presets.gp_tw2g_plus, select=select))


METHODS: dict[str, Method] = {
    "random": _random,
    "evolution": _evolution,
    "gp-tw": _gaussian_process(presets.gp_tw),
    "gp-tw2g": _gaussian_process(presets.gp_tw2g),
    "gp-tw2g-plus": _plus,
    "gp-tw2g-plus-sampled": _plus_sampled,
    "gp-tw2g-copies": _gaussian_process(presets.gp_tw2g, copies=True),
    "bananas": _bananas,
    "gp-hamming": _gaussian_process(presets.gp_hamming),
    "gp-path": _gaussian_process(presets.gp_path),
    "gp-nasbot": _gaussian_process(presets.gp_nasbot),
    "gp-ot": _gaussian_process(presets.gp_ot),
    "gp-sinkhorn": _from_matrix(presets.gp_sinkhorn),
    "gp-gw": _from_matrix(presets.gp_gw),
    "gp-fgw": _from_matrix(presets.gp_fgw),
    "gp-gwot": _from_matrix(presets.gp_gwot),
    "gp-otmann": _from_matrix(presets.gp_otmann),
    "prior-order": _prior_order,
}
"""Methods of sequential comparisons, in the order of tables, legends and colours."""

KERNELS = (
    "gp-tw", "gp-tw2g", "gp-gw", "gp-ot", "gp-gwot", "gp-path", "gp-hamming",
    "gp-nasbot", "gp-otmann", "gp-fgw", "gp-sinkhorn",
)  # fmt: skip
"""The kernels that Nguyen et al. (2021) compare, and others of their kind."""

MAIN = ("random", "evolution", "gp-tw", "gp-tw2g", "gp-tw2g-plus")
"""Methods of the main comparison; the ensembles of BANANAS take minutes more."""

BATCH_METHODS: dict[str, Method] = {
    "random": _random,
    "evolution": _evolution,
    "top-ei": _batches(selectors.maximise()),
    "quality-only": _batches(selectors.kdpp(diversity=False)),
    "kdpp": _batches(selectors.kdpp()),
    "kdpp-no-quality": _batches(selectors.kdpp(quality=False)),
    "greedy-map": _batches(selectors.greedy_map()),
    "thompson": _batches(selectors.thompson()),
    "gp-bucb": _batches(selectors.kriging_believer(confidence_bound(BUCB_BETA))),
    "believer": _batches(selectors.kriging_believer()),
    "liar": _batches(selectors.constant_liar(value="best")),
    "penalisation": _batches(selectors.local_penalisation()),
    "uniform": _batches(selectors.uniform),
}
"""Ways to choose a batch, in the order of tables, legends and colours.

Gaussian processes differ in their selector alone.
"""

MAIN_BATCH = ("random", "evolution", "top-ei", "quality-only", "kdpp")
"""Methods of the main comparison of batches."""


def positions(
    labels: Collection[str], known: Collection[str] = tuple(METHODS)
) -> dict[str, tuple[int, int]]:
    """The order of results in tables and figures, and the index of their colours.

    Args:
      labels: METHOD, or METHOD-xBATCH.
      known: the methods of the comparison, whose indices are the same in every run.

    Returns: by label, the index of the method in `known`, or after them, in alphabetical
      order, for any other; and the size of the batch, 0 if the label has none.
    """
    parts = {}
    for label in labels:
        method, _, size = label.rpartition("-x")
        batched = label not in known and size.isdecimal()
        parts[label] = (method, int(size)) if batched else (label, 0)
    others = sorted({method for method, _ in parts.values()} - {*known})
    order = [*known, *others]
    return {label: (order.index(name), size) for label, (name, size) in parts.items()}


def validate_methods(
    names: Sequence[str], known: Collection[str] = tuple(METHODS)
) -> None:
    """Checks the names that a user gave.

    Args:
      names: at least one.
      known: the methods of the comparison.

    Raises: `ValueError` that lists unknown names, or names that are given twice.
    """
    cli.require_names(names, known, "method")
