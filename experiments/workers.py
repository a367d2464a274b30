"""Workers that get the next architecture as soon as they are free, against batches.

    python -m experiments.workers
    python -m experiments.workers --benchmark nb201 --dataset cifar100 --split valid
        --epochs 12 --seeds 100 --base-seed 1000

Every Gaussian process is run with simulated workers, which choose given predicted scores
of the architectures in flight (kriging believer), and with batches, one architecture for
each worker, which all have to finish before the next batch. Both make the same number of
evaluations. Costs are the table's; where it has none, they are drawn log-uniformly from
0.1 to 1 for each architecture. Prints and writes to --out workers.csv the mean
regret with its standard error, the paired difference, and the simulated time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import jax
import numpy as np
from jax.tree_util import Partial
from rich.console import Console

from jaxnas import metrics
from jaxnas.benchmarks.base import Benchmark, true_scores
from jaxnas.io import files, run_folder
from jaxnas.search import loop
from jaxnas.studies import cli, seed_store, terminal
from jaxnas.studies.comparison import methods, opened, settings
from jaxnas.types import Array, Query, Result


@dataclass(frozen=True)
class Config(settings.Config):
    """What to compare, on which numbers."""

    methods: tuple[str, ...] = ("gp-tw", "gp-tw2g", "gp-tw2g-plus")
    """Which Gaussian processes."""
    workers: int = 4
    """Workers, and architectures in a batch."""
    seeds: int = 100
    """Independent runs of each."""
    at: tuple[int, ...] = (40, 100, 200)
    """Evaluations after which the regret is read off."""
    out: str = "results/workers"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: regret (seeds, marks) and time (seeds,) by `METHOD/workers` and
      `METHOD/batches`.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    cli.positive(config, "evaluations", "workers")
    most = config.evaluations
    if most % config.workers or not config.at or not 1 <= min(config.at):
        raise ValueError(
            f"--evaluations {most} must be a multiple of --workers {config.workers}, and "
            f"--at numbers from 1, not {config.at}"
        )
    if max(config.at) > most:
        raise ValueError(f"--at must be at most --evaluations {most}, not {config.at}")
    methods.validate_methods(config.methods)
    table = opened.open_table(config)
    identity = {"driver": "workers", "table_sha256": table.sha256}
    identity |= {n: v for n, v in asdict(config).items() if n != "out"}
    folder = seed_store.open_folder(config.out, identity)
    results: dict[str, np.ndarray] = {}
    for name in config.methods:
        for kind, batch in (("workers", 1), ("batches", config.workers)):
            regret, time = _run(config, table.benchmark, name, batch)
            results[f"{name}/{kind}"] = regret
            results[f"{name}/{kind}/time"] = time
    run_folder.create(folder)
    _show(config, results)
    return results


def _run(
    config: Config, benchmark: Benchmark, name: str, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a method with simulated workers (batch 1), or in batches.

    Returns: the regret (seeds, marks) after the evaluations of `--at`, in percent, and
      the simulated time (seeds,) of the whole run.
    """
    terms = methods.Terms(
        evaluations=config.evaluations,
        init=config.init,
        batch=batch,
        copies=opened.count_copies(config),
    )
    archs = np.asarray(benchmark.archs)
    evaluate = benchmark.evaluate
    if benchmark.cost_unit == "epochs":
        evaluate = Partial(_priced, benchmark)
    trace = loop.simulate(
        seed_store.seed_keys(config.base_seed, np.arange(config.seeds)),
        methods.METHODS[name](benchmark.space, archs, terms),
        evaluate,
        config.evaluations // batch,
        workers=config.workers if batch == 1 else 1,
    )
    score = np.asarray(true_scores(benchmark, trace.query.arch))
    regret = metrics.regret(score.reshape(config.seeds, -1), _best(benchmark))
    return regret[:, np.array(config.at) - 1], np.asarray(trace.time[:, -1].max(-1))


def _best(benchmark: Benchmark) -> float:
    assert benchmark.optimum is not None
    return float(benchmark.optimum)


def _priced(benchmark: Benchmark, key: Array, query: Query) -> Result:
    """The benchmark with costs that differ by a factor of up to ten."""
    result = benchmark.evaluate(key, query)

    def price(arch: Array) -> Array:
        high, low = benchmark.space.identity(arch)
        key_of_arch = jax.random.fold_in(
            jax.random.fold_in(jax.random.key(0), high), low
        )
        return 10 ** -jax.random.uniform(key_of_arch)

    return result._replace(cost=(result.cost > 0) * jax.vmap(price)(query.arch))


def _show(config: Config, results: dict[str, np.ndarray]) -> None:
    rows = []
    for name in config.methods:
        ours, theirs = results[f"{name}/workers"], results[f"{name}/batches"]
        times = [
            results[f"{name}/{kind}/time"].mean() for kind in ("workers", "batches")
        ]
        for i, at in enumerate(config.at):
            columns = ours[:, i], theirs[:, i], ours[:, i] - theirs[:, i]
            cells = [
                f"{mean:.3f} ± {error:.3f}"
                for mean, error in map(metrics.mean_and_sem, columns)
            ]
            rows.append([name, str(at), *cells, f"{times[0] / times[1]:.2f}"])
    header = ["method", "after", f"{config.workers} workers", "batches", "difference"]
    header.append("time of all, ratio")
    files.write_csv(files.make_folder(config.out) / "workers.csv", header, rows)
    terminal.show_rows(Console(), header, rows)


if __name__ == "__main__":
    cli.command(main, Config)
