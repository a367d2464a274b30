"""Importing the package: what it needs, what it loads, what it leaves alone."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnas

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "jaxnas").rglob("*.py")
)
# What the whole library may need besides jax and numpy, and where: optax wherever
# something is trained, and what the extra `experiments` brings in studies alone.
NEEDS = {
    "jaxnas.benchmarks.training": {"optax"},
    "jaxnas.curves.extrapolate.pfn": {"flax", "optax"},
    "jaxnas.curves.regress_mlp": {"flax", "optax"},
    "jaxnas.curves.vae": {"flax", "optax"},
    "jaxnas.datasets.meta_examples": {"flax", "optax"},
    "jaxnas.datasets.opened": {"optax"},
    "jaxnas.models": {"flax", "optax"},
    "jaxnas.networks": {"optax"},
    "jaxnas.predictors.ensemble": {"optax"},
    "jaxnas.search": {"optax"},
    "jaxnas.studies": {"matplotlib", "optax", "rich", "tyro"},
    "jaxnas.studies.metad2a": {"flax"},
}
ABSENT = (
    "optax",
    "flax",
    "lightgbm",
    "xgboost",
    "matplotlib",
    "rich",
    "tyro",
    "pandas",
    "sklearn",
    "ot",
    "ott",
    "orbax",
    "networkx",
)


def needs(module):
    """Packages that a module may need, by the longest prefix of its name in NEEDS."""
    return set().union(*(n for prefix, n in NEEDS.items() if module.startswith(prefix)))


def python(code, *arguments, options=()):
    """What a fresh interpreter, started in the project's root, prints as JSON."""
    command = [sys.executable, *options, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    return json.loads(done.stdout)


def test_every_module_imports_without_the_optional_packages_and_without_warnings():
    code = """
import importlib, json, sys
modules, absent = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for name in absent:
    sys.modules[name] = None
missing = {}
for name in modules:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing[name] = error.name.split(".")[0]
print(json.dumps(missing))
"""
    names = json.dumps(MODULES), json.dumps(ABSENT)
    missing = python(code, *names, options=("-W", "error"))
    assert {m: n for m, n in missing.items() if n not in needs(m)} == {}


def test_importing_jaxnas_loads_numpy_and_jax_only():
    code = """
import json, sys
import jax, jax.numpy
before = set(sys.modules)
import jaxnas
print(json.dumps([sorted(set(sys.modules) - before), dir(jaxnas)]))
"""
    loaded, names = python(code)
    outside = {n.split(".")[0] for n in loaded} - {"jaxnas"}
    assert outside <= {"lazy_loader", "ast", "_ast"}, "a heavy import"
    assert [n for n in loaded if n.startswith("jaxnas.")] == []
    assert {"spaces", "search", "benchmarks", "types", "load"} <= set(names)


def test_importing_everything_changes_no_setting():
    code = """
import importlib, json, os, sys
import jax, numpy
def settings():
    values = {n: repr(v) for n, v in jax.config.values.items()}
    return values, dict(os.environ), numpy.geterr(), numpy.get_printoptions()
before = repr(settings())
for name in json.loads(sys.argv[1]):
    if name.startswith("jaxnas"):
        importlib.import_module(name)
from jax._src import xla_bridge
started = xla_bridge.backends_are_initialized()
print(json.dumps([repr(settings()) == before, started]))
"""
    # optax and matplotlib have settings of their own, of which the library changes none.
    unchanged, started = python(code, json.dumps([m for m in MODULES if not needs(m)]))
    assert unchanged
    assert not started, "an import has started a device"


def test_parts_are_reached_by_name():
    assert jaxnas.types.FULL_TRAINING == 2**31 - 1
    assert jaxnas.search is sys.modules["jaxnas.search"]
    assert all(hasattr(jaxnas, name) for name in dir(jaxnas))
    with pytest.raises(AttributeError, match="nothing"):
        _ = jaxnas.nothing


def test_the_version_is_the_installed_one():
    try:
        assert version("jaxnas") == jaxnas.__version__
    except PackageNotFoundError:
        pytest.skip("jaxnas is not installed here, only on the path")


def test_the_suite_runs_in_single_precision_unless_asked(x64):
    assert jax.numpy.ones(1).dtype == np.float64
    with jax.enable_x64(False):
        assert jax.numpy.ones(1).dtype == np.float32
    assert os.environ["OPENBLAS_NUM_THREADS"]
