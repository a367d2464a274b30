"""LC-PFN: its prior against an independent sampler, bars, training, and files."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import train_lcpfn
from jaxnas.curves import extrapolate
from jaxnas.curves.extrapolate import bars, pfn, pfn_network, pfn_prior, pfn_training
from jaxnas.io import files, npz

pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = pfn_network.TransformerConfig(16, 1, 2, 16, 20)
TRAINING = pfn_training.TrainingConfig(SMALL, 60, 16, 3e-3)


def random_model():
    """A model with random parameters; in a new one attention adds nothing."""
    model = pfn.new_model(jax.random.key(1), SMALL, jnp.linspace(0, 1, 21))
    rng = np.random.default_rng(0)
    noisy = lambda p: p + rng.normal(0, 0.3, p.shape)  # noqa: E731
    return model._replace(params=jax.tree.map(noisy, model.params))


def test_the_prior_is_that_of_an_independent_sampler(shared):
    oracle = npz.read_npz(shared / "oracles/lcpfn_prior.npz")
    draw = jax.jit(pfn_prior.sample_prior, static_argnums=1)
    found = draw(jax.random.key(0), 20_000)
    assert float(found.acceptance) == pytest.approx(oracle["acceptance"], abs=0.004)
    mean = np.asarray(found.mean, float)
    np.testing.assert_allclose(mean.mean(0), oracle["mean_curve"], atol=0.007)
    np.testing.assert_allclose(mean.std(0), oracle["sd_curve"], atol=0.006)
    levels = oracle["quantile_levels"]
    levels = levels / 100 if levels.max() > 1 else levels
    at = np.quantile(mean[:, oracle["epochs"] - 1], levels, axis=0).T
    np.testing.assert_allclose(at, oracle["quantiles"], atol=0.015)
    np.testing.assert_allclose(np.log(found.sigma).mean(), -4, atol=0.03)
    np.testing.assert_allclose(np.log(found.sigma).std(), 1, atol=0.03)
    outside = np.mean((found.noisy < 0) | (found.noisy > 1))
    assert outside == pytest.approx(0.0106, abs=0.002)
    borders = bars.equal_mass_borders(found.noisy, 1000)
    want = oracle["bucket_borders_1000"]
    np.testing.assert_allclose(borders[50:-50], want[50:-50], atol=0.015)


def test_bars_are_a_density():
    borders = jnp.array([0.0, 0.2, 0.3, 0.7, 1.0])
    logits = jnp.array([0.3, -1.0, 0.7, 0.1])
    grid = np.linspace(-4, 5, 90_001)
    log = jax.vmap(bars.log_density, (None, None, 0))(logits, borders, grid)
    density = np.exp(np.asarray(log, float))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-3)
    mean, std = bars.moments(logits, borders)
    want = np.trapezoid(density * grid, grid)
    assert mean == pytest.approx(want, abs=1e-3)
    square = np.trapezoid(density * (grid - want) ** 2, grid)
    assert std == pytest.approx(square**0.5, abs=1e-3)
    for value in (-0.1, 0.1, 0.25, 0.6, 0.8, 1.3):
        below = bars.probability_below(logits, borders, value)
        mask = grid <= value
        want = np.trapezoid(density[mask], grid[mask])
        assert below == pytest.approx(want, abs=2e-3)
        assert bars.quantile(logits, borders, below) == pytest.approx(value, abs=2e-3)
    # Half of the mass of a tail is in its bar.
    first = jax.nn.softmax(logits)[0]
    assert bars.probability_below(logits, borders, 0.0) == pytest.approx(first / 2)


def test_borders_of_repeated_values_are_apart():
    values = jnp.array([0.0, 0.0, 0.0, 0.0, 0.5, 1.0])
    borders = bars.equal_mass_borders(values, 5)
    assert (jnp.diff(borders) > 0).all()
    np.testing.assert_allclose(borders, [0, 0, 0, 0, 0.5, 1], atol=1e-5)


def test_the_loss_is_of_the_values_past_the_cut():
    model, cut = random_model(), 3

    @jax.jit
    def losses(curve):
        targets = jnp.arange(cut + 1, 7)
        predict = lambda target: pfn.predict_logits(model, curve, cut, target)  # noqa: E731
        each = jax.vmap(bars.log_density, (0, None, 0))
        want = each(jax.vmap(predict)(targets), model.borders, curve[cut:]).mean()
        cuts = jnp.array([cut])
        return pfn_training.log_densities(model, curve[None], cuts)[0], want

    found, want = losses(jnp.array([0.2, 0.31, 0.38, 0.44, 0.46, 0.5]))
    assert found == pytest.approx(float(want), rel=1e-4)


def test_epochs_of_long_curves_are_in_the_range_of_the_prior():
    model = random_model()

    @jax.jit
    def both(curve):
        epochs, value = jnp.array([0.5, 1.0, 100.0]), jnp.append(curve[:2], 0.5)
        network = pfn_network.Transformer(SMALL)
        want = network.apply(model.params, epochs, value, jnp.arange(3) < 2)[-1]
        return pfn.predict_logits(model, curve, 2, jnp.array(200)), want

    found, want = both(jnp.full(200, jnp.nan).at[:2].set(jnp.array([0.2, 0.3])))
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-5)


def test_predictions_do_not_depend_on_the_padding_of_a_curve():
    curve = 0.2 + 0.03 * np.sqrt(np.arange(1.0, 21))
    extrapolator, found = pfn.lc_pfn(random_model(), 200), []
    for more in (0, 30, 180):
        padded = np.append(curve, np.full(more, np.nan))[None]
        none = np.zeros((0, padded.shape[1])), np.zeros(0)
        found.append(extrapolate.apply(extrapolator, none, padded)[0])
    np.testing.assert_allclose(found, [found[2]] * 3, rtol=1e-5)


def test_queries_do_not_see_each_other_and_all_see_the_observed():
    params = random_model().params
    network = pfn_network.Transformer(SMALL)
    epoch, seen = jnp.arange(1, 7.0), jnp.arange(6) < 3
    value = jnp.linspace(0.2, 0.7, 6)
    found = network.apply(params, epoch, value, seen)
    changed = network.apply(params, epoch, value.at[4].set(0.9), seen)
    np.testing.assert_array_equal(changed, found)
    changed = network.apply(params, epoch.at[5].set(90), value, seen)
    np.testing.assert_allclose(changed[:5], found[:5], atol=1e-5)
    changed = network.apply(params, epoch, value.at[0].set(0.9), seen)
    assert (np.abs(changed - found).max(1) > 1e-4).all()


def test_products_in_bfloat16_are_those_in_float32_but_for_rounding():
    model = random_model()
    curves = pfn_prior.sample_prior(jax.random.key(3), 8).noisy

    def densities(dtype):
        return pfn_training.log_densities(model, curves, jnp.full(8, 30), dtype)

    single, half = jax.jit(lambda: (densities(None), densities(jnp.bfloat16)))()
    gap = np.abs(np.asarray(half - single))
    assert 0 < gap.max() < 0.05


@pytest.fixture(scope="module")
def trained():
    return pfn_training.advance(TRAINING, pfn_training.start(TRAINING), 60)


def test_the_loss_falls(trained):
    _, losses = trained
    assert losses[-15:].mean() < losses[:15].mean() - 0.1
    assert np.isfinite(losses).all()


def test_a_model_is_an_extrapolator_and_survives_its_file(
    trained, tmp_path, monkeypatch
):
    state = trained[0]
    model = pfn.Model(SMALL, state.params, state.borders)
    pfn.save(tmp_path / "model", model, {})
    loaded = pfn.load(tmp_path / "model")
    curves = np.asarray(pfn_prior.sample_prior(jax.random.key(2), 5).noisy)
    curves = np.where(np.arange(100) < 30, 100 * curves, np.nan)
    none = np.zeros((0, 100)), np.zeros(0)
    first, second = (
        extrapolate.apply(pfn.lc_pfn(m, scale=100), none, curves)
        for m in (model, loaded)
    )
    np.testing.assert_array_equal(first, second)
    fractions = extrapolate.apply(pfn.lc_pfn(model), none, curves / 100)
    np.testing.assert_allclose(first, 100 * np.array(fractions), rtol=1e-4)
    assert (np.asarray(first[1]) > 0).all() and np.isfinite(first).all()
    with pytest.raises(ValueError, match="scale must be positive"):
        pfn.lc_pfn(model, scale=-1)
    monkeypatch.setattr(pfn, "_FORMAT", 2)
    with pytest.raises(ValueError, match="has the format 1"):
        pfn.load(tmp_path / "model")


def test_the_model_that_ships_predicts_curves_of_its_prior():
    model = pfn.load()
    assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(model.params))
    curves = pfn_prior.sample_prior(jax.random.key(5), 24).noisy

    @jax.jit
    def predicted(params):
        ours = model._replace(params=params)
        predict = lambda c: pfn.predict_logits(ours, c, jnp.array(20), jnp.array(100))  # noqa: E731
        logits = jax.vmap(predict)(curves[:, :20])
        each = jax.vmap(bars.log_density, (0, None, 0))
        below = jax.vmap(bars.probability_below, (0, None, 0))
        args = logits, model.borders, curves[:, -1]
        return each(*args), below(*args)

    density, below = predicted(model.params)
    # Of 5,000 curves the mean is 1.82; that of one normal for all would be 0.1.
    assert density.mean() > 1.2
    assert 0.3 < np.mean((below > 0.25) & (below < 0.75)) < 0.75


def test_an_interrupted_training_resumes(trained, tmp_path):
    config = train_lcpfn.Config(
        width=16, layers=1, heads=2, hidden=16, bars=20, steps=60, batch=16,
        learning_rate=3e-3, chunk=30, out=str(tmp_path / "run"),
    )  # fmt: skip
    found = train_lcpfn.main(dataclasses.replace(config, stop_after=30))
    assert found["step"] == 30
    found = train_lcpfn.main(config)
    assert found["step"] == 60
    want = np.asarray(trained[1], float)
    np.testing.assert_allclose(found["losses"], want.reshape(2, 30).mean(1), rtol=1e-3)
    model = pfn.load(tmp_path / "run/model")
    assert model.config == SMALL
    with pytest.raises(ValueError, match="steps"):
        train_lcpfn.main(dataclasses.replace(config, steps=90))


@pytest.mark.parametrize(
    ("flag", "most"),
    [("width", 4096), ("layers", 100), ("hidden", 4096), ("bars", 10_000)],
)
def test_sizes_have_limits(tmp_path, flag, most):
    config = train_lcpfn.Config(out=str(tmp_path / "run"), **{flag: 10**8})
    with pytest.raises(ValueError, match=f"--{flag} must be at most {most}, not 1000"):
        train_lcpfn.main(config)
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_ship_name_no_folder_of_the_machine_that_made_them():
    folder = files.shipped_checkpoint("lcpfn").parent
    texts = [path.read_text() for path in folder.rglob("commit_success.txt")]
    assert texts
    for text in texts:
        assert text.split(" to ")[1].startswith("checkpoints/")
