"""The NAS-Bench-NLP space: notations, identity, sampler, neighbours, and encodings
against arrays that the reference program gave."""

import collections
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from helpers import batched

from jaxnas.kernels import feature_maps
from jaxnas.spaces import base, moves, nlp, nlp_features, nlp_formats, nlp_sampling

pytestmark = pytest.mark.usefixtures("quick_compilation")
SPACE = nlp.SPACE


@pytest.fixture(scope="module")
def archs(curve_oracle):
    """The vectors (50, 40) of the reference's cells."""
    return np.stack([nlp_formats.from_compact(c) for c in curve_oracle["nlp_compact"]])


@pytest.fixture(scope="module")
def published(shared):
    """The recipes of the published runs, 291 different texts."""
    with np.load(shared / "data" / "nasbench_nlp_wikitext2_345.npz") as stored:
        return sorted(set(stored["recipe"].tolist()))


@functools.cache
def drawn(num=300):
    keys = jax.random.split(jax.random.key(0), num)
    return np.asarray(jax.jit(jax.vmap(SPACE.draw))(keys))


def nested(compact):
    edges, operations, hidden = compact
    return [[list(e) for e in edges], list(operations), list(hidden)]


# Notations.


def test_notations_of_the_reference(curve_oracle, archs):
    sizes = []
    for arch, recipe, compact in zip(
        archs, curve_oracle["nlp_recipes"], curve_oracle["nlp_compact"], strict=True
    ):
        np.testing.assert_array_equal(nlp_formats.from_recipe(recipe), arch)
        assert nested(nlp_formats.to_compact(arch)) == compact
        sizes.append(len(compact[1]))
        again = nlp_formats.to_recipe(arch)
        assert [n["op"] for n in again.values()] == [
            nlp_formats.OPERATIONS[o] for o in compact[1][4:]
        ]
    assert sizes == curve_oracle["nlp_num_nodes"]


def hidden_as_in_reference(recipe, names):
    """Every node with h_new anywhere in its name is an output, in order of number."""
    return [k for k, name in enumerate(names) if "h_new" in name]


def test_hand_made_recipes(curve_oracle):
    """Parts of h_new_1 are no outputs, and which output is which is not forgotten."""
    for example in curve_oracle["nlp_example_compacts"]:
        recipe, (edges, operations, hidden) = example["recipe"], example["compact"]
        arch = nlp_formats.from_recipe(recipe, max_nodes=example["num_nodes"])
        mine = nested(nlp_formats.to_compact(arch))
        assert mine[:2] == [edges, operations]
        names = [*nlp_formats.INPUTS, *recipe]
        assert hidden_as_in_reference(recipe, names) == hidden
        assert mine[2] == [names.index(f"h_new_{i}") for i in range(len(mine[2]))]
    assert any(len(e["compact"][2]) > 3 for e in curve_oracle["nlp_example_compacts"])


def test_published_recipes(published):
    """All 291 fit 19 nodes; 201 have no more than NAS-Bench-NLP11 allows."""
    large, fine = nlp.space(19), 0
    for text in published:
        recipe, arch = json.loads(text), large.from_string(text)
        again = large.from_string(large.to_string(arch))
        np.testing.assert_array_equal(again, arch)
        compact = nlp_formats.to_compact(arch)
        np.testing.assert_array_equal(nlp_formats.from_compact(compact, 19), arch)
        written = nlp_formats.to_recipe(arch)
        assert len(written) == len(recipe)
        count = lambda r: collections.Counter(  # noqa: E731
            (n["op"], len(n["input"])) for n in r.values()
        )
        assert count(written) == count(recipe)
        if len(recipe) > 8:
            with pytest.raises(ValueError, match="nodes and 4 inputs: .* at most 12"):
                SPACE.from_string(text)
        else:
            fine += 1
            np.testing.assert_array_equal(SPACE.from_string(text), arch[:40])
    assert fine == 10 + 10 + 40 + 30 + 40 + 25 + 46 == 201


def test_published_recipes_are_one_architecture_if_isomorphic(published):
    large = nlp.space(19)
    archs = np.stack([large.from_string(text) for text in published])
    assert batched(large.is_valid, archs).all()
    codes = base.identify(large, archs)
    assert len(np.unique(codes)) == 265
    graphs = [labelled(json.loads(text)) for text in published]
    for i, j in itertools.combinations(range(len(published)), 2):
        if codes[i] == codes[j]:
            assert isomorphic(graphs[i], graphs[j])
        elif graphs[i][1] == graphs[j][1]:
            assert not isomorphic(graphs[i], graphs[j])


def labelled(recipe):
    """A recipe as a networkx graph, and counts that isomorphic ones share."""
    cell = nx.DiGraph()
    for name, node in recipe.items():
        output = name if name.startswith("h_new") and name[6:].isdigit() else ""
        cell.add_node(name, label=node["op"] + output)
        for slot, source in enumerate(node["input"]):
            cell.add_node(source, **({} if source in recipe else {"label": source}))
            cell.add_edge(source, name, slot=slot if node["op"] == "blend" else 0)
    labels = sorted(label for _, label in cell.nodes(data="label"))
    return cell, (labels, cell.size())


def isomorphic(one, two):
    node = nx.algorithms.isomorphism.categorical_node_match("label", None)
    edge = nx.algorithms.isomorphism.categorical_edge_match("slot", None)
    return nx.is_isomorphic(one[0], two[0], node, edge)


@pytest.mark.parametrize("to", ["recipe", "compact", "string"])
def test_notations_there_and_back(to):
    for arch in drawn()[:50]:
        there = getattr(nlp_formats, f"to_{to}")(arch)
        again = getattr(nlp_formats, f"from_{to}")(there)
        assert again.dtype == np.int32
        np.testing.assert_array_equal(again, arch)


GOOD = {
    "a": {"op": "linear", "input": ["x", "h_prev_0"]},
    "b": {"op": "activation_tanh", "input": ["a"]},
    "h_new_0": {"op": "blend", "input": ["b", "a", "h_prev_0"]},
}


def with_node(name, op, *inputs):
    return GOOD | {name: {"op": op, "input": list(inputs)}}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (
            with_node("b", "activation_relu", "a"),
            "b has no operation 'activation_relu'",
        ),
        (with_node("b", "in", "a"), "b has no operation 'in'"),
        (with_node("b", "linear", "a"), r"b \(linear\) has 1 inputs: wanted 2 or 3"),
        (with_node("b", "blend", "a", "x"), r"b \(blend\) has 2 inputs: wanted 3"),
        (with_node("b", "activation_sigm", "a", "x"), "b .* has 2 inputs: wanted 1"),
        (with_node("b", "elementwise_sum", "a", "a"), "takes an input twice"),
        (
            with_node("b", "activation_sigm", "c"),
            "b takes 'c', not a node of the",
        ),
        (
            with_node("a", "linear", "x", "h_new_0"),
            "a takes its own output, in a circle",
        ),
        (
            with_node("a", "linear", "x", "h_prev_1"),
            "a takes h_prev_1, but there is no h",
        ),
        (with_node("x", "activation_sigm", "a"), "x is an input of the recipe"),
        (with_node("h_new_2", "activation_sigm", "a"), "found h_new_0, h_new_2"),
        ({"a": GOOD["a"]}, "the outputs of a cell are h_new_0, .* found no output"),
        (GOOD | {"b": {"op": "linear"}}, "b has an operation `op` and a list `input`"),
        (GOOD | {"b": None}, "b has an operation `op` and a list `input`, not None"),
        (GOOD | {f"n{i}": GOOD["b"] for i in range(9)}, "the cell has 12 nodes and 4"),
        ({}, "a recipe is a dictionary of nodes"),
        ([1], "a recipe is a dictionary of nodes"),
    ],
)
def test_malformed_recipes(recipe, words):
    nlp_formats.from_recipe(GOOD)
    with pytest.raises(ValueError, match=words) as error:
        nlp_formats.from_recipe(recipe)
    assert "\n" not in str(error.value)


CELL = [[(0, 4), (1, 4), (4, 5)], [0, 0, 0, 0, 6, 2], [5]]


def with_part(part, value):
    return [value if k == part else given for k, given in enumerate(CELL)]


@pytest.mark.parametrize(
    ("compact", "words"),
    [
        (
            with_part(0, [(0, 4), (1, 4), (5, 5)]),
            "node 5 takes node 5, which is not bef",
        ),
        (with_part(0, [(0, 4), (1, 4), (4, 6)]), "node 6 is not one of nodes 4 to 5"),
        (with_part(0, [(0, 4), (4, 5)]), r"node 4 \(linear\) has 1 inputs"),
        (with_part(0, [(0, 4), (1.5, 4), (4, 5)]), "numbers from 0, not 1.5"),
        (
            with_part(0, [0, 4]),
            "a compact NAS-Bench-NLP cell is a list of edges, of op",
        ),
        (with_part(1, [0, 0, 0, 0, 6, 8]), "node 5 has operation 8: wanted 1 to 7"),
        (with_part(1, [0, 0, 0, 1, 6, 2]), "nodes 0 to 3 are the inputs of the cell"),
        (
            with_part(2, [5, 5]),
            "node 5 is not one of nodes 4 to 5, or is an output twice",
        ),
        (with_part(2, []), "the outputs of a cell are h_new_0"),
        (CELL[:2], "a compact NAS-Bench-NLP cell is a list of edges"),
        (None, "a compact NAS-Bench-NLP cell is a list of edges"),
    ],
)
def test_malformed_compact_forms(compact, words):
    nlp_formats.from_compact(CELL)
    with pytest.raises(ValueError, match=words) as error:
        nlp_formats.from_compact(compact)
    assert "\n" not in str(error.value)


def test_malformed_texts_and_vectors():
    for text in ("", "{", "[1, 2]", 7, "[" * 60_000):
        with pytest.raises(
            ValueError, match="not a NAS-Bench-NLP recipe|a recipe is a"
        ):
            SPACE.from_string(text)
    for vector in (np.zeros(6, int), np.zeros(40), np.zeros((2, 5), int)):
        with pytest.raises(ValueError, match=r"integer vector of shape \(5 n,\), not"):
            SPACE.to_string(vector)
    with pytest.raises(ValueError, match="the cell has 0 nodes"):
        SPACE.to_string(np.zeros(40, int))
    hole = drawn()[0].copy()
    hole[:5] = 0
    for wrong in (hole, drawn()[0] * np.array([9] + [1] * 39)):
        with pytest.raises(ValueError):
            SPACE.to_string(wrong)
    with pytest.raises(
        ValueError, match="as many different inputs at every node as its"
    ):
        base.validate_arch(SPACE, hole)
    for size in (5, 0, 2.5):
        with pytest.raises(ValueError, match="max_nodes must be"):
            nlp.space(size)


# Validity and identity.


def valid_by_notation(arch):
    try:
        nlp_formats.to_recipe(arch)
    except ValueError:
        return False
    return True


def test_validity_is_that_of_the_notation():
    """On vectors with random changes, of which many are not valid."""
    rng = np.random.default_rng(0)
    archs = np.repeat(drawn(), 3, 0)
    for row in archs:
        for position in rng.integers(0, 40, rng.integers(0, 4)):
            row[position] = rng.integers(SPACE.choices[position])
    found = batched(SPACE.is_valid, archs)
    assert found.tolist() == [valid_by_notation(arch) for arch in archs]
    assert 300 < found.sum() < 800


def shuffled(arch, rng):
    """The same cell with its nodes, and the inputs that commute, in random order."""
    recipe = list(nlp_formats.to_recipe(arch).items())
    rng.shuffle(recipe)
    for _, node in recipe:
        if node["op"] != "blend":
            rng.shuffle(node["input"])
    return nlp_formats.from_recipe(dict(recipe), len(arch) // 5 + 4)


def test_identities_ignore_the_order_of_nodes_and_of_inputs_that_commute():
    rng = np.random.default_rng(0)
    archs = drawn()
    other = np.stack([shuffled(arch, rng) for arch in archs])
    assert (archs != other).any(1).mean() > 0.8
    np.testing.assert_array_equal(*(batched(nlp.canonical, a) for a in (archs, other)))
    np.testing.assert_array_equal(*(base.identify(SPACE, a) for a in (archs, other)))
    form = batched(nlp.canonical, archs)
    assert batched(SPACE.is_valid, form).all()
    np.testing.assert_array_equal(batched(nlp.canonical, form), form)


def renamed(recipe, names):
    """The recipe in the same order of entries, with nodes renamed."""
    return {
        names.get(k, k): {"op": v["op"], "input": [names.get(i, i) for i in v["input"]]}
        for k, v in recipe.items()
    }


TWINS = {
    "a": GOOD["a"],
    "b": GOOD["a"],
    "h_new_0": {"op": "activation_tanh", "input": ["a"]},
    "h_new_1": {"op": "activation_tanh", "input": ["b"]},
    "c": {"op": "elementwise_sum", "input": ["a", "h_prev_0"]},
}
BLENDED = {
    "a": GOOD["a"],
    "b": GOOD["a"],
    "h_new_0": {"op": "blend", "input": ["a", "b", "h_prev_0"]},
}


def identities(*recipes):
    rows = np.stack([nlp_formats.from_recipe(recipe) for recipe in recipes])
    return base.identify(SPACE, rows).tolist()


def test_identities_tell_cells_apart():
    """The order of a blend, which output is which, and which twin is taken, count."""
    swap = with_node("h_new_0", "blend", "a", "b", "h_prev_0")
    same_twin = TWINS | {"h_new_1": {"op": "activation_tanh", "input": ["a"]}}
    outputs = renamed(TWINS, {"h_new_0": "h_new_1", "h_new_1": "h_new_0"})
    assert len(set(identities(GOOD, swap, TWINS, same_twin, outputs))) == 5


@pytest.mark.parametrize("cell", [TWINS, BLENDED], ids=["sum", "blend"])
def test_identities_do_not_tell_the_names_of_twins(cell):
    """Two equal nodes, told apart by what takes them alone, the other one first."""
    other = dict(sorted(renamed(cell, {"a": "b", "b": "a"}).items()))
    one, two = (nlp_formats.from_recipe(c) for c in (cell, other))
    assert (one != two).any()
    assert len(set(identities(cell, other))) == 1


# Sampler.


def finished_by_hand(ops, inputs, outputs):
    """Names, outputs, pruning and order of nodes, as the authors' program has them."""
    names = ["x", "h_prev_0", "h_prev_1", *(f"node_{i}" for i in range(10))]
    for k, node in enumerate(outputs):
        names[3 + node] = f"h_new_{k}"
    recipe = {
        names[3 + i]: {
            "op": nlp_formats.OPERATIONS[op],
            "input": [names[s] for s in inputs[i] if s >= 0],
        }
        for i, op in enumerate(ops)
        if op
    }
    for name in ("h_new_0", "h_new_1"):
        recipe[name] = recipe.pop(name)
    queue, seen = ["h_new_0", "h_new_1"], set()
    while queue:
        name = queue.pop()
        seen.add(name)
        queue += recipe[name]["input"] if name in recipe else []
    previous = {"h_prev_0", "h_prev_1"}
    direct = any(previous & set(recipe[h]["input"]) for h in ("h_new_0", "h_new_1"))
    recipe = {k: v for k, v in recipe.items() if k in seen}
    fine = {"x", *previous} <= seen and not direct and len(recipe) <= 8
    return recipe, fine


def test_drawn_cells_are_finished_as_the_authors_do():
    num, rng = 300, np.random.default_rng(0)
    keys = jax.random.split(jax.random.key(2), num)
    ops, inputs = map(np.asarray, jax.jit(jax.vmap(nlp_sampling.raw_graph))(keys))
    outputs = np.stack([rng.choice((o > 0).sum(), 2, replace=False) for o in ops])
    finish = jax.jit(jax.vmap(lambda o, i, h: nlp_sampling.finish(o, i, h, 12)))
    archs, fine = map(np.asarray, finish(ops, inputs, outputs))
    for op, source, output, arch, ok in zip(
        ops, inputs, outputs, archs, fine, strict=True
    ):
        recipe, wanted = finished_by_hand(op, source, output)
        assert ok == wanted
        if ok:
            np.testing.assert_array_equal(nlp_formats.from_recipe(recipe), arch)
    assert 30 < fine.sum() < 270


def test_raw_graphs_follow_the_grammar():
    """Operations 3 : 1 : 1 : 1, three inputs in a fifth, distinct, from what is allowed."""
    keys = jax.random.split(jax.random.key(3), 2000)
    ops, inputs = map(np.asarray, jax.jit(jax.vmap(nlp_sampling.raw_graph))(keys))
    activation = (ops >= 1) & (ops <= 3)
    assert (activation[:, 1:] == (ops[:, :-1] == nlp_formats.LINEAR)).all()
    assert ((ops[:, 9] > 0) == (ops[:, 8] == nlp_formats.LINEAR)).all()
    late = ops[:, 1:9][~activation[:, 1:9]]
    share = np.bincount(late, minlength=8)[[4, 5, 6, 7]] / len(late)
    np.testing.assert_allclose(share, [1 / 6, 1 / 6, 1 / 2, 1 / 6], atol=0.015)
    first = np.bincount(ops[:, 0], minlength=8)[[4, 5, 6, 7]] / len(ops)
    np.testing.assert_allclose(first, [0.2, 0.2, 0.6, 0], atol=0.035)
    three = (inputs[..., 2] >= 0)[ops == nlp_formats.LINEAR].mean()
    assert abs(three - 0.2) < 0.015
    for op, source in zip(ops[:300], inputs[:300], strict=True):
        for i, mine in enumerate(source.tolist()):
            used = [s for s in mine if s >= 0]
            assert len(set(used)) == len(used)
            if op[i] == nlp_formats.LINEAR:
                assert all(s < 3 or 1 <= op[s - 3] <= 3 for s in used)
            elif 1 <= op[i] <= 3:
                assert used == [i + 2]
            assert all(0 <= s < 3 + i and (s or op[i] == 6) for s in used)
    spread = np.bincount(inputs[:, 0][ops[:, 0] == nlp_formats.LINEAR].ravel() + 1)[1:]
    np.testing.assert_allclose(spread / spread.sum(), 1 / 3, atol=0.03)


def test_draws_are_cells_of_the_benchmark():
    archs = drawn()
    assert archs.dtype == np.int32 and batched(SPACE.is_valid, archs).all()
    assert len(np.unique(base.identify(SPACE, archs))) > 250
    for arch in archs:
        recipe = nlp_formats.to_recipe(arch)
        assert 2 <= len(recipe) <= 8
        used = {i for node in recipe.values() for i in node["input"]}
        assert used >= {"x", "h_prev_0", "h_prev_1"} | recipe.keys() - {
            "h_new_0",
            "h_new_1",
        }
        for h in ("h_new_0", "h_new_1"):
            assert not {"h_prev_0", "h_prev_1"} & set(recipe[h]["input"])


# Neighbours and mutations.


def frozen(compact):
    edges, operations, hidden = compact
    return tuple(map(tuple, edges)), tuple(operations), tuple(hidden)


def neighbours(arch):
    rows, fine = jax.jit(lambda a: moves.neighbours(SPACE, a))(jnp.asarray(arch))
    return np.asarray(rows)[np.asarray(fine)]


def test_neighbours_are_those_of_the_reference_that_are_cells(curve_oracle, archs):
    """Without the copies of the cell itself, and without inputs that a node has twice."""
    rejected = 0
    for arch, theirs in zip(
        archs, curve_oracle["nlp_neighbours_first10"], strict=False
    ):
        mine = [frozen(nlp_formats.to_compact(row)) for row in neighbours(arch)]
        assert len(set(mine)) == len(mine)
        itself = frozen(nlp_formats.to_compact(arch))
        wanted = {
            c
            for c in map(frozen, theirs)
            if len(set(c[0])) == len(c[0]) and c != itself
        }
        rejected += len(theirs) - len(wanted)
        assert set(mine) == wanted
    assert rejected > 50


def test_mutations_are_uniform_over_the_neighbours(archs):
    arch, num = archs[2], 6000
    keys = jax.random.split(jax.random.key(1), num)
    change = jax.jit(jax.vmap(lambda k: nlp.mutate(k, jnp.asarray(arch))))
    counts = collections.Counter(map(tuple, np.asarray(change(keys)).tolist()))
    near = set(map(tuple, neighbours(arch).tolist()))
    assert set(counts) == near
    mean = num / len(near)
    assert all(abs(c - mean) < 5 * mean**0.5 for c in counts.values())


def test_mutations_as_in_the_reference(archs):
    """Half the time an input, which can stay; else an operation, which cannot."""
    arch, num = archs[0], 12_000
    keys = jax.random.split(jax.random.key(1), num)
    rule = jax.jit(jax.vmap(lambda k: nlp.mutate(k, jnp.asarray(arch), reference=True)))
    moved = (np.asarray(rule(keys)) != arch).reshape(num, -1, 5)
    assert (moved.sum((1, 2)) <= 1).all()
    rows = arch.reshape(-1, 5)
    plain = (rows[:, 0] > 0) & (rows[:, 0] < 6)
    np.testing.assert_allclose(
        moved[..., 0].mean(0), plain / plain.sum() / 2, atol=0.015
    )
    edges = rows[:, 1:4] > 4
    leaves = 1 - 1 / np.maximum(np.arange(8), 1)
    wanted = edges * leaves[:, None] / edges.sum() / 2
    np.testing.assert_allclose(moved[..., 1:4].mean(0), wanted, atol=0.006)


def test_a_cell_without_neighbours_stays():
    only = nlp_formats.from_compact([[(0, 4), (1, 4)], [0, 0, 0, 0, 6], [4]])
    for reference in (False, True):
        change = jax.jit(functools.partial(nlp.mutate, reference=reference))
        np.testing.assert_array_equal(change(jax.random.key(0), only), only)


# Encodings.


def test_the_surrogate_vector(curve_oracle, archs):
    found = batched(nlp_features.surrogate_vector, archs)
    np.testing.assert_array_equal(found, curve_oracle["nlp_x185_no_accs"])
    with jax.enable_x64(True):
        encode = jax.jit(jax.vmap(nlp_features.surrogate_vector))
        found = encode(jnp.asarray(archs), jnp.asarray(curve_oracle["nlp_accs3"]))
    np.testing.assert_array_equal(found, curve_oracle["nlp_x188"])


def last_flag_twice_as_in_reference(code, compact):
    """The last node's flag is at the place of its number too, if that is free."""
    last = len(compact[1]) - 1
    code = code.copy()
    code[169 + 9 * last + 8] |= last in compact[2]
    return code


def test_the_one_hot_encoding(curve_oracle, archs):
    found = batched(nlp_features.one_hot, archs)
    assert found.shape == (50, 286)
    for code, compact, theirs in zip(
        found.astype(np.uint8),
        curve_oracle["nlp_compact"],
        curve_oracle["nlp_x286_onehot_no_accs"],
        strict=True,
    ):
        twice = last_flag_twice_as_in_reference(code, compact)
        np.testing.assert_array_equal(twice, theirs)
        assert code[169:].reshape(13, 9)[:, 8].sum() == len(compact[2])


def test_encodings_of_larger_cells(published):
    """A recipe of 19 nodes, and a cell that has the same code in a larger space."""
    large = nlp.space(19)
    text = max(published, key=lambda t: len(json.loads(t)))
    code = nlp_features.surrogate_vector(jnp.asarray(large.from_string(text)))
    assert code.shape == (20 * 20 + 20 + 3,)
    recipe = json.loads(text)
    assert code[:400].sum() == sum(len(node["input"]) for node in recipe.values())
    assert nlp_features.one_hot(jnp.asarray(large.from_string(text))).shape == (580,)


def test_the_graph(archs):
    for arch in archs[:5]:
        adj, ops, mask = map(np.asarray, nlp.graph(jnp.asarray(arch)))
        edges, operations, hidden = nlp_formats.to_compact(arch)
        wanted = {(s + 1, t + 1) for s, t in edges} | {(h + 1, 13) for h in hidden}
        wanted |= {(0, s + 1) for s, _ in edges if s < 4}
        assert set(zip(*np.nonzero(adj), strict=True)) == wanted
        assert ops.tolist() == [-1] * 5 + [o - 1 for o in operations[4:]] + [-1] * (
            14 - 1 - len(operations)
        )
        assert mask.sum() == 2 + len({v for edge in wanted for v in edge} - {0, 13})


def test_tree_wasserstein_parts(archs):
    parts = jax.jit(jax.vmap(feature_maps.tree_wasserstein_features(SPACE)))(archs[:20])
    rng = np.random.default_rng(0)
    other = np.stack([shuffled(arch, rng) for arch in archs[:20]])
    again = jax.jit(jax.vmap(feature_maps.tree_wasserstein_features(SPACE)))(other)
    assert len(parts) == 3
    for one, two in zip(parts, again, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    names = list(itertools.combinations(range(20), 2))
    far = [sum(float(np.abs(p[i] - p[j]).sum()) for p in parts) for i, j in names]
    assert np.mean(np.array(far) > 0.05) > 0.95
