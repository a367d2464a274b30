"""Packages export their functions by name, whatever was imported before."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxnas
from jaxnas.search import presets
from jaxnas.types import FULL_TRAINING

ROOT = Path(__file__).parent.parent
STUBS = sorted((ROOT / "jaxnas").rglob("__init__.pyi"))
PACKAGES = [".".join(p.parent.relative_to(ROOT).parts) for p in STUBS]


def exported(stub):
    """Name -> (module relative to the package, or None for a submodule)."""
    imports = [
        n for n in ast.parse(stub.read_text()).body if isinstance(n, ast.ImportFrom)
    ]
    return {alias.name: node.module for node in imports for alias in node.names}


@pytest.fixture(scope="module", autouse=True)
def all_submodules():
    """Imports everything first: an import sets an attribute of the package."""
    for module in pkgutil.walk_packages(jaxnas.__path__, "jaxnas."):
        importlib.import_module(module.name)


@pytest.mark.parametrize(
    ("package", "stub"), list(zip(PACKAGES, STUBS, strict=True)), ids=PACKAGES
)
def test_no_submodule_hides_an_export(package, stub):
    loaded = importlib.import_module(package)
    names = exported(stub)
    assert sorted(names) == sorted(loaded.__all__) and names
    for name, module in names.items():
        value = getattr(loaded, name)
        origin = package if module is None else f"{package}.{module}"
        if isinstance(value, types.ModuleType):
            assert value is sys.modules[f"{origin}.{name}"]
        else:
            assert value is vars(sys.modules[origin])[name]


def test_an_export_is_the_function_before_any_submodule_is_imported_too():
    code = """
import json, types
from jaxnas.search import bananas as before
import jaxnas.search.neural_predictor, jaxnas.search.gp.pool_search, jaxnas.search.random
from jaxnas.search import bananas, bayesopt, random_search
print(json.dumps([bananas is before, callable(bayesopt), callable(random_search)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == [True] * 3


def test_no_signature_shows_the_epoch_that_stands_for_the_last_one():
    shown = []
    for package, stub in zip(PACKAGES, STUBS, strict=True):
        loaded = importlib.import_module(package)
        values = [getattr(loaded, name) for name in exported(stub)]
        values += vars(presets).values()
        for value in filter(callable, values):
            try:
                shown.append(str(inspect.signature(value)))
            except ValueError:
                continue
    assert len(shown) > 50
    assert not [s for s in shown if str(FULL_TRAINING) in s]


def test_every_package_with_public_functions_exports_them():
    packages = {p.parent for p in (ROOT / "jaxnas").rglob("__init__.py")}
    # Packages whose modules are imported by name: files and parts of larger wholes.
    by_module = {"io", "importers", "gp", "studies"}
    assert {p.name for p in packages - {s.parent for s in STUBS}} <= by_module


def test_presets_have_their_names_and_docstrings():
    made = {n: f for n, f in vars(presets).items() if re.match("gp_|bananas", n)}
    assert len(made) == 15
    for name, preset in made.items():
        assert (preset.__name__, preset.__qualname__) == (name, name)
    documented = {preset.__doc__ for preset in made.values()}
    assert len(documented) == 15 and None not in documented
    # Those made from a distance name it, and its paper.
    assert "Hamming" in presets.gp_hamming.__doc__
    assert "Kandasamy et al., 2018" in presets.gp_otmann.__doc__
