"""Search by scores of untrained networks, as in the Free-Training NAS project.

    python -m experiments.zero_cost_search
    python -m experiments.zero_cost_search --scores live_macs logranks --run mean

Random search, and aging evolution with and without warm-up, on every score and dataset:
the accuracy of the best-scored cell, after 500 visits. Beside it what is published, and
what is expected: exactly for random search, else from 300 independent runs of the
published algorithm, as far as JAXNAS_SHARED has them. Seconds are told as the project
counts them, where a score is computed anew at every look, and as they are spent if each
cell is scored once.

Takes 3 minutes on two busy cores for all 45 results of 300 runs. Writes results.npz and
table.csv to --out. Every run can be killed and started again.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import jax
import numpy as np
from rich.console import Console

import jaxnas
from experiments.zero_cost import reference_search, score_columns, tables
from jaxnas.benchmarks import named
from jaxnas.io import npz
from jaxnas.spaces import nasbench201
from jaxnas.studies import cli, seed_store

VISITS, POPULATION = 500, 64
ALGORITHMS = {
    "random": reference_search.random_scores,
    "aging": reference_search.evolution,
    "aging-warmup": functools.partial(reference_search.evolution, warmup=128),
}


@dataclass(frozen=True)
class Config:
    """On which scores, and how often."""

    benchmark: str = "zerocost"
    """zerocost, or a table file with scores of all cells of NAS-Bench-201."""
    datasets: tuple[str, ...] = ("cifar10", "cifar100", "ImageNet16-120")
    """Datasets of the scores and accuracies."""
    scores: tuple[str, ...] = ("val12", "hook_logdet", "synflow", "snip", "combined")
    """Which scores; all that there are: score_columns.py."""
    algorithms: tuple[str, ...] = tuple(ALGORITHMS)
    """Which searches."""
    run: str = "one"
    """Accuracy to report: one, of one run as in the published tables, or mean."""
    seeds: int = 300
    """Independent runs of each."""
    visits: int = VISITS
    """Cells that a run visits."""
    base_seed: int = 0
    """Run i draws from (base_seed, i)."""
    chunk: int = 300
    """Runs between two saves."""
    out: str = "results/zero_cost_search"
    """Folder for the results."""


def main(config: Config) -> list[tables.Row]:
    """Runs all searches and writes results.npz and table.csv.

    Returns: a row for each dataset, score and algorithm.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    cli.positive(config, "seeds", "visits", "chunk")
    if config.visits < POPULATION:
        raise ValueError(f"--visits must be at least {POPULATION}, not {config.visits}")
    cli.seed(config)
    score_columns.chosen(config.algorithms, ALGORITHMS, "search")
    score_columns.chosen(config.datasets, score_columns.IMAGES, "dataset")
    table = named.open_table(config.benchmark)
    accuracy, scores = {}, {}
    for dataset in config.datasets:
        there = score_columns.gather(table, dataset)
        for name in score_columns.chosen(config.scores, there, "score"):
            scores[dataset, name] = _without_ties(name, there[name])
        accuracy[dataset] = score_columns.accuracy(table, dataset, config.run)[1]

    free = ("out", "chunk", "seeds", "datasets", "scores", "algorithms")
    kept = {n: v for n, v in dataclasses.asdict(config).items() if n not in free}
    made_by = f"jaxnas {jaxnas.__version__}, jax {jax.__version__}"
    made_by += f" on {jax.default_backend()}"
    described = {"table_sha256": table.manifest["sha256"], "made_by": made_by}
    folder = seed_store.open_folder(config.out, kept | described)
    labels = {
        ".".join((*key, algorithm)): (*key, algorithm)
        for key in scores
        for algorithm in config.algorithms
    }
    prepared = {
        key: reference_search.score_table(nasbench201.SPACE, table.arch, *score)
        for key, score in scores.items()
    }

    def simulate(label: str, seeds: np.ndarray) -> dict[str, jax.Array]:
        dataset, score, algorithm = labels[label]
        keys = seed_store.seed_keys(config.base_seed, seeds)
        runs = _many(keys, prepared[dataset, score], algorithm, config.visits)
        return runs._asdict()

    runs = seed_store.run_chunks(
        folder,
        list(labels),
        config.seeds,
        simulate,
        chunk=config.chunk,
        evaluations=config.visits,
    )
    # What is known is of 500 visits, and of the accuracy of one run.
    as_published = config.visits == VISITS and config.run == "one"
    known = tables.published() if as_published else {}
    rows = [
        tables.row(key, run, scores[key[:2]], accuracy[key[0]], known)
        for key, run in zip(labels.values(), runs.values(), strict=True)
    ]
    arrays = {f"{m}/{name}": a for m, r in runs.items() for name, a in r.items()}
    npz.save_arrays(folder.path / "results.npz", arrays, {"settings": folder.identity})
    tables.write_csv(folder.path / "table.csv", rows)
    console = Console()
    tables.show(console, rows)
    written = "results.npz, table.csv"
    console.print(f"{folder.path}: {written}", highlight=False, soft_wrap=True)
    return rows


def _without_ties(name: str, score: score_columns.Score) -> score_columns.Score:
    """Of cells with one val12 the first is the best.

    In the project's files they differ in the last digits of a division, which no table
    has. On CIFAR-100 two cells share the best one; the first of them is the best there.
    """
    if name != "val12":
        return score
    later = 1e-9 * np.arange(len(score.value))
    return score._replace(value=score.value - later)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _many(
    keys: jax.Array, table: reference_search.ScoreTable, algorithm: str, visits: int
) -> reference_search.ScoreRun:
    search = functools.partial(ALGORITHMS[algorithm], visits=visits)
    return jax.vmap(search, (0, None))(keys, table)


if __name__ == "__main__":
    cli.command(main, Config)
