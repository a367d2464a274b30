"""The once-for-all space: identity, notations, counts, graphs, and the codec of MetaD2A."""

import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import kernels
from jaxnas.batching import in_chunks
from jaxnas.io import npz
from jaxnas.models import mobilenetv3 as codec
from jaxnas.models.graphs import adjacency
from jaxnas.spaces import base, features, identity, moves
from jaxnas.spaces import mobilenetv3 as mbv3
from jaxnas.spaces import mobilenetv3_counts as counts
from jaxnas.spaces import mobilenetv3_formats as formats

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = mbv3.SPACE
# A million random vectors: JAXNAS_BATCHES=250 python -m pytest tests/test_mobilenetv3.py
NUM, BATCHES = 4000, int(os.environ.get("JAXNAS_BATCHES", 1))


def random_vectors(num=NUM, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (num, 45)).astype(np.int32)


def settings(archs):
    """Kernel sizes (n, 20), expansions (n, 20), depths (n, 5) and the active layers."""
    kernel, expansion, depth = np.split(archs, (20, 40), 1)
    depth = depth + 2
    layers = np.tile(np.arange(4), 5) < np.repeat(depth, 4, 1)
    return np.array([3, 5, 7])[kernel], np.array([3, 4, 6])[expansion], depth, layers


@pytest.fixture(scope="module")
def rows(shared):
    """The 2,373 measured subnets: settings, multiply-adds and parameters."""
    return npz.read_npz(shared / "data/ofa_mbv3_dynast.npz")


@pytest.fixture(scope="module")
def measured(rows):
    return formats.from_ofa(rows)


@jax.jit
@jax.vmap
def compute(arch):
    return (
        SPACE.identity(arch),
        SPACE.identity(mbv3.canonical(arch)),
        counts.multiply_adds(arch),
        counts.parameters(arch),
        formats.ofa_encoding(arch),
        codec.architecture(codec.types_of(arch)),
        codec.is_valid(codec.types_of(arch), jnp.asarray(adjacency("chain", 22))),
    )


def test_vectors_with_equal_active_layers_are_one_network():
    """Identity, counts and encoding of vectors that differ in inactive layers."""
    seen = []
    for batch in range(BATCHES):
        archs, others = (random_vectors(seed=2 * batch + i) for i in (0, 1))
        *_, layers = settings(archs)
        unused = np.pad(np.concatenate([~layers, ~layers], 1), ((0, 0), (0, 5)))
        others = np.where(unused, others, archs)
        assert (others != archs).any(1).mean() > 0.9
        mine, theirs = compute(archs), compute(others)
        for one, two in zip(mine[:5], theirs[:5], strict=True):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(mine[0], mine[1])
        # The codec keeps what the network does not use.
        np.testing.assert_array_equal(mine[5], archs)
        np.testing.assert_array_equal(theirs[5], others)
        assert np.all(mine[6])
        forms = np.where(unused, 0, archs).astype(np.int8)
        seen.append((forms, identity.to_uint64(mine[0])))
    # Different canonical forms have different identities.
    forms, keys = map(np.concatenate, zip(*seen, strict=True))
    assert len(np.unique(keys)) == len(np.unique(forms.view("V45")))


def test_every_used_position_changes_the_identity():
    arch = np.zeros(45, np.int32)
    rows, valid = jax.jit(lambda a: moves.neighbours(SPACE, a))(arch)
    assert rows.shape == (90, 45)
    # Depth 2 of 4: layers 2 and 3 of each stage are unused.
    assert valid.sum() == 2 * (10 + 10 + 5)
    keys = base.identify(SPACE, np.asarray(rows))
    assert len(np.unique(keys[np.asarray(valid)])) == 50
    mine = base.identify(SPACE, arch[None])
    np.testing.assert_array_equal(keys == mine, ~np.asarray(valid))


def test_mutants_differ_in_one_used_position():
    archs = random_vectors(300)
    keys = jax.random.split(jax.random.key(0), len(archs))
    mutants = jax.jit(jax.vmap(lambda k, a: moves.mutate(k, SPACE, a)))(keys, archs)
    assert ((np.asarray(mutants) != archs).sum(1) == 1).all()
    before, after = (base.identify(SPACE, np.asarray(x)) for x in (archs, mutants))
    assert (before != after).all()


def test_the_number_of_architectures():
    """By listing one stage."""
    stage = set()
    for depth in (2, 3, 4):
        stage |= set(itertools.product(range(9), repeat=depth))
    assert mbv3.NUM_ARCHITECTURES == len(stage) ** 5 == SPACE.size


def test_counts_are_those_of_all_measured_rows(rows, measured):
    """To the unit, as once-for-all and DyNAS-T count them."""
    macs, params = in_chunks(
        lambda a: (counts.multiply_adds(a), counts.parameters(a)), measured
    )
    np.testing.assert_array_equal(macs, rows["macs"])
    np.testing.assert_array_equal(params, rows["params"])
    keys = base.identify(SPACE, measured)
    assert (len(keys), len(np.unique(keys))) == (2373, 2162)


def test_multiply_adds_by_resolution():
    """Against a loop over the layers of one network, at sizes that strides round up."""
    archs = random_vectors(20)
    of_all = jax.jit(jax.vmap(counts.multiply_adds, (0, None)))
    for pixels in (132, 160, 224, 432):
        macs = of_all(archs, pixels)
        np.testing.assert_array_equal(macs, [loop_macs(a, pixels) for a in archs])
    largest = jnp.full(45, 2)
    assert int(counts.multiply_adds(largest, 432)) == loop_macs(np.full(45, 2), 432)
    sized = np.append(archs[0], 1).astype(np.int32)
    assert counts.multiply_adds(sized) == counts.multiply_adds(archs[0], 132)
    with pytest.raises(ValueError, match="resolution must be 1 to 432 pixels, not 512"):
        counts.multiply_adds(largest, 512)


def loop_macs(arch, pixels):
    """Multiply-adds of one network, layer by layer."""
    divisible = lambda v: max(n := max(8, int(v + 4) // 8 * 8), n + 8 * (n < 0.9 * v))  # noqa: E731
    kernel, expansion, depth, _ = (x[0] for x in settings(arch[None]))
    side, width = -(-pixels // 2), 16
    total = side**2 * (27 * 16 + 9 * 16 + 16 * 16)
    for stage, out in enumerate((24, 40, 80, 112, 160)):
        for layer in range(4 * stage, 4 * stage + depth[stage]):
            middle = divisible(width * expansion[layer])
            total += side**2 * width * middle
            if layer % 4 == 0 and stage != 3:
                side = -(-side // 2)
            total += side**2 * (kernel[layer] ** 2 * middle + middle * out)
            if stage in (1, 3, 4):
                total += 2 * middle * divisible(middle // 4)
            width = out
    return int(total + side**2 * 160 * 960 + 960 * 1280 + 1280 * 1000)


def test_settings_of_once_for_all_there_and_back():
    for arch in random_vectors(20):
        given = formats.to_ofa(arch)
        kernel, expansion, depth, _ = (x[0].tolist() for x in settings(arch[None]))
        assert given == {"ks": kernel, "e": expansion, "d": depth}
        np.testing.assert_array_equal(formats.from_ofa(given), arch)
    wrong = given | {"d": [2, 3, 4, 5, 2]}
    with pytest.raises(
        ValueError, match=r"need d as 5 numbers from 2, 3, 4, not \[2, 3"
    ):
        formats.from_ofa(wrong)
    with pytest.raises(
        ValueError, match="need ks as 20 numbers from 3, 5, 7, not None"
    ):
        formats.from_ofa({"e": expansion, "d": depth})
    with pytest.raises(ValueError, match="need e as 20 numbers"):
        formats.from_ofa(given | {"e": expansion[:19]})


def reference_encoding(arch, pixels):
    """once-for-all's `spec2feats`: kernels and expansions of inactive layers are 0."""
    kernel, expansion, _, layers = (x[0] for x in settings(arch[None]))
    bits = np.zeros(128)
    for layer in np.flatnonzero(layers):
        bits[3 * layer + (3, 5, 7).index(kernel[layer])] = 1
        bits[60 + 3 * layer + (3, 4, 6).index(expansion[layer])] = 1
    bits[120 + (pixels - 112) // 16] = 1
    return bits


def test_the_encoding_of_once_for_all():
    for arch in random_vectors(20):
        for index in (0, 8, 24):
            pixels = 128 + 4 * index
            wanted = reference_encoding(arch, pixels)
            sized = np.append(arch, index).astype(np.int32)
            np.testing.assert_array_equal(formats.ofa_encoding(sized), wanted)
        np.testing.assert_array_equal(
            formats.ofa_encoding(arch, 112), reference_encoding(arch, 112)
        )
    with pytest.raises(ValueError, match="resolutions 112, .*224, not 130"):
        formats.ofa_encoding(arch, 130)


def test_notation_there_and_back():
    for arch in random_vectors(50):
        text = SPACE.to_string(arch)
        np.testing.assert_array_equal(SPACE.from_string(text), mbv3.canonical(arch))
    sized = np.append(arch, 16).astype(np.int32)
    space = mbv3.SPACE_WITH_RESOLUTION
    assert space.to_string(sized) == f"{text}@192"
    np.testing.assert_array_equal(
        space.from_string(f"{text}@192"), mbv3.canonical(sized)
    )
    stage = "k3e4,k7e6"
    assert mbv3.to_string(mbv3.from_string("|".join([stage] * 5))) == "|".join(
        [stage] * 5
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("k3e4,k7e6|k3e3,k3e3", "five stages"),
        ("|".join(["k3e4"] * 5), "two to four layers"),
        ("|".join(["k3e4,k4e6"] * 5), "not a network of mobilenetv3"),
        (None, "not a network"),
    ],
)
def test_malformed_notation(text, words):
    with pytest.raises(ValueError, match=words):
        SPACE.from_string(text)


def test_notation_without_or_with_another_resolution():
    text = "|".join(["k3e4,k7e6"] * 5)
    for end in ("", "@225", "@"):
        with pytest.raises(ValueError, match="wanted '@' and a multiple of 4 from 128"):
            mbv3.SPACE_WITH_RESOLUTION.from_string(text + end)


def test_the_graph_is_the_chain_of_active_layers():
    archs = random_vectors(200)
    graphs = in_chunks(mbv3.to_graph, archs)
    bigrams = in_chunks(lambda a: features.op_ngrams(mbv3.to_graph(a), 2, 9), archs)
    kernel, expansion, _, layers = settings(archs)
    for i, active in enumerate(layers):
        chain = [0, *(1 + np.flatnonzero(active)), 21]
        wanted = np.zeros((22, 22), bool)
        wanted[chain[:-1], chain[1:]] = True
        np.testing.assert_array_equal(graphs.adj[i], wanted)
        assert np.flatnonzero(graphs.mask[i]).tolist() == chain
        names = [mbv3.LABELS[op] for op in graphs.ops[i][np.array(chain[1:-1])]]
        pairs = zip(kernel[i][active], expansion[i][active], strict=True)
        assert names == [f"conv_k{k}_e{e}" for k, e in pairs]
        ops = graphs.ops[i][chain[1:-1]]
        wanted = np.bincount(9 * ops[:-1] + ops[1:], minlength=81)
        np.testing.assert_array_equal(bigrams[i], wanted)


def test_the_codec_is_that_of_the_reference(shared):
    arrays = npz.read_npz(shared / "oracles/metad2a_mbv3_generator.npz")
    archs = formats.from_ofa({name: arrays[f"in/{name}"] for name in ("ks", "e", "d")})
    np.testing.assert_array_equal(in_chunks(codec.types_of, archs), arrays["in/types"])
    chain = jnp.asarray(arrays["in/adj"], bool)
    np.testing.assert_array_equal(chain, adjacency("chain", 22))
    types = arrays["in/val_types"].astype(np.int32)
    valid = in_chunks(lambda t: codec.is_valid(t, chain), types)
    np.testing.assert_array_equal(valid, arrays["out/val_valid"])
    assert 0 < valid.sum() < len(valid)
    decoded = in_chunks(codec.architecture, types[valid])
    kernel, expansion, depth, _ = settings(decoded)
    np.testing.assert_array_equal(kernel, arrays["out/val_ks"][valid])
    np.testing.assert_array_equal(expansion, arrays["out/val_e"][valid])
    np.testing.assert_array_equal(depth, arrays["out/val_d"][valid])


def test_the_codec_counts_networks_not_vectors():
    arch = np.zeros((3, 45), np.int32)
    arch[1, 3] = 1  # an inactive layer
    arch[2, 0] = 1
    numbers = codec.CODEC.functions(arch)
    assert numbers[0] == numbers[1] != numbers[2]


def test_distances_are_of_active_layers():
    """By definition: Hamming, and the steps between choices in an order."""
    one, two = random_vectors(300), random_vectors(300, seed=1)
    two[:100, 40:] = one[:100, 40:]
    used = [in_chunks(mbv3.active, archs) for archs in (one, two)]
    # What is not used comes before the first choice.
    steps = [np.where(u, a, -1) for u, a in zip(used, (one, two), strict=True)]
    both = lambda a: (  # noqa: E731
        kernels.hamming_features(SPACE)(a),
        kernels.ordinal_features(SPACE, mbv3.PARTS)(a),
    )
    embedded = [in_chunks(both, archs) for archs in (one, two)]
    hamming, ordinal = (
        [np.abs(x - y).sum(1) for x, y in zip(*maps, strict=True)]
        for maps in zip(*embedded, strict=True)
    )
    np.testing.assert_array_equal(hamming[0], (steps[0] != steps[1]).sum(1))
    difference = np.abs(steps[0] - steps[1])
    for distance, part in zip(ordinal, mbv3.PARTS, strict=True):
        np.testing.assert_array_equal(distance, difference[:, part].sum(1))


def test_parts_of_a_distance_that_leave_a_position_out():
    with pytest.raises(
        ValueError, match="position of mobilenetv3, 0 to 44, must be in"
    ):
        kernels.ordinal_features(SPACE, mbv3.PARTS[:2])
    with pytest.raises(ValueError, match="must be in one part"):
        kernels.ordinal_features(SPACE, (*mbv3.PARTS, [44]))
