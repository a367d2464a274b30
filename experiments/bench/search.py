"""Time of a step of Bayesian optimisation over all cells, against scikit-learn."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np

from experiments.bench import peers, timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from jaxnas.benchmarks import named, tabular
from jaxnas.kernels import feature_maps
from jaxnas.predictors import pool as pools
from jaxnas.search import loop
from jaxnas.search.base import Search
from jaxnas.search.gp import pool_search
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.types import Evaluate, Trace


def search(config: Config) -> list[Measurement]:
    """Times an evaluation of Gaussian-process search over all cells, fits included.

    Args:
      config: the n-grams of the distance, and the sizes of the search.

    Returns: four rows for each n, in milliseconds an evaluation.
    """
    table = named.open_table("analog")
    which = {"dataset": "cifar10", "split": "test", "epochs": 200, "seed": "mean"}
    evaluate = tabular.tabular_benchmark(SPACE, table, **which).evaluate
    rows = []
    for n in config.ngrams:
        feature = feature_maps.tree_wasserstein_features(SPACE, n)
        pool = pools.make_pool(SPACE, [feature], arch=table.arch[: config.candidates])
        with timing.one_core():
            rows += _one_pool(config, n, pool, evaluate)
    return rows


def _one_pool(
    config: Config, n: int, pool: pools.Pool, evaluate: Evaluate
) -> list[Measurement]:
    """Times one search of jaxnas and of scikit-learn, after the random evaluations.

    Args:
      config: the sizes of the search.
      n: of the n-grams, for the titles and the keys.
      pool: the candidates and their embeddings.
      evaluate: the benchmark.

    Returns: jaxnas; scikit-learn with a fit in each step; with as many fits as jaxnas; and
      with these over distinct embeddings alone.
    """
    algorithm = pool_search.bayesopt(pool, init=config.init)
    # Two first calls, by themselves and of the rounds, and one for each round.
    shape = (config.repeats + 2, config.runs)
    keys = iter(jax.random.split(jax.random.key(n), shape))
    one_device, traces = jax.devices()[:1], []

    def ours() -> None:
        key, steps = next(keys), config.evaluations
        trace = loop.simulate(key, algorithm, evaluate, steps, devices=one_device)
        traces.append(jax.block_until_ready(trace))

    first, _ = timing.once(ours)
    times = timing.in_turn(
        {"ours": ours, **_peer_steps(config, pool, traces[0])}, config.repeats
    )
    full, kept, distinct = (
        timing.mean([times[f"{name} {t}"] for t in config.at]).scaled(1e3)
        for name in ("full", "kept", "distinct")
    )
    learned = config.evaluations - config.init
    fits = num_fits(algorithm, config.evaluations)
    rarely = timing.plus(kept, timing.plus(full, kept, -1.0), fits / learned)
    fewest = timing.plus(distinct, timing.plus(full, kept, -1.0), fits / learned)
    mine = times["ours"]._replace(first=first).scaled(1e3 / learned / config.runs)
    at = ", ".join(map(str, config.at))
    size, different = len(pool.arch), pool.embeddings.parts[0].shape[1]
    return timing.compare(
        f"one evaluation of GP search over {size:,} cells, TW-{n}G, one core",
        "ms",
        {
            f"jaxnas, {config.evaluations} evaluations with {fits} fits": mine,
            f"scikit-learn, a fit each step, mean of n = {at}": full,
            "  with as many fits as jaxnas": rarely,
            f"  and over the {different:,} distinct embeddings": fewest,
        },
    )


def num_fits(algorithm: Search, evaluations: int) -> int:
    """Counts the fits of hyperparameters in a run of `bayesopt`."""
    fits, begin = 0, 0
    for end, every in algorithm.stages(evaluations):
        # The first stage is of random evaluations.
        fits += -(-(min(end, evaluations) - begin) // every) if begin else 0
        begin = end
    return fits


def _peer_steps(
    config: Config, pool: pools.Pool, trace: Trace
) -> dict[str, Callable[[], object]]:
    """Steps of a scikit-learn loop after the first evaluations of a run of jaxnas.

    `full t` fits at t observations, `kept t` has fitted hyperparameters, and `distinct t`
    moreover predicts once for equal embeddings.
    """
    index = jax.vmap(pools.index_of, (None, 0))(pool, trace.query.arch[0, :, 0])
    index = np.asarray(index)
    score = np.asarray(trace.score[0, :, 0], np.float64)
    parts = [np.asarray(p, np.float64).T for p in pool.embeddings.parts]
    cuts = np.cumsum([0] + [p.shape[1] for p in parts]).tolist()
    distinct, row = np.concatenate(parts, 1), np.asarray(pool.embeddings.column)
    cells, every = distinct[row], np.arange(len(row))
    prior = np.asarray(pool.prior.scales, np.float64)
    calls: dict[str, Callable[[], object]] = {}
    for t in config.at:
        seen = index[:t], score[:t]
        full = peers.regressor(prior, cuts)
        peers.search_step(full, cells, every, *seen)
        kept = peers.without_fit(full)
        models = {
            "full": (full, cells, every),
            "kept": (kept, cells, every),
            "distinct": (kept, distinct, row),
        }
        for name, given in models.items():
            calls[f"{name} {t}"] = functools.partial(peers.search_step, *given, *seen)
    return calls
