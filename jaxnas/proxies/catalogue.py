"""The proxies by name, each with what it needs and which cells it cannot distinguish.

    CATALOGUE["snip"].score(key, model, params, x, y)

Every score has the signature (key, model, params, x, y), whatever it uses of them; the
functions themselves, with papers and equations, are in `activation`, `az_nas`,
`gradient`, `jacobian` and `synaptic`. `zen` and the three scores of `az` draw their own
images, as published. `CLOSED_FORM` has scores that need no network.
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

# A score as the catalogue has it, and by what it uses: labels, images, or neither.
_Score = Callable[[Array, Model, Params, Array, Array], Array]
_Labelled = Callable[[Model, Params, Array, Array], Array]
_Unlabelled = Callable[[Model, Params, Array], Array]
_DataFree = Callable[[Model, Params], Array]


def _labelled(function: _Labelled) -> _Score:
    """Adds the unused key."""
    return lambda key, model, params, x, y: function(model, params, x, y)


def _unlabelled(function: _Unlabelled) -> _Score:
    """Adds the unused key and labels."""
    return lambda key, model, params, x, y: function(model, params, x)


def _data_free(function: _DataFree) -> _Score:
    """Adds the unused key, images and labels."""
    return lambda key, model, params, x, y: function(model, params)


def _zen(key: Array, model: Model, params: Params, x: Array, y: Array) -> Array:
    """Draws images and noise of the shape of x, N(0, 1), for `activation.zen`."""
    del y
    images, noise = jax.random.normal(key, (2, *x.shape))
    return activation.zen(model, params, images, noise)


def _az(key: Array, model: Model, params: Params, x: Array, y: Array) -> Array:
    """Draws images and probes for `az_nas.components`.

    Returns:
      (..., 3): expressivity, progressivity, trainability.
    """
    del y
    key_images, key_signs = jax.random.split(key)
    images = jax.random.normal(key_images, x.shape)
    probes = az_nas.jacobian_probes(key_signs, model.network, x.shape[-4])
    return jnp.stack(az_nas.components(model, params, images, probes), -1)


def _hook_logdet_once(model: Model, params: Params, x: Array) -> Array:
    """`activation.hook_logdet` that counts every rectifier once."""
    return activation.hook_logdet(model, params, x, multiplicity=1)


def _synflow_bn_reductions(model: Model, params: Params) -> Array:
    """`synaptic.synflow_bn` with batch norms in the reductions only."""
    return synaptic.synflow_bn(model, params, all_norms=False)


CATALOGUE: dict[str, Proxy] = {
    # Dead convolutions have rectifiers, norms and weights too, and count there.
    "hook_logdet": Proxy(_unlabelled(activation.hook_logdet), "present"),
    "hook_logdet_once": Proxy(_unlabelled(_hook_logdet_once), "present"),
    "synflow": Proxy(_data_free(synaptic.log_synflow), "live", is_logarithm=True),
    "synflow_bn": Proxy(_data_free(synaptic.synflow_bn), "live", backward=True),
    "synflow_bn_reductions": Proxy(
        _data_free(_synflow_bn_reductions), "live", backward=True
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
    # The map of every module counts, that of a skip connection too.
    "meco": Proxy(_unlabelled(activation.meco), None, batch=1),
    "az": Proxy(
        _az,
        "live",
        scheme="kaiming",
        columns=("expressivity", "progressivity", "trainability"),
        backward=True,
    ),
}

# Scores that need no network: (network, archs (m, 6)) -> (m,), on the host. MACs and
# parameters of all convolutions, and of those that are live (see `counting`).
CLOSED_FORM: dict[str, Callable[[NetworkConfig, np.ndarray], np.ndarray]] = {
    "params": counting.parameters,
    "macs": counting.macs,
    "live_params": lambda network, archs: counting.parameters(
        network, archs, live_only=True
    ),
    "live_macs": lambda network, archs: counting.macs(network, archs, live_only=True),
}
