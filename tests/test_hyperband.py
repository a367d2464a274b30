"""Successive halving, Hyperband, and the samplers of BOHB and PriorBand."""

import functools
import json
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks import synthetic
from jaxnas.search import drive
from jaxnas.search.fidelity import brackets, kde, priorband, samplers
from jaxnas.search.fidelity.hyperband import (
    _room,
    hyperband,
    make_schedule,
    successive_halving,
)
from jaxnas.search.loop import simulate
from jaxnas.spaces import base, nasbench201
from jaxnas.types import asked

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (4, 3, 5))
LAST = {"nasbench101": 107, "nasbench201": 200, "nasbench211": 200, "darts": 97}
# 2 @ 1, 1 @ 3 after 3 @ 1 ..., small enough that a run has several iterations.
LEVELS = brackets.geometric_levels(9, 1, 3)
BRACKETS = brackets.hyperband_brackets(LEVELS, 3)


@functools.cache
def benchmark():
    return synthetic.synthetic_benchmark(jax.random.key(1), SPACE, epochs=9)


@functools.cache
def runs(steps, *, batch=1, workers=1, budget=None, restarting=False):
    plan = tuple(map(brackets.restarting, BRACKETS)) if restarting else BRACKETS
    search = hyperband(SPACE, plan, batch=batch)
    keys = jax.random.split(jax.random.key(0), 3)
    options = {"budget": budget, "workers": workers}
    trace = simulate(keys, search, benchmark(), steps, **options)
    return jax.tree.map(np.asarray, trace)


def flat(trace, seed):
    """Architecture, epoch, start and score of every evaluation of one run, in order."""
    query, size = trace.query, trace.score[seed].size
    arch = query.arch[seed].reshape(size, -1)
    columns = query.epoch[seed], query.start[seed], trace.score[seed]
    rows = zip(map(tuple, arch.tolist()), *(c.ravel() for c in columns), strict=True)
    return [row for row in rows if row[1] > row[2]]


def python_hyperband(plan, rows):
    """What a loop over brackets and rungs asks, given which architectures are new."""
    rows, asks = iter(rows), []
    while True:
        for bracket in plan:
            rung, scores = [], []
            for size, epoch, start in bracket:
                best = sorted(range(len(rung)), key=lambda i: -scores[i])[:size]
                rung, scores = [rung[i] for i in best], []
                for i in range(size):
                    row = next(rows, None)
                    if row is None:
                        return asks
                    if len(rung) <= i:
                        rung.append(row[0])
                    asks.append((rung[i], epoch, start))
                    scores.append(row[3])


def test_schedules_are_the_recorded_ones(shared):
    path = shared / "oracles/learning_curves.json"
    for name, recorded in json.loads(path.read_text())["schedules"].items():
        last = LAST.get(name.split("/")[0], 49)
        ends = recorded["max_budget"], recorded["min_budget"], recorded["eta"]
        levels = brackets.geometric_levels(*ends, last=last)
        plan = brackets.hyperband_brackets(levels, recorded["eta"])
        assert [[r.size for r in b] for b in plan] == recorded["sizes"], name
        assert [[r.epoch for r in b] for b in plan] == recorded["fidelities"], name


def test_the_epochs_of_an_iteration_are_the_published_ones():
    plan = brackets.hyperband_brackets(brackets.geometric_levels(512, 12, 3, last=200))
    assert sum(rung.size for bracket in plan for rung in bracket) == 69
    assert sum(map(brackets.total_epochs, plan)) == 4238
    again = map(brackets.total_epochs, map(brackets.restarting, plan))
    assert sum(again) == 5472
    first = brackets.as_table(plan).splitlines()[0]
    assert first == "bracket 0: 27 @ 18, 9 @ 56, 3 @ 170, 1 @ 200; 1200 epochs"


@pytest.mark.parametrize("levels", [(22, 66, 200), (1, 3, 9, 27), (5,)])
def test_bracket_sizes_of_the_programs_of_bohb_and_dehb(levels):
    plan, num = brackets.hyperband_brackets(levels, 3, multiples=True), len(levels)
    for s, bracket in zip(reversed(range(num)), plan, strict=True):
        first = int(np.floor(num / (s + 1))) * 3**s  # HpBandSter 0.7.4, BOHB.get_next
        assert [rung.size for rung in bracket] == [first // 3**i for i in range(s + 1)]
        assert [rung.epoch for rung in bracket] == list(levels[num - 1 - s :])
    for eta in (1.5, 2.5):
        plan = brackets.hyperband_brackets(levels, eta, multiples=True)
        assert len(plan) == num and all(bracket[-1].size >= 1 for bracket in plan)
    plan = brackets.hyperband_brackets(levels, 3, multiples=True)
    if num == 3:  # as DEHB 0.1.2 asks
        assert [[r.size for r in b] for b in plan] == [[9, 3, 1], [3, 1], [3]]


@pytest.mark.parametrize("restarting", [False, True])
def test_queries_are_those_of_a_loop_over_rungs(restarting):
    plan = tuple(map(brackets.restarting, BRACKETS)) if restarting else BRACKETS
    trace = runs(60, restarting=restarting)
    for seed in range(3):
        rows = flat(trace, seed)
        assert [row[:3] for row in rows] == python_hyperband(plan, rows)
    assert len({flat(trace, seed)[0][0] for seed in range(3)}) > 1


def test_a_training_is_charged_for_its_further_epochs_alone():
    iteration = sum(rung.size for bracket in BRACKETS for rung in bracket)
    epochs = sum(map(brackets.total_epochs, BRACKETS))
    assert runs(60).cost[:, :iteration].sum((1, 2)).tolist() == [epochs] * 3
    restarted = runs(60, restarting=True).cost[:, :iteration].sum((1, 2))
    whole = sum(map(brackets.total_epochs, map(brackets.restarting, BRACKETS)))
    assert restarted.tolist() == [whole] * 3 and whole > epochs


@pytest.mark.parametrize("options", [{"batch": 4}, {"workers": 3}], ids=str)
def test_side_by_side_every_rung_waits_for_the_one_before_and_nothing_is_idle(options):
    trace = runs(60 // options.get("batch", 1), **options)
    assert asked(trace.query).all()
    sizes = [[rung.size for rung in bracket] for bracket in BRACKETS]
    for seed in range(3):
        rows = flat(trace, seed)
        # Of iterations that are complete, each level has as many as the schedule says.
        counts = {e: sum(r[1] == e for r in rows[:44]) for e in LEVELS}
        expected = {
            e: sum(r.size for b in BRACKETS for r in b if r.epoch == e) for e in LEVELS
        }
        assert all(counts[e] >= 2 * expected[e] - sizes[0][0] for e in LEVELS)
        reached = {(row[0], row[1]) for row in rows}
        assert all(r[2] == 0 or (r[0], r[2]) in reached for r in rows)
        # The best of the first rung of all are promoted, unless they are equal.
        first = [r for r in rows if r[1] == 1][: sizes[0][0]]
        best = sorted(first, key=lambda r: -r[3])[: sizes[0][1]]
        goes_on = [r[0] for r in rows if r[1:3] == (3, 1)][: sizes[0][1]]
        assert sorted(goes_on) == sorted(r[0] for r in best)


@pytest.mark.parametrize("plan", [BRACKETS, BRACKETS[:1]])
def test_there_is_room_if_no_evaluation_finishes(plan):
    schedule = make_schedule(plan)
    for steps in range(200):
        opens = np.resize(schedule.opens, _room(plan, 4, steps))
        assert opens.sum() >= 4 * (steps + 1)


def test_a_budget_of_epochs_is_never_exceeded_and_nearly_spent():
    trace = runs(60, budget=50.0)
    spent = np.asarray(trace.cost, np.float64).sum((1, 2))
    assert (spent <= 50).all() and (spent > 50 - 9).all()


def test_levels_that_are_separate_trainings_are_charged_in_full():
    import test_evaluators

    table = test_evaluators.table(epochs=(3, 9))
    (rows,) = table.evaluate.args
    search = successive_halving(table.space, (3, 9), size=3, eta=3)
    trace = simulate(jax.random.split(jax.random.key(0), 2), search, table, 8)
    trace = jax.tree.map(lambda x: np.asarray(x)[..., 0], trace._replace(query=None))
    cost = np.asarray(rows.cost)[:, 0]
    assert trace.cost[:, 3].min() >= cost[:, 1].min()
    assert np.isin(trace.cost[:, 3], cost[:, 1]).all()
    assert np.isin(trace.cost[:, :3], cost[:, 0]).all()


def test_failed_trainings_go_on_only_if_nothing_else_does():
    search = hyperband(SPACE, BRACKETS)
    search_ask, search_tell = jax.jit(search.ask), jax.jit(search.tell)
    key = jax.random.key(0)
    state = search.grow(search.init(key), 20)
    for i in range(9):
        query = search_ask(jax.random.fold_in(key, i), state)
        arch = jnp.full((1, 3), i % 3).at[0, 2].set(i % 5)
        query = query._replace(arch=arch)
        score = jnp.array([jnp.nan if i < 7 else float(i)])
        result = synthetic.Result(score, score[:, None], jnp.ones(1))
        state = search_tell(state, query, result)
    asks = []
    for _ in range(3):
        query = search_ask(key, state)
        asks.append(query.arch[0].tolist())
        result = synthetic.Result(jnp.ones(1), jnp.ones((1, 1)), jnp.ones(1))
        state = search_tell(state, query, result)
    assert asks == [[2, 2, 3], [1, 1, 2], [0, 0, 0]]


def test_it_runs_with_the_asynchronous_driver_and_resumes(tmp_path):
    def objective(arch, epoch, start):
        time.sleep(0.001 * (epoch - start))
        return {
            "score": sum(map(int, arch.split(","))) + epoch / 10,
            "cost": epoch - start,
        }

    search = hyperband(SPACE, BRACKETS)
    key = jax.random.key(3)
    with ThreadPoolExecutor(3) as executor:
        for steps in (11, 26):
            history = drive.optimise(
                key, search, objective, steps, tmp_path / "run", executor=executor
            )
    assert len(history) == 26 and not any(e.error for e in history)
    trained = [(e.arch, e.epoch) for e in history]
    assert all(e.start == 0 or (e.arch, e.start) in trained for e in history)
    assert {e.epoch for e in history} == set(LEVELS)


@pytest.mark.parametrize(("batch", "workers"), [(8, 1), (1, 8)])
def test_samplers_see_the_architectures_that_are_in_flight(batch, workers):
    sampler = kde.kde_sampler(nasbench201.SPACE, random=0.0, repeats=False)
    benchmark = synthetic.synthetic_benchmark(
        jax.random.key(1), nasbench201.SPACE, epochs=9
    )
    plan = brackets.hyperband_brackets((1, 3, 9), 3)
    search = hyperband(nasbench201.SPACE, plan, sampler=sampler, batch=batch)
    keys = jax.random.split(jax.random.key(0), 2)
    trace = simulate(keys, search, benchmark, 160 // batch, workers=workers)
    arch = np.asarray(trace.query.arch).reshape(2, -1, 6)
    begins = (np.asarray(trace.query.start) == 0).reshape(2, -1)
    for seed in range(2):
        own = [tuple(a) for a in arch[seed][begins[seed]].tolist()]
        # Where all candidates are known, one is drawn uniformly.
        assert len(own) > 50 and len(own) - len({*own}) <= 2


def evaluations(num=60, seed=0):
    rng = np.random.default_rng(seed)
    arch = np.stack([rng.integers(0, c, num) for c in SPACE.choices], 1)
    score = arch[:, 0] + 0.3 * rng.normal(size=num)
    score[5] = np.nan
    level = rng.integers(0, 3, num)
    done = np.arange(num) < 50
    kinds = jnp.int32, jnp.float32, jnp.int32, bool, bool
    columns = zip((arch, score, level, done, done), kinds, strict=True)
    arrays = [jnp.asarray(x, kind) for x, kind in columns]
    return samplers.Observations(*arrays, jnp.asarray(LEVELS))


def test_densities_are_the_mean_of_products_of_kernels():
    seen = evaluations()
    rows = seen.done & (seen.level == 1)
    index, counts, bad = kde.split(seen.score, rows, 0.15, 4)
    widths = kde.normal_reference(SPACE, seen.arch[index], counts)
    good = kde.Density(seen.arch[index], counts, widths)
    scores = np.where(rows & ~jnp.isnan(seen.score), seen.score, -np.inf)
    best = np.argsort(-scores)[:4]
    np.testing.assert_array_equal(index[counts], np.sort(best))
    np.testing.assert_array_equal(
        np.flatnonzero(bad), np.setdiff1d(np.flatnonzero(rows), best)
    )
    arch, h = np.asarray(seen.arch)[best], np.asarray(good.bandwidth)
    np.testing.assert_allclose(
        h, np.minimum(1.06 * arch.std(0) * 4 ** (-1 / 7), [3 / 4, 2 / 3, 4 / 5]), 1e-5
    )
    x = np.array([[1, 2, 3], [3, 0, 0]])
    others = np.array(SPACE.choices) - 1
    kernel = np.where(x[:, None] == arch, 1 - h, h / others)
    expected = np.log(np.maximum(kernel, 1e-12).prod(-1).mean(1))
    np.testing.assert_allclose(
        kde.log_density(SPACE, good, jnp.asarray(x)), expected, 1e-4
    )


def test_the_model_is_of_the_highest_level_with_enough_evaluations():
    seen = evaluations()
    rows, enough = kde.model_rows(seen, 4)
    assert enough and (rows == (seen.done & (seen.level == 2))).all()
    few = seen._replace(done=seen.done & ((seen.level != 2) | (jnp.arange(60) < 9)))
    assert (kde.model_rows(few, 4)[0] == (few.done & (few.level == 1))).all()
    assert not kde.model_rows(seen, 30)[1]


@pytest.mark.parametrize("good", [0.0, 0.5, 1.0])
def test_there_are_enough_good_and_enough_bad_evaluations(good):
    seen = evaluations()
    for num in (8, 11, 40):
        index, counts, bad = kde.split(seen.score, jnp.arange(60) < num, good, 4)
        best = min(max(4, int(good * num)), num - 4)
        assert counts.sum() == best and bad.sum() == num - best
        density = kde.Density(seen.arch, bad, jnp.full(3, 0.1))
        assert jnp.isfinite(kde.log_density(SPACE, density, seen.arch)).all()


def test_the_sampler_of_bohb_prefers_what_was_good():
    def draws(**options):
        draw = kde.kde_sampler(SPACE, **options)
        keys = jax.random.split(jax.random.key(0), 200)
        return np.asarray(
            jax.jit(jax.vmap(draw, (0, None, None)))(keys, evaluations(), 0)
        )

    best = lambda archs: np.mean(archs[:, 0] == 3)  # noqa: E731
    archs = draws(random=0.0)
    assert best(archs) > 0.6 and 0.1 < best(draws(random=1.0)) < 0.4
    seen = {tuple(a) for a in np.asarray(evaluations().arch)[:50].tolist()}
    assert any(tuple(a) in seen for a in archs.tolist())
    new = draws(random=0.0, repeats=False)
    assert best(new) > 0.6 and not any(tuple(a) in seen for a in new.tolist())


def test_priorband_mixes_uniform_prior_and_incumbent():
    prior = [np.eye(c)[0] + 1e-3 for c in SPACE.choices]
    draw = priorband.priorband_sampler(SPACE, prior, mutation=0.25)
    draw = jax.jit(jax.vmap(draw, (0, None, None)))
    keys = jax.random.split(jax.random.key(0), 400)

    def share(level, seen, arch):
        draws = draw(keys, seen, jnp.int32(level))
        return float((draws == jnp.asarray(arch)).all(1).mean())

    seen = evaluations()
    nothing = seen._replace(done=jnp.zeros(60, bool))
    # At level 0 half of the draws are of the prior, which is all but one architecture.
    assert 0.43 < share(0, nothing, [0, 0, 0]) < 0.59
    assert 0.83 < share(2, nothing, [0, 0, 0]) < 0.97
    # The good ones have a 3 in front, which the prior all but excludes.
    best = priorband.incumbent(seen)
    assert best[0] == 3 and share(2, seen, best) > 0.9 * 0.75**3 - 0.1
    assert share(2, seen, [0, 0, 0]) < 0.05
    near = priorband.near_incumbent(
        jnp.asarray(samplers.choice_mask(SPACE)), best, 0.25
    )
    np.testing.assert_allclose(np.exp(near).sum(1), 1, 1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: brackets.geometric_levels(9, 0, 3), "min_epoch must be at least 1"),
        (lambda: brackets.geometric_levels(9, 1, 1), "eta must be a number above 1"),
        (
            lambda: brackets.hyperband_brackets((1, 3), 1),
            "eta must be a number above 1",
        ),
        (lambda: brackets.geometric_levels(3, 4), "at least min_epoch = 4"),
        (lambda: brackets.hyperband_brackets((3, 1)), "ascend"),
        (lambda: brackets.hyperband_brackets((0, 1)), "level 0 must be at least 1"),
        (lambda: brackets.halving_bracket(8, (1, 3, 9), 3), "too small for 3 rungs"),
        (lambda: hyperband(SPACE, ()), "at least one bracket"),
        (lambda: hyperband(SPACE, BRACKETS, batch=0), "batch must be at least 1"),
        (lambda: kde.kde_sampler(SPACE, good=2), "good must be a share"),
        (
            lambda: kde.kde_sampler(SPACE, memory=7),
            "memory must be at least 8, for min_points = 4 good and as many bad .*, not 7",
        ),
        (lambda: samplers.prior_sampler(SPACE, [[1], [1], [1]]), "probabilities of"),
        (
            lambda: samplers.prior_sampler(SPACE, [[0] * 4, [1] * 3, [1] * 5]),
            "position 0",
        ),
    ],
)
def test_bad_input_is_one_error_in_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()
