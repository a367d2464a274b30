"""Entropic transport against linear programming, ott and the identities it has."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import transport
from jaxnas.transport import entropic, general

ot = pytest.importorskip("ot")
pytestmark = pytest.mark.usefixtures("quick_compilation")

sinkhorn = jax.jit(transport.sinkhorn, static_argnames=("epsilon", "num_steps"))
plan_of = jax.jit(transport.sinkhorn_plan, static_argnames=("epsilon", "num_steps"))
divergence = jax.jit(transport.sinkhorn_divergence)


def problems(seed, num=200, n=8, m=6, far=1.0):
    rng = np.random.default_rng(seed)
    cost = (far * rng.random((n, m, num))).astype(np.float32)
    u, v = (rng.dirichlet(np.ones(k), num).T.astype(np.float32) for k in (n, m))
    return cost, u, v


def exact(cost, u, v):
    u, v = (x.astype(np.float64) / x.sum(dtype=np.float64) for x in (u, v))
    return ot.emd2(u, v, np.ascontiguousarray(cost, np.float64))


def test_it_is_close_to_exact_transport_and_never_below():
    cost, u, v = problems(0)
    wanted = np.array([exact(cost[..., i], u[:, i], v[:, i]) for i in range(200)])
    found = sinkhorn(cost, u, v)
    assert (found > wanted - 1e-6).all()
    assert np.abs(found - wanted).mean() < 0.03
    closer = np.asarray(sinkhorn(cost, u, v, epsilon=0.01, num_steps=1000)) - wanted
    assert closer.min() > -1e-6 and closer.mean() < 0.003


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 1.0])
def test_marginals_are_exact_whatever_the_costs(epsilon):
    cost, u, v = problems(1, far=100.0)
    cost = cost + 1000 * np.arange(8, dtype=np.float32)[:, None, None]
    plan = np.asarray(plan_of(cost, u, v, epsilon=epsilon, num_steps=20))
    assert (plan >= 0).all()
    np.testing.assert_allclose(plan.sum(1), u, atol=2e-6)
    np.testing.assert_allclose(plan.sum(0), v, atol=2e-6)


def test_padding_changes_nothing():
    cost, u, v = problems(2, num=20)
    wider = np.pad(cost, ((0, 2), (1, 0), (0, 0)), constant_values=-1e3)
    masses = np.pad(u, ((0, 2), (0, 0))), np.pad(v, ((1, 0), (0, 0)))
    found = sinkhorn(wider, *masses)
    np.testing.assert_allclose(found, sinkhorn(cost, u, v), rtol=1e-5)
    assert not np.asarray(plan_of(wider, *masses))[8:].any()


def test_the_objective_is_otts(x64):
    pytest.importorskip("ott")
    cost, u, v = (x.astype(np.float64) for x in problems(3, 3, 4, 4))
    ours = jax.jit(
        functools.partial(entropic.entropic_cost, epsilon=0.1, num_steps=2000)
    )
    theirs = jax.jit(functools.partial(general.sinkhorn, epsilon=0.1))
    for i in range(3):
        problem = cost[..., i], u[:, i] / u[:, i].sum(), v[:, i] / v[:, i].sum()
        np.testing.assert_allclose(ours(*problem), theirs(*problem), atol=2e-3)


def clouds(seed, n=7, m=5):
    rng = np.random.default_rng(seed)
    x, y = rng.random((n, 2)), rng.random((m, 2))
    u, v = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    return tuple(np.float32(z) for z in (x, y, u, v))


def squared(x, y):
    return ((x[:, None] - y[None]) ** 2).sum(-1)


def test_the_divergence_is_zero_for_equal_measures_positive_else_and_otts():
    pytest.importorskip("ott")
    theirs = jax.jit(general.sinkhorn_divergence)
    for seed in range(3):
        x, y, u, v = clouds(seed)
        costs = squared(x, y), squared(x, x), squared(y, y)
        found = divergence(*costs, u, v)
        assert found > 0
        np.testing.assert_allclose(found, theirs(x, y, u, v), atol=2e-3)
        same = divergence(costs[1], costs[1], costs[1], u, u)
        np.testing.assert_allclose(same, 0, atol=1e-6)
        order = np.random.default_rng(seed).permutation(7)
        renamed = squared(x[order], x[order])
        moved = divergence(costs[1][:, order], costs[1], renamed, u, u[order])
        np.testing.assert_allclose(moved, 0, atol=1e-5)


def test_gradients_are_finite_also_with_padding(x64):
    cost, u, v = (x[..., 0].astype(np.float64) for x in problems(4, 1, 4, 3))
    u[2] = 0
    u, v = u / u.sum(), v / v.sum()
    value = functools.partial(entropic.entropic_cost, epsilon=0.1, num_steps=100)
    gradient, *by_masses = jax.jit(jax.grad(value, (0, 1, 2)))(cost, u, v)
    # The derivative by the costs is the plan (Danskin).
    plan = transport.sinkhorn_plan(cost, u, v, epsilon=0.1, num_steps=100)
    np.testing.assert_allclose(gradient, plan, atol=1e-3)
    assert all(jnp.isfinite(g).all() for g in by_masses)


def test_general_sizes():
    pytest.importorskip("ott")
    x, y, u, v = clouds(5, 30, 20)
    structures = squared(x, x), squared(y, y)
    # Compiling them takes longer than all else here: that they can be traced must do.
    for function, problem, settings in (
        (general.low_rank, (x, y), {"rank": 5}),
        (general.gromov_wasserstein, structures, {}),
        (general.gromov_wasserstein, structures, {"rank": 5}),
    ):
        shape = jax.eval_shape(functools.partial(function, **settings), *problem, u, v)
        assert shape.shape == ()
    with pytest.raises(ValueError, match="rank must be at least 1, not 0"):
        general.low_rank(x, y, u, v, rank=0)


def test_without_ott_the_message_names_the_extra(monkeypatch):
    import sys

    for name in [n for n in sys.modules if n == "ott" or n.startswith("ott.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ott", None)
    cost, u, v = (x[..., 0] for x in problems(6, num=1))
    with pytest.raises(ImportError, match=r"pip install 'jaxnas\[ot\]'"):
        general.sinkhorn(cost, u, v)


def test_integers_and_lists_are_taken():
    cost, u = np.abs(np.subtract.outer(np.arange(3), np.arange(4))), [4, 4, 4]
    found = transport.sinkhorn(cost.tolist(), u, [3, 3, 3, 3])
    wanted = transport.sinkhorn(jnp.float32(cost), jnp.full(3, 4.0), jnp.full(4, 3.0))
    np.testing.assert_array_equal(found, wanted)


def test_shapes_that_do_not_fit_are_named():
    cost, u, v = problems(7, num=2)
    wrong = (cost, v[:-1], v), (cost, u[..., 0], v), (u, u, v)
    for arguments in wrong:
        for function in (transport.sinkhorn, transport.sinkhorn_plan):
            with pytest.raises(ValueError, match=r"must be \(n, m, ...\), .* not \("):
                function(*arguments)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epsilon": 0.0}, "epsilon must be positive, not 0.0"),
        ({"epsilon": float("nan")}, "epsilon must be positive, not nan"),
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1, not 0"),
        ({"num_steps": 1.5}, "num_steps must be a whole number of at least 1, not 1.5"),
    ],
)
def test_bad_settings_are_named(settings, words):
    for function in (transport.sinkhorn, transport.sinkhorn_plan):
        with pytest.raises(ValueError, match=words) as error:
            function(*problems(7, num=1), **settings)
        assert "\n" not in str(error.value)
