"""OTMANN against the linear programme of its paper, on paths that are walked one by one."""

import functools

import jax
import numpy as np
import pytest

from jaxnas.batching import in_blocks
from jaxnas.kernels import layer_matching
from jaxnas.spaces import features
from jaxnas.spaces import nasbench201 as nb201

ot = pytest.importorskip("ot")

pytestmark = pytest.mark.usefixtures("quick_compilation")
LABELS = nb201.LABELS


@functools.cache
def some(num=60):
    """Layers of random cells, some of which have no path; and their graphs."""
    arch = np.random.default_rng(0).integers(0, 5, (num, 6)).astype(np.int32)
    arch[:2] = 0
    # The two operations of parallel ways 0-1-3 and 0-2-3, exchanged.
    arch[2:4] = [3, 2, 0, 0, 4, 1], [2, 3, 0, 0, 1, 4]
    graphs = jax.jit(jax.vmap(lambda a: features.prune(nb201.graph_nonezero(a))))(arch)
    of = jax.jit(jax.vmap(layer_matching.cell_layers(nb201.SPACE)))
    return jax.tree.map(np.asarray, (of(arch), graphs))


def at(cells, place):
    return jax.tree.map(lambda a: a[place], cells)


def distances(x, y, **settings):
    between = layer_matching.otmann(LABELS, **settings)
    return np.asarray(jax.jit(lambda *p: in_blocks(between, *p))(x, y))


def pairs(num=60):
    cells, _ = some()
    i, j = np.random.default_rng(1).integers(0, len(cells.label), (2, num))
    return at(cells, i), at(cells, j), i, j


def ways(adj, start, end):
    """All paths with their probability under a random walk."""
    if start == end:
        return [(0, 1.0)]
    onward = np.flatnonzero(adj[start])
    return [
        (n + 1, p / len(onward)) for k in onward for n, p in ways(adj, k, end)
    ]  # fmt: skip


def summary(found):
    if not found:
        return [0, 0, 0]
    lengths, chances = np.array(found).T
    return [lengths.min(), lengths.max(), lengths @ chances]


def test_path_lengths_are_those_of_all_paths():
    cells, graphs = some()
    for c in range(len(cells.label)):
        adj, label = graphs.adj[c], cells.label[c]
        for v in range(8):
            ahead = summary(ways(adj, v, 7)) if label[v] >= 0 else [0, 0, 0]
            behind = summary(ways(adj.T, v, 0)) if label[v] >= 0 else [0, 0, 0]
            np.testing.assert_allclose(cells.paths[c, v], behind + ahead, atol=1e-5)


def by_paper(x, y, structure=0.5, masses=(1, 1, 1, 1)):
    """Both cells with a layer that takes what is not matched, by an exact solver."""
    known = [(z.label[z.label >= 0], z.paths[z.label >= 0]) for z in (x, y)]
    labels, paths = zip(*known, strict=True)
    mass = [np.where(z < 4, np.take([*masses, 0, 0], z), 0.0) for z in labels]
    mass = [
        np.where(z < 4, m, 0.1 * m.sum()) for z, m in zip(labels, mass, strict=True)
    ]
    if not mass[0].sum() or not mass[1].sum():
        return mass[0].sum() + mass[1].sum()
    cost = layer_matching.label_costs(LABELS)[np.ix_(*labels)]
    cost = cost + structure * np.abs(paths[0][:, None] - paths[1]).mean(-1)
    cost = np.pad(np.minimum(cost, 1e3), ((0, 1), (0, 1)), constant_values=1.0)
    cost[-1, -1] = 0
    u, v = (np.append(m, o.sum()) for m, o in zip(mass, mass[::-1], strict=True))
    return ot.emd2(u, v, cost)


@pytest.mark.parametrize("masses", [None, (1.0, 1.0, 0.25, 0.5)])
def test_it_is_the_optimum_of_the_papers_programme(masses):
    x, y, _, _ = pairs()
    found = distances(x, y, masses=masses, structure=0.7)
    for k in range(len(found)):
        one, other = at(x, k), at(y, k)
        wanted = by_paper(one, other, 0.7, masses or (1, 1, 1, 1))
        np.testing.assert_allclose(found[k], wanted, atol=1e-4)


def test_it_is_a_metric_and_normalised_at_most_one():
    cells, _ = some()
    chosen = np.arange(24)
    grid = (g.reshape(-1) for g in np.meshgrid(chosen, chosen, indexing="ij"))
    x, y = (at(cells, k) for k in grid)
    d = distances(x, y).reshape(24, 24)
    np.testing.assert_allclose(d, d.T, atol=1e-5)
    np.testing.assert_allclose(np.diagonal(d), 0, atol=1e-6)
    assert d[2, 3] < 1e-6 and np.median(d) > 1  # isomorphic ones
    assert (d[:, :, None] + d[None] >= d[:, None, :] - 1e-4).all()
    assert distances(x, y, normalised=True).max() <= 1 + 1e-6


def test_costs_of_labels():
    costs = layer_matching.label_costs((*LABELS, "max_pool_3x3", "conv5x5"))
    np.testing.assert_allclose(costs, costs.T)
    assert costs[0, 1] == pytest.approx(0.2) and costs[0, 5] == pytest.approx(0.2)
    assert costs[1, 5] == pytest.approx(0.2 * 2**0.5) and costs[2, 4] == 0.25
    assert costs[0, 2] == costs[2, 3] == costs[6, 7] == costs[0, 6] == np.inf
    assert not np.diagonal(costs).any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"masses": (1.0, 1.0)}, "masses are 4 positive numbers"),
        ({"masses": (1.0, 1.0, 0.0, 1.0)}, "masses are 4 positive numbers"),
        ({"masses": (1.0, 0.5, 1.0, 1.0)}, "can be matched have equal masses"),
        ({"structure": -1.0}, "structure must not be negative, not -1.0"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words) as error:
        layer_matching.otmann(LABELS, **settings)
    assert "\n" not in str(error.value)
