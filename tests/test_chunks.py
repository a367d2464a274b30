"""Long runs in chunks: what is kept, what is computed again, what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import tw_batch
from jaxnas.io import run_folder
from jaxnas.studies import cli, seed_store

ROOT = Path(__file__).parent.parent
SETTINGS = {"dataset": "a", "steps": 3, "nested": (1, 2)}
METHODS = ("first", "second")


def draw(method, seeds):
    """A fake search: three scores for each seed, and one array of another type."""
    keys = seed_store.seed_keys(7, seeds)
    score = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    return {"score": score + METHODS.index(method), "arch": seeds.astype(np.int8)}


def run(
    out, simulate=draw, *, num_seeds=7, chunk=3, methods=METHODS, settings=SETTINGS
):
    folder = seed_store.open_folder(out, settings)
    return seed_store.run_chunks(
        folder, methods, num_seeds, simulate, chunk=chunk, work=(3, "evaluation")
    )


def contents(folder):
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def never(method, seeds):
    raise AssertionError(f"{method} {seeds} was computed again")


def test_all_seeds_come_back_in_order(tmp_path):
    results = run(tmp_path / "deep" / "out")
    assert list(results) == list(METHODS)
    for method, arrays in results.items():
        whole = draw(method, np.arange(7))
        np.testing.assert_array_equal(arrays["seed"], np.arange(7))
        np.testing.assert_array_equal(arrays["score"], whole["score"])
        assert arrays["arch"].dtype == np.int8


def test_results_do_not_depend_on_the_chunk(tmp_path):
    one, many = run(tmp_path / "a", chunk=1), run(tmp_path / "b", chunk=100)
    for method in METHODS:
        np.testing.assert_array_equal(one[method]["score"], many[method]["score"])


def test_more_seeds_are_computed_beside_those_that_are_there(tmp_path):
    run(tmp_path, num_seeds=5)
    files = contents(tmp_path)

    def rest(method, seeds):
        assert seeds[0] >= 5
        return draw(method, seeds)

    longer, new = run(tmp_path, rest, num_seeds=12), run(tmp_path / "new", num_seeds=12)
    fewer = run(tmp_path, never, num_seeds=4, chunk=1)
    for method in METHODS:
        for name, array in new[method].items():
            np.testing.assert_array_equal(longer[method][name], array)
            np.testing.assert_array_equal(fewer[method][name], array[:4])
    assert contents(tmp_path).items() > files.items()


def test_what_is_finished_ends_at_the_first_gap(tmp_path):
    folder = seed_store.open_folder(tmp_path / "out", SETTINGS)
    assert seed_store.finished(folder, "first", 9) == {}
    assert not (tmp_path / "out").exists()
    run(tmp_path / "out", num_seeds=9, chunk=3)
    before = contents(tmp_path)
    for most, wanted in ((9, 9), (4, 4), (20, 9)):
        found = seed_store.finished(folder, "first", most)
        assert set(found) == {"seed", "score", "arch"}
        for name, array in (
            {"seed": np.arange(9)} | draw("first", np.arange(9))
        ).items():
            np.testing.assert_array_equal(found[name], array[:wanted])
    assert contents(tmp_path) == before
    (tmp_path / "out/chunks/first-3-6.npz").unlink()
    np.testing.assert_array_equal(
        seed_store.finished(folder, "first", 9)["seed"], range(3)
    )
    (tmp_path / "out/chunks/first-0-3.npz").unlink()
    assert seed_store.finished(folder, "first", 9) == {}
    assert len(seed_store.finished(folder, "second", 9)["seed"]) == 9


def test_a_gap_is_filled(tmp_path):
    before = run(tmp_path, chunk=2)
    (tmp_path / "chunks" / "first-2-4.npz").unlink()
    after = run(tmp_path, lambda m, seeds: draw(m, seeds) if seeds[0] == 2 else 1 / 0)
    for method in METHODS:
        np.testing.assert_array_equal(before[method]["score"], after[method]["score"])


def test_every_call_has_the_same_number_of_seeds(tmp_path):
    sizes = []

    def record(method, seeds):
        sizes.append(len(seeds))
        return draw(method, seeds)

    run(tmp_path, record, num_seeds=11, chunk=4)
    assert sizes == [4, 4, 4] * 2
    assert len(list((tmp_path / "chunks").glob("first-*"))) == 3
    assert (tmp_path / "chunks" / "first-8-11.npz").exists()


def test_finished_chunks_are_not_computed_again(tmp_path):
    before = run(tmp_path)
    files = contents(tmp_path)
    after = run(tmp_path, never)
    assert contents(tmp_path) == files
    for method in METHODS:
        np.testing.assert_array_equal(before[method]["score"], after[method]["score"])


def of_length(length):
    """A fake search of runs that are prefixes of each other, and how it reads chunks."""

    def simulate(method, seeds):
        return {"score": seeds[:, None] + np.arange(length)}

    def cut(part):
        return {n: x[:, :length] if x.ndim == 2 else x for n, x in part.items()}

    return simulate, lambda part: None if part["score"].shape[1] < length else cut(part)


def test_a_chunk_that_does_not_fit_is_kept_beside_the_new_one(tmp_path):
    folder = seed_store.open_folder(tmp_path, SETTINGS)

    def lengths(length, **options):
        simulate, adapt = of_length(length)
        options = {"chunk": 3, "adapt": adapt} | options
        found = seed_store.run_chunks(folder, ["a"], 4, simulate, **options)["a"]
        np.testing.assert_array_equal(
            found["score"], simulate("a", np.arange(4))["score"]
        )
        saved = sorted((tmp_path / "chunks").glob("a-0-2*"))
        return {p.stem: np.load(p)["score"].shape[1] for p in saved}

    assert lengths(5) == {"a-0-2": 5}
    # Another budget, say: what is there does not fit, and is no shorter.
    odd = {"adapt": lambda part: part if part["score"].shape[1] == 2 else None}
    for _ in range(2):
        assert lengths(2, **odd) == {"a-0-2": 5, "a-0-2_2": 2}
    assert lengths(3) == lengths(5) == {"a-0-2": 5, "a-0-2_2": 2}
    assert seed_store.finished_methods(folder) == ["a"]
    longer = lambda old, new: old["score"].shape[1] <= new["score"].shape[1]  # noqa: E731
    assert lengths(7, replaces=longer) == {"a-0-2": 7, "a-0-2_2": 2}
    (tmp_path / "chunks" / "a-0-2.npz").write_bytes(b"torn")
    assert lengths(7, replaces=longer) == {"a-0-2": 7, "a-0-2_2": 2}


def test_a_method_can_be_added(tmp_path):
    run(tmp_path, methods=("second",))
    calls = set()

    def record(method, seeds):
        calls.add(method)
        return draw(method, seeds)

    assert list(run(tmp_path, record)) == list(METHODS)
    assert calls == {"first"}


@pytest.mark.parametrize("damage", ["truncated", "foreign", "seeds", "settings"])
def test_a_bad_chunk_is_named_and_computed_again(tmp_path, capsys, damage):
    run(tmp_path / "good")
    run(tmp_path / "bad")
    chunk = tmp_path / "bad" / "chunks" / "second-3-6.npz"
    if damage == "truncated":
        chunk.write_bytes(chunk.read_bytes()[:200])
    elif damage == "foreign":
        np.savez(chunk, score=np.zeros(3))
    elif damage == "seeds":
        chunk.write_bytes((chunk.parent / "second-0-3.npz").read_bytes())
    else:
        run(tmp_path / "other", settings=SETTINGS | {"steps": 4})
        chunk.write_bytes((tmp_path / "other" / "chunks" / chunk.name).read_bytes())
    capsys.readouterr()
    run(tmp_path / "bad")
    warning = capsys.readouterr().err.splitlines()[-2]
    assert warning.startswith("warning: ") and str(chunk) in warning
    assert contents(tmp_path / "bad") == contents(tmp_path / "good")


def test_other_settings_are_refused_by_name(tmp_path):
    run(tmp_path)
    files = contents(tmp_path)
    with pytest.raises(ValueError, match="other settings") as caught:
        seed_store.open_folder(tmp_path, SETTINGS | {"dataset": "b", "new": 1})
    said = str(caught.value)
    assert "dataset 'a' there, 'b' now" in said and "new None there, 1 now" in said
    assert "steps" not in said and "\n" not in said and "--out" in said
    assert contents(tmp_path) == files


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="cannot use --out"):
            seed_store.open_folder(bad, SETTINGS)
    with pytest.raises(ValueError, match="not a result folder"):
        seed_store.open_folder(tmp_path, SETTINGS)
    assert (tmp_path / "file").read_text() == "not a folder"
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / run_folder.RECORD).write_text('{"dataset"')
    with pytest.raises(ValueError, match="cannot read"):
        seed_store.open_folder(tmp_path / "torn", SETTINGS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="no permission"):
        seed_store.open_folder(tmp_path / "out", SETTINGS)


def test_a_failing_method_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="first failed at seeds 0 to 2: division"):
        run(tmp_path, lambda method, seeds: {"score": 1 / 0})
    with pytest.raises(RuntimeError, match=r"score \(2,\) is not of 3 seeds"):
        run(tmp_path, lambda method, seeds: {"score": np.zeros(2)})
    assert list((tmp_path / "chunks").iterdir()) == []


# Each run is a process of its own, forked after the slow imports.
KILLED = """
import os, pathlib, signal, sys, time
import numpy as np
from jaxnas.studies import seed_store
def slow(method, seeds):
    time.sleep(0.05)
    draws = [np.random.default_rng(int(s)).normal(size=40_000) for s in seeds]
    return {"score": np.stack(draws)}
def start(out):
    child = os.fork()
    if child == 0:
        folder = seed_store.open_folder(out, {"steps": 3})
        seed_store.run_chunks(folder, ["a", "b"], 18, slow, chunk=3)
        os._exit(0)
    return child
def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
whole, killed = map(pathlib.Path, sys.argv[1:])
codes = [wait(start(whole))]
for files, delay in (0, 0), (0, 0.02), (1, 0), (3, 0.06), (6, 0.09), (11, 0.03):
    child = start(killed)
    limit = time.monotonic() + 60
    while len(list(killed.glob("chunks/*.npz"))) < files and time.monotonic() < limit:
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    codes.append(wait(child))
codes.append(wait(start(killed)))
print(codes)
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs in the background of a shell is deaf to it, and its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path):
    process = start(KILLED, tmp_path / "whole", tmp_path / "killed")
    codes, _ = process.communicate(timeout=120)
    assert json.loads(codes) == [0, *[-signal.SIGKILL] * 6, 0]
    expected, finished = contents(tmp_path / "whole"), contents(tmp_path / "killed")
    assert len(expected) == 13
    assert {n: b for n, b in finished.items() if not n.endswith(".tmp")} == expected


LONG = """
import dataclasses, os, sys, time
import jax, jax.numpy as jnp, numpy as np
from jaxnas.studies import cli
@dataclasses.dataclass(frozen=True)
class Config:
    out: str
@jax.jit
def work(x):
    return jax.lax.fori_loop(0, 2**31 - 1, lambda i, x: jnp.sin(x) + 1e-3, x)
def main(config):
    print(len(jax.devices()), os.environ["NPROC"], flush=True)
    np.asarray(work(jnp.ones(64)))
sys.argv[1:] = ["--out", sys.argv[1]]
cli.command(main, Config)
"""


def test_an_interrupt_ends_a_compiled_program_in_one_line(tmp_path):
    process = start(LONG, tmp_path)
    cores = len(os.sched_getaffinity(0))
    threads = os.environ.get("NPROC") or str(cores + 1 if cores > 1 else 1)
    assert process.stdout.readline().split() == [str(cores), threads]
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert [n for n in said.splitlines() if n] == [
        f"interrupted: what is finished is kept in {tmp_path}, "
        "and the same command resumes from there"
    ]


def test_progress_without_a_terminal_is_a_line_a_method(tmp_path, capsys):
    run(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "first: 7 of 7 seeds",
        "second: 7 of 7 seeds",
    ]
    assert all("evaluations/s" in line for line in lines)
    run(tmp_path)
    assert "read from disk" in capsys.readouterr().err


def test_settings_are_kept_as_plain_json(tmp_path):
    folder = seed_store.open_folder(tmp_path / "out", SETTINGS)
    assert not folder.path.exists(), "asking has written something"
    run(folder.path)
    kept = json.loads((folder.path / run_folder.RECORD).read_text())
    assert kept["identity"] == folder.identity
    assert folder.identity == {"dataset": "a", "steps": 3, "nested": [1, 2]}


def test_help_has_no_line_breaks_of_the_source(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tw_batch", "--help"])
    monkeypatch.setenv("COLUMNS", "4000")
    with pytest.raises(SystemExit):
        cli.command(tw_batch.main, tw_batch.Config, at_once=False)
    shown = capsys.readouterr().out
    # A flag of the driver and one of the settings that it extends, and their defaults.
    assert (
        "Whether Gaussian processes take cells that compute the same function for"
        in shown
    )
    assert "function for different ones; default: only in a table file, not in" in shown
    assert "(default: 200)" in shown
