"""Proxies that differentiate against their recorded values, all cells in one program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.networks.nasbench201 import Network
from jaxnas.proxies import base, gradient, jacobian, synaptic

pytestmark = pytest.mark.usefixtures("quick_compilation")

NETWORK = Network(16, 1)


@pytest.fixture(scope="module")
def records(zero_cost):
    """A cell with 3 x 3 convolutions, one that connects nothing, and one that pools."""
    return [zero_cost[f"u{u}_C16_N1_res32_nc10"] for u in (13714, 1651, 0)]


@pytest.fixture
def shared_work(monkeypatch):
    """Within one trace the gradient and the correlations are computed once."""

    def once(module, name):
        function, found = getattr(module, name), []

        def wrapped(*args):
            if not found:
                found.append(function(*args))
            return found[0]

        monkeypatch.setattr(module, name, wrapped)

    once(gradient, "gradients")
    once(jacobian, "correlations")


def compare(records, names, function, tolerance, images=32):
    score = jax.jit(
        lambda params, arch, x, y: function(base.single(NETWORK, arch), params, x, y)
    )
    for r in records:
        data = jnp.asarray(r.x[:images]), jnp.asarray(r.y[:images])
        found = score(r.params, jnp.asarray(r.arch), *data)
        wanted = [r.scores[name] for name in names]
        np.testing.assert_allclose(np.ravel(found), wanted, tolerance, 1e-12)


def test_first_derivatives_of_one_batch(records, x64, shared_work):
    """Several scores of one gradient, in one program."""

    def all_of_them(model, params, x, y):
        return jnp.stack(
            [f(model, params, x, y)
             for f in (gradient.snip, gradient.grad_norm, gradient.plain)]
        )  # fmt: skip

    names = [f"foresight_{name}" for name in ("snip", "grad_norm", "plain")]
    compare(records, names, all_of_them, 1e-8)


def test_second_derivative(records, x64):
    compare(records, ["foresight_grasp"], gradient.grasp, 1e-8)


def test_parts_of_a_batch(records, x64):
    compare(records, ["zico_2halves"], gradient.zico, 1e-8)


def test_single_images(records, x64):
    compare(records, ["gradsign_first8"], gradient.gradsign, 1e-8, images=8)


def test_jacobians(records, x64, shared_work):
    def both(model, params, x, y):
        return jnp.stack(
            [
                jacobian.jacob_cov(model, params, x),
                jacobian.epe_nas(model, params, x, y),
            ]
        )

    compare(records, ["foresight_jacob_cov", "epe_nas"], both, 1e-8)


def test_norms_of_the_reductions_alone(records, x64):
    kept = functools.partial(synaptic.synflow_bn, everywhere=False)
    name = "synflow_bn_kept_in_reductions"
    compare(records, [name], lambda m, p, x, y: kept(m, p), 1e-8)
