"""Spaces: their notation, their validity, and which vectors are the same architecture."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.batching import in_chunks
from jaxnas.benchmarks import sources
from jaxnas.spaces import base, darts, moves, nlp
from jaxnas.spaces import nasbench101 as nb101
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.spaces import nasbench201_classes as classes201
from jaxnas.spaces.restriction import restricted

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACES = {
    "nb201": nb201.SPACE,
    "nb101": nb101.SPACE,
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
# Spaces with draws and changes of their own, whose vectors are too many for a rank.
LARGE = {"darts": darts.SPACE, "nlp": nlp.SPACE}
every_size = pytest.mark.parametrize(
    "space", (SPACES | LARGE).values(), ids=SPACES | LARGE
)
NUM = 2000


@pytest.fixture(scope="module")
def accuracy_file(shared):
    with np.load(shared / "data" / "nb201_accuracy.npz") as stored:
        return {k: stored[k] for k in ("arch_str", "ops", "op_names", "iso_id")}


@pytest.fixture(scope="module")
def cells101(shared):
    """All 423,624 cells (n, 26)."""
    return sources.nasbench101_table(shared / "data" / "nb101.npz").arch.astype(
        np.int32
    )


def keys(num=NUM, seed=0):
    return jax.random.split(jax.random.key(seed), num)


@functools.cache
def batched(function, space):
    """A function of (space, arch) or (key, space, arch) over a batch, compiled once."""
    if function is moves.sample:
        return jax.jit(jax.vmap(lambda key: moves.sample(key, space)))
    if function is moves.mutate:
        return jax.jit(jax.vmap(lambda key, arch: moves.mutate(key, space, arch)))
    return jax.jit(jax.vmap(lambda arch: function(space, arch)))


@functools.cache
def samples(space):
    return np.asarray(batched(moves.sample, space)(keys()))


@functools.cache
def valid(space):
    return jax.jit(jax.vmap(space.is_valid))


# What every space promises.


@every_size
def test_samples_are_valid_and_differ(space):
    arch = samples(space)
    assert arch.dtype == np.int32 and arch.shape == (NUM, len(space.choices))
    assert (arch >= 0).all() and (arch < np.array(space.choices)).all()
    assert np.asarray(valid(space)(arch)).all()
    assert len(np.unique(arch, axis=0)) > 0.9 * NUM
    np.testing.assert_array_equal(arch, batched(moves.sample, space)(keys()))


def test_samples_are_uniform():
    """Over vectors without a condition, and by rejection over those that meet one."""
    choices = (2, 3, 4)
    accepts = lambda arch: arch[0] + arch[1] <= 2  # noqa: E731
    whole = base.product("toy", choices)
    for space in (whole, base.Space(**{**whole.__dict__, "is_valid": accepts})):
        arch = np.asarray(batched(moves.sample, space)(keys(12_000)))
        counts = np.bincount(arch @ [12, 4, 1], minlength=24)
        possible = [space.is_valid(np.array(a)) for a in itertools.product(*iters())]
        possible = np.array(possible, bool)
        assert (counts[~possible] == 0).all()
        expected = 12_000 / possible.sum()
        chi2 = ((counts[possible] - expected) ** 2 / expected).sum()
        assert chi2 < 60  # 23 degrees of freedom: the 0.99997 quantile


def iters():
    return range(2), range(3), range(4)


@every_space
def test_a_mutant_is_one_change_away_and_valid(space):
    arch = samples(space)
    mutants = np.asarray(batched(moves.mutate, space)(keys(seed=1), arch))
    assert mutants.dtype == np.int32
    assert ((mutants != arch).sum(1) == 1).all()
    assert (mutants >= 0).all() and (mutants < np.array(space.choices)).all()
    assert np.asarray(valid(space)(mutants)).all()


def test_mutations_are_uniform():
    """Over positions, whatever their number of choices, then over new choices."""
    space, arch = base.product("toy", (2, 5, 3)), np.array([1, 2, 0], np.int32)
    many = np.broadcast_to(arch, (12_000, 3))
    mutants = np.asarray(batched(moves.mutate, space)(keys(12_000), many))
    position = (mutants != arch).argmax(1)
    np.testing.assert_allclose(np.bincount(position) / 12_000, 1 / 3, atol=0.02)
    fresh = np.bincount(mutants[position == 1, 1], minlength=5) / (position == 1).sum()
    np.testing.assert_allclose(fresh, [0.25, 0.25, 0, 0.25, 0.25], atol=0.03)


def test_mutations_are_uniform_over_positions_that_can_change():
    """The bare edge of NAS-Bench-101 is lost by one change, and by no other."""
    edge = np.zeros(26, np.int32)
    edge[5] = 1  # input to output
    assert bool(nb101.is_valid(jnp.asarray(edge)))
    many = np.broadcast_to(edge, (5000, 26))
    mutants = np.asarray(batched(moves.mutate, nb101.SPACE)(keys(5000), many))
    share = np.bincount((mutants != edge).argmax(1), minlength=26) / 5000
    assert share[5] == 0
    np.testing.assert_allclose(np.delete(share, 5), 1 / 25, atol=0.012)


@every_space
def test_neighbours_are_all_single_changes(space):
    arch = samples(space)[:20]
    rows, fine = map(np.asarray, batched(moves.neighbours, space)(arch))
    assert rows.shape == (20, sum(space.choices) - len(space.choices), arch.shape[1])
    for one, mine, ok in zip(arch, rows, fine, strict=True):
        assert ((mine != one).sum(1) == 1).all()
        assert (mine >= 0).all() and (mine < np.array(space.choices)).all()
        assert len(np.unique(mine, axis=0)) == len(mine)  # so none is left out
        np.testing.assert_array_equal(ok, valid(space)(mine))


@every_space
def test_rank_and_unrank(space):
    total = base.num_vectors(space)
    assert total == np.prod(np.array(space.choices, float)) <= 2**31
    index = np.linspace(0, total - 1, 15_625).astype(np.int32)
    arch = np.asarray(jax.jit(jax.vmap(lambda i: base.unrank(space, i)))(index))
    assert (arch >= 0).all() and (arch < np.array(space.choices)).all()
    np.testing.assert_array_equal(batched(base.rank, space)(arch), index)
    np.testing.assert_array_equal(np.lexsort(arch.T[::-1]), range(15_625))


@every_size
def test_notation_there_and_back(space):
    for arch in samples(space)[:200]:
        text = space.to_string(arch)
        again = space.from_string(text)
        assert again.dtype == np.int32 and isinstance(text, str)
        np.testing.assert_array_equal(again, arch)


@every_size
def test_a_space_can_be_a_static_argument(space):
    assert {space: 1}[base.Space(**space.__dict__)] == 1
    size = jax.jit(lambda s: len(s.choices), static_argnums=0)(space)
    assert size == len(space.choices)


@every_size
def test_check_returns_what_is_right(space):
    arch = samples(space)[0]
    checked = base.validate_arch(space, arch.astype(np.int64))
    assert checked.dtype == np.int32
    np.testing.assert_array_equal(checked, arch)


@pytest.mark.parametrize(
    ("space", "arch", "words"),
    [
        (nb201.SPACE, [0] * 5, r"nasbench201 is an integer vector of shape \(6,\)"),
        (nb201.SPACE, [0.0] * 6, "integer vector .* not float64"),
        (nb201.SPACE, [[0] * 6], r"integer vector .* not int64 \(1, 6\)"),
        (nb201.SPACE, [0, 0, 5, 0, 0, 0], r"choices 0\.\.4 at position 2, not 5"),
        (nb201.SPACE, [0, 0, 0, 0, 0, -1], r"choices 0\.\.4 at position 5, not -1"),
        (nb101.SPACE, [0] * 20 + [2] + [0] * 5, r"0\.\.1 at position 20, not 2"),
        (nb101.SPACE, [0] * 26, "of nasbench101: wanted a path .* at most 9 edges"),
        (nb101.SPACE, [1] * 21 + [0] * 5, "is not a valid architecture"),
    ],
)
def test_check_says_what_is_wrong(space, arch, words):
    with pytest.raises(ValueError, match=words) as error:
        base.validate_arch(space, np.array(arch))
    assert "\n" not in str(error.value)


# NAS-Bench-201.


def test_strings_of_the_whole_space(accuracy_file):
    assert list(accuracy_file["op_names"]) == list(nb201.OPERATIONS)
    texts = [text.decode() for text in accuracy_file["arch_str"]]
    assert len(set(texts)) == 15_625
    for text, ops in zip(texts, accuracy_file["ops"], strict=True):
        arch = nb201.from_string(text)
        assert (arch == ops).all()
        assert nb201.to_string(arch) == text


GOOD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a NAS-Bench-201 architecture: ''"),
        (GOOD[:-1], "not a NAS-Bench-201 architecture"),
        (GOOD + "\n", "not a NAS-Bench-201 architecture"),
        (" " + GOOD, "not a NAS-Bench-201 architecture"),
        (GOOD + "+|none~0|", "not a NAS-Bench-201 architecture"),
        (GOOD.replace("none~2", "none~1"), "not a NAS-Bench-201 architecture"),
        (GOOD.replace("none~2", "conv~2"), "no operation 'conv'.* nor_conv_3x3"),
    ],
)
def test_malformed_strings(text, words):
    assert nb201.from_string(GOOD).tolist() == [0] * 6
    with pytest.raises(ValueError, match=words) as error:
        nb201.from_string(text)
    assert "\n" not in str(error.value)


def test_isomorphism_classes_are_those_of_the_benchmark(accuracy_file):
    code = in_chunks(classes201.isomorphism_class, accuracy_file["ops"])
    theirs = accuracy_file["iso_id"]
    assert len(np.unique(code)) == len(np.unique(theirs)) == 6466
    # The same partition: each of ours meets one of theirs, and the reverse.
    assert len(np.unique(np.stack([code, theirs]), axis=1).T) == 6466


def test_the_canonical_cell_is_the_smallest_of_its_class():
    every = base.every(nb201.SPACE)
    canonical = np.asarray(jax.jit(jax.vmap(classes201.canonical))(every))
    rank = np.asarray(base.rank(nb201.SPACE, canonical))
    classes = classes201.function_classes()
    np.testing.assert_array_equal(classes[rank], classes)
    assert (rank <= np.arange(len(every))).all()
    assert len(np.unique(rank)) == len(np.unique(classes))


def test_function_classes_are_as_many_as_published_counts_say():
    live, present = classes201.function_classes(), classes201.function_classes(True)
    assert live.max() + 1 == 5260
    assert present.max() + 1 == 6239
    # What tells dead convolutions apart only splits classes.
    assert len(np.unique(np.stack([live, present]), axis=1).T) == 6239
    sizes = np.bincount(live)
    assert sizes[live[0]] == 341  # the zero function
    assert (
        sizes[live[base.rank(nb201.SPACE, one_edge("skip_connect"))]] == 400
    )  # identity
    assert sizes[live[base.rank(nb201.SPACE, one_edge("nor_conv_3x3"))]] == 460


def one_edge(op):
    return nb201.from_string(f"|none~0|+|none~0|none~1|+|{op}~0|none~1|none~2|")


@pytest.mark.parametrize(
    "one, two, same",
    [
        ("none none none skip_connect none none", "", False),
        # x + conv(x) through node 2, and through node 1 beside dead convolutions.
        (
            "none skip_connect none skip_connect none nor_conv_3x3",
            "skip_connect nor_conv_1x1 none skip_connect nor_conv_3x3 none",
            True,
        ),
        # Twice the same convolution is not the sum of two.
        (
            "nor_conv_3x3 none skip_connect none skip_connect skip_connect",
            "nor_conv_3x3 nor_conv_3x3 none none skip_connect skip_connect",
            False,
        ),
        # A sum of three, in another order of adding.
        (
            "nor_conv_3x3 skip_connect skip_connect avg_pool_3x3 none skip_connect",
            "nor_conv_3x3 none none avg_pool_3x3 skip_connect none",
            False,
        ),
        (
            "nor_conv_3x3 skip_connect skip_connect avg_pool_3x3 none skip_connect",
            "skip_connect nor_conv_3x3 skip_connect avg_pool_3x3 none skip_connect",
            True,
        ),
    ],
)
def test_which_cells_are_the_same_function(one, two, same):
    archs = [
        np.array([nb201.OPERATIONS.index(op) for op in cell.split()] or [0] * 6)
        for cell in (one, two)
    ]
    codes = [int(classes201.function_class(jnp.asarray(arch))) for arch in archs]
    assert (codes[0] == codes[1]) == same


def test_every_vector_has_an_identity_of_its_own(accuracy_file):
    keys = base.identify(nb201.SPACE, accuracy_file["ops"])
    assert len(np.unique(keys)) == nb201.SPACE.size == 15_625


# NAS-Bench-101.


def relabelled(rng, arch):
    """Vectors (n, 26) of the same cells, interior vertices in another forward order."""
    upper = np.triu_indices(7, 1)
    place = {pair: k for k, pair in enumerate(zip(*upper, strict=True))}
    found = []
    for one in arch:
        edges = [p for p, bit in zip(place, one, strict=False) if bit]
        while True:  # all orders of the interior are tried, until edges go forward
            order = np.array([0, *(1 + rng.permutation(5)), 6])
            moved = [(order[i], order[j]) for i, j in edges]
            if all(p in place for p in moved):
                break
        new = np.zeros(26, np.int32)
        new[[place[p] for p in moved]] = 1
        new[20 + order[1:6]] = one[21:]
        found.append(new)
    return np.array(found)


def test_all_cells_have_codes_of_their_own_that_relabelling_keeps(cells101):
    code = in_chunks(nb101.canonical_id, cells101)
    assert len(np.unique(code)) == len(cells101) == nb101.SPACE.size == 423_624
    assert code.dtype == np.int32 and in_chunks(nb101.is_valid, cells101).all()

    rng = np.random.default_rng(0)
    some = rng.choice(len(cells101), 2400, replace=False)
    others = relabelled(rng, cells101[some])
    # Many cells have a single forward order.
    assert (others != cells101[some]).any(1).sum() >= 1000
    np.testing.assert_array_equal(in_chunks(nb101.canonical_id, others), code[some])

    # Whatever is sampled or mutated is one of them.
    ordered = np.sort(code)
    mutants = batched(moves.mutate, nb101.SPACE)(keys(seed=3), samples(nb101.SPACE))
    for arch in (samples(nb101.SPACE), np.asarray(mutants)):
        theirs = in_chunks(nb101.canonical_id, arch)
        found = ordered[np.minimum(np.searchsorted(ordered, theirs), len(code) - 1)]
        np.testing.assert_array_equal(found, theirs)


def test_what_hangs_loose_does_not_count():
    matrix = np.zeros((7, 7), int)
    matrix[[0, 1], [1, 6]] = 1
    code = jax.jit(nb101.canonical_id)
    plain = nb101.from_matrix(matrix, ["maxpool3x3"] + ["conv1x1-bn-relu"] * 4)
    matrix[[0, 3, 2], [3, 5, 6]] = 1  # a dead end, and a vertex without any input
    loose = nb101.from_matrix(matrix, ["maxpool3x3"] + ["conv3x3-bn-relu"] * 4)
    assert code(plain) == code(loose)
    # Three vertices say the same as seven, and another operation something else.
    small = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert code(nb101.from_matrix(small, ["maxpool3x3"])) == code(plain)
    assert code(nb101.from_matrix(small, ["conv1x1-bn-relu"])) != code(plain)


def test_matrices_there_and_back(cells101):
    rng = np.random.default_rng(1)
    code = jax.jit(nb101.canonical_id)
    for arch in cells101[rng.choice(len(cells101), 40, replace=False)]:
        matrix, names = nb101.to_matrix(arch)
        assert names[0] == "input" and names[-1] == "output"
        assert matrix.shape == (len(names),) * 2 and matrix.sum() <= 9
        assert matrix.any(0)[1:].all() and matrix.any(1)[:-1].all()
        for given in (names, names[1:-1]):
            again = nb101.from_matrix(matrix, given)
            assert code(again) == code(arch)
        matrix2, names2 = nb101.to_matrix(again)
        np.testing.assert_array_equal(matrix, matrix2)
        assert names == names2


def test_the_matrix_of_no_cell():
    with pytest.raises(ValueError, match="at most 9 edges"):
        nb101.to_matrix(np.array([1] * 21 + [0] * 5))


def test_the_smallest_cell():
    arch = nb101.from_matrix(np.array([[0, 1], [0, 0]]), ["input", "output"])
    matrix, names = nb101.to_matrix(arch)
    assert names == ["input", "output"] and matrix.tolist() == [[0, 1], [0, 0]]


CONV = ["conv3x3-bn-relu"]


@pytest.mark.parametrize(
    ("matrix", "operations", "words"),
    [
        (np.zeros((3, 4)), CONV, r"is square, not of shape \(3, 4\)"),
        (np.zeros(3), CONV, r"is square, not of shape \(3,\)"),
        (np.triu(np.ones((8, 8)), 1), CONV * 6, "has 2 to 7 vertices, not 8"),
        (np.zeros((1, 1)), [], "has 2 to 7 vertices, not 1"),
        (np.triu(np.full((3, 3), 2), 1), CONV, "is 0 or 1"),
        (np.triu(np.full((3, 3), np.nan), 1), CONV, "is 0 or 1"),
        (np.ones((3, 3)), CONV, "0 on and below the diagonal"),
        (np.triu(np.ones((3, 3)), 1).T, CONV, "0 on and below the diagonal"),
        (np.triu(np.ones((3, 3)), 1), CONV * 2, "wanted 1 interior operations"),
        (np.triu(np.ones((3, 3)), 1), CONV * 3, "between input and output"),
        (np.triu(np.ones((3, 3)), 1), ["conv5x5"], "conv3x3-bn-relu.*not .'conv5x5'"),
        (np.zeros((3, 3)), CONV, "is not a valid architecture"),
        (np.triu(np.ones((7, 7)), 1), CONV * 5, "is not a valid architecture"),
    ],
)
def test_what_is_no_cell(matrix, operations, words):
    with pytest.raises(ValueError, match=words) as error:
        nb101.from_matrix(matrix, operations)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[1:], "wanted 21 bits, a colon, and five operations"),
        (lambda text: "2" + text[1:], "wanted 21 bits"),
        (lambda text: text.replace(":", ";"), "wanted 21 bits"),
        (lambda text: text + ",maxpool3x3", "wanted 21 bits"),
        (lambda text: text.replace("conv3x3", "conv9x9"), "out of conv3x3-bn-relu"),
        (lambda text: "0" * 21 + text[21:], "is not a valid architecture"),
    ],
)
def test_malformed_texts(change, words):
    small = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    text = nb101.to_string(nb101.from_matrix(small, CONV))
    with pytest.raises(ValueError, match=words) as error:
        nb101.from_string(change(text))
    assert "\n" not in str(error.value)


def test_every_vector_in_the_order_of_rank():
    arch = base.every(nb201.SPACE)
    assert arch.shape == (15_625, 6) and arch.dtype == np.int32
    ranks = jax.vmap(lambda a: base.rank(nb201.SPACE, a))(arch)
    np.testing.assert_array_equal(ranks, np.arange(15_625))
    whole = base.product("toy", (2, 3))
    some = dataclasses.replace(whole, is_valid=lambda arch: arch.sum() < 2)
    np.testing.assert_array_equal(base.every(some), [[0, 0], [0, 1], [1, 0]])
    with pytest.raises(ValueError, match="more than 2.20: sample it"):
        base.every(nb101.SPACE)


def test_a_product_has_a_notation_of_its_own():
    space = base.product("toy", (2, 30))
    assert space.to_string(np.array([1, 29])) == "1,29" and space.size == 60
    np.testing.assert_array_equal(space.from_string("1,29"), [1, 29])
    for text, words in (("1,x", "wanted 2 numbers"), ("1,30", "0..29 at position 1")):
        with pytest.raises(ValueError, match=words):
            space.from_string(text)
    with pytest.raises(ValueError, match="has 0 graphs: wanted one"):
        space.to_graph(np.array([0, 0]))
    with pytest.raises(ValueError, match="choices must be at least one whole number"):
        base.product("toy", ())


@pytest.mark.parametrize("space", [nb201.SPACE, nb101.SPACE], ids=["nb201", "nb101"])
def test_what_has_no_notation_is_told(space):
    num = len(space.choices)
    for wrong in (np.full(num, -1), np.full(num, 9), np.zeros(num - 1, int)):
        with pytest.raises(ValueError, match=f"{space.name} "):
            space.to_string(wrong)
    for wrong in (None, 5, b"x", ""):
        with pytest.raises(ValueError, match="not a NAS-Bench-"):
            space.from_string(wrong)


# --- a part of a space -------------------------------------------------------------------


def test_a_part_of_a_space_has_these_architectures_alone():
    archs = base.every(nb201.SPACE)
    some = archs[np.random.default_rng(0).permutation(len(archs))[:300]]
    part = restricted(nb201.SPACE, some)
    inside = set(map(tuple, some.tolist()))
    assert part.size == 300 and set(map(tuple, base.every(part).tolist())) == inside
    drawn = np.asarray(batched(moves.sample, part)(keys()))
    assert set(map(tuple, drawn.tolist())) <= inside
    assert len(np.unique(drawn, axis=0)) > 290  # 300 (1 - exp(-2000 / 300)) on average
    moved = np.asarray(batched(moves.mutate, part)(keys(300), some))
    assert set(map(tuple, moved.tolist())) <= inside
    differ = (moved != some).sum(1)
    near = (some[:, None] != some).sum(2) == 1
    np.testing.assert_array_equal(differ, near.any(1))  # 0 where nothing is near
    assert 0 < differ.sum() < 300
