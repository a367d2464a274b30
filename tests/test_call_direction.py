"""Drivers call the library and never the other way round; tables are opened once."""

import collections
import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import curve_search, search_images, tw_sequential

ROOT = Path(__file__).parent.parent
LIBRARY, DRIVERS = (str(ROOT / name) + "/" for name in ("jaxnas", "experiments"))
_opened: collections.Counter | None = None


def _audit(event, arguments):
    # Audit hooks cannot be removed, so this one is switched by `_opened`.
    if event != "open" or _opened is None:
        return
    path, mode = arguments[0], arguments[1] or "r"
    if isinstance(path, str | os.PathLike) and not set(mode) & set("wxa+"):
        _opened[os.fspath(path)] += 1


sys.addaudithook(_audit)


@contextlib.contextmanager
def watched():
    """Counts calls from jaxnas/ into experiments/, and reads of each file."""
    global _opened
    calls, _opened = [], collections.Counter()

    def profile(frame, event, argument):
        del argument
        code, caller = frame.f_code, frame.f_back
        if event == "call" and code.co_filename.startswith(DRIVERS) and caller:
            origin = caller.f_code
            if origin.co_filename.startswith(LIBRARY):
                calls.append(f"{origin.co_qualname} -> {code.co_qualname}")

    sys.setprofile(profile)
    reads = _opened
    try:
        yield calls, reads
    finally:
        sys.setprofile(None)
        _opened = None


def tables_read(reads, out):
    """How often each file of a table was opened, by its name; not those of results."""
    return {
        n: k
        for n, k in reads.items()
        if Path(n).suffix in (".npz", ".anb") and not n.startswith(str(out))
    }


def test_the_main_driver(tmp_path, quick_compilation):
    """On its default benchmark: the file of the package, and its cached table."""
    config = tw_sequential.Config(
        methods=("random", "gp-tw"), seeds=1, evaluations=6, init=3,
        out=str(tmp_path / "out"),
    )  # fmt: skip
    with watched() as (calls, reads):
        tw_sequential.main(config)
    assert calls == []
    tables = tables_read(reads, tmp_path)
    assert any("analog" in name for name in tables) and set(tables.values()) == {1}


def test_the_main_driver_with_known_scores(shared, tmp_path, quick_compilation):
    config = tw_sequential.Config(
        methods=("gp-tw",), scores=("snip",), seeds=1, evaluations=4, init=3,
        out=str(tmp_path / "out"),
    )  # fmt: skip
    with watched() as (calls, reads):
        tw_sequential.main(config)
    assert calls == []
    tables = tables_read(reads, tmp_path)
    assert any("shared" in name for name in tables) and set(tables.values()) == {1}


def test_searches_that_decide_how_long_to_train(tmp_path, quick_compilation):
    config = curve_search.Config(
        benchmark="fashion-curves", dataset="fashion-mnist", epochs=12, run="0",
        methods=("random",), seeds=1, evaluations=4,
        budget=None, init=2, min_epoch=1, few=3, out=str(tmp_path / "out"),
    )  # fmt: skip
    with watched() as (calls, reads):
        curve_search.main(config)
    assert calls == []
    tables = tables_read(reads, tmp_path)
    assert any("curves" in name for name in tables) and set(tables.values()) == {1}


def test_the_search_on_images(tmp_path, quick_compilation):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (60, 8, 8, 1)).astype(np.float32)
    path = tmp_path / "images.npz"
    np.savez(path, x=x, y=np.arange(60) % 2)
    config = search_images.Config(
        data=str(path), minutes=0.001, method="random", channels=2, size=8,
        out=str(tmp_path / "out"),
    )  # fmt: skip
    with watched() as (calls, reads):
        search_images.main(config)
    assert calls == []
    assert reads[str(path)] == 1


def test_the_watch_sees_a_call_back(tmp_path):
    """The check itself: a library function that calls a driver's is seen."""
    source = compile("def back(f):\n    return f()\n", LIBRARY + "made_up.py", "exec")
    scope: dict = {}
    exec(source, scope)
    file = tmp_path / "read"
    file.write_text("x")
    with watched() as (calls, reads):
        with pytest.raises(ValueError, match="method"):
            scope["back"](lambda: None) or scope["back"](_driver())
        file.read_text()
    assert [c for c in calls if "<locals>" not in c] == ["back -> main"]
    assert reads[str(file)] == 1


def _driver():
    import functools

    return functools.partial(tw_sequential.main, tw_sequential.Config(methods=()))
