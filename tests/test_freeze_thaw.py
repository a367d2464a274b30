"""The process over (architecture, epoch) that chooses which trainings are completed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import linalg

from jaxnas import gp
from jaxnas.benchmarks import synthetic
from jaxnas.predictors.pool import make_pool
from jaxnas.search.fidelity import freeze_thaw
from jaxnas.search.fidelity.two_levels import two_levels
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.loop import simulate
from jaxnas.spaces import base, features
from jaxnas.types import asked

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (4, 3, 5))
LOW, LAST, STEPS, CORRELATION = 2, 9, 26, 0.6
SIZES = {"first": 6, "short": 4, "complete": 3}


@pytest.fixture(scope="module")
def benchmark():
    return synthetic.synthetic_benchmark(jax.random.key(1), SPACE, epochs=LAST)


@pytest.fixture(scope="module")
def pool():
    hot = features.one_hot_encoder(SPACE.choices)
    return make_pool(SPACE, [lambda arch: (hot(arch),)])


def make(pool, batch=1):
    inside = bayesopt(pool, init=4, batch=batch, capacity=30)
    rank = Partial(freeze_thaw.rank_by_final_mean, pool, CORRELATION)
    return two_levels(inside, LOW, last=LAST, rank=rank, **SIZES)


def joint_mean(kernel, low, short, final, done, noise):
    """The textbook's posterior mean of final scores, from all scores of both levels.

    Args:
      kernel: (n, n) covariance at one level.
      low: (n,) scores at the low level, all of which are `short` (n,) bool or padding.
      final: (n,) scores at the last level.
      done: (n,) bool.
      noise: variance.
    """
    both = np.kron([[1, CORRELATION], [CORRELATION, 1]], kernel)
    n = len(kernel)
    both[n:, n:] += 100.0  # the unknown mean of the final scores
    rows = np.flatnonzero(np.concatenate([short, done]))
    matrix = both[np.ix_(rows, rows)] + noise * np.eye(len(rows))
    observed = np.concatenate([low, final])[rows]
    return (both[:, rows] @ linalg.solve(matrix, observed, assume_a="pos"))[n:]


def test_it_is_the_posterior_of_one_joint_process():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 2))
    distance = np.abs(points[:, None] - points).sum(-1)
    kernel, noise = 0.8 * np.exp(-distance / 2), 0.05
    low, final = rng.normal(size=12), 1 + rng.normal(size=12)
    done = np.arange(12) % 3 == 0
    everything = np.ones(12, bool)
    inverse = linalg.inv(kernel + noise * np.eye(12))
    at_low, cov = kernel @ inverse @ low, kernel - kernel @ inverse @ kernel
    with jax.enable_x64(True):
        posterior = gp.Posterior(jnp.asarray(at_low), jnp.asarray(cov))
        given = [jnp.asarray(x) for x in (kernel, final, done, noise)]
        mean = freeze_thaw.final_mean(posterior, *given, CORRELATION)
    # Scores are centred before the unknown mean is added: a constant for all.
    centre = (final - CORRELATION * at_low)[done].mean()
    wanted = joint_mean(kernel, low, everything, final - centre, done, noise)
    np.testing.assert_allclose(mean, wanted, rtol=1e-9)


def test_complete_trainings_have_the_largest_mean_of_either_process_in_turn(
    benchmark, pool
):
    search = make(pool)
    ask, tell = jax.jit(search.ask), jax.jit(search.tell)
    evaluate = jax.jit(benchmark.evaluate)
    state = search.grow(search.init(jax.random.key(0)), STEPS)
    refresh = jax.jit(search.refresh)
    rng, finals, same, by_low = np.random.default_rng(0), 0, 0, 0
    for step in range(STEPS):
        if step in (5, 12, 20):
            state = refresh(state)
        query = ask(jax.random.fold_in(jax.random.key(1), step), state)
        if query.epoch[0] == LAST:
            *means, low_mean, left = reference(pool, state)
            mean, other = means[finals % 2], means[1 - finals % 2]
            row = int(jnp.argmax((state.arch == query.arch).all(1)))
            assert left[row] and mean[row] >= mean[left].max() - 1e-3
            finals += 1
            same += other[row] >= other[left].max() - 1e-3
            by_low += low_mean[row] >= low_mean[left].max() - 1e-3
        result = evaluate(jax.random.key(2), query)
        residual = 10 * rng.standard_normal(1, np.float32)
        state = tell(state, query, result._replace(score=result.score + residual))
    # The two processes disagree, and final scores change the order.
    assert finals >= 9 and same < finals and by_low < finals, (finals, same, by_low)
    trained = np.asarray(state.final)
    assert (~np.isnan(trained)).sum() == finals


@pytest.mark.parametrize("options", [{"batch": 4}, {"workers": 4}], ids=str)
def test_side_by_side_trainings_are_begun_and_completed_once(options, benchmark, pool):
    search = make(pool, options.pop("batch", 1))
    keys = jax.random.split(jax.random.key(0), 1)
    steps = STEPS if options else STEPS // 4
    query = simulate(keys, search, benchmark, steps, **options).query
    arch, epoch = np.asarray(query.arch).reshape(-1, 3), np.asarray(query.epoch).ravel()
    active = np.asarray(asked(query)).ravel()
    begun, complete = (
        [tuple(a) for a in arch[active & (epoch == level)].tolist()]
        for level in (LOW, LAST)
    )
    assert len(set(begun)) == len(begun) and len(set(complete)) == len(complete)
    assert set(complete) <= set(begun)
    # Groups of complete trainings follow the short ones, in whole steps.
    groups = 1 + (len(begun) - SIZES["first"]) // SIZES["short"]
    assert abs(len(complete) - groups * SIZES["complete"]) <= 4 < len(complete)


def reference(pool, state):
    """The means of the final scores by `joint_mean`, if residuals are noise and if they are
    a property of the architecture; those at the low level; and the rows not taken."""
    inside, count = state.inside, int(state.count)
    columns = np.asarray(pool.embeddings.column)[np.asarray(inside.index[:count])]
    parts = np.asarray(inside.distances, float)[:, :count][:, :, columns]
    scales = np.asarray(inside.hyper.scales, float)
    amplitude, noise = float(inside.hyper.amplitude), float(inside.hyper.noise)
    kernel = amplitude * np.exp(-np.tensordot(1 / scales, parts, 1))
    mean, std = (float(x) for x in inside.standardisation[1:])
    low = np.asarray(gp.standardise(inside.standardisation, inside.score))[:count]
    final = (np.asarray(state.final)[:count] - mean) / std
    done = ~np.isnan(final)
    at_low = kernel @ linalg.solve(kernel + amplitude * noise * np.eye(count), low)
    error = np.where(done, final - CORRELATION * at_low, 0)
    final = final - error.sum() / max(done.sum(), 1)
    everything, variance = np.ones(count, bool), amplitude * noise
    smooth = joint_mean(kernel, low, everything, final, done, variance)
    final = (np.asarray(state.final)[:count] - mean) / std
    error = np.where(done, final - CORRELATION * low, 0)
    final = final - error.sum() / max(done.sum(), 1)
    rough = kernel + variance * np.eye(count)
    rough = joint_mean(rough, low, everything, final, done, 1e-6)
    return smooth, rough, at_low, ~np.asarray(state.taken)[:count]
