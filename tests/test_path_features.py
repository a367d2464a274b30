"""Features of cells by their paths, against an enumeration of all paths."""

import collections

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from jaxnas.batching import in_chunks
from jaxnas.spaces import base, nasbench201_paths, nlp, nlp_formats, nlp_paths
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.spaces.nasbench201_classes import function_classes

pytestmark = pytest.mark.usefixtures("quick_compilation")


def enumerated_201(arch):
    """Sequences of operations of the paths without `none`, and the live edges."""
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(range(4))
    for edge, (op, (source, target)) in enumerate(zip(arch, nb201.EDGES, strict=True)):
        if op != nb201.NONE:
            graph.add_edge(source, target, edge=edge, op=int(op))
    paths = list(nx.all_simple_edge_paths(graph, 0, 3))
    live = {graph.edges[e]["edge"] for path in paths for e in path}
    ops = [[graph.edges[e]["op"] for e in path] for path in paths]
    return [tuple(op for op in path if op != nb201.SKIP) for path in ops], live


def test_path_counts_of_nas_bench_201():
    order = (nb201.CONV1, nb201.CONV3, nb201.POOL)
    sequences = [()]
    for length in (1, 2, 3):
        sequences += [
            (*s, op) for s in sequences if len(s) == length - 1 for op in order
        ]
    archs = base.every(nb201.SPACE)[np.random.default_rng(0).permutation(15625)[:60]]
    archs = np.concatenate([archs, [[nb201.NONE] * 6, [nb201.SKIP] * 6]])
    found = in_chunks(nasbench201_paths.path_counts, archs.astype(np.int32))
    for arch, row in zip(archs, found, strict=True):
        paths, live = enumerated_201(arch)
        counted = collections.Counter(paths)
        assert row[:40].tolist() == [counted[s] for s in sequences]
        edges = [sum(arch[e] == op for e in live) for op in order[:2]]
        assert row[40:42].tolist() == edges
        numbers = [[path.count(op) for op in order] for path in paths] or [[0] * 3]
        numbers = np.array([[*n, sum(n), n[0] + n[1]] for n in numbers])
        wanted = [*numbers.sum(0), *numbers.max(0), *numbers.min(0)]
        assert row[42:].tolist() == wanted


def test_cells_of_one_function_have_the_same_features():
    archs = base.every(nb201.SPACE).astype(np.int32)
    found = in_chunks(nasbench201_paths.function_features, archs)
    assert found.shape == (15625, 87)
    _, first, which = np.unique(
        function_classes(), return_index=True, return_inverse=True
    )
    np.testing.assert_array_equal(found, found[first][which])
    # Nearly all functions are told apart.
    assert len(np.unique(found[first], axis=0)) > 0.98 * len(first)


def enumerated_nlp(arch):
    """`path_summary` by networkx."""
    rows = arch.reshape(-1, nlp_formats.WIDTH)
    rows = rows[rows[:, 0] > 0]
    kinds = [0, 8, 8, 8, *rows[:, 0].tolist()]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(kinds)))
    for number, row in enumerate(rows):
        graph.add_edges_from((int(i) - 1, 4 + number) for i in row[1:4] if i)
    output = 4 + int(np.flatnonzero(rows[:, 4] == 1)[0])
    features, level = [], {output}
    for _ in range(4):
        features += np.bincount([kinds[v] for v in level], minlength=9).tolist()
        level = {source for v in level for source in graph.predecessors(v)}
    for source in (0, 1):
        paths = [
            [kinds[v] for v in path[1:]]
            for path in nx.all_simple_paths(graph, source, output)
        ]
        linear = [sum(k == nlp_formats.LINEAR for k in path) for path in paths]
        bounded = [sum(k in (1, 2) for k in path) for path in paths]
        lengths = list(map(len, paths))
        least = [min(x, default=20) for x in (lengths, linear, bounded)]
        features += [*least, max(lengths, default=-1)]
    features += np.bincount(rows[:, 0], minlength=8)[1:].tolist()
    needed = [v for v in nx.ancestors(graph, output) | {output} if v >= 4]
    inputs = (rows[rows[:, 0] == nlp_formats.LINEAR, 1:4] > 0).sum()
    return [*features, len(rows), (rows[:, 4] > 0).sum(), len(needed), inputs]


def test_path_summary_of_recurrent_cells():
    keys = jax.random.split(jax.random.key(0), 40)
    archs = np.array(jax.jit(jax.vmap(nlp.SPACE.draw))(keys))
    # The third takes x alone.
    archs[2] = nlp_formats.from_string(
        '{"h_new_0": {"op": "activation_tanh", "input": ["x"]}}', nlp.MAX_NODES
    )
    summary = jax.jit(jax.vmap(nlp_paths.path_summary))
    found = np.asarray(summary(archs))
    assert found.shape == (40, 55)
    for arch, row in zip(archs, found, strict=True):
        np.testing.assert_array_equal(row, enumerated_nlp(arch))
    assert found[2, 40:44].tolist() == [20, 20, 20, -1]
    ordered = jax.vmap(nlp.canonical)(jnp.asarray(archs))
    np.testing.assert_array_equal(summary(ordered), found)
