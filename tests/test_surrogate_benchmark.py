"""Learning-curve surrogates as benchmarks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks.base import true_scores
from jaxnas.benchmarks.surrogate import surrogate_benchmark
from jaxnas.curves import compress, noise, regress_mlp, surrogate
from jaxnas.curves.surrogate import Info
from jaxnas.search.loop import simulate
from jaxnas.search.random import random_search
from jaxnas.spaces import base, features
from jaxnas.types import FULL_TRAINING, Query

SPACE = base.product("toy", (3, 2, 2))
EPOCHS = (2, 4, 8)


def encode(arch):
    return features.one_hot(SPACE.choices, arch)


def linear_mlp(weights):
    """A perceptron without a hidden effect: one output, `weights` (d, 1)."""
    dims = weights.shape[0]
    layers = {
        "Dense_0": {"kernel": jnp.eye(dims) * 1e-3, "bias": jnp.full(dims, 20.0)},
        "Dense_1": {
            "kernel": 1e3 * weights,
            "bias": -2e4 * weights.sum(0),
        },
    }
    constants = (jnp.zeros(dims), jnp.ones(dims))
    return regress_mlp.Mlp({"params": layers}, *constants, dims, 1, 1)


def made_up(**more):
    """Curves level (1, 2, 3) / 3 of a level that the first choice decides, 3 values."""
    level = linear_mlp(jnp.array([[10.0], [20.0], [30.0], [0], [0], [0], [0]]))
    linear = compress.Linear(
        centre=jnp.zeros(3),
        basis=jnp.array([[1 / 3, 2 / 3, 1.0]]),
        dual=jnp.array([[0.0], [0.0], [1.0]]),
        mean=jnp.zeros(1),
        scale=jnp.ones(1),
    )
    info = {"space": "toy", "features": "one-hot", "epochs": EPOCHS, **more}
    time = surrogate.Time(None, jnp.log(80.0), jnp.ones(()), jnp.array(True))
    member = surrogate.Member(linear, level)
    std = noise.StdNoise(jnp.full(3, 2.0))
    return surrogate.Surrogate((member,), std, time, Info(**info))


def ask(archs, epochs, starts=0, seeds=None):
    full = lambda x: jnp.broadcast_to(jnp.asarray(x, jnp.int32), len(archs))  # noqa: E731
    seed = None if seeds is None else full(seeds)
    return Query(jnp.asarray(archs, jnp.int32), full(epochs), full(starts), seed)


def test_scores_curves_and_costs():
    benchmark = surrogate_benchmark(made_up(), SPACE, encode)
    assert benchmark.cost_unit == "seconds" and benchmark.epochs == 8
    assert [level.epoch for level in benchmark.levels] == list(EPOCHS)
    archs = [[0, 0, 0], [2, 1, 0], [2, 1, 0], [1, 0, 1], [1, 0, 1], [3, 0, 0]]
    query = ask(archs, [8, 5, 8, 4, 1, 8], [0, 0, 4, 4, 0, 0])
    result = jax.jit(benchmark)(jax.random.key(0), query)
    nan = np.nan
    expected = [[10 / 3, 20 / 3, 10], [10, 20, nan], [10, 20, 30], [nan] * 3]
    np.testing.assert_allclose(result.curve[:4], expected, rtol=1e-3)
    np.testing.assert_allclose(result.score[:4], [10, 20, 30, nan], rtol=1e-3)
    # The full training takes 80 seconds; no value is known after one epoch.
    np.testing.assert_allclose(result.cost, [80, 50, 40, 0, 10, 0], rtol=1e-5)
    assert np.isnan(result.score[4:]).all() and np.isnan(result.curve[4:]).all()


def test_a_loss_becomes_a_score():
    loss = made_up(target="loss", unit="nats", direction="minimise")
    benchmark = surrogate_benchmark(loss, SPACE, encode)
    scores = true_scores(benchmark, np.array([[0, 0, 0], [2, 0, 0], [3, 0, 0]]))
    np.testing.assert_allclose(scores, [-10, -30, np.nan], rtol=1e-3)


def test_draws_belong_to_architecture_and_repetition():
    benchmark = surrogate_benchmark(made_up(), SPACE, encode, noise="draws")
    archs = [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]]
    query = ask(archs, [4, FULL_TRAINING, 8, 8], seeds=[0, 0, 1, 0])
    curve = benchmark(jax.random.key(0), query).curve
    np.testing.assert_allclose(curve[0, :2], curve[1, :2])
    assert np.abs(np.diff(curve[1:, 0])).min() > 1e-3
    other = benchmark(jax.random.key(1), query).curve
    assert abs(other[1, 0] - curve[1, 0]) > 1e-3
    assert 0 < np.abs(curve[1:] - np.array([20 / 3, 40 / 3, 20])).max() < 10


def test_a_search_runs_on_it():
    benchmark = surrogate_benchmark(made_up(), SPACE, encode)
    keys = jax.random.split(jax.random.key(0), 2)
    trace = simulate(keys, random_search(SPACE), benchmark, num_steps=12)
    np.testing.assert_allclose(
        trace.score[..., 0], 10 + 10 * trace.query.arch[..., 0, 0], rtol=1e-3
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"space": base.product("other", (3, 2, 2))},
            "of the space 'toy', not 'other'",
        ),
        (
            {"encode": lambda arch: arch * 1.0},
            r"shape \(3,\), the surrogate takes \(7,\)",
        ),
        ({"noise": "some"}, "noise must be 'none' or 'draws', not 'some'"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    given = {"space": SPACE, "encode": encode, **change}
    with pytest.raises(ValueError, match=words):
        surrogate_benchmark(made_up(), given.pop("space"), given.pop("encode"), **given)
