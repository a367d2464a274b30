"""Methods of comparisons in which searches decide how long to train.

A name is a search, such as `evolution`, or a search and an extrapolator of learning
curves that it is wrapped with, such as `evolution+last`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxnas.curves.extrapolate import kernel_ridge, last_value, lc_svr, wpm
from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.search import presets
from jaxnas.search.base import Search
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.fidelity import asynchronous, brackets
from jaxnas.search.fidelity.curve_aware import curve_aware
from jaxnas.search.fidelity.curve_gates import Gate
from jaxnas.search.fidelity.dehb import dehb
from jaxnas.search.fidelity.hyperband import hyperband, successive_halving
from jaxnas.search.fidelity.kde import kde_sampler
from jaxnas.search.local_search import local_search
from jaxnas.search.random import random_search
from jaxnas.spaces.base import Space
from jaxnas.spaces.features import one_hot_encoder
from jaxnas.studies.comparison import methods


class FidelityTerms(NamedTuple):
    """Settings that all methods of a comparison share."""

    levels: tuple[int, ...]  # epochs of the rungs
    eta: float  # ratio of the sizes of two rungs
    gate: Gate  # when curve-aware searches decide, and on what
    points: tuple[int, ...]  # epochs of the learning curves
    init: int = 20  # random evaluations at the start
    continues: bool = True  # whether the last level continues the one before
    batch: int = 1  # architectures in a step


# (space, candidates (n, d) int32, terms) -> the search.
FidelityMethod = Callable[[Space, np.ndarray, FidelityTerms], Search]


def _brackets(terms: FidelityTerms) -> tuple[brackets.Bracket, ...]:
    return brackets.hyperband_brackets(terms.levels, terms.eta)


def _plain_gp(space: Space, archs: np.ndarray, terms: FidelityTerms) -> Search:
    """The best preset of single fidelity, with its own number of random evaluations."""
    return presets.gp_tw2g_plus(space, archs, batch=terms.batch)


def _evolution(space: Space, archs: np.ndarray, terms: FidelityTerms) -> Search:
    """Evolution whose first population is the random evaluations at the start.

    A tournament is half of it: set by hand, and not tuned.
    """
    del archs
    tournament = max(1, terms.init // 2)
    return regularized_evolution(
        space, population=terms.init, tournament=tournament, batch=terms.batch
    )


PLAIN: dict[str, FidelityMethod] = {
    "random": lambda space, archs, terms: random_search(space, batch=terms.batch),
    "evolution": _evolution,
    "local": lambda space, archs, terms: local_search(
        space, init=terms.init, batch=terms.batch
    ),
    "bananas": lambda space, archs, terms: presets.bananas(
        space, init=terms.init, batch=terms.batch
    ),
    "gp": _plain_gp,
}
"""Searches that train everything to the last epoch."""

HALVING: dict[str, FidelityMethod] = {
    "halving": lambda space, archs, terms: successive_halving(
        space, terms.levels, eta=terms.eta, batch=terms.batch
    ),
    "hyperband": lambda space, archs, terms: hyperband(
        space, _brackets(terms), batch=terms.batch
    ),
    "bohb": lambda space, archs, terms: hyperband(
        space, _brackets(terms), sampler=kde_sampler(space), batch=terms.batch
    ),
    "bohb-plus": lambda space, archs, terms: presets.bohb_plus(
        space, terms.levels, eta=terms.eta, batch=terms.batch
    ),
    # As its authors' program.
    "dehb": lambda space, archs, terms: dehb(
        space,
        brackets.hyperband_brackets(terms.levels, terms.eta, multiples=True),
        early=True,
        batch=terms.batch,
    ),
    "asha": lambda space, archs, terms: asynchronous.asynchronous_halving(
        space, terms.levels, eta=terms.eta, batch=terms.batch
    ),
    "asha-stopping": lambda space, archs, terms: asynchronous.asynchronous_halving(
        space,
        terms.levels,
        eta=terms.eta,
        batch=terms.batch,
        rule=asynchronous.stopping,
    ),
    "gp-two-levels": lambda space, archs, terms: presets.gp_two_levels(
        space, archs, epochs=terms.points, continues=terms.continues, batch=terms.batch
    ),
}
"""Searches that train some networks to the end only."""

EXTRAPOLATORS: dict[str, Callable[[int, int], Extrapolator]] = {
    "last": lambda epochs, target: last_value(),
    "ridge": lambda epochs, target: kernel_ridge(epochs),
    "svr": lambda epochs, target: lc_svr(epochs, draws=32),
    "wpm": lambda epochs, target: wpm(target, scale=100.0),
}
"""Extrapolators that a search of `PLAIN` can be wrapped with, by name.

Each is made of the values of a curve up to the decision and up to the target, counted from
1. `ridge` and `svr` read the architecture as well, one-hot.
"""

MAIN = ("random", "evolution", "evolution+last", "local", "local+last", "hyperband")
MAIN = (*MAIN, "bohb", "dehb", "asha")
"""Methods of the main comparison; those with neural networks take minutes more."""

PAPER = ("random", "hyperband", "bohb")
PAPER = (
    *PAPER,
    *(s + e for s in ("evolution", "local", "bananas") for e in ("", "+wpm", "+svr")),
)
"""The twelve methods of Yan et al. (2021)."""

# Searches that also learn from the predictions of stopped trainings: models, and
# evolution, whose population would otherwise stay the same until a training passes.
_LEARN_FROM_STOPPED = ("evolution", "bananas", "gp")
# Draws of a child until it is a new one: mutants of a few parents repeat themselves.
_TRIES = {"evolution": 20}
# Extrapolators that read features of the architecture.
_WITH_FEATURES = ("ridge", "svr")
# Extrapolators and searches of which a training continues if it exceeds the threshold with
# probability `_LOW_CONFIDENCE`, not 0.5. Regressions shrink predictions towards the mean of
# few complete trainings, so that the mean rarely exceeds it. Models propose architectures
# that are all near the threshold, where the error of a prediction decides.
_CAUTIOUS = ("ridge", "svr", "bananas", "gp")
_LOW_CONFIDENCE = 0.2
# A new extrapolator or encoder is a new program: made once, compiled once.
_encoder = functools.cache(one_hot_encoder)


@functools.cache
def _extrapolator(name: str, epochs: int, target: int) -> Extrapolator:
    """The extrapolator of a name, the same object for the same numbers of values."""
    return EXTRAPOLATORS[name](epochs, target)


def names() -> tuple[str, ...]:
    """All names of methods."""
    wrapped = (f"{search}+{curve}" for search in PLAIN for curve in EXTRAPOLATORS)
    return (*PLAIN, *HALVING, *wrapped)


def expand(given: Sequence[str]) -> tuple[str, ...]:
    """Names of methods, with `PAPER` in place of "paper"."""
    return tuple(m for name in given for m in (PAPER if name == "paper" else (name,)))


def validate_names(given: Sequence[str]) -> None:
    """Raises `ValueError` for no names, unknown names, and names that are given twice."""
    methods.validate_methods(given, names())


def make(name: str, space: Space, archs: np.ndarray, terms: FidelityTerms) -> Search:
    """Makes the search of a name.

    Args:
      name: one of `names`.
      space: of the architectures.
      archs: (n, d) int32 architectures of the benchmark.
      terms: of the comparison.

    Raises: `ValueError` for terms that the search cannot have.
    """
    plain, _, curve = name.partition("+")
    search = (PLAIN | HALVING)[plain](space, archs, terms)
    if not curve:
        return search
    return curve_aware(
        search,
        _extrapolator(curve, *_num_values(curve, terms)),
        *terms.gate,
        init=terms.init,
        confidence=_LOW_CONFIDENCE if {plain, curve} & set(_CAUTIOUS) else 0.5,
        levels=terms.points,
        features=_encoder(space.choices) if curve in _WITH_FEATURES else None,
        rejected="predicted" if plain in _LEARN_FROM_STOPPED else "ignored",
        tries=_TRIES.get(plain, 1),
    )


def _num_values(curve: str, terms: FidelityTerms) -> tuple[int, int]:
    """Numbers of values of a curve up to the decision and up to the target.

    Raises: `ValueError` for a curve that lacks epochs, if the extrapolator is of functions
      of the epoch.
    """
    points, gate = terms.points, terms.gate
    if curve == "wpm" and points != tuple(range(1, len(points) + 1)):
        raise ValueError(
            f"wpm fits functions of the epoch: wanted curves with a value after every "
            f"epoch, not after {points}"
        )
    target = points[-1] if gate.target is None else gate.target
    return sum(p <= gate.epochs for p in points), sum(p <= target for p in points)
