"""Local search against a plain Python program."""

import functools

import jax
import numpy as np
import pytest

from jaxnas.benchmarks import synthetic
from jaxnas.search.local_search import local_search
from jaxnas.search.loop import simulate
from jaxnas.spaces import base

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (4, 3, 5))
INIT = 5


@functools.cache
def runs(batch=1, workers=1):
    benchmark = synthetic.synthetic_benchmark(jax.random.key(1), SPACE, epochs=2)
    keys = jax.random.split(jax.random.key(0), 3)
    search = local_search(SPACE, init=INIT, batch=batch)
    trace = simulate(keys, search, benchmark, 60 // batch, workers=workers)
    arch = np.asarray(trace.query.arch).reshape(3, 60, 3)
    return arch.tolist(), np.asarray(trace.score).reshape(3, 60)


def near(arch):
    """All vectors that differ from `arch` at one position."""
    return [
        [*arch[:p], v, *arch[p + 1 :]]
        for p, choices in enumerate(SPACE.choices)
        for v in range(choices)
        if v != arch[p]
    ]


def replay(archs, scores):
    """Checks every query; returns how often the search restarted and moved."""
    first = int(np.argmax(scores[:INIT]))
    centre, best, left = (archs[first], scores[first]), None, None
    restarts = moves = 0
    for arch, score in zip(archs[INIT:], scores[INIT:], strict=True):
        if left is None:
            best, left = centre, near(centre[0])
        if not left:  # the descent has ended: a random one
            restarts += 1
            centre, left = (arch, score), None
            continue
        assert arch in left
        left.remove(arch)
        if score > best[1]:
            best = arch, score
        if not left and best[1] > centre[1]:
            centre, left = best, None
            moves += 1
    return restarts, moves


def test_queries_are_those_of_a_python_program():
    counts = [replay(*run) for run in zip(*runs(), strict=True)]
    restarts, moves = np.sum(counts, 0)
    assert restarts >= 2 and moves >= 2
    orders = {str(archs[INIT : INIT + 3]) for archs in runs()[0]}
    assert len(orders) == 3


@pytest.mark.parametrize(("options", "begin"), [({"batch": 3}, 6), ({"workers": 3}, 7)])
def test_side_by_side_each_neighbour_is_asked_once(options, begin):
    for archs, scores in zip(*runs(**options), strict=True):
        centre = archs[int(np.argmax(scores[:INIT]))]
        # Random ones were asked before the centre was known, perhaps neighbours too.
        early = [arch for arch in archs[INIT:begin] if arch in near(centre)]
        left = len(near(centre)) - len(early)
        asked = early + archs[begin : begin + left]
        assert sorted(asked) == sorted(near(centre))
        assert max(scores) > max(scores[:INIT])


@pytest.mark.parametrize("size", ["init", "batch", "epoch"])
def test_bad_sizes_are_named(size):
    with pytest.raises(ValueError, match=f"{size} must be at least 1, not 0"):
        local_search(SPACE, **{size: 0})
