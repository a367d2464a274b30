"""Asynchronous workers compared with batches in Bayesian optimisation.

    python -m experiments.workers
    python -m experiments.workers --benchmark nb201 --dataset cifar100 --split valid
        --epochs 12 --seeds 100 --base-seed 1000

Every Gaussian process runs with simulated workers, each of which gets the next architecture
as soon as it is free, given predicted scores of the architectures in flight (kriging
believer); and with batches, one architecture for each worker, all of which finish before
the next batch. Both make the same number of evaluations. Costs are the table's, or drawn
log-uniformly from 0.1 to 1 for each architecture of a table without costs. Prints and
writes to --out workers.csv the mean regret with its standard error, the paired difference,
and the simulated time. Finished chunks of runs are kept in --out; methods and seeds can be
added.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial
from rich.console import Console

from jaxnas import metrics
from jaxnas.benchmarks.base import Benchmark, true_scores
from jaxnas.io import files
from jaxnas.search import loop
from jaxnas.search.base import Search
from jaxnas.studies import cli, seed_store, terminal
from jaxnas.studies.comparison import methods, opened, settings
from jaxnas.types import Array, Query, Result


@dataclass(frozen=True)
class Config(settings.Config):
    """What to compare, on which numbers."""

    methods: tuple[str, ...] = ("gp-tw", "gp-tw2g", "gp-tw2g-plus")
    """Which Gaussian processes: gp-tw, gp-tw2g, gp-tw2g-plus, or those that tw_sequential
    has besides."""
    workers: int = 4
    """Workers, and architectures in a batch."""
    seeds: int = 100
    """Independent runs of each method."""
    at: tuple[int, ...] = (40, 100, 200)
    """Evaluations after which the regret is read off."""
    out: str = "results/workers"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison, chunk by chunk.

    Returns: regret (seeds, evaluations) in percent and time (seeds,), by
      `METHOD-workers/NAME` and `METHOD-batches/NAME`; with methods of earlier calls in
      the folder that have the same number of seeds.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    cli.positive(config, "evaluations", "workers", "seeds", "chunk")
    cli.at_most(config, workers=1000)
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
    folder = seed_store.open_folder(config.out, _identity(config, table.sha256))
    searches = {
        f"{name}-{way}": _search(config, table.benchmark, name, size)
        for name in config.methods
        for way, size in (("workers", 1), ("batches", config.workers))
    }

    def simulate(label: str, seeds: np.ndarray) -> dict[str, np.ndarray]:
        together = label.endswith("-batches")
        return _run(config, table.benchmark, searches[label], together, seeds)

    runs = seed_store.run_chunks(
        folder,
        list(searches),
        config.seeds,
        simulate,
        chunk=config.chunk,
        work=(most, "evaluation"),
    )
    runs |= seed_store.other_results(folder, list(searches), config.seeds)
    results = {f"{m}/{n}": a for m, run in runs.items() for n, a in run.items()}
    _show(config, results, table.part)
    return results


def _identity(config: Config, table_sha256: str) -> dict[str, Any]:
    """All that a run depends on besides method and seed, as JSON values by name."""
    free = ("out", "methods", "seeds", "at", "chunk")
    identity = {n: v for n, v in asdict(config).items() if n not in free}
    return identity | {"driver": "workers", "table_sha256": table_sha256}


def _search(config: Config, benchmark: Benchmark, name: str, batch: int) -> Search:
    """A method that asks for `batch` architectures in a step."""
    terms = methods.Terms(
        evaluations=config.evaluations,
        init=config.init,
        batch=batch,
        copies=opened.count_copies(config),
    )
    archs = np.asarray(benchmark.archs)
    return methods.METHODS[name](benchmark.space, archs, terms)


def _run(
    config: Config,
    benchmark: Benchmark,
    search: Search,
    together: bool,
    seeds: np.ndarray,
) -> dict[str, np.ndarray]:
    """Runs a search with simulated workers, or in batches.

    Args:
      config: the numbers of evaluations and of workers.
      benchmark: the table.
      search: which asks for one architecture in a step, or for one for each worker.
      together: whether the architectures of a step all finish before the next step.
      seeds: (k,) of the runs.

    Returns: `regret` (k, evaluations), in percent, and `time` (k,), the simulated time of
      the whole run.
    """
    evaluate = benchmark.evaluate
    if benchmark.cost_unit == "epochs":
        evaluate = Partial(_priced, benchmark)
    trace = loop.simulate(
        seed_store.seed_keys(config.base_seed, seeds),
        search,
        evaluate,
        config.evaluations // (config.workers if together else 1),
        workers=1 if together else config.workers,
    )
    score = np.asarray(true_scores(benchmark, trace.query.arch))
    regret = metrics.regret(score.reshape(len(seeds), -1), _best(benchmark))
    return {"regret": regret, "time": np.asarray(trace.time[:, -1].max(-1))}


def _best(benchmark: Benchmark) -> float:
    assert benchmark.optimum is not None
    return float(benchmark.optimum)


def _priced(benchmark: Benchmark, key: Array, query: Query) -> Result:
    """The benchmark with costs that differ by a factor of up to ten.

    Args:
      benchmark: whose costs are equal.
      key: of the evaluation.
      query: the architectures; each has the same cost in every run.
    """
    result = benchmark.evaluate(key, query)

    def price(arch: Array) -> Array:
        high, low = benchmark.space.identity(arch)
        key_of_arch = jax.random.fold_in(
            jax.random.fold_in(jax.random.key(0), high), low
        )
        return 10 ** -jax.random.uniform(key_of_arch)

    return result._replace(cost=(result.cost > 0) * jax.vmap(price)(query.arch))


def _show(config: Config, results: dict[str, np.ndarray], part: str) -> None:
    """Prints the table, and writes it to workers.csv.

    Args:
      config: after which evaluations.
      results: as `main` returns them.
      part: what the table has of its space, in words; empty for all.
    """
    rows = []
    finished = [label.removesuffix("/time") for label in results if "/time" in label]
    for name in [n.removesuffix("-workers") for n in finished if "-workers" in n]:
        if f"{name}-batches" not in finished:
            continue
        workers, batches = (
            results[f"{name}-{way}/regret"] for way in ("workers", "batches")
        )
        time = [results[f"{name}-{way}/time"].mean() for way in ("workers", "batches")]
        for at in config.at:
            one, other = workers[:, at - 1], batches[:, at - 1]
            cells = [
                f"{mean:.3f} ± {error:.3f}"
                for mean, error in map(metrics.mean_and_sem, (one, other, one - other))
            ]
            rows.append([name, str(at), *cells, f"{time[0] / time[1]:.2f}"])
    header = ["method", "after", f"{config.workers} workers", "batches", "difference"]
    header.append("time of all, ratio")
    files.write_csv(files.make_folder(config.out) / "workers.csv", header, rows)
    title = f"the table has {part}" if part else None
    terminal.show_rows(Console(), header, rows, title)


if __name__ == "__main__":
    cli.command(main, Config)
