"""The layout: which unit may import which, sizes of files and functions, docstrings."""

import ast
import collections
import graphlib
import io
import re
import statistics
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A unit is a module or package directly under jaxnas/. It imports from layers above its
# own; units of one layer do not import each other.
LAYERS = (
    {"types", "precision"},
    {"batching", "io", "pivoting"},
    {"gp", "dpp", "transport", "metrics", "ranks", "acquisition"},
    {"spaces", "ensembles", "pareto"},
    {"kernels", "networks", "curves", "models"},
    {"proxies", "datasets", "predictors"},
    {"benchmarks"},
    {"search"},
    {"studies"},
)
LAYER = {unit: number for number, units in enumerate(LAYERS) for unit in units}
LONGEST = 300  # lines of a file
MEDIAN, NINTH_DECILE = 10, 30  # lines of code of a function
# Docstring lines per 100 lines of code, in every package.
DOCSTRINGS = {"jaxnas": 35, "experiments": 20}
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


def circle(graph):
    """A circle of a graph of imports, or None."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def lazy_exports():
    """The module that defines each name that a package exports by its stub."""
    origin = {}
    for stub in (ROOT / "jaxnas").rglob("__init__.pyi"):
        package = ".".join(stub.parent.relative_to(ROOT).parts)
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                module = f"{package}.{node.module}" if node.module else package
                origin |= {
                    f"{package}.{alias.name}": module
                    for alias in node.names
                    if node.module
                }
    return origin


def import_graph(sources, origin):
    """The modules that each module imports, lazy exports resolved.

    `sources` has the code by dotted name, packages as `a.b.__init__`; `origin` as
    `lazy_exports`.
    """
    modules = {name.removesuffix(".__init__"): name for name in sources}
    graph = {}
    for name, key in modules.items():
        package = name.split(".") if key.endswith("__init__") else name.split(".")[:-1]
        imported = imported_modules(ast.parse(sources[key]), tuple(package))
        # `from a.b import c` imports the module a.b.c, an export or a name of a.b.
        graph[name] = {
            module
            for full in imported
            for module in (full, full.rpartition(".")[0], origin.get(full))
            if module in modules and module != name
        }
    return graph


def test_no_imports_form_a_circle():
    sources = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts): p.read_text()
        for p in LIBRARY + DRIVERS
    }
    graph = import_graph(sources, lazy_exports())
    assert circle(graph) is None
    assert sum(map(len, graph.values())) > 200
    assert "jaxnas.datasets.images" in graph["jaxnas.datasets.opened"]


def test_a_circle_through_a_lazy_export_is_seen():
    sources = {
        "p.__init__": "",
        "p.a": "from p import name",
        "p.b": "from p.a import other",
    }
    assert circle(import_graph(sources, {})) is None
    assert circle(import_graph(sources, {"p.name": "p.b"}))


def test_a_circle_is_seen():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def lines_of(source):
    """The numbers of docstring lines and of lines of code, which are neither blank,
    comment nor docstring."""
    texts = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    inside = {n for node in texts for n in range(node.lineno, node.end_lineno + 1)}
    layout = (
        *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
        *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
    )
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {
        n
        for token in tokens
        if token.type not in layout
        for n in range(token.start[0], token.end[0] + 1)
    } - inside
    written = source.splitlines()
    return {n for n in inside if written[n - 1].strip()}, code


def package_of(path):
    """The folder of a module: jaxnas/search/gp, or jaxnas for its single modules."""
    return str(path.relative_to(ROOT).parent)


def test_docstrings_say_enough():
    docstrings, code = collections.Counter(), collections.Counter()
    for path in LIBRARY + DRIVERS:
        said, written = lines_of(path.read_text())
        docstrings[package_of(path)] += len(said)
        code[package_of(path)] += len(written)
    density = {unit: 100 * docstrings[unit] / code[unit] for unit in code}
    few = {u: d for u, d in density.items() if d < DOCSTRINGS[u.split("/")[0]]}
    assert not few, few
    assert len(density) > 10


def test_lines_are_told_apart():
    source = '"""One.\n\nTwo."""\n\n# why\nx = """a\nb"""\n\n'
    source += 'def f():\n    """Three."""\n    return x  # why\n'
    docstrings, code = lines_of(source)
    assert docstrings == {1, 3, 10} and code == {6, 7, 9, 11}


@pytest.mark.parametrize("paths", [LIBRARY, DRIVERS], ids=["jaxnas", "experiments"])
def test_functions_are_short(paths):
    sizes = []
    for path in paths:
        source = path.read_text()
        _, code = lines_of(source)
        sizes += [
            len(code & set(range(node.body[0].lineno, node.end_lineno + 1)))
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef)
        ]
    assert statistics.median(sizes) <= MEDIAN
    assert statistics.quantiles(sizes, n=10)[8] <= NINTH_DECILE


def test_the_layers_are_described_where_the_library_is():
    text = ast.get_docstring(ast.parse((ROOT / "jaxnas/__init__.py").read_text()))
    assert len(text.splitlines()) <= 25
    described = described_layers(text)
    written = {unit for layer in described for unit in layer}
    assert described == [layer & written for layer in LAYERS]
    assert set(LAYER) <= written


def described_layers(text):
    """The units of each layer that the docstring describes, in its order."""
    lines = [line for line in text.splitlines() if re.match(r"    \w", line)]
    names = (re.split(r"\s{2,}", line.strip())[0] for line in lines)
    return [set(units.split(", ")) for units in names]


def test_layers_in_another_order_are_seen():
    text = (
        "Layers:\n\n    io, batching  files\n    types   a query\n             more\n"
    )
    assert described_layers(text) == [{"io", "batching"}, {"types"}]
