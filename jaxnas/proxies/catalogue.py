"""The proxies by name, each with what it needs and which cells it may take for others.

    CATALOGUE["snip"].score(key, model, params, x, y)

Some draw their own images, as published: `zen` and the three scores of `az`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks import counting
from jaxnas.networks.apply import Model
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.proxies import activation, az_nas, gradient, jacobian, synaptic
from jaxnas.proxies.base import Proxy
from jaxnas.types import Array

_Labelled = Callable[[Model, Params, Array, Array], Array]
_Unlabelled = Callable[[Model, Params, Array], Array]
_Weights = Callable[[Model, Params], Array]


def _labelled(function: _Labelled):
    return lambda key, model, params, x, y: function(model, params, x, y)


def _unlabelled(function: _Unlabelled):
    return lambda key, model, params, x, y: function(model, params, x)


def _data_free(function: _Weights):
    return lambda key, model, params, x, y: function(model, params)


def _zen(key: Array, model: Model, params: Params, x: Array, y: Array) -> Array:
    del y
    images, noise = jax.random.normal(key, (2, *x.shape))
    return activation.zen(model, params, images, noise)


def _az(key: Array, model: Model, params: Params, x: Array, y: Array) -> Array:
    """(..., 3): expressivity, progressivity, trainability."""
    del y
    key_images, key_signs = jax.random.split(key)
    images = jax.random.normal(key_images, x.shape)
    signs = az_nas.jacobian_probes(key_signs, model.network, x.shape[-4])
    return jnp.stack(az_nas.components(model, params, images, signs), -1)


def _once(model: Model, params: Params, x: Array) -> Array:
    return activation.hook_logdet(model, params, x, multiplicity=1)


def _kept_in_reductions(model: Model, params: Params) -> Array:
    return synaptic.synflow_bn(model, params, all_norms=False)


CATALOGUE: dict[str, Proxy] = {
    # Dead convolutions have rectifiers, norms and weights too, and count there.
    "hook_logdet": Proxy(_unlabelled(activation.hook_logdet), "present"),
    "hook_logdet_once": Proxy(_unlabelled(_once), "present"),
    "synflow": Proxy(_data_free(synaptic.log_synflow), "live", logarithm=True),
    "synflow_bn": Proxy(_data_free(synaptic.synflow_bn), "live", backward=True),
    "synflow_bn_reductions": Proxy(
        _data_free(_kept_in_reductions), "live", backward=True
    ),
    "snip": Proxy(_labelled(gradient.snip), "live", backward=True),
    "grad_norm": Proxy(_labelled(gradient.grad_norm), "live", backward=True),
    "plain": Proxy(_labelled(gradient.plain), "live", backward=True),
    "grasp": Proxy(_labelled(gradient.grasp), "live", backward=True),
    "fisher": Proxy(_labelled(gradient.fisher), "live", backward=True),
    "zico": Proxy(_labelled(gradient.zico), "live", backward=True),
    "gradsign": Proxy(_labelled(gradient.gradsign), "present", backward=True),
    "l2_norm": Proxy(_data_free(gradient.l2_norm), "present"),
    "jacob_cov": Proxy(_unlabelled(jacobian.jacob_cov), "live", backward=True),
    "epe_nas": Proxy(_labelled(jacobian.epe_nas), "live", backward=True),
    "swap": Proxy(_unlabelled(activation.swap), "present", scheme="normal", batch=16),
    "zen": Proxy(_zen, "present", scheme="normal"),
    # Every module's map counts, so also that of a skip connection.
    "meco": Proxy(_unlabelled(activation.meco), None, batch=1),
    "az": Proxy(
        _az,
        "live",
        scheme="kaiming",
        columns=("expressivity", "progressivity", "trainability"),
        backward=True,
    ),
}

# Scores that need no network: (network, archs (n, 6)) -> (n,), on the host.
CLOSED_FORM: dict[str, Callable[[NetworkConfig, np.ndarray], np.ndarray]] = {
    "params": counting.parameters,
    "macs": counting.macs,
    "live_params": lambda network, archs: counting.parameters(
        network, archs, live_only=True
    ),
    "live_macs": lambda network, archs: counting.macs(network, archs, live_only=True),
}
