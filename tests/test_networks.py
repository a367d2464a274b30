"""Networks against recorded ones and a masked supernet; sizes, classes and chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnas.networks import (
    balanced_groups,
    cells,
    counting,
    initialise,
    layers,
    norms,
    single_cells,
)
from jaxnas.networks.nasbench201 import TRAINING, Mode, NetworkConfig, forward
from jaxnas.spaces import base
from jaxnas.spaces import nasbench201 as nb201
from jaxnas.spaces.nasbench201_classes import function_classes

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = NetworkConfig(
    stem_channels=4, cells_per_stage=2, num_classes=3, image_size=8, num_stages=2
)
EVERY = base.every(nb201.SPACE)


@functools.partial(jax.jit, static_argnames="mode")
def one(params, arch, x, mode=TRAINING):
    return forward(params, single_cells.sequential_cell(arch), x, mode=mode)


@functools.partial(jax.jit, static_argnames="mode")
def many(params, plan, x, mode=TRAINING):
    lanes = jnp.broadcast_to(x, (len(plan.archs), *x.shape))
    return forward(params, cells.grouped_cells(plan), lanes, mode=mode)


def problem(network=SMALL, batch=6, scheme="default"):
    params = initialise.initialise(jax.random.key(0), network, scheme)
    shape = (batch, network.image_size, network.image_size, network.in_channels)
    return params, jax.random.normal(jax.random.key(1), shape)


def supernet(params, arch, x):
    """All operations on every edge, and a mask; with the backend's convolutions."""

    def norm(x, conv):
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / jnp.sqrt(var + 1e-5) * conv.scale + conv.offset

    def convolve(x, weight, size, stride=1):
        return lax.conv_general_dilated(
            x,
            weight.reshape(size, size, x.shape[-1], -1),
            (stride, stride),
            [(size // 2, size // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def rcb(x, conv, size, stride=1):
        return norm(convolve(jax.nn.relu(x), conv.weight, size, stride), conv)

    def pool(x, size, stride, padding):
        window = (1, size, size, 1), (1, stride, stride, 1), padding
        add = functools.partial(lax.reduce_window, init_value=0.0, computation=lax.add)
        sums = [add(v, window_dimensions=window[0], window_strides=window[1],
                    padding=padding) for v in (x, jnp.ones_like(x))]  # fmt: skip
        return sums[0] / sums[1]

    def cell(x, stage, n):
        nodes = [x, 0, 0, 0]
        for e, (source, target) in enumerate(nb201.EDGES):
            h = nodes[source]
            conv1, conv3 = jax.tree.map(lambda leaf: leaf[n, e], params.cells[stage])  # noqa: B023
            every = (
                0 * h,
                h,
                rcb(h, conv1, 1),
                rcb(h, conv3, 3),
                pool(h, 3, 1, "SAME"),
            )
            mask = jax.nn.one_hot(arch[e], 5)
            nodes[target] = nodes[target] + sum(
                m * y for m, y in zip(mask, every, strict=True)
            )
        return nodes[3]

    x = norm(convolve(x, params.stem.weight, 3), params.stem)
    for stage in range(len(params.cells)):
        for n in range(len(params.cells[stage].conv1.weight)):
            x = cell(x, stage, n)
        if stage < len(params.reductions):
            r = params.reductions[stage]
            main = rcb(rcb(x, r.first, 3, 2), r.second, 3)
            x = main + convolve(pool(x, 2, 2, "VALID"), r.shortcut.weight, 1)
    features = jax.nn.relu(norm(x, params.head)).mean((1, 2))
    return features, features @ params.head.weight + params.head.bias


def test_recorded_outputs(zero_cost, x64):
    for tag, r in zero_cost.items():
        params, arch = jax.tree.map(jnp.asarray, r.params), jnp.asarray(r.arch)
        out = one(params, arch, r.x)
        np.testing.assert_allclose(out.logits, r.out["logits_f64"], 1e-9, 1e-10, tag)
        np.testing.assert_allclose(out.features, r.out["features_f64"], 1e-9, 1e-10)
        if r.network == NetworkConfig(16, 1):
            stored = one(params, arch, r.x, Mode("initial", "initial")).logits
            wanted = r.out["logits_eval_bn_f64"]
            np.testing.assert_allclose(stored, wanted, 1e-9, 1e-10)
    # One program serves all cells of a size.
    sizes = {r.network for r in zero_cost.values()}
    assert one._cache_size() == len(sizes) + 1


def test_both_engines_and_the_supernet_agree(x64):
    params, x = problem()
    archs = np.random.default_rng(0).permutation(EVERY)[:7]
    plan = cells.make_group_plan(archs, (4, 6, 5))
    tall = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (7, *leaf.shape)), params)
    wanted = jax.jit(lambda a: lax.map(lambda a: supernet(params, a, x), a))(archs)
    for out in (
        jax.jit(lambda a: lax.map(lambda a: one(params, a, x), a))(archs),
        # The same weights, as if each had its own; `test_score_many` shares them, and
        # by patches lanes are compared there and in `test_proxies`.
        many(tall, plan, x, Mode(method="native")),
    ):
        np.testing.assert_allclose(out.features, wanted[0], atol=1e-11)
        np.testing.assert_allclose(out.logits, wanted[1], atol=1e-11)


def test_parts_of_a_batch_have_statistics_of_their_own(x64):
    x = jax.random.normal(jax.random.key(0), (6, 4, 4, 5))
    scale, offset = jax.random.normal(jax.random.key(1), (2, 5))
    whole = norms.batch_norm(x, scale, offset, 2)
    halves = [norms.batch_norm(half, scale, offset, 1) for half in (x[:3], x[3:])]
    np.testing.assert_allclose(whole, np.concatenate(halves), atol=1e-12)


def test_initial_weights_have_the_variance_of_their_scheme():
    network = NetworkConfig(16, 5, 10, 32)
    wanted = {
        "default": lambda i, o: 1 / (3 * i),
        "kaiming": lambda i, o: 2 / i,
        "xavier": lambda i, o: 2 / (i + o),
        "normal": lambda i, o: 1.0,
    }
    for scheme, variance in wanted.items():
        params = initialise.initialise(jax.random.key(3), network, scheme)
        for conv, i, o in (
            (params.cells[1].conv3, 9 * 32, 9 * 32),
            (params.cells[2].conv1, 64, 64),
            (params.reductions[1].first, 9 * 32, 9 * 64),
        ):
            np.testing.assert_allclose(np.var(conv.weight), variance(i, o), rtol=0.03)
        assert np.all(np.asarray(params.head.bias) == 0) == (scheme != "default")
    with pytest.raises(ValueError, match="no scheme 'zeros'; available are default"):
        initialise.initialise(jax.random.key(0), network, "zeros")


def test_own_parameters_depend_on_the_code_alone():
    network = NetworkConfig(2, 1, 2, 8)
    draw = functools.partial(initialise.own_parameters, jax.random.key(0), network)
    pair, lone = draw(jnp.array([7, 9])), draw(jnp.array([9]))
    assert np.array_equal(pair.stem.weight[1], lone.stem.weight[0])
    assert not np.array_equal(pair.stem.weight[0], pair.stem.weight[1])


@pytest.mark.parametrize("stages", [1, 3, 4])
def test_parameters_are_as_many_as_are_counted(stages):
    network = NetworkConfig(2, 2, 5, 8, num_stages=stages)
    draw = functools.partial(initialise.initialise, network=network)
    shapes = jax.eval_shape(draw, jax.random.key(0))
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes)]
    # Every edge has both convolutions: more than the all-3x3 cell's.
    others = 2 * 6 * sum(c * c + 2 * c for c in network.widths)
    assert sum(sizes) == counting.parameters(network, np.full(6, 3)) + others
    x = jax.ShapeDtypeStruct((7, 8, 8, 3), float)
    found = jax.eval_shape(one.__wrapped__, shapes, jnp.zeros(6, jnp.int32), x)
    side = 8 // 2 ** (stages - 1)
    assert found.last_map.shape == (7, side, side, 2**stages)
    assert found.logits.shape == (7, 5)


@pytest.mark.parametrize(
    ("arch", "size", "labels", "parameters", "macs"),
    [
        ("000000", 32, 10, 73_306, 7_783_050),
        ("000000", 32, 100, 79_156, 7_788_900),
        ("421211", 32, 10, 129_306, 15_647_370),
        ("000000", 16, 120, 80_456, 1_953_400),
        ("333123", 16, 120, 1_080_616, 38_325_880),
        ("202002", 16, 120, 164_456, 4_902_520),
        ("132323", 32, 100, 864_276, 121_821_540),
        ("333123", 32, 10, 1_073_466, 153_272_970),
        ("333133", 16, 120, 1_295_656, 46_190_200),
        ("333333", 32, 10, 1_531_546, 220_119_690),
    ],
)
def test_published_sizes(arch, size, labels, parameters, macs):
    network = NetworkConfig(num_classes=labels, image_size=size)
    arch = np.array([int(op) for op in arch])
    assert counting.parameters(network, arch) == parameters
    assert counting.macs(network, arch) == macs


def test_sizes_of_the_whole_space_and_liveness():
    macs = counting.macs(NetworkConfig(), EVERY)
    assert round(macs.mean()) == 54_968_970
    live_macs = counting.macs(NetworkConfig(), EVERY, live_only=True)
    assert abs(live_macs.sum() / 7.478e11 - 1) < 1e-3
    assert (~counting.live(EVERY).any(-1)).sum() == 341
    graphs = jax.vmap(nb201.graph_live)(jnp.asarray(EVERY))
    assert np.array_equal(counting.live(EVERY), np.asarray(graphs.mask)[:, 1:7])


def test_sizes_of_function_classes():
    live, present = function_classes(), function_classes(True)
    _, first = np.unique(live, return_index=True)
    macs = counting.macs(NetworkConfig(), EVERY[first], live_only=True)
    assert abs(macs.sum() / 3.521e11 - 1) < 1e-3
    for function in (live, present):
        counts = counting.parameters(NetworkConfig(), EVERY, live_only=function is live)
        pairs = np.unique(np.stack([function, counts], 1), axis=0)
        assert len(pairs) == function.max() + 1  # the size is the same in a class


def test_members_of_a_class_compute_the_same(x64):
    network = NetworkConfig(2, 1, 2, 8)
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    params = initialise.initialise(jax.random.key(0), network)
    # With one weight for all edges members of a class are equal in value.
    params = params._replace(
        cells=tuple(
            jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:, :1], leaf.shape), stage)
            for stage in params.cells
        )
    )
    live = function_classes()
    rng = np.random.default_rng(0)
    chosen = rng.choice(live.max() + 1, 60, replace=False)
    pairs = [rng.choice(np.flatnonzero(live == c), 2) for c in chosen]
    archs = jnp.asarray(EVERY[np.array(pairs)].reshape(-1, 6))
    out = jax.jit(lambda a: lax.map(lambda a: one(params, a, x).logits, a))(archs)
    left, right = np.asarray(out).reshape(-1, 2, 4, 2).transpose(1, 0, 2, 3)
    np.testing.assert_allclose(left, right, atol=1e-10)


@pytest.mark.parametrize("size", [25, 125])
def test_balanced_chunks(size):
    parts = balanced_groups.balanced(size)
    assert len(np.unique(parts.reshape(-1, 6), axis=0)) == 15625
    for op in range(5):
        assert ((parts == op).sum(1) == size // 5).all()
    assert cells.group_sizes(parts) == (size // 5,) * 3


def test_bad_sizes_are_refused():
    for kwargs, message in (
        ({"stem_channels": 0}, "stem_channels must be an integer from 1, not 0"),
        (
            {"cells_per_stage": 1.5},
            "cells_per_stage must be an integer from 1, not 1.5",
        ),
        ({"image_size": 30}, "image_size must be a multiple of 4"),
        (
            {"image_size": 20, "num_stages": 4},
            "image_size must be a multiple of 8, as 3 reductions",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            NetworkConfig(**kwargs)
    with pytest.raises(ValueError, match="balanced chunks of 25 and 125, not of 50"):
        balanced_groups.balanced(50)
    with pytest.raises(ValueError, match="wanted groups of at most"):
        cells.make_group_plan(np.full((3, 6), 3), (1, 1, 1))


def test_pooling_leaves_the_border_out(x64):
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    pooled = np.asarray(layers.average_pool(x))[0, :, :, 0]
    assert pooled[0, 0] == (0 + 1 + 4 + 5) / 4
    np.testing.assert_allclose(pooled[1, 1], 5)
    np.testing.assert_allclose(pooled[0, 1], (0 + 1 + 2 + 4 + 5 + 6) / 6)
