"""What can be counted in a graph, against walking through it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from jaxnas.spaces import features
from jaxnas.spaces import nasbench101 as nb101
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.types import Graph

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM, VERTICES, LABELS = 60, 7, 3


@functools.cache
def random_graphs():
    """Graphs of all densities, from hardly an edge to nearly all of them."""
    rng = np.random.default_rng(0)
    density = np.linspace(0.05, 0.95, NUM)[:, None, None]
    adj = np.triu(rng.random((NUM, VERTICES, VERTICES)) < density, 1)
    ops = rng.integers(-1, LABELS, (NUM, VERTICES)).astype(np.int32)
    ops[:, [0, -1]] = -1
    return Graph(jnp.asarray(adj), jnp.asarray(ops), jnp.ones(ops.shape, bool))


def over(function, graphs=None):
    graphs = random_graphs() if graphs is None else graphs
    found = jax.jit(jax.vmap(function))(graphs)
    each = zip(*(np.asarray(x) for x in graphs[:2]), strict=True)
    return jax.tree.map(np.asarray, found), list(each)


def walks(adj, num):
    """All directed walks of `num` vertices."""
    for walk in itertools.combinations(range(len(adj)), num):
        if all(adj[i, j] for i, j in itertools.pairwise(walk)):
            yield walk


def networkx_of(adj):
    graph = nx.DiGraph(list(map(tuple, np.argwhere(adj))))
    graph.add_nodes_from(range(len(adj)))
    return graph


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_ngrams_are_counted_walks(n):
    found, graphs = over(lambda g: features.op_ngrams(g, n, LABELS))
    assert found.shape == (NUM, LABELS**n) and found.dtype == np.int32
    for count, (adj, ops) in zip(found, graphs, strict=True):
        wanted = np.zeros((LABELS,) * n, int)
        for walk in walks(adj, n):
            alive = all(adj[v].any() or adj[:, v].any() for v in walk)
            if alive and (ops[list(walk)] >= 0).all():
                wanted[tuple(ops[list(walk)])] += 1
        np.testing.assert_array_equal(count, wanted.reshape(-1))


@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_ngrams_of_no_length(n):
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, not"):
        over(lambda g: features.op_ngrams(g, n, LABELS))


@pytest.mark.parametrize("longest", [False, True])
def test_degrees_by_depth(longest):
    depth_of = features.longest_path_depth if longest else features.shortest_path_depth
    found, graphs = over(lambda g: features.degrees_by_depth(g, depth_of))
    for i, (adj, _) in enumerate(graphs):
        graph = networkx_of(adj)
        if longest:
            paths = lambda v: nx.all_simple_paths(graph, 0, v)  # noqa: B023, E731
            depth = {0: 0} | {
                v: max(map(len, paths(v))) - 1
                for v in range(1, VERTICES)
                if nx.has_path(graph, 0, v)
            }
        else:
            depth = nx.single_source_shortest_path_length(graph, 0)
        wanted = np.zeros((2, VERTICES), int)
        for v, layer in depth.items():
            wanted[:, layer] += graph.in_degree(v), graph.out_degree(v)
        np.testing.assert_array_equal(found[0][i], wanted[0])
        np.testing.assert_array_equal(found[1][i], wanted[1])
        assert found[2][i] == max(depth.values()) + 1


def test_pruning_keeps_what_is_on_a_path():
    found, graphs = over(features.prune)
    for i, (adj, ops) in enumerate(graphs):
        graph = networkx_of(adj)
        after, before = nx.descendants(graph, 0), nx.ancestors(graph, VERTICES - 1)
        last = VERTICES - 1
        live = (after | {0}) & (before | {last}) if last in after else set()
        keep = np.isin(np.arange(VERTICES), list(live))
        np.testing.assert_array_equal(found.adj[i], adj & keep[:, None] & keep)
        np.testing.assert_array_equal(found.ops[i], np.where(keep, ops, -1))
        keep[[0, -1]] = True
        np.testing.assert_array_equal(found.mask[i], keep)


def test_path_indicators_are_the_paths():
    # Every interior vertex has a label, as in NAS-Bench-101.
    graphs = random_graphs()
    graphs = graphs._replace(ops=graphs.ops.at[:, 1:-1].max(0))
    found, graphs = over(lambda g: features.path_indicators(g, LABELS), graphs)
    assert found.shape == (NUM, 364) and found.dtype == bool
    assert found.any(1).sum() > 0.5 * NUM
    for has, (adj, ops) in zip(found, graphs, strict=True):
        paths = nx.all_simple_paths(networkx_of(adj), 0, VERTICES - 1)
        wanted = {
            sum(LABELS**i * (ops[v] + 1) for i, v in enumerate(path[1:-1]))
            for path in paths
        }
        assert set(np.flatnonzero(has)) == wanted


def test_paths_of_nasbench101_as_stored(curve_oracle):
    adj26 = curve_oracle["nb111_adj26"]
    wanted, arch = curve_oracle["nb101_path364"], adj26[:, :21].astype(np.int32)
    # Operations are stored as 0 (1x1), 1/2 (3x3), 1 (pooling).
    ops = np.array([1, 0, 2], np.int32)[(2 * adj26[:, 21:]).astype(int)]
    arch = np.hstack([arch, ops])
    found = jax.jit(jax.vmap(nb101.path_indicators))(arch)
    np.testing.assert_array_equal(found, wanted)


def test_paths_of_nasbench201():
    rng = np.random.default_rng(1)
    arch = rng.integers(0, 5, (200, 6)).astype(np.int32)
    found = np.asarray(jax.jit(jax.vmap(nb201.path_indicators))(arch))
    assert found.shape == (200, 155) and found.dtype == bool
    # Nodes 0 to 3 of the cell; each edge has one operation.
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    graph = nx.DiGraph(edges)
    offset = {1: 0, 2: 5, 3: 30}
    for has, ops in zip(found, arch.tolist(), strict=True):
        on = dict(zip(edges, ops, strict=True))
        wanted = set()
        for path in nx.all_simple_paths(graph, 0, 3):
            labels = [on[edge] for edge in itertools.pairwise(path)]
            index = int("".join(map(str, labels)), 5)
            wanted.add(offset[len(labels)] + index)
        assert set(np.flatnonzero(has)) == wanted


def test_one_hot():
    choices = (2, 3, 4)
    encode = jax.jit(features.one_hot_encoder(choices))
    for arch in itertools.product(*map(range, choices)):
        wanted = [float(a == c) for a, k in zip(arch, choices, strict=True)
                  for c in range(k)]  # fmt: skip
        found = encode(jnp.array(arch))
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(features.one_hot(choices, jnp.array(arch)), found)


def test_labels_of_vertices_without_edges_do_not_count():
    adj = jnp.zeros((4, 4), bool).at[0, 2].set(True)
    graph = Graph(adj, jnp.array([-1, 1, 0, -1]), jnp.ones(4, bool))
    wanted = np.zeros((4, 2))
    wanted[2, 0] = 1
    np.testing.assert_array_equal(features.one_hot_labels(graph, 2), wanted)
