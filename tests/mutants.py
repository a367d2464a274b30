"""Draws small changes of the code with a stated seed, and counts those that no test sees.

    python tests/mutants.py --num 150 --seed 1 --out experiments/measured/mutants.csv

Works on a copy of the tree, a mutant at a time, each against the test files of its module.
A run that is killed goes on where it was. Not part of the suite: it takes hours.
"""

from __future__ import annotations

import ast
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

ROOT = Path(__file__).parent.parent
# Test files of each module, those that fail soonest first.
SEARCH = ("test_search", "test_loop", "test_golden")
TESTS = {
    "jaxnas/search/neural_predictor.py": ("test_bananas", "test_golden", "test_loop"),
    "jaxnas/search/neural_queue.py": ("test_bananas", "test_golden", "test_loop"),
    "jaxnas/search/base.py": SEARCH,
    "jaxnas/search/gp/pool_search.py": ("test_bayesopt", "test_golden", "test_loop"),
    "jaxnas/predictors/ensemble.py": ("test_bananas", "test_golden"),
    "jaxnas/search/evolution.py": (*SEARCH, "test_hyperband"),
    "jaxnas/predictors/few_labels.py": ("test_few_labels",),
    "jaxnas/search/ordered.py": ("test_in_order",),
    "jaxnas/search/loop.py": ("test_loop", "test_hyperband", "test_search"),
    "jaxnas/search/common.py": SEARCH,
    "jaxnas/predictors/pool.py": ("test_bayesopt", "test_identity", "test_golden"),
    "jaxnas/predictors/pool_gp.py": ("test_bayesopt", "test_selectors", "test_loop"),
    "jaxnas/search/gp/proposals.py": ("test_sampled",),
    "jaxnas/search/random.py": (*SEARCH, "test_identity"),
    "jaxnas/search/gp/sampled_search.py": ("test_sampled",),
    "jaxnas/search/gp/sampled_gp.py": ("test_sampled",),
    "experiments/zero_cost/reference_search.py": ("test_score_search",),
    "jaxnas/search/gp/schedule.py": ("test_bayesopt", "test_sampled", "test_loop"),
    "jaxnas/search/steps.py": ("test_loop", "test_hyperband", "test_search"),
    "jaxnas/search/gp/selectors.py": ("test_selectors", "test_golden"),
    "jaxnas/search/gp/shortlists.py": ("test_selectors", "test_golden", "test_sampled"),
    "jaxnas/benchmarks/tabular.py": (
        "test_benchmarks", "test_table_curves", "test_evaluators",
    ),
    "jaxnas/studies/comparison/runs.py": (
        "test_tw_sequential", "test_tw_batch", "test_golden",
    ),
}  # fmt: skip
SWAPS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=",
    ast.NotEq: "==", ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*",
    ast.FloorDiv: "/", ast.Mod: "//", ast.BitAnd: "|", ast.BitOr: "&", ast.And: "or",
    ast.Or: "and", ast.MatMult: "*", ast.Pow: "*",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A replacement of one stretch of one line."""

    file: str
    line: int
    start: int
    end: int
    new: str


def sites(file: str) -> list[Mutant]:
    """Every change of an operator, a number or a condition outside of annotations."""
    text = (ROOT / file).read_text()
    lines, found = text.splitlines(), []

    def add(line: int, start: int, end: int, new: str) -> None:
        found.append(Mutant(file, line, start, end, new))

    def between(left: ast.expr, right: ast.expr, new: str) -> None:
        if left.end_lineno == right.lineno:
            start, end = left.end_col_offset, right.col_offset
            part = lines[right.lineno - 1][start:end]
            word = part.strip(" ()")
            if word:
                at = start + part.index(word)
                add(right.lineno, at, at + len(word), new)

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Raise | ast.JoinedStr):
            return  # the words of errors
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            between(node.left, node.comparators[0], SWAPS[type(node.ops[0])])
        elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            between(node.left, node.right, SWAPS[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            between(*node.values[:2], SWAPS[type(node.op)])
        elif isinstance(node, ast.UnaryOp) and isinstance(
            node.op, ast.Not | ast.Invert
        ):
            gap = node.operand.col_offset - node.col_offset
            add(node.lineno, node.col_offset, node.col_offset + gap, "")
        elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
            value = node.value
            new = str(not value) if isinstance(value, bool) else repr(value + 1)
            add(node.lineno, node.col_offset, node.end_col_offset or 0, new)
        for name, child in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for one in child if isinstance(child, list) else [child]:
                if isinstance(one, ast.AST):
                    visit(one)

    visit(ast.parse(text))
    return found


def run(copy: Path, mutant: Mutant) -> str:
    """killed, survived or slow, which is killed too: a loop that does not end."""
    path = copy / mutant.file
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    line = lines[mutant.line - 1]
    lines[mutant.line - 1] = line[: mutant.start] + mutant.new + line[mutant.end :]
    path.write_text("".join(lines))
    files = [f"tests/{name}.py" for name in TESTS[mutant.file]]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *files],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            timeout=900,
        )
        return "survived" if done.returncode == 0 else "killed"
    except subprocess.TimeoutExpired:
        return "slow"
    finally:
        path.write_text(text)


def main(num: int = 150, seed: int = 1, out: Path = Path("mutants.csv")) -> None:
    """Runs the mutants that are not in the csv yet, and prints how many survived.

    Args:
      num: how many mutants are drawn.
      seed: of the draw.
      out: the csv, a line for each mutant.
    """
    everything = [mutant for file in TESTS for mutant in sites(file)]
    drawn = random.Random(seed).sample(everything, num)
    done = list(csv.reader(out.open())) if out.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "jaxnas"
        ignored = shutil.ignore_patterns(".venv*", ".git", "results", ".*cache*")
        shutil.copytree(ROOT, copy, ignore=ignored)
        shared = os.environ.setdefault("JAXNAS_SHARED", str(ROOT.parent / "shared"))
        del shared
        for mutant in drawn[len(done) :]:
            outcome = run(copy, mutant)
            was = (ROOT / mutant.file).read_text().splitlines()[mutant.line - 1]
            old = was[mutant.start : mutant.end]
            row = [outcome, mutant.file, mutant.line, was.strip(), old, mutant.new]
            with out.open("a") as file:
                csv.writer(file, lineterminator="\n").writerow(row)
            done.append(list(map(str, row)))
    survived = sum(row[0] == "survived" for row in done)
    print(f"{survived} of {len(done)} mutants survived (of {len(everything)} possible)")


if __name__ == "__main__":
    tyro.cli(main)
