"""Gromov-Wasserstein against POT, every matching, and its symmetries."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from jaxnas import transport
from jaxnas.batching import in_blocks
from jaxnas.kernels import graph_distances
from jaxnas.spaces import nasbench201 as nb201

ot = pytest.importorskip("ot")

pytestmark = pytest.mark.usefixtures("quick_compilation")

gromov = jax.jit(transport.gromov_wasserstein, static_argnames=("num_steps", "epsilon"))
fused = jax.jit(
    transport.fused_gromov_wasserstein, static_argnames=("alpha", "num_steps")
)


@functools.cache
def cells(seed, num=200):
    """Pairs of random cells of NAS-Bench-201, as fused Gromov-Wasserstein sees them."""
    distance = graph_distances.fused_gromov_wasserstein(nb201.SPACE)
    arch = np.random.default_rng(seed).integers(0, 5, (2, num, 6)).astype(np.int32)
    prepare = jax.jit(jax.vmap(distance.prepare))
    return [jax.tree.map(np.asarray, prepare(a)) for a in arch]


def by_pot(x, y, i, labels):
    (a, u), (b, v) = ((z.structure.adj[i], z.structure.mass[i]) for z in (x, y))
    keep, other = u > 0, v > 0
    a, b = a[np.ix_(keep, keep)], b[np.ix_(other, other)]
    u, v = (np.full(len(z), 1 / len(z)) for z in (a, b))
    settings = {"symmetric": False, "max_iter": 200}
    if not labels:
        return ot.gromov.gromov_wasserstein2(*map(np.float64, (a, b)), u, v, **settings)
    costs = graph_distances.mismatch_costs(nb201.SPACE)
    cost = costs[np.ix_(x.label[i][keep], y.label[i][other])]
    return ot.gromov.fused_gromov_wasserstein2(
        cost, *map(np.float64, (a, b)), u, v, alpha=0.5, **settings
    )


@pytest.mark.parametrize(
    ("labels", "error", "rank"), [(False, 0.015, 0.95), (True, 0.008, 0.99)]
)
def test_200_pairs_of_cells_are_near_to_pots(labels, error, rank):
    x, y = cells(0)
    name = "fused_gromov_wasserstein" if labels else "gromov_wasserstein"
    distance = getattr(graph_distances, name)(nb201.SPACE)
    of = (lambda z: z) if labels else (lambda z: z.structure)
    found = np.asarray(
        jax.jit(lambda *p: in_blocks(distance.between, *p))(of(x), of(y))
    )
    wanted = np.array([by_pot(x, y, i, labels) for i in range(200)])
    assert found.min() > -1e-6
    assert np.abs(found - wanted).mean() < error
    assert spearmanr(found, wanted)[0] > rank
    # Both end in local optima; ours is lower as well as higher.
    assert (found < wanted + 0.01).mean() > 0.6


def structures(seed, num, n=5):
    rng = np.random.default_rng(seed)
    return np.triu(rng.random((num, n, n)) < 0.5, 1).astype(np.float32)


def test_no_matching_of_small_graphs_is_much_better():
    """A plan of equal masses that is a matching: an upper bound of the least value."""
    x, y = structures(1, 60), structures(2, 60)
    u = np.full((5, 60), 0.2, np.float32)
    found = gromov(x.transpose(1, 2, 0), y.transpose(1, 2, 0), u, u)
    for i in range(60):
        best = min(
            ((x[i] - y[i][np.ix_(p, p)]) ** 2).mean()
            for p in map(list, itertools.permutations(range(5)))
        )
        assert found[i] < best + 0.06
    assert (found < 0.3).all()


def test_a_graph_is_at_zero_from_itself_and_nearly_so_when_renamed():
    x = structures(3, 60)
    u = np.full((5, 60), 0.2, np.float32)
    a = x.transpose(1, 2, 0)
    found = np.asarray(gromov(a, a, u, u))
    assert np.median(found) < 1e-4 and found.max() < 0.02
    order = np.random.default_rng(0).permutation(5)
    found = np.asarray(gromov(a, a[order][:, order], u, u))
    assert (found < 1e-3).mean() > 0.7 and found.max() < 0.2


def test_both_directions_and_padding_are_the_same():
    x, y = structures(4, 50), structures(5, 50, 4)
    a, b = x.transpose(1, 2, 0), y.transpose(1, 2, 0)
    u, v = np.full((5, 50), 0.2, np.float32), np.full((4, 50), 0.25, np.float32)
    found = gromov(a, b, u, v)
    assert np.isclose(gromov(b, a, v, u), found, atol=1e-3).mean() > 0.9
    wide = np.pad(b, ((0, 2), (0, 2), (0, 0)), constant_values=1)
    padded = gromov(a, wide, u, np.pad(v, ((0, 2), (0, 0))))
    np.testing.assert_allclose(padded, found, atol=1e-4)


def test_labels_alone_are_transport():
    rng = np.random.default_rng(6)
    x = structures(6, 30).transpose(1, 2, 0)
    cost = rng.random((5, 5, 30)).astype(np.float32)
    u = np.full((5, 30), 0.2, np.float32)
    found = fused(x, x[::-1], u, u, cost, alpha=0.0, num_steps=40)
    wanted = transport.assignment(cost) / 5
    assert (found > wanted - 1e-6).all()
    np.testing.assert_allclose(found, wanted, atol=0.02)


def test_gradients_are_finite():
    x, y = structures(7, 1, 3)[0], structures(8, 1, 3)[0]
    u = jnp.array([0.5, 0.5, 0.0])
    cost = jnp.ones((3, 3))
    by_all = jax.grad(transport.fused_gromov_wasserstein, (0, 1, 2, 3, 4))
    # Not unrolled: few steps compile sooner, and one has all there is.
    settings = {"num_steps": 2, "num_scalings": 3}
    gradients = jax.jit(lambda *p: by_all(*p, **settings))(x, y, u, u, cost)
    assert all(jnp.isfinite(g).all() for g in gradients)
    # Of the labels' costs it is half the plan, which has the mass 1.
    np.testing.assert_allclose(gradients[4].sum(), 0.5, atol=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha": 1.5}, "alpha must be between 0 and 1, not 1.5"),
        ({"epsilon": -1.0}, "epsilon must be positive, not -1.0"),
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1, not 0"),
        ({"x": np.ones((4, 5))}, "structures of 5 and 5 vertices are square, not of"),
    ],
)
def test_bad_input_is_named(change, words):
    u = np.full(5, 0.2)
    given = {"x": np.ones((5, 5)), "y": np.ones((5, 5)), "cost": np.ones((5, 5))}
    with pytest.raises(ValueError, match=words) as error:
        transport.fused_gromov_wasserstein(u=u, v=u, **(given | change))
    assert "\n" not in str(error.value)
