"""The DARTS space: notations, canonical form, neighbours, and encodings against arrays
that the reference program gave."""

import ast
import collections
import csv
import functools
import itertools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import batched

from jaxnas.kernels import feature_maps
from jaxnas.spaces import base, darts, darts_features, darts_formats, darts_text

pytestmark = pytest.mark.usefixtures("quick_compilation")
SPACE = darts.SPACE


@pytest.fixture(scope="module")
def archs(curve_oracle):
    """The hundred architectures (100, 32), the inputs of a node in any order."""
    return np.stack(
        [darts_formats.from_compact(c) for c in curve_oracle["darts_compact"]]
    )


@functools.cache
def drawn(num=200):
    keys = jax.random.split(jax.random.key(0), num)
    return np.asarray(jax.jit(jax.vmap(darts.draw))(keys))


# Notations.


def test_notations_of_the_reference(curve_oracle, archs):
    genotypes = curve_oracle["darts_genotypes"]
    for arch, (normal, reduce), config in zip(
        archs, genotypes, curve_oracle["darts_config_dicts_short_keys"], strict=True
    ):
        pairs = [[(op, i) for op, i in cell] for cell in (normal, reduce)]
        genotype = darts_formats.Genotype(pairs[0], range(2, 6), pairs[1], range(2, 6))
        assert darts_formats.to_genotype(arch) == genotype
        full = {darts_formats.PREFIX + k: v for k, v in config.items()}
        assert darts_formats.to_config(arch) == full
        same = np.asarray(darts.canonical(jnp.asarray(arch)))
        for given in (config, full | {"OptimizerSelector:optimizer": "sgd"}):
            np.testing.assert_array_equal(darts_formats.from_config(given), same)


def to_bananas(arch):
    """A genotype with the pairs the other way round."""
    found = darts_formats.to_genotype(arch)
    cells = [[(i, op) for op, i in cell] for cell in (found.normal, found.reduce)]
    return found._replace(normal=cells[0], reduce=cells[1])


@pytest.mark.parametrize("notation", list(darts_text.READERS))
def test_one_bijection_there_and_back(notation):
    to = {
        "compact": darts_formats.to_compact,
        "genotype": darts_formats.to_genotype,
        "configspace": darts_formats.to_config,
        "BANANAS": to_bananas,
        "arch_str": darts_text.to_string,
    }[notation]
    for arch in drawn()[:50]:
        again = darts_text.READERS[notation](to(arch))
        assert again.dtype == np.int32
        np.testing.assert_array_equal(again, arch)


def roundtrip_as_in_reference(compact):
    """Compact to genotype takes the operation before, genotype to compact does not."""
    shifted = np.array(compact)
    shifted[..., 1] = (shifted[..., 1] - 1) % 7
    return shifted


def test_the_reference_rotates_operations(curve_oracle, archs):
    compact = curve_oracle["darts_compact"]
    np.testing.assert_array_equal(
        curve_oracle["darts_compact_after_reference_roundtrip"],
        roundtrip_as_in_reference(compact),
    )
    for arch, given in zip(archs, compact, strict=True):
        np.testing.assert_array_equal(darts_formats.to_compact(arch), given)


def test_published_genotypes(shared):
    """Of 1,000 published genotypes, those with `none` or an input twice are no cells."""
    with (shared / "data" / "darts_swap_1000_cifar10.csv").open() as file:
        texts = [row["genotype"] for row in csv.DictReader(file)]
    fine, why = 0, collections.Counter()
    for text in texts:
        try:
            arch = darts_text.from_string(text)
        except ValueError as error:
            assert re.match(r"node [2-5] of the normal cell", str(error))
            why["none" if "'none'" in str(error) else "twice"] += 1
            continue
        fine += 1
        lists = re.findall(r"(?:normal|reduce)=(\[.*?\])", text)
        genotype = darts_formats.to_genotype(arch)
        assert [genotype.normal, genotype.reduce] == [
            ast.literal_eval(cell) for cell in lists
        ]
    assert fine == 61 and sum(why.values()) == 939 and len(why) == 2


def test_published_genotypes_by_node(shared):
    texts = json.loads((shared / "data" / "darts_214_genotypes.json").read_text())
    for text in texts:
        genotype = re.search(r"Genotype\(.*range\(2, 6\)\)", text)[0]
        arch = darts_text.from_string(genotype)
        flat = darts_formats.to_genotype(arch)
        lists = re.findall(r"(?:normal|reduce)=(\[\[.*?\]\])", genotype)
        for cell, nodes in zip((flat.normal, flat.reduce), lists, strict=True):
            assert cell == sum(ast.literal_eval(nodes), [])


def test_published_compact_forms(shared):
    with (shared / "data" / "nb301_suitezero_725.csv").open() as file:
        for row in csv.DictReader(file):
            arch = darts_text.from_string(row["arch"])
            compact = darts_formats.to_compact(arch)
            assert [list(cell) for cell in compact] == ast.literal_eval(row["arch"])


GOOD = [[(0, 1), (1, 5), (1, 3), (0, 4), (3, 3), (1, 5), (3, 6), (2, 5)]] * 2


def changed(cell, pair, value):
    compact = [list(pairs) for pairs in GOOD]
    compact[cell][pair] = value
    return compact


@pytest.mark.parametrize(
    ("compact", "words"),
    [
        (changed(0, 2, (0, 3)), "node 3 of the normal cell takes input 0 twice"),
        (changed(1, 1, (0, 3)), "node 2 of the reduction cell takes input 0 twice"),
        (
            changed(1, 7, (5, 3)),
            r"node 5 of the reduction cell takes inputs 0 to 4, not",
        ),
        (changed(0, 0, (-1, 3)), "node 2 of the normal cell takes inputs 0 to 1, not"),
        (changed(0, 4, (0, 7)), "node 4 of the normal cell has no operation 7: DARTS"),
        (
            changed(0, 4, (0, "none")),
            "node 4 of the normal cell has no operation 'none'",
        ),
        (
            changed(0, 4, (0.0, 1)),
            "node 4 of the normal cell takes inputs 0 to 3, not i",
        ),
        (changed(0, 4, (0, 1, 2)), "the normal cell is a list of eight pairs of an"),
        ([GOOD[0], GOOD[1][:6]], "the reduction cell has 6 pairs: wanted 8, two for"),
        (GOOD[:1], "a compact DARTS architecture is two cells, normal and reduction"),
        (None, "a compact DARTS architecture is two cells"),
        ("ab", "a compact DARTS architecture is two cells"),
        (np.zeros(6, int), "a compact DARTS architecture is two cells"),
    ],
)
def test_malformed_compact_forms(compact, words):
    darts_formats.from_compact(GOOD)
    with pytest.raises(ValueError, match=words) as error:
        darts_formats.from_compact(compact)
    assert "\n" not in str(error.value)


CONFIG = darts_formats.to_config(darts_formats.from_compact(GOOD))
ARCH = darts_formats.from_config(CONFIG)
EDGE = darts_formats.PREFIX + "edge_normal_1"


@pytest.mark.parametrize(
    ("reader", "given", "words"),
    [
        (
            "configspace",
            CONFIG | {EDGE: None},
            "node 2 of the normal cell has 1 of the",
        ),
        ("configspace", CONFIG | {EDGE: "none"}, "node 2 of the normal .* 'none'"),
        ("configspace", {}, "node 2 of the normal cell has 0 of the edges"),
        (
            "configspace",
            CONFIG | {"inputs_node_reduce_4": "0_1"},
            "node 4 of the reduct",
        ),
        (
            "configspace",
            7,
            "a configuration is a dictionary of hyper-parameters, not 7",
        ),
        ("genotype", "|none~0|", "a genotype has a field `normal`"),
        ("genotype", None, "a genotype has a field `normal`"),
        ("BANANAS", None, r"a genotype has .* of eight pairs \(input, operation\)"),
        ("BANANAS", darts_formats.to_genotype(ARCH), "node 2 of the normal cell takes"),
        ("arch_str", "|none~0|+|none~0|none~1|", "not a DARTS architecture"),
        ("arch_str", "Genotype(normal=[])", "a genotype names normal and reduce"),
        ("arch_str", "Genotype(normal=[], reduce=open)", "wanted names and numbers"),
        ("arch_str", "__import__('os').system('true')", "a genotype names normal"),
        ("arch_str", "[" * 4000, "not a DARTS architecture"),
        ("arch_str", "[[(0, 1)], 3]", "the normal cell has 1 pairs: wanted 8"),
        ("arch_str", "7", "a compact DARTS architecture is two cells"),
        ("arch_str", 7, "not a DARTS architecture: 7"),
    ],
)
def test_malformed_notations(reader, given, words):
    with pytest.raises(ValueError, match=words) as error:
        darts_text.READERS[reader](given)
    assert "\n" not in str(error.value)


def test_what_the_reference_refuses(curve_oracle):
    """And a representation that it knows by name alone. The other, BANANAS, is read."""
    wrong = {
        "op none on normal edge": changed(0, 4, (0, "none")),
        "both inputs of node 3 identical": changed(0, 2, (0, 3)),
        "both inputs of node 2 identical (edge 1 missing)": changed(0, 1, (0, 3)),
        "input node out of range": changed(0, 7, (6, 3)),
        "six pairs only": [GOOD[0][:6], GOOD[1]],
    }
    for case in (case["case"] for case in curve_oracle["darts_error_cases"]):
        kind, _, name = case.partition("representation ")
        if name in darts_text.READERS:
            continue
        with pytest.raises(
            ValueError, match="one of genotype, c" if name else " cell "
        ):
            darts_text.read(wrong.get(kind), name or "compact")
    np.testing.assert_array_equal(darts_text.read(CONFIG, "configspace"), ARCH)


def test_architectures_of_other_spaces():
    for given in (np.zeros(6, int), np.zeros(32), drawn()[:2]):
        with pytest.raises(ValueError, match=r"integer vector of shape \(32,\), not"):
            darts_formats.to_genotype(given)
    with pytest.raises(
        ValueError, match="node 2 of the normal cell takes input 0 twic"
    ):
        darts_text.to_string(np.zeros(32, int))
    with pytest.raises(
        ValueError, match="two different inputs at each of nodes 2 to 5"
    ):
        base.validate_arch(SPACE, np.zeros(32, int))


# The space.


def test_the_canonical_form_and_its_identity(archs):
    form = batched(darts.canonical, archs)
    inputs = form.reshape(-1, 8, 2, 2)[..., 0]
    assert (inputs[..., 0] < inputs[..., 1]).all()
    for arch, mine in zip(archs, form, strict=True):
        nodes = arch.reshape(8, 2, 2).tolist()
        assert [sorted(n) for n in nodes] == mine.reshape(8, 2, 2).tolist()
    np.testing.assert_array_equal(
        base.identify(SPACE, archs), base.identify(SPACE, form)
    )
    assert len(np.unique(base.identify(SPACE, archs))) == 100
    assert darts.NUM_ARCHITECTURES == 180**2 * 7**16


def test_identities_number_the_architectures():
    """The first and last in the order of input pairs and operations."""
    first = [(0, 0), (1, 0)] * 4
    last = [pair for n in (2, 3, 4, 5) for pair in ((n - 2, 6), (n - 1, 6))]
    rows = np.stack([darts_formats.from_compact([c, c]) for c in (first, last)])
    assert base.identify(SPACE, rows).tolist() == [0, darts.NUM_ARCHITECTURES - 1]


def test_draws_are_uniform():
    num = 6000
    nodes = drawn(num).reshape(num, 2, 4, 2, 2)
    for k, n in enumerate((2, 3, 4, 5)):
        pairs = collections.Counter(map(tuple, nodes[:, 1, k, :, 0].tolist()))
        assert sorted(pairs) == list(itertools.combinations(range(n), 2))
        np.testing.assert_allclose(np.array([*pairs.values()]) / num, 1 / len(pairs),
                                   atol=0.02)  # fmt: skip
    ops = np.bincount(nodes[..., 1].reshape(-1), minlength=7) / (16 * num)
    np.testing.assert_allclose(ops, 1 / 7, atol=0.005)


def neighbours_by_hand(arch):
    """Canonical vectors of all valid one-field changes."""
    found = set()
    for p, (source, op) in enumerate(arch.reshape(16, 2).tolist()):
        sibling = arch.reshape(16, 2)[p ^ 1, 0]
        others = [(source, o) for o in range(7) if o != op]
        free = set(range(p % 8 // 2 + 2)) - {source, sibling}
        for pair in others + [(i, op) for i in free]:
            row = arch.reshape(16, 2).copy()
            row[p] = pair
            nodes = [sorted(n) for n in row.reshape(8, 2, 2).tolist()]
            found.add(tuple(np.array(nodes).reshape(-1).tolist()))
    return found


def test_120_neighbours(curve_oracle, archs):
    for near, arch in zip(batched(lambda a: darts.near(a)[0], archs[:10]), archs):  # noqa: B905
        assert len(near) == 120 == len(np.unique(base.identify(SPACE, near)))
        assert set(map(tuple, near.tolist())) == neighbours_by_hand(arch)
    assert (curve_oracle["darts_neighbour_counts_first10"] == 120).all()


def test_mutations_are_uniform_over_the_neighbours():
    arch, num = drawn()[0], 12_000
    keys = jax.random.split(jax.random.key(1), num)
    mutants = np.asarray(jax.jit(jax.vmap(lambda k: darts.mutate(k, arch)))(keys))
    counts = collections.Counter(map(tuple, mutants.tolist()))
    assert set(counts) == neighbours_by_hand(arch)
    chi2 = sum((c - num / 120) ** 2 / (num / 120) for c in counts.values())
    assert chi2 < 190  # 119 degrees of freedom: the 0.99996 quantile


def test_mutations_as_in_the_reference():
    """Half change the operation, 1 in 7 to itself; inputs stay, or take the sibling's."""
    num = 12_000
    keys = jax.random.split(jax.random.key(1), num)
    rule = jax.jit(jax.vmap(lambda k, a: darts.mutate(k, a, reference=True)))
    start = np.broadcast_to(drawn()[0], (num, 32))
    moved = (np.asarray(rule(keys, start)) != start).reshape(num, 2, 8, 2)
    assert (moved.sum((1, 2, 3)) <= 1).all()
    np.testing.assert_allclose(moved[..., 1].any((1, 2)).mean(), 3 / 7, atol=0.015)
    by_pair = moved[..., 0].mean((0, 1))
    free = np.repeat([0, 1 / 3, 1 / 2, 3 / 5], 2)
    np.testing.assert_allclose(by_pair, free / 32, atol=0.004)


# Encodings.


def test_the_surrogate_vector_in_both_precisions(curve_oracle, archs):
    assert list(darts_features.PARAMETERS) == curve_oracle["darts_param_names"]
    x = batched(darts_features.surrogate_vector, archs)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, curve_oracle["darts_x"].astype(np.float32))
    with jax.enable_x64(True):
        x = batched(darts_features.surrogate_vector, archs)
    np.testing.assert_array_equal(x, curve_oracle["darts_x"])
    raw = curve_oracle["darts_config_array_raw"]
    np.testing.assert_array_equal(np.where(np.isnan(raw), -1, raw), x)
    constant = np.flatnonzero((x == x[0]).all(0))
    np.testing.assert_array_equal(
        constant, curve_oracle["darts_fixed_constant_columns"]
    )
    assert len(constant) == 22


def test_other_training_settings_change_their_columns_alone():
    rate, auto = "OptimizerSelector:sgd:learning_rate", "ImageAugmentation:autoaugment"
    columns = darts_features.template({rate: 0.1, auto: True, "else": 3})
    default = darts_features.template({})
    where = np.flatnonzero(columns != default)
    assert [darts_features.PARAMETERS[c] for c in where] == [auto, rate]
    assert columns[where[0]] == 1 and columns[where[1]] == np.log(0.1)
    for wrong in (-1.0, "0.1", float("nan"), None):
        with pytest.raises(
            ValueError, match=f"{rate} is a number in its range, 1e-300"
        ):
            darts_features.template({rate: wrong})


def test_the_adjacency_encoding(curve_oracle, archs):
    found = batched(darts_features.adjacency, archs)
    np.testing.assert_array_equal(found, curve_oracle["darts_adj114"])


def paths_by_hand(arch, pairs):
    """The indices of all operation paths over the first `pairs` pairs of each cell."""
    found = set()

    def follow(cell, c, node, ops):
        if node < 2:
            index = sum(7**i * (o + 1) for i, o in enumerate(ops))
            found.add((2 * c + node) * 2801 + index)
            return
        for p in range(2 * node - 4, min(2 * node - 2, pairs)):
            follow(cell, c, cell[p][0], [cell[p][1], *ops])

    for c, cell in enumerate(arch.reshape(2, 8, 2).tolist()):
        for node in (2, 3, 4, 5):
            follow(cell, c, node, [])
    return found


def test_the_path_encoding_has_all_eight_pairs(curve_oracle, archs):
    found = batched(SPACE.paths, archs)
    forgetful = np.unpackbits(curve_oracle["darts_path11204_as_in_reference"], axis=1)
    for arch, mine, theirs in zip(archs, found, forgetful[:, :11204], strict=True):
        assert set(np.flatnonzero(mine)) == paths_by_hand(arch, 8)
        assert set(np.flatnonzero(theirs)) == paths_by_hand(arch, 7)


def test_the_one_hot_encoding(archs):
    for arch, code in zip(archs, batched(darts_features.one_hot, archs), strict=True):
        wanted = []
        for cell in arch.reshape(2, 8, 2).tolist():
            edge = {(p // 2 + 2, i): op for p, (i, op) in enumerate(cell)}
            for node in (2, 3, 4, 5):
                for i in range(node):
                    wanted += np.eye(8)[edge.get((node, i), 7)].tolist()[
                        : 7 + (node > 2)
                    ]
            for node in (3, 4, 5):
                inputs = tuple(sorted(i for n, i in edge if n == node))
                pairs = itertools.combinations(range(node), 2)
                wanted += [float(inputs == pair) for pair in pairs]
        np.testing.assert_array_equal(code, wanted)


def test_encodings_ignore_the_order_of_a_nodes_pairs(archs):
    form = batched(darts.canonical, archs[:20])
    maps = (darts_features.surrogate_vector, darts_features.one_hot, SPACE.paths)
    for encode in maps:
        np.testing.assert_array_equal(
            batched(encode, archs[:20]), batched(encode, form)
        )


def test_the_graphs_of_both_cells(archs):
    """An operation on node n follows both operations of node n."""
    for arch in archs[:5]:
        for c, graph in enumerate(SPACE.graphs):
            adj, ops, mask = map(np.asarray, graph(jnp.asarray(arch)))
            cell, edges = arch.reshape(2, 8, 2)[c], {(0, 1), (0, 2)}
            for p, (source, _) in enumerate(cell.tolist()):
                before = [source + 1] if source < 2 else [2 * source - 1, 2 * source]
                edges |= {(b, p + 3) for b in before} | {(p + 3, 11)}
            assert set(zip(*np.nonzero(adj), strict=True)) == edges and mask.all()
            np.testing.assert_array_equal(ops, [-1, -1, -1, *cell[:, 1], -1])


def test_tree_wasserstein_parts_of_both_cells(archs):
    features = feature_maps.tree_wasserstein_features(SPACE)
    parts = jax.jit(jax.vmap(features))(jnp.asarray(archs[:8]))
    swapped = archs[:8].reshape(-1, 2, 16)[:, ::-1].reshape(-1, 32)
    other = jax.jit(jax.vmap(features))(jnp.asarray(swapped))
    assert len(parts) == 6
    for part, mirror in zip(parts, other[3:] + other[:3], strict=True):
        np.testing.assert_array_equal(part, mirror)
    assert all(len(np.unique(np.asarray(p), axis=0)) > 1 for p in parts)
