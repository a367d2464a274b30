"""Identities of architectures: exact or hashed, in spaces of every size and kind."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.benchmarks.tabular import tabular_benchmark
from jaxnas.kernels import feature_maps
from jaxnas.predictors.pool import index_of, make_pool
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.gp import proposals
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.gp.sampled_search import bayesopt_sampled
from jaxnas.search.loop import simulate
from jaxnas.search.neural_predictor import bananas
from jaxnas.search.random import random_search
from jaxnas.spaces import base, darts, identity, moves, nlp
from jaxnas.spaces import nasbench101 as nb101
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.spaces.restriction import restricted
from jaxnas.types import Result

pytestmark = pytest.mark.usefixtures("quick_compilation")


def masked(name, choices):
    """The first position says how many of the others are used."""

    def active(arch):
        return jnp.arange(len(choices)) <= arch[0]

    return base.product(name, choices, active=active)


def swapped():
    """A space with a mutation of its own: two positions change places."""

    def vary(key, arch):
        i, j = jax.random.choice(key, 6, (2,), replace=False)
        return arch.at[jnp.array([i, j])].set(arch[jnp.array([j, i])])

    def near(arch):
        i, j = np.triu_indices(6, 1)
        rows = jnp.broadcast_to(arch, (15, 6))
        changed = (
            rows.at[np.arange(15), i].set(arch[j]).at[np.arange(15), j].set(arch[i])
        )
        return changed, (changed != arch).any(1)

    def is_valid(arch):
        return (jnp.sort(arch) == jnp.arange(6)).all()

    return dataclasses.replace(
        base.product("orders", (6,) * 6),
        size=math.factorial(6),
        is_valid=is_valid,
        draw=lambda key: jax.random.permutation(key, 6).astype(jnp.int32),
        vary=vary,
        near=near,
    )


SPACES = {
    "nb101": nb101.SPACE,
    "nb201": nb201.SPACE,
    "14 positions of 8": base.product("supernet", (8,) * 14),
    "45 bits": base.product("bits", (2,) * 45),
    "40 positions": base.product("wide", tuple(2 + i % 6 for i in range(40))),
    "single choices": base.product("mixed", (1, 3, 1, 4)),
    "one architecture": base.product("one", (1, 1)),
    "own mutation": swapped(),
    "inactive positions": masked("depth", (4, 5, 5, 5)),
    "darts": darts.SPACE,
    "nlp": nlp.SPACE,
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def draws(space, num=300, seed=0):
    keys = jax.random.split(jax.random.key(seed), num)
    return np.asarray(jax.jit(jax.vmap(lambda key: moves.sample(key, space)))(keys))


CANONICAL = {"darts": jax.jit(darts.canonical), "nlp": jax.jit(nlp.canonical)}


def canonical(space, arch):
    """What tells architectures apart, as a tuple, without the identity."""
    if space.name == "nasbench101":
        return int(nb101.canonical_id(jnp.asarray(arch)))
    if space.name in ("darts", "nlp"):
        arch = CANONICAL[space.name](arch)
    if space.active is not None:
        arch = np.where(np.asarray(space.active(jnp.asarray(arch))), arch, -1)
    return tuple(int(choice) for choice in arch)


@every_space
def test_identities_are_equal_for_equal_architectures_alone(space):
    arch = draws(space)
    near, valid = jax.vmap(lambda a: moves.neighbours(space, a))(jnp.asarray(arch[:20]))
    near = np.asarray(near).reshape(-1, len(space.choices))
    arch = np.concatenate([arch, arch[:5], near[np.asarray(valid).reshape(-1)]])
    keys = base.identify(space, arch)
    partition = [canonical(space, a) for a in arch]
    assert len(set(keys.tolist())) == len(set(partition))
    assert len(set(zip(keys.tolist(), partition, strict=True))) == len(set(partition))


@every_space
def test_samples_and_mutants_are_valid_and_near(space):
    arch = jnp.asarray(draws(space))
    keys = jax.random.split(jax.random.key(1), len(arch))
    change = jax.jit(jax.vmap(lambda key, a: moves.mutate(key, space, a)))
    mutant = np.asarray(change(keys, arch))
    valid = jax.vmap(space.is_valid)
    assert valid(arch).all() and valid(jnp.asarray(mutant)).all()
    assert (mutant >= 0).all() and (mutant < np.array(space.choices)).all()
    moved = (mutant != np.asarray(arch)).sum(1)
    alone = space.size == 1
    if space.near and not space.vary:  # a change is what the space says
        near, fine = jax.vmap(lambda a: moves.neighbours(space, a))(arch)
        assert ((near == mutant[:, None]).all(2) & fine).any(1).all()
    else:
        assert set(moved.tolist()) == ({0} if alone else {2} if space.vary else {1})
    if not alone and space.name != "nasbench101":  # a dangling vertex does not count
        same = base.identify(space, mutant) == base.identify(space, np.asarray(arch))
        assert not same.any()


@every_space
def test_strings_there_and_back(space):
    for arch in draws(space, 20):
        again = space.from_string(space.to_string(arch))
        np.testing.assert_array_equal(again, arch)


@st.composite
def products(draw):
    choices = draw(st.lists(st.integers(1, 2**16), min_size=1, max_size=8))
    arch = [draw(st.integers(0, c - 1)) for c in choices]
    return tuple(choices), arch


@given(products())
@settings(max_examples=60)
def test_an_identity_below_two_to_the_64_is_the_rank(case):
    choices, arch = case
    if math.prod(choices) >= 2**64:
        return
    with jax.disable_jit():
        words = identity.of_product(choices)(jnp.asarray(arch, jnp.int32))
    rank = 0
    for choice, place in zip(choices, arch, strict=True):
        rank = rank * choice + place
    assert identity.to_uint64(np.asarray(words)[None])[0] == rank


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.data())
@settings(max_examples=40)
def test_ranks_there_and_back(choices, data):
    space = base.product("any", tuple(choices))
    index = data.draw(st.integers(0, math.prod(choices) - 1))
    arch = base.unrank(space, jnp.int32(index))
    assert int(base.rank(space, arch)) == index
    np.testing.assert_array_equal(arch, np.unravel_index(index, choices))


def test_ranks_of_large_spaces_are_refused():
    edge = base.product("edge", (2,) * 31)
    for function in (base.rank, base.unrank):
        with pytest.raises(ValueError, match="edge has 2,147,483,648 vectors: ranks"):
            function(edge, jnp.zeros(31, jnp.int32))
    below = base.product("below", (2,) * 30)
    assert base.rank(below, jnp.ones(30, jnp.int32)) == 2**30 - 1


def test_hashes_of_many_architectures_differ():
    """2^72 vectors: exact numbers have no room, and low words alone would collide."""
    space = base.product("large", (8,) * 24)
    arch = np.random.default_rng(0).integers(0, 8, (200_000, 24)).astype(np.int32)
    keys = base.identify(space, arch)
    assert len(np.unique(keys)) == 200_000
    assert len(np.unique(keys & np.uint64(2**32 - 1))) < 200_000
    # The same for ever: identities are kept in files.
    assert hex(base.identify(space, np.zeros((1, 24), np.int32))[0]) == HASH_OF_ZEROS


HASH_OF_ZEROS = "0xb46d3cd048c515d6"


@given(st.sets(st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.data())
@settings(max_examples=30)
def test_search_against_a_dictionary(numbers, data):
    known = identity.from_uint64(np.array(sorted(numbers), np.uint64))
    near = [n + d for n in numbers for d in (-1, 0, 1) if 0 <= n + d < 2**64]
    wanted = data.draw(st.sampled_from(near))
    found = identity.find(
        jnp.asarray(known),
        jnp.asarray(identity.from_uint64(np.array([wanted], np.uint64))[0]),
    )
    place = {n: i for i, n in enumerate(sorted(numbers))}
    assert int(found) == place.get(wanted, -1)


LARGE = {
    name: SPACES[name] for name in ("14 positions of 8", "45 bits", "darts", "nlp")
}


@pytest.mark.parametrize("space", LARGE.values(), ids=LARGE)
def test_a_part_of_a_large_space(space):
    arch = draws(space, 60)
    _, first = np.unique(base.identify(space, arch), return_index=True)
    arch = arch[first[:50]]
    part = restricted(space, arch)
    assert part.size == 50
    inside = set(map(tuple, arch.tolist()))
    assert {tuple(a) for a in draws(part, 400).tolist()} == inside
    near, fine = moves.neighbours(space, jnp.asarray(arch[0]))
    near = near[fine]
    valid = jax.vmap(part.is_valid)(near)
    assert not any(v and tuple(a) not in inside for a, v in
                   zip(near.tolist(), valid, strict=True))  # fmt: skip
    pool = make_pool(
        part, [feature_maps.hamming_features(space)], arch=np.concatenate([arch, arch])
    )
    assert pool.arch.shape == (50, len(space.choices))
    places = jax.vmap(index_of, (None, 0))(pool, jnp.asarray(arch))
    np.testing.assert_array_equal(pool.arch[places], arch)
    assert (jax.vmap(index_of, (None, 0))(pool, near) < 0).all()


def rules():
    """Rules of a space's own that know nothing of parts."""
    toy = base.product("toy", (4,) * 3)

    def near(arch):
        return jnp.stack([(arch + 1) % 4, jnp.roll(arch, 1)]), jnp.ones(2, bool)

    return {
        "none": toy,
        "draw": dataclasses.replace(toy, draw=lambda key: moves.sample(key, toy)),
        "vary": dataclasses.replace(toy, vary=lambda key, arch: jnp.roll(arch, 1)),
        "near": dataclasses.replace(toy, near=near),
    }


@pytest.mark.parametrize("rule", rules())
@pytest.mark.parametrize("size", [5, 40])
def test_nothing_leaves_a_part_whatever_the_rules_of_the_space(rule, size):
    space = rules()[rule]
    inside = np.random.default_rng(0).permutation(base.every(space))[:size]
    part = restricted(space, inside)
    known = set(map(tuple, inside.tolist()))
    assert {tuple(a) for a in draws(part, 500).tolist()} == known
    keys = jax.random.split(jax.random.key(0), size)
    change = jax.vmap(lambda key, arch: moves.mutate(key, part, arch))
    mutants = np.asarray(change(keys, jnp.asarray(inside)))
    assert {tuple(a) for a in mutants.tolist()} <= known
    assert size < 40 or (mutants != inside).any()
    for arch in inside:
        near, valid = moves.neighbours(part, jnp.asarray(arch))
        assert {tuple(a) for a in near[valid].tolist()} <= known


def test_parts_of_nothing_are_refused():
    toy = base.product("toy", (4,) * 3)
    with pytest.raises(ValueError, match=r"wanted architectures \(n, d\) with n >= 1"):
        restricted(toy, np.zeros((0, 3), int))
    with pytest.raises(ValueError, match="toy has choices 0..3 at position 0, not 9"):
        restricted(toy, np.array([[9, 0, 0]]))


def evaluate(key, query):
    del key
    score = (query.arch == 1).sum(1).astype(float)
    return Result(score, score[:, None], jnp.ones_like(score))


@pytest.mark.parametrize("space", LARGE.values(), ids=LARGE)
def test_searches_of_a_large_space(space):
    pool = make_pool(
        space, [feature_maps.hamming_features(space)], arch=draws(space, 300)
    )
    encode = lambda arch: arch.astype(float)  # noqa: E731
    line = lambda key, x, y, n, pool: jnp.stack([(pool == 1).sum(1) * 1.0] * 2)  # noqa: E731
    searches = {
        "random": random_search(space, capacity=40),
        "evolution": regularized_evolution(space, population=8, tournament=3),
        "bananas": bananas(space, encode, init=8, round_size=4, ensemble=line),
        "gp": bayesopt(pool, init=5),
    }
    keys, best = jax.random.split(jax.random.key(0), 3), {}
    for name, search in searches.items():
        trace = simulate(keys, search, evaluate, 40)
        best[name] = float(trace.score.max((1, 2)).mean())
        if name != "evolution":
            for arch in np.asarray(trace.query.arch[:, :, 0]):
                assert len(np.unique(arch, axis=0)) == 40
    if space.name != "nlp":  # its changes leave most of what this score counts
        assert best["evolution"] > best["random"]
    assert best["bananas"] > best["random"]
    assert best["gp"] >= float(jnp.sort((pool.arch == 1).sum(1))[-5])


@pytest.mark.parametrize("space", [darts.SPACE, nlp.SPACE], ids=["darts", "nlp"])
def test_sampled_bayesian_optimisation_and_tables_of_cells(space):
    """Candidates by the space's own draws and changes, scores by its identity."""
    archs = draws(space, 40)
    archs = archs[np.unique(base.identify(space, archs), return_index=True)[1]]
    score = np.arange(len(archs), dtype=np.float32)[:, None]
    columns = {"toy/valid/2": score}
    manifest = {"source": "", "sha256": "", "columns": dict.fromkeys(columns, "")}
    manifest["part"] = True
    table = BenchmarkTable("toy", space.name, archs.astype(np.int8), columns, manifest)
    chosen = dict(dataset="toy", split="valid", epochs=2, seed="mean")
    benchmark = tabular_benchmark(space, table, **chosen)
    part = benchmark.space
    candidates = proposals.mixture(
        proposals.uniform(part, 10), proposals.mutants(part, 10, parents=2)
    )
    features = feature_maps.hamming_features(space)
    search = bayesopt_sampled(part, [features], candidates, init=3)
    trace = simulate(jax.random.split(jax.random.key(0), 1), search, benchmark, 6)
    asked = np.asarray(trace.query.arch).reshape(6, -1)
    known = {tuple(a): s for a, s in zip(archs.tolist(), score[:, 0], strict=True)}
    assert [known[tuple(a)] for a in asked.tolist()] == trace.score.reshape(6).tolist()
    assert len(np.unique(asked, axis=0)) == 6


def test_choices_that_cannot_be_are_refused():
    for choices in ((), (0, 3), (2**16 + 1,), (2.5, 3), ("a",), 3, None):
        with pytest.raises(
            ValueError, match="at least one whole number from 1 to 65536"
        ):
            base.product("bad", choices)
    with pytest.raises(
        ValueError, match="is not an architecture of toy: wanted 3 numb"
    ):
        base.product("toy", (4,) * 3).from_string("99999999999999999999999,0,0")


def test_distances_of_architectures_with_several_graphs_are_sums():
    """A normal and a reduction cell: each part is that of one of the cells."""
    cell = nb201.SPACE
    both = dataclasses.replace(
        base.product("two cells", (5,) * 12),
        labels=cell.labels,
        graphs=(
            lambda arch: nb201.graph_nonezero(arch[:6]),
            lambda arch: nb201.graph_nonezero(arch[6:]),
        ),
    )
    arch = draws(both, 7)
    kinds = ("tree_wasserstein", "live_tree_wasserstein", "operation_transport")
    for kind in (*kinds, "nasbot_like"):
        feature = getattr(feature_maps, f"{kind}_features")
        parts, of_cell = (jax.vmap(feature(space)) for space in (both, cell))
        wanted = of_cell(arch[:, :6]) + of_cell(arch[:, 6:])
        found = parts(arch)
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="two cells has 2 graphs: wanted one"):
        both.to_graph(arch[0])
    with pytest.raises(ValueError, match="supernet has no graph to compare"):
        feature_maps.tree_wasserstein_features(SPACES["14 positions of 8"])
