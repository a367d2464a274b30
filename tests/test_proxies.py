"""Every proxy against its recorded values, on the recorded weights and images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.networks import cells, initialise
from jaxnas.networks.nasbench201 import Network
from jaxnas.proxies import activation, az_nas, base, gradient, jacobian, synaptic
from jaxnas.proxies.catalogue import CATALOGUE, COUNTS
from jaxnas.spaces import base as spaces
from jaxnas.spaces import nasbench201 as nb201

pytestmark = pytest.mark.usefixtures("quick_compilation")


def az(model, params, x, signs):
    return jnp.stack(az_nas.parts(model, params, x, signs))


# Recorded name: which arguments, the function, its relative tolerance.
RECORDED = {
    "hook_logdet": ("x", activation.hook_logdet, 1e-10),
    "nwot_each_relu_once": (
        "x",
        functools.partial(activation.hook_logdet, multiplicity=1),
        1e-10,
    ),
    "synflow": ("", lambda m, p: jnp.exp(synaptic.log_synflow(m, p)), 1e-10),
    "synflow_bn": ("", synaptic.synflow_bn, 1e-8),
    "foresight_snip": ("xy", gradient.snip, 1e-8),
    "foresight_fisher": ("xy", gradient.fisher, 1e-6),
    "foresight_l2_norm": ("", gradient.l2_norm, 1e-10),
    "swap_first16": ("16", activation.swap, 0),
    "zen_x8_noise8": ("8n", activation.zen, 1e-10),
    "meco_first1": ("1", activation.meco, 1e-8),
    "az": ("8v", az, 1e-8),
}


def signs(record):
    """The recorded probes, last block first, as `az_nas.parts` wants them."""
    n, v = record.network.cells, [jnp.asarray(p) for p in record.probes[::-1]]
    middle, last = v[n + 1 : 2 * n + 1], v[2 * n + 2 :]
    return [jnp.stack(v[:n]), v[n], jnp.stack(middle), v[2 * n + 1], jnp.stack(last)]


def arguments(which, record):
    x, y = jnp.asarray(record.x), jnp.asarray(record.y)
    return {
        "": (),
        "x": (x,),
        "xy": (x, y),
        "16": (x[:16],),
        "1": (x[:1],),
        "8n": (x[:8], jnp.asarray(record.noise)),
        "8v": (x[:8], signs(record)),
    }[which]


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_scores(name, zero_cost, x64):
    which, function, tolerance = RECORDED[name]

    @functools.partial(jax.jit, static_argnums=0)
    def score(network, params, arch, *data):
        return function(base.single(network, arch), params, *data)

    # A cell with 3 x 3 convolutions, one that connects nothing, and one that pools.
    for u in (13714, 1651, 0):
        r = zero_cost[f"u{u}_C16_N1_res32_nc10"]
        found = score(r.network, r.params, jnp.asarray(r.arch), *arguments(which, r))
        parts = ("expressivity", "progressivity", "trainability")
        keys = [f"az_{part}" for part in parts] if name == "az" else [name]
        wanted = np.array([r.scores[key] for key in keys])
        np.testing.assert_allclose(np.ravel(found), wanted, tolerance, 1e-12)


SMALL = Network(channels=2, cells=1, classes=3, size=8)


@pytest.mark.parametrize("name", ["synflow", "zen", "meco"])
def test_lanes_give_what_single_architectures_give(name, x64):
    archs = np.array([[3, 2, 3, 1, 4, 2], [0] * 6, [2, 1, 0, 4, 3, 1]], np.int32)
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(6, 8, 8, 3))), jnp.arange(6) % 3
    params = initialise.initialise(jax.random.key(1), SMALL)
    score = functools.partial(CATALOGUE[name].score, jax.random.key(0))

    @jax.jit
    def single(archs):
        model = functools.partial(base.single, SMALL)
        return jax.lax.map(lambda a: score(model(a), params, x, y), archs)

    lanes = jax.jit(lambda plan: score(base.several(SMALL, plan), params, x, y))(
        cells.plan(archs)
    )
    np.testing.assert_allclose(lanes, single(archs), 1e-9, 1e-12)


def test_classes_above_a_hundred_are_compared():
    # Against the definition: classes of one image are left out.
    network = Network(channels=2, cells=1, classes=101, size=8)
    model = base.single(network, jnp.array([2, 1, 3, 1, 0, 4]))
    params = initialise.initialise(jax.random.key(1), network)
    x = jax.random.normal(jax.random.key(2), (7, 8, 8, 3))
    y = np.array([4, 100, 4, 7, 100, 4, 9])
    logs = np.log(np.abs(jax.jit(
        lambda: jacobian.correlations(model, params, x))()) + 1e-5)  # fmt: skip
    means = [logs[np.ix_(y == c, y == c)].sum() / (y == c).sum() for c in (4, 100)]
    found = jax.jit(lambda: jacobian.epe_nas(model, params, x, jnp.asarray(y)))()
    np.testing.assert_allclose(found, 2 * abs(means[0] - means[1]) / 2, rtol=1e-3)


def test_counts_and_classes():
    every = spaces.every(nb201.SPACE)
    for name, largest in (("params", 1_531_546), ("live_flops", 220_119_690)):
        assert COUNTS[name](Network(), every).max() == largest
    for name, proxy in CATALOGUE.items():
        assert proxy.classes in ("live", "present", None), name
    with pytest.raises(ValueError, match="at most 16 images, not 17"):
        model = base.single(SMALL, jnp.zeros(6, jnp.int32))
        activation.swap(model, initialise.initialise(jax.random.key(0), SMALL),
                        jnp.zeros((17, 8, 8, 3)))  # fmt: skip
