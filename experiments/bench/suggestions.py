"""Time of a suggestion of multi-fidelity searches through ask and tell from Python."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from experiments.bench import timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from experiments.common import peer_searches
from experiments.common.peer_searches import PeerSearch, Training
from jaxnas.search import presets
from jaxnas.search.base import Search
from jaxnas.search.fidelity import brackets
from jaxnas.search.fidelity.dehb import dehb
from jaxnas.search.fidelity.hyperband import hyperband
from jaxnas.search.fidelity.kde import kde_sampler
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.types import Array, Query, Result, State

LEVELS = brackets.geometric_levels(200, 12, eta=3)
PLAN = brackets.hyperband_brackets(LEVELS, eta=3)


def suggestions(config: Config) -> list[Measurement]:
    """Times one ask and one tell, one after another in runs that take turns.

    Searches by rungs continue trainings, and a pruned trial of Optuna goes through all of
    its rungs before the next one. So an architecture is timed too: all asks and tells from
    its first to the first of the next one.

    Args:
      config: the number of suggestions and of architectures of each search, and of those
        in a run.

    Returns: searches of jaxnas, each compiled by itself; Optuna without and with a
      model; and DEHB.
    """
    num, consecutive = config.suggestions, config.consecutive
    rows = []
    # Steps per architecture of the bracket with the most of them, the first.
    sizes = [rung.size for rung in PLAN[0]]
    most = -(-(num + 2) * sum(sizes) // sizes[0])
    measured = (
        ("a suggestion", _step, num + 1),
        ("an architecture", _architecture, most),
    )
    for what, call, steps in measured:
        calls = {name: call(make()) for name, make in _searches(steps).items()}
        with timing.one_core():
            times = timing.in_turn(calls, num, consecutive)
        title = (
            f"{what} by ask and tell from Python, of {num}, {consecutive} of a search "
            "before the next one's turn"
        )
        scaled = {name: time.scaled(1e3) for name, time in times.items()}
        rows += timing.compare(title, "ms", scaled)
    return rows


def _searches(steps: int) -> dict[str, Callable[[], PeerSearch]]:
    """The searches by name, ours first, with room for so many steps."""
    setting = peer_searches.Setting(SPACE.choices, LEVELS)
    optuna = partial(peer_searches.optuna_search, setting)
    return {
        "jaxnas: BOHB": lambda: _ours(
            hyperband(SPACE, PLAN, sampler=kde_sampler(SPACE)), steps
        ),
        "jaxnas: bohb_plus": lambda: _ours(presets.bohb_plus(SPACE, PLAN), steps),
        "jaxnas: Hyperband": lambda: _ours(hyperband(SPACE, PLAN), steps),
        "jaxnas: DEHB": lambda: _ours(dehb(SPACE, PLAN), steps),
        "Optuna: random search": partial(optuna, tpe=False, prune=False),
        "Optuna: random search and Hyperband": partial(optuna, tpe=False),
        "Optuna: TPE and Hyperband": partial(optuna, tpe=True),
        "DEHB": partial(peer_searches.dehb_search, setting),
    }


def _ours(search: Search, steps: int) -> PeerSearch:
    """A search of jaxnas by ask and tell, with room for so many steps."""
    key, step = jax.random.key(0), 0
    state = search.grow(search.init(key), steps)
    compiled = jax.jit(search.tell)
    query: Query | None = None

    @jax.jit
    def propose(key: Array, step: np.int32, state: State) -> Query:
        return search.ask(jax.random.fold_in(key, step), state)

    def ask() -> Training:
        nonlocal query
        query = propose(key, np.int32(step), state)
        arch, epoch, start = (np.asarray(x)[0] for x in query[:3])
        return Training(arch, int(epoch), int(start))

    def tell(score: float) -> None:
        nonlocal state, step
        scores = np.full(1, score, np.float32)
        result = Result(scores, scores[:, None], np.zeros_like(scores))
        state = jax.block_until_ready(compiled(state, query, result))
        step += 1

    return PeerSearch(ask, tell)


def _score(arch: np.ndarray) -> float:
    """A score of an architecture (d,), for searches to learn from."""
    return float(arch.sum() % 7 + arch[0])


def _step(search: PeerSearch) -> Callable[[], None]:
    """A function that makes one step of a search."""

    def call() -> None:
        search.tell(_score(search.ask().arch))

    return call


def _architecture(search: PeerSearch) -> Callable[[], None]:
    """A function that makes the steps of a search until the next new architecture."""
    training = search.ask()

    def call() -> None:
        nonlocal training
        search.tell(_score(training.arch))
        training = search.ask()
        while training.start:
            search.tell(_score(training.arch))
            training = search.ask()

    return call
