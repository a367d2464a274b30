"""Curve-aware searches against a loop in Python around the search inside."""

import functools
import inspect
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drive_toy import linear_ensemble

from jaxnas.benchmarks import synthetic
from jaxnas.curves.extrapolate.last import last_value
from jaxnas.curves.extrapolate.mixture import wpm
from jaxnas.curves.extrapolate.types import Extrapolator
from jaxnas.predictors.pool import make_pool
from jaxnas.search import drive
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.fidelity import curve_gates
from jaxnas.search.fidelity.curve_aware import curve_aware
from jaxnas.search.fidelity.curve_state import COMPLETE, PASSED, threshold
from jaxnas.search.gp import proposals
from jaxnas.search.gp.pool_search import bayesopt
from jaxnas.search.gp.sampled_search import bayesopt_sampled
from jaxnas.search.local_search import local_search
from jaxnas.search.loop import run, simulate
from jaxnas.search.neural_predictor import bananas
from jaxnas.search.random import random_search
from jaxnas.spaces import base, features
from jaxnas.types import FULL_TRAINING, Query, Result, asked

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (4, 3, 5))
FEW, LAST, INIT, STEPS = 3, 9, 6, 50
QUANTILE = 0.3
HOT = features.one_hot_encoder(SPACE.choices)
INSIDE = {
    "random": lambda **o: random_search(SPACE, **o),
    "evolution": lambda **o: regularized_evolution(SPACE, population=6, **o),
    "local": lambda **o: local_search(SPACE, init=INIT, **o),
    "bayesopt": lambda **o: bayesopt(
        make_pool(SPACE, [lambda a: (HOT(a),)]), init=4, **o
    ),
    "sampled": lambda **o: bayesopt_sampled(
        SPACE, [lambda a: (HOT(a),)], proposals.uniform(SPACE, 60), init=4, **o
    ),
    "bananas": lambda **o: bananas(
        SPACE, HOT, init=4, round_size=4, candidates=20, ensemble=linear_ensemble, **o
    ),
}


@functools.cache
def benchmark():
    return synthetic.synthetic_benchmark(jax.random.key(1), SPACE, epochs=LAST)


@functools.cache
def inside(name, batch=1):
    return INSIDE[name](batch=batch)


def wrapped(name, batch=1, **options):
    options = {"init": INIT, "quantile": QUANTILE} | options
    return curve_aware(inside(name, batch), last_value(), FEW, **options)


@functools.cache
def runs(name, steps=STEPS, batch=1, workers=1, **options):
    keys = jax.random.split(jax.random.key(0), 2)
    search = wrapped(name, batch, **options)
    trace = simulate(keys, search, benchmark(), steps, workers=workers)
    return keys, jax.tree.map(np.asarray, trace)


def whole(arch, epoch):
    one = jnp.full(1, epoch, jnp.int32)
    return Query(jnp.asarray(arch)[None], one, jnp.zeros(1, jnp.int32))


def python_loop(key, search, steps, target):
    """Algorithm 2 with the last value, which is what it is after any mean growth."""
    key_init, key_run = jax.random.split(key)
    ask, tell, expect = map(jax.jit, (search.ask, search.tell, search.expect))
    evaluate = jax.jit(benchmark().evaluate)
    state, queries, pending, complete, growth = search.init(key_init), [], None, [], []
    for step in range(steps):
        if pending is not None:
            arch, start, epoch, pending = pending, FEW, FULL_TRAINING, None
        else:
            key = jax.random.split(jax.random.fold_in(key_run, step))[0]
            arch, start = np.asarray(ask(key, state).arch[0]), 0
            epoch = FULL_TRAINING if len(queries) < INIT else FEW
        queries.append((*arch.tolist(), start, min(epoch, LAST)))
        result = evaluate(key, whole(arch, epoch))
        curve = np.asarray(result.curve[0])
        if epoch == FEW:
            worst = sorted(complete)[-max(1, int(QUANTILE * len(complete)))]
            if curve[FEW - 1] + np.mean(growth) > worst:
                pending = arch
            else:
                state = expect(state, whole(arch, FULL_TRAINING))
        else:
            value = curve[(target or LAST) - 1]
            complete.append(value)
            growth.append(value - curve[FEW - 1])
            state = tell(state, whole(arch, FULL_TRAINING), result)
    return queries


@pytest.mark.parametrize(
    ("name", "target"), [("random", None), ("evolution", 6), ("local", None)]
)
def test_queries_are_those_of_a_python_loop(name, target):
    keys, trace = runs(name, target=target)
    for i, key in enumerate(keys):
        query = trace.query
        rows = np.concatenate(
            [query.arch[i, :, 0], query.start[i], query.epoch[i]], axis=1
        )
        expected = python_loop(key, inside(name), STEPS, target)
        assert rows.tolist() == [list(row) for row in expected]
    parts = set(zip(query.start.ravel(), query.epoch.ravel(), strict=True))
    assert parts == {(0, LAST), (0, FEW), (FEW, LAST)}


def test_a_complete_training_costs_its_epochs_once():
    _, trace = runs("evolution", target=6)
    for i in range(2):
        begun = trace.query.start[i, :, 0] == 0
        stopped = (trace.query.epoch[i, :, 0] == FEW).sum() - (~begun).sum()
        complete = begun.sum() - stopped
        assert trace.cost[i].sum() == LAST * complete + FEW * stopped


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("evolution", {"batch": 3}),
        ("evolution", {"workers": 3}),
        ("bayesopt", {"rejected": "predicted", "quantile": 0.8, "init": 4}),
    ],
    ids=str,
)
def test_side_by_side_every_training_goes_on_at_most_once(name, options):
    size = 24 if name == "evolution" else 12
    _, trace = runs(name, size // options.get("batch", 1), **options)
    assert asked(trace.query).all()
    all_further = []
    for i in range(2):
        arch = trace.query.arch[i].reshape(-1, 3).tolist()
        start, epoch = trace.query.start[i].ravel(), trace.query.epoch[i].ravel()
        rows = list(zip(map(tuple, arch), start, epoch, strict=True))
        brief = [row[0] for row in rows if row[2] == FEW]
        further = [row[0] for row in rows if row[1] == FEW]
        assert all(further.count(a) <= brief.count(a) for a in further)
        all_further += further
        if name == "bayesopt":  # which asks nothing twice
            assert len(set(rows)) == len(rows)
    assert all_further


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ["bayesopt", "sampled", "bananas"])
def test_a_model_learns_from_complete_trainings_alone(name, workers):
    search, evaluate = wrapped(name), benchmark().evaluate
    whole_run = lambda key: run(key, search, evaluate, 24, workers=workers)  # noqa: E731
    state, trace = jax.jit(whole_run)(jax.random.key(0))
    epoch, start = (np.asarray(x[:, 0]) for x in (trace.query.epoch, trace.query.start))
    stopped = (
        (epoch == FEW).sum() - (start == FEW).sum() - (state.status == PASSED).sum()
    )
    assert stopped > 5
    complete = np.asarray(trace.score)[epoch == FULL_TRAINING, 0]
    assert state.inside.count == len(complete) == (state.status == COMPLETE).sum()
    scores = state.inside.score[: len(complete)]
    np.testing.assert_array_equal(scores, complete)
    # Nothing that was stopped is asked again.
    begun = np.asarray(trace.query.arch)[start == 0, 0]
    assert len(np.unique(begun, axis=0)) == len(begun)


@pytest.mark.parametrize("options", [{}, {"batch": 3}], ids=str)
def test_an_architecture_is_drawn_until_it_is_new(options):
    repeats = {}
    for tries in (1, 64):
        steps = 30 // options.get("batch", 1)
        _, trace = runs("random", steps, tries=tries, **options)
        begun = asked(trace.query) & (trace.query.start == 0)
        stopped = begun & (trace.query.epoch == FEW)
        assert stopped.sum() > 6
        ranks = base.rank(SPACE, jnp.asarray(trace.query.arch))
        earlier = [
            np.isin(now[on], before[was])
            for rank, active in zip(np.asarray(ranks), begun, strict=True)
            for now, on, before, was in (
                (rank[i], active[i], rank[:i], active[:i]) for i in range(len(rank))
            )
        ]
        repeats[tries] = np.concatenate(earlier).sum()
    assert repeats[64] == 0 < repeats[1]


def test_after_so_many_draws_a_repeated_architecture_is_taken():
    one = base.product("one", (1,))
    made = synthetic.synthetic_benchmark(jax.random.key(1), one, epochs=LAST)
    search = curve_aware(random_search(one), last_value(), FEW, init=2, tries=3)
    trace = simulate(jax.random.split(jax.random.key(0), 1), search, made, 5)
    assert asked(trace.query).all()


def test_the_threshold_is_the_worst_of_the_best():
    value = jnp.array([3.0, jnp.nan, 1, 5, 2, 4, 9])
    complete = jnp.arange(7) < 6
    for quantile, expected in ((0, 5), (0.2, 5), (0.5, 4), (0.6, 3), (1, 1)):
        assert threshold(value, complete, quantile) == expected
    assert threshold(value, complete & False, 0.5) == -np.inf


def test_a_prediction_that_is_not_a_number_stops_a_training():
    never = Extrapolator(
        lambda curves, *rest: jnp.zeros(()), lambda *rest: (jnp.nan, jnp.nan)
    )
    search = curve_aware(inside("random"), never, FEW, init=2)
    keys = jax.random.split(jax.random.key(0), 1)
    epoch = simulate(keys, search, benchmark(), 8).query.epoch
    assert epoch.ravel().tolist() == [LAST] * 2 + [FEW] * 6


@pytest.mark.parametrize(("confidence", "most"), [(0.05, True), (0.95, False)])
def test_confidence_moves_the_gate(confidence, most):
    _, trace = runs("random", confidence=confidence)
    share = (trace.query.start[:, :, 0] > 0).mean()
    _, even = runs("random", target=None)
    assert (share > (even.query.start[:, :, 0] > 0).mean()) == most


def test_the_driver_goes_on_from_checkpoints(tmp_path):
    def objective(arch, epoch, start, folder):
        epoch = LAST if epoch is None else epoch
        final = sum(map(int, arch.split(",")))
        curve = [final * e / LAST for e in range(1, epoch + 1)]
        return {"score": curve[-1], "cost": epoch - start, "curve": curve}

    search = wrapped("evolution", last=LAST, quantile=0.9)
    options = {"points": LAST}
    with ThreadPoolExecutor(2) as executor:
        for steps in (9, 24):
            done = drive.optimise(
                jax.random.key(0),
                search,
                objective,
                steps,
                tmp_path,
                executor=executor,
                **options,
            )
    assert len(done) == 24 and not any(e.error for e in done)
    assert {(e.start, e.epoch) for e in done} == {(0, LAST), (0, FEW), (FEW, LAST)}


@pytest.mark.parametrize("epoch", [FEW - 1, FEW + 1, LAST - 1])
def test_a_training_to_another_epoch_changes_nothing(epoch):
    search = wrapped("evolution", last=LAST)
    state = search.grow(search.init(jax.random.key(0)), 6)
    state = search.tell(state, *result_at(LAST, 50.0))
    after = search.tell(state, *result_at(epoch, 99.0))
    jax.tree.map(np.testing.assert_array_equal, after, state)
    assert (
        search.tell(state, *result_at(LAST + 1, 99.0)).status == COMPLETE
    ).sum() == 2


def result_at(epoch, score):
    """The query of one training from the start, and its result."""
    curve = jnp.where(jnp.arange(1, LAST + 2) <= epoch, score, jnp.nan)[None]
    return whole([1, 2, 3], epoch), Result(jnp.full(1, score), curve, jnp.ones(1))


def test_gates_of_the_paper_and_of_its_program():
    assert curve_gates.paper(20) == (20, 0.2, None)
    table = {
        ("nb111", "evolution", "wpm"): (12, 0.2, 35),
        ("nb111", "evolution", "svr"): (12, 0.5, 107),
        ("nb111", "local", "svr"): (12, 0.2, 107),
        ("nb201", "local", "wpm"): (20, 0.5, 100),
        ("nb311", "bananas", "svr"): (20, 0.2, 48),
        ("nlp11", "evolution", "wpm"): (10, 0.5, 49),
        ("nlp11", "bananas", "wpm"): (10, 0.2, 49),
    }
    for names, gate in table.items():
        assert curve_gates.reference(*names) == gate
    with pytest.raises(ValueError, match="no released settings of 'nb999'"):
        curve_gates.reference("nb999", "local", "wpm")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"quantile": 1.5}, "quantile must be between 0 and 1"),
        ({"target": 2}, "target must be at least epochs = 3"),
        ({"levels": (1, 2, 4)}, "epochs = 3 is not one of the levels"),
        ({"levels": (3, 1)}, "levels must be ascending epochs from 1 on"),
        ({"levels": (0, 3)}, "levels must be ascending epochs from 1 on"),
        ({"last": 3}, "last must be after epochs = 3"),
        ({"confidence": 1.0}, "confidence must be between"),
        ({"rejected": "lost"}, "must be 'ignored' or 'predicted'"),
    ],
)
def test_bad_input_is_one_error_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        curve_aware(inside("random"), last_value(), **({"epochs": FEW} | options))


@pytest.mark.parametrize(
    ("target", "epochs", "message"),
    [
        (None, FEW, "make it with target="),
        (LAST, FEW - 1, "reads 3 values of a curve, of which 2"),
    ],
)
def test_extrapolators_that_can_predict_no_training_are_refused(
    target, epochs, message
):
    with pytest.raises(ValueError, match=message):
        curve_aware(inside("random"), wpm(target), epochs)


def test_curves_that_are_too_short_are_refused():
    def evaluate(key, query):
        del key
        score = jnp.zeros(1)
        return Result(score, score[:, None], score)

    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="have 1 values, of which 3 are needed"):
        simulate(keys, wrapped("random"), evaluate, 3)
    with pytest.raises(ValueError, match="have 1 values, of which 9 are needed"):
        simulate(keys, wrapped("random", target=LAST), evaluate, 3)


def test_twenty_complete_trainings_before_the_first_decision_are_the_default():
    assert inspect.signature(curve_aware).parameters["init"].default == 20
