"""Multi-fidelity searches of other packages, on the benchmarks of this one.

    search = PEERS["optuna-tpe"](Setting(space.choices, levels=(22, 66, 200), seed=0))
    trace = run_peer(search, benchmark, jax.random.key(0), steps=600, budget=10_000)

Needs Optuna, of the extra `peers`, and two packages that are installed without their
dependencies: the metadata of DEHB exclude NumPy 2, with which it works, and those of Syne
Tune ask for XGBoost with CUDA.
"""

from __future__ import annotations

import datetime
import logging
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from jaxnas.benchmarks.base import Benchmark
from jaxnas.search.drive.search_state import apply
from jaxnas.studies import cli
from jaxnas.types import Array, Query, Trace


class Setting(NamedTuple):
    """What a search of another package is made of."""

    choices: tuple[int, ...]  # number of choices at each position of an architecture
    levels: tuple[int, ...]  # epochs of the rungs, ascending
    eta: float = 3  # ratio of two rungs
    seed: int = 0


class Training(NamedTuple):
    """A training that is asked: an architecture, its last epoch and its first."""

    arch: np.ndarray  # (d,) int32
    epoch: int
    start: int  # 0: untrained


class PeerSearch(NamedTuple):
    """A search with a state of its own; `tell` has the score of the last `ask`."""

    ask: Callable[[], Training]
    tell: Callable[[float], None]


def optuna_search(setting: Setting, *, tpe: bool, prune: bool = True) -> PeerSearch:
    """Optuna (Akiba et al., 2019), by ask and tell.

    A trial goes on from rung to rung until the pruner of Hyperband stops it.

    Args:
      setting: of the comparison.
      tpe: whether a tree-structured Parzen estimator samples; otherwise samples are
        uniform.
      prune: whether trials are stopped; otherwise they are trained to the last level at
        once.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kind = optuna.samplers.TPESampler if tpe else optuna.samplers.RandomSampler
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if prune:
        sizes = setting.levels[0], setting.levels[-1], int(setting.eta)
        pruner = optuna.pruners.HyperbandPruner(*sizes)
    study = optuna.create_study(
        direction="maximize",
        sampler=kind(seed=setting.seed),
        pruner=pruner,
        # The pruner assigns trials to brackets by a hash of this name.
        study_name=str(setting.seed),
    )
    of_choices = {
        str(i): optuna.distributions.CategoricalDistribution(range(num))
        for i, num in enumerate(setting.choices)
    }
    levels = setting.levels if prune else setting.levels[-1:]
    trial, rung = None, 0

    def ask() -> Training:
        nonlocal trial, rung
        if trial is None:
            trial, rung = study.ask(of_choices), 0
        arch = [trial.params[name] for name in of_choices]
        start = levels[rung - 1] if rung else 0
        return Training(np.asarray(arch, np.int32), levels[rung], start)

    def tell(score: float) -> None:
        nonlocal trial, rung
        assert trial is not None
        epoch, rung = levels[rung], rung + 1
        if np.isnan(score):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif rung == len(levels):
            study.tell(trial, score)
        else:
            trial.report(score, epoch)
            if not trial.should_prune():
                return
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        trial = None

    return PeerSearch(ask, tell)


def dehb_search(setting: Setting) -> PeerSearch:
    """The authors' DEHB (Awad et al., 2021), by ask and tell.

    Architectures are points of [0, 1]^d, as in `jaxnas.search.fidelity.dehb`. A promoted
    configuration continues its training.

    Args:
      setting: of the comparison.
    """
    from dehb import DEHB
    from loguru import logger

    levels = np.asarray(setting.levels)
    # Slightly smaller, as DEHB rounds the number of rungs down.
    lowest = 0.999 * levels[-1] / setting.eta ** (len(levels) - 1)
    with tempfile.TemporaryDirectory() as folder:
        peer = DEHB(
            dimensions=len(setting.choices),
            min_fidelity=lowest,
            max_fidelity=int(levels[-1]),
            eta=setting.eta,
            seed=setting.seed,
            n_workers=1,
            save_freq="end",  # of `run`, which is not called
            output_path=folder,
        )
        logger.remove()  # closes its file in the folder
    choices, job = np.asarray(setting.choices), {}
    trained: dict[int, int] = {}  # epoch that a configuration has been trained to

    def ask() -> Training:
        job.update(peer.ask())
        point = np.asarray(job["config"])
        arch = np.minimum((point * choices).astype(np.int32), choices - 1)
        epoch = int(levels[np.argmin(np.abs(levels - job["fidelity"]))])
        start = trained.get(job["config_id"], 0)
        return Training(arch, epoch, start if start < epoch else 0)

    def tell(score: float) -> None:
        epoch = levels[np.argmin(np.abs(levels - job["fidelity"]))]
        trained[job["config_id"]] = int(epoch)
        fitness = np.inf if np.isnan(score) else -score
        peer.tell(dict(job), {"fitness": fitness, "cost": float(epoch)})

    return PeerSearch(ask, tell)


def syne_tune_search(setting: Setting, *, kde: bool) -> PeerSearch:
    """Syne Tune's asynchronous successive halving (Salinas et al., 2022).

    A trial goes on from rung to rung until the stopping rule ends it, and there is one
    bracket.

    Args:
      setting: of the comparison.
      kde: whether densities of good and of bad architectures sample, as in BOHB;
        otherwise samples are uniform.
    """
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import choice
    from syne_tune.optimizer import baselines
    from syne_tune.optimizer.scheduler import SchedulerDecision

    # It warns of defaults of its own.
    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    kind = baselines.BOHB if kde else baselines.ASHA
    scheduler = kind(
        {str(i): choice(list(range(num))) for i, num in enumerate(setting.choices)},
        metric="score",
        time_attr="epoch",
        max_t=setting.levels[-1],
        do_minimize=False,
        random_seed=setting.seed,
        grace_period=setting.levels[0],
        reduction_factor=setting.eta,
    )
    # Random configurations of its densities are drawn from NumPy's global state.
    random = np.random.RandomState(setting.seed).get_state()
    trial, number, rung = None, 0, 0

    def ask() -> Training:
        nonlocal trial, number, rung, random
        if trial is None:
            outside = np.random.get_state()
            np.random.set_state(random)
            suggestion = scheduler.suggest()
            trial = Trial(number, suggestion.config, datetime.datetime.now())
            scheduler.on_trial_add(trial)
            random = np.random.get_state()
            np.random.set_state(outside)
            number, rung = number + 1, 0
        arch = [trial.config[str(i)] for i in range(len(setting.choices))]
        start = setting.levels[rung - 1] if rung else 0
        return Training(np.asarray(arch, np.int32), setting.levels[rung], start)

    def tell(score: float) -> None:
        nonlocal trial, rung
        worst = -np.finfo(np.float64).max
        value = worst if np.isnan(score) else score
        result = {"score": value, "epoch": setting.levels[rung]}
        rung += 1
        if scheduler.on_trial_result(trial, result) == SchedulerDecision.STOP:
            scheduler.on_trial_remove(trial)
            trial = None

    return PeerSearch(ask, tell)


PEERS: dict[str, Callable[[Setting], PeerSearch]] = {
    "optuna-random": lambda setting: optuna_search(setting, tpe=False),
    "optuna-tpe": lambda setting: optuna_search(setting, tpe=True),
    "dehb-package": dehb_search,
    "syne_tune-asha": lambda setting: syne_tune_search(setting, kde=False),
    "syne_tune-bohb": lambda setting: syne_tune_search(setting, kde=True),
}
"""Searches of other packages, by the names of their results: the package comes first."""


def require_installed(names: tuple[str, ...]) -> None:
    """Raises `ValueError` for names that are unknown or given twice, and for packages
    that are not installed."""
    for name in cli.require_names(names, PEERS, "peer") if names else ():
        package = name.split("-")[0]
        if find_spec(package) is None:
            raise ValueError(
                f"{package} not installed: {name} needs it; see docs/multi_fidelity.md"
            )


def run_peer(
    search: PeerSearch, benchmark: Benchmark, key: Array, steps: int, budget: float
) -> Trace:
    """Runs a search of another package on a benchmark.

    Args:
      search: of the space of the benchmark.
      benchmark: that is evaluated in compiled programs.
      key: of the evaluations.
      steps: evaluations at most.
      budget: largest total cost; the run ends before the first evaluation above it.

    Returns: NumPy arrays (steps, 1, ...); steps that were not made are idle.
    """
    width = len(benchmark.space.choices)
    query = Query(
        np.zeros((steps, 1, width), np.int32), *np.zeros((2, steps, 1), np.int32)
    )
    score, cost = np.full((steps, 1), np.nan), np.zeros((steps, 1))
    spent = 0.0
    for step in range(steps):
        arch, epoch, start = search.ask()
        one = Query(arch[None], *np.asarray([[epoch], [start]], np.int32))
        result = apply(benchmark.evaluate, key, one)
        spent += float(result.cost[0])
        if spent > budget:
            break
        query.arch[step, 0], query.epoch[step], query.start[step] = arch, epoch, start
        score[step], cost[step] = result.score, result.cost
        search.tell(float(result.score[0]))
    return Trace(query, score, cost, np.cumsum(cost, 0))
