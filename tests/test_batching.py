"""Maps in pieces, whose sizes depend on the backend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import batching


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("cuda", 0)])
def test_each_is_alone_on_a_cpu_and_with_the_others_elsewhere(platform, loops):
    shift = jnp.float32(3)

    def run(x):
        return batching.map_each(lambda row: (row**2).sum() + shift, x)

    traced = jax.jit(run).trace(jnp.ones((4, 5)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.while") == loops
    x = np.arange(20.0, dtype=np.float32).reshape(2, 2, 5)
    np.testing.assert_array_equal(jax.vmap(run)(x), (x**2).sum(-1) + 3)


@pytest.mark.parametrize(("backend", "size"), [("cpu", 64), ("gpu", 200)])
def test_blocks_are_larger_on_an_accelerator(monkeypatch, backend, size):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    shapes = []

    def solve(x):
        shapes.append(x.shape)
        return 2 * x[0]

    x = np.arange(400.0, dtype=np.float32).reshape(200, 2)
    np.testing.assert_array_equal(batching.in_blocks(solve, x), 2 * x[:, 0])
    assert set(shapes) == {(2, size)}
