"""Time of a suggestion of multi-fidelity searches through ask and tell from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
import numpy as np

from experiments.bench import timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from experiments.common import peer_searches
from experiments.common.peer_searches import PeerSearch, Training
from jaxnas.benchmarks.synthetic import synthetic_benchmark
from jaxnas.search import presets, simulate
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

    Searches by rungs continue trainings: Optuna goes on with a trial until it is pruned,
    and brackets continue the best of a rung when it is complete. So architectures are
    timed too, with all asks and tells from the first of one to the first of another, as a
    mean over those of a run.

    Args:
      config: the number of suggestions and of architectures of each search, of those in a
        run, and of runs in one program.

    Returns: searches of jaxnas, each compiled by itself; Optuna without and with a
      model; DEHB; and Syne Tune.
    """
    num, run = config.suggestions, config.consecutive
    calls = {name: _step(make()) for name, make in _makers(num + 1).items()}
    title = (
        f"a suggestion by ask and tell from Python, of {num}, {run} of a search before "
        "the next one's turn"
    )
    rows = _table(title, calls, num, run)
    repeats = -(-num // run)
    # Steps for each architecture of the bracket with the most of them, the first.
    sizes = [rung.size for rung in PLAN[0]]
    steps = -(-((repeats + 1) * run + 1) * sum(sizes) // sizes[0])
    calls = {n: _architectures(make(), run) for n, make in _makers(steps).items()}
    title = f"an architecture with all of its suggestions, mean of {run} in a row"
    rows += _table(title, calls, repeats, per_call=run)
    return rows + _compiled(config)


def _compiled(config: Config) -> list[Measurement]:
    """Times whole runs of our searches, each of so many suggestions, as one program.

    The evaluations of a synthetic benchmark are included.

    Args:
      config: the number of suggestions and of runs, and how often a program runs.
    """
    benchmark = synthetic_benchmark(jax.random.key(0), SPACE, epochs=LEVELS[-1])
    keys = jax.random.split(jax.random.key(1), config.runs)

    def program(search: Search) -> Callable[[], object]:
        run = partial(simulate, keys, search, benchmark, config.suggestions)
        return lambda: jax.block_until_ready(run())

    calls = {name: program(search) for name, search in _searches().items()}
    title = (
        f"a suggestion and its evaluation in one program of {config.runs} runs of "
        f"{config.suggestions}"
    )
    num = config.runs * config.suggestions
    return _table(title, calls, config.repeats, per_call=num)


def _table(
    title: str,
    calls: Mapping[str, Callable[[], None]],
    repeats: int,
    consecutive: int = 1,
    per_call: int = 1,
) -> list[Measurement]:
    """Times calls in turn on one core, in milliseconds for one of `per_call` in a call."""
    with timing.one_core():
        times = timing.in_turn(calls, repeats, consecutive)
    scaled = {name: time.scaled(1e3 / per_call) for name, time in times.items()}
    return timing.compare(title, "ms", scaled)


def _makers(steps: int) -> dict[str, Callable[[], PeerSearch]]:
    """Functions that make the searches, ours first, with room for so many steps."""
    setting = peer_searches.Setting(SPACE.choices, LEVELS)
    ours = {name: partial(_ours, search, steps) for name, search in _searches().items()}
    optuna = partial(peer_searches.optuna_search, setting)
    syne_tune = partial(peer_searches.syne_tune_search, setting)
    return ours | {
        "Optuna: random search": partial(optuna, tpe=False, prune=False),
        "Optuna: random search and Hyperband": partial(optuna, tpe=False),
        "Optuna: TPE and Hyperband": partial(optuna, tpe=True),
        "DEHB": partial(peer_searches.dehb_search, setting),
        "Syne Tune: ASHA": partial(syne_tune, kde=False),
        "Syne Tune: BOHB": partial(syne_tune, kde=True),
    }


def _searches() -> dict[str, Search]:
    """Our searches."""
    bohb = hyperband(SPACE, PLAN, sampler=kde_sampler(SPACE))
    return {
        "jaxnas: BOHB": bohb,
        "jaxnas: bohb_plus": presets.bohb_plus(SPACE, LEVELS),
        "jaxnas: Hyperband": hyperband(SPACE, PLAN),
        "jaxnas: DEHB": dehb(SPACE, PLAN),
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


def _architectures(search: PeerSearch, num: int) -> Callable[[], None]:
    """A function that makes the steps of a search until so many new architectures."""
    training: Training | None = None

    def call() -> None:
        nonlocal training
        training = training or search.ask()
        begun = 0
        while begun < num:
            search.tell(_score(training.arch))
            training = search.ask()
            begun += not training.start

    return call
