"""Functions and constants of several test files: batches, tiny networks, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.networks.nasbench201 import NetworkConfig

# Of three classes of 8 x 8 grey images; one stage compiles three times as fast.
TINY_NETWORK = NetworkConfig(
    stem_channels=2,
    cells_per_stage=1,
    num_classes=3,
    image_size=8,
    in_channels=1,
    num_stages=1,
)


def batched(function, *arguments):
    """A function of one architecture, mapped over the leading axis of its arguments."""
    return np.asarray(jax.jit(jax.vmap(function))(*map(jnp.asarray, arguments)))


def refused(function, *args, **kwargs):
    """The message of the `ValueError`, which is one readable line."""
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert message and message.isprintable()
    return message
