"""Time of a step of Bayesian optimisation with two objectives over all cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from jaxnas import pareto
from jaxnas.benchmarks import named, several, tabular
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.pareto import Objective
from jaxnas.search import loop, multi_objective, presets
from jaxnas.search.base import Search
from jaxnas.spaces.nasbench201 import SPACE

FRONT = 32
"""Points of the front over which improvements are timed alone."""


def objectives(config: Config) -> list[Measurement]:
    """Times an evaluation of a search with one and with two objectives, fits included.

    Args:
      config: the candidates, and the sizes of the search.

    Returns: four rows, in milliseconds: an evaluation with accuracy and parameters, one
      with accuracy alone, and over a front of 32 points the hypervolume improvement of the
      confidence bounds of all candidates, and their expected improvement.
    """
    table = named.open_table("analog")
    which = {"dataset": "cifar10", "split": "test", "epochs": 200, "seed": "mean"}
    accuracy = tabular.tabular_benchmark(SPACE, table, **which)
    size = counting.parameters(NetworkConfig(), table.arch) / 1e6
    cost = Objective("parameters", "millions", "minimise")
    benchmark = several.with_objectives(accuracy, {cost: size})
    archs = table.arch[: config.candidates]
    two = multi_objective.gp_pareto(
        SPACE, benchmark.objectives, archs, init=config.init
    )
    one = presets.gp_tw2g_plus(SPACE, archs, init=config.init, copies=True)
    learned = (config.evaluations - config.init) * config.runs
    exact = jax.jit(pareto.hypervolume_improvement)
    expected = jax.jit(pareto.expected_hypervolume_improvement)
    angle = jnp.linspace(0.0, np.pi / 2, FRONT)
    front = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
    normal = jax.random.normal(jax.random.key(0), (2, len(archs)))
    over = front, jnp.full(2, -0.1)

    def run(search: Search) -> None:
        keys = jax.random.split(jax.random.key(0), config.runs)
        steps, device = config.evaluations, jax.devices()[:1]
        jax.block_until_ready(
            loop.simulate(keys, search, benchmark, steps, devices=device)
        )

    std = jnp.full(normal.shape, 0.3)
    with timing.one_core():
        calls = {
            "two": lambda: run(two),
            "one": lambda: run(one),
            "exact": lambda: jax.block_until_ready(exact(normal, *over)),
            "expected": lambda: jax.block_until_ready(expected(normal, std, *over)),
        }
        times = timing.in_turn(calls, config.repeats)
    return timing.compare(
        f"one evaluation of GP search over {len(archs):,} cells, one core",
        "ms",
        {
            "two objectives": times["two"].scaled(1e3 / learned),
            "one objective": times["one"].scaled(1e3 / learned),
            f"hypervolume improvement, front of {FRONT}": times["exact"].scaled(1e3),
            "the same, expected": times["expected"].scaled(1e3),
        },
    )
