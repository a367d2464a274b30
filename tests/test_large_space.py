"""The comparison of searches in a space that is too large for a pool."""

import numpy as np
import pytest

from experiments import large_space

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_every_search_has_the_same_objectives(capsys, monkeypatch):
    few = {n: large_space.SEARCHES[n] for n in ("evolution", "random")}
    monkeypatch.setattr(large_space, "SEARCHES", few | {"again": few["random"]})
    config = large_space.Config(positions=3, choices=4, evaluations=12, seeds=3)
    found = large_space.main(config)
    assert list(found) == ["evolution", "random", "again"]
    np.testing.assert_array_equal(found["random"], found["again"])
    assert all(0 < best < 100 for best in np.concatenate(list(found.values())))
    assert "64 architectures" in capsys.readouterr().out


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="--seeds must be at least 1, not 0"):
        large_space.main(large_space.Config(seeds=0))
