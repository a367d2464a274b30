"""Tree-Wasserstein distances against stored ones, by hand, and by linear programming."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import gp
from jaxnas.kernels import gram
from jaxnas.kernels import op_trees as tw
from jaxnas.spaces import features
from jaxnas.spaces import nasbench101 as nb101
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.transport import layer_embedding
from jaxnas.types import Graph

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODES = {
    "nb201": ("fixed", "nonezero", "live", "refsample"),
    "nb101": ("raw", "pruned"),
}
EVERY = [(space, mode) for space, modes in MODES.items() for mode in modes]
LABELS = {"nb201": nb201.LABELS, "nb101": nb101.OPERATIONS}
every_mode = pytest.mark.parametrize(("space", "mode"), EVERY)

# The stored operations 0..4 (3x3, 1x1, pooling, skip, none) as ours.
THEIRS = np.array([3, 2, 4, 1, 0])
GRAPH = {
    "fixed": nb201.graph_fixed,
    "nonezero": nb201.graph_nonezero,
    "live": nb201.graph_live,
    "raw": nb101.graph_raw,
    "pruned": nb101.graph_pruned,
}
GRAPHS = {mode: jax.jit(jax.vmap(function)) for mode, function in GRAPH.items()}


@pytest.fixture(autouse=True)
def precision(x64):
    """Everything here is in double precision."""


@pytest.fixture(scope="module")
def oracle(shared):
    with np.load(shared / "oracles" / "tree_wasserstein.npz") as stored:
        return dict(stored)


@functools.cache
def embedder(space, n, reference):
    return jax.jit(
        jax.vmap(lambda g: tw.embed(g, LABELS[space], n, reference=reference))
    )


@functools.cache
def counter(n, num):
    return jax.jit(jax.vmap(lambda g: features.op_ngrams(g, n, num)))


def nb101_arch(oracle):
    upper = np.triu_indices(7, 1)
    adj, ops = oracle["nb101_adj_raw"], oracle["nb101_ops_raw"]
    return np.concatenate([adj[:, *upper], ops[:, 1:6]], axis=1).astype(np.int32)


def graphs(oracle, space, mode):
    """The 120 stored cells in one mode, built from the architectures."""
    if mode != "refsample":
        arch = THEIRS[oracle["nb201_ops"]] if space == "nb201" else nb101_arch(oracle)
        return GRAPHS[mode](jnp.asarray(arch, jnp.int32))
    # What the paper's program draws by mistake: no function of the architecture.
    ops = np.pad(oracle["nb201_ops"].astype(np.int32), ((0, 0), (1, 1)), "constant")
    ops = np.where(ops == 4, -1, ops)
    ops[:, [0, -1]] = -1
    adj = oracle["nb201_refsample_adj"].astype(bool)
    mask = jnp.ones(ops.shape, bool)
    return Graph(jnp.asarray(adj), jnp.asarray(ops), mask)


def distances(parts):
    return [np.abs(p[:, None] - p[None]).sum(-1) for p in map(np.asarray, parts)]


def assert_equal(ours, theirs):
    """To 1e-12, with NaN in the same places."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


# The stored arrays, all of them.


@every_mode
def test_graphs_are_the_stored_ones(oracle, space, mode):
    adj = np.asarray(graphs(oracle, space, mode).adj)
    if mode == "fixed":
        assert (adj == oracle["nb201_adj_canonical"]).all()
    elif mode == "pruned":  # stored without the dead vertices
        ops = np.asarray(graphs(oracle, space, mode).ops)
        for a, o, theirs, names, num in zip(
            adj,
            ops,
            oracle["nb101_adj_pruned"],
            oracle["nb101_ops_pruned"],
            oracle["nb101_nv_pruned"],
            strict=True,
        ):
            keep = [0, *(1 + np.flatnonzero(o[1:6] >= 0)), 6]
            assert len(keep) == num
            np.testing.assert_array_equal(a[np.ix_(keep, keep)], theirs[:num, :num])
            np.testing.assert_array_equal(o[keep[1:-1]], names[1 : num - 1])
    else:
        name = f"{space}_{mode}_adj" if space == "nb201" else "nb101_adj_raw"
        np.testing.assert_array_equal(adj, oracle[name])


@every_mode
@pytest.mark.parametrize("n", [1, 2])
def test_reference_distances(oracle, space, mode, n):
    prefix = f"{space}_{mode}_"
    found = distances(embedder(space, n, True)(graphs(oracle, space, mode)))
    names = (f"tw{n}_ops", "indeg", "outdeg")
    for ours, name in zip(found, names, strict=True):
        assert_equal(ours, oracle[prefix + name])
    assert_equal(sum(found) / 3, oracle[f"{prefix}tw{n}_total_third"])
    # NaN exactly where a cell has no operation to count.
    degenerate = oracle[f"{prefix}degenerate"]
    empty = degenerate[:, None] | degenerate
    np.testing.assert_array_equal(np.isnan(found[0]), empty)


@every_mode
@pytest.mark.parametrize("n", [1, 2])
def test_correct_distances(oracle, space, mode, n):
    prefix = f"own_{space}_{mode}_"
    cells = graphs(oracle, space, mode)
    ops, indeg, outdeg = distances(embedder(space, n, False)(cells))
    # The reference's tree for 1-grams of NAS-Bench-101 has no slip.
    slipless = f"{space}_{mode}_tw1_ops"
    stored = oracle.get(f"{prefix}tw{n}_ops_correct")
    stored = oracle[slipless] if stored is None else stored
    degenerate = oracle[f"{space}_{mode}_degenerate"]
    np.testing.assert_array_equal(np.isnan(stored), degenerate[:, None] | degenerate)
    # An empty cell is at the height of the tree from the others, and at 0 from another.
    height = np.where(degenerate[:, None] & degenerate, 0.0, height_of(space, n))
    assert_equal(ops, np.where(np.isnan(stored), height, stored))
    assert_equal(indeg, oracle[f"{prefix}indeg_longest_shift"])
    assert_equal(outdeg, oracle[f"{prefix}outdeg_longest_shift"])


def height_of(space, n):
    tree = tw.op_tree(LABELS[space], n)
    heights = tree.lengths @ tree.subtrees
    # Every leaf is at the same depth: at 2, below one node for each n.
    np.testing.assert_allclose(heights, heights[0], atol=1e-15)
    return heights[0]


@pytest.mark.parametrize("space", MODES)
def test_longest_paths_without_the_shift(oracle, space):
    @jax.jit
    @jax.vmap
    def parts(graph):
        *degrees, num = features.degrees_by_depth(graph, features.longest_path_depth)
        uniform = jnp.arange(len(graph.ops)) < num
        mass = [jnp.where(d.sum() > 0, d, uniform) for d in degrees]
        return [layer_embedding(m / m.sum(), num, shift=0) for m in mass]

    for mode in MODES[space]:
        cells = graphs(oracle, space, mode)
        for ours, name in zip(distances(parts(cells)), ("in", "out"), strict=True):
            assert_equal(ours, oracle[f"own_{space}_{mode}_{name}deg_longest"])


@every_mode
def test_counts(oracle, space, mode):
    cells, num = graphs(oracle, space, mode), len(LABELS[space])
    both = [counter(k, num)(cells) for k in (1, 2)]
    prefix = f"{space}_{mode}_count"
    np.testing.assert_array_equal(both[0], oracle[prefix + "1"])
    np.testing.assert_array_equal(np.hstack(both), oracle[prefix + "2"])


def test_path_hamming(oracle):
    cells = graphs(oracle, "nb101", "raw")
    paths = np.asarray(
        jax.jit(jax.vmap(lambda g: features.path_indicators(g, 3)))(cells)
    )
    hamming = (paths[:60, None] != paths[None, 60:]).sum(-1)
    np.testing.assert_array_equal(hamming, oracle["nb101_raw_path_hamming_60x60"])


@pytest.mark.parametrize("name", ["tw1_t0", "tw1_t1", "tw2_t0", "tw2_t1"])
def test_gaussian_process(oracle, name):
    cells = graphs(oracle, "nb101", "raw")
    parts = embedder("nb101", int(name[2]), True)(cells)
    between = np.stack([d[:40, :40] for d in distances(parts)])
    *scales, noise = oracle[f"gp_{name}_theta"]
    kernel = np.asarray(gram.laplace(jnp.asarray(between), jnp.array(scales)))
    assert_equal(kernel, oracle[f"gp_{name}_K_nonoise"])

    train, test, y = slice(25), slice(25, 40), oracle["gp_y"]
    # In the middle of a longer buffer, the rest of which holds anything.
    capacity, rows = 31, np.arange(3, 28)
    seen = np.zeros(capacity, bool)
    seen[rows] = True
    targets, prior = np.full(capacity, 7.0), np.full((capacity, capacity), 0.3)
    cross = np.full((capacity, 15), -0.4)
    targets[rows], cross[rows] = y, kernel[train, test]
    prior[np.ix_(rows, rows)] = kernel[train, train]
    for variance, which in ((noise, "clean"), (noise + noise**2, "ref")):
        posterior = gp.posterior(
            prior, cross, kernel[test, test], targets, seen, variance
        )
        np.testing.assert_allclose(
            posterior.mean, oracle[f"gp_{name}_mu_{which}"], atol=1e-9
        )
        np.testing.assert_allclose(
            posterior.cov, oracle[f"gp_{name}_cov_{which}"], atol=1e-9
        )
    log_marginal = gp.log_marginal(prior, targets, seen, noise)
    np.testing.assert_allclose(log_marginal, oracle[f"gp_{name}_lml_clean"], atol=1e-9)


# By hand.

# Cells as digits 0..4 (3x3, 1x1, pooling, skip, none): the reference's three 1-gram
# distances and its 2-gram distance, then the correct 1- and 2-gram distances.
TABLE = [
    ("000000", "111111", "fixed", (1.1, 0, 0), 0.668, 0.2, 0.128),
    ("000000", "222222", "fixed", (2, 0, 0), 2, 2, 2),
    ("222222", "333333", "fixed", (3.9, 0, 0), 3.54, 2, 2),
    ("012340", "404132", "nonezero", (0.26, 1 / 72, 0.025), 0.7625, 0.21, 0.725),
    (
        "012340",
        "201413",
        "nonezero",
        (0.22, 0.125, 11 / 96),
        0.6483333333333333,
        0.04,
        0.6247222222222222,
    ),
    (
        "404132",
        "201413",
        "nonezero",
        (0.26, 0.125, 0.11875),
        0.9333333333333333,
        0.21,
        1.0222222222222221,
    ),
]


@pytest.mark.parametrize(("x", "y", "mode", "one", "two", "own1", "own2"), TABLE)
def test_hand_checked_pairs(x, y, mode, one, two, own1, own2):
    arch = jnp.asarray(THEIRS[[[int(o) for o in cell] for cell in (x, y)]], jnp.int32)
    pair = GRAPHS[mode](arch)

    def apart(n, reference):
        return [d[0, 1] for d in distances(embedder("nb201", n, reference)(pair))]

    assert_equal(apart(1, True), one)
    assert_equal(apart(2, True), [two, *one[1:]])
    assert_equal([apart(1, False)[0], apart(2, False)[0]], [own1, own2])


def test_one_pair_by_itself():
    both = GRAPHS["nonezero"](jnp.array([[3] * 6, [2, 3, 4, 1, 0, 3]], jnp.int32))
    x, y = (jax.tree.map(lambda leaf: leaf[i], both) for i in (0, 1))  # noqa: B023
    one_pair = jax.jit(lambda x, y: tw.tree_wasserstein(x, y, nb201.LABELS, 2))
    matrix = distances(embedder("nb201", 2, False)(both))
    assert_equal(one_pair(x, y), [part[0, 1] for part in matrix])
    assert_equal(one_pair(x, x), np.zeros(3))


def test_all_cells_of_nasbench201():
    """How many different embeddings there are, and cells without any operation."""
    index = np.indices((5,) * 6).reshape(6, -1).T.astype(np.int32)

    @jax.jit
    @jax.vmap
    def parts(graph):
        # The correct tree, but layers as in the reference: what was counted.
        one, two = (tw.embed(graph, nb201.LABELS, n)[0] for n in (1, 2))
        return one, two, tw.embed(graph, nb201.LABELS, reference=True)[1:]

    wanted = [("fixed", 162, 8910, 1), ("nonezero", 1040, 11077, 5)]
    for mode, *distinct, empty in [*wanted, ("live", 437, 8401, 341)]:
        *both, degrees = parts(GRAPHS[mode](index))
        for ops, num in zip(both, distinct, strict=True):
            whole = np.hstack([ops, *degrees]).round(9) + 0.0
            rows = np.ascontiguousarray(whole).view(f"V{8 * whole.shape[1]}")
            assert len(np.unique(rows)) == num
            assert (~np.asarray(ops).any(1)).sum() == empty


# Against linear programming.


def ground_metric(labels, n):
    """Distances between the leaves of the tree as drawn, from root to leaf by hand."""
    a, b = 0.1, 0.9
    kind = {name: name[:3] for name in labels}

    def path(gram):
        """Names of the nodes from below the root to the leaf, and edge lengths."""
        kinds, same = tuple(kind[g] for g in gram), len(set(gram)) == 1
        if len(gram) == 1:
            inner = [(kinds, b)]
        else:
            is_conv = all(k == "nor" or k == "con" for k in kinds)
            second = same if is_conv else kinds
            inner = [(tuple(sorted(kinds)), b), ((tuple(sorted(kinds)), second), a * b)]
        return [(len(gram), 1.0), *inner, (gram, a ** len(inner))]

    grams = [(s,) for s in labels]
    if n == 2:
        grams += [(s, t) for s in labels for t in labels]
    paths = [path(g) for g in grams]

    def between(p, q):
        different = [(x[1], y[1]) for x, y in zip(p, q, strict=False) if x[0] != y[0]]
        if len(p) != len(q):
            return sum(length for _, length in p + q)
        return sum(map(sum, different))

    return np.array([[between(p, q) for q in paths] for p in paths])


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("space", MODES)
def test_linear_programming_finds_no_cheaper_plan(space, n):
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(n)
    tree, cost = tw.op_tree(LABELS[space], n), ground_metric(LABELS[space], n)
    embedding = tree.lengths * tree.subtrees.T  # of a unit mass on each leaf
    assert_equal(distances([embedding])[0], cost)
    for _ in range(20):
        u, v = rng.dirichlet(np.full(len(cost), 0.3), 2)
        ours = np.abs((u - v) @ embedding).sum()
        np.testing.assert_allclose(ours, ot.emd2(u, v, cost), atol=1e-9)


@pytest.mark.parametrize("space", MODES)
def test_pairs_of_cells_against_linear_programming(space):
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(5)
    labels, module = LABELS[space], {"nb201": nb201, "nb101": nb101}[space]
    arch = rng.integers(0, module.SPACE.choices, (400, len(module.SPACE.choices)))
    arch = arch.astype(np.int32)
    valid = np.asarray(jax.jit(jax.vmap(module.SPACE.is_valid))(arch))
    cells = GRAPHS["live" if space == "nb201" else "pruned"](arch[valid][:16])
    found = distances(embedder(space, 2, False)(cells))
    cost = ground_metric(labels, 2)
    measures = []
    for i in range(16):
        graph = jax.tree.map(lambda x: np.asarray(x[i]), cells)  # noqa: B023
        measures.append((ngram_measure(graph, len(labels)), *layers(graph)))
    for i in range(0, 16, 2):
        (c, *x), (e, *y) = measures[i : i + 2]
        if c.any() and e.any():
            plan = ot.emd2(c / c.sum(), e / e.sum(), cost)
            np.testing.assert_allclose(found[0][i, i + 1], plan, atol=1e-9)
        for part, (u, v) in enumerate(zip(x, y, strict=True), 1):
            at = lambda w: np.array([float(k) for k in w])[:, None]  # noqa: E731
            line = np.abs(at(u) - at(v).T)
            plan = ot.emd2(list(u.values()), list(v.values()), line)
            np.testing.assert_allclose(found[part][i, i + 1], plan, atol=1e-9)


def ngram_measure(graph, num):
    count = np.zeros(num + num**2)
    for v in range(len(graph.ops)):
        if graph.ops[v] >= 0 and (graph.adj[v].any() or graph.adj[:, v].any()):
            count[graph.ops[v]] += 1
    for u, v in np.argwhere(graph.adj):
        if graph.ops[u] >= 0 and graph.ops[v] >= 0:
            count[num + num * graph.ops[u] + graph.ops[v]] += 1
    return count


def layers(graph):
    """{position: mass} of in- and out-degrees, by the longest path from the input."""
    depth = {0: 0}
    for v in range(1, len(graph.ops)):
        before = [depth[u] for u in np.flatnonzero(graph.adj[:, v]) if u in depth]
        if before:
            depth[v] = 1 + max(before)
    num = 1 + max(depth.values())
    both = []
    for degree in (graph.adj.sum(0), graph.adj.sum(1)):
        mass = np.zeros(num)
        for v, layer in depth.items():
            mass[layer] += degree[v]
        mass = mass / mass.sum() if mass.any() else np.full(num, 1 / num)
        both.append({(i + 1) / num: m for i, m in enumerate(mass)})
    return both


# The trees for n-grams of any length.


def test_trees_have_the_drawn_sizes():
    # With 1-grams alone, the node of all of them has always the whole mass.
    sizes = {(3, 1): 5, (4, 1): 6, (3, 2): 21, (4, 2): 33}
    for labels in LABELS.values():
        for n in (1, 2):
            tree = tw.op_tree(labels, n)
            leaves = sum(len(labels) ** k for k in range(1, n + 1))
            assert tree.subtrees.shape == (sizes[len(labels), n], leaves)


@pytest.mark.parametrize("labels", LABELS.values())
def test_a_tree_of_three_grams_is_a_tree(labels):
    tree = tw.op_tree(labels, 3)
    rows = [frozenset(np.flatnonzero(row)) for row in tree.subtrees]
    assert len(set(rows)) == len(rows) and (tree.lengths > 0).all()
    for a in rows:  # two nodes are nested or have nothing in common
        assert all(a <= b or b <= a or not a & b for b in rows)
    np.testing.assert_allclose(tree.lengths @ tree.subtrees, 2.0, atol=1e-12)
    # Every gram has an edge of its own.
    assert sum(len(row) == 1 for row in rows) == tree.subtrees.shape[1]


def test_what_cannot_be_asked_of_a_tree():
    with pytest.raises(ValueError, match="n-grams need n >= 1, not 0"):
        tw.op_tree(nb201.LABELS, 0)
    with pytest.raises(ValueError, match="the reference has 1- and 2-grams"):
        tw.op_tree(nb201.LABELS, 3, reference=True)
    with pytest.raises(ValueError, match="the reference has 1- and 2-grams"):
        tw.op_tree(("conv", "pool"), 1, reference=True)


def test_vertices_may_be_in_any_forward_order():
    """A relabelled cell is at distance 0: nothing depends on the numbers of vertices."""
    adj = np.zeros((7, 7), np.int32)
    adj[[0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 6, 6]] = 1
    order = np.array([0, 2, 1, 4, 3, 5, 6])
    ops = np.array([-1, 0, 1, 2, 0, 0, -1], np.int32)
    pair = Graph(
        jnp.array([adj, adj[np.ix_(order, order)]]) == 1,
        jnp.array([ops, ops[order]]),
        jnp.ones((2, 7), bool),
    )
    for part in distances(embedder("nb101", 2, False)(pair)):
        assert_equal(part, np.zeros((2, 2)))
