"""Time of a suggestion of multi-fidelity searches through ask and tell from Python."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from experiments.bench import timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from experiments.common import peer_searches
from jaxnas.search import presets
from jaxnas.search.base import Search
from jaxnas.search.fidelity import brackets
from jaxnas.search.fidelity.dehb import dehb
from jaxnas.search.fidelity.hyperband import hyperband
from jaxnas.search.fidelity.kde import kde_sampler
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.types import Array, Query, Result, State

LEVELS = brackets.geometric_levels(200, 12, eta=3)


def suggestions(config: Config) -> list[Measurement]:
    """Times one ask and one tell, one after another in runs that take turns.

    Args:
      config: the number of suggestions of each search, and of those in a run.

    Returns: searches of jaxnas, each compiled by itself; Optuna without and with a
      model; and DEHB.
    """
    plan = brackets.hyperband_brackets(LEVELS, eta=3)
    setting = peer_searches.Setting(SPACE.choices, LEVELS)
    ours = {
        "jaxnas: BOHB": hyperband(SPACE, plan, sampler=kde_sampler(SPACE)),
        "jaxnas: bohb_plus": presets.bohb_plus(SPACE, plan),
        "jaxnas: Hyperband": hyperband(SPACE, plan),
        "jaxnas: DEHB": dehb(SPACE, plan),
    }
    theirs = {
        "Optuna: random search": peer_searches.optuna_search(
            setting, tpe=False, prune=False
        ),
        "Optuna: TPE and Hyperband": peer_searches.optuna_search(setting, tpe=True),
        "DEHB": peer_searches.dehb_search(setting),
    }
    num = config.suggestions
    calls = {name: _jaxnas_call(search, num + 1) for name, search in ours.items()}
    calls |= {name: _peer_call(search) for name, search in theirs.items()}
    with timing.one_core():
        times = timing.in_turn(calls, num, config.consecutive)
    title = (
        f"a suggestion by ask and tell from Python, of {num}, {config.consecutive} of a "
        "search before the next one's turn"
    )
    return timing.compare(
        title, "ms", {name: time.scaled(1e3) for name, time in times.items()}
    )


def _score(arch: np.ndarray) -> float:
    """A score of an architecture (d,), for searches to learn from."""
    return float(arch.sum() % 7 + arch[0])


def _jaxnas_call(search: Search, num: int) -> Callable[[], None]:
    """A function that makes one step of a search, with room for `num` of them."""
    key, step = jax.random.key(0), 0
    state = search.grow(search.init(key), num)
    tell = jax.jit(search.tell)

    @jax.jit
    def ask(key: Array, step: np.int32, state: State) -> Query:
        return search.ask(jax.random.fold_in(key, step), state)

    def call() -> None:
        nonlocal state, step
        query = ask(key, np.int32(step), state)
        score = np.full(1, _score(np.asarray(query.arch)[0]), np.float32)
        result = Result(score, score[:, None], np.zeros_like(score))
        state = jax.block_until_ready(tell(state, query, result))
        step += 1

    return call


def _peer_call(search: peer_searches.PeerSearch) -> Callable[[], None]:
    """A function that makes one step of a search of another package."""

    def call() -> None:
        search.tell(_score(search.ask().arch))

    return call
