"""A comparison of searches on a table: what drivers of such comparisons share."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxnas
from jaxnas import metrics, types
from jaxnas.benchmarks import sources, tabular
from jaxnas.benchmarks.base import PERCENT, Benchmark
from jaxnas.io import npz
from jaxnas.io.run_folder import RunFolder
from jaxnas.kernels.feature_maps import Parts
from jaxnas.search import loop
from jaxnas.search.base import Search
from jaxnas.spaces import nasbench101, nasbench201
from jaxnas.spaces.base import Space
from jaxnas.studies import cli, seed_store
from jaxnas.studies.comparison import summary
from jaxnas.studies.comparison.outcome import Outcome
from jaxnas.types import Trace

SPACES = {s.name: s for s in (nasbench101.SPACE, nasbench201.SPACE)}


@dataclass(frozen=True)
class Config:
    """On which numbers, and how long."""

    benchmark: str = "analog"
    """analog, fashion or fashion-curves (embedded), nb201, nb101, zerocost, or a table
    file."""
    dataset: str = "cifar10"
    """Dataset whose accuracy is fed back to the search."""
    split: str = "test"
    """Split whose accuracy is fed back."""
    epochs: int = 200
    """Length of the training schedule whose accuracy is fed back."""
    run: str = "mean"
    """Training run that is fed back: mean, random, or an index."""
    report_dataset: str | None = None
    """Dataset to report, always by the mean of its runs; default: as fed back."""
    report_split: str | None = None
    """Split to report; default: as fed back."""
    report_epochs: int | None = None
    """Schedule to report; default: as fed back."""
    seeds: int = 50
    """Independent runs of each method."""
    evaluations: int = 200
    """Evaluations of each run; more of them, or a larger budget, make the runs of a folder
    longer."""
    budget: float | None = None
    """Largest total cost of a run, in the table's seconds (epochs where it has none); runs
    end there or after --evaluations."""
    copies: bool | None = None
    """Whether Gaussian processes take cells that compute the same function for different
    ones; default: only in a table file, not in the tables that have a name."""
    init: int = 10
    """Random evaluations at the start of a run; gp-tw2g-plus has 5."""
    base_seed: int = 0
    """Run i draws from (base_seed, i)."""
    chunk: int = 10
    """Runs between two saves."""
    out: str = "results"
    """Folder for the results."""

    def parts(self, space: Space) -> list[Parts]:
        """Of the distance of Gaussian processes, beside a method's own: none."""
        del space
        return []

    def other_tables(self) -> dict[str, str]:
        """The sha256 of tables that the searches know beside the benchmark: none."""
        return {}


class Opened(NamedTuple):
    """A table as a benchmark, and the columns by which its architectures are judged."""

    benchmark: Benchmark
    truth: np.ndarray  # (n,) percent by row: what is fed back, without noise
    other: np.ndarray  # (n,) percent by row: what is reported
    sha256: str
    fed_back: str  # which number
    reported: str  # which number

    def rows(self, archs: Any) -> np.ndarray:
        """Rows of the table (...) of architectures (..., d); -1 where it has none."""
        data = self.benchmark.evaluate.args[0]
        return np.asarray(tabular.rows(self.benchmark.space, data, jnp.asarray(archs)))


def run(
    config: Config,
    labels: Sequence[str],
    make: Callable[[str, Space, np.ndarray], Search],
    free: Sequence[str],
) -> Outcome:
    """Runs the searches, chunk by chunk, and writes results.npz and the csv files.

    Args:
      labels: names of the searches, in order.
      make: (label, space, architectures of the table (n, d)) -> the search.
      free: fields of `config` on which no single run depends.

    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    opened = _opened(config)
    benchmark = opened.benchmark
    digests = {"table_sha256": opened.sha256} | config.other_tables()
    folder = seed_store.open_folder(config.out, _identity(config, free, digests))
    archs = np.asarray(benchmark.archs)
    searches = {label: make(label, benchmark.space, archs) for label in labels}
    steps = {label: _steps(config, searches[label], benchmark) for label in labels}

    def simulate(label: str, seeds: np.ndarray) -> dict[str, Any]:
        keys = seed_store.seed_keys(config.base_seed, seeds)
        search, budget = searches[label], {"budget": config.budget}
        trace = loop.simulate(keys, search, benchmark, steps[label], **budget)
        return _arrays(config, opened, trace)

    runs = seed_store.run_chunks(
        folder,
        labels,
        config.seeds,
        simulate,
        chunk=config.chunk,
        evaluations=config.evaluations,
        adapt=functools.partial(_as_long, config),
    )
    runs = {label: _compact(r) for label, r in runs.items()}
    reachable = {label: _reachable(opened, searches[label]) for label in labels}
    return _written(opened, folder, runs, reachable)


def _opened(config: Config) -> Opened:
    cli.positive(config, "seeds", "evaluations", "init", "chunk")
    if config.seeds >= 2**31:
        raise ValueError(f"--seeds must be below 2^31, not {config.seeds}")
    if config.init > config.evaluations:
        raise ValueError(
            f"--init must be at most --evaluations = {config.evaluations}, "
            f"not {config.init}"
        )
    if config.budget is not None and not 0 < config.budget < math.inf:
        raise ValueError(f"--budget must be above 0, not {config.budget}")
    cli.seed(config)
    table = sources.open_table(config.benchmark)
    if table.space not in SPACES:
        raise ValueError(
            f"table {table.name} is of the space {table.space!r}: wanted one of "
            f"{', '.join(SPACES)}"
        )
    if config.evaluations > len(table.arch):
        raise ValueError(
            f"--evaluations must be at most the {len(table.arch)} architectures of "
            f"{table.name}, not {config.evaluations}"
        )
    fed, told = _numbers(config)
    benchmark = tabular.benchmark(SPACES[table.space], table, **fed)
    if benchmark.target != PERCENT:
        raise ValueError(
            f"comparisons are of accuracies in percent, not of {benchmark.target.name} "
            f"in {benchmark.target.unit}, as {table.name} has for {config.dataset}"
        )
    seen = fed | ({"seed": "mean"} if config.run == "random" else {})
    return Opened(
        benchmark,
        truth=tabular.column(table, **seen)[:, 0],
        other=tabular.column(table, **told)[:, 0],
        sha256=table.manifest["sha256"],
        fed_back=tabular.describe(table, **fed),
        reported=tabular.describe(table, **told),
    )


def _arrays(config: Config, opened: Opened, trace: Trace) -> dict[str, Any]:
    """The arrays (seeds, evaluations) that a chunk keeps, idle slots among them."""
    num = len(trace.score)
    asked = types.asked(trace.query)
    row = np.where(asked, opened.rows(trace.query.arch), -1)
    kept = {"score": trace.score, "row": row, "cost": trace.cost, "asked": asked}
    flat = {n: x.reshape(num, -1)[:, : config.evaluations] for n, x in kept.items()}
    return flat | {"budget": np.full(num, _limit(config))}


def _limit(config: Config) -> float:
    return math.inf if config.budget is None else config.budget


def _reachable(opened: Opened, search: Search) -> float:
    """The best truth of the architectures that a search can ask."""
    if search.candidates is None:
        return float(opened.truth.max())
    row = opened.rows(search.candidates)
    return float(opened.truth[row[row >= 0]].max())


def _written(
    opened: Opened,
    folder: RunFolder,
    runs: dict[str, dict[str, np.ndarray]],
    reachable: dict[str, float],
) -> Outcome:
    """Summarises the runs by evaluation and by cost, and writes both."""

    def summaries_of(**budgets: np.ndarray) -> dict[str, summary.Summary]:
        return {
            label: summary.summarise(
                r["score"],
                _read(opened.truth, r["row"]),
                _read(opened.other, r["row"]),
                float(opened.truth.max()),
                reachable=reachable[label],
                cost=r["cost"],
                **budgets,
            )
            for label, r in runs.items()
        }

    costs = np.concatenate([r["cost"] for r in runs.values()])
    if not np.nansum(costs) > 0:
        raise ValueError("--budget pays for no evaluation: wanted a larger one")
    grid = metrics.cost_grid(costs)
    done = Outcome(
        arrays={f"{m}/{name}": a for m, r in runs.items() for name, a in r.items()},
        summaries=summaries_of(),
        by_cost=summaries_of(budgets=grid),
        grid=grid,
        unit=opened.benchmark.cost_unit,
        folder=folder,
        fed_back=opened.fed_back,
        reported=opened.reported,
        optimum=100 - float(opened.other.max()),
    )
    names = {"fed_back": done.fed_back, "reported": done.reported}
    manifest = {"settings": folder.identity} | names
    npz.save_arrays(folder.path / "results.npz", done.arrays, manifest)
    summary.write_csv(folder.path / "table.csv", done.summaries)
    summary.write_cost_csv(folder.path / "table_by_cost.csv", done.by_cost, grid)
    return done


def _steps(config: Config, search: Search, evaluate: Benchmark) -> int:
    """Steps of a run; it is traced once, so that sizes which cannot be are refused."""
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


def _numbers(config: Config) -> tuple[dict, dict]:
    """Which number is fed back, and which is reported."""
    fed = {
        "dataset": config.dataset,
        "split": config.split,
        "epochs": config.epochs,
        "seed": int(config.run) if config.run.isdecimal() else config.run,
    }
    told = {
        "dataset": _first(config.report_dataset, config.dataset),
        "split": _first(config.report_split, config.split),
        "epochs": _first(config.report_epochs, config.epochs),
        "seed": "mean",
    }
    return fed, told


def _first(given: Any, default: Any) -> Any:
    return default if given is None else given


def _read(column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """A column (n,) at rows (seeds, t), NaN where an architecture has none."""
    return np.where(row < 0, np.nan, column[row])


def _as_long(
    config: Config, part: dict[str, np.ndarray]
) -> dict[str, np.ndarray] | None:
    """The evaluations of saved runs that are wanted; None if the runs were shorter."""
    score = part.get("score", np.zeros((0, 0)))
    same = "budget" in part and (part["budget"] == _limit(config)).all()
    if not same or score.ndim != 2 or score.shape[1] < config.evaluations:
        return None
    cut = {n: x[:, : config.evaluations] for n, x in part.items() if x.ndim == 2}
    return part | cut


def _compact(runs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays (seeds, t) of evaluations alone, without idle slots between them."""
    given = runs["asked"], runs["score"], runs["row"], runs["cost"]
    score, row, cost = metrics.compact(*given)
    row = np.where(np.isnan(row), -1, row).astype(np.int32)
    return {"seed": runs["seed"], "score": score, "row": row, "cost": cost}


def _identity(config: Config, free: Sequence[str], digests: dict[str, str]) -> dict:
    """All that the runs depend on: a folder holds runs of one kind."""
    # More seeds in the folder of fewer are computed beside those that are there, and runs
    # that are to be longer begin with the same bits.
    free = ("out", "chunk", "seeds", "evaluations", "budget", *free)
    kept = {n: v for n, v in dataclasses.asdict(config).items() if n not in free}
    made_by = f"jaxnas {jaxnas.__version__}, jax {jax.__version__}"
    made_by += f" on {jax.default_backend()}"
    return kept | digests | {"made_by": made_by}
