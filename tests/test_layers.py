"""The layout: who may import whom, how long a file is, what every public name says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A unit is a module or package directly under jaxnas/. It imports from layers above its
# own; units of one layer do not import each other.
LAYERS = (
    {"types"},
    {"batching", "io"},
    {"gp", "dpp", "transport", "metrics", "ranks", "acquisition"},
    {"spaces", "ensembles"},
    {"kernels", "networks", "curves", "models"},
    {"proxies", "datasets", "predictors"},
    {"benchmarks"},
    {"search"},
    {"studies"},
)
LAYER = {unit: number for number, units in enumerate(LAYERS) for unit in units}
LONGEST = 320
LIBRARY = sorted((ROOT / "jaxnas").rglob("*.py"))
DRIVERS = sorted((ROOT / "experiments").rglob("*.py"))


def relative(path):
    return str(path.relative_to(ROOT))


def unit_of(path):
    return path.relative_to(ROOT / "jaxnas").with_suffix("").parts[0]


def imported_modules(tree, package):
    """Dotted names of everything that the code imports, relative imports resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imported_units(source, package=("jaxnas", "unit")):
    """The units of jaxnas that the code imports from."""
    modules = imported_modules(ast.parse(source), package)
    parts = [name.split(".") for name in modules]
    return {p[1] for p in parts if p[0] == "jaxnas" and len(p) > 1 and p[1][0] != "_"}


def violations(unit, units):
    """Those of `units` that `unit` may not import."""
    mine = LAYER[unit]
    return {u for u in units if u != unit and (u not in LAYER or LAYER[u] >= mine)}


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_a_unit_imports_only_from_layers_above(path):
    unit = unit_of(path)
    if unit == "__init__":
        assert not imported_units(path.read_text(), ("jaxnas",))
        return
    assert unit in LAYER, f"give {unit} a layer"
    package = ("jaxnas", *path.relative_to(ROOT / "jaxnas").parts[:-1])
    assert not violations(unit, imported_units(path.read_text(), package))


@pytest.mark.parametrize(
    ("unit", "source", "expected"),
    [
        ("gp", "from jaxnas.types import Array", set()),
        ("gp", "from jaxnas.spaces.base import Space", {"spaces"}),
        ("gp", "from jaxnas import spaces, types", {"spaces"}),
        ("gp", "import jaxnas.transport", {"transport"}),
        ("gp", "def f():\n    from .. import search", {"search"}),
        ("kernels", "from . import gram", set()),
        ("kernels", "from ..curves import noise", {"curves"}),
        ("search", "from jaxnas import novelty", {"novelty"}),
    ],
)
def test_the_check_itself_sees_every_form_of_import(unit, source, expected):
    assert violations(unit, imported_units(source, ("jaxnas", unit))) == expected


@pytest.mark.parametrize("path", LIBRARY + DRIVERS, ids=relative)
def test_no_file_is_long(path):
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_the_library_prints_nothing(path):
    calls = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)
    ]
    names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    assert "print" not in names


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, "the file says nothing of itself"
    kinds = (ast.FunctionDef, ast.ClassDef)
    named = [n for n in tree.body if isinstance(n, kinds) and n.name[0] != "_"]
    assert [n.name for n in named if not ast.get_docstring(n)] == []


def test_there_is_something_to_check():
    assert len(LIBRARY) > 10 and DRIVERS
