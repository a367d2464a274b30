"""The driver that measures whole programs on one device, at a tiny size."""

import csv
import dataclasses

import pytest

from experiments import device_speed
from experiments.device_speed import Config

TINY = Config(programs=("distances",), candidates=160, repeats=1, seeds=(2,))


def test_every_program_has_a_row(tmp_path):
    rows = device_speed.main(dataclasses.replace(TINY, out=str(tmp_path)))
    assert [(r.program, r.number) for r in rows] == [("distances", 160**2)]
    assert all(0 < r.median_s < r.first_s for r in rows)
    with (tmp_path / "rows.csv").open() as file:
        assert [r["result"] for r in csv.DictReader(file)] == [r.result for r in rows]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": ()}, "--seeds must be at least 1"),
        ({"candidates": 150}, "--candidates must be 151 to 15625, not 150"),
        ({"steps": 0}, "--steps must be at least 1"),
    ],
)
def test_bad_input_is_refused(tmp_path, change, words):
    config = dataclasses.replace(TINY, out=str(tmp_path / "out"), **change)
    with pytest.raises(ValueError, match=words):
        device_speed.main(config)
    assert not (tmp_path / "out").exists()
