"""Every proxy against its recorded values, on the recorded weights and images.

What they cost is their compilation, which takes longer for lanes: one score is checked so,
the others for one architecture at a time, and what is made of one gradient in one
program.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.networks import apply, cells, initialise
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.proxies import activation, az_nas, gradient, jacobian, synaptic
from jaxnas.proxies.catalogue import CATALOGUE, CLOSED_FORM
from jaxnas.spaces import base as spaces
from jaxnas.spaces import nasbench201 as nb201

pytestmark = pytest.mark.usefixtures("quick_compilation")


def of_gradients(*args):
    """Several scores of one gradient, of which the first takes the derivative as well."""
    scores = gradient.grasp, gradient.snip, gradient.grad_norm, gradient.plain
    return jnp.stack([score(*args) for score in scores])


def of_jacobians(model, params, x, y):
    first = jacobian.jacob_cov(model, params, x)
    return jnp.stack([first, jacobian.epe_nas(model, params, x, y)])


def both_counts(model, params, x):
    """Once or twice by the wrapper, in one program."""
    return jax.lax.map(
        lambda m: activation.hook_logdet(model, params, x, multiplicity=m),
        jnp.array([2.0, 1.0]),
    )


# Recorded names, which arguments, the function, its relative tolerance.
SINGLE = {
    "hook_logdet nwot_each_relu_once": ("x", both_counts, 1e-10),
    "synflow_bn": ("", synaptic.synflow_bn, 1e-8),
    "synflow_bn_kept_in_reductions": (
        "",
        functools.partial(synaptic.synflow_bn, all_norms=False),
        1e-8,
    ),
    "foresight_l2_norm": ("", gradient.l2_norm, 1e-10),
    "foresight_grasp foresight_snip foresight_grad_norm foresight_plain": (
        "xy",
        of_gradients,
        1e-8,
    ),
    "foresight_jacob_cov epe_nas": ("xy", of_jacobians, 1e-8),
    "swap_first16": ("16", activation.swap, 0),
    "zen_x8_noise8": ("8n", activation.zen, 1e-10),
    "meco_first1": ("1", activation.meco, 1e-8),
    "foresight_fisher": ("xy", gradient.fisher, 1e-6),
    "zico_2halves": ("xy", gradient.zico, 1e-8),
    "gradsign_first8": ("8y", gradient.gradsign, 1e-8),
    "az_expressivity az_progressivity az_trainability": (
        "8v",
        lambda *args: jnp.stack(az_nas.components(*args)),
        1e-8,
    ),
}
LANES = {
    "synflow": ("", lambda m, p: jnp.exp(synaptic.log_synflow(m, p)), 1e-10),
}


@pytest.fixture
def shared_work(monkeypatch):
    """Within one trace the gradient and the correlations are computed once."""
    correlations, found = jacobian.correlations, []

    def once(*args):
        found.extend([] if found else [correlations(*args)])
        return found[0]

    monkeypatch.setattr(jacobian, "correlations", once)


@pytest.fixture
def shared_gradient(monkeypatch):
    """The gradient that `grasp` differentiates is the one of the scores after it."""
    grasp = gradient.grasp

    def first(*args):
        def keep(model, reduce, grads, along):
            monkeypatch.setattr(gradient, "gradients", lambda *args: grads)
            monkeypatch.setattr(gradient, "sum_over_layers", sum_over_layers)
            return sum_over_layers(model, reduce, grads, along)

        sum_over_layers = gradient.sum_over_layers
        monkeypatch.setattr(gradient, "sum_over_layers", keep)
        return grasp(*args)

    monkeypatch.setattr(gradient, "grasp", first)


@pytest.fixture
def records(zero_cost):
    """A cell with 3 x 3 convolutions, one that connects nothing, and one that pools."""
    return [zero_cost[f"u{u}_C16_N1_res32_nc10"] for u in (13714, 1651, 0)]


def signs(record):
    """The recorded probes, last block first, as `az_nas.components` wants them."""
    n, v = record.network.cells_per_stage, [jnp.asarray(p) for p in record.probes[::-1]]
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
        "8y": (x[:8], y[:8]),
        "8n": (x[:8], jnp.asarray(record.noise)),
        "8v": (x[:8], signs(record)),
    }[which]


def compare(found, record, names, tolerance):
    wanted = np.array([record.scores[name] for name in names.split()])
    # The authors' NaN of cells that connect nothing.
    wanted = np.where(np.isnan(wanted), -np.inf, wanted)
    np.testing.assert_allclose(np.ravel(found), wanted, tolerance, 1e-12, names)


@pytest.mark.parametrize("names", SINGLE)
def test_recorded_scores(names, records, x64, shared_work, shared_gradient):
    which, function, tolerance = SINGLE[names]

    @jax.jit
    def score(params, arch, *data):
        return function(apply.single(records[0].network, arch), params, *data)

    for r in records:
        found = score(r.params, jnp.asarray(r.arch), *arguments(which, r))
        compare(found, r, names, tolerance)


@pytest.mark.parametrize("names", LANES)
def test_recorded_scores_by_lanes(names, records, x64):
    which, function, tolerance = LANES[names]

    @jax.jit
    def score(plan, params, *data):
        return function(apply.several(records[0].network, plan), params, *data)

    params = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(r.params for r in records)
    )
    plan = cells.make_group_plan(np.stack([r.arch for r in records]))
    found = score(plan, params, *arguments(which, records[0]))
    for r, one in zip(records, found, strict=True):
        compare(one, r, names, tolerance)


def test_classes_above_a_hundred_are_compared(monkeypatch):
    # Against the definition: classes of one image are left out.
    y = np.array([4, 100, 4, 7, 100, 4, 9])
    x = np.random.default_rng(0).normal(size=(7, 20))
    monkeypatch.setattr(jacobian, "correlations", lambda *args: jnp.corrcoef(x))
    logs = np.log(np.abs(np.corrcoef(x)) + 1e-5)
    means = [logs[np.ix_(y == c, y == c)].sum() / (y == c).sum() for c in (4, 100)]
    model = apply.single(NetworkConfig(num_classes=101), jnp.zeros(6, jnp.int32))
    params = initialise.initialise(jax.random.key(1), NetworkConfig(2, 1, 101, 8))
    found = jacobian.epe_nas(model, params, jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, 2 * abs(means[0] - means[1]) / 2, rtol=1e-4)


def test_counts_and_classes():
    every = spaces.every(nb201.SPACE)
    for name, largest in (("params", 1_531_546), ("live_macs", 220_119_690)):
        assert CLOSED_FORM[name](NetworkConfig(), every).max() == largest
    for name, proxy in CATALOGUE.items():
        assert proxy.equivalence in ("live", "present", None), name
    network = NetworkConfig(2, 1, 3, 8)
    model = apply.single(network, jnp.zeros(6, jnp.int32))
    params = initialise.initialise(jax.random.key(0), network)
    with pytest.raises(ValueError, match="at most 16 images, not 17"):
        activation.swap(model, params, jnp.zeros((17, 8, 8, 3)))
