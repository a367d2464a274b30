"""Damaged files of published surrogates: refused in words, or a model that is sound."""

import random
import shutil

import numpy as np
import pytest

from jaxnas.benchmarks.importers import x11
from jaxnas.curves import forest as forests

MEMBER = "ensemble_member_0/surrogate_model.model"
# The model file of each folder, a class in it, and whether flipped bits may hit arrays.
FOLDERS = {
    "e2e_nb211_svd_lgb": (MEMBER, b"RegressorChain"),
    "e2e_nb311_svd_lgb": (MEMBER, b"StandardScaler"),
    "e2e_nb211_svd_xgb": (MEMBER, b"XGBRegressor"),
    "e2e_runtime_lgb": ("surrogate_model.model", b"Booster"),
}
NUM_FLIPS, NUM_CUTS = 120, 50


def flipped(data, rng):
    raw = bytearray(data)
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def variants(data, name, rng):
    """Names and contents of about 200 damaged files; a flipped bit may do no harm."""
    for i in range(NUM_CUTS):
        yield f"cut {i}", data[: rng.randrange(len(data))]
    yield "one byte less", data[:-1]
    yield "one byte more", data + b"\n"
    yield "LF to CRLF", data.replace(b"\n", b"\r\n")
    yield "CRLF to LF", data.replace(b"\r\n", b"\n")
    yield "CR to LF", data.replace(b"\r", b"\n")
    text = data.decode("latin1")
    yield "UTF-8", text.encode()
    yield "UTF-8 of cp1252", data.decode("cp1252", "replace").encode()
    yield "replaced", data.decode("utf-8", "replace").encode()
    yield "ignored", data.decode("utf-8", "ignore").encode()
    yield "byte order mark", b"\xef\xbb\xbf" + data
    yield "UTF-16", text.encode("utf-16")
    for i in range(1, 9):  # values more or less in the outermost list
        yield f"{i} more", data[:-2] + b"N" * i + data[-2:]
    for i in range(2, 6):
        yield f"{i} less", data[:-2] + b"0" * i + data[-2:]
    for i in range(len(name)):
        foreign = bytearray(name)
        foreign[i] = ord("_")
        yield f"class {i}", data.replace(name, bytes(foreign))
    for i in range(NUM_FLIPS):
        yield f"bit {i}", flipped(data, rng)


def check(released):
    """Asserts that a model is finite in float32, and that its trees are trees."""
    chains = [m.chain for m in released.members] or [released.regressors]
    for forest in (f for chain in chains for f in chain):
        forests.levels(forests.validate(forest, "forest"))
        assert np.abs(forest.value[forest.feature < 0]).max() < 1e10
    for member in released.members:
        arrays = [member.mean, member.scale, member.singular, member.right]
        arrays += member.kernel or []
        assert all((np.abs(array) < 1e10).all() for array in arrays)


@pytest.mark.parametrize("folder", FOLDERS)
def test_damaged_files_are_refused_or_sound(shared, tmp_path, folder):
    name, kind = FOLDERS[folder]
    source = shared / "oracles/learning_curves_models" / folder
    path = tmp_path / name
    shutil.copytree(source / path.parent.relative_to(tmp_path), path.parent,
                    dirs_exist_ok=True)  # fmt: skip
    data = path.read_bytes()
    path.chmod(0o644)
    passed, reasons = [], []
    for what, content in variants(data, kind, random.Random(folder)):
        if content == data:
            continue
        path.write_bytes(content)
        try:
            check(x11.read(tmp_path))
            passed.append(what)
        except ValueError as error:
            message = str(error)
            assert str(path) in message and "\n" not in message, what
            assert len(message) < 900, what
            reasons.append((what, message))
    assert all(what.startswith("bit") for what in passed), passed
    assert len(passed) + len(reasons) > 195
    message_of = dict(reasons)
    for what in ("UTF-8", "UTF-8 of cp1252", "replaced", "byte order mark"):
        assert (
            "re-encoded as text" in message_of[what]
            and "binary mode" in message_of[what]
        )
    assert (
        "CR LF" in message_of["LF to CRLF"]
        and "binary mode" in message_of["LF to CRLF"]
    )
    assert "binary mode" in message_of["one byte less"]
    assert (
        "it asks for" in message_of["class 0"] and "admitted" in message_of["class 0"]
    )
    if folder != "e2e_runtime_lgb":
        assert "a list of 7" in message_of["2 more" if "xgb" in folder else "1 more"]
