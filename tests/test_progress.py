"""Progress of long runs, as counters, bars and lines."""

import numpy as np
import pytest
from rich.console import Console

from jaxnas.studies import progress
from jaxnas.studies.images import log
from jaxnas.studies.images.budget import TimeBudget
from jaxnas.studies.images.final_network import FinalPlan


def test_progress_counts_what_was_computed_after_the_first_chunk(monkeypatch, capsys):
    clock = iter([0.0, 0.0, 100.0, 110.0, 110.0, 120.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    console = progress.Console(stderr=True)
    with progress.Progress(console) as shown:
        shown.begin("a", progress.Counter(50, "seed", work=(200, "evaluation")))
        shown.advance(10)  # 10 s a seed, compilation included
        shown.advance(10)  # 1 s a seed
        shown.advance(20, computed=False)
        shown.advance(10)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "a: 10 of 50 seeds, 20 evaluations/s, 7 min left"
    assert last == "a: 50 of 50 seeds, 200 evaluations/s"


def test_durations_are_in_words():
    said = [progress.duration(s) for s in (0, 0.06, 0.2, 0.996, 42, 150, 8000)]
    assert said == ["0 s", "0.06 s", "0.2 s", "1 s", "42 s", "2 min", "2.2 h"]


@pytest.mark.parametrize(
    "number, seconds, text",
    [
        (1e5, 2, "50,000 seeds/s"),
        (31, 10, "3.1 seeds/s"),
        (1, 1, "1.0 seeds/s"),
        (10, 12, "1.2 s per seed"),
        (1, 42.4, "42 s per seed"),
        (1, 600, "10 min per seed"),
    ],
)
def test_slow_rates_are_seconds_of_a_unit(number, seconds, text):
    assert progress.rate(number, seconds, "seed") == text


def test_counters_say_what_they_know(monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)
    counter = progress.Counter(12, "network")
    assert counter.text() == "0 of 12 networks"
    counter.add(0)
    assert counter.text() == "0 of 12 networks"
    counter.add(2, computed=False)
    assert counter.text() == "2 of 12 networks, read from disk"
    counter.add(1, now=30.0)
    assert counter.text() == "3 of 12 networks, 30 s per network, 4 min left"
    counter.add(9, now=75.0)
    assert counter.text() == "12 of 12 networks, 5 s per network"


def test_progress_on_a_pipe_is_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", -1)
    with progress.Progress(progress.Console(stderr=True)) as shown:
        for name in ("[red]a", "b"):
            shown.begin(name, progress.Counter(1, "seed"), then="writing")
            shown.advance(2, computed=False, total=3)
            shown.advance(1, computed=False)
    assert capsys.readouterr().err.splitlines() == [
        f"{name}: {count} of 3 seeds, read from disk{end}"
        for name in ("[red]a", "b")
        for count, end in ((2, ""), (3, ", writing"))
    ]


def test_a_log_of_images_shows_the_same_counts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(log, "SECONDS", -1)
    budget = TimeBudget(tmp_path / "budget.json", 60.0)
    shown = log.SearchLog(Console(stderr=True), budget)
    shown.scoring()
    shown.scored(0, 30)
    final = FinalPlan(8, 1, [8], [4], [12], 6, save_every=1, sized=False)
    shown.final_training(("a", 90.0), final)
    train = np.full((1, 4), 90.0)
    shown.epoch(2, {"train": train})  # two epochs are of an earlier process
    shown.epoch(3, {"train": train})
    lines = [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "scored 0 of 30 cells"
    assert lines[2].startswith("3 of 4 epochs, ") and " left; 90.00 %" in lines[2]
    assert lines[3].startswith("4 of 4 epochs, ") and "/s; 90.00 % of" in lines[3]
