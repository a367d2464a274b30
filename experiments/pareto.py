"""Searches for the front of accuracy against costs: latency, energy, size, robustness.

    python -m experiments.pareto
    python -m experiments.pareto --benchmark nb201 --dataset cifar100 --split valid
        --report-split test --costs 1080ti_1 raspi4 parameters --out results/devices
    python -m experiments.pareto --benchmark nb201 --dataset cifar100 --split valid
        --costs raspi4+parameters --bounds 50 1.0 --out results/bounded

The first command needs no download: accuracies of the embedded table against those on an
analog chip, whose weights are noisy, parameters, and multiply-accumulates (macs). `--costs
devices` are all devices of HELP (Lee et al., 2021). Writes results.npz, table.csv and
hypervolume.png to --out, and fronts.png with the panels of one cost. Every run can be
killed and started again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

import jaxnas
from experiments.pareto_fronts import figures, panels, peers, summary
from experiments.pareto_fronts.panels import Panel
from jaxnas.benchmarks import hardware, named, tabular
from jaxnas.io import npz
from jaxnas.pareto import Objective
from jaxnas.search import loop, multi_objective
from jaxnas.search.base import Search
from jaxnas.search.random import random_search
from jaxnas.spaces.base import Space
from jaxnas.studies import cli, seed_store


@dataclass(frozen=True)
class Config:
    """The accuracy and the costs, the methods, and the length and number of runs."""

    benchmark: str = "analog"
    """A table of NAS-Bench-201: analog (embedded), nb201, or a file."""
    dataset: str = "cifar10"
    """Dataset whose accuracy is fed back to the search."""
    split: str = "test"
    """Split whose accuracy is fed back."""
    epochs: int = 200
    """Length of the training schedule."""
    report_split: str | None = None
    """Split by which the same front is judged as well; default: as fed back."""
    costs: tuple[str, ...] = ("cifar10-noisy", "parameters", "macs")
    """A panel for each: parameters, macs, a device or another column of hardware costs, or
    another dataset of the table, whose accuracy is maximised too; A+B is a panel of two
    costs; devices stands for all devices of HELP."""
    bounds: tuple[float, ...] = ()
    """Worst feasible value of each cost of a panel, in its unit, the same in all panels;
    default: none."""
    methods: tuple[str, ...] = ("random", "evolution", "nsga2", "gp")
    """Which methods: random, evolution, nsga2 (population 10), nsga2-20, gp."""
    peers: tuple[str, ...] = ()
    """Searches of other packages for comparison, without --bounds: pymoo-nsga2-10,
    pymoo-nsga2-20, optuna-nsga2-20, optuna-tpe."""
    seeds: int = 20
    """Independent runs of each method."""
    evaluations: int = 100
    """Evaluations of each run."""
    init: int = 10
    """Random evaluations at the start of a run of gp and evolution."""
    base_seed: int = 0
    """Run i draws from (base_seed, i)."""
    chunk: int = 20
    """Runs between two saves."""
    out: str = "results/pareto"
    """Folder for the results."""


# (space, objectives, config) -> the search.
Method = Callable[[Space, Sequence[Objective], Config], Search]
POPULATION = 10
"""Population of nsga2 and evolution: the better of 10 and 20 for 100 evaluations."""


def _random(space: Space, objectives: Sequence[Objective], config: Config) -> Search:
    """Random search without repeats."""
    del objectives
    return random_search(space, capacity=config.evaluations)


def _evolution(space: Space, objectives: Sequence[Objective], config: Config) -> Search:
    """Aging evolution with twice the population of NSGA-II."""
    sizes = {"population": 2 * POPULATION, "tournament": 5, "init": config.init}
    return multi_objective.regularized_evolution(space, objectives, **sizes)


def _nsga2(population: int) -> Method:
    """NSGA-II of a population, whose children compete as soon as they are evaluated."""
    return lambda space, objectives, config: multi_objective.nsga2(
        space, objectives, population=population
    )


def _gp(space: Space, objectives: Sequence[Objective], config: Config) -> Search:
    """Gaussian processes, and the hypervolume that their confidence bounds add."""
    return multi_objective.gp_pareto(space, objectives, init=config.init)


METHODS: dict[str, Method] = {
    "random": _random,
    "evolution": _evolution,
    "nsga2": _nsga2(POPULATION),
    "nsga2-20": _nsga2(2 * POPULATION),
    "gp": _gp,
}


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: the table rows (seeds, evaluations) that were asked, by `PANEL/METHOD`, as
      they are in results.npz.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    _validate(config)
    table = named.open_table(config.benchmark)
    if config.evaluations > len(table.arch):
        raise ValueError(
            f"--evaluations must be at most the {len(table.arch)} cells of {table.name}, "
            f"not {config.evaluations}"
        )
    costs = [c for name in config.costs for c in _expanded(name)]
    accuracy = {"dataset": config.dataset, "split": config.split}
    accuracy |= {"epochs": config.epochs, "seed": "mean"}
    reported = accuracy | {"split": config.report_split or config.split}
    opened = panels.open_panels(
        config.benchmark, accuracy, reported, costs, config.bounds
    )
    identity = _identity(config, table.manifest["sha256"])
    folder = seed_store.open_folder(config.out, identity)
    searches: dict[tuple, Search] = {}

    def simulate(label: str, seeds: np.ndarray) -> dict[str, np.ndarray]:
        name, method = label.rsplit("-on-", 1)[::-1]
        if method in peers.PEERS:
            options = config.base_seed, seeds, config.evaluations
            return {"row": peers.table_rows(method, opened[name], *options)}
        benchmark = opened[name].benchmark
        # One search for all panels of the same objectives, so that it compiles once.
        which = method, benchmark.objectives
        if which not in searches:
            make = METHODS[method]
            searches[which] = make(benchmark.space, benchmark.objectives, config)
        keys = seed_store.seed_keys(config.base_seed, seeds)
        trace = loop.simulate(keys, searches[which], benchmark, config.evaluations)
        return {
            "row": np.asarray(tabular.table_rows(benchmark, trace.query.arch))[..., 0]
        }

    for name in config.peers:
        line = peers.described(name)
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)
    methods = *config.methods, *config.peers
    labels = [f"{m}-on-{name}" for m in methods for name in opened]
    each = {"chunk": config.chunk, "work": (config.evaluations, "evaluation")}
    runs = seed_store.run_chunks(folder, labels, config.seeds, simulate, **each)
    rows = {n: {m: runs[f"{m}-on-{n}"]["row"] for m in methods} for n in opened}
    arrays = {f"{n}/{m}": row for n, of in rows.items() for m, row in of.items()}
    npz.save_arrays(folder.path / "results.npz", arrays, {"settings": folder.identity})
    _report(folder.path, opened, rows)
    return arrays


def _report(
    path: Path, opened: dict[str, Panel], rows: dict[str, dict[str, np.ndarray]]
) -> None:
    """Writes the table and the figures to a folder, and prints the table."""
    summaries = {
        name: {m: summary.summarise(opened[name], row) for m, row in of.items()}
        for name, of in rows.items()
    }
    summary.write_csv(path / "table.csv", summaries)
    figures.draw_shares(path / "hypervolume.png", summaries)
    drawn = figures.draw_fronts(path / "fronts.png", opened, rows)
    console = Console()
    summary.show(console, summaries)
    files = "results.npz, table.csv, hypervolume.png" + ", fronts.png" * drawn
    console.print(f"{path}: {files}", highlight=False, soft_wrap=True)


def _expanded(name: str) -> tuple[str, ...]:
    """The panels of a name: all devices, or itself."""
    return hardware.hardware_devices() if name == "devices" else (name,)


def _validate(config: Config) -> None:
    """Raises `ValueError` for settings that are wrong in themselves."""
    cli.positive(config, "seeds", "evaluations", "init", "chunk")
    cli.seed(config)
    cli.require_names(config.methods, METHODS, "method")
    peers.require_installed(config.peers)
    if config.peers and config.bounds:
        raise ValueError("--peers search without --bounds: give one of them")
    if not config.costs:
        raise ValueError("--costs needs the name of a cost")
    if not 2 <= config.init <= config.evaluations:
        raise ValueError(
            f"--init must be between 2 and --evaluations = {config.evaluations}, not "
            f"{config.init}"
        )


def _identity(config: Config, sha256: str) -> dict:
    """The identity of a folder: all that its runs depend on, as JSON values."""
    free = ("out", "chunk", "seeds", "methods", "peers", "costs", "report_split")
    kept = {n: v for n, v in dataclasses.asdict(config).items() if n not in free}
    made_by = f"jaxnas {jaxnas.__version__}, jax {jax.__version__}"
    made_by += f" on {jax.default_backend()}"
    added = {"driver": "pareto", "table_sha256": sha256, "made_by": made_by}
    return kept | added


if __name__ == "__main__":
    cli.command(main, Config)
