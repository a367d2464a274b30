"""Wasserstein distances on a line and a tree against SciPy and linear programming."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import shortest_path
from scipy.stats import wasserstein_distance

from jaxnas import transport

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(autouse=True)
def precision(x64):
    """Everything here is in double precision."""


line = jax.jit(transport.wasserstein_line)
tree = jax.jit(transport.wasserstein_tree)


@functools.cache
def layers(shift):
    embed = functools.partial(transport.layer_embedding, shift=shift)
    return jax.jit(jax.vmap(embed, (0, None)))


def test_on_a_line_it_is_scipys():
    rng = np.random.default_rng(0)
    for i in range(30):
        u, v = rng.dirichlet(np.full(7, 0.5)), rng.dirichlet(np.full(4, 0.5))
        x, y = rng.normal(size=7), rng.normal(size=4)
        if i % 2:  # ties within and between
            x, y = x.round(), y.round()
        wanted = wasserstein_distance(x, y, u, v)
        np.testing.assert_allclose(line(u, v, x, y), wanted, atol=1e-12)
        np.testing.assert_allclose(line(v, u, y, x), wanted, atol=1e-12)
        np.testing.assert_allclose(line(3 * u, 3 * v, x, y), 3 * wanted, atol=1e-12)


def test_the_worked_example():
    u, v = jnp.array([0.5, 0.5]), jnp.array([0.2, 0.3, 0.5])
    x, y = jnp.array([0, 0.5]), jnp.array([0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(line(u, v, x, y), 0.3 / 3 + 0.5 / 6, atol=1e-15)


def random_tree(rng, num):
    """Parents in random order (the root is anywhere), and edge lengths."""
    parent = np.array([-1] + [rng.integers(i) for i in range(1, num)])
    name = rng.permutation(num)
    renamed = np.empty(num, int)
    renamed[name] = np.where(parent < 0, -1, name[parent])
    return renamed, np.where(renamed < 0, 0.0, rng.uniform(0.1, 2, num))


@pytest.mark.parametrize("seed", range(8))
def test_on_a_tree_linear_programming_finds_no_cheaper_plan(seed):
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(seed)
    parent, lengths = random_tree(rng, 9)
    subtrees = transport.subtrees_of(parent)
    edges = np.zeros((9, 9))
    child = np.flatnonzero(parent >= 0)
    edges[child, parent[child]] = lengths[child]
    metric = shortest_path(edges, directed=False)
    for _ in range(4):
        u, v = rng.dirichlet(np.full(9, 0.4), 2)
        plan = ot.emd2(u, v, metric)
        np.testing.assert_allclose(tree(u, v, subtrees, lengths), plan, atol=1e-10)
    points = np.eye(9)
    apart = jax.vmap(jax.vmap(tree, (0, None, None, None)), (None, 0, None, None))
    np.testing.assert_allclose(
        apart(points, points, subtrees, lengths), metric, atol=1e-12
    )


def test_a_star_is_total_variation_and_a_chain_a_line():
    rng = np.random.default_rng(3)
    u, v = rng.dirichlet(np.ones(6), 2)
    star = transport.subtrees_of([-1, 0, 0, 0, 0, 0])
    half = np.full(6, 0.5)
    u[0] = v[0] = 0  # the mass is on the leaves
    u, v = u / u.sum(), v / v.sum()
    np.testing.assert_allclose(tree(u, v, star, half), abs(u - v).sum() / 2)
    chain, gaps = transport.subtrees_of([-1, 0, 1, 2, 3, 4]), rng.uniform(0, 1, 6)
    gaps[0] = 0
    x = gaps.cumsum()
    np.testing.assert_allclose(tree(u, v, chain, gaps), line(u, v, x, x), atol=1e-12)


def test_unequal_totals_are_made_up_at_the_root():
    chain = transport.subtrees_of([-1, 0, 1])
    u, v = np.array([0.0, 0.0, 1.0]), np.zeros(3)
    np.testing.assert_allclose(tree(u, v, chain, np.array([0.0, 2.0, 5.0])), 7.0)


def test_distances_are_between_embeddings():
    rng = np.random.default_rng(4)
    parent, lengths = random_tree(rng, 8)
    subtrees = transport.subtrees_of(parent)
    u, v = rng.dirichlet(np.ones(8), 2)
    x, y = (transport.tree_embedding(m, subtrees, lengths) for m in (u, v))
    np.testing.assert_allclose(np.abs(x - y).sum(), tree(u, v, subtrees, lengths))


@pytest.mark.parametrize("shift", [0, 1])
def test_layers_of_every_number(shift):
    """Histograms over 1 to 8 layers, all pairs, against the line."""
    rng = np.random.default_rng(shift)
    masses, embeddings, positions = [], [], []
    for num in range(1, 9):
        mass = np.zeros((4, 8))
        mass[:, :num] = rng.dirichlet(np.full(num, 0.5), 4)
        masses.extend(mass)
        embeddings.extend(layers(shift)(mass, num))
        # Beyond the last layer there is no mass, wherever that stands.
        positions.extend(4 * [(np.arange(8) + shift) / num])
    embeddings = np.array(embeddings)
    found = np.abs(embeddings[:, None] - embeddings[None]).sum(-1)
    for i in range(32):
        for j in range(i):
            wanted = wasserstein_distance(
                positions[i], positions[j], masses[i], masses[j]
            )
            np.testing.assert_allclose(found[i, j], wanted, atol=1e-12)


def test_layers_that_meet_are_told_apart_in_integers():
    """A unit mass in layer 2 of 3, and in layer 4 of 6, is in the same place."""
    unit = np.eye(8, dtype=np.float32)
    for shift in (0, 1):
        a = layers(shift)(unit[None, 2 - shift], 3)
        b = layers(shift)(unit[None, 4 - shift], 6)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == jnp.float32


def test_gradients():
    rng = np.random.default_rng(6)
    u, v = rng.dirichlet(np.ones(5), 2)
    x, y = rng.normal(size=(2, 5))
    parent, lengths = random_tree(rng, 5)
    subtrees = transport.subtrees_of(parent)
    on_tree = lambda u, v, lengths: tree(u, v, subtrees, lengths)  # noqa: E731
    for function, arguments in ((line, (u, v, x, y)), (on_tree, (u, v, lengths))):
        places = tuple(range(len(arguments)))
        gradients = jax.jit(jax.grad(function, places))(*arguments)
        for place, gradient in enumerate(gradients):
            for k in range(5):
                step = np.zeros(5)
                step[k] = 1e-6
                moved = [
                    function(*(a + s * step * (i == place) for i, a in all_of))
                    for all_of in [list(enumerate(arguments))]
                    for s in (1, -1)
                ]
                numerical = (moved[0] - moved[1]) / 2e-6
                np.testing.assert_allclose(gradient[k], numerical, atol=1e-7)


def test_subtrees_by_hand():
    below = transport.subtrees_of([2, 2, -1, 1, 1])
    wanted = [
        [1, 0, 0, 0, 0],
        [0, 1, 0, 1, 1],
        [1, 1, 1, 1, 1],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    np.testing.assert_array_equal(below, wanted)
    np.testing.assert_array_equal(transport.subtrees_of([-1]), [[1]])


@pytest.mark.parametrize(
    ("parent", "words"),
    [
        ([0, 0], "one -1 and else 0..1"),
        ([-1, -1], "one -1"),
        ([-1, 2, 1], "has a cycle"),
        ([-1, 1], "has a cycle"),
        ([-1, 2], "else 0..1"),
        ([-1, -2], "one -1"),
        ([-1.0, 0.0], "a vector of integers, not float64"),
        ([[-1, 0]], r"a vector of integers, not int64 \(1, 2\)"),
    ],
)
def test_what_is_no_tree(parent, words):
    with pytest.raises(ValueError, match=words) as error:
        transport.subtrees_of(parent)
    assert "\n" not in str(error.value)


def test_farey_fractions():
    with pytest.raises(ValueError, match="order must be at least 1, not 0"):
        transport.farey_sequence(0)
    eighth = transport.farey_sequence(8)
    assert len(eighth) == 23
    wanted = sorted({p / q for q in range(1, 9) for p in range(q + 1)})
    np.testing.assert_array_equal(eighth[:, 0] / eighth[:, 1], wanted)
    assert all(math.gcd(p, q) == 1 for p, q in eighth.tolist())
    # Neighbours p/q < r/s satisfy q r - p s = 1.
    (p, q), (r, s) = eighth[:-1].T, eighth[1:].T
    np.testing.assert_array_equal(q * r - p * s, 1)


# --- input ------------------------------------------------------------------------------


def test_integers_are_as_good_as_floats():
    mass = np.array([2, 1, 1])
    for shift in (0, 1):
        found = transport.layer_embedding(mass, 3, shift=shift)
        wanted = transport.layer_embedding(mass.astype(np.float32), 3, shift=shift)
        np.testing.assert_allclose(found, wanted, 1e-6)
        assert found.any()
    cost = np.array([[4, 1, 3], [2, 0, 5], [3, 2, 2]])
    assert transport.assignment(cost) == 5
    tree = transport.subtrees_of([-1, 0, 0])
    lengths = np.array([0.0, 0.5, 0.25])
    found = transport.wasserstein_tree(np.array([0, 1, 0]), mass * 0, tree, lengths)
    assert found == 0.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda t: t.wasserstein_line(
                np.ones(3), np.ones(4), np.ones(4), np.ones(3)
            ),
            r"wanted u \(n\), x \(n\), v \(m\), y \(m\); found u \(3,\), x \(4,\)",
        ),
        (
            lambda t: t.wasserstein_tree(np.ones(1), np.ones(3), np.eye(3), np.ones(3)),
            r"found u \(1,\), v \(3,\)",
        ),
        (
            lambda t: t.wasserstein_tree(np.ones(3), np.ones(3), np.eye(3), np.ones(1)),
            r"lengths \(e\); found .* lengths \(1,\)",
        ),
        (
            lambda t: t.assignment(np.ones((3, 3)), np.zeros(3), np.zeros(2)),
            r"wanted leave_y \(3,\) for costs \(3, 3\), found \(2,\)",
        ),
        (
            lambda t: t.fused_gromov_wasserstein(
                *(np.ones((3, 3)), np.ones((4, 4))),
                *(np.ones(3) / 3, np.ones(4) / 4, np.ones(4)),
            ),
            r"wanted costs \(3, 4\) of 3 and 4 vertices, found \(4,\)",
        ),
    ],
)
def test_wrong_shapes_are_named(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call(transport)
    assert "\n" not in str(error.value)
