"""The benchmark at a tiny size, and whether its peers compute what ours does."""

import csv
import dataclasses
import functools
import importlib
import json
import math
import sys
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import check_grad

from experiments import tw_sequential
from experiments.bench import config as config_module
from experiments.bench import (
    distances,
    dpp,
    fits,
    memory,
    peers,
    run,
    search,
    timing,
    transport,
    trees,
)
from experiments.bench.config import Config
from jaxnas import gp
from jaxnas.curves.extrapolate import families
from jaxnas.kernels import gram
from jaxnas.kernels import op_trees as tw
from jaxnas.search import loop
from jaxnas.search.base import Search
from jaxnas.search.gp import schedule
from jaxnas.spaces import nasbench201
from jaxnas.types import Query, Result

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = Config(
    sections=("search", "distances", "dpp", "trees"),
    ngrams=(1,),
    candidates=60,
    repeats=2,
    evaluations=10,
    init=3,
    at=(5, 9),
    block=16,
    peer_cells=20,
    pairs=6,
    items=30,
    subset=3,
    draws=40,
    trees=3,
)
SEARCH, DISTANCES = "one evaluation", "a pair of all"
DPP = ("a draw of k-DPP", "one draw of k-DPP", "the greedy choice")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "deep" / "out"
    return out, run.main(dataclasses.replace(TINY, out=str(out)))


def test_every_peer_is_measured_beside_ours(done):
    _, rows = done
    assert [r.what.split()[0] for r in rows if r.group.startswith(SEARCH)] == [
        *("jaxnas,", "scikit-learn,", "with", "and")
    ]
    ours = [r.what.split()[0] for r in rows if r.group.startswith(DISTANCES)][:7]
    assert ours == ["jaxnas", "scipy", "scipy", "and", "POT", "plain", "plain"]
    for group, peer in zip(DPP, ("DPPy", "DPPy", "NumPy"), strict=True):
        words = [
            r.what.split()[0].strip(",") for r in rows if r.group.startswith(group)
        ]
        assert (words[0], words[-1], len(words)) == ("jaxnas", peer, 3)
    for group in ("predictions of 60 cells", "a prediction of one cell"):
        some = [r.what.split()[0] for r in rows if r.group.startswith(group)]
        assert some == ["jaxnas", "jaxnas", "LightGBM,"]
    for row in rows:
        assert 0 < row.min <= row.median <= row.max
        assert row.first_s > 0 and row.cpu > 0 and row.ratio > 0
    ours = [r for r in rows if r.what.startswith("jaxnas")]
    assert all(r.ratio == 1 for r in ours if "float64" not in r.what)


def test_the_files_say_what_was_measured(done):
    out, rows = done
    assert sorted(p.name for p in out.iterdir()) == [
        "bench.csv",
        "bench.json",
        "settings.json",
    ]
    lines = list(csv.DictReader((out / "bench.csv").open()))
    assert [line["what"] for line in lines] == [row.what for row in rows]
    assert float(lines[1]["median"]) == pytest.approx(rows[1].median, rel=1e-5)
    stored = json.loads((out / "bench.json").read_text())
    assert stored["settings"]["evaluations"] == 10
    assert f"jax {jax.__version__}" in stored["machine"]
    assert len(stored["rows"]) == len(rows)


def test_the_compilation_cache_is_as_it_was(done):
    del done
    assert jax.config.jax_enable_compilation_cache


def test_the_table_has_every_number(capsys):
    row = timing.Measurement(
        "the group", "ours", "ms", 1.5, 2.0, 1.0, 3.0, 2.5, 1.0, 1.0
    )
    none = row._replace(what="theirs", first_s=math.nan, ratio=math.nan, median=12345.6)
    timing.show(timing.Console(), [row, none])
    text = capsys.readouterr().out
    for word in ("the group", "ms", "1.50 s", "(1.00 to 3.00)", "12,346", "theirs"):
        assert word in text
    assert "nan" not in text


def test_memory_is_that_of_the_job_alone():
    ours = np.ones(2**26)  # 512 MiB that the job does not have
    job = "import time; x = bytearray(b'1') * 2**27; time.sleep(0.1)"
    mebibytes, wall, cpu = memory.peak([sys.executable, "-c", job])
    assert ours.all() and 128 < mebibytes < 300
    assert wall > 0.1 and cpu > 0
    with pytest.raises(ValueError, match="failed: no such thing"):
        memory.peak([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_memory_is_of_the_main_comparison(monkeypatch):
    jobs = []
    monkeypatch.setattr(
        memory, "peak", lambda job: jobs.append(job) or (512.0, 9.0, 8.0)
    )
    config = dataclasses.replace(TINY, memory_seeds=3, memory_methods=("random",))
    used, took = memory.memory(config)
    assert (used.median, used.unit, took.median, took.unit) == (512, "MiB", 9, "s")
    assert "experiments.tw_sequential" in jobs[0]
    assert jobs[0][-2:] == ["--methods", "random"]
    flags = dict(zip(jobs[0][3:-2:2], jobs[0][4:-2:2], strict=True))
    known = {f.name for f in dataclasses.fields(tw_sequential.Config)}
    assert {flag[2:] for flag in flags} <= known and flags["--seeds"] == "3"


def test_transport_is_measured_and_compared():
    config = dataclasses.replace(TINY, transport_pairs=40, pairs=20, ott_pairs=0)
    rows = transport.transport(config)
    assert [r.what.split()[0].strip(",") for r in rows] == [
        *("jaxnas", "POT", "scipy"), *("jaxnas", "POT") * 4
    ]  # fmt: skip
    assert all(0 < r.min <= r.median and r.unit == "us" for r in rows)
    assert all(", rank " in r.what for r in rows if r.what.startswith("jaxnas"))


def test_calls_take_turns_in_runs_of_consecutive_ones():
    called = []
    calls = {name: functools.partial(called.append, name) for name in "ab"}
    times = timing.in_turn(calls, 5, consecutive=2)
    assert "".join(called) == "ab" + "aabb" + "aabb" + "ab"
    assert all(t.wall.shape == t.cpu.shape == (5,) for t in times.values())


def test_suggestions_are_measured_beside_other_packages():
    for package in config_module.SECTIONS["suggestions"].packages:
        pytest.importorskip(
            config_module.MODULES[package], reason="of the extra `peers`"
        )
    from experiments.bench import suggestions

    rows = suggestions.suggestions(dataclasses.replace(TINY, suggestions=2))
    ours = [r.what.startswith("jaxnas") for r in rows]
    tables = ([True] * 4 + [False] * 6) * 2 + [True] * 4
    assert ours == tables and all(r.cpu > 0 for r in rows)


@pytest.mark.parametrize(
    "name", ["jaxnas: Hyperband", "Optuna: random search and Hyperband"]
)
def test_the_steps_of_architectures_end_before_the_next_one(name):
    pytest.importorskip("optuna", reason="of the extra `peers`")
    from experiments.bench import suggestions

    search, starts, told = suggestions._makers(40)[name](), [], 0

    def ask():
        starts.append((training := search.ask()).start)
        return training

    def tell(score):
        nonlocal told
        told += 1
        search.tell(score)

    call = suggestions._architectures(search._replace(ask=ask, tell=tell), 2)
    for calls in range(1, 11):
        call()
        assert starts.count(0) == 2 * calls + 1 and starts[-1] == 0
    assert told == len(starts) - 1 > 20  # some went on


@pytest.mark.parametrize(
    "section, missing, words",
    [
        ("suggestions", "dehb", "DEHB not installed: --sections suggestions .* peers"),
        ("dpp", "dppy", "DPPy not installed: --sections dpp needs the extra dev"),
        ("proxies", "torch", "torch not installed: --sections proxies .* extra torch"),
    ],
)
def test_packages_of_a_section_are_required(
    monkeypatch, tmp_path, section, missing, words
):
    find = lambda name: None if name == missing else object()  # noqa: E731
    monkeypatch.setattr(config_module, "find_spec", find)
    config = dataclasses.replace(TINY, sections=(section,), out=str(tmp_path))
    with pytest.raises(ValueError, match=words):
        run.main(config)


def test_sections_are_those_of_the_settings_and_exist():
    (names, _) = get_args(get_type_hints(Config)["sections"])
    assert get_args(names) == tuple(config_module.SECTIONS)
    for name in ("search", "objectives", "dpp", "memory"):
        module, function = config_module.SECTIONS[name].function.split(".")
        assert callable(
            getattr(importlib.import_module(f"experiments.bench.{module}"), function)
        )


@pytest.mark.parametrize(
    "change, words",
    [
        ({"suggestions": 0}, "--suggestions must be at least 1"),
        ({"consecutive": 0}, "--consecutive must be at least 1"),
        ({"repeats": 0}, "--repeats must be at least 1"),
        ({"candidates": 15626}, "15625"),
        ({"evaluations": 60}, "--evaluations < --candidates"),
        ({"init": 1}, "2 <= --init"),
        ({"at": (5, 11)}, "--at must be between 2 and --evaluations = 10"),
        ({"at": ()}, "--at"),
        ({"ngrams": (0,)}, "--ngrams must be at least 1"),
        ({"sections": ()}, "--sections"),
        ({"subset": 31}, "--subset must be between 1 and --items = 30, not 31"),
        ({"subset": 0}, "--subset must be between 1 and --items = 30, not 0"),
        ({"draws": 0}, "--draws must be at least 1"),
        ({"memory_methods": ("x",)}, "x"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(tmp_path, change, words):
    config = dataclasses.replace(TINY, out=str(tmp_path / "out"), **change)
    with pytest.raises(ValueError, match=words) as error:
        run.main(config)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_to_write_to(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ValueError, match="cannot use --out"):
            run.main(dataclasses.replace(TINY, out=str(path)))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture(scope="module")
def archs():
    some = np.random.default_rng(3).integers(5, size=(40, 6)).astype(np.int32)
    some[:3] = [[0] * 6, [1] * 6, [2, 0, 0, 0, 0, 0]]  # empty, plain, no way through
    return some


@pytest.mark.parametrize("n", [1, 2, 3])
def test_loops_by_pair_give_the_distance(archs, n):
    space = nasbench201.SPACE
    graphs = jax.vmap(space.to_graph)(archs)
    a, b = (
        jax.tree.map(lambda x, s=s: x[s], graphs) for s in (slice(20), slice(20, 40))
    )
    distance = lambda x, y: tw.tree_wasserstein(x, y, space.labels, n).sum()  # noqa: E731
    ours = jax.vmap(distance)(a, b)
    sample = np.stack([np.arange(20), np.arange(20, 40)], 1)
    for name, distance_of in distances._by_pair(n, archs, sample).items():
        theirs = [distance_of(i) for i in range(20)]
        np.testing.assert_allclose(theirs, ours, atol=2e-5, err_msg=name)


def test_a_difference_is_found():
    right, wrong = {"a": lambda i: 1.0 - i}, {"b": lambda i: 1.0}
    distances._require_equal(np.array([1.0, 0.0]), right)
    with pytest.raises(ValueError, match="b and jaxnas differ by 1"):
        distances._require_equal(np.array([1.0, 0.0]), wrong)


def test_blocks_and_scipy_sum_the_same_distances(archs):
    rng = np.random.default_rng(0)
    distinct, row = rng.normal(size=(9, 4)), rng.integers(9, size=30)
    distinct[:, 2:] = distinct[row[:9] % 3, 2:]  # a part with fewer values
    x = jnp.asarray(distinct.T, jnp.float32)
    stored = distances.compress_parts(gram.Embeddings((x[:2], x[2:]), jnp.asarray(row)))
    assert stored[1].value.shape[1] < stored[0].value.shape[1] == 9
    ours = distances.distance_block(stored, jnp.arange(11))
    every = distinct[row]
    expected = np.abs(every[:, None] - every[None, :11]).sum(-1)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    one = peers.cityblock(every, 11, 4)
    two = peers.cityblock_distinct(distinct, row, 11, 4)
    assert one == pytest.approx(expected.sum()) == pytest.approx(two)


def test_other_predictions_are_found():
    x, labels = trees.cells(30)
    assert sorted(map(tuple, x)) == [tuple(row) for row in x]  # evenly spread, in order
    np.testing.assert_allclose(
        [labels.mean(0), labels.std(0)], [[0] * 5, [1] * 5], atol=1e-9
    )
    trees.require_agreement(labels, labels + 1e-12)
    with pytest.raises(ValueError, match="values that differ by 0.01"):
        trees.require_agreement(labels, labels + 0.01)


def test_a_different_distribution_is_found():
    kernel = dpp.similarity(12)
    rng = np.random.default_rng(0)
    alike = [np.stack([rng.permutation(12)[:4] for _ in range(300)]) for _ in range(2)]
    dpp.require_same_distribution(dict(zip("ab", alike, strict=True)), kernel)
    diverse = np.tile(dpp.naive_greedy(kernel, 4), (300, 1))
    with pytest.raises(ValueError, match="a and b draw from different distributions"):
        dpp.require_same_distribution({"a": alike[0], "b": diverse}, kernel)


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    return rng.random((15, 5)), rng.normal(size=15), np.array([0.7, 1.9]), (0, 2, 5)


def test_the_kernel_of_the_peer_is_ours(data):
    x, _, scales, cuts = data
    kernel = peers.Laplacian(scales, np.array([[1e-3, 1e3]] * 2), cuts)
    whole = gram.Embeddings(
        (jnp.asarray(x.T[:2]), jnp.asarray(x.T[2:])), jnp.arange(15)
    )
    ours = gram.laplace(
        gram.distances_between(whole, jnp.arange(15)), jnp.asarray(scales)
    )
    np.testing.assert_allclose(kernel(x), ours, atol=1e-5)
    np.testing.assert_allclose(kernel(x, eval_gradient=True)[0], kernel(x))
    np.testing.assert_allclose(kernel(x[:3], x), kernel(x)[:3])
    np.testing.assert_allclose(kernel.diag(x), 1)


def test_the_peer_has_exact_gradients(data):
    x, y, scales, cuts = data
    model = peers.regressor(scales, cuts).fit(x, y)
    value = lambda theta: model.log_marginal_likelihood(theta)  # noqa: E731
    slope = lambda theta: model.log_marginal_likelihood(theta, True)[1]  # noqa: E731
    assert check_grad(value, slope, np.array([0.3, -0.2, 0.5, -2.0])) < 1e-4
    before = peers.regressor(scales, cuts).kernel.theta
    assert value(model.kernel_.theta) > value(before)


def test_the_step_of_the_peer_is_a_step_of_ours(data):
    """The choice of largest expected improvement, from our own posterior."""
    x, y, scales, cuts = data
    model = peers.without_fit(peers.regressor(scales, cuts).fit(x, y))
    fitted, index, row = model.kernel, np.array([3, 1, 8, 11]), np.arange(15)
    values = 0.1 * y[index]
    chosen = peers.search_step(model, x, row, index, values)
    prior, noise = np.array(fitted.k1(x)), fitted.k2.noise_level
    z = (values - values.mean()) / values.std()
    seen = jnp.ones(4, bool)
    given = (prior[np.ix_(index, index)], prior[index], prior, z, seen, noise)
    posterior = gp.posterior(*map(jnp.asarray, given))
    mean = np.asarray(posterior.mean)
    std = np.sqrt(np.diag(posterior.cov) + noise)
    u = (mean - z.max()) / std
    utility = std * (u * peers.ndtr(u) + np.exp(-(u**2) / 2) / (2 * np.pi) ** 0.5)
    utility[index] = -1
    assert chosen == utility.argmax() and chosen not in index
    # The same, when equal rows are stored once.
    twice = np.concatenate([x, x[:4]])
    again = peers.search_step(
        model, twice, np.arange(19), np.append(index, chosen), np.append(values, -1)
    )
    distinct = np.append(row, np.arange(4))
    assert again == peers.search_step(
        model, x, distinct, np.append(index, chosen), np.append(values, -1)
    )


@pytest.mark.parametrize("evaluations", [11, 150])
def test_fits_are_counted_as_they_are_run(evaluations):
    """In a search that only counts, with the stages of the real one."""
    stages = functools.partial(schedule.refit_stages, 10)
    query = Query(jnp.zeros((1, 6), jnp.int32), *jnp.zeros((2, 1), jnp.int32))
    counting = Search(
        init=lambda key: jnp.int32(0),
        ask=lambda key, state: query,
        tell=lambda state, query, result: state,
        refresh=lambda state: state + 1,
        stages=stages,
    )
    score = jnp.zeros(1)
    nothing = lambda key, query: Result(score, score[:, None], score)  # noqa: E731
    refreshed, _ = loop.run(jax.random.key(0), counting, nothing, evaluations)
    # The stage of random evaluations has nothing to fit.
    assert search.num_fits(counting, evaluations) == refreshed - 1


def test_calls_take_turns_and_are_timed():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    times = timing.in_turn(calls, 3)
    assert order == list("abababab")
    assert times["a"].wall.shape == times["b"].cpu.shape == (3,)


def test_ratios_are_of_the_same_round():
    ours = timing.Timing(1.0, np.array([1.0, 10.0, 2.0]), np.array([1.0, 1.0, 1.0]))
    theirs = timing.Timing(1.0, np.array([3.0, 30.0, 6.0]), np.array([5.0, 4.0, 6.0]))
    rows = timing.compare("group", "ms", {"ours": ours, "theirs": theirs})
    assert (rows[1].ratio, rows[1].cpu_ratio) == (3.0, 5.0)
    assert (rows[1].median, rows[1].min, rows[1].max) == (6.0, 3.0, 30.0)
    sum_of = timing.plus(theirs, ours, 2.0)
    np.testing.assert_allclose(sum_of.wall, [5, 50, 10])
    np.testing.assert_allclose(timing.mean([ours, theirs]).wall, [2, 20, 4])
    np.testing.assert_allclose(ours.scaled(2).cpu, 2)


def test_scipy_fits_the_families_of_the_literature():
    x = np.arange(1, fits.EPOCHS + 1.0)
    assert [*fits.LITERATURE] == [family.name for family in families.ORIGINAL]
    curve = 0.8 - 0.3 / np.log(x + 1)
    squares = dict(zip(fits.LITERATURE, fits.by_scipy(curve[None]), strict=True))
    assert squares["ilog2"] < 1e-12 < squares["pow3"] < 0.01
    rows = fits._quality(np.array([[1.0, 3.0], [2.0, 1.02]]), np.ones((2, 2)))
    assert [row.median for row in rows] == [25, 50]
