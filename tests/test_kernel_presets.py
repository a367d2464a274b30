"""Presets on graph distances, without their matrices, which take minutes."""

import jax.numpy as jnp
import pytest

from jaxnas.kernels import distance_matrices
from jaxnas.search import presets
from jaxnas.spaces import nasbench201

NAMES = {
    "gp_sinkhorn": "sinkhorn",
    "gp_gw": "gw",
    "gp_fgw": "fgw",
    "gp_gwot": r"gw\+ot",
    "gp_otmann": "otmann",
}


@pytest.mark.parametrize(("preset", "distance"), NAMES.items())
def test_a_preset_has_the_distance_of_its_name(preset, distance, monkeypatch):
    def matrix(space, arch, *, distance, repair, same):
        assert space is nasbench201.SPACE and len(arch) == 3 and repair == "clip"
        assert same is not None  # copies of a function are one candidate
        raise LookupError(distance.name)

    monkeypatch.setattr(distance_matrices, "distance_matrix", matrix)
    archs = jnp.arange(18).reshape(3, 6) % 5
    with pytest.raises(LookupError, match=f"^{distance} nasbench201"):
        getattr(presets, preset)(nasbench201.SPACE, archs)
