"""Runs of searches on a table, chunk by chunk, and the files that they end in."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import jaxnas
from jaxnas import metrics, types
from jaxnas.benchmarks.base import Benchmark
from jaxnas.io import npz
from jaxnas.io.run_folder import RunFolder
from jaxnas.search import loop
from jaxnas.search.base import Search
from jaxnas.studies import seed_store
from jaxnas.studies.comparison import lengths, methods, summary
from jaxnas.studies.comparison.opened import Opened
from jaxnas.studies.comparison.outcome import Outcome
from jaxnas.studies.comparison.settings import Config
from jaxnas.types import Trace


def open_folder(
    config: Config,
    opened: Opened,
    *,
    driver: str,
    free: Sequence[str],
    digests: Mapping[str, str] | None = None,
) -> RunFolder:
    """Checks that the runs of a comparison can be kept in `config.out`; writes nothing.

    Args:
      config: on which numbers, how long, and the folder.
      opened: the table of `config`.
      driver: the name of the experiment.
      free: fields of `config` on which no single run depends.
      digests: sha256, by name, of further tables that the searches use.

    Raises: `ValueError` if the folder belongs to other settings or cannot be used.
    """
    added = {"driver": driver, "table_sha256": opened.sha256, **(digests or {})}
    return seed_store.open_folder(config.out, _identity(config, free, added))


def run(
    config: Config,
    opened: Opened,
    folder: RunFolder,
    searches: Mapping[str, Search],
    known: Collection[str] = tuple(methods.METHODS),
    peers: Mapping[str, Callable[[np.ndarray], Trace]] | None = None,
    costs: Sequence[float] = (),
    *,
    workers: int = 1,
) -> Outcome:
    """Runs the searches, chunk by chunk, and writes results.npz and the csv files.

    Finished runs of other searches in the folder, from an earlier call, stay in the files
    and in the result if they are as long; methods with fewer runs are named.

    Args:
      config: on which numbers and how long.
      opened: the table of `config`.
      folder: as `open_folder` gives it.
      searches: by the labels of their results.
      known: the methods of the comparison, whose order is that of the results; other
        searches follow.
      peers: further searches by the labels of their results, as functions of seeds (s,)
        that return the trace of as many runs; they can ask for all of the table.
      costs: at which the results are summarised besides an even grid.
      workers: simulated workers of each run of `searches`.

    Raises: `ValueError` for sizes that a search cannot have, before anything is written,
      and after the runs if the budget paid for none of their evaluations.
    """
    peers = peers or {}
    labels = (*searches, *peers)
    steps = {
        label: _steps(config, search, opened.benchmark)
        for label, search in searches.items()
    }

    def simulate(label: str, seeds: np.ndarray) -> dict[str, Any]:
        begin = time.perf_counter()
        if label in peers:
            reachable, trace = float(opened.truth.max()), peers[label](seeds)
        else:
            keys = seed_store.seed_keys(config.base_seed, seeds)
            search, given = searches[label], (opened.benchmark, steps[label])
            reachable = opened.reachable(search)
            options = {"budget": config.budget, "workers": workers}
            trace = loop.simulate(keys, search, *given, **options)
        trace = jax.block_until_ready(trace)
        seconds = time.perf_counter() - begin
        return _arrays(config, opened, reachable, trace, seconds)

    adapt = functools.partial(lengths.as_long, config, workers=workers)
    runs = seed_store.run_chunks(
        folder,
        labels,
        config.seeds,
        simulate,
        chunk=config.chunk,
        work=(config.evaluations, "evaluation"),
        adapt=adapt,
        replaces=lengths.is_longer,
    )
    runs |= seed_store.other_results(folder, labels, config.seeds, adapt, least=1)
    order = methods.positions(runs, known)
    runs = {label: runs[label] for label in sorted(runs, key=lambda n: order[n])}
    index = {n: order[n][0] for n in runs}
    return _written(opened, folder, runs, index, costs)


def _arrays(
    config: Config, opened: Opened, reachable: float, trace: Trace, seconds: float
) -> dict[str, Any]:
    """The arrays of a chunk of runs.

    Args:
      config: how long the runs are.
      opened: the table.
      reachable: best truth that the search can reach.
      trace: of the runs.
      seconds: that they took.

    Returns: score (NaN before the last epoch), row (the table row; -1 in an idle slot),
      cost and asked, each (seeds, evaluations) with idle slots among them; and, once for
      each seed (seeds,), the budget, the best truth that the search can reach, and the
      seconds of the search itself for each evaluation: reading the table takes none.
    """
    num = len(trace.score)
    asked = types.asked(trace.query)
    row = np.where(asked, opened.rows(trace.query.arch), -1)
    # Only networks that were trained to the end can be the incumbent.
    complete = np.asarray(trace.query.epoch) >= opened.benchmark.epochs
    score = np.where(complete, trace.score, np.nan)
    kept = {"score": score, "row": row, "cost": trace.cost, "asked": asked}
    flat = {n: x.reshape(num, -1)[:, : config.evaluations] for n, x in kept.items()}
    overhead = seconds / max(int(asked.sum()), 1)
    one = {
        "budget": lengths.limit_of(config),
        "reachable": reachable,
        "overhead": overhead,
    }
    return flat | {name: np.full(num, value) for name, value in one.items()}


def _written(
    opened: Opened,
    folder: RunFolder,
    runs: Mapping[str, dict[str, np.ndarray]],
    index: dict[str, int],
    at: Sequence[float],
) -> Outcome:
    """Summarises the runs by evaluation and by cost, and writes both.

    Args:
      opened: the table.
      folder: where the files are written.
      runs: by label, as `_arrays` gives them.
      index: of the method of each label, among all methods.
      at: costs that are budgets besides those of `metrics.cost_grid`.
    """
    reachable = {label: float(r["reachable"][0]) for label, r in runs.items()}
    overhead = {label: float(r["overhead"].mean()) for label, r in runs.items()}
    runs = {label: _compact(r) for label, r in runs.items()}

    def summaries_of(**budgets: np.ndarray) -> dict[str, summary.Summary]:
        return {
            label: summary.summarise(
                r["score"],
                _read(opened.truth, r["row"]),
                _read(opened.reported, r["row"]),
                float(opened.truth.max()),
                reachable=reachable[label],
                cost=r["cost"],
                **budgets,
            )
            for label, r in runs.items()
        }

    costs = np.concatenate([r["cost"] for r in runs.values()])
    if not np.nansum(costs) > 0:
        raise ValueError(
            "--budget paid for none of the evaluations that the searches asked for: "
            "wanted a larger one"
        )
    grid = np.union1d(metrics.cost_grid(costs), at)
    done = Outcome(
        arrays={f"{m}/{name}": a for m, r in runs.items() for name, a in r.items()},
        summaries=summaries_of(),
        by_cost=summaries_of(budgets=grid),
        grid=grid,
        unit=opened.benchmark.cost_unit,
        folder=folder,
        fed_back=opened.fed_back_name,
        reported=opened.reported_name,
        optimum=100 - float(opened.reported.max()),
        overhead=overhead,
        index=index,
        part=opened.part,
    )
    names = {"fed_back": done.fed_back, "reported": done.reported}
    manifest = {"settings": folder.identity} | names
    npz.save_arrays(folder.path / "results.npz", done.arrays, manifest)
    summary.write_csv(folder.path / "table.csv", done.summaries)
    summary.write_cost_csv(folder.path / "table_by_cost.csv", done.by_cost, grid)
    summary.write_overhead(folder.path / "overhead.csv", overhead)
    return done


def _steps(config: Config, search: Search, evaluate: Benchmark) -> int:
    """The steps of a run, for as many evaluations as the config has.

    The run is traced once, so that sizes that a search cannot have are refused here.

    Raises: `ValueError` that names `--evaluations`.
    """
    key = jax.random.key(0)

    def run(key: jax.Array, steps: int) -> jax.Array:
        return loop.run(key, search, evaluate, steps)[1].score

    batch = jax.eval_shape(lambda key: run(key, 1), key).shape[-1]
    steps = -(-config.evaluations // batch)
    try:
        jax.eval_shape(lambda key: run(key, steps), key)
    except ValueError as error:
        raise ValueError(f"--evaluations {config.evaluations}: {error}") from None
    return steps


def _read(column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Reads a column (n,) at table rows (seeds, t); NaN where the row is -1."""
    return np.where(row < 0, np.nan, column[row])


def _compact(runs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Moves evaluations to the front: arrays (seeds, t) without idle slots.

    Args:
      runs: of one search, as `_arrays` gives them.

    Returns: seed (seeds,), and score, row and cost (seeds, t), with NaN, -1 and NaN after
      the last evaluation of a run.
    """
    given = runs["asked"], runs["score"], runs["row"], runs["cost"]
    score, row, cost = metrics.compact(*given)
    row = np.where(np.isnan(row), -1, row).astype(np.int32)
    return {"seed": runs["seed"], "score": score, "row": row, "cost": cost}


def _identity(config: Config, free: Sequence[str], added: dict[str, str]) -> dict:
    """The identity of a folder: all that its runs depend on, as JSON values.

    Args:
      config: the settings.
      free: further fields of `config` on which no single run depends.
      added: the name of the experiment, and sha256 of the tables.
    """
    # A run depends on its own seed alone, and a longer run begins with the same bits.
    free = ("out", "chunk", "seeds", "evaluations", "budget", *free)
    kept = {n: v for n, v in dataclasses.asdict(config).items() if n not in free}
    made_by = f"jaxnas {jaxnas.__version__}, jax {jax.__version__}"
    made_by += f" on {jax.default_backend()}"
    return kept | added | {"made_by": made_by}
