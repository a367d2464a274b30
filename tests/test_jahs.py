"""The stand-in for the learning curves of NAS-Bench-201."""

import numpy as np
import pytest

from jaxnas.benchmarks import named, sources
from jaxnas.io import npz
from jaxnas.spaces.nasbench201 import SPACE


def test_the_curves_are_those_of_the_file_by_cell(shared):
    table = named.open_table("jahs201-seconds")
    stored = npz.read_npz(
        shared / "data/nb201_jahs_surrogate_curves.npz", ["valid_acc"]
    )
    curves = table.columns["curve/cifar10/valid/200"][:, 0]
    np.testing.assert_array_equal(curves, stored["valid_acc"].clip(0, 100))
    assert curves.max() == 99.0625
    # The official order of cells is that of the accuracies.
    real = npz.read_npz(shared / "data/nb201_accuracy.npz", ["ops"])["ops"]
    np.testing.assert_array_equal(table.arch, real)
    best = SPACE.to_string(table.arch[curves[:, -1].argmax()])
    assert "nor_conv_3x3" in best
    seconds = table.columns["seconds/cifar10/200"]
    assert seconds.shape == (15_625,) and (seconds > 0).all()


def test_epochs_or_seconds_are_charged(shared):
    options = dict(dataset="cifar10", split="valid", epochs=200, curves=True)
    for name, unit in (("jahs201", "epochs"), ("jahs201-seconds", "seconds")):
        benchmark = named.open_benchmark(name, **options)
        assert benchmark.cost_unit == unit and len(benchmark.levels) == 200


def test_a_missing_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "shared_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="no such file: .*nb201_jahs_surrogate"):
        named.open_table("jahs201")
