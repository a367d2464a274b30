"""A search of a given list."""

import functools

import jax
import numpy as np
import pytest

from jaxnas.benchmarks.synthetic import synthetic_benchmark
from jaxnas.search import drive
from jaxnas.search.loop import simulate
from jaxnas.search.ordered import in_order
from jaxnas.spaces import base
from jaxnas.types import asked

SPACE = base.product("toy", (3,) * 4)
LIST = np.random.default_rng(0).permutation(base.every(SPACE))[:7]
OBJECTIVE = synthetic_benchmark(jax.random.key(5), SPACE, epochs=4).evaluate


@pytest.mark.parametrize("batch", [1, 3])
def test_the_list_is_asked_in_its_order(batch):
    steps = -(-7 // batch)
    search = in_order(SPACE, LIST, batch=batch, epoch=2)
    trace = simulate(jax.random.split(jax.random.key(0), 2), search, OBJECTIVE, steps)
    wanted = asked(trace.query)
    for arch, some in zip(trace.query.arch, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(arch)[np.asarray(some)], LIST)
    assert (trace.query.epoch[wanted] == 2).all() and (trace.cost[wanted] == 2).all()


def test_idle_slots_are_asked_again():
    search = in_order(SPACE, LIST, batch=2)
    state = search.init(jax.random.key(0))
    query = search.ask(jax.random.key(0), state)
    half = query._replace(start=query.start.at[0].set(query.epoch[0]))
    result = OBJECTIVE(jax.random.key(0), half)
    idle = query._replace(start=query.epoch)
    np.testing.assert_array_equal(
        search.tell(state, idle, result).evaluated, state.evaluated
    )
    again = search.ask(jax.random.key(1), search.tell(state, half, result))
    np.testing.assert_array_equal(again.arch, LIST[[0, 2]])
    aware = search.ask(jax.random.key(1), search.expect(state, query))
    np.testing.assert_array_equal(aware.arch, LIST[[2, 3]])


def test_results_from_outside_of_the_list_take_no_step_of_it(tmp_path):
    search, function = in_order(SPACE, LIST), lambda arch: float(arch[0])
    other = next(a for a in base.every(SPACE) if not (LIST == a).all(1).any())
    outside = [drive.Evaluation(SPACE.to_string(other), 9.0)]
    run = functools.partial(drive.optimise, jax.random.key(0), search, function)
    found = run(7, tmp_path / "run", given=outside)
    assert [e.arch for e in found[1:]] == [SPACE.to_string(arch) for arch in LIST]
    first = [drive.Evaluation(SPACE.to_string(LIST[0]), 9.0)]
    with pytest.raises(ValueError, match="not enough for 8 steps"):
        run(7, tmp_path / "one", given=first)
    found = run(6, tmp_path / "one", given=first)
    assert [e.arch for e in found] == [SPACE.to_string(arch) for arch in LIST]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: in_order(SPACE, LIST[:, :2]), "an integer vector of shape"),
        (
            lambda: in_order(SPACE, LIST[:0]),
            r"must be \(n, d\) with n >= 1, not \(0, 4\)",
        ),
        (lambda: in_order(SPACE, LIST + 1), "toy has choices 0..2 at position"),
        (lambda: in_order(SPACE, LIST[[0, 1, 0]]), "more than once"),
        (lambda: in_order(SPACE, LIST, batch=0), "batch must be at least 1, not 0"),
        (
            lambda: in_order(SPACE, LIST, batch=2).stages(5),
            "the list has 7 architectures: not enough for 5 steps of 2",
        ),
    ],
)
def test_bad_lists_are_named(build, words):
    with pytest.raises(ValueError, match=words) as error:
        build()
    assert "\n" not in str(error.value)
