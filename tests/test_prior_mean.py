"""Searches that start from accuracies on other datasets."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.linalg import null_space
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal

from experiments import tw_sequential
from jaxnas import gp
from jaxnas.benchmarks import named
from jaxnas.kernels import feature_maps, gram
from jaxnas.predictors import few_labels, pool_gp, prior_mean
from jaxnas.predictors import pool as pools
from jaxnas.search import presets
from jaxnas.search.gp import pool_search
from jaxnas.search.loop import simulate
from jaxnas.spaces import base, features, nasbench201
from jaxnas.studies.comparison import prior_scores
from jaxnas.types import Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (3,) * 4)
ARCH = base.every(SPACE)
SCORES = np.random.default_rng(0).normal(size=(81, 2)) + ARCH.sum(1)[:, None]


def one_hot(arch):
    return (features.one_hot(SPACE.choices, arch) / 2,)


def pool_with(scores):
    prior = few_labels.features_by_architecture(SPACE, ARCH, scores)
    return pools.make_pool(SPACE, [one_hot], prior_scores=prior)


@functools.cache
def pool():
    return pool_with(SCORES)


def evaluate_table(table, key, query):
    del key
    score = table[base.rank(SPACE, query.arch)]
    return Result(score, score[:, None], jnp.ones_like(score))


@functools.cache
def search_of(batch=1):
    return pool_search.bayesopt(pool(), init=2, batch=batch)


def asked(search, table, steps, num=1):
    """Ranks (num, evaluations) of the architectures that runs ask."""
    evaluate = Partial(evaluate_table, jnp.float32(table))
    keys = jax.random.split(jax.random.key(0), num)
    trace = simulate(keys, search, evaluate, steps)
    return np.asarray(base.rank(SPACE, trace.query.arch)).reshape(num, -1)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_unit_against_a_search_of_the_likelihood(x64, sign):
    """The offset is integrated out in the likelihood of contrasts."""
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(9, 9))
    cov, mean = factor @ factor.T, rng.normal(size=9)
    z = sign * (0.3 * mean + 0.1 * rng.normal(size=9)) + 5
    contrasts = null_space(np.ones((1, 9))).T
    normal = multivariate_normal(
        contrasts @ mean, contrasts @ (cov + 0.2 * np.eye(9)) @ contrasts.T
    )

    def minus_log_likelihood(log_unit):
        unit = np.exp(log_unit)
        return -normal.logpdf(unit * contrasts @ z) - 8 * log_unit

    best = minimize_scalar(minus_log_likelihood, bounds=(-8, 8), method="bounded")
    padded = np.pad(cov, (0, 2), constant_values=7.0)
    holes = [np.append(x, [50.0, -3.0]) for x in (z, mean)]
    evidence, scale = jax.jit(prior_mean.profile_scale)(
        padded, *holes, np.arange(11) < 9, 0.2
    )
    np.testing.assert_allclose(np.log(scale.unit), best.x, atol=1e-4)
    constant = 4 * np.log(2 * np.pi) - 0.5 * np.log(9)
    np.testing.assert_allclose(evidence, -best.fun + constant, atol=1e-8)
    # The offset is the generalised least-squares estimate.
    weights = np.linalg.solve(cov + 0.2 * np.eye(9), np.ones(9))
    offset = weights @ (mean - scale.unit * z) / weights.sum()
    np.testing.assert_allclose(scale.offset, offset, rtol=1e-8)


def test_a_rescaled_standardisation_ends_in_units_of_the_prior():
    plain = gp.Standardisation(*map(jnp.float32, (-9.0, 80.0, 4.0)))
    scale = prior_mean.TargetScale(*map(jnp.float32, (0.5, 3.0)))
    score = jnp.array([60.0, 90.0])
    expected = 0.5 * gp.standardise(plain, score) + 3
    found = gp.standardise(prior_mean.rescale(plain, scale), score)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_targets_that_do_not_vary_keep_their_unit():
    same = jnp.full(4, 3.0)
    _, scale = jax.jit(prior_mean.profile_scale)(
        jnp.eye(4), same, jnp.arange(4.0), same > 0, 0.1
    )
    assert scale.unit == 1 and np.isfinite(scale.offset)


def test_the_posterior_is_the_textbooks_with_a_mean():
    """Six observations are fitted, and three more are conditioned on."""
    table = jnp.float32(70 + 3 * SCORES[:, 0] - 2 * ARCH[:, 1])
    rows = jnp.array([3, 70, 41, 8, 80, 55, 17, 29, 62])
    index = jax.vmap(pools.index_of, (None, 0))(pool(), jnp.asarray(ARCH)[rows])
    state = pool_gp.empty(pool(), 9)
    append, refit, condition = (
        jax.jit(f) for f in (pool_gp.append, pool_gp.refit, pool_gp.condition)
    )
    for i in range(9):
        state = append(pool(), state, index[i], table[rows[i]])
        if i == 5:
            state = refit(pool(), state, jnp.inf)
        if i > 5:
            state = condition(pool(), state, jnp.bool_(True))

    column = np.asarray(pool().embeddings.column)
    distances = gram.distances_between(pool().embeddings, jnp.arange(81))
    hyper = state.hyper
    k = float(hyper.amplitude) * np.asarray(
        gram.laplace(distances, hyper.scales), np.float64
    )
    seen = column[np.asarray(index)]
    covariance = k[np.ix_(seen, seen)] + float(hyper.noise * hyper.amplitude) * np.eye(
        9
    )
    mean = np.asarray(pool().mean)
    target = np.asarray(gp.standardise(state.standardisation, table[rows]))
    gain = np.linalg.solve(covariance, k[seen]).T
    found, std = pool_gp.marginal_posterior(state)
    np.testing.assert_allclose(found, mean + gain @ (target - mean[seen]), atol=2e-4)
    variance = np.diag(k) - np.sum(gain * k[seen].T, 1)
    np.testing.assert_allclose(std, np.sqrt(variance), atol=2e-3)
    # The unit of the targets is that of the prior mean: 3 points of accuracy times the
    # quartile distance of the first task, less what is not of it.
    assert 0.2 < float(state.standardisation.std) / (3 * np.ptp(SCORES[:, 0]) / 4) < 3


def test_the_prior_mean_is_smoothed_by_leaving_each_out(monkeypatch):
    monkeypatch.setattr(prior_mean, "_SMOOTHED", 30)
    units = prior_mean.task_units(SCORES)
    plain = np.empty(81)
    plain[np.asarray(pool().embeddings.column)] = units[
        np.asarray(base.rank(SPACE, pool().arch))
    ].sum(1)
    scales = jnp.array([2.0, jnp.inf])
    smooth = prior_mean._smooth(plain, pool().embeddings, scales)
    best = np.argsort(-plain)[:30]
    k = np.exp(-np.asarray(gram.distances_between(pool().embeddings, best))[0] / 2.0)
    centre = plain[best].mean()
    for i in (0, 7, 29):
        rest = np.delete(np.arange(30), i)
        left = k[np.ix_(rest, rest)] + 0.1 * np.eye(29)
        deviation = plain[best[rest]] - centre
        predicted = centre + k[i, rest] @ np.linalg.solve(left, deviation)
        expected = 0.7 * plain[best[i]] + 0.3 * predicted
        np.testing.assert_allclose(smooth[best[i]], expected, atol=1e-5)
    others = np.setdiff1d(np.arange(81), best)
    np.testing.assert_array_equal(smooth[others], plain[others])


def test_units_of_tasks_do_not_depend_on_their_scales():
    units = prior_mean.task_units(SCORES)
    np.testing.assert_allclose(
        units, prior_mean.task_units(SCORES * [1e3, 0.1] + [-7, 80]), atol=1e-9
    )
    assert np.median(units[:, 0]) == 0 and units.min() >= -1
    np.testing.assert_allclose(np.quantile(units, 0.75, axis=0), 0.5)


def test_the_first_are_the_best_by_the_prior_and_errors_of_it_are_learned():
    order = np.asarray(base.rank(SPACE, pool().arch))[
        np.argsort(-np.asarray(pool().mean)[pool().embeddings.column])
    ]
    table = SCORES.mean(1) - 6.0 * (ARCH[:, 0] == 2)
    rank_by_prior = np.flatnonzero(order == np.argmax(table))[0]
    (rows,) = asked(search_of(), table, 20)
    assert rows[:2].tolist() == order[:2].tolist()
    assert np.flatnonzero(rows == np.argmax(table))[0] < rank_by_prior
    # Whatever the unit of the searched scores.
    assert asked(search_of(), 1e3 * table - 5, 20)[0].tolist() == rows.tolist()
    batch = asked(search_of(4), table, 1)[0]
    assert batch.tolist() == order[:4].tolist()


def test_seeds_differ_where_the_prior_leaves_a_choice():
    ties = pool_with(ARCH[:, :2].sum(1, keepdims=True) * 1.0)
    search = pool_search.bayesopt(ties, init=4)
    table = np.zeros(81)
    rows = asked(search, table, 4, num=2)
    assert rows[0].tolist() != rows[1].tolist()
    np.testing.assert_array_equal(rows, asked(search, table, 4, num=2))


@pytest.mark.parametrize("preset", [presets.gp_tw2g_plus, presets.gp_hamming])
def test_presets_take_a_prior(preset, monkeypatch):
    monkeypatch.setattr(presets, "FEATURES", (feature_maps.hamming_features,))
    arch = base.every(nasbench201.SPACE)[::400]
    score = np.random.default_rng(0).normal(size=(len(arch), 1))
    prior = few_labels.features_by_architecture(nasbench201.SPACE, arch, score)
    plain, guided = (
        preset(nasbench201.SPACE, arch, prior=p, copies=True).ask.args[0]
        for p in (None, prior)
    )
    assert plain.mean is None and guided.mean.shape == (len(arch),)
    assert len(plain.embeddings.parts) == 1 and len(guided.embeddings.parts) == 2
    units = prior_mean.task_units(score)[:, 0]
    assert np.corrcoef(guided.mean[guided.embeddings.column], units)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (np.where(ARCH[:, :1] == 1, np.nan, 1.0 * ARCH[:, 1:2]), "27 of 81 candidates"),
        (np.stack([ARCH[:, 0], np.ones(81)], 1), "column 1 .* median 1 and the same"),
    ],
)
def test_scores_that_are_no_prior(scores, words):
    with pytest.raises(ValueError, match=words):
        pool_with(scores)


CONFIG = tw_sequential.Config(
    benchmark="fashion",
    dataset="fashion-mnist",
    split="valid",
    epochs=4,
    methods=("prior-order",),
    prior=("cifar10/test/200", "cifar10-ptq/test/200"),
    prior_from="analog",
    seeds=1,
    evaluations=5,
    init=2,
)


def test_the_driver_starts_from_another_dataset(tmp_path):
    config = dataclasses.replace(CONFIG, out=str(tmp_path / "out"))
    rows = tw_sequential.main(config)["prior-order/row"][0]
    fashion, analog = map(named.open_table, ("fashion", "analog"))
    ids = [base.identify(nasbench201.SPACE, t.arch) for t in (fashion, analog)]
    row_of = dict(zip(ids[1].tolist(), range(15625), strict=True))
    at = [row_of[i] for i in ids[0].tolist()]
    accuracy = np.stack(
        [
            analog.columns[f"{d}/test/200"].reshape(-1)[at]
            for d in ("cifar10", "cifar10-ptq")
        ],
        1,
    )
    expected = np.argsort(-few_labels.savage_scores(accuracy).sum(1), kind="stable")
    assert rows.tolist() == expected[:5].tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prior": ("cifar10/200",)}, "as cifar100/valid/200, not 'cifar10/200'"),
        ({"prior": ("fashion-mnist/train/4",)}, "is of the dataset that is searched"),
        ({"prior": ("svhn/test/200",)}, "svhn"),
        ({"prior": ("svhn/test/200",), "prior_from": "nb101"}, "nb101|no such file"),
        ({"prior": (), "methods": ("prior-order",)}, "prior-order needs --prior"),
        ({"methods": ("gp-tw2g-plus-sampled",)}, "takes no --prior"),
    ],
)
def test_a_prior_that_cannot_be_used(tmp_path, change, words):
    out = tmp_path / "out"
    config = dataclasses.replace(CONFIG, out=str(out), **change)
    with pytest.raises(ValueError, match=words):
        tw_sequential.main(config)
    assert not out.exists()


def test_every_candidate_needs_the_accuracies():
    archs = named.open_table("analog").arch
    words = "11141 architectures of the benchmark have no accuracy"
    with pytest.raises(ValueError, match=words):
        prior_scores.open_prior(
            ("fashion-mnist/valid/4",),
            "fashion",
            ("cifar10",),
            nasbench201.SPACE,
            archs,
        )


FAMILIES = (
    "cifar10 CIFAR-10 cifar-10-batches-py cifar10-valid cifar10_5000 CIFAR10Valid "
    "images_cifar10_5000 cifar10-ptq",
    "cifar100 CIFAR-100 cifar-100-python cifar100_valid",
    "fashion-mnist FashionMNIST fashion_mnist Fashion_MNIST fashion-mnist-train",
    "mnist MNIST mnist-5000 mnist_test",
    "ImageNet16-120 imagenet16 ImageNet-16-120",
    "tiny-imagenet-200 TinyImageNet200",
    "digits digits-1797",
    "noto-emoji NotoEmoji",
    "glyphs",
    "images",
    "日本",
)


def test_names_of_one_dataset():
    families = [text.split() for text in FAMILIES]
    for i, family in enumerate(families):
        for j, others in enumerate(families):
            for a, b in itertools.product(family, others):
                assert prior_scores.same_images(a, b) == (i == j), (a, b)
    assert prior_scores.same_images("fashion", "fashion-mnist")


def test_no_column_of_a_dataset_that_is_searched_or_reported():
    archs = named.open_table("analog").arch
    for searched in (("cifar10",), ("cifar100", "cifar10-valid")):
        for column in ("cifar10/test/200", "cifar10-ptq/test/200"):
            with pytest.raises(ValueError, match=f"{column} .* {searched[-1]}"):
                prior_scores.open_prior(
                    (column,), "analog", searched, nasbench201.SPACE, archs
                )
    names = ("cifar10/test/200",)
    prior = prior_scores.open_prior(
        names, "analog", ("cifar100",), nasbench201.SPACE, archs
    )
    assert prior.feature is not None and len(prior.digests) == 1
