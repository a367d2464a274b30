"""Commands in surroundings that are not as usual: environment, terminal, disk."""

import ast
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import docstring_parser
import pytest

ROOT = Path(__file__).parent.parent
IMPORTER = ROOT / "jaxnas" / "studies" / "drawing.py"
SOURCES = [p for top in ("jaxnas", "experiments") for p in (ROOT / top).rglob("*.py")]


def python(*arguments, **environment):
    """What a fresh interpreter in the project's root prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=300, env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_module_imports_matplotlib():
    importers = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "matplotlib" for name in names):
                importers.add(path)
    assert importers == {IMPORTER}


DRAWING = """
import json, os
from jaxnas.studies import drawing
backend = drawing.matplotlib.rcParams._get_backend_or_none()
print(json.dumps([backend, os.environ.get("MPLBACKEND")]))
"""


@pytest.mark.parametrize("wanted", ("nonsense", "module://a_package_not.there", "pdf"))
def test_a_backend_of_the_environment_stays_and_may_be_absent(wanted):
    backend, environment = json.loads(python("-c", DRAWING, MPLBACKEND=wanted))
    assert environment == wanted
    assert backend == (None if wanted == "nonsense" else wanted)


def test_a_backend_that_is_in_use_is_left_alone():
    code = "import matplotlib\nmatplotlib.use('svg')\n" + DRAWING
    assert json.loads(python("-c", code, MPLBACKEND="pdf")) == ["svg", "pdf"]


def test_commands_start_with_a_backend_that_is_absent():
    modules = ("tw_sequential", "search_images", "extrapolate_report", "few_epochs")
    code = "from experiments import " + ", ".join(modules)
    python("-c", code, MPLBACKEND="nonsense")


def test_usage_names_the_command_and_no_path():
    for module in ("experiments.bench", "experiments.feature_report"):
        usage = python("-m", module, "--help").splitlines()[0]
        assert usage.startswith(f"usage: python -m {module} [-h]")


DRIVER = """
import dataclasses, sys
from pathlib import Path
from rich.console import Console
from jaxnas.io import files
from jaxnas.studies import cli, terminal
@dataclasses.dataclass(frozen=True)
class Config:
    fails: bool = False
    out: str = ""
def main(config):
    files.atomic_write(Path(config.out) / "table.csv", b"1")
    if config.fails:
        raise FileNotFoundError(2, "a fault of the driver")
    if LINES:  # otherwise the output is written when the process ends
        rows = [("gp", "93.1 ± 0.2")] * LINES
        terminal.show_rows(Console(), ("what", "mean"), rows)
    print("done", end="")
cli.command(main, Config)
"""


def driver(out, *arguments, lines=2, stdout=subprocess.PIPE, **environment):
    """Starts a driver that writes a file to `out` and then prints a table."""
    code = DRIVER.replace("LINES", str(lines))
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--out", str(out)],
        cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": ""} | environment,
    )  # fmt: skip


def test_a_terminal_without_a_sign_shows_another(tmp_path):
    process = driver(tmp_path, PYTHONIOENCODING="ascii")
    shown, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "")
    assert shown.count("93.1 ? 0.2") == 2 and shown.endswith("done")


def lost(process, out, reason):
    """Whether a process has ended in one line that names the cause and the folder."""
    said = process.stderr.read()
    assert process.wait(120) == 1
    assert said == (
        f"error: cannot write to the standard output: {reason}; what is finished is "
        f"in {out}\n"
    )
    assert (out / "table.csv").read_bytes() == b"1"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
@pytest.mark.parametrize("lines", (0, 2, 1000))
def test_a_full_disk_under_the_output_is_told_in_one_line(tmp_path, lines):
    with open("/dev/full", "w") as full:
        process = driver(tmp_path, lines=lines, stdout=full)
    lost(process, tmp_path, "No space left on device")


def test_a_reader_that_leaves_is_told_in_one_line(tmp_path):
    process = driver(tmp_path)
    process.stdout.close()
    lost(process, tmp_path, "Broken pipe")


def test_an_error_of_another_file_is_not_one_of_the_output(tmp_path):
    process = driver(tmp_path, "--fails")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" in said and "a fault of the driver" in said


# Without a limit these would run for ever, or end in failed allocations.
LIMITS = """
build_meta_database cells epochs
compare_images seeds
curve_report folds rounds splits
curve_search batch evaluations seeds workers
device_speed cells pairs repeats steps
extrapolate_report slow_splits splits
few_labels sets
fit_surrogate rounds
large_space choices evaluations positions seeds
latency_transfer draws
lcpfn_report at_once curves times
metad2a_ablations epochs seeds together
network_distances networks sets
pareto evaluations reference seeds
predictor_report partitions samples
subnet_report draws max_samples subnets
subnet_search evaluations seeds
taskset_report draws tuning
train_lcpfn batch steps
train_metad2a epochs images
train_table epochs seeds
tw_batch evaluations seeds
tw_sequential evaluations seeds
workers evaluations seeds workers
zero_cost_report resamples
zero_cost_score cells_per_stage channels
zero_cost_search seeds visits
"""
FLAGS = [
    (n, f) for n, *flags in map(str.split, LIMITS.split("\n")[1:-1]) for f in flags
]


@pytest.mark.parametrize(("name", "flag"), FLAGS)
def test_sizes_far_above_any_use_are_refused(tmp_path, name, flag):
    driver = importlib.import_module(f"experiments.{name}")
    out = {"out": str(tmp_path / "out")} if hasattr(driver.Config, "out") else {}
    # Where a size must be a multiple of another, this one is.
    config = dataclasses.replace(driver.Config(), **{flag: 10**12}, **out)
    wanted = f"--{flag.replace('_', '-')} must be at most "
    with pytest.raises(ValueError, match=wanted):
        driver.main(config)
    assert not (tmp_path / "out").exists()


NAMES = {
    "device_speed": ("programs", "PROGRAMS"),
    "zero_cost_search": ("algorithms", "ALGORITHMS"),
}


@pytest.mark.parametrize("name", NAMES)
def test_help_lists_the_names_that_a_flag_takes(name):
    driver = importlib.import_module(f"experiments.{name}")
    field, known = NAMES[name]
    texts = docstring_parser.parse_from_object(driver.Config).params
    (text,) = (t.description for t in texts if t.arg_name == field)
    assert [n for n in getattr(driver, known) if n not in text] == []
