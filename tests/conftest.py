"""Fixtures of the whole suite."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Before jax or scipy loads its BLAS: idle threads that spin make small matrices slow.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Golden traces were recorded with these kernels; those for AVX-512 round differently.
_CPU = Path("/proc/cpuinfo")
if _CPU.is_file() and " avx2 " in _CPU.read_text():
    os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
# What the suite takes is compilation, of which XLA's older way of writing loops needs
# less. A flag that is unknown ends the process: only where these are known to be.
if version("jaxlib").startswith("0.10."):
    older = "--xla_cpu_use_fusion_emitters=false"
    whole = "--xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{older} {whole} {os.environ.get('XLA_FLAGS', '')}"

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# Tracing makes many objects, of which few are garbage, and notes where each came from.
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_traceback_in_locations_limit", 0)
# The same examples in every run, and no time limit: machines are slow and shared.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, max_examples=60
)
hypothesis.settings.load_profile("suite")

ROOT = Path(__file__).parent.parent
_MAPS = Path("/proc/self/maps")
_TESTS = pytest.StashKey[int]()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data, which is no part of the project."""
    folder = Path(os.environ.get("JAXNAS_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}: JAXNAS_SHARED can name another")
    return folder.resolve()


@pytest.fixture(scope="session")
def records(shared):
    """Complete official records of three cells of NAS-Bench-201."""
    from jaxnas.io import npz

    return npz.read_npz(shared / "data/nats_official_records_3archs.npz")


@pytest.fixture(scope="session")
def curve_oracle(shared):
    """What the reference programs of learning curves gave: arrays and values, by name."""
    import json

    from jaxnas.io import npz

    arrays = npz.read_npz(shared / "oracles/learning_curves.npz")
    values = json.loads((shared / "oracles/learning_curves.json").read_text())
    return {**arrays, **values}


@pytest.fixture(scope="session", autouse=True)
def table_cache(tmp_path_factory):
    """Tables that are made from packages are cached for this run of the suite alone."""
    os.environ["JAXNAS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def x64():
    """Double precision inside the test, single outside it."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def quick_compilation():
    """For programs that are compiled for longer than they run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def exact_products():
    """For networks that are compared with another library's, also on an accelerator."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="session")
def zero_cost(shared):
    """The recorded networks with their scores, by tag."""
    import json

    import zero_cost_records

    from jaxnas.io import npz

    arrays = npz.read_npz(shared / "oracles/zero_cost.npz")
    index = json.loads((shared / "oracles/zero_cost.json").read_text())
    return {tag: zero_cost_records.load(arrays, index, tag) for tag in index["entries"]}


def pytest_collection_modifyitems(items):
    """Marks as slow the tests that took 0.4 s or more when they were last measured."""
    slow = set((Path(__file__).parent / "slow.txt").read_text().split())
    for item in items:
        name = f"{item.path.stem}::{getattr(item, 'originalname', item.name)}"
        if name in slow or item.path.stem in slow:
            item.add_marker(pytest.mark.slow)


def pytest_runtest_teardown(item):
    """Drops compiled programs before a process has too many of them.

    Each maps memory, and a process that has 65,530 mappings (Linux's default) dies in the
    next compilation.
    """
    tests = item.session.stash[_TESTS] = item.session.stash.get(_TESTS, 0) + 1
    if tests % 20 == 0 and _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
        gc.collect()
