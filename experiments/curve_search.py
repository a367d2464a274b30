"""Searches that decide how long to train, by the cost they have spent.

    python -m experiments.curve_search --seeds 100
    python -m experiments.curve_search --methods paper --seeds 30
    python -m experiments.curve_search --benchmark jahs201-seconds --budget 400000
        --methods random evolution evolution+last hyperband bohb --out results/seconds
    python -m experiments.curve_search --benchmark fashion-curves
        --dataset fashion-mnist --epochs 12 --run 0 --min-epoch 1 --few 3 --init 10
        --budget 700 --out results/fashion
    python -m experiments.curve_search --benchmark nb201 --dataset cifar100
        --low-epochs 12 --methods random gp-two-levels --out results/levels

The comparison of Yan et al. (2021): random search, Hyperband and BOHB against evolution,
local search and BANANAS, each plain and with its learning curves extrapolated. Regret is
that of the best network trained to the last epoch. Writes results.npz, table_by_cost.csv
and curves_by_cost.png, with a colour for each family of searches, to --out. Every run can
be killed and started again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from experiments.common import curve_figures, peer_searches
from jaxnas.benchmarks import tabular
from jaxnas.search import Search
from jaxnas.search.fidelity import brackets
from jaxnas.search.fidelity.curve_gates import Gate
from jaxnas.studies import cli, seed_store
from jaxnas.studies.comparison import fidelity_methods as methods
from jaxnas.studies.comparison import opened, outcome, runs, settings
from jaxnas.types import Trace


@dataclass(frozen=True)
class Config(settings.Config):
    """What to compare, on which curves."""

    benchmark: str = "jahs201"
    """jahs201 or jahs201-seconds (reference files), fashion-curves (embedded), or a table
    file with curves."""
    split: str = "valid"
    """Split whose accuracy is fed back."""
    low_epochs: int | None = None
    """Schedule of separate short trainings, the lower of two levels; default: the levels
    are the epochs of the learning curves."""
    low_dataset: str | None = None
    """What the table calls the dataset of --low-epochs; default: as --dataset."""
    seeds: int = 100
    """Independent runs of each method."""
    evaluations: int = 600
    """Parts of trainings of each run, at most; more of them, or a larger budget, make the
    runs of a folder longer."""
    budget: float | None = 10_000
    """Largest total cost of a run, in the table's seconds (epochs where it has none)."""
    batch: int = 1
    """Architectures that a method asks for at a time."""
    workers: int = 1
    """Simulated workers, each of which gets the next training as soon as it is free."""
    init: int = 20
    """Random evaluations at the start, the population, and the complete trainings before
    curves are extrapolated; gp and gp-two-levels begin with as many as their presets."""
    methods: tuple[str, ...] = methods.MAIN
    """Which methods, in which order: random, evolution, local, bananas, gp, halving,
    hyperband, bohb, bohb-plus, dehb, asha, asha-stopping, gp-two-levels; or one of the
    first five and an extrapolator of last, ridge, svr, wpm, as evolution+last; paper
    stands for the twelve of the paper."""
    peers: tuple[str, ...] = ()
    """Searches of other packages beside them: optuna-random, optuna-tpe, dehb-package,
    syne_tune-asha, syne_tune-bohb."""
    min_epoch: int = 12
    """Smallest epoch of a rung."""
    max_epoch: int | None = None
    """Largest epoch of the rungs' geometric series, cut off at the last one: 512 gives
    the rungs of the paper; default: the last epoch."""
    eta: int = 3
    """Ratio of two rungs."""
    few: int = 20
    """Epochs after which curves are extrapolated."""
    quantile: float = 0.2
    """Best share of the complete trainings that a prediction must reach to continue."""
    target: int | None = None
    """Epoch whose value is predicted; default: the last one."""
    at: tuple[float, ...] = ()
    """Costs at which errors are printed, and are rows of table_by_cost.csv besides the
    others; default: shares of the largest one."""
    out: str = "results/curve_search"
    """Folder for the results."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Runs the comparison.

    Returns: score (seeds, evaluations), NaN where a training was not complete, and row,
      the rows of the table that were asked, by `METHOD/NAME`; as they are in results.npz.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    config = dataclasses.replace(config, methods=methods.expand(config.methods))
    table, searches = prepare(config)
    folder = runs.open_folder(
        config, table, driver="curve_search", free=("methods", "peers", "at")
    )
    peers = {name: partial(_peer_runs, config, table, name) for name in config.peers}
    done = runs.run(
        config,
        table,
        folder,
        searches,
        methods.names(),
        peers,
        config.at,
        workers=config.workers,
    )
    done = done._replace(index=curve_figures.style_index(tuple(done.summaries)))
    limits = {"evaluations": config.evaluations, "budget": config.budget}
    outcome.show_by_cost(done, config.at, **limits)
    return done.arrays


class Prepared(NamedTuple):
    """What a comparison needs."""

    table: opened.Opened
    searches: dict[str, Search]


def prepare(config: Config) -> Prepared:
    """Opens the table and makes the searches, without compiling or writing anything.

    Args:
      config: of the comparison; its methods are expanded.

    Raises: `ValueError` for bad input.
    """
    methods.validate_names(config.methods)
    cli.positive(config, "batch", "workers", "few", "min_epoch")
    cli.at_most(config, batch=1000, workers=1000)
    if not 0 <= config.quantile <= 1:
        raise ValueError(f"--quantile must be 0 to 1, not {config.quantile}")
    if config.workers > 1 and config.batch > 1:
        raise ValueError(
            f"--batch must be 1 with --workers {config.workers}, not {config.batch}"
        )
    if config.peers and config.batch * config.workers > 1:
        raise ValueError(
            "--peers run one training at a time: without --batch, --workers"
        )
    if not all(0 < cost < np.inf for cost in config.at):
        raise ValueError(f"--at must be costs above 0, not {config.at}")
    if config.budget is not None and 0 < config.budget < max(config.at, default=0):
        raise ValueError(f"--at must be at most --budget = {config.budget:g}")
    peer_searches.require_installed(config.peers)
    table = open_levels(config)
    if any("+" in name for name in config.methods):
        _require_gate(config, table.benchmark.epochs)
    elif config.target is not None:
        raise ValueError(
            "--target is of methods with an extrapolator, such as evolution+last: "
            "--methods has none"
        )
    terms = make_terms(config, table)
    _require_bracket(config, table, terms)
    space, archs = table.benchmark.space, np.asarray(table.benchmark.archs)
    searches = {m: methods.make(m, space, archs, terms) for m in config.methods}
    return Prepared(table, searches)


def _require_gate(config: Config, last: int) -> None:
    """Raises `ValueError` for epochs between which no curve can be extrapolated."""
    if config.few >= last:
        raise ValueError(
            f"--few must be below the last epoch, {last}, not {config.few}: curves are "
            "extrapolated before it"
        )
    if config.target is not None and not config.few <= config.target <= last:
        raise ValueError(
            f"--target must be from --few = {config.few} to the last epoch, {last}, not "
            f"{config.target}"
        )


def open_levels(config: Config) -> opened.Opened:
    """Opens the table of a comparison with its levels.

    Raises: `ValueError` as `opened.open_table` does, for methods and packages that need
      learning curves if the levels are separate trainings, and for levels in no order.
    """
    if config.low_epochs is None:
        if config.low_dataset is not None:
            raise ValueError("--low-dataset is of --low-epochs, which is not given")
        return opened.open_table(config, curves=True)
    separate = (*methods.PLAIN, "gp-two-levels")
    wrong = [m for m in (*config.methods, *config.peers) if m not in separate]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)}: with --low-epochs the levels are separate trainings, "
            f"for {', '.join(separate)} alone"
        )
    if not 0 < config.low_epochs < config.epochs:
        raise ValueError(
            f"--low-epochs must be from 1 to below --epochs {config.epochs}, not "
            f"{config.low_epochs}"
        )
    low = config.low_dataset or config.dataset, config.low_epochs
    return opened.open_table(config, low=low)


def make_terms(config: Config, table: opened.Opened) -> methods.FidelityTerms:
    """The settings that all methods share; `ValueError` for rungs that cannot be."""
    last = table.benchmark.epochs
    largest = last if config.max_epoch is None else config.max_epoch
    if config.eta < 2:
        raise ValueError(f"--eta must be at least 2, not {config.eta}")
    if config.min_epoch > largest:
        name = "the last epoch" if config.max_epoch is None else "--max-epoch"
        raise ValueError(
            f"--min-epoch must be at most {name}, {largest}, not {config.min_epoch}"
        )
    ends = largest, config.min_epoch, config.eta
    return methods.FidelityTerms(
        levels=brackets.geometric_levels(*ends, last=last),
        eta=config.eta,
        gate=Gate(config.few, config.quantile, config.target),
        points=tuple(level.epoch for level in table.benchmark.levels),
        continues=table.benchmark.levels[-1].continues,
        init=config.init,
        batch=config.batch,
    )


def _peer_runs(
    config: Config, table: opened.Opened, name: str, seeds: np.ndarray
) -> Trace:
    """Runs a search of another package, one seed after another.

    Args:
      config: the settings.
      table: of the comparison.
      name: one of `peer_searches.PEERS`.
      seeds: (s,) of the runs.

    Returns: NumPy arrays (s, steps, 1, ...).
    """
    terms = make_terms(config, table)
    keys = seed_store.seed_keys(config.base_seed, seeds)
    limits = config.evaluations, np.inf if config.budget is None else config.budget
    traces = []
    for seed, key in zip(seeds, keys, strict=True):
        # Another base seed gives other runs, as of the methods.
        number = int(
            np.random.SeedSequence([config.base_seed, seed]).generate_state(1)[0]
        )
        setting = peer_searches.Setting(
            table.benchmark.space.choices, terms.levels, terms.eta, number
        )
        search = peer_searches.PEERS[name](setting)
        traces.append(peer_searches.run_peer(search, table.benchmark, key, *limits))
    return jax.tree.map(lambda *parts: np.stack(parts), *traces)


def _require_bracket(
    config: Config, table: opened.Opened, terms: methods.FidelityTerms
) -> None:
    """Raises `ValueError` for a budget that is smaller than any first bracket."""
    if not set(config.methods) & (set(methods.HALVING) - {"gp-two-levels"}):
        return
    plan = brackets.hyperband_brackets(terms.levels, terms.eta)
    benchmark = table.benchmark
    epochs = brackets.total_epochs(plan[0])
    least = epochs / benchmark.epochs * float(tabular.least_cost(benchmark))
    if config.budget is not None and config.budget < least:
        raise ValueError(
            f"--budget {config.budget:g} is smaller than one bracket of {epochs} epochs, "
            f"which costs {least:g} {benchmark.cost_unit} or more:\n"
            f"{brackets.as_table(plan)}"
        )


if __name__ == "__main__":
    cli.command(main, Config)
