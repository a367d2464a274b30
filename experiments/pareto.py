"""Searches for the front of accuracy against costs: latency, energy, size, robustness.

    python -m experiments.pareto
    python -m experiments.pareto --benchmark nb201 --dataset cifar100 --split valid
        --report-split test --costs 1080ti_1 raspi4 parameters --out results/devices
    python -m experiments.pareto --benchmark nb201 --dataset cifar100 --split valid
        --costs raspi4+parameters --bounds 50 1.0 --out results/bounded
    python -m experiments.pareto --benchmark ofa-predicted --costs devices
        --evaluations 200 --methods random evolution nsga2 nsga2-20 gp
        --out results/subnet_fronts

The first command needs no download: accuracies of the embedded table against those on an
analog chip, whose weights are noisy, parameters, and multiply-accumulates (macs). `--costs
devices` are all devices of HELP (Lee et al., 2021). The last command is on subnets of
MobileNetV3, with predicted accuracies and fitted latencies; it compares runs with the front
of much longer ones. Writes results.npz, table.csv and hypervolume.png to --out, and
fronts.png with the panels of one cost. Every run can be killed and started again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

import jaxnas
from experiments.pareto_fronts import (
    figures,
    methods,
    panels,
    peers,
    subnets,
    summary,
    tables,
)
from experiments.pareto_fronts.panels import Panel, Runs
from jaxnas.benchmarks import hardware, named
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import npz
from jaxnas.search import loop
from jaxnas.search.base import Search
from jaxnas.studies import cli, seed_store


@dataclass(frozen=True)
class Config:
    """The accuracy and the costs, the methods, and the length and number of runs."""

    benchmark: str = "analog"
    """A table of NAS-Bench-201: analog (embedded), nb201, or a file; or ofa-predicted, the
    subnets of MobileNetV3."""
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
    costs; devices stands for all devices of HELP, and with ofa-predicted for those whose
    latencies are predicted well enough, or with --force for all."""
    bounds: tuple[float, ...] = ()
    """Worst feasible value of each cost of a panel, in its unit, the same in all panels;
    default: none."""
    resolution: int = 224
    """Pixels on each side of an image, for ofa-predicted."""
    force: bool = False
    """Also use latencies of ofa-predicted that are not predicted well enough."""
    reference: int = 20_000
    """Evaluations of each of the four NSGA-II runs whose front is the reference, for
    ofa-predicted."""
    methods: tuple[str, ...] = ("random", "evolution", "nsga2", "gp")
    """Which methods: random, evolution, nsga2 (population 10), nsga2-20, gp."""
    peers: tuple[str, ...] = ()
    """Searches of other packages for comparison, without --bounds: pymoo-nsga2-10,
    pymoo-nsga2-20, optuna-nsga2-20, optuna-tpe."""
    seeds: int = 20
    """Independent runs of each method."""
    evaluations: int = 100
    """Evaluations of each run; more of them make the runs of a folder longer."""
    init: int = 10
    """Random evaluations at the start of a run of gp and evolution."""
    base_seed: int = 0
    """Run i draws from (base_seed, i)."""
    chunk: int = 20
    """Runs between two saves."""
    out: str = "results/pareto"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: the architectures (seeds, evaluations, d) and scores (seeds, evaluations, m)
      that were evaluated, by `PANEL/METHOD/arch` and `PANEL/METHOD/scores`, as they are
      in results.npz.
    Raises: `ValueError` for bad input, before any search is compiled or written.
    """
    _validate(config)
    subnet = config.benchmark == subnets.NAME
    table = named.open_table(subnets.TABLE if subnet else config.benchmark)
    opened = _subnet_panels(config) if subnet else _table_panels(config, table)
    identity = _identity(config, table.manifest["sha256"])
    folder = seed_store.open_folder(config.out, identity)
    if subnet:
        opened = subnets.with_references(folder, opened, config.reference)
    for name in config.peers:
        line = peers.described(name)
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)
    compared = *config.methods, *config.peers
    labels = [f"{m}-on-{name}" for m in compared for name in opened]
    saved = seed_store.run_chunks(
        folder,
        labels,
        config.seeds,
        _simulator(config, opened),
        chunk=config.chunk,
        work=(config.evaluations, "evaluation"),
        adapt=seed_store.cut_to(config.evaluations),
    )
    arrays = {
        f"{name}/{m}/{what}": saved[f"{m}-on-{name}"][what]
        for name in opened
        for m in dict.fromkeys(compared)
        for what in ("arch", "scores")
    }
    npz.save_arrays(folder.path / "results.npz", arrays, {"settings": folder.identity})
    _report(folder.path, opened, arrays)
    return arrays


def _table_panels(config: Config, table: BenchmarkTable) -> dict[str, Panel]:
    """The panels of a table; `ValueError` as `tables.open_panels`."""
    if config.evaluations > len(table.arch):
        raise ValueError(
            f"--evaluations must be at most the {len(table.arch)} cells of {table.name}, "
            f"not {config.evaluations}"
        )
    costs = [c for name in config.costs for c in _expanded(name)]
    accuracy = {"dataset": config.dataset, "split": config.split}
    accuracy |= {"epochs": config.epochs, "seed": "mean"}
    reported = accuracy | {"split": config.report_split or config.split}
    return tables.open_panels(
        config.benchmark, accuracy, reported, costs, config.bounds
    )


def _subnet_panels(config: Config) -> dict[str, Panel]:
    """The panels of subnets; `ValueError` as `subnets.open_panels`."""
    options = {"resolution": config.resolution, "force": config.force}
    return subnets.open_panels(config.costs, config.bounds, **options)


def _simulator(config: Config, opened: dict[str, Panel]) -> seed_store.Simulate:
    """The function that runs seeds of METHOD-on-PANEL."""
    searches: dict[tuple, Search] = {}

    def simulate(label: str, seeds: np.ndarray) -> dict[str, np.ndarray]:
        name, method = label.rsplit("-on-", 1)[::-1]
        benchmark = opened[name].benchmark
        if method in peers.PEERS:
            options = config.base_seed, seeds, config.evaluations
            archs = peers.asked_archs(method, opened[name], *options)
            scores = [panels.scores_of(benchmark, run) for run in archs]
            return {"arch": archs.astype(np.int8), "scores": np.stack(scores)}
        # One search for all panels of the same objectives, so that it compiles once.
        which = method, benchmark.objectives
        if which not in searches:
            sizes = config.evaluations, config.init
            make = methods.METHODS[method]
            searches[which] = make(benchmark.space, benchmark.objectives, *sizes)
        keys = seed_store.seed_keys(config.base_seed, seeds)
        trace = loop.simulate(keys, searches[which], benchmark, config.evaluations)
        archs = np.asarray(trace.query.arch)[:, :, 0].astype(np.int8)
        return {"arch": archs, "scores": np.asarray(trace.objectives)[:, :, 0]}

    return simulate


def _report(
    path: Path, opened: dict[str, Panel], arrays: dict[str, np.ndarray]
) -> None:
    """Writes the table and the figures to a folder, and prints the table."""
    runs: dict[str, dict[str, Runs]] = {name: {} for name in opened}
    for key in arrays:
        name, method, what = key.rsplit("/", 2)
        if what == "scores":
            arch, scores = arrays[f"{name}/{method}/arch"], arrays[key]
            judged = opened[name].judge(arch, scores)
            runs[name][method] = Runs(scores, judged)
    summaries = {
        name: {m: summary.summarise(opened[name], run) for m, run in of.items()}
        for name, of in runs.items()
    }
    seen = {name: {m: run.seen for m, run in of.items()} for name, of in runs.items()}
    summary.write_csv(path / "table.csv", opened, summaries)
    figures.draw_shares(path / "hypervolume.png", opened, summaries)
    drawn = figures.draw_fronts(path / "fronts.png", opened, seen)
    console = Console()
    summary.show(console, summaries)
    for name, panel in opened.items():
        if panel.note:
            console.print(f"{name}: {panel.note}", highlight=False)
    files = "results.npz, table.csv, hypervolume.png" + ", fronts.png" * drawn
    console.print(f"{path}: {files}", highlight=False, soft_wrap=True)


def _expanded(name: str) -> tuple[str, ...]:
    """The panels of a name: all devices, or itself."""
    return hardware.hardware_devices() if name == "devices" else (name,)


_OF_TABLES = ("dataset", "split", "epochs", "report_split")
_OF_SUBNETS = ("resolution", "force", "reference")


def _validate(config: Config) -> None:
    """Raises `ValueError` for settings that are wrong in themselves."""
    cli.positive(config, "seeds", "evaluations", "init", "chunk")
    cli.at_most(config, seeds=1_000_000, evaluations=100_000, reference=1_000_000)
    cli.seed(config)
    cli.require_names(config.methods, methods.METHODS, "method")
    subnet = config.benchmark == subnets.NAME
    for name in _OF_TABLES if subnet else _OF_SUBNETS:
        if getattr(config, name) != getattr(Config, name):
            what = "tables" if subnet else subnets.NAME
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} is for {what}, not for {config.benchmark}")
    if subnet and config.costs == Config.costs:
        counts = ", ".join(subnets.COUNTS)
        raise ValueError(
            f"--benchmark {subnets.NAME} needs --costs: devices, the name of one, {counts}"
        )
    peers.require_installed(config.peers)
    if config.peers and config.bounds:
        raise ValueError("--peers search without --bounds: give one of them")
    if config.reference < subnets.POPULATION:
        raise ValueError(
            f"--reference must be at least {subnets.POPULATION}, not {config.reference}"
        )
    if not config.costs:
        raise ValueError("--costs needs the name of a cost")
    if not 2 <= config.init < config.evaluations:
        raise ValueError(
            f"--init must be at least 2 and below --evaluations = {config.evaluations}, "
            f"not {config.init}"
        )


def _identity(config: Config, sha256: str) -> dict:
    """The identity of a folder: all that its runs depend on, as JSON values."""
    free = ("out", "chunk", "seeds", "methods", "peers", "costs", "report_split")
    # A longer run begins like a shorter one, by any method.
    free += ("force", "evaluations")
    kept = {n: v for n, v in dataclasses.asdict(config).items() if n not in free}
    made_by = f"jaxnas {jaxnas.__version__}, jax {jax.__version__}"
    made_by += f" on {jax.default_backend()}"
    added = {"driver": "pareto", "table_sha256": sha256, "made_by": made_by}
    return kept | added


if __name__ == "__main__":
    cli.command(main, Config)
