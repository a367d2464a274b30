"""Searches with several objectives: their parts by hand, and what each promises."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxnas import pareto
from jaxnas.pareto import Objective
from jaxnas.predictors import pool_gp
from jaxnas.predictors.pool import make_pool
from jaxnas.search import multi_objective, random_search, simulate
from jaxnas.search.multi_objective import acquire, batches, posteriors
from jaxnas.spaces import base, features, nasbench201, nasbench201_classes
from jaxnas.types import Query, Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (3,) * 4)
STEPS = 20  # one program fewer to compile than for 24
GAIN, PRICE = Objective("gain"), Objective("price", direction="minimise")
BOTH = (GAIN, PRICE)
BOUNDED = (GAIN, PRICE._replace(bound=4.0))
ONE = (GAIN, PRICE._replace(bound=4.0, optimised=False))


@functools.cache
def pool():
    hot = features.one_hot_encoder(SPACE.choices)
    return make_pool(SPACE, [lambda arch: (hot(arch),)])


SEARCHES = {
    "evolution": lambda objectives, batch: multi_objective.regularized_evolution(
        SPACE, objectives, population=8, tournament=3, init=4, batch=batch
    ),
    "nsga2": lambda objectives, batch: multi_objective.nsga2(
        SPACE, objectives, population=6, batch=batch
    ),
    "gp": lambda objectives, batch: multi_objective.bayesopt(
        pool(), objectives, init=6, batch=batch
    ),
}
every_search = pytest.mark.parametrize("name", SEARCHES)


@functools.cache
def make(name, objectives=BOTH, batch=1):
    return SEARCHES[name](objectives, batch)


def table():
    """Scores (81, 2) of a toy with a front: what gains much is expensive."""
    arch = base.every(SPACE)
    gain = arch @ [1.0, 2, 3, 1] + (arch[:, 0] == arch[:, 2])
    price = arch @ [1.0, 1, 2, 0] + 0.5 * (arch[:, 1] == 1)
    return np.stack([gain, -price], 1).astype(np.float32)


def evaluate(scores, key, query):
    scores = scores[base.rank(SPACE, query.arch)]
    first = scores[:, 0]
    return Result(first, first[:, None], jnp.ones_like(first), scores)


def objective(scores=None):
    return Partial(evaluate, jnp.asarray(table() if scores is None else scores))


def keys(num=3):
    return jax.random.split(jax.random.key(5), num)


def shares(trace):
    """Share of the hypervolume of the true front after each evaluation, (runs, t)."""
    reference = pareto.reference_point(table())
    scores = trace.objectives.reshape(len(trace.score), -1, 2)
    volumes = jax.vmap(pareto.hypervolume_so_far, (0, None))(scores, reference)
    return np.asarray(volumes / pareto.hypervolume(table(), reference))


@functools.cache
def runs(name, objectives=BOTH):
    """Six runs, for all tests that look at them."""
    return simulate(keys(6), make(name, objectives), objective(), STEPS)


@pytest.mark.parametrize("name", ["evolution", "nsga2"])
def test_runs_differ_and_are_those_of_a_loop_in_python(name):
    search, trace = make(name), runs(name)
    assert trace.objectives.shape == (6, STEPS, 1, 2)
    assert len({np.asarray(trace.query.arch[i]).tobytes() for i in range(6)}) == 6
    key_init, key_run = jax.random.split(keys(6)[0])
    state, asked = search.grow(search.init(key_init), search.stages(STEPS)[0].end), []
    ask, tell = jax.jit(search.ask), jax.jit(search.tell)
    for i in range(STEPS):
        query = ask(jax.random.split(jax.random.fold_in(key_run, i))[0], state)
        state = tell(state, query, evaluate(jnp.asarray(table()), None, query))
        asked.append(query.arch)
    np.testing.assert_array_equal(trace.query.arch[0], np.stack(asked))


@pytest.mark.parametrize("name", ["nsga2", "gp"])
def test_learning_beats_random_search(name):
    without = random_search(SPACE, capacity=STEPS)
    random = shares(simulate(keys(6), without, objective(), STEPS))[:, -1]
    assert shares(runs(name))[:, -1].mean() > random.mean() + random.std() / np.sqrt(6)


@every_search
def test_an_idle_slot_changes_no_state(name):
    search = make(name, BOTH, 2)
    state = search.grow(search.init(keys()[0]), 4)
    arch = jnp.zeros((2, 4), jnp.int32).at[1].set(2)
    one = Query(arch, jnp.array([1, 0]), jnp.zeros(2, jnp.int32))
    result = evaluate(jnp.asarray(table()), None, one)
    state = search.tell(state, one, result)
    idle = one._replace(epoch=one.start)
    again = search.tell(state, idle, result)
    same = jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), state, again)
    assert all(jax.tree.leaves(same))
    assert int(state.age if name == "evolution" else state.count) == 1


def test_a_population_that_ages_holds_the_last_evaluations():
    search, told = make("evolution"), base.every(SPACE)[:11]
    state, tell = search.init(keys()[0]), jax.jit(search.tell)
    for age, arch in enumerate(told, 1):
        query = Query(jnp.asarray(arch)[None], jnp.array([1]), jnp.zeros(1, jnp.int32))
        state = tell(state, query, evaluate(jnp.asarray(table()), None, query))
        # The rows of members are the first ones, from which tournaments are drawn.
        held = {tuple(row) for row in np.asarray(state.arch[: min(age, 8)]).tolist()}
        assert held == {tuple(row) for row in told[max(age - 8, 0) : age].tolist()}


@every_search
def test_bounds_lead_to_feasible_architectures(name):
    trace = runs(name, ONE)
    price = -trace.objectives[..., 0, 1]
    assert (price <= 4).mean() > (-table()[:, 1] <= 4).mean()
    if name == "gp":
        gain = np.where(price <= 4, trace.objectives[..., 0, 0], -np.inf).max(1)
        best = table()[table()[:, 1] >= -4, 0].max()
        assert (gain == best).mean() > 0.5


@every_search
def test_missing_and_failed_values_are_survived(name):
    scores = table()
    scores[::3, 1] = np.nan  # not measured
    scores[::7] = np.nan  # failed
    trace = simulate(keys(6), make(name), objective(scores), STEPS)
    complete = ~np.isnan(trace.objectives).any((-1, -2))
    assert complete[:, 12:].mean() > 0.5


def test_an_evaluation_is_used_for_the_objectives_that_it_has():
    search = make("gp")
    state = search.grow(search.init(keys()[0]), 8)
    scores = jnp.array([[3.0, jnp.nan], [jnp.nan, jnp.nan], [1.0, -2.0]])
    for i, row in enumerate(scores):
        arch = jnp.full((1, 4), i, jnp.int32)
        query = Query(arch, jnp.ones(1, jnp.int32), jnp.zeros(1, jnp.int32))
        result = Result(row[:1], row[None, :1], row[:1], row[None])
        state = search.tell(state, query, result)
    assert [int(model.count) for model in state.models] == [3, 2]
    np.testing.assert_array_equal(state.models[1].score[:2], [np.nan, -2])
    assert int(state.count) == 3 and int(state.seen.sum()) == 3


def test_batches_of_the_gaussian_process_are_new_and_of_one_step():
    trace = simulate(keys(2), make("gp", BOTH, 4), objective(), 4)
    ranks = np.asarray(base.rank(SPACE, trace.query.arch)).reshape(2, -1)
    assert all(len(set(row)) == 16 for row in ranks.tolist())
    assert shares(trace)[:, -1].min() > 0.7


def test_batches_of_a_kdpp_are_new_and_a_batch_of_one_is_the_sequential_search():
    select = batches.kdpp(size=30)
    bayesopt = functools.partial(multi_objective.bayesopt, pool(), BOTH, init=6)
    trace = simulate(keys(2), bayesopt(batch=4, select=select), objective(), 4)
    ranks = np.asarray(base.rank(SPACE, trace.query.arch)).reshape(2, -1)
    assert all(len(set(row)) == 16 for row in ranks.tolist())
    one = simulate(keys(6), bayesopt(select=select), objective(), STEPS)
    np.testing.assert_array_equal(one.query.arch, runs("gp").query.arch)


def test_a_kdpp_weighs_utility_against_similarity():
    utility = jnp.array([1.0, 1.0, 0.8, 0.0, -jnp.inf])
    similarity = jnp.eye(5).at[0, 1].set(0.9).at[1, 0].set(0.9)
    kernel = batches._kernel(utility, similarity, 1.0)
    pairs = {
        (i, j): float(jnp.linalg.det(kernel[jnp.ix_(*2 * [jnp.array([i, j])])]))
        for i, j in itertools.combinations(range(5), 2)
    }
    # det = u_i u_j (1 - s^2): the two best together are a pair of little weight.
    assert pairs[0, 1] == pytest.approx(1 - 0.9**2, rel=1e-4)
    assert pairs[0, 2] == pytest.approx(0.8, rel=1e-4)
    assert pairs[0, 3] == pytest.approx(1e-3, rel=1e-4) and pairs[0, 4] == 0


def test_similarity_is_the_posterior_correlation_of_evaluations():
    # Before any evaluation that is the prior's, 2 exp(-d) with noise of 2 / 2.
    state = posteriors.empty((pool(),), 2)
    model = state.models[0]
    hyper = model.hyper._replace(amplitude=jnp.float32(2), noise=jnp.float32(0.5))
    model = model._replace(hyper=hyper)
    state = state._replace(models=(model,))
    index = jnp.arange(4)
    columns = pool().embeddings.column[index]
    distance = pool_gp.joint_posterior(pool(), model, columns)[2]
    expected = (2 * np.exp(-distance) + np.eye(4)) / 3
    similarity = batches._similarity((pool(),), state, index)
    np.testing.assert_allclose(similarity, expected, 1e-4)


def test_what_is_in_flight_is_believed_in_the_units_of_scores():
    state = posteriors.empty((pool(),), 2)
    model = state.models[0]
    units = model.standardisation._replace(mean=jnp.float32(70), std=jnp.float32(4))
    model = model._replace(standardisation=units, mean=model.mean + 0.5)
    state = state._replace(models=(model,))
    one = jnp.int32(0), jnp.bool_(False), jnp.bool_(True)
    believed = jax.jit(posteriors.expect)((pool(),), state, *one)
    assert believed.expected == 1 and believed.score[0, 0] == 72


def test_every_objective_needs_a_pool():
    state = posteriors.empty((pool(), pool()), 2)
    one = jnp.int32(0), jnp.zeros(2), jnp.bool_(True), jnp.bool_(True)
    with pytest.raises(ValueError):
        jax.eval_shape(functools.partial(posteriors.observe, (pool(),)), state, *one)


def test_a_shortlist_is_as_long_as_measured():
    assert batches.SIZE == 200


def test_cells_of_one_function_have_one_accuracy_and_costs_of_their_own():
    archs = base.every(nasbench201.SPACE)[:1000]
    objectives = (*BOTH, Objective("gain on noisy images"))
    search = multi_objective.gp_pareto(nasbench201.SPACE, objectives, archs)
    accuracy, cost, other = search.ask.args[0]
    assert other is accuracy
    classes = nasbench201_classes.function_classes()
    classes = classes[np.asarray(base.rank(nasbench201.SPACE, accuracy.arch))]
    columns = np.asarray(accuracy.embeddings.column)
    pairs = len(np.unique(np.stack([classes, columns]), axis=1).T)
    assert pairs == len(np.unique(classes)) < 1000
    assert len(np.unique(cost.embeddings.column)) == 1000


def test_the_confidence_bound_adds_its_hypervolume():
    front = acquire.Front(jnp.array([[1.0, 1.0]]), jnp.array([True]), jnp.zeros(2))
    mean, std = jnp.array([[1.0, 0.5], [0.5, 0.5]]), jnp.array([[2.0, 0.1], [0.5, 0.1]])
    gain = acquire.confidence_bound(1.0)(None, mean, std, front)
    # (3, 1) adds 3 - 1; (0.6, 0.6) is dominated.
    np.testing.assert_allclose(gain, [2.0, 0.0], atol=1e-6)
    with pytest.raises(ValueError, match="beta must not be negative, not -1"):
        acquire.confidence_bound(-1.0)


def test_a_maker_of_rules_must_be_called():
    wanted = r"select must be a function of 5 .* kdpp is not .* called first: kdpp\(\)"
    with pytest.raises(ValueError, match=wanted):
        multi_objective.bayesopt(pool(), BOTH, batch=2, select=batches.kdpp)
    with pytest.raises(ValueError, match="acquire must be a function of 4"):
        multi_objective.bayesopt(pool(), BOTH, acquire=acquire.confidence_bound)


def test_a_random_scalarisation_prefers_what_is_uncertain():
    front = acquire.Front(jnp.array([[1.0, 1.0]]), jnp.array([True]), jnp.zeros(2))
    mean, std = jnp.ones((2, 2)), jnp.array([[0.1, 2.0], [0.1, 2.0]])
    sure, unsure = acquire.random_scalarisation()(jax.random.key(0), mean, std, front)
    assert unsure > sure + 1


def test_simulated_workers_take_several_objectives():
    trace = simulate(keys(2), make("gp"), objective(), 12, workers=3)
    ranks = np.asarray(base.rank(SPACE, trace.query.arch)).reshape(2, -1)
    assert all(len(set(row)) == 12 for row in ranks.tolist())


def test_pools_must_fit_the_objectives():
    hot = features.one_hot_encoder(SPACE.choices)
    part = make_pool(SPACE, [lambda arch: (hot(arch),)], arch=base.every(SPACE)[1:])
    with pytest.raises(ValueError, match="2 objectives have 1 pools"):
        multi_objective.bayesopt([pool()], BOTH)
    with pytest.raises(ValueError, match="different architectures"):
        multi_objective.bayesopt([pool(), part], BOTH)


def test_preference_by_hand():
    scores = jnp.array([[1.0, -1], [9, -9], [2, -2], [2, -5], [3, jnp.nan], [0, -7]])
    order = multi_objective.preference(BOUNDED, scores)
    # Two on the front; then violations 0.25, 0.75, 1.25, and one that is not known.
    assert {int(order[0]), int(order[2])} == {0, 1}
    assert [int(order[i]) for i in (3, 5, 1, 4)] == [2, 3, 4, 5]
    valid = jnp.arange(6) != 0
    assert int(multi_objective.preference(BOUNDED, scores, valid)[0]) == 5


def test_survivors_are_the_best_of_population_and_children():
    search = multi_objective.nsga2(SPACE, BOTH, population=3, batch=3)
    state = search.grow(search.init(keys()[0]), 2)
    archs = jnp.asarray(base.every(SPACE)[:6])
    scores = jnp.array([[0.0, 0], [5, -5], [1, -9], [6, -1], [2, 0], [9, jnp.nan]])
    for rows in (slice(0, 3), slice(3, 6)):
        query = Query(archs[rows], jnp.ones(3, jnp.int32), jnp.zeros(3, jnp.int32))
        first = scores[rows, 0]
        result = Result(first, first[:, None], first, scores[rows])
        state = search.tell(state, query, result)
    # The front is (6, -1), (2, 0) and (9, missing), which is the best in the first.
    expected = {tuple(a) for a in archs[jnp.array([3, 4, 5])].tolist()}
    assert {tuple(a) for a in state.arch.tolist()} == expected
    assert int(state.count) == 6


def test_utility_multiplies_by_the_probability_of_a_bound_alone():
    mean = jnp.array([[0.0, 1.0, 2.0], [0.0, -1.0, -3.0]])
    std, seen = jnp.ones((2, 3)), jnp.array([[0.5, 0.2], [9.0, -2.0]])
    bounds = jnp.array([-jnp.inf, -1.0])
    rule = acquire.expected_improvement
    value = acquire.utility(rule, ONE, None, (mean, std), seen, bounds)
    gain = pareto.expected_hypervolume_improvement(
        mean[:1], std[:1], seen[:1, :1], jnp.array([-9.0])
    )
    holds = jax.scipy.stats.norm.cdf(mean[1] + 1)
    np.testing.assert_allclose(value, gain * holds, rtol=1e-6)
    none = acquire.utility(rule, ONE, None, (mean, std), seen[1:], bounds)
    np.testing.assert_allclose(none, holds, rtol=1e-6)


def test_what_violates_the_bound_of_an_optimised_objective_adds_nothing():
    mean, std = jnp.array([[5.0, 5.0], [-2.0, -0.9]]), jnp.full((2, 2), 1e-4)
    seen = jnp.array([[0.0, -0.5]])
    bounds = jnp.array([-jnp.inf, -1.0])
    value = acquire.utility(
        acquire.expected_improvement, BOUNDED, None, (mean, std), seen, bounds
    )
    assert value[0] == 0 and value[1] > 0


def test_three_objectives_are_scalarised():
    objectives = (*BOTH, Objective("third"))
    search = multi_objective.bayesopt(pool(), objectives, init=4)
    scores = np.concatenate([table(), np.arange(81.0)[:, None] % 5], 1)
    trace = simulate(keys(2), search, objective(np.float32(scores)), 8)
    assert np.isfinite(trace.objectives).all()


@every_search
def test_other_objectives_are_refused(name):
    search = make(name)
    query = jax.eval_shape(lambda key: search.ask(key, search.init(key)), keys()[0])
    one = Result(*(jnp.zeros(shape) for shape in ((1,), (1, 1), (1,))))
    with pytest.raises(ValueError, match="gain, price, and its results have one score"):
        tell = lambda query: search.tell(search.init(keys()[0]), query, one)  # noqa: E731
        jax.eval_shape(tell, query)
    with pytest.raises(ValueError, match="price is given 2 times"):
        SEARCHES[name]((GAIN, PRICE, PRICE), 1)
