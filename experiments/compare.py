"""A comparison of searches on a table: what drivers of such comparisons share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

import jaxnas
from experiments import chunks, plots, report, settings
from jaxnas import checkpoints
from jaxnas.benchmarks import sources, tabular
from jaxnas.kernels.distances import Parts
from jaxnas.search import loop
from jaxnas.search.base import Search
from jaxnas.spaces import nasbench101, nasbench201
from jaxnas.spaces.base import Space
from jaxnas.types import Evaluate

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
    """Evaluations of each run."""
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


class Outcome(NamedTuple):
    """What all runs came to."""

    arrays: dict[str, np.ndarray]  # as they are in results.npz
    summaries: dict[str, report.Summary]
    folder: chunks.Folder
    fed_back: str  # which number
    reported: str  # which number
    optimum: float  # percent error reported of the best architecture


def run(
    config: Config,
    labels: Sequence[str],
    make: Callable[[str, Space, np.ndarray], Search],
    free: Sequence[str],
) -> Outcome:
    """Runs the searches, chunk by chunk, and writes results.npz and table.csv.

    Args:
      labels: names of the searches, in order.
      make: (label, space, architectures of the table (n, d)) -> the search.
      free: fields of `config` on which no single run depends.

    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    settings.positive(config, "seeds", "evaluations", "init", "chunk")
    if config.seeds >= 2**31:
        raise ValueError(f"--seeds must be below 2^31, not {config.seeds}")
    if config.init > config.evaluations:
        raise ValueError(
            f"--init must be at most --evaluations = {config.evaluations}, "
            f"not {config.init}"
        )
    settings.seed(config)
    table = sources.open_table(config.benchmark)
    if table.space not in SPACES:
        raise ValueError(
            f"table {table.name} is of the space {table.space!r}: wanted one of "
            f"{', '.join(SPACES)}"
        )
    space = tabular.space_of(table, SPACES[table.space])
    if config.evaluations > len(table.arch):
        raise ValueError(
            f"--evaluations must be at most the {len(table.arch)} architectures of "
            f"{table.name}, not {config.evaluations}"
        )
    fed, told = _numbers(config)
    seen = fed | ({"seed": "mean"} if config.run == "random" else {})
    truth = tabular.column(table, **seen)[:, 0]
    other = tabular.column(table, **told)[:, 0]
    digests = {"table_sha256": table.manifest["sha256"]} | config.other_tables()
    described = _identity(config, free, digests)
    folder = chunks.open_folder(config.out, described)

    feedback = tabular.tabular(space, table, **fed)
    evaluate = tabular.evaluator(space, feedback)
    searches = {label: make(label, space, table.arch) for label in labels}
    steps = {label: _steps(config, searches[label], evaluate) for label in labels}

    def simulate(label: str, seeds: np.ndarray) -> dict[str, jax.Array]:
        keys = chunks.seed_keys(config.base_seed, seeds)
        search = searches[label]
        trace = loop.simulate(keys, search, evaluate, steps[label])
        archs = trace.query.arch.reshape(len(seeds), -1, len(space.choices))
        score = trace.score.reshape(len(seeds), -1)
        row = tabular.rows(space, feedback, archs)
        return {
            "score": score[:, : config.evaluations],
            "row": row[:, : config.evaluations],
        }

    runs = chunks.run_chunks(
        folder,
        labels,
        config.seeds,
        simulate,
        chunk=config.chunk,
        evaluations=config.evaluations,
    )
    optimum = float(truth.max())
    summaries = {
        label: report.summarise(
            r["score"], _read(truth, r["row"]), _read(other, r["row"]), optimum
        )
        for label, r in runs.items()
    }
    names = tabular.describe(table, **fed), tabular.describe(table, **told)
    arrays = {f"{m}/{name}": a for m, r in runs.items() for name, a in r.items()}
    manifest = {"settings": folder.settings, "fed_back": names[0], "reported": names[1]}
    checkpoints.save_arrays(folder.path / "results.npz", arrays, manifest)
    report.write_csv(folder.path / "table.csv", summaries)
    return Outcome(arrays, summaries, folder, *names, 100 - float(other.max()))


def show(config: Config, done: Outcome, batch: Mapping[str, int] | None = None) -> None:
    """Draws curves.png and prints the tables; `batch` as for `plots.search_curves`."""
    of = report.which_numbers(done.fed_back, done.reported)
    plots.search_curves(
        done.folder.path / "curves.png",
        {label: s.reported for label, s in done.summaries.items()},
        {label: s.regret for label, s in done.summaries.items()},
        title=f"{of}; mean of {config.seeds} runs",
        reported_label="reported error of the best cell so far, %",
        regret_label="fed-back error above the best of all cells, %",
        optimum=done.optimum,
        batch=batch,
    )
    console = Console()
    report.show(console, done.summaries, done.fed_back, done.reported)
    written = "results.npz, table.csv, curves.png"
    console.print(f"{done.folder.path}: {written}", highlight=False, soft_wrap=True)


def _steps(config: Config, search: Search, evaluate: Evaluate) -> int:
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


def _identity(config: Config, free: Sequence[str], digests: dict[str, str]) -> dict:
    """All that the runs depend on: a folder holds runs of one kind."""
    # More seeds in the folder of fewer are computed beside those that are there.
    free = ("out", "chunk", "seeds", *free)
    kept = {n: v for n, v in dataclasses.asdict(config).items() if n not in free}
    made_by = f"jaxnas {jaxnas.__version__}, jax {jax.__version__}"
    made_by += f" on {jax.default_backend()}"
    return kept | digests | {"made_by": made_by}
