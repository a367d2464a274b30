"""Searches of other packages on our benchmarks, and the loop that runs them."""

from importlib.util import find_spec

import jax
import numpy as np
import pytest

from experiments.common import peer_searches
from jaxnas.benchmarks import synthetic
from jaxnas.spaces import base

pytestmark = pytest.mark.usefixtures("quick_compilation")

SPACE = base.product("toy", (4, 3, 5))
LEVELS = (1, 3, 9)


@pytest.fixture(scope="module")
def benchmark():
    return synthetic.synthetic_benchmark(jax.random.key(1), SPACE, epochs=LEVELS[-1])


def test_a_run_ends_before_the_budget_and_is_charged_for_every_training(benchmark):
    asked = iter([(0, 3, 0), (0, 9, 3), (1, 1, 0), (2, 9, 0), (3, 1, 0)])
    scores = []

    def ask():
        choice, epoch, start = next(asked)
        return peer_searches.Training(
            np.full(3, min(choice, 2), np.int32), epoch, start
        )

    search = peer_searches.PeerSearch(ask, scores.append)
    trace = peer_searches.run_peer(search, benchmark, jax.random.key(0), 6, budget=12)
    # The fourth training would cost 9 more.
    np.testing.assert_array_equal(trace.cost[:, 0], [3, 6, 1, 0, 0, 0])
    np.testing.assert_array_equal(trace.time[:, 0], [3, 9, 10, 10, 10, 10])
    np.testing.assert_array_equal(trace.query.epoch[:, 0], [3, 9, 1, 0, 0, 0])
    np.testing.assert_array_equal(trace.query.start[:, 0], [0, 3, 0, 0, 0, 0])
    np.testing.assert_allclose(trace.score[:3, 0], scores)
    assert np.isnan(trace.score[3:]).all() and len(scores) == 3


def test_unknown_and_missing_packages_are_named(monkeypatch):
    with pytest.raises(ValueError, match="no peer tpe: choose from optuna-random"):
        peer_searches.require_installed(("tpe",))
    monkeypatch.setattr(peer_searches, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="dehb not installed: dehb-package needs it"):
        peer_searches.require_installed(("dehb-package",))


@pytest.mark.parametrize("name", peer_searches.PEERS)
def test_trainings_continue_where_they_ended(name, benchmark):
    if find_spec(name.split("-")[0]) is None:
        pytest.skip(f"{name} needs a package of the extra `peers`")

    def run(seed):
        setting = peer_searches.Setting(SPACE.choices, LEVELS, 3, seed)
        search = peer_searches.PEERS[name](setting)
        return peer_searches.run_peer(search, benchmark, jax.random.key(0), 80, np.inf)

    trace, same, other = run(0), run(0), run(1)
    jax.tree.map(np.testing.assert_array_equal, trace, same)
    assert (trace.query.arch != other.query.arch).any()
    arch, epoch, start = (np.asarray(x)[:, 0] for x in trace.query[:3])
    assert set(epoch) == set(LEVELS) and (arch < SPACE.choices).all()
    ended = set()
    for one, last, first in zip(map(tuple, arch.tolist()), epoch, start, strict=True):
        assert first == 0 or (one, first) in ended
        ended.add((one, last))
    assert (start > 0).any() and (start < epoch).all()
    # It learns more at the higher levels: fewer trainings reach them.
    counts = [(epoch == level).sum() for level in LEVELS]
    assert counts[0] > counts[2]
