"""Products of matrices outside networks are in full precision on every backend.

On a CPU they are so with and without the decorator. The tests therefore read the source,
and the programs that are traced.
"""

import ast
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxnas import gp, transport
from jaxnas.curves import extrapolate
from jaxnas.pareto import Objective
from jaxnas.precision import full_precision
from jaxnas.predictors import fit_ridge, task_kernels
from jaxnas.search import multi_objective
from jaxnas.search.fidelity.curve_gates import paper
from jaxnas.search.loop import run
from jaxnas.spaces import base
from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.studies.comparison import fidelity_methods, methods
from jaxnas.types import Result

ROOT = Path(__file__).parent.parent / "jaxnas"
PRODUCTS = {"dot", "matmul", "einsum", "tensordot", "inner", "vdot", "convolve"}
PRODUCTS |= {"cho_solve", "dot_general", "conv_general_dilated"}
# Networks, in the precision of the backend.
NETWORKS = ("networks/", "models/")
# Products of NumPy arrays, of Python lists, or of integers.
ON_THE_HOST = {
    "benchmarks/importers/x11_records.py",
    "curves/accuracy.py",
    "datasets/images.py",
    "datasets/rendered.py",
    "datasets/resample.py",
    "kernels/definite.py",
    "studies/images/bounds.py",
    "curves/compress.py: final_value_svd",
    "curves/compress.py: _scaled",
    "curves/noise.py: kernel_density",
    "predictors/prior_mean.py: _smooth",
    "proxies/activation.py: swap",
    "spaces/features.py: op_ngrams",
}


def is_product(node):
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.MatMult)
    if not isinstance(node, ast.Call):
        return False
    return getattr(node.func, "attr", getattr(node.func, "id", "")) in PRODUCTS


def is_decorated(function):
    return any(
        getattr(d, "id", "") == "full_precision" for d in function.decorator_list
    )


def is_returned(nested, function):
    """Whether a function in a function is in what that returns, and so may outlive it."""
    returns = (n for n in ast.walk(function) if isinstance(n, ast.Return) and n.value)
    names = (n for r in returns for n in ast.walk(r) if isinstance(n, ast.Name))
    return any(name.id == nested.name for name in names)


def exposed(node, wanted):
    """Whether a node that is `wanted` may run outside decorated functions."""
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.FunctionDef) and is_decorated(node):
        nested = (n for n in ast.walk(node) if isinstance(n, ast.FunctionDef))
        children = [n for n in nested if n is not node and is_returned(n, node)]
    elif wanted(node):
        return True
    return any(exposed(child, wanted) for child in children)


def unprotected(source):
    """Names of functions that multiply without the decorator.

    A private function may leave it to those that call it, if all of them have it.
    """
    functions = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]

    def mentions(name, node):
        return isinstance(node, ast.Name) and node.id == name

    def callers(name):
        wanted = functools.partial(mentions, name)
        return [f for f in functions if any(map(wanted, ast.walk(f)))]

    def is_left_to_callers(f):
        wanted = functools.partial(mentions, f.name)
        return f.name[0] == "_" and all(
            not exposed(caller, wanted) or is_left_to_callers(caller)
            for caller in callers(f.name)
        )

    multiplying = [f for f in functions if exposed(f, is_product)]
    return [f.name for f in multiplying if not is_left_to_callers(f)]


def test_products_are_written_in_decorated_functions():
    left = set()
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(NETWORKS) and name not in ON_THE_HOST:
            left |= {f"{name}: {f}" for f in unprotected(path.read_text())}
    assert left <= ON_THE_HOST


@pytest.mark.parametrize(
    "source, names",
    [
        ("def f(x):\n    return x @ x", ["f"]),
        ("@full_precision\ndef f(x):\n    return x @ x", []),
        ("def f(x):\n    def g():\n        return jnp.dot(x, x)\n    return g", ["f"]),
        (
            "@full_precision\ndef f():\n    def g(x):\n        return x @ x\n"
            "    return vmap(g)",
            ["f"],
        ),
        ("def _f(x):\n    return x @ x\n@full_precision\ndef g(x):\n    _f(x)", []),
        ("def _f(x):\n    return x @ x\ndef g(x):\n    return _f(x)", ["_f"]),
    ],
)
def test_the_check_itself_sees_products(source, names):
    assert unprotected(source) == names


def products(jaxpr):
    """The precisions of all products of floating-point numbers in a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            if jnp.issubdtype(equation.invars[0].aval.dtype, jnp.inexact):
                yield equation.params["precision"]
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from products(inner)


def require_full_precision(function, *arguments):
    precisions = set(products(jax.make_jaxpr(function)(*arguments).jaxpr))
    highest = jax.lax.Precision.HIGHEST
    assert precisions == {(highest, highest)}


def test_the_walk_sees_what_is_not_in_full_precision():
    x = jnp.ones((3, 3))
    looped = lambda x: jax.lax.fori_loop(0, 2, lambda i, x: x @ x, x)  # noqa: E731
    assert list(products(jax.make_jaxpr(jax.jit(looped))(x).jaxpr)) == [None]
    require_full_precision(full_precision(jax.jit(looped)), x)
    # Derivatives are traced later, and keep it.
    squared = full_precision(lambda x: (x @ x).sum())
    require_full_precision(jax.vmap(jax.grad(squared)), x[None])
    assert jax.config.jax_default_matmul_precision is None


ARCHS = base.every(SPACE)[::301]
LEVELS = (1, 3, 9)


def preset(name, batch=1):
    table = methods.METHODS if batch == 1 else methods.BATCH_METHODS
    return table[name](SPACE, ARCHS, methods.Terms(20, batch=batch))


def multi_fidelity(name):
    points = tuple(range(1, LEVELS[-1] + 1))
    terms = fidelity_methods.FidelityTerms(LEVELS, 3, paper(3), points, init=5)
    return fidelity_methods.make(name, SPACE, ARCHS, terms)


SEARCHES = {
    "gp-tw2g-plus-sampled": preset,
    "bananas": preset,
    "thompson": functools.partial(preset, batch=5),
    "gp-pareto": lambda name: multi_objective.gp_pareto(SPACE, OBJECTIVES, ARCHS),
    "bohb-plus": multi_fidelity,
    "evolution+ridge": multi_fidelity,
    "gp-two-levels": multi_fidelity,
}
OBJECTIVES = (
    Objective("accuracy", "percent", "maximise"),
    Objective("size", "M", "minimise"),
)


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_multiply_in_full_precision(name):
    def evaluate(key, query):
        score = jnp.zeros(query.epoch.shape)
        several = jnp.stack([score, score], 1) if name == "gp-pareto" else None
        curve = jnp.zeros((len(score), LEVELS[-1]))
        return Result(score, curve, jnp.ones_like(score), several)

    search = SEARCHES[name](name)
    steps = 4 if name in methods.BATCH_METHODS else 20
    experiment = lambda key: run(key, search, evaluate, steps)  # noqa: E731
    require_full_precision(experiment, jax.random.key(0))


def square(n):
    return jnp.eye(n)


MASS = jnp.full(3, 1 / 3)
STATISTICS = jnp.arange(12.0).reshape(3, 4)
FUNCTIONS = {
    "posterior": lambda: gp.posterior(
        *map(jnp.eye, (3, 3, 3)), MASS, MASS > 0, MASS[0]
    ),
    "gromov": lambda: transport.gromov_wasserstein(square(3), square(3), MASS, MASS),
    "ott": lambda: transport.general.gromov_wasserstein(
        square(3), square(3), MASS, MASS
    ),
    "ridge": lambda: fit_ridge(STATISTICS, MASS),
    "tasks": lambda: task_kernels([[0, 1], [1, 2]], STATISTICS),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_multiply_in_full_precision(name):
    if name == "ott":
        pytest.importorskip("ott")
    require_full_precision(lambda _: FUNCTIONS[name](), 0)


EXTRAPOLATORS = {
    "ridge": lambda: extrapolate.kernel_ridge(6),
    "svr": lambda: extrapolate.lc_svr(6, draws=2),
    "wpm": lambda: extrapolate.wpm(12),
    "curve_gp": lambda: extrapolate.curve_gp(4),
}


@pytest.mark.parametrize("name", EXTRAPOLATORS)
def test_extrapolators_multiply_in_full_precision(name):
    chosen = EXTRAPOLATORS[name]()
    curves = jnp.arange(60.0).reshape(5, 12) / 100

    def both(curves, arch):
        valid = jnp.ones(5, bool)
        params = chosen.fit(curves, curves[:, -1], valid, arch)
        return chosen.predict(params, curves[0], arch[0])

    require_full_precision(both, curves, jnp.ones((5, 2)))
