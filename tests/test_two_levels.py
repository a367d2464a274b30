"""A search at a low fidelity with complete trainings of its best between."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.benchmarks import synthetic
from jaxnas.predictors.pool import make_pool
from jaxnas.search import presets
from jaxnas.search.common import train_from_scratch
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.fidelity.rhythm import Group, Rhythm, short_steps, steps_with
from jaxnas.search.fidelity.two_levels import two_levels
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.loop import run, simulate
from jaxnas.search.random import random_search
from jaxnas.spaces import base, features, nasbench201
from jaxnas.types import Query, Result, asked

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (4, 3, 5))
LOW, LAST = 2, 9
SIZES = {"first": 7, "short": 4, "complete": 2}


@functools.cache
def benchmark():
    return synthetic.synthetic_benchmark(jax.random.key(1), SPACE, epochs=LAST)


@functools.cache
def evolution(batch=1):
    return regularized_evolution(SPACE, population=5, tournament=2, batch=batch)


@functools.cache
def runs(steps, batch=1, workers=1, **options):
    search = two_levels(evolution(batch), LOW, **SIZES | options)
    keys = jax.random.split(jax.random.key(0), 2)
    trace = simulate(keys, search, benchmark(), steps, workers=workers)
    return jax.tree.map(np.asarray, trace)


def replay(archs, scores, epochs, first, short, complete, patience):
    """Checks which trainings are complete, and of what, in a run one after another.

    Returns: the sizes of the groups of complete trainings that have ended.
    """
    rows, taken, best, sizes = {}, set(), -np.inf, []
    begin, group, stale = first, 0, 0
    for number, (arch, score, epoch) in enumerate(
        zip(archs, scores, epochs, strict=True)
    ):
        arch, left = tuple(arch), [a for a in rows if a not in taken]
        due = number - len(taken) >= begin and bool(left)
        assert (epoch == LAST) == due, number
        if not due:
            rows.setdefault(arch, score)
            continue
        assert arch == max(left, key=rows.get)
        taken.add(arch)
        group, stale = group + 1, 0 if score > best else stale + 1
        best = max(best, score)
        if group == complete or stale == patience:
            sizes.append(group)
            begin, group, stale = begin + short, 0, 0
    return sizes


@pytest.mark.parametrize("patience", [None, 1, 2])
def test_complete_trainings_are_of_the_best_of_the_short_ones(patience):
    sizes = SIZES | {"complete": 3} if patience else SIZES
    trace = runs(40, **sizes, patience=patience)
    for i in range(2):
        columns = (
            x[i, :, 0].tolist()
            for x in (trace.query.arch, trace.score, trace.query.epoch)
        )
        groups = replay(*columns, **sizes, patience=patience or sizes["complete"])
        assert len(groups) > 4
        assert (len(set(groups)) > 1) == bool(patience)  # some end early, some do not
    parts = set(zip(trace.query.start.ravel(), trace.query.epoch.ravel(), strict=True))
    assert parts == {(0, LOW), (LOW, LAST)}
    assert (trace.cost == trace.query.epoch - trace.query.start).all()


@pytest.mark.parametrize("best", [-np.inf, 2.0])
def test_results_of_a_batch_count_in_their_order(best):
    scores = np.array([1.0, 3.0, np.nan, 2.0, 3.0, 2.5])
    for active in itertools.product([False, True], repeat=6):
        stale, top = 2, best
        for score, on in zip(scores, active, strict=True):
            if on:
                stale = 0 if score > top else stale + 1
                top = np.fmax(top, score)
        given = jnp.float32(best), jnp.asarray(scores), jnp.array(active)
        for short, wanted in ((6, 2), (7, stale)):  # before the group and within
            group = Group(jnp.int32(7), jnp.int32(9), jnp.int32(2))
            assert group.told(jnp.int32(short), *given).stale == wanted
            assert wanted < 9


@pytest.mark.parametrize(
    ("complete", "stale", "after"),
    [
        (8, 1, (7, 9, 1)),  # under way
        (8, 2, (11, 10, 0)),  # ended early: what was left of it is not made up for
        (9, 0, (11, 11, 0)),
        (10, 0, (11, 11, 0)),  # the surplus of a batch counts
    ],
)
def test_the_next_group_follows_one_that_has_ended(complete, stale, after):
    group = Group(jnp.int32(7), jnp.int32(9), jnp.int32(stale))
    assert _rhythm().after(group, jnp.int32(7), jnp.int32(complete)) == after
    # The next one has not begun, and so cannot end.
    assert _rhythm().after(group, jnp.int32(6), jnp.int32(complete)) == group


def completed(search, scores, batch):
    """The rows of the first trainings that are completed after short ones."""
    archs = jnp.asarray(base.every(SPACE)[: len(scores)])
    state = search.grow(search.init(jax.random.key(0)), len(scores))
    ask, tell = jax.jit(search.ask), jax.jit(search.tell)
    for begin in range(0, len(scores), batch):
        arch, score = archs[begin : begin + batch], scores[begin : begin + batch]
        query = train_from_scratch(arch, LOW)
        state = tell(state, query, Result(score, score[:, None], jnp.ones(batch)))
    rows = []
    for _ in range(len(scores) // batch):
        query = ask(jax.random.key(1), state)
        rows += [int(jnp.argmax((archs == arch).all(1))) for arch in query.arch]
        state = search.expect(state, query)
    return rows


def test_failed_trainings_are_completed_last_whatever_their_rank():
    def earlier(inside, arch, score, final):
        return -jnp.arange(len(score), dtype=float)

    sizes = {"first": 4, "short": 4, "complete": 4}
    search = two_levels(evolution(), LOW, rank=earlier, **sizes)
    scores = jnp.array([jnp.nan, 0.1, jnp.nan, 0.2])
    assert completed(search, scores, 1) == [1, 3, 0, 2]


@pytest.mark.parametrize("batch", [1, 3])
def test_complete_trainings_follow_several_orders_in_turn(batch):
    def ends(inside, arch, score, final):
        row = jnp.arange(len(score), dtype=float)
        return jnp.stack([-row, row])

    sizes = {"first": 6, "short": 6, "complete": 6}
    search = two_levels(evolution(batch), LOW, rank=ends, **sizes)
    assert completed(search, jnp.ones(6), batch) == [0, 5, 1, 4, 2, 3]


@pytest.mark.parametrize("shape", [(), (5,), (6, 1), (0, 6), (1, 2, 6)])
def test_a_rank_has_a_value_for_each_row(shape):
    sizes = {"first": 6, "short": 6, "complete": 6}
    search = two_levels(evolution(), LOW, rank=lambda *_: jnp.zeros(shape), **sizes)
    state = search.grow(search.init(jax.random.key(0)), 6)
    with pytest.raises(ValueError, match=r"rank must return .* \(6,\)"):
        jax.eval_shape(search.ask, jax.random.key(1), state)


def test_the_search_inside_learns_from_short_trainings_alone():
    search = two_levels(evolution(), LOW, **SIZES)
    state, _ = jax.jit(lambda key: run(key, search, benchmark(), 24))(jax.random.key(3))
    assert state.inside.age == state.count == short_steps(_rhythm(), 24) < 24
    assert np.isin(state.inside.score, state.score).all()


def test_a_state_has_room_if_every_group_ends_early():
    def same(key, query):
        score = jnp.where(asked(query), 0.5, jnp.nan)
        return Result(score, score[:, None], jnp.ones_like(score))

    search = two_levels(evolution(), LOW, **SIZES, patience=1)
    state, trace = jax.jit(lambda key: run(key, search, same, 30))(jax.random.key(3))
    short = int((trace.query.epoch == LOW).sum())
    # Only the first group has a training that is better than those before it.
    assert short == 30 - 6 and short_steps(_rhythm(), 30) < short
    assert state.count == state.inside.age == short <= len(state.score)


def test_repeated_architectures_have_room():
    small = base.product("small", (3, 2))
    search = two_levels(random_search(small), LOW, first=1, short=1, complete=10)
    made = synthetic.synthetic_benchmark(jax.random.key(1), small, epochs=LAST)
    state, trace = jax.jit(lambda key: run(key, search, made, 200))(jax.random.key(3))
    complete = trace.query.arch[trace.query.epoch > LOW]
    assert len(complete) == len(np.unique(complete, axis=0)) == small.size
    assert state.count == 200 - small.size <= len(state.score)


@pytest.mark.parametrize(
    ("sizes", "batch", "begun"),
    [
        (SIZES, 1, 14),
        ({}, 1, 14),  # fewer candidates than short trainings before the first group
        ({"first": 14}, 4, 12),  # the same, as two are too few for a batch
    ],
)
def test_a_search_that_has_begun_all_completes_them_and_asks_nothing(
    sizes, batch, begun
):
    hot = features.one_hot_encoder(SPACE.choices)
    pool = make_pool(SPACE, [lambda arch: (hot(arch),)], arch=base.every(SPACE)[:14])
    inside = bayesopt(pool, init=4, batch=batch)
    search = two_levels(inside, LOW, **sizes, patience=1)
    trace = simulate(jax.random.split(jax.random.key(0), 2), search, benchmark(), 30)
    flat = jax.tree.map(lambda x: np.asarray(x).reshape(2, 30 * batch, -1), trace.query)
    active = np.asarray(asked(trace.query)).reshape(2, -1)
    for arch, epoch, on in zip(flat.arch, flat.epoch[..., 0], active, strict=True):
        assert on.sum() == 2 * begun and on[: 2 * begun].all()
        for level in (LOW, LAST):
            assert len(np.unique(arch[on & (epoch == level)], axis=0)) == begun


def _rhythm(batch=1, patience=2):
    return Rhythm(LOW, LAST, *SIZES.values(), patience, True, batch, 3, None)


@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_the_count_of_short_steps_is_that_of_a_loop(batch, patience):
    rhythm, short, complete = _rhythm(batch, patience), 0, 0
    group, after = rhythm.first_group(), jax.jit(rhythm.after)
    for step in range(60):
        most = short_steps(rhythm, step)
        # A batch may be more than the patience, which the bound does not count.
        assert most == short or (batch > patience and most > short)
        if short * batch >= group.begin:
            # The fewest are complete if none improves.
            complete += 1
            group = group._replace(stale=group.stale + batch)
        else:
            assert steps_with(rhythm, short) <= step
            short += 1
        group = after(group, jnp.int32(short * batch), jnp.int32(complete * batch))


@pytest.mark.parametrize(
    "options",
    [{"batch": 3}, {"workers": 3}, {"workers": 3, "patience": 1}],
    ids=str,
)
def test_side_by_side_nothing_is_trained_to_the_end_twice(options):
    trace = runs(30 // options.get("batch", 1), **options)
    for i in range(2):
        arch = trace.query.arch[i].reshape(-1, 3).tolist()
        active, epoch = asked(trace.query)[i].ravel(), trace.query.epoch[i].ravel()
        brief = {tuple(a) for a, e in zip(arch, epoch, strict=True) if e == LOW}
        complete = [
            tuple(a)
            for a, e, on in zip(arch, epoch, active, strict=True)
            if e == LAST and on
        ]
        assert len(set(complete)) == len(complete) > 4 and set(complete) <= brief


def told(search, state, arch, epoch, score, start=None):
    """The state after the scores of architectures, all trained to one epoch."""
    slots = jnp.full(len(score), epoch, jnp.int32)
    begin = jnp.zeros_like(slots) if start is None else slots - epoch + start
    score = jnp.asarray(score, float)
    result = Result(score, score[:, None], jnp.ones(len(score)))
    return search.tell(state, Query(jnp.asarray(arch), slots, begin), result)


def pairs():
    """Two slots, a complete training to `LAST`, and two short ones finished."""
    search = two_levels(evolution(2), LOW, last=LAST, **SIZES)
    state = search.grow(search.init(jax.random.key(0)), 6)
    return search, told(search, state, [[0, 0, 0], [1, 0, 0]], LOW, [5.0, 4.0])


@pytest.mark.parametrize("epoch", [LOW - 1, LOW + 3])
def test_a_training_to_another_epoch_changes_nothing(epoch):
    search, state = pairs()
    after = told(search, state, [[0, 0, 0], [2, 0, 0]], epoch, [7.0, 8.0])
    jax.tree.map(np.testing.assert_array_equal, after, state)
    longer = told(search, state, [[0, 0, 0], [2, 0, 0]], LAST + 1, [7.0, 8.0])
    assert longer.complete == 2 and longer.final[0] == 7


@pytest.mark.parametrize(
    ("scores", "final"),
    [((7, 8), 7.5), ((7, np.nan), 7), ((np.nan, 8), 8), ((np.nan, np.nan), np.nan)],
)
def test_the_final_score_of_two_trainings_is_their_mean(scores, final):
    search, state = pairs()
    after = told(search, state, [[0, 0, 0]] * 2, LAST, scores, start=LOW)
    rows = np.arange(len(after.final))
    np.testing.assert_array_equal(after.final, np.where(rows == 0, final, np.nan))
    # A repetition that fails takes no score away.
    again = told(search, after, [[0, 0, 0]] * 2, LAST, [np.nan] * 2, start=LOW)
    np.testing.assert_array_equal(again.final, after.final)


def test_trainings_of_their_own_begin_at_epoch_0():
    query = runs(20, continues=False).query
    assert (query.start == 0).all() and set(query.epoch.ravel()) == {LOW, LAST}


def test_stages_follow_those_of_the_search_inside():
    hot = features.one_hot_encoder(SPACE.choices)
    inside = bayesopt(make_pool(SPACE, [lambda arch: (hot(arch),)]), init=4)
    search = two_levels(inside, LOW, **SIZES)
    long, brief = search.stages(60), search.stages(13)
    assert long[: len(brief)] == brief and brief[-1].end >= 13
    ends = [short_steps(_rhythm(), stage.end) for stage in long]
    assert ends == [stage.end for stage in inside.stages(ends[-1])]


def test_the_preset_takes_the_first_level_from_5_percent_on():
    archs = base.every(nasbench201.SPACE)[::400]
    for epochs, low in (((12, 200), 12), (range(1, 201), 10), ((3, 8, 20, 100), 8)):
        search = presets.gp_two_levels(nasbench201.SPACE, archs, epochs=epochs)
        rhythm = search.stages.args[0]
        assert (rhythm.low, rhythm.last, rhythm.first) == (low, max(epochs), 100)
        assert (rhythm.short, rhythm.complete, rhythm.patience) == (50, 10, 5)
    evaluate = synthetic.synthetic_benchmark(jax.random.key(1), nasbench201.SPACE)
    steps = jax.eval_shape(lambda key: run(key, search, evaluate, 2), jax.random.key(0))
    assert steps[1].query.arch.shape == (2, 1, 6)  # one architecture a step
    with pytest.raises(ValueError, match="wanted a level between 5% of the last one"):
        presets.gp_two_levels(nasbench201.SPACE, archs, epochs=(1, 200))


@pytest.mark.parametrize(("every", "first"), [(7, 10), (400, 5)])
def test_the_preset_begins_with_ten_random_ones_or_all_of_fewer(every, first):
    archs = base.every(nasbench201.SPACE)[::every]
    search = presets.gp_two_levels(nasbench201.SPACE, archs, epochs=(12, 200))
    assert search.stages(99)[0].end == first == min(10, len(search.candidates))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0}, "low must be at least 1"),
        ({"last": 2}, "last must be after low = 2"),
        ({"complete": 0}, "complete must be at least 1"),
        ({"first": 0}, "first must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
    ],
)
def test_bad_input_is_one_error_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        two_levels(evolution(), **({"low": LOW} | options))


def test_a_state_that_has_room_grows_no_further():
    search = two_levels(evolution(), LOW, **SIZES)
    state = search.grow(search.init(jax.random.key(0)), 12)
    again = search.grow(state, 12)
    assert jax.tree.map(jnp.shape, again) == jax.tree.map(jnp.shape, state)
