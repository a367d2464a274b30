"""Multi-objective searches of other packages, on the benchmarks of `panels`.

    archs = PEERS["pymoo-nsga2-20"](Setting((5,) * 6, 2, 100, seed=0), score_of)

The extra `peers` has pymoo and Optuna.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from experiments.pareto_fronts.panels import Panel, scores_of

# archs (b, d) int -> scores (b, m), higher is better.
Scores = Callable[[np.ndarray], np.ndarray]


class Setting(NamedTuple):
    """What a search of another package is made of."""

    choices: tuple[int, ...]  # number of choices at each position of an architecture
    objectives: int
    evaluations: int
    seed: int


def pymoo_nsga2(setting: Setting, score_of: Scores, population: int) -> np.ndarray:
    """NSGA-II of pymoo (Blank and Deb, 2020), with its operators for integers.

    Simulated binary crossover and polynomial mutation, rounded, as pymoo's documentation
    of integer variables has them; offspring that repeat a member are removed.

    Args:
      setting: of the comparison.
      score_of: scores of architectures.
      population: survivors, and offspring of a generation.

    Returns: (evaluations, d) int, in the order of evaluation.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    rounded = {"prob": 1.0, "eta": 3.0, "vtype": float, "repair": RoundingRepair()}
    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(**rounded),
        mutation=PM(**rounded),
        eliminate_duplicates=True,
    )
    upper = np.array(setting.choices) - 1
    sizes = {"n_var": len(upper), "n_obj": setting.objectives}
    problem = Problem(**sizes, xl=0, xu=upper, vtype=int)
    algorithm.setup(problem, seed=setting.seed, verbose=False)
    asked: list[np.ndarray] = []
    while len(asked) < setting.evaluations:
        offspring = algorithm.ask()
        if not len(offspring):
            raise RuntimeError("pymoo has no offspring that is new")
        archs = offspring.get("X").astype(np.int32)
        offspring.set("F", -score_of(archs).astype(float))
        algorithm.tell(infills=offspring)
        asked.extend(archs)
    return np.stack(asked[: setting.evaluations])


def optuna_search(setting: Setting, score_of: Scores, *, tpe: bool) -> np.ndarray:
    """Optuna (Akiba et al., 2019): its NSGA-II of 20, or its multi-objective TPE.

    Args:
      setting: of the comparison.
      score_of: scores of architectures.
      tpe: whether the tree-structured Parzen estimator samples (Ozaki et al., 2022), with
        its default settings.

    Returns: (evaluations, d) int, in the order of evaluation.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = setting.seed
    sampler = (
        optuna.samplers.TPESampler(seed=seed)
        if tpe
        else optuna.samplers.NSGAIISampler(population_size=20, seed=seed)
    )
    directions = ["maximize"] * setting.objectives
    study = optuna.create_study(directions=directions, sampler=sampler)
    distributions = {
        str(i): optuna.distributions.CategoricalDistribution(range(num))
        for i, num in enumerate(setting.choices)
    }
    asked = []
    for _ in range(setting.evaluations):
        trial = study.ask(distributions)
        arch = np.array([trial.params[name] for name in distributions], np.int32)
        study.tell(trial, score_of(arch[None])[0].astype(float).tolist())
        asked.append(arch)
    return np.stack(asked)


PEERS: dict[str, Callable[[Setting, Scores], np.ndarray]] = {
    "pymoo-nsga2-10": lambda *args: pymoo_nsga2(*args, population=10),
    "pymoo-nsga2-20": lambda *args: pymoo_nsga2(*args, population=20),
    "optuna-nsga2-20": lambda *args: optuna_search(*args, tpe=False),
    "optuna-tpe": lambda *args: optuna_search(*args, tpe=True),
}
"""Searches of other packages, by the names of their results."""


_SETTINGS = {
    "pymoo-nsga2-10": "NSGA2(pop_size=10), rounded SBX and PM of eta 3, no duplicates",
    "pymoo-nsga2-20": "NSGA2(pop_size=20), rounded SBX and PM of eta 3, no duplicates",
    "optuna-nsga2-20": "NSGAIISampler(population_size=20), categorical choices",
    "optuna-tpe": "TPESampler() of several objectives, categorical choices",
}


def described(name: str) -> str:
    """One line: a search of `PEERS`, the version of its package, and its settings."""
    package = name.split("-")[0]
    return f"{name}: {package} {metadata.version(package)}, {_SETTINGS[name]}"


def require_installed(names: Sequence[str]) -> None:
    """Checks that searches of other packages can run.

    Args:
      names: of `PEERS`; they may be none.

    Raises: `ValueError` for unknown names, and for packages that are not installed.
    """
    for name in names:
        if name not in PEERS:
            raise ValueError(f"no peer {name}: choose from {', '.join(PEERS)}")
        package = name.split("-")[0]
        if find_spec(package) is None:
            raise ValueError(f"{package} not installed: {name} needs the extra peers")


def asked_archs(
    name: str, panel: Panel, base_seed: int, seeds: np.ndarray, evaluations: int
) -> np.ndarray:
    """Runs a search of another package on a panel, one seed after another.

    Args:
      name: one of `PEERS`.
      panel: without bounds.
      base_seed: of the comparison.
      seeds: (s,) of the runs.
      evaluations: of each run.

    Returns: (s, evaluations, d) int32, the architectures that were asked.
    """
    benchmark = panel.benchmark
    score_of = functools.partial(scores_of, benchmark)
    runs = []
    for seed in seeds:
        # Another base seed gives other runs, as of the methods.
        number = np.random.SeedSequence([base_seed, int(seed)]).generate_state(1)[0]
        sizes = len(benchmark.objectives), evaluations, int(number)
        runs.append(PEERS[name](Setting(benchmark.space.choices, *sizes), score_of))
    return np.stack(runs)
