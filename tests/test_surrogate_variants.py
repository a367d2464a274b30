"""The 18 variants of a surrogate on disk: compressions x regressors x noises."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.curves import (
    compress,
    members,
    noise,
    regress_boosting,
    surrogate,
    surrogate_files,
)
from jaxnas.curves.surrogate import Info, Surrogate

pytest.importorskip("flax", reason="networks are in the extra surrogates")
pytest.importorskip("lightgbm", reason="LightGBM is in the extra surrogates")
pytest.importorskip("xgboost", reason="XGBoost is in the extra surrogates")

from jaxnas.curves import regress_mlp, vae  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")

INFO = Info(space="made up", features="bits", epochs=(1, 2, 3, 5, 8, 9))
COMPRESSIONS = {
    "svd": compress.svd(2),
    "vae": vae.vae(2, hidden=4, epochs=1, min_steps=5),
}
REGRESSORS = {
    "lightgbm": regress_boosting.lightgbm(3, num_threads=1, num_leaves=4),
    "xgboost": regress_boosting.xgboost(3, max_depth=2),
    "mlp": regress_mlp.mlp(4, 1, epochs=1, min_steps=5),
}
SMALL = regress_boosting.lightgbm(2, chain=False, num_threads=1, num_leaves=3)
NOISES = {
    "std": noise.per_epoch_std(),
    "kde": noise.kernel_density(),
    "window": noise.window_std(1, SMALL, 1),
}
VARIANTS = list(itertools.product(COMPRESSIONS, REGRESSORS, NOISES))


@pytest.fixture(scope="module")
def fitted():
    """The parts of each kind, fitted to the same 40 curves of 6 epochs."""
    rng, key = np.random.default_rng(0), jax.random.key(0)
    bits = rng.integers(0, 2, (40, 3)).astype(float)
    curves = 40 + 9 * bits @ rng.normal(size=(3, 6)) + rng.normal(size=(40, 6))
    keys, rows = key[None], np.arange(40)[None]
    compressions = {n: f(keys, curves, rows)[0] for n, f in COMPRESSIONS.items()}
    z = {n: np.asarray(members.encode(c, curves)) for n, c in compressions.items()}
    regressors = {
        (name, of): fit(
            keys, regress_boosting.FitTask(bits, [z[of]], rows, [np.ones(2)])
        )[0]
        for name, fit in REGRESSORS.items()
        for of in z
    }
    noises = {
        name: fit(key, rng.normal(size=(40, 6)), bits, z["svd"])
        for name, fit in NOISES.items()
    }
    return bits, compressions, regressors, noises


@jax.jit
def answers(found, key, bits):
    """All that a surrogate says of architectures."""
    return surrogate.predict(found, bits), surrogate.sample(found, key, bits)


@pytest.mark.parametrize(("compression", "regressor", "kind"), VARIANTS)
def test_a_loaded_variant_predicts_the_same_bits(
    tmp_path, fitted, compression, regressor, kind
):
    bits, compressions, regressors, noises = fitted
    member = members.Member(
        compressions[compression], regressors[regressor, compression]
    )
    made = Surrogate((member,), noises[kind], None, INFO)
    surrogate_files.save(tmp_path / "s.npz", made)
    loaded = surrogate_files.load(tmp_path / "s.npz")
    # Equal structures, so that the loaded one needs no compilation of its own.
    assert jax.tree.structure(loaded) == jax.tree.structure(made)
    mean, draw = answers(made, jax.random.key(1), jnp.asarray(bits))
    for one, other in zip(
        (mean, draw), answers(loaded, jax.random.key(1), jnp.asarray(bits)), strict=True
    ):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    # What is compared are predictions: they differ between architectures and draws.
    assert np.std(mean[:, -1]) > 0 and np.std(draw - mean) > 0
    assert np.isfinite(draw).all()
