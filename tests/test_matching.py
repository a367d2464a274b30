"""Assignments against every permutation and SciPy, with and without prices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from jaxnas import batching, transport

pytestmark = pytest.mark.usefixtures("quick_compilation")

assignment = jax.jit(transport.assignment)


def by_scipy(cost, leave_x, leave_y):
    """A square problem: each row and column can be matched to its own price."""
    n, m = cost.shape
    forbidden = 1e9
    whole = np.zeros((n + m, n + m))
    whole[:n, :m] = np.minimum(cost, forbidden)
    whole[:n, m:] = np.where(np.eye(n, dtype=bool), leave_x[:, None], forbidden)
    whole[n:, :m] = np.where(np.eye(m, dtype=bool), leave_y, forbidden)
    return whole[linear_sum_assignment(whole)].sum()


@pytest.mark.parametrize("num", [1, 2, 5])
def test_no_permutation_is_cheaper(num):
    cost = np.random.default_rng(num).normal(size=(num, num, 20)).astype(np.float32)
    every = [cost[np.arange(num), list(p)].sum(0)
             for p in itertools.permutations(range(num))]  # fmt: skip
    np.testing.assert_allclose(assignment(cost), np.min(every, 0), atol=1e-5)


def test_one_problem_many_and_vmap_are_the_same():
    cost = np.random.default_rng(0).random((6, 6, 30)).astype(np.float32)
    wanted = [c[linear_sum_assignment(c)].sum() for c in cost.transpose(2, 0, 1)]
    np.testing.assert_allclose(assignment(cost), wanted, rtol=1e-5)
    np.testing.assert_allclose(assignment(cost[..., 3]), wanted[3], rtol=1e-5)
    mapped = jax.jit(jax.vmap(transport.assignment, -1))(cost)
    np.testing.assert_array_equal(mapped, assignment(cost))


@pytest.mark.parametrize("shape", [(4, 5), (5, 2)])
def test_what_may_be_left_is_scipys(shape):
    rng = np.random.default_rng(shape[0])
    cost = rng.random((*shape, 40)).astype(np.float32)
    cost[rng.random(cost.shape) < 0.3] = np.inf
    x, y = (rng.random((s, 40)).astype(np.float32) for s in shape)
    found = assignment(cost, x, y)
    for i in range(40):
        wanted = by_scipy(cost[..., i], x[:, i], y[:, i])
        np.testing.assert_allclose(found[i], wanted, rtol=1e-5)
    # Padding changes nothing.
    wider = np.pad(cost, ((0, 1), (0, 2), (0, 0)), constant_values=np.inf)
    prices = np.pad(x, ((0, 1), (0, 0))), np.pad(y, ((0, 2), (0, 0)))
    np.testing.assert_allclose(assignment(wider, *prices), found, rtol=1e-6)


def test_where_there_is_no_matching():
    cost = np.ones((3, 3))
    cost[:2, 1:] = np.inf
    assert assignment(cost) == np.inf


def test_the_gradient_is_the_matching():
    cost = np.random.default_rng(1).random((5, 5)).astype(np.float32)
    gradient = jax.jit(jax.grad(transport.assignment))(jnp.asarray(cost))
    wanted = np.zeros((5, 5))
    wanted[linear_sum_assignment(cost)] = 1
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)


@pytest.mark.parametrize("num", [7, 150])
def test_blocks_change_nothing(num):
    cost = np.random.default_rng(2).random((num, 4, 4)).astype(np.float32)
    found = batching.in_blocks(lambda c: c.sum((0, 1)), cost)
    np.testing.assert_allclose(found, cost.sum((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((2, 3), "2 rows and 3 columns cannot all"), ((13, 13), "at most 12 columns")],
)
def test_what_cannot_be_solved(shape, words):
    with pytest.raises(ValueError, match=words) as error:
        transport.assignment(jnp.ones(shape))
    assert "\n" not in str(error.value)
