"""Tables of distances: what they hold, their repair, their cache, and search with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.kernels import (
    definite,
    distance_matrices,
    feature_maps,
    gram,
    graph_distances,
)
from jaxnas.predictors import pool as pools
from jaxnas.spaces import features, nasbench201_classes
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.studies.comparison import methods
from jaxnas.types import Query, Result

ot = pytest.importorskip("ot")
pytestmark = pytest.mark.usefixtures("quick_compilation")
SPACE = nb201.SPACE
GROMOV = graph_distances.gromov_wasserstein(SPACE)
# Positions that differ, cubed: quick to compile, and not negative definite.
CUBE = graph_distances.GraphDistance(
    "cube nasbench201",
    lambda arch: features.one_hot(SPACE.choices, arch) / 2,
    lambda x, y: jnp.abs(x - y).sum(0) ** 3,
)
ISOMORPHIC = nasbench201_classes.isomorphism_class


@functools.cache
def archs(num=100):
    return np.random.default_rng(0).integers(0, 5, (num, 6)).astype(np.int32)


def apart(num=20, seed=0):
    """Squared distances of points: negative definite."""
    x = np.random.default_rng(seed).normal(size=(num, 4))
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def no_kernel(num=20):
    """Points on a circle, by the cube of their distance."""
    angle = np.linspace(0, 2 * np.pi, num, endpoint=False)
    x = np.stack([np.cos(angle), np.sin(angle)], -1)
    distance = ((x[:, None] - x[None]) ** 2).sum(-1) ** 1.5
    np.fill_diagonal(distance, 0)
    return (distance + distance.T) / 2


def least_eigenvalue(between, scale):
    return np.linalg.eigvalsh(np.exp(-between / scale))[0]


def test_what_is_negative_definite_stays_as_it_is():
    for repair in (None, "clip", "shift"):
        found = definite.require_negative_definite(apart(), repair)
        np.testing.assert_array_equal(found.values, apart())
        assert found.change == 0 and found.smallest > -1e-9 < found.largest


def test_it_is_refused_with_the_eigenvalue():
    centre = np.eye(20) - 1 / 20
    values = np.linalg.eigvalsh(-centre @ no_kernel() @ centre / 2)
    words = f"eigenvalues from {values[0]:.3g} to {values[-1]:.3g}; repair='clip' or"
    with pytest.raises(
        ValueError, match=f"'gw' is not neg.*20 graphs.*{words}"
    ) as error:
        definite.require_negative_definite(no_kernel(), name="'gw'")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("repair", ["clip", "shift"])
def test_repaired_it_is_a_kernel_at_every_scale(repair):
    assert min(least_eigenvalue(no_kernel(), s) for s in (0.5, 5.0, 50.0)) < -1e-6
    found = definite.require_negative_definite(no_kernel(), repair)
    assert found.smallest < 0 < found.change
    for scale in (0.5, 5.0, 50.0, 500.0):
        assert least_eigenvalue(found.values, scale) > -1e-10
    again = definite.require_negative_definite(found.values)
    np.testing.assert_array_equal(again.values, found.values)
    if repair == "shift":
        off = ~np.eye(20, dtype=bool)
        added = (found.values - no_kernel())[off]
        np.testing.assert_allclose(added, -2 * found.smallest)


@pytest.mark.parametrize(
    ("between", "repair", "words"),
    [
        (apart(), "guess", "repair must be None, clip or shift, not 'guess'"),
        (apart()[:3], None, r"a distance matrix is square, not \(3, 20\)"),
        (np.full((2, 2), np.nan), None, "a distance is not finite"),
        (-1.0 + np.eye(2), "clip", "a distance is negative, -1"),
        (np.array([[0.0, 1], [2, 0]]), None, "must be symmetric with zeros"),
        (np.ones((2, 2)), None, "must be symmetric with zeros"),
    ],
)
def test_a_matrix_that_is_not_a_distance_is_refused(between, repair, words):
    with pytest.raises(ValueError, match=words):
        definite.require_negative_definite(between, repair)


@functools.cache
def table(**settings):
    return distance_matrices.distance_matrix(
        SPACE, archs(), CUBE, repair="clip", **settings
    )


def test_a_table_has_the_distances_of_its_cells():
    prepared, kind = distance_matrices._distinct(CUBE, archs())
    found = distance_matrices.all_pairs(CUBE, prepared)
    checked = definite.require_negative_definite(found, "clip")
    np.testing.assert_allclose(table().values, checked.values, atol=1e-5)
    np.testing.assert_allclose(table().spectrum, checked[1:3], rtol=1e-3)
    np.testing.assert_array_equal(table().kind, kind)
    assert table().kind.dtype == jnp.int32
    # Repaired for all, it is a kernel on every part.
    some = np.asarray(table().values, np.float64)[10:60, 10:60]
    assert least_eigenvalue(some, some.mean()) > -1e-5


def test_isomorphic_cells_are_one():
    merged = table(same=ISOMORPHIC)
    code = np.asarray(jax.jit(jax.vmap(ISOMORPHIC))(archs()))
    kind = np.asarray(merged.kind)
    for one in np.unique(code):
        assert len(np.unique(kind[code == one])) == 1
    # The smallest stands for the others.
    arch = np.array([[3, 0, 0, 3, 0, 0], [3, 2, 0, 3, 0, 0], [0, 0, 0, 3, 0, 0]])
    chosen, group = distance_matrices.representatives(
        SPACE, arch.astype(np.int32), ISOMORPHIC
    )
    assert chosen.tolist() == [2] and group.tolist() == [0, 0, 0]


def test_a_table_is_kept_and_a_damaged_one_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path))
    distance = CUBE

    def make(**s):
        return distance_matrices.distance_matrix(
            SPACE, archs(), distance, repair="clip", **s
        )

    first = make(cache=False)
    assert not list(tmp_path.iterdir())
    computed, all_pairs = [], distance_matrices.all_pairs
    count = lambda *p: computed.append(1) or all_pairs(*p)  # noqa: E731
    monkeypatch.setattr(distance_matrices, "all_pairs", count)
    jax.tree.map(np.testing.assert_array_equal, make(), first)
    (path,) = tmp_path.iterdir()
    jax.tree.map(np.testing.assert_array_equal, make(), first)
    assert len(computed) == 1
    path.write_bytes(path.read_bytes()[:-30])
    jax.tree.map(np.testing.assert_array_equal, make(), first)
    assert len(computed) == 2


def test_what_a_table_refuses(monkeypatch):
    distance = CUBE
    with pytest.raises(ValueError, match="cube nasbench201 is not negative definite"):
        distance_matrices.distance_matrix(SPACE, archs(), distance, cache=False)
    monkeypatch.setattr(distance_matrices, "MAX_KINDS", 5)
    with pytest.raises(ValueError, match="different cells is too large: at most 5"):
        distance_matrices.distance_matrix(SPACE, archs(), distance, cache=False)
    broken = distance._replace(between=lambda x, y: jnp.nan * x.sum(0))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="a distance is not finite"):
        distance_matrices.distance_matrix(SPACE, archs(), broken, cache=False)


def test_tables_and_embeddings_in_one_pool():
    one = lambda arch: distance_matrices.distance_matrix(  # noqa: E731
        SPACE, arch, CUBE, repair="clip"
    )
    pool = pools.make_pool(
        SPACE,
        [feature_maps.hamming_features(SPACE)],
        arch=archs(),
        distance_matrices=[one],
    )
    embeddings = pool.embeddings
    assert len(embeddings.parts) == 2 and pool.prior.scales.shape == (2,)
    assert gram.num_distinct(embeddings) == len(np.unique(embeddings.column))
    wanted, row = one(np.asarray(pool.arch)), np.asarray(embeddings.column)
    between = np.asarray(wanted.values)[np.ix_(wanted.kind, wanted.kind)]
    found = gram.distances_between(embeddings, embeddings.column[:9])
    np.testing.assert_allclose(found[1], between[:9, :9], atol=1e-5)
    hamming = (pool.arch[:, None] != pool.arch[None]).sum(-1)
    for i in (0, 30):
        column = gram.distances_from(embeddings, embeddings.column[i])[:, row]
        np.testing.assert_allclose(column[0], hamming[i], atol=1e-5)
        np.testing.assert_allclose(column[1], between[i], atol=1e-5)
    np.testing.assert_allclose(
        gram.mean_distances(embeddings), [hamming.mean(), between.mean()], rtol=0.08
    )


def test_operation_transport_is_exact_transport():
    embed = jax.jit(jax.vmap(feature_maps.operation_transport_features(SPACE)))
    (part,) = embed(archs())
    cells = jax.jit(jax.vmap(SPACE.to_graph))(archs())
    counts = (cells.ops[..., None] == np.arange(4)) & cells.adj.any(1)[..., None]
    counts |= (cells.ops[..., None] == np.arange(4)) & cells.adj.any(2)[..., None]
    counts = np.asarray(counts.sum(1), float)
    costs = np.full((4, 4), graph_distances.FORBIDDEN)
    costs[:2, :2] = 0.2
    np.fill_diagonal(costs, 0)
    for i in range(0, 100, 2):
        if counts[i].any() and counts[i + 1].any():
            u, v = (counts[k] / counts[k].sum() for k in (i, i + 1))
            found = np.abs(part[i] - part[i + 1]).sum()
            np.testing.assert_allclose(found, ot.emd2(u, v, costs), atol=1e-5)


def test_the_sum_of_gromov_and_counts():
    """Two cells of which one has an operation more, by hand."""
    distance = graph_distances.gromov_and_counts(SPACE)
    arch = np.array([[0, 0, 0, 3, 0, 0], [3, 0, 0, 3, 3, 0]], np.int32)
    cells = jax.jit(jax.vmap(distance.prepare))(arch)
    x, y = (jax.tree.map(lambda a, k=k: a[k, ..., None], cells) for k in (0, 1))
    gw = jax.jit(GROMOV.between)(x.structure, y.structure)
    # in-degrees 1, 1 and 1, 1, 1, 2; out-degrees the same; 1 and 3 operations; 2 + 5 edges
    wanted = (3 + 3 + 2) / 7 + gw / 0.4
    between = jax.jit(distance.between)
    np.testing.assert_allclose(between(x, y), wanted, rtol=1e-5)
    np.testing.assert_allclose(between(x, x), 0, atol=2e-3)


def test_the_divergence_of_tables_is_that_of_transport():
    distance = graph_distances.sinkhorn_divergence(SPACE)
    prepared, _ = distance_matrices._distinct(distance, archs()[:40])
    found = distance_matrices.all_pairs(distance, prepared)
    assert found[~np.eye(len(found), dtype=bool)].min() >= 0
    same = [jax.tree.map(lambda a: jnp.moveaxis(a[:9], 0, -1), prepared)] * 2
    np.testing.assert_allclose(jax.jit(distance.between)(*same), 0, atol=1e-6)


def test_a_search_has_the_distances_of_its_table(tmp_path, monkeypatch):
    """One step of the method that the driver makes, from its table on."""
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path))
    method = methods.METHODS["gp-gw"]
    with pytest.raises(
        ValueError, match="--evaluations must be at most 81, the number"
    ):
        method(SPACE, archs(), methods.Terms(200))
    with pytest.raises(
        ValueError, match="--init must be between 2 and 81, the number o"
    ):
        method(SPACE, archs(), methods.Terms(40, init=1))
    search = method(SPACE, archs(), methods.Terms(40))
    none, score = jnp.zeros(1, jnp.int32), jnp.ones(1)
    query = Query(jnp.asarray(archs()[:1]), none + 1, none)

    @jax.jit
    def observed():
        state = search.grow(search.init(jax.random.key(0)), 1)
        return search.tell(state, query, Result(score, score[:, None], score))

    state = observed()
    of_pool = distance_matrices.distance_matrix(
        SPACE, archs(), GROMOV, same=ISOMORPHIC, repair="clip"
    )
    own = np.asarray(of_pool.values)
    found = np.asarray(state.distances[0, 0])
    assert state.distances.shape[2] == len(own)
    assert np.isclose(np.sort(found), np.sort(own, 1), atol=1e-6).all(1).any()


def test_the_comparison_of_kernels_has_them_all():
    assert set(methods.KERNELS) <= set(methods.METHODS)
    methods.validate_methods(methods.KERNELS)
