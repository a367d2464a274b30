"""Mutation testing: small changes of the code, drawn with a stated seed, against the tests.

    python tests/mutants.py --num 150 --seed 1 --out experiments/measured/mutants.csv

Works on a copy of the tree. Each mutant is run against those tests of its module's test
files that execute the changed statement, the quickest first, until one fails: a test that
does not execute a statement cannot fail because of it. Which tests do is measured first,
once for each test file (results/mutants). A run that was killed goes on where it was. Not
part of the suite: it takes an hour.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conftest  # noqa: F401  sets XLA's flags, before jax is imported
import jax
import pytest
import tyro
from mutant_map import TESTS

ROOT = Path(__file__).parent.parent
DRAWN = ("jaxnas/search", "jaxnas/benchmarks/tabular.py", "jaxnas/studies/comparison")
SWAPS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=",
    ast.NotEq: "==", ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*",
    ast.FloorDiv: "/", ast.Mod: "//", ast.BitAnd: "|", ast.BitOr: "&", ast.And: "or",
    ast.Or: "and", ast.MatMult: "*", ast.Pow: "*",
}  # fmt: skip
COLUMNS = ["number", "outcome", "file", "line", "text", "old", "new", "by", "seconds"]
LIMIT = (
    60  # CPU seconds of a test beyond three times its own; a mutant may loop for ever
)
WAIT = 300  # seconds of a test beyond ten times its own; a mutant may wait for ever


@dataclass(frozen=True)
class Mutant:
    """A replacement of one stretch of one line, and the lines of its statement.

    Of what is executed on import, constants and defaults, `lines` is (0, 0).
    """

    file: str
    line: int
    start: int
    end: int
    new: str
    lines: tuple[int, int]


def sites(file: str) -> list[Mutant]:
    """Every change of an operator, a number or a condition outside of annotations."""
    text = (ROOT / file).read_text()
    lines, mutants = text.splitlines(), []

    def add(statement: Any, line: int, start: int, end: int, new: str) -> None:
        span = (statement.lineno, statement.end_lineno) if statement else (0, 0)
        mutants.append(Mutant(file, line, start, end, new, span))

    def between(statement: Any, left: ast.expr, right: ast.expr, new: str) -> None:
        if left.end_lineno == right.lineno:
            start, end = left.end_col_offset or 0, right.col_offset
            part = lines[right.lineno - 1][start:end]
            word = part.strip(" ()")
            if word:
                at = start + part.index(word)
                add(statement, right.lineno, at, at + len(word), new)

    def visit(node: ast.AST, statement: Any, inside: bool) -> None:
        if isinstance(node, ast.Raise | ast.JoinedStr):
            return  # the words of errors
        if isinstance(node, ast.stmt):
            statement = node if inside else None
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            swap = SWAPS[type(node.ops[0])]
            between(statement, node.left, node.comparators[0], swap)
        elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            between(statement, node.left, node.right, SWAPS[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            between(statement, *node.values[:2], SWAPS[type(node.op)])
        elif isinstance(node, ast.UnaryOp) and isinstance(
            node.op, ast.Not | ast.Invert
        ):
            gap = node.operand.col_offset - node.col_offset
            add(statement, node.lineno, node.col_offset, node.col_offset + gap, "")
        elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
            value = node.value
            new = str(not value) if isinstance(value, bool) else repr(value + 1)
            add(statement, node.lineno, node.col_offset, node.end_col_offset or 0, new)
        is_function = isinstance(node, ast.FunctionDef | ast.Lambda)
        for name, child in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for one in child if isinstance(child, list) else [child]:
                if isinstance(one, ast.AST):
                    default = name == "args" and is_function
                    of = None if default else statement
                    visit(one, of, (inside or is_function) and not default)

    for statement in ast.parse(text).body:
        visit(statement, None, False)
    return mutants


class Coverage:
    """A pytest plugin: the CPU seconds of each test and the lines that it executes.

    Lines that a fixture executes count for every test that uses the fixture. Programs are
    traced anew in each test, as a test alone would. Tests that fail are left out: of a
    mutant they say nothing.
    """

    def __init__(self, copy: Path):
        self.files = {str(copy / file): file for file in TESTS}
        self.lines: set[str] = set()
        self.fixtures: dict[int, set[str]] = {}
        self.tests: dict[str, dict] = {}
        self.failed: set[str] = set()

    def trace(self, frame, event, _):
        """For sys.settrace: notes the lines of the files that have mutants."""
        file = self.files.get(frame.f_code.co_filename)
        if file is None:
            return None
        if event == "line":
            self.lines.add(f"{file}:{frame.f_lineno}")
        return self.trace

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        outer, self.lines = self.lines, set()
        try:
            return (yield)
        finally:
            self.fixtures[id(fixturedef)] = self.lines
            self.lines |= outer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        jax.clear_caches()
        start, self.lines = time.process_time(), set()
        threading.settrace(self.trace)  # of threads that the test starts
        sys.settrace(self.trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # pyright: ignore[reportArgumentType]
            used = item._fixtureinfo.name2fixturedefs.values()
            for definition in (one for several in used for one in several):
                self.lines |= self.fixtures.get(id(definition), set())
            seconds = time.process_time() - start
            if item.nodeid not in self.failed:
                test = {"seconds": seconds, "lines": sorted(self.lines)}
                self.tests[item.nodeid] = test

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)


class Ordered:
    """A pytest plugin: runs tests, quick ones first, and names the first failure.

    Each may take `LIMIT` CPU seconds more than three times its own `seconds`, by name, and
    by the clock `WAIT` seconds more than ten times as many.
    """

    def __init__(self, seconds: dict[str, float], report: Path):
        ordered = sorted(seconds, key=lambda name: seconds[name])
        self.place = {test: number for number, test in enumerate(ordered)}
        self.seconds = seconds
        self.report = report

    def pytest_runtest_setup(self, item):
        limit = time.process_time() + LIMIT + 3 * self.seconds[item.nodeid]
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (min(int(limit), hard), hard))
        signal.alarm(WAIT + int(10 * self.seconds[item.nodeid]))

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place),
            key=lambda item: self.place[item.nodeid],
        )

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.report.write_text(report.nodeid)


def forked(copy: Path, work: Callable[[], int], seconds: int) -> tuple[str, float]:
    """Runs work in a fork of this process, which has imported jax but nothing of the copy.

    Processes that it leaves behind are killed.

    Args:
      copy: the tree to work in.
      work: returns an exit code.
      seconds: CPU seconds after which it is killed.

    Returns: "0", its other exit code or "slow", and its CPU seconds.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        os.chdir(copy)
        sys.path[:0] = [str(copy), str(copy / "tests")]
        other = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(copy), other])
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        code = 70
        try:
            code = int(work())
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = (-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGALRM)
    status = "slow" if code in ended else str(code)
    return status, sum(after[:2]) - sum(before[:2])


def measure(copy: Path, name: str, folder: Path) -> dict[str, dict]:
    """The seconds and lines of each test of a file, read from `folder` if it has them.

    Tests that fail without any mutant are left out and printed.

    Raises:
      RuntimeError: the file cannot be run.
    """
    path = folder / f"{name}.json"

    def work() -> int:
        plugin = Coverage(copy)
        code = pytest.main(["-p", "no:cacheprovider", f"tests/{name}.py"], [plugin])
        measured = {"tests": plugin.tests, "failed": sorted(plugin.failed)}
        (path.with_suffix(".part")).write_text(json.dumps(measured))
        return code

    if not path.exists():
        status, _ = forked(copy, work, 30 * LIMIT)
        if status not in ("0", "1"):
            raise RuntimeError(f"{name} cannot be run: {status}")
        path.with_suffix(".part").rename(path)
    measured = json.loads(path.read_text())
    for test in measured["failed"]:
        print(f"left out, as it fails without a mutant: {test}")
    return measured["tests"]


def covering(mutant: Mutant, tests: dict[str, dict]) -> dict[str, float]:
    """The tests that execute a line of the mutant's statement, with their seconds.

    Of what is executed on import, all.
    """
    first, last = mutant.lines
    wanted = {f"{mutant.file}:{line}" for line in range(first, last + 1)}
    if mutant.lines == (0, 0) or not any(
        wanted & set(t["lines"]) for t in tests.values()
    ):
        return {name: test["seconds"] for name, test in tests.items()}
    return {n: t["seconds"] for n, t in tests.items() if wanted & set(t["lines"])}


def run(copy: Path, mutant: Mutant, tests: dict[str, dict]) -> tuple[str, str, float]:
    """Runs the tests of a mutant.

    Returns: "killed", "survived", or "slow", a loop that does not end, which is killed too;
      the test that failed; and CPU seconds.
    """
    path = copy / mutant.file
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    line = lines[mutant.line - 1]
    lines[mutant.line - 1] = line[: mutant.start] + mutant.new + line[mutant.end :]
    chosen = covering(mutant, tests)
    files = sorted({name.split("::")[0] for name in chosen})
    report = copy / "first_failure.txt"
    report.unlink(missing_ok=True)

    def work() -> int:
        options = ["-x", "-p", "no:cacheprovider", *files]
        return pytest.main(options, [Ordered(chosen, report)])

    if not chosen:
        return "survived", "no test executes it", 0.0
    path.write_text("".join(lines))
    try:
        status, seconds = forked(copy, work, 30 * LIMIT)
    finally:
        path.write_text(text)
    outcome = {"0": "survived", "slow": "slow"}.get(status, "killed")
    by = report.read_text() if report.exists() else ""
    return outcome, by or {"killed": "import"}.get(outcome, ""), seconds


def main(
    num: int = 150,
    seed: int = 1,
    out: Path = Path("mutants.csv"),
    only: tuple[str, ...] = DRAWN,
    work: Path = ROOT / "results/mutants",
) -> None:
    """Runs the mutants that are not in the csv yet, and prints how many survived.

    Args:
      num: how many mutants are drawn.
      seed: of the draw.
      out: the csv, a line for each mutant.
      only: how the names of the files begin from which they are drawn.
      work: the folder of what each test executes.
    """
    sys.dont_write_bytecode = True
    work.mkdir(parents=True, exist_ok=True)
    files = [file for file in TESTS if file.startswith(only)]
    everything = [mutant for file in files for mutant in sites(file)]
    drawn = random.Random(seed).sample(everything, num)
    done = {}
    if out.exists():
        with out.open() as file:
            done = {int(row["number"]): row["outcome"] for row in csv.DictReader(file)}
    else:
        out.write_text(",".join(COLUMNS) + "\n")
    # Programs that a mutant leaves as they are, however small, are compiled once for all.
    jax.config.update("jax_compilation_cache_dir", str(work.resolve() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    os.environ.setdefault("JAXNAS_SHARED", str(ROOT.parent / "shared"))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / "jaxnas"
        ignored = shutil.ignore_patterns(".venv*", ".git", "results", ".*cache*")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for number, mutant in enumerate(drawn):
            if number in done:
                continue
            tests = {}
            for name in TESTS[mutant.file]:
                tests |= measure(copy, name, work)
            outcome, by, seconds = run(copy, mutant, tests)
            line = (ROOT / mutant.file).read_text().splitlines()[mutant.line - 1]
            old = line[mutant.start : mutant.end]
            row = [number, outcome, mutant.file, mutant.line, line.strip(), old]
            row += [mutant.new, by, f"{seconds:.1f}"]
            with out.open("a") as file:
                csv.writer(file, lineterminator="\n").writerow(row)
            done[number] = outcome
    survived = sum(outcome == "survived" for outcome in done.values())
    print(f"{survived} of {len(done)} mutants survived (of {len(everything)} possible)")


if __name__ == "__main__":
    tyro.cli(main)
