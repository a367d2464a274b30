"""Sequential architecture search on a table: which method finds the best cell first?

    python -m experiments.tw_sequential --seeds 50
    python -m experiments.tw_sequential --benchmark nb201 --dataset cifar100
        --split valid --epochs 12 --report-split test --out results/cifar100
    python -m experiments.tw_sequential --out results/kernels --methods gp-tw gp-tw2g
        gp-gw gp-ot gp-gwot gp-path gp-hamming gp-nasbot gp-otmann

Writes results.npz, table.csv and curves.png to --out. Every run can be killed and
started again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import numpy as np
from rich.console import Console

import jaxnas
from experiments import chunks, methods, plots, report, settings
from jaxnas import checkpoints
from jaxnas.benchmarks import sources, tabular
from jaxnas.search import base
from jaxnas.spaces import nasbench101, nasbench201

SPACES = {s.name: s for s in (nasbench101.SPACE, nasbench201.SPACE)}


@dataclass(frozen=True)
class Config:
    """What to compare, on which numbers."""

    benchmark: str = "analog"
    """analog (embedded), nb201, nb101, or a table file."""
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
    methods: tuple[str, ...] = methods.MAIN
    """Which methods, in which order; all that there are: methods.py."""
    seeds: int = 50
    """Independent runs of each method."""
    evaluations: int = 200
    """Evaluations of each run."""
    init: int = 10
    """Random evaluations at the start of evolution and BANANAS."""
    base_seed: int = 0
    """Run i draws from (base_seed, i)."""
    chunk: int = 10
    """Runs between two saves."""
    out: str = "results/tw_sequential"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: score (seeds, evaluations), what was fed back in percent, and row, the rows
      of the table that were asked, by `METHOD/NAME`; as they are in results.npz.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    settings.positive(config, "seeds", "evaluations", "init", "chunk")
    if not 0 <= config.base_seed < 2**32:
        raise ValueError(f"--base-seed must be 0 to 2^32 - 1, not {config.base_seed}")
    table = sources.open_table(config.benchmark)
    if table.space not in SPACES:
        raise ValueError(
            f"table {table.name} is of the space {table.space!r}: wanted one of "
            f"{', '.join(SPACES)}"
        )
    space = SPACES[table.space]
    if config.evaluations > len(table.arch):
        raise ValueError(
            f"--evaluations must be at most the {len(table.arch)} architectures of "
            f"{table.name}, not {config.evaluations}"
        )
    fed = {
        "dataset": config.dataset,
        "split": config.split,
        "epochs": config.epochs,
        "seed": int(config.run) if config.run.isdecimal() else config.run,
    }
    told = {
        "dataset": config.report_dataset or config.dataset,
        "split": config.report_split or config.split,
        "epochs": config.report_epochs or config.epochs,
        "seed": "mean",
    }
    seen = fed | ({"seed": "mean"} if config.run == "random" else {})
    truth = tabular.column(table, **seen)[:, 0]
    other = tabular.column(table, **told)[:, 0]
    methods.check(config.methods)
    folder = chunks.open_folder(config.out, _identity(config, table.manifest["sha256"]))

    feedback = tabular.tabular(space, table, **fed)
    evaluate = tabular.evaluator(space, feedback)
    searches = {
        name: methods.METHODS[name](space, table.arch, config)
        for name in config.methods
    }

    def simulate(method: str, seeds: np.ndarray) -> dict[str, jax.Array]:
        keys = chunks.seed_keys(config.base_seed, seeds)
        search = searches[method]
        one = jax.eval_shape(lambda key: base.run(key, search, evaluate, 1)[1], keys[0])
        steps = -(-config.evaluations // one.score.shape[-1])
        trace = base.simulate(keys, search, evaluate, steps)
        archs = trace.query.arch.reshape(len(seeds), -1, len(space.choices))
        score = trace.score.reshape(len(seeds), -1)
        row = tabular.rows(space, feedback, archs)
        return {
            "score": score[:, : config.evaluations],
            "row": row[:, : config.evaluations],
        }

    runs = chunks.run_chunks(
        folder,
        config.methods,
        config.seeds,
        simulate,
        chunk=config.chunk,
        evaluations=config.evaluations,
    )
    optimum = float(truth.max())
    summaries = {
        method: report.summarise(
            r["score"], _read(truth, r["row"]), _read(other, r["row"]), optimum
        )
        for method, r in runs.items()
    }
    names = tabular.describe(table, **fed), tabular.describe(table, **told)
    arrays = {f"{m}/{name}": a for m, r in runs.items() for name, a in r.items()}
    described = {
        "settings": folder.settings,
        "fed_back": names[0],
        "reported": names[1],
    }
    checkpoints.save_arrays(folder.path / "results.npz", arrays, described)
    report.write_csv(folder.path / "table.csv", summaries)
    plots.search_curves(
        folder.path / "curves.png",
        {name: s.reported for name, s in summaries.items()},
        {name: s.regret for name, s in summaries.items()},
        title=f"{report.which_numbers(*names)}; mean of {config.seeds} runs",
        reported_label="reported error of the best cell so far, %",
        regret_label="fed-back error above the best of all cells, %",
        optimum=100 - float(other.max()),
    )
    console = Console()
    report.show(console, summaries, *names)
    written = ", ".join(("results.npz", "table.csv", "curves.png"))
    console.print(f"{folder.path}: {written}", highlight=False, soft_wrap=True)
    return arrays


def _read(column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """A column (n,) at rows (seeds, t), NaN where an architecture has none."""
    return np.where(row < 0, np.nan, column[row])


def _identity(config: Config, digest: str) -> dict:
    """All that the runs depend on: a folder holds runs of one kind."""
    free = ("out", "methods", "chunk")
    kept = {n: v for n, v in dataclasses.asdict(config).items() if n not in free}
    made_by = f"jaxnas {jaxnas.__version__}, jax {jax.__version__}"
    made_by += f" on {jax.default_backend()}"
    return kept | {"table_sha256": digest, "made_by": made_by}


if __name__ == "__main__":
    settings.command(main, Config)
