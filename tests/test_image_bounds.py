"""Bounds of a search on images: what is left out, what is trained, what is reported."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TINY_NETWORK as NETWORK
from helpers import refused

from jaxnas.networks import counting, latency
from jaxnas.search.drive import Evaluation
from jaxnas.spaces import nasbench201
from jaxnas.spaces.nasbench201 import CONV1, CONV3, NONE, POOL, SKIP
from jaxnas.studies.images import bounds, cell_scores
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.types import Query, Result

LIGHT, HEAVY = np.full(6, SKIP, np.int32), np.full(6, CONV3, np.int32)
TIMES = {NONE: 0.0, SKIP: 0.25, CONV1: 1.0, CONV3: 4.0, POOL: 2.0}


# The edges of each path from the input to the output.
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))


def additive(network, arch):
    """Milliseconds of a machine on which each operation has a time of its own."""
    open_paths = [path for path in PATHS if all(arch[e] != NONE for e in path)]
    used = {edge for path in open_paths for edge in path}
    return 3.0 + sum(TIMES[int(arch[edge])] for edge in used)


@pytest.fixture
def budget(tmp_path):
    return TimeBudget(tmp_path / "budget.json", 60.0)


@pytest.fixture
def by_time(monkeypatch, budget):
    """A bound of 12 ms on that machine."""
    monkeypatch.setattr(bounds, "latency_meters", lambda _: (additive, additive))
    return bounds.make_bounds(12.0, None, budget)


def test_latencies_of_a_pool_follow_from_a_few_cells():
    calls, archs = [], cell_scores.candidates()

    def measure(network, arch):
        calls.append(arch)
        return additive(network, arch)

    predicted = bounds.predict_latency(measure, NETWORK, archs)
    assert len(calls) == bounds.MEASURED
    sample = np.random.default_rng(0).choice(len(archs), 50)
    wanted = [additive(NETWORK, arch) for arch in archs[sample]]
    np.testing.assert_allclose(predicted[sample], wanted, 1e-5)


def test_cells_within_all_bounds_are_selected(by_time, budget):
    archs = np.stack([HEAVY, LIGHT, [CONV3, NONE, NONE, NONE, NONE, CONV1]])
    assert bounds.feasible(by_time, NETWORK, archs).tolist() == [False, True, True]
    macs = counting.macs(NETWORK, archs, live_only=True) / 1e6
    both = by_time + bounds.make_bounds(None, macs[1], budget)
    assert bounds.feasible(both, NETWORK, archs).tolist() == [
        False,
        True,
        macs[2] <= macs[1],
    ]
    np.testing.assert_array_equal(bounds.first_within(both, NETWORK, archs), LIGHT)
    # An operation that changes nothing costs nothing.
    unused = np.array([CONV3, NONE, NONE, CONV1, NONE, NONE])
    assert both[1].value(NETWORK, unused) < macs[0]
    fewest = bounds.make_bounds(None, 1e-6, budget)
    message = refused(bounds.feasible, fewest, NETWORK, archs)
    assert "no cell is within --macs 1e-06" in message
    assert f"{macs.min():.4g} millions" in message
    heavier = np.stack([HEAVY, [CONV3, CONV3, CONV3, CONV3, CONV3, POOL]])
    message = refused(bounds.first_within, by_time, NETWORK, heavier)
    assert "no cell is within --latency 12" in message
    closest = nasbench201.to_string(heavier[1])
    assert f"{closest} has {additive(NETWORK, heavier[1]):.4g} ms" in message


def test_cells_beyond_a_bound_fail_without_a_training(by_time):
    asked = []

    def evaluate(key, query):
        asked.append(np.asarray(query.epoch > query.start).tolist())
        return Result(jnp.array([50.0, 60.0]), jnp.zeros((2, 1)), jnp.zeros(2))

    query = Query(jnp.stack([HEAVY, LIGHT]), jnp.full(2, 3), jnp.zeros(2, int))
    guarded = bounds.within(evaluate, by_time, NETWORK)
    score = guarded(jax.random.key(0), query).score
    np.testing.assert_array_equal(score, [np.nan, 60.0])
    assert asked == [[False, True]]
    assert bounds.within(evaluate, (), NETWORK) is evaluate


def test_the_front_is_of_trained_cells(by_time):
    cells = LIGHT, HEAVY, np.full(6, POOL)
    light, heavy, pool = map(nasbench201.to_string, cells)
    scores = {light: 50.0, heavy: np.nan, pool: 40.0}
    history = [Evaluation(name, score) for name, score in scores.items()]
    trained = bounds.with_values(history, by_time, NETWORK)
    assert [e.arch for e in trained] == [light, pool]
    assert bounds.front(trained, by_time) == [
        {"architecture": light, "latency": 4.5, "validation accuracy": 50.0}
    ]


def test_a_latency_is_measured_once_for_a_folder(monkeypatch, tmp_path):
    compiled = []

    def compile_cell(network, arch):
        compiled.append(nasbench201.to_string(np.asarray(arch)))
        return lambda: None

    monkeypatch.setattr(latency, "compile_cell", compile_cell)
    monkeypatch.setattr(latency, "milliseconds", lambda run, reference, clock: 7.0)
    for _ in range(2):
        (bound,) = bounds.make_bounds(9.0, None, TimeBudget(tmp_path / "b.json", 60.0))
        assert bound.value(NETWORK, LIGHT) == bound.value(NETWORK, LIGHT) == 7.0
    names = [nasbench201.to_string(arch) for arch in (LIGHT, latency.REFERENCE)]
    assert sorted(compiled) == sorted(names)
    kept = json.loads((tmp_path / "b.json").read_text())["decided"]
    assert kept[f"latency of {names[0]}, 2 channels, N=1"] == 7.0


def test_networks_of_other_sizes_have_latencies_of_their_own(monkeypatch, tmp_path):
    # What is measured: the size of the network, times that of the reference.
    size = lambda network: network.stem_channels + 100 * network.cells_per_stage  # noqa: E731
    wider, deeper = (
        dataclasses.replace(NETWORK, **{name: 2 * getattr(NETWORK, name)})
        for name in ("stem_channels", "cells_per_stage")
    )
    monkeypatch.setattr(latency, "compile_cell", lambda network, arch: network)
    monkeypatch.setattr(
        latency,
        "measure_reference",
        lambda network, clock: latency.Reference(None, 1000.0 * size(network)),
    )
    monkeypatch.setattr(
        latency,
        "milliseconds",
        lambda network, reference, clock: size(network) + reference.milliseconds,
    )
    for _ in range(2):  # measured, and read from the folder
        (bound,) = bounds.make_bounds(9.0, None, TimeBudget(tmp_path / "b.json", 60.0))
        for network in (deeper, NETWORK, wider):
            assert bound.value(network, LIGHT) == 1001 * size(network)
            assert bound.check(network, LIGHT) == 1001 * size(network)
