"""The command that converts an official file, as a user meets it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import official_samples as samples
import pytest

from experiments import import_benchmark
from jaxnas.benchmarks import named
from jaxnas.benchmarks.importers import official
from jaxnas.studies import progress

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path, records):
    small = samples.nb201_dict(records, (0, 11), ("cifar10-valid", "cifar10"), (777,))
    return samples.write_nats(tmp_path / "NATS-tss", small)


def test_the_command_says_in_one_line_why_not(tmp_path, folder):
    out = tmp_path / "nats.npz"
    command = [sys.executable, "-m", "experiments.import_benchmark"]
    process = subprocess.run(
        [*command, "--source", folder, "--out", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2 and not out.exists()
    assert process.stderr.splitlines() == [
        f"error: {folder}: it has 2 of 15625 cells: only as a partial table (--partial)"
    ]


def test_the_table_it_writes(tmp_path, folder, capsys):
    out = tmp_path / "nats.npz"
    import_benchmark.main(import_benchmark.Config(f"{folder}", f"{out}", partial=True))
    text = " ".join(capsys.readouterr().out.splitlines())
    assert f"{out}: nats-tss, 2 architectures, 6 runs; checked: CRC" in text
    table = named.open_table(out)
    np.testing.assert_array_equal(
        table.columns["cifar10/test/200"],
        official.read(folder, partial=True).columns["cifar10/test/200"],
    )
    assert table.manifest["source"] == "NATS-Bench topology, NATS-tss"
    assert table.manifest["counts"]["runs of cifar10-valid/12"] == 2


def test_progress_in_lines_and_results_by_name(tmp_path, folder, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", -1)
    out = tmp_path / "nats.npz"
    config = import_benchmark.Config(f"{folder}", f"{out}", name="mine", partial=True)
    table = import_benchmark.main(config)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("reading: 0 of 0 MiB, ") and lines[0].endswith("left")
    assert any(line.endswith(", converting") for line in lines)
    assert f"{out}: mine, 2 architectures" in " ".join(lines)
    assert table.name == named.open_table(out).name == "mine"
