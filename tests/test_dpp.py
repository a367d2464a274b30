"""Determinantal point processes against all their subsets, counted one by one."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from jaxnas import dpp, gp

pytestmark = pytest.mark.usefixtures("quick_compilation")

log_probabilities = jax.jit(jax.vmap(dpp.log_probability, (None, 0)))
quality_diversity = jax.jit(dpp.quality_diversity)
decompose_3 = jax.jit(functools.partial(dpp.decompose, k=3))
draw_1000 = jax.jit(jax.vmap(dpp.draw, (0, None)))
greedy = jax.jit(functools.partial(dpp.greedy_map, k=8))

SUBSETS = np.array(list(itertools.combinations(range(7), 3)))
DRAWS = 200_000


def similarity(points):
    return np.exp(-0.5 * ((points[:, None] - points[None]) ** 2).sum(-1))


def kernels():
    """Kernels (7, 7) of every kind that a posterior can be, in float64."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(7, 2))
    near = points[[0, 0, 1, 1, 2, 3, 4]]
    near[3] += 1e-3
    factor, quality = rng.normal(size=(7, 4)), np.exp(points[:, :1])
    return {
        "full rank": similarity(points),
        "rank 4": factor @ factor.T,
        "duplicates": similarity(near),
        "quality": quality * similarity(points) * quality.T,
    }


KERNELS = kernels()
# Of rank 2, which leaves no doubt in whatever order items are drawn.
ANGLE = np.arange(7) * np.pi / 7
PLANE = np.stack([np.cos(ANGLE), np.sin(ANGLE)], 1) * np.arange(1, 8)[:, None]
RANK_2 = PLANE @ PLANE.T


def probabilities(kernel, subsets=SUBSETS):
    det = [np.linalg.det(kernel[np.ix_(s, s)]) for s in subsets]
    return np.maximum(det, 0) / np.sum(det)


def frequencies(draws, subsets=SUBSETS):
    """How often (s,) each of the subsets was drawn, in whatever order."""
    base = draws.max() + 1
    code = lambda x: np.sort(x, axis=1) @ base ** np.arange(x.shape[1])  # noqa: E731
    found, times = np.unique(code(np.asarray(draws, np.int64)), return_counts=True)
    count = dict(zip(found.tolist(), times.tolist(), strict=True))
    out = np.array([count.get(c, 0) for c in code(subsets).tolist()])
    assert out.sum() == len(draws), "something that is no subset was drawn"
    return out


def p_value(count, probability):
    """Of the chi-square test; what is expected less than 10 times counts together."""
    expected = probability / probability.sum() * count.sum()
    order = np.argsort(expected)
    few = int(np.searchsorted(np.cumsum(expected[order]), 10)) + 1
    merge = lambda x: np.append(x[order[few:]], x[order[:few]].sum())  # noqa: E731
    return chisquare(merge(count), merge(expected)).pvalue


@jax.jit
def many(keys, kernels):
    """Draws (kernel, chunk, draw, 3), with one decomposition for each kernel."""
    found = jax.vmap(functools.partial(dpp.decompose, k=3))(kernels)
    draws = jax.vmap(jax.vmap(dpp.draw, (0, None)))
    chunks = jax.lax.map(lambda keys: draws(keys, found), keys.swapaxes(0, 1))
    return chunks.swapaxes(0, 1)


def keys_of(num):
    return jax.random.split(jax.random.key(5), (num, 20, DRAWS // 20))


def run(precision, given):
    draws = many(keys_of(len(given)), jnp.asarray(np.stack(given), precision))
    assert draws.dtype == np.int32
    return np.asarray(draws).reshape(len(given), DRAWS, 3)


@functools.cache
def single():
    return run("float32", [*KERNELS.values(), RANK_2])


@functools.cache
def double():
    with jax.enable_x64(True):
        return run("float64", list(KERNELS.values()))


@pytest.fixture(params=["float32", "float64"])
def drawn(request):
    draws = single() if request.param == "float32" else double()
    return dict(zip(KERNELS, draws, strict=False))


def test_subsets_have_their_probabilities(drawn):
    for name, kernel in KERNELS.items():
        p = p_value(frequencies(drawn[name]), probabilities(kernel))
        assert p > 1e-3, f"{name}: {p}"


def test_a_wrong_distribution_would_be_noticed(drawn):
    count = frequencies(drawn["full rank"])
    right = probabilities(KERNELS["full rank"])
    assert p_value(count, right + 0.02 * (right[::-1] - right)) < 1e-3
    # What an elementwise product of the three matrices would draw.
    diagonal = probabilities(np.diag(np.diag(KERNELS["quality"])))
    assert p_value(frequencies(drawn["quality"]), diagonal) < 1e-3


def test_equal_rows_are_not_drawn_together(drawn):
    both = np.isin(drawn["duplicates"], [0, 1]).sum(1) == 2
    assert both.mean() < 1e-5  # float32 cannot tell 0 from 10^-6


def test_probabilities_and_draws_are_those_of_the_reference(shared):
    with np.load(shared / "oracles" / "tree_wasserstein.npz") as stored:
        kernel, subsets = stored["dpp_small_L"], stored["dpp_small_subsets"]
        probability, score = stored["dpp_small_prob"], -stored["gp_tw1_t0_mu_ref"]
        cov, product = stored["gp_tw1_t0_cov_ref"], stored["gp_tw1_t0_L_full"]
    ours = quality_diversity(score, cov)
    np.testing.assert_allclose(ours, product / np.exp(2 * score.max()), atol=1e-6)
    with jax.enable_x64(True):
        ours = np.exp(log_probabilities(dpp.decompose(kernel, 3), subsets))
    np.testing.assert_allclose(ours, probability, rtol=1e-9)


# Elementary symmetric polynomials.

ratios = jax.jit(dpp._symmetric_ratios, static_argnums=1)


@pytest.mark.parametrize("low", [-1, -6])
def test_polynomials_are_sums_over_subsets(low):
    """Of values down to 10^low, three of them 0."""
    values = 10 ** np.random.default_rng(1).uniform(low, 0, 9)
    values[[0, 4, 8]] = 0
    e = [
        [sum(map(math.prod, itertools.combinations(values[:j], m))) for j in range(10)]
        for m in range(10)
    ]
    ratio, accept = ratios(jnp.float32(values), 9)
    log = np.cumsum(np.log(ratio[:6]))
    np.testing.assert_allclose(log, np.log([e[m][9] for m in range(1, 7)]), rtol=1e-5)
    assert (ratio[6:] == 0).all()
    for m, j in itertools.product(range(9), range(9)):
        if e[m + 1][j + 1]:
            expected = values[j] * e[m][j] / e[m + 1][j + 1]
            np.testing.assert_allclose(accept[m, j], expected, rtol=1e-5)


def test_polynomials_that_float32_cannot_hold():
    """e_50 of 200 values, against whole numbers of any length."""
    whole = np.random.default_rng(2).integers(1, 2**20, 200).tolist()
    e = [1] + [0] * 50
    for value in whole:
        e = [1] + [e[m] + value * e[m - 1] for m in range(1, 51)]
    assert math.log(e[50]) > 700 > math.log(np.finfo("float32").max)
    found = np.cumsum(np.log(ratios(jnp.float32(whole), 50)[0]))
    np.testing.assert_allclose(found, [math.log(x) for x in e[1:]], atol=2e-4)


# Log probabilities.


@pytest.mark.parametrize("precision, rtol", [("float32", 2e-4), ("float64", 1e-9)])
def test_log_probabilities_are_exact_and_sum_to_one(precision, rtol):
    with jax.enable_x64(precision == "float64"):
        for name, kernel in KERNELS.items():
            found = dpp.decompose(jnp.asarray(kernel, precision), 3)
            ours = np.exp(log_probabilities(found, SUBSETS))
            assert ours.dtype == precision
            expected = probabilities(kernel)
            np.testing.assert_allclose(ours.sum(), 1, rtol=rtol, err_msg=name)
            # A subset with near duplicates has few digits in float32.
            known = expected > 1e-3 if precision == "float32" else expected > 1e-12
            assert known.sum() >= 15 and (ours[~known] < 2e-3).all()
            np.testing.assert_allclose(
                ours[known], expected[known], rtol=rtol, err_msg=name
            )


def test_the_probability_of_a_set():
    kernel = jnp.float32(KERNELS["full rank"])
    found = dpp.decompose(kernel, 3)
    one = dpp.log_probability(found, np.array([4, 0, 6]))
    for other in itertools.permutations([4, 0, 6]):
        again = dpp.log_probability(found, np.array(other))
        np.testing.assert_allclose(again, one, rtol=1e-5)
    # Permuting or scaling the kernel changes nothing, from 1e-30 to 3e38.
    order = np.array([3, 6, 0, 1, 5, 2, 4])
    moved = dpp.decompose(KERNELS["full rank"][order][:, order], 3)
    again = dpp.log_probability(moved, np.array([6, 2, 1]))
    np.testing.assert_allclose(again, one, rtol=1e-5)
    for scale in (1e-30, 3e38):
        scaled = dpp.decompose(scale * KERNELS["full rank"], 3)
        again = dpp.log_probability(scaled, np.array([0, 4, 6]))
        np.testing.assert_allclose(again, one, rtol=1e-4)
    assert dpp.log_probability(found, np.array([4, 0, 4])) == -np.inf
    equal = dpp.decompose(KERNELS["duplicates"], 3)
    assert dpp.log_probability(equal, np.array([0, 5, 1])) == -np.inf
    low = decompose_3(jnp.float32(RANK_2))
    assert dpp.numerical_rank(low) == 2
    assert np.isnan(dpp.log_probability(low, np.arange(3)))


def test_the_probability_of_one_item():
    kernel = KERNELS["full rank"] * np.arange(1, 8) * np.arange(1, 8)[:, None]
    one = log_probabilities(dpp.decompose(kernel, 1), np.arange(7)[:, None])
    expected = np.log(np.diag(kernel) / np.trace(kernel))
    np.testing.assert_allclose(one, expected, atol=1e-5)


# Keys and batches.


def test_draws_depend_on_the_key_alone():
    keys = keys_of(len(KERNELS) + 1)[:, 0, :16]
    kernel = jnp.float32(KERNELS["full rank"])
    found = dpp.decompose(kernel, 3)
    one_by_one = np.array([dpp.draw(key, found) for key in keys[0]])
    assert len(np.unique(one_by_one, axis=0)) > 10
    np.testing.assert_array_equal(dpp.draw(keys[0, 3], found), one_by_one[3])
    # Not on how many draws or kernels there are at once.
    np.testing.assert_array_equal(single()[0, :16], one_by_one)
    for i, kernel in enumerate(KERNELS.values()):
        for j in range(8):
            alone = dpp.sample(keys[i, j], kernel, 3)
            np.testing.assert_array_equal(single()[i, j], alone)


@functools.cache
def large():
    """A kernel (60, 60) that decays, and 1,000 draws of 20 items."""
    rng = np.random.default_rng(6)
    quality = np.exp(rng.normal(size=60))
    kernel = quality[:, None] * similarity(rng.normal(size=(60, 3))) * quality
    keys = jax.random.split(jax.random.key(3), 1_000)
    return kernel, np.asarray(draw_1000(keys, dpp.decompose(jnp.float32(kernel), 20)))


def test_no_item_is_drawn_twice():
    _, draws = large()
    assert (np.diff(np.sort(draws, axis=1), axis=1) > 0).all()
    assert draws.min() >= 0 and draws.max() < 60


def test_items_of_a_large_set_are_drawn_as_often_as_they_should():
    """P(i in S) = sum_j v_ij^2 lambda_j e_(k-1)(others) / e_k, in float64."""
    kernel, draws = large()
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0)

    def polynomial(values):
        e = np.eye(21)[0]
        for value in values:
            e = e + value * np.append(0, e[:-1])
        return e

    others = [polynomial(np.delete(values, j))[19] for j in range(60)]
    p = vectors**2 @ (values * others) / polynomial(values)[20]
    np.testing.assert_allclose(p.sum(), 20)
    found = np.bincount(draws.ravel(), minlength=60) / len(draws)
    deviation = (found - p) / np.sqrt(p * (1 - p) / len(draws))
    assert np.abs(deviation).max() < 4 and 0.7 < np.sqrt((deviation**2).mean()) < 1.3


# More items than the rank, where nobody can be told.


def adaptive(kernel):
    """Probabilities (s,) of all ordered triples, and these (s, 3), drawn one by one."""
    num = len(kernel)
    triples = np.array(list(itertools.permutations(range(num), 3)))
    out = np.ones(len(triples))
    for row, items in enumerate(triples):
        left, used = kernel.copy(), []
        for item in items:
            weight = np.where(np.diag(left) > 1e-6, np.diag(left), 0)
            if not weight.any():
                weight = np.diag(kernel) * ~np.isin(range(num), used)
            out[row] *= weight[item] / weight.sum()
            if left[item, item] > 1e-6:
                left = left - np.outer(left[item], left[item]) / left[item, item]
            used.append(item)
    return out, triples


def test_above_the_rank_items_are_drawn_one_by_one():
    probability, triples = adaptive(RANK_2)
    code = 7 ** np.arange(3)
    where = {x: i for i, x in enumerate((triples @ code).tolist())}
    found = [where[x] for x in (single()[-1] @ code).tolist()]
    count = np.bincount(found, minlength=len(triples))
    assert p_value(count, probability) > 1e-3
    assert p_value(count, probability + 0.02 * probability[::-1]) < 1e-3


@pytest.mark.parametrize(
    "diagonal, first", [([2, 0, 1, 0, 0, 0, 0], 2), ([0] * 7, 0), ([np.nan] * 7, 0)]
)
def test_items_differ_whatever_the_kernel(diagonal, first):
    """Those with a variance come first, and all others are as likely."""
    found = decompose_3(jnp.diag(jnp.float32(diagonal)))
    keys = jax.random.split(jax.random.key(8), 60)
    draws = np.array([dpp.draw(key, found) for key in keys])
    assert (np.diff(np.sort(draws, axis=1), axis=1) > 0).all()
    assert np.isin(draws[:, :first], [0, 2]).all()
    assert (np.bincount(draws[:, first:].ravel(), minlength=7) >= 5).sum() == 7 - first


# Greedy.


def naive_greedy(kernel, k):
    chosen = []
    for _ in range(k):
        rest = [i for i in range(len(kernel)) if i not in chosen]
        sets = [[*chosen, i] for i in rest]
        chosen = max(sets, key=lambda s: np.linalg.slogdet(kernel[np.ix_(s, s)])[1])
    return chosen


def test_greedy_adds_the_largest_determinant():
    rng = np.random.default_rng(8)
    for _ in range(8):
        quality = np.exp(rng.normal(size=30))
        kernel = quality[:, None] * similarity(rng.normal(size=(30, 5))) * quality
        ours = greedy(jnp.float32(kernel))
        assert ours.tolist() == naive_greedy(kernel, 8) and ours.dtype == jnp.int32
    outside = dpp.greedy_map(KERNELS["quality"], 3)
    assert outside.tolist() == naive_greedy(KERNELS["quality"], 3)


def test_greedy_items_differ_also_where_nothing_is_left():
    size = np.arange(30)
    assert greedy(np.float32(size * size[:, None])).tolist() == list(range(29, 21, -1))
    assert greedy(np.zeros((30, 30), np.float32)).tolist() == list(range(8))


def test_greedy_is_diverse():
    points = 5.0 * np.arange(30)[:, None]
    points[8:] = points[:8].repeat(3, 0)[:22] + 0.1  # and three near each of them
    chosen = greedy(jnp.float32(similarity(points)))
    assert sorted((points[chosen, 0] // 5).tolist()) == list(range(8))


# Quality and diversity.


def test_quality_is_a_product_of_matrices(x64):
    score, cov = np.linspace(-1, 1.5, 7), KERNELS["full rank"]
    for temperature in (0.5, 3.0, 1.0):
        quality = np.diag(np.exp((score - 1.5) / temperature))
        ours = quality_diversity(score, cov, temperature)
        np.testing.assert_allclose(ours, quality @ cov @ quality, rtol=1e-12)
    # P(S) is det(cov_S) times the squares of the qualities.
    weight = np.exp(score)[SUBSETS].prod(1) ** 2 * probabilities(cov)
    found = dpp.decompose(ours, 3)
    ours = np.exp(log_probabilities(found, SUBSETS))
    np.testing.assert_allclose(ours, weight / weight.sum(), rtol=1e-9)


def test_quality_of_any_size_is_finite():
    cov, score = np.float32(KERNELS["full rank"]), np.arange(7, dtype=np.float32)
    plain = np.asarray(quality_diversity(score, cov))
    assert plain[6, 6] == 1 and plain.dtype == np.float32
    for shift in (-1e4, 1e4):
        shifted = quality_diversity(np.float32(shift) + score, cov)
        np.testing.assert_allclose(shifted, plain, rtol=1e-5)
    far = np.asarray(quality_diversity(1_000_000 * score, cov, 1e-3))
    assert np.isfinite(far).all() and (np.diag(far) > 0).all() and far[6, 6] == 1
    np.testing.assert_array_equal(quality_diversity(0 * score + 3, cov), cov)


@functools.cache
def posterior(num=60):
    """A posterior of single precision, its prior distances, and which were observed."""
    x = np.random.default_rng(9).uniform(0, 4, (num, 6))
    apart, y = np.abs(x[:, None] - x[None]).sum(-1), np.sin(x[:20]).sum(1)
    prior, y = np.float32(np.exp(-apart / 4)), np.float32((y - y.mean()) / y.std())
    some = prior[:20, :20], prior[:20], prior, y, np.ones(20, bool), np.float32(1e-3)
    return jax.jit(gp.posterior)(*some), apart, np.arange(num) < 20


def test_the_temperature_weighs_quality_against_diversity():
    found, apart, _ = posterior()
    keys = jax.random.split(jax.random.key(7), 1_000)
    mean, spread = [], []
    for temperature in (0.3, 1.0, 100.0):
        kernel = quality_diversity(found.mean, found.cov, temperature)
        chosen = np.asarray(draw_1000(keys, dpp.decompose(kernel, 20)))
        mean.append(np.asarray(found.mean)[chosen].mean())
        spread.append(apart[chosen[:, :, None], chosen[:, None]].mean())
    assert mean[0] > mean[1] + 0.05 > mean[2] + 0.1
    assert spread[0] + 0.05 < spread[1] < spread[2] - 0.05


def test_items_without_quality_are_not_drawn():
    found, _, seen = posterior()
    score = np.where(seen, -np.inf, found.mean)
    kernel = np.asarray(dpp.quality_diversity(score, found.cov))
    assert not kernel[:20].any() and not kernel[:, :20].any()
    keys = jax.random.split(jax.random.key(6), 1_000)
    drawn = np.unique(draw_1000(keys, dpp.decompose(kernel, 20)))
    assert drawn.tolist() == list(range(20, 60))
    failed = np.where(seen, np.nan, found.mean)
    np.testing.assert_allclose(quality_diversity(failed, found.cov), kernel, rtol=1e-5)
    assert not quality_diversity(np.full(60, -np.inf, "float32"), found.cov).any()


# Bad input.

EYE, ONES = np.eye(7), np.ones((7, 7))


@pytest.mark.parametrize(
    "kernel, k, words",
    [
        (EYE, 0, "k must be an int between 1 and the 7 items, not 0"),
        (EYE, 8, "k must be an int between 1 and the 7 items, not 8"),
        (EYE, True, "k must be an int between 1 and the 7 items, not True"),
        (EYE, 2.0, "k must be an int between 1 and the 7 items, not 2.0"),
        (EYE[:3], 3, r"kernel must be square \(n, n\), not of shape \(3, 7\)"),
        (EYE[0], 3, r"kernel must be square \(n, n\), not of shape \(7,\)"),
        (EYE[None], 3, r"kernel must be square \(n, n\), not of shape \(1, 7, 7\)"),
        (np.where(EYE, np.nan, 0), 3, "kernel must be finite: it holds NaN or inf"),
        (np.where(EYE, 1, np.inf), 3, "kernel must be finite: it holds NaN or inf"),
        (np.triu(ONES), 3, "kernel must be symmetric: it differs from its transpose"),
        (np.triu(ONES) > 0, 3, "kernel must be symmetric"),
        (ONES, 3, "k must be at most 1, the numerical rank .* not 3"),
        (0 * EYE, 3, "k must be at most 0, the numerical rank .* not 3"),
    ],
)
def test_bad_kernels_are_told(kernel, k, words):
    calls = (
        lambda: dpp.sample(jax.random.key(0), kernel, k),
        lambda: dpp.decompose(kernel, k),
        lambda: dpp.greedy_map(kernel, k),
    )
    for call in calls:
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)


def test_shapes_are_told_inside_a_program():
    for kernel, k in ((EYE[:3], 3), (EYE, 8)):
        with pytest.raises(ValueError, match="must be"):
            jax.jit(functools.partial(dpp.decompose, k=k))(kernel)


def test_an_indefinite_kernel_is_told_but_not_its_rounding():
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(7, 7)))[0]
    values = np.array([0, 0, 0, 0.1, 0.2, 0.5, 1])
    values[0] = -1e-4
    assert dpp.sample(jax.random.key(0), (turned * values) @ turned.T, 3).shape == (3,)
    values[0] = -0.1
    with pytest.raises(ValueError, match="semi-definite: its smallest eigen.*-0.1"):
        dpp.decompose((turned * values) @ turned.T, 3)
    with pytest.raises(ValueError, match="semi-definite"):
        dpp.decompose(-EYE, 3)


@pytest.mark.parametrize(
    "subset, words",
    [
        ([0, 1], r"subset must be 3 integers, not \[0 1\]"),
        ([[0, 1, 2]], r"subset must be 3 integers, not \[\[0 1 2\]\]"),
        ([0.0, 1.0, 2.0], "subset must be 3 integers"),
        ([0, 3, 7], "subset must hold items 0 to 6"),
        ([-1, 2, 3], "subset must hold items 0 to 6"),
    ],
)
def test_bad_subsets_are_told(subset, words):
    with pytest.raises(ValueError, match=words):
        dpp.log_probability(dpp.decompose(EYE, 3), np.array(subset))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"score": np.zeros(3)}, r"found score \(3,\), cov \(7, 7\)"),
        ({"cov": np.zeros(7)}, r"found score \(7,\), cov \(7,\)"),
        (
            {"score": np.array([0, 1, np.nan, 2, 3, 4, 5])},
            "score must be finite or -inf",
        ),
        (
            {"score": np.array([0, 1, np.inf, 2, 3, 4, 5])},
            "score must be finite or -inf",
        ),
        ({"cov": EYE * np.nan}, "cov must be finite"),
        ({"temperature": 0.0}, "temperature must be positive and finite, not 0.0"),
        ({"temperature": np.nan}, "temperature must be positive and finite, not nan"),
        ({"temperature": np.inf}, "temperature must be positive and finite, not inf"),
    ],
)
def test_bad_qualities_are_told(change, words):
    with pytest.raises(ValueError, match=words):
        dpp.quality_diversity(**({"score": np.zeros(7), "cov": EYE} | change))
