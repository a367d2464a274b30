"""Distances over a pool: what is merged and dropped changes none of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxnas.kernels import feature_maps, gram
from jaxnas.spaces import nasbench201 as nb201

pytestmark = pytest.mark.usefixtures("quick_compilation")


def some_parts(rng, num=40):
    """Parts with all that `compress_embeddings` may merge, drop or find twice."""
    base = rng.normal(size=(num, 4))
    base[num // 2 :] = base[: num - num // 2]  # every architecture twice
    scaled = np.hstack([base, 3 * base[:, :2], -0.5 * base[:, 1:], base + 7.0])
    constant = np.hstack([np.full((num, 2), 5.0), base[:, :1], np.zeros((num, 1))])
    small = rng.integers(0, 2, (num, 6)) / 3.0
    small[num // 2 :] = small[: num - num // 2]
    return [scaled, constant, small]


def test_the_reduction_changes_no_distance():
    parts = some_parts(np.random.default_rng(0))
    embeddings = gram.compress_embeddings(parts)
    assert [p.shape[0] for p in embeddings.parts][:2] == [4, 1]
    assert {p.dtype for p in embeddings.parts} == {jnp.dtype("float32")}
    found = gram.distances_between(embeddings, embeddings.column)
    assert found.shape == (3, 40, 40)
    for ours, part in zip(found, parts, strict=True):
        wanted = cdist(part, part, "cityblock")
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=2e-5)


def test_equal_embeddings_are_stored_once():
    embeddings = gram.compress_embeddings(some_parts(np.random.default_rng(1)))
    assert embeddings.parts[0].shape[1] == 20 and embeddings.column.shape == (40,)
    assert embeddings.column.dtype == jnp.int32
    np.testing.assert_array_equal(embeddings.column[:20], embeddings.column[20:])
    assert len(np.unique(embeddings.column[:20])) == 20
    # What differs in one part alone is not the same.
    embeddings = gram.compress_embeddings(
        [np.array([[0.0], [0], [1]]), np.array([[0.0], [1], [1]])]
    )
    assert len(np.unique(embeddings.column)) == 3


def test_what_does_not_vary_is_dropped():
    part = np.random.default_rng(2).normal(size=(9, 3))
    embeddings = gram.compress_embeddings([np.full((9, 2), 4.0), part])
    assert len(embeddings.parts) == 1
    np.testing.assert_allclose(
        gram.distances_between(embeddings, embeddings.column)[0],
        cdist(part, part, "cityblock"),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="same embedding: nothing to model"):
        gram.compress_embeddings([np.full((9, 2), 4.0)])


@pytest.mark.parametrize(
    "feature_map",
    [feature_maps.tree_wasserstein_features, feature_maps.hamming_features],
)
def test_real_embeddings_keep_their_distances(feature_map):
    rng = np.random.default_rng(3)
    arch = rng.integers(0, 5, (300, 6)).astype(np.int32)
    parts = jax.jit(jax.vmap(feature_map(nb201.SPACE)))(arch)
    embeddings = gram.compress_embeddings([np.asarray(p) for p in parts])
    assert embeddings.parts[0].shape[0] <= parts[0].shape[1]
    found = gram.distances_between(embeddings, embeddings.column)
    for ours, part in zip(found, parts, strict=True):
        np.testing.assert_allclose(ours, cdist(part, part, "cityblock"), atol=1e-5)
    if feature_map is feature_maps.hamming_features:
        np.testing.assert_allclose(found[0], (arch[:, None] != arch).sum(-1), atol=1e-5)


def test_the_nasbot_like_distance():
    """L1 of sorted degrees and of operation counts, by hand."""
    rng = np.random.default_rng(4)
    arch = rng.integers(0, 5, (20, 6)).astype(np.int32)
    (part,) = jax.jit(jax.vmap(feature_maps.nasbot_like_features(nb201.SPACE)))(arch)
    graphs = jax.tree.map(np.asarray, jax.vmap(nb201.graph_nonezero)(arch))
    features = []
    for adj, ops in zip(graphs.adj, graphs.ops, strict=True):
        alive = adj.any(0) | adj.any(1)
        count = [((ops == o) & alive).sum() for o in range(4)]
        features.append([*np.sort(adj.sum(0)), *np.sort(adj.sum(1)), *count])
    wanted = cdist(features, features, "cityblock")
    np.testing.assert_allclose(cdist(part, part, "cityblock"), wanted, atol=1e-5)


def test_distances_by_column_and_by_pair_are_scipys():
    rng = np.random.default_rng(5)
    parts = [rng.normal(size=(25, 3)), rng.normal(size=(25, 8))]
    embeddings = gram.compress_embeddings(parts)
    row = np.asarray(embeddings.column)
    wanted = np.stack([cdist(p, p, "cityblock") for p in parts])
    np.testing.assert_allclose(
        gram.distances_between(embeddings, embeddings.column[:7]),
        wanted[:, :7, :7],
        atol=1e-5,
    )
    for i in (0, 13):
        column = gram.distances_from(embeddings, embeddings.column[i])
        np.testing.assert_allclose(column[:, row], wanted[:, i], atol=1e-5)

    x, y = parts[1].T[:, :4], parts[1].T[:, 4:]
    np.testing.assert_allclose(gram.l1(x, y), wanted[1][:4, 4:], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_is_positive_semi_definite(seed, x64):
    rng = np.random.default_rng(seed)
    parts = some_parts(rng)
    apart = np.stack([cdist(p, p, "cityblock") for p in parts])
    for scales in rng.lognormal(0, 2, (10, 3)):
        kernel = np.asarray(gram.laplace(jnp.asarray(apart), jnp.asarray(scales)))
        wanted = np.exp(-(apart / scales[:, None, None]).sum(0))
        np.testing.assert_allclose(kernel, wanted, atol=1e-14)
        assert np.linalg.eigvalsh(kernel).min() > -1e-8


def test_mean_distances():
    rng = np.random.default_rng(6)
    parts = [rng.normal(size=(300, 5)), 10 * rng.normal(size=(300, 2))]
    found = gram.mean_distances(gram.compress_embeddings(parts))
    wanted = [cdist(p, p, "cityblock").mean() for p in parts]
    np.testing.assert_allclose(found, wanted, rtol=0.08)


@pytest.mark.parametrize("unit", [1e-9, 1e7])
def test_the_unit_of_an_embedding_changes_nothing_else(unit):
    parts = some_parts(np.random.default_rng(7))
    one, other = (
        gram.compress_embeddings(parts),
        gram.compress_embeddings([unit * p for p in parts]),
    )
    np.testing.assert_array_equal(one.column, other.column)
    assert gram.num_distinct(one) > 10
    for a, b in zip(one.parts, other.parts, strict=True):
        np.testing.assert_allclose(b, unit * np.asarray(a), rtol=1e-5)


def test_what_varies_beside_an_offset_or_in_one_row_alone_is_kept():
    x = np.random.default_rng(8).integers(0, 3, (20, 3)).astype(float)
    rare = np.tile([1000.0, 0, 1], (3000, 1))
    rare[7, 0] += 1
    cases = (x, x + [1e8, 0, 0], 1), (rare - 1000, rare, 1), (x, 1 + 1e-9 * x, 1e-9)
    for one, other, unit in cases:
        moved = gram.compress_embeddings([other])
        assert gram.num_distinct(moved) == len(np.unique(one, axis=0))
        found = gram.distances_between(moved, moved.column[:20])[0] / unit
        wanted = cdist(one[:20], one[:20], "cityblock")
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e15])
def test_embeddings_that_cannot_be_compared_are_refused(wrong):
    with pytest.raises(ValueError, match=f"finite and below 1e12, found {wrong}"):
        gram.compress_embeddings([np.array([[1.0, 0], [2, 1], [4, wrong]])])
    with pytest.raises(ValueError, match=r"wanted x \(f, n\), y \(f, m\); found"):
        gram.l1(np.ones((3, 2)), np.ones((4, 2)))
    two = np.arange(6.0).reshape(3, 2)
    for parts, words in (
        ([two, two[:2]], "features must be of the same architectures, .* not of 2, 3"),
        ([two[:0]], "at least one, not of 0"),
        ([], "at least one, not of none"),
        ([two[0]], r"of shape \(n, f\), not \(2,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            gram.compress_embeddings(parts)
