"""The report on LC-PFN's prior: densities, budgets of samplers, and bad settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import lcpfn_report
from jaxnas.curves.extrapolate import bars, families, pfn, pfn_network

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIG = lcpfn_report.Config(methods=("mcmc-prior",), curves=6, cuts=(12,), at_once=4)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two models that were not trained."""
    folder = tmp_path_factory.mktemp("models")
    sizes = pfn_network.TransformerConfig(8, 1, 2, 8, 10)
    for seed in (0, 1):
        path = folder / f"seed{seed}/model"
        path.parent.mkdir()
        model = pfn.new_model(jax.random.key(seed), sizes, jnp.linspace(-0.1, 1.1, 11))
        pfn.save(path, model, {})
    return str(folder / "seed0/model"), str(folder / "seed1/model")


def test_densities_are_of_the_last_value(models, tmp_path, monkeypatch):
    chosen = []

    def sampling(name, moves):
        chosen.append(moves)
        return lambda params, key, curve, value: -(value**2)

    monkeypatch.setattr(lcpfn_report, "_by_sampling", sampling)
    config = dataclasses.replace(CONFIG, models=models, out=str(tmp_path / "r"))
    header, rows = lcpfn_report.main(config)
    assert [row[0] for row in rows] == ["seed0", "seed1", "mcmc-prior"]
    curves = np.load(tmp_path / "r/curves.npz")["noisy"]
    first = np.load(tmp_path / "r/scores/seed1-12.npz")["log_density"]
    model = pfn.load(models[1])
    given = jnp.asarray(np.where(np.arange(100) < 12, curves[4], np.nan))
    logits = pfn.predict_logits(model, given, jnp.array(12), jnp.array(100))
    want = bars.log_density(logits, model.borders, curves[4, -1])
    assert first[4] == pytest.approx(float(want), abs=1e-4)
    at = header.index("difference")
    assert rows[1][at] == pytest.approx(rows[1][2] - rows[0][2])
    assert rows[2][2] == pytest.approx(-np.square(curves[:, -1]).mean())
    # A pilot, and as many moves as 100 times the model's time allows, in steps of 50.
    assert chosen[0] == 50 and rows[2][-1] == chosen[1] >= 50 and chosen[1] % 50 == 0
    monkeypatch.setattr(lcpfn_report, "_timed", None)
    assert lcpfn_report.main(config)[1] == rows


def test_a_sampler_predicts_a_curve_of_its_family():
    x = np.arange(1, 101)
    noise = np.random.default_rng(0).normal(0, 0.01, 100)
    curve = 0.8 - 0.3 / np.log(x + 1) + noise
    given = jnp.asarray(np.where(x <= 40, curve, np.nan))
    chosen = {"mcmc-prior": (families.ILOG2,)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lcpfn_report, "SAMPLED", chosen)
        predict = lcpfn_report._by_sampling.__wrapped__("mcmc-prior", 600)
        density = jax.jit(predict)(None, jax.random.key(0), given, 0.8 - 0.3 / 4.615)
    # The parameters are nearly certain: an observation is as the noise.
    assert density == pytest.approx(stats.norm.logpdf(0, 0, 0.01), abs=0.6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cuts": (2,)}, "--cuts must be between 3 and 99"),
        ({"cuts": ()}, "--cuts must be between 3 and 99"),
        ({"curves": 0}, "--curves"),
        ({"seed": -1}, "--seed must be 0 to"),
        ({"methods": ("svr",)}, "no method svr: choose from wpm"),
        ({"models": ("a/model", "b/a")}, "no checkpoint at"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        lcpfn_report.main(dataclasses.replace(CONFIG, **change))


def test_a_model_has_not_the_name_of_a_method(tmp_path, monkeypatch):
    monkeypatch.setattr(lcpfn_report.pfn, "load", lambda path: path)
    config = dataclasses.replace(CONFIG, models=(str(tmp_path / "wpm/model"),))
    with pytest.raises(ValueError, match="wpm, the name of a method"):
        lcpfn_report.main(config)


def test_models_have_different_names(models):
    config = dataclasses.replace(
        CONFIG, models=(models[0], models[0][:-6] + "/./model")
    )
    with pytest.raises(ValueError, match="equal names"):
        lcpfn_report.main(config)
