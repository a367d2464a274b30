"""Commands in surroundings that are not as usual: environment, terminal, disk."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

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
