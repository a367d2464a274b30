"""Maps in pieces, whose sizes depend on the backend."""

import gc
import weakref

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


def test_chunks_of_one_function_are_compiled_once():
    traced, before = [], len(batching._COMPILED)

    def make():
        def double(row):
            traced.append(row.shape)
            return 2 * row

        return double

    double, rows = make(), np.arange(30.0, dtype=np.float32).reshape(10, 3)
    for _ in range(3):
        np.testing.assert_array_equal(batching.in_chunks(double, rows, 4), 2 * rows)
    assert len(traced) == 2  # of four rows, and of the last two
    batching.in_chunks(make(), rows, 4)
    assert len(traced) == 4  # another function, though of the same code
    # Neither a function nor what it closes over is kept.
    dead = weakref.ref(double)
    del double
    gc.collect()
    assert dead() is None and len(batching._COMPILED) <= before


@pytest.mark.parametrize("make", [lambda f: [f], lambda f: (f,)])
def test_functions_that_have_no_weak_reference_are_mapped_too(make):
    class Tuple(tuple):
        __slots__ = ()

        def __call__(self, row):
            return self[0](row)

    class List(list):
        def __call__(self, row):
            return self[0](row)

    items = make(lambda row: 2 * row)
    function = Tuple(items) if isinstance(items, tuple) else List(items)
    rows = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(batching.in_chunks(function, rows), 2 * rows)
