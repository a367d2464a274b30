"""Learning curves of one's own trainings in CSV files."""

import csv

import jax
import numpy as np
import pytest

from jaxnas.benchmarks import named, open_benchmark, open_table
from jaxnas.benchmarks.importers import curve_csv
from jaxnas.spaces import darts, moves, nasbench101, nasbench201, nlp
from jaxnas.spaces.base import every

CELLS = every(nasbench201.SPACE)[[7, 1000, 15000]]
TEXTS = [nasbench201.SPACE.to_string(cell) for cell in CELLS]
HEADER = "nasbench201,seed,seconds,2,4,8"
LINES = (
    f"{TEXTS[1]},5,20.0,10.5,20.0,30.0",
    f"{TEXTS[0]},5,30.0,11.0,21.0,31.0",
    f"{TEXTS[1]},9,40.0,12.0,22.0,32.0",
    f"{TEXTS[2]},9,50.0,13.0,23.0,33.0",
)


def written(tmp_path, *lines, name="mine.csv", end="\n"):
    path = tmp_path / name
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


def of(table, cell):
    return int(np.flatnonzero((table.arch == cell).all(1)).item())


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_become_runs_by_seed(tmp_path, end):
    table = open_table(written(tmp_path, "\ufeff" + HEADER, *LINES, end=end))
    assert (table.name, table.space) == ("mine", "nasbench201")
    curve = table.columns["curve/mine/valid/8"]
    assert curve.shape == (3, 2, 3) and table.manifest["points"] == {"8": [2, 4, 8]}
    nan = [np.nan] * 3
    wanted = [[[11, 21, 31], nan], [[10.5, 20, 30], [12, 22, 32]], [nan, [13, 23, 33]]]
    rows = [of(table, cell) for cell in CELLS]
    np.testing.assert_array_equal(curve[rows], wanted)
    np.testing.assert_array_equal(table.columns["mine/valid/8"], curve[..., -1])
    np.testing.assert_array_equal(table.columns["seconds/mine/8"][rows], [30, 30, 50])


def test_without_seeds_lines_are_counted(tmp_path):
    lines = [f"{TEXTS[i]},{10 + n}.0" for n, i in enumerate((0, 1, 0, 0, 1))]
    table = open_table(written(tmp_path, "nasbench201,3", *lines))
    curve = table.columns["curve/mine/valid/3"][..., 0]
    wanted = [[10, 12, 13], [11, 14, np.nan]]
    np.testing.assert_array_equal(curve[[of(table, c) for c in CELLS[:2]]], wanted)
    assert "seconds/mine/3" not in table.columns


def test_a_file_is_a_benchmark(tmp_path):
    path = written(tmp_path, HEADER, *LINES)
    which = dict(dataset="mine", split="valid", epochs=8)
    benchmark = open_benchmark(path, **which, curves=True)
    assert [level.epoch for level in benchmark.levels] == [2, 4, 8]
    assert float(benchmark.optimum) == 33 and benchmark.space.size == 3


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("space", [nasbench101, darts, nlp], ids=lambda s: s.SPACE.name)
def test_architectures_of_every_space(tmp_path, space):
    arch = np.asarray(moves.sample(jax.random.key(0), space.SPACE))
    path = tmp_path / "mine.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([space.SPACE.name, 1])
        writer.writerow([space.SPACE.to_string(arch), 50.0])
    table = curve_csv.read(path, named.SPACES)
    identity = space.SPACE.identity
    np.testing.assert_array_equal(identity(table.arch[0]), identity(arch))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("nasbench201,seed,lr,1",), "unknown column lr: wanted nasbench201, seed"),
        (("cell,1,2",), "wanted one column of architectures.*found the columns cell,"),
        (("nasbench201,1,1",), "none twice"),
        (("nasbench201,2,1",), "must ascend"),
        (("nasbench201,0",), "unknown column 0"),
        ((HEADER,), "it has no training"),
        (
            (HEADER, LINES[0][:-5]),
            r"line 2: it has a curve of 2 values.* 3 epochs: cut",
        ),
        ((HEADER, LINES[0][:-4]), r"line 2: it has a curve of 2 values"),
        ((HEADER, LINES[0] + ",1"), r"line 2: it has a curve of 4 values"),
        ((HEADER, LINES[0], LINES[1][:-4] + "nan"), "line 3: after 8 epochs: .* nan"),
        ((HEADER, LINES[0], LINES[1][:-4] + "1e39"), "line 3: after 8 epochs: .* 1e39"),
        ((HEADER, LINES[0][:-4] + "x"), "after 8 epochs: wanted a finite number"),
        ((HEADER, LINES[0], LINES[0]), r"seed 5 appears twice for \|"),
        ((HEADER, "oops" + LINES[0]), "line 2: not a NAS-Bench-201 architecture"),
        ((HEADER, LINES[0].replace(",5,", ",0.5,")), "seed 0.5 is not a whole"),
        ((HEADER, LINES[0].replace("20.0,10", "-1,10")), "seconds must be above 0"),
        ((HEADER, LINES[0][:-4] + "101"), "holds 101.0..101.0, wanted"),
        (("nasbench201,1", f"{TEXTS[0]},0.9"), "not fractions"),
        ((HEADER, '"' + "x" * 200_000), "line 2: field larger"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, lines, words):
    path = written(tmp_path, *lines)
    with pytest.raises(ValueError, match=words) as error:
        open_table(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_files_that_cannot_be_read(tmp_path):
    for path, words in (
        (tmp_path / "none.csv", "cannot read .*none.csv: No such file"),
        (written(tmp_path, HEADER, *LINES, name="my own.csv"), "its name must be"),
    ):
        with pytest.raises(ValueError, match=words):
            open_table(path)
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="mine.csv: .*utf-8"):
        open_table(tmp_path / "mine.csv")
