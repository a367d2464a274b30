"""What all functions of `transport` do with numbers of any type and unequal totals."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import batching, transport
from jaxnas.transport import entropic, general, masses

pytestmark = pytest.mark.usefixtures("quick_compilation")
PLACES = np.arange(4)
COST = np.abs(PLACES[:, None] - PLACES)
U, V = np.array([3, 1, 2, 4]), np.array([1, 4, 3, 2])
POINTS = np.arange(8).reshape(4, 2)
TREE = transport.subtrees_of([-1, 0, 0, 1])
FEW = {"num_steps": 3}


def sinkhorn(cost, u, v):
    return transport.sinkhorn(cost, u, v, **FEW)


# Functions, their arguments before the masses u and v, and those after them.
BALANCED = {
    "line": (transport.wasserstein_line, (), (PLACES, PLACES[::-1])),
    "sinkhorn": (sinkhorn, (COST,), ()),
    "plan": (lambda *a: transport.sinkhorn_plan(*a, **FEW), (COST,), ()),
    "divergence": (
        lambda *a: transport.sinkhorn_divergence(*a, **FEW), (COST, COST, COST), (),
    ),
    "regularised": (
        lambda *a: entropic.entropic_cost(*a, epsilon=0.1, **FEW), (COST,), (),
    ),
    "gromov": (lambda *a: transport.gromov_wasserstein(*a, **FEW), (COST, COST), ()),
    "fused": (
        lambda *a: transport.fused_gromov_wasserstein(*a, **FEW), (COST, COST), (COST,),
    ),
}  # fmt: skip
GENERAL = {
    "sinkhorn of ott": (general.sinkhorn, (COST,), ()),
    "divergence of ott": (general.sinkhorn_divergence, (POINTS, POINTS), ()),
    "low rank of ott": (lambda *a: general.low_rank(*a, rank=2), (POINTS, POINTS), ()),
    "gromov of ott": (general.gromov_wasserstein, (COST, COST), ()),
}
OTHERS = {
    "tree": (transport.wasserstein_tree, (U, V, TREE, PLACES)),
    "embedding": (transport.tree_embedding, (U, TREE, PLACES)),
    "layers": (lambda m, n: transport.layer_embedding(m, n, shift=0), (U, np.array(3))),
    "assignment": (transport.assignment, (COST,)),
    "assignment with prices": (transport.assignment, (COST, U, V)),
    "blocks": (
        lambda *a: batching.in_blocks(sinkhorn, *a), (COST[None], U[None], V[None]),
    ),
}  # fmt: skip
ALL = OTHERS | {name: (f, (*a, U, V, *b)) for name, (f, a, b) in BALANCED.items()}
OF_OTT = {name: (f, (*a, U, V, *b)) for name, (f, a, b) in GENERAL.items()}


def values(function, arguments, dtype):
    """The result, with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.asarray(function(*(np.asarray(a).astype(dtype) for a in arguments)))


@pytest.mark.parametrize("name", ALL)
def test_numbers_of_every_type_give_the_same_without_a_warning(name):
    wanted = values(*ALL[name], np.float32)
    assert wanted.dtype == np.float32
    for dtype in (np.float64, np.int64, np.int32, np.uint8):
        found = values(*ALL[name], dtype)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["sinkhorn of ott"])
def test_ott_takes_numbers_of_every_type(name):
    pytest.importorskip("ott")
    wanted = values(*OF_OTT[name], np.float32)
    for dtype in (np.float64, np.int64):
        np.testing.assert_allclose(values(*OF_OTT[name], dtype), wanted, rtol=1e-5)


@pytest.mark.parametrize("name", [*BALANCED, *GENERAL])
def test_unequal_totals_are_refused(name):
    function, before, after = (BALANCED | GENERAL)[name]
    for u in (2 * U, U * np.nan, U + [0, 0, 0.01, 0]):
        with pytest.raises(ValueError, match="equal totals, not .* and (10|nan)$"):
            function(*before, u, V, *after)


def test_totals_that_differ_by_rounding_are_equal():
    for u, v in (
        (np.full(3, 0.33333), np.full(4, 0.25)),
        (np.float32([0.1] * 10), np.array([1.0])),
        (np.float16([0.1] * 10), np.array([1.0])),
        (jnp.full(3, 1 / 3, jnp.bfloat16), jnp.ones(1, jnp.bfloat16)),
    ):
        masses.require_equal_totals(u, v)


def test_each_problem_on_trailing_axes_is_checked():
    u, v = np.full((2, 3), 0.5), np.full((2, 3), 0.5)
    v[:, 1] = 0.7
    cost = np.ones((2, 2, 3))
    with pytest.raises(ValueError, match="not 1 and 1.4 in 1 of 3 problems"):
        transport.sinkhorn(cost, u, v, num_steps=1)


def test_values_that_are_not_known_are_not_checked():
    u, v = jnp.full(2, 0.5), jnp.ones(2)
    jax.make_jaxpr(sinkhorn)(jnp.ones((2, 2)), u, v)
    jax.make_jaxpr(lambda u: transport.sinkhorn(jnp.ones((2, 2)), u, v))(u)
