"""Encodings of NAS-Bench-101 and -201 against arrays that the reference programs gave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import batched

from jaxnas.spaces import base, encodings, moves
from jaxnas.spaces import nasbench101 as nb101
from jaxnas.spaces import nasbench201 as nb201

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def cells(curve_oracle):
    """The hundred cells (100, 26) of NAS-Bench-101, padded to seven vertices."""
    sizes, archs = curve_oracle["nb101_num_vertices"], []
    for matrix, num, names in zip(
        curve_oracle["nb101_matrix"], sizes, curve_oracle["nb101_ops"], strict=True
    ):
        archs.append(nb101.from_matrix(matrix[:num, :num], names[:num]))
    return np.stack(archs)


@pytest.fixture(scope="module")
def archs201(curve_oracle):
    return np.stack(
        [nb201.from_string(text) for text in curve_oracle["nb211_arch_str"]]
    )


# NAS-Bench-101.


def test_padding(curve_oracle, cells):
    upper = np.triu_indices(7, 1)
    for arch, matrix, names in zip(
        cells,
        curve_oracle["nb101_padded_matrix"],
        curve_oracle["nb101_padded_ops"],
        strict=True,
    ):
        np.testing.assert_array_equal(arch[:21], matrix[upper])
        assert [nb101.OPERATIONS[op] for op in arch[21:]] == names[1:-1]


def test_the_vector_of_nas_bench_111(curve_oracle, cells):
    found = batched(encodings.nb111_vector, cells)
    np.testing.assert_array_equal(found, curve_oracle["nb111_adj26"])
    seven = curve_oracle["nb101_sel_indices"]
    np.testing.assert_array_equal(found[seven], curve_oracle["nb101_naszilla26"])
    with jax.enable_x64(True):
        found = batched(
            encodings.nb111_vector, cells, curve_oracle["nb111_accs_3seeds_4epochs"]
        )
    np.testing.assert_allclose(found, curve_oracle["nb111_x30"], rtol=1e-15)
    for wrong in (np.zeros((3, 5)), np.zeros(4)):
        with pytest.raises(ValueError, match="accuracies"):
            encodings.nb111_vector(jnp.asarray(cells[0]), wrong)


def test_encodings_of_predictors_101(curve_oracle, cells):
    paths = batched(nb101.SPACE.paths, cells)
    np.testing.assert_array_equal(paths, curve_oracle["nb101_path364"])
    seven = cells[curve_oracle["nb101_sel_indices"]]
    np.testing.assert_array_equal(
        batched(nb101.SPACE.paths, seven), curve_oracle["nb101_path"]
    )
    found = batched(encodings.nb101_one_hot, seven)
    np.testing.assert_array_equal(found, curve_oracle["nb101_adjacency_one_hot"])
    found = batched(encodings.nb101_categorical, seven)
    np.testing.assert_array_equal(found, curve_oracle["nb101_adjacency_cat"])


def test_representatives_are_one_for_each_cell(cells):
    """The same cell in another order of vertices has the same one, and it is a cell."""
    rng, moved = np.random.default_rng(0), []
    for arch in cells:
        matrix, names = nb101.to_matrix(arch)
        num = len(names)
        orders = [(0, *(1 + rng.permutation(num - 2)), num - 1) for _ in range(60)]
        shuffles = [(matrix[np.ix_(o, o)], [names[i] for i in o]) for o in orders]
        forward = [s for s in shuffles if not np.tril(s[0]).any()]
        moved.append(nb101.from_matrix(*(forward or [(matrix, names)])[-1]))
    moved = np.stack(moved)
    assert (moved != cells).any(1).sum() > 20
    found = batched(encodings.nb101_representative, cells)
    np.testing.assert_array_equal(found, batched(encodings.nb101_representative, moved))
    np.testing.assert_array_equal(
        base.identify(nb101.SPACE, found), base.identify(nb101.SPACE, cells)
    )
    for arch in found:
        np.testing.assert_array_equal(base.validate_arch(nb101.SPACE, arch), arch)
    again = batched(encodings.nb101_representative, found)
    np.testing.assert_array_equal(again, found)


# NAS-Bench-201.


def test_the_vector_of_nas_bench_211(curve_oracle, archs201):
    found = batched(encodings.nb211_vector, archs201)
    np.testing.assert_array_equal(found, curve_oracle["nb211_x"])


def test_operations_of_naslib(curve_oracle, archs201):
    theirs = curve_oracle["nb201_naslib_op_indices"]
    np.testing.assert_array_equal(batched(encodings.naslib201, archs201), theirs)
    np.testing.assert_array_equal(batched(encodings.from_naslib201, theirs), archs201)
    found = batched(encodings.nb201_one_hot, archs201)
    np.testing.assert_array_equal(found, curve_oracle["nb201_onehot30"])


def test_neighbours_201(curve_oracle, archs201):
    for arch, theirs in zip(
        archs201, curve_oracle["nb201_neighbours_first10"].tolist(), strict=False
    ):
        near, valid = moves.neighbours(nb201.SPACE, jnp.asarray(arch))
        assert valid.all()
        assert sorted(batched(encodings.naslib201, near).tolist()) == theirs


def paths_by_hand(ops, edges):
    """Indices of the paths whose operations are on these edges of NASLib's order."""
    offset = {1: 0, 2: 5, 3: 30}
    return {
        offset[len(path)] + sum(ops[e] * 5**i for i, e in enumerate(path))
        for path in edges
    }


def test_the_path_encoding_takes_the_right_edges(curve_oracle, archs201):
    found = batched(encodings.nb201_paths, archs201)
    as_in_reference = curve_oracle["nb201_path155_as_in_reference"]
    right, wrong = ((2,), (0, 4), (1, 5), (0, 3, 5)), ((3,), (0, 4), (1, 5), (0, 2, 5))
    for ops, mine, theirs in zip(
        curve_oracle["nb201_naslib_op_indices"].tolist(),
        found,
        as_in_reference,
        strict=True,
    ):
        assert set(np.flatnonzero(mine)) == paths_by_hand(ops, right)
        assert set(np.flatnonzero(theirs)) == paths_by_hand(ops, wrong)
