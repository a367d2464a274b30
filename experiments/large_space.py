"""Searches of a space that is too large for a pool, on synthetic objectives.

    python -m experiments.large_space --seeds 20 --base-seed 1000

Each run has an objective of its own: a sum of effects of positions and of pairs of
positions, the same for all searches. Takes about a minute and a half on one core, most
of it compilation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxnas import metrics
from jaxnas.benchmarks.synthetic import synthetic_benchmark
from jaxnas.kernels import feature_maps
from jaxnas.search import loop
from jaxnas.search.base import Search
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.gp.sampled_search import bayesopt_sampled
from jaxnas.search.presets import EXPLORE
from jaxnas.search.random import random_search
from jaxnas.spaces import base
from jaxnas.spaces.base import Space
from jaxnas.studies import cli, seed_store


@dataclass(frozen=True)
class Config:
    """Which space, and how long."""

    positions: int = 14
    """Positions of an architecture."""
    choices: int = 8
    """Choices at each position."""
    evaluations: int = 200
    """Evaluations of each run."""
    seeds: int = 20
    """Runs of each search, each with an objective of its own."""
    base_seed: int = 0
    """Run i draws from (base_seed, i)."""


SEARCHES: dict[str, Callable[[Space], Search]] = {
    "evolution": regularized_evolution,
    "random": random_search,
    "gp-hamming-sampled": lambda space: bayesopt_sampled(
        space, [feature_maps.hamming_features(space)]
    ),
    "gp-hamming-sampled-ucb": lambda space: bayesopt_sampled(
        space, [feature_maps.hamming_features(space)], select=EXPLORE
    ),
}


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs all searches and prints their results.

    Returns: the best score (seeds,) in percent of each run, by the name of the search.
    """
    cli.positive(config, "positions", "choices", "evaluations", "seeds")
    cli.at_most(config, positions=1000, choices=1000)
    cli.at_most(config, evaluations=100_000, seeds=100_000)
    cli.seed(config)
    space = base.product("large", (config.choices,) * config.positions)
    best, table = {}, Table(title=f"{space.size:,} architectures")
    titles = "best, %", "minus evolution", "first run, CPU s", "next, CPU s"
    for title in ("search", *titles):
        table.add_column(title, no_wrap=title == "search")
    for name, search in SEARCHES.items():
        best[name], seconds = _runs(config, space, search(space))
        ahead = best[name] - best["evolution"]
        times = f"{seconds[0]:.1f}", f"{np.median(seconds[1:] or [np.nan]):.1f}"
        table.add_row(name, _mean(best[name]), _mean(ahead), *times)
    Console().print(table)
    return best


def _runs(
    config: Config, space: Space, search: Search
) -> tuple[np.ndarray, list[float]]:
    """The best score (seeds,) of each run, and the CPU seconds that each took."""
    best, seconds = [], []
    keys = seed_store.seed_keys(config.base_seed, np.arange(config.seeds))
    for key in keys:
        key_objective, key_run = jax.random.split(key)
        benchmark = synthetic_benchmark(key_objective, space, noise=0.0)
        start, device = time.process_time(), jax.devices()[:1]
        trace = loop.simulate(
            key_run[None], search, benchmark, config.evaluations, devices=device
        )
        best.append(float(trace.score.max()))
        seconds.append(time.process_time() - start)
    return np.array(best), seconds


def _mean(values: np.ndarray) -> str:
    mean, error = metrics.mean_and_sem(values)
    return f"{float(mean):.2f} ± {float(error):.2f}"


if __name__ == "__main__":
    stopped = "interrupted: nothing is kept"
    cli.command(main, Config, interrupted=stopped, cores=cli.use_one_core)
