"""Search by scores of untrained networks, as in the Free-Training NAS project.

    python -m experiments.zero_cost_search
    python -m experiments.zero_cost_search --scores live_macs logranks --run mean
    python -m experiments.zero_cost_search --scores-from results/zero_cost_score/scores.npz

Random search, and aging evolution with and without warm-up, on every score and dataset:
the accuracy of the best-scored cell after 500 visits. Without the stored scores, which
JAXNAS_SHARED has, the searches are on your own scores of all cells, files of
zero_cost_score, and on counts of MACs; accuracies are then those of the embedded table,
or of the table file that --benchmark names.

The table shows them beside the published results and the expected ones: exact for random
search, otherwise from 300 independent runs of the published algorithm, if JAXNAS_SHARED
has them. Seconds are counted twice: as the project does, where a score is computed anew
at every lookup, and as they are spent if each cell is scored once.

Takes 3 minutes on two busy cores for all 45 results of 300 runs. Writes results.npz and
table.csv to --out. Every run can be killed and started again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

import jaxnas
from experiments.zero_cost import reference_search, score_columns, search_results
from experiments.zero_cost.score_columns import Score
from jaxnas.benchmarks import named, table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import npz
from jaxnas.io.run_folder import RunFolder
from jaxnas.spaces import nasbench201
from jaxnas.studies import cli, seed_store

VISITS, POPULATION = 500, 64
PUBLISHED = ("val12", "hook_logdet", "synflow", "snip", "combined")
ALGORITHMS = {
    "random": reference_search.random_scores,
    "aging": reference_search.evolution,
    "aging-warmup": functools.partial(reference_search.evolution, warmup=128),
}


@dataclass(frozen=True)
class Config:
    """On which scores, and how often."""

    benchmark: str | None = None
    """Table of accuracies of all cells of NAS-Bench-201: zerocost, analog, or a table file,
    which may hold scores too. Default: zerocost where JAXNAS_SHARED has it, else analog,
    which is embedded."""
    scores_from: tuple[str, ...] = ()
    """Files of zero_cost_score, with scores of all cells; their scores WHAT on images OF
    are called WHAT@OF."""
    datasets: tuple[str, ...] = ()
    """Datasets of the accuracies; default: cifar10, cifar100 and ImageNet16-120, as far as
    the table has them."""
    scores: tuple[str, ...] = ()
    """Which scores: score_columns.py explains the names. Default: those of --scores-from,
    else the published ones available."""
    algorithms: tuple[str, ...] = tuple(ALGORITHMS)
    """Which searches: random, aging (evolution), aging-warmup."""
    run: str | None = None
    """Accuracy to report: one, of one run as in the published tables, or mean; default: one
    where the table has it."""
    seeds: int = 300
    """Independent runs of each search."""
    visits: int = VISITS
    """Cells that a run visits."""
    base_seed: int = 0
    """Run i draws from (base_seed, i)."""
    chunk: int = 300
    """Runs between two saves."""
    out: str = "results/zero_cost_search"
    """Folder for the results."""


class Inputs(NamedTuple):
    """Opened and validated inputs of the searches."""

    benchmark: str
    table: BenchmarkTable
    scores: dict[tuple[str, str], Score]  # to search by: by dataset and name
    available: dict[tuple[str, str], Score]  # all that the tables have
    accuracy: dict[str, np.ndarray]  # by dataset: (n,) percent
    one_run: bool  # whether they are of one run, as published
    digests: dict[str, str]  # of the tables, by setting


def main(config: Config) -> list[search_results.SearchResult]:
    """Runs all searches and writes results.npz and table.csv.

    Returns: a result for each dataset, score and algorithm.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    cli.positive(config, "seeds", "visits", "chunk")
    cli.at_most(config, seeds=1_000_000, visits=1_000_000)
    if config.visits < POPULATION:
        raise ValueError(f"--visits must be at least {POPULATION}, not {config.visits}")
    cli.seed(config)
    cli.require_names(config.algorithms, ALGORITHMS, "search")
    inputs = _open(config)
    folder = seed_store.open_folder(config.out, _settings(config, inputs))
    keys = {
        ".".join((*key, algorithm)): (*key, algorithm)
        for key in inputs.scores
        for algorithm in config.algorithms
    }
    runs = _run(config, folder, inputs, keys)
    others = seed_store.other_results(folder, list(keys), config.seeds)
    for label in others:
        if key := _key(label, inputs):
            keys[label], runs[label] = key, others[label]
    # The published results are of 500 visits, and of the accuracy of one run.
    as_published = config.visits == VISITS and inputs.one_run
    references = search_results.published() if as_published else {}
    results = [
        search_results.summarise(
            key, run, inputs.available[key[:2]], inputs.accuracy[key[0]], references
        )
        for key, run in ((keys[label], run) for label, run in runs.items())
    ]
    arrays = {f"{m}/{name}": a for m, r in runs.items() for name, a in r.items()}
    npz.save_arrays(folder.path / "results.npz", arrays, {"settings": folder.identity})
    search_results.write_csv(folder.path / "table.csv", results)
    console = Console()
    search_results.show(console, results)
    written = "results.npz, table.csv"
    console.print(f"{folder.path}: {written}", highlight=False, soft_wrap=True)
    return results


def _open(config: Config) -> Inputs:
    """Opens the tables and chooses datasets and scores."""
    benchmark, table = score_columns.open_accuracies(config.benchmark)
    score_tables = [named.open_table(path) for path in config.scores_from]
    for path, other in zip(config.scores_from, score_tables, strict=True):
        if len(other.arch) < len(table.arch):
            raise ValueError(
                f"{path} has scores of {len(other.arch):,} of {len(table.arch):,} "
                "cells, and a search may visit any: score all of them with "
                "zero_cost_score, without --cells"
            )
    names, scores, available, accuracy = config.scores, {}, {}, {}
    one_run = True
    chosen = score_columns.datasets(table, config.datasets)
    for dataset in score_columns.datasets(table, ()):
        columns = score_columns.gather(table, dataset, score_tables)
        available |= {(dataset, n): _without_ties(n, c) for n, c in columns.items()}
        column, accuracy[dataset] = score_columns.accuracy(table, dataset, config.run)
        if dataset in chosen:
            names = names or score_columns.default_scores(PUBLISHED, columns)
            for name in cli.require_names(names, columns, "score"):
                scores[dataset, name] = available[dataset, name]
            one_run &= "-one-run/" in column
    digests = _digests(table, score_tables)
    return Inputs(benchmark, table, scores, available, accuracy, one_run, digests)


def _key(label: str, inputs: Inputs) -> tuple[str, str, str] | None:
    """Dataset, score and algorithm of a label; None if the tables lack the score."""
    for dataset, name in inputs.available:
        for algorithm in ALGORITHMS:
            if label == f"{dataset}.{name}.{algorithm}":
                return dataset, name, algorithm
    return None


def _digests(
    table: BenchmarkTable, score_tables: Sequence[BenchmarkTable]
) -> dict[str, str]:
    digests = {"table_sha256": table.manifest["sha256"]}
    if score_tables:
        digests["scores_sha256"] = ", ".join(map(table_files.digest, score_tables))
    return digests


def _settings(config: Config, inputs: Inputs) -> dict[str, Any]:
    """All that the runs of a folder depend on, by name."""
    free = ("out", "chunk", "seeds", "datasets", "scores", "scores_from", "algorithms")
    kept = {n: v for n, v in dataclasses.asdict(config).items() if n not in free}
    kept |= {"benchmark": inputs.benchmark, "run": "one" if inputs.one_run else "mean"}
    kept["driver"] = "zero_cost_search"
    made_by = f"jaxnas {jaxnas.__version__}, jax {jax.__version__}"
    made_by += f" on {jax.default_backend()}"
    return kept | inputs.digests | {"made_by": made_by}


def _run(
    config: Config,
    folder: RunFolder,
    inputs: Inputs,
    keys: dict[str, tuple[str, str, str]],
) -> dict[str, dict[str, np.ndarray]]:
    """Runs what is missing: the fields of `ScoreRun` by label, runs along the first axis.

    Args:
      config: the numbers of runs, visits, and runs between two saves.
      folder: where finished runs are kept.
      inputs: tables of scores.
      keys: dataset, score and algorithm, by label.
    """
    landscapes = {
        key: reference_search.fitness_landscape(
            nasbench201.SPACE, inputs.table.arch, *score
        )
        for key, score in inputs.scores.items()
    }

    def simulate(label: str, seeds: np.ndarray) -> dict[str, jax.Array]:
        dataset, score, algorithm = keys[label]
        seed_keys = seed_store.seed_keys(config.base_seed, seeds)
        runs = _many(seed_keys, landscapes[dataset, score], algorithm, config.visits)
        return runs._asdict()

    return seed_store.run_chunks(
        folder,
        list(keys),
        config.seeds,
        simulate,
        chunk=config.chunk,
        work=(config.visits, "evaluation"),
    )


def _without_ties(name: str, score: Score) -> Score:
    """Breaks ties of val12: of cells with the same value the first is the best.

    In the project's files they differ in the last digits of a division, which no table
    has. On CIFAR-100 two cells share the best one; the first of them is the best there.
    """
    if name != "val12":
        return score
    later = 1e-9 * np.arange(len(score.value))
    return score._replace(value=score.value - later)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _many(
    keys: jax.Array,
    landscape: reference_search.FitnessLandscape,
    algorithm: str,
    visits: int,
) -> reference_search.ScoreRun:
    """Independent runs of one algorithm, one for each key."""
    search = functools.partial(ALGORITHMS[algorithm], visits=visits)
    return jax.vmap(search, (0, None))(keys, landscape)


if __name__ == "__main__":
    cli.command(main, Config)
