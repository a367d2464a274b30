"""Golden traces: what searches ask, with an exact key, across commits.

Traced are the searches of SEQUENTIAL on the embedded table, every selector of a batch,
SEVERAL on accuracy and parameters, and SYNTHETIC, searches that decide how long to train,
on a synthetic objective. The remaining presets over a pool differ from those traced in
their distance. `freeze-thaw` is `two_levels` with the process over (architecture, epoch),
and two workers.

One file for each in tests/golden: `rank` (2, 30), the cells asked by two runs, and for
SYNTHETIC and `freeze-thaw` `epoch` (2, 30), to which they are trained. A change that is
meant to change bits writes them anew, and says so in its commit:

    JAXNAS_GOLDEN=write python -m pytest tests/test_golden.py
"""

import functools
import os
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxnas.benchmarks import named, several, synthetic, tabular
from jaxnas.io import npz
from jaxnas.kernels import feature_maps
from jaxnas.networks import counting
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.pareto import Objective
from jaxnas.predictors.pool import make_pool
from jaxnas.search import multi_objective
from jaxnas.search.fidelity import brackets
from jaxnas.search.fidelity.curve_gates import paper
from jaxnas.search.fidelity.dehb import dehb
from jaxnas.search.fidelity.freeze_thaw import rank_by_final_mean
from jaxnas.search.fidelity.hyperband import hyperband
from jaxnas.search.fidelity.priorband import priorband_sampler
from jaxnas.search.fidelity.two_levels import two_levels
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.loop import simulate
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.studies.comparison import fidelity_methods, methods

pytestmark = pytest.mark.usefixtures("quick_compilation")

FOLDER = Path(__file__).parent / "golden"
EVALUATIONS = 30
SEQUENTIAL = (
    "random", "evolution", "bananas", "gp-path", "gp-tw", "gp-tw2g", "gp-tw2g-copies",
    "gp-tw2g-plus", "gp-tw2g-plus-sampled",
)  # fmt: skip
BATCHES = tuple(sorted(methods.BATCH_METHODS.keys() - methods.METHODS.keys()))
SEVERAL = {
    "gp-pareto": multi_objective.gp_pareto,
    "nsga2": lambda space, objectives, arch: multi_objective.nsga2(
        space, objectives, population=8
    ),
    "evolution-pareto": lambda space, objectives, arch: (
        multi_objective.regularized_evolution(space, objectives, population=8)
    ),
}
SYNTHETIC = (
    "local", "evolution+last", "halving", "hyperband", "bohb", "bohb-plus", "priorband",
    "dehb", "dehb-early", "asha", "asha-stopping",
)  # fmt: skip
LEVELS = (1, 3, 9)


@functools.cache
def table():
    return named.open_table("analog")


@functools.cache
def benchmark():
    which = {"dataset": "cifar10", "split": "test", "epochs": 200, "seed": "mean"}
    return tabular.tabular_benchmark(SPACE, table(), **which)


def preset(name):
    terms = methods.Terms(EVALUATIONS)
    # Some of the cells: the pool is made quickly, and copies of a function are in it.
    archs = table().arch[::15]
    if name in SEQUENTIAL:
        return methods.METHODS[name](SPACE, archs, terms), EVALUATIONS
    method = methods.BATCH_METHODS[name]
    return method(SPACE, archs, terms._replace(batch=5)), EVALUATIONS // 5


@pytest.mark.parametrize("name", [*SEQUENTIAL, *BATCHES])
def test_a_trace_is_what_it_was(name):
    search, steps = preset(name)
    keys = jax.random.split(jax.random.key(7), 2)
    asked = simulate(keys, search, benchmark().evaluate, steps).query.arch
    compare(name, rank=ranks(asked))


@pytest.mark.parametrize("name", SEVERAL)
def test_a_trace_of_several_objectives_is_what_it_was(name):
    parameters = counting.parameters(NetworkConfig(), table().arch) / 1e6
    cost = Objective("parameters", "millions", "minimise")
    both = several.with_objectives(benchmark(), {cost: parameters})
    search = SEVERAL[name](SPACE, both.objectives, table().arch[::15])
    keys = jax.random.split(jax.random.key(7), 2)
    asked = simulate(keys, search, both, EVALUATIONS).query.arch
    compare(name, rank=ranks(asked))


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_trace_on_a_synthetic_objective_is_what_it_was(name):
    compare(name, **synthetic_trace(multi_fidelity(name)))


def multi_fidelity(name):
    if name == "priorband":
        likely = np.array([0.1, 0.1, 0.2, 0.4, 0.2])
        plan = brackets.hyperband_brackets(LEVELS, 3)
        return hyperband(SPACE, plan, sampler=priorband_sampler(SPACE, [likely] * 6))
    if name == "dehb":  # as published; that of comparisons is as its authors' program
        return dehb(SPACE, brackets.hyperband_brackets(LEVELS, 3))
    name = name.removesuffix("-early")
    points = tuple(range(1, LEVELS[-1] + 1))
    terms = fidelity_methods.FidelityTerms(LEVELS, 3, paper(3), points, init=5)
    return fidelity_methods.make(name, SPACE, base.every(SPACE)[:1], terms)


def test_a_trace_of_freeze_thaw_is_what_it_was():
    features = [feature_maps.hamming_features(SPACE)]
    pool = make_pool(SPACE, features, arch=base.every(SPACE)[::15])
    search = two_levels(
        bayesopt(pool, init=4, capacity=EVALUATIONS),
        *LEVELS[:1],
        rank=Partial(rank_by_final_mean, pool, 0.5),
        first=8,
        short=6,
        complete=4,
    )
    trace = synthetic_trace(search, workers=2)
    for rank, epoch in zip(*trace.values(), strict=True):
        complete = rank[epoch == LEVELS[-1]]
        assert len(np.unique(complete)) == len(complete) >= 8
    compare("freeze-thaw", **trace)


def synthetic_trace(search, **options):
    made = synthetic.synthetic_benchmark(jax.random.key(0), SPACE, epochs=LEVELS[-1])
    keys = jax.random.split(jax.random.key(7), 2)
    query = simulate(keys, search, made, EVALUATIONS, **options).query
    epoch = np.minimum(query.epoch, LEVELS[-1]).astype(np.int16)
    return {"rank": ranks(query.arch), "epoch": epoch.reshape(2, EVALUATIONS)}


def ranks(arch):
    return np.asarray(base.rank(SPACE, arch), np.int16).reshape(2, EVALUATIONS)


def compare(name, **traced):
    path, version = FOLDER / f"{name}.npz", jax.__version__
    if os.environ.get("JAXNAS_GOLDEN") == "write":
        npz.save_arrays(path, traced, {"name": name, "jax": version})
        pytest.skip(f"wrote {path}")
    arrays, manifest = npz.load_arrays(path)
    if manifest["jax"] != version and name not in ("random", "evolution"):
        says = (
            f"{name}: NOT compared, recorded with jax {manifest['jax']}, not {version}"
        )
        warnings.warn(says, stacklevel=1)  # pytest's summary shows it, and not the skip
        pytest.skip(f"{says}: rounding differs")
    assert sorted(arrays) == sorted(traced)
    for array, values in traced.items():
        np.testing.assert_array_equal(values, arrays[array])


def test_there_is_a_trace_of_every_one_and_of_nothing_else():
    names = (*SEQUENTIAL, *BATCHES, *SEVERAL, *SYNTHETIC, "freeze-thaw")
    wanted = {f"{name}.npz" for name in names}
    assert {path.name for path in FOLDER.iterdir()} == wanted
    assert wanted >= {f"{name}.npz" for name in methods.MAIN}
