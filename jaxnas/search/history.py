"""The history of a search on disk: a line for every evaluation, written for good."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaxnas import checkpoints
from jaxnas.spaces.base import Space


class Evaluation(NamedTuple):
    """One line of the history."""

    step: int
    slot: int  # the place in its step's batch
    arch: str
    epoch: int
    score: float  # NaN where it failed
    seconds: float
    error: str  # why it failed; empty where it did not


# No score is larger: sums and differences of such stay finite in single precision.
LARGEST = 1e30
# What a line that is none may raise when it is read.
_MALFORMED = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
_TYPES = (int, int, str, int, float, (int, float), str)


def claim(folder: Path, wanted: dict[str, Any]) -> None:
    """Makes the folder, or raises `ValueError` if it is not that of `wanted`."""
    record = folder / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        orphan = not record.exists() and any(p.name[0] != "." for p in folder.iterdir())
        if not record.exists() and not orphan:
            text = json.dumps(wanted, indent=1) + "\n"
            checkpoints.atomic_write(record, text.encode())
        content = b"" if orphan else record.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot use {folder}: {error.strerror}") from error
    if orphan:
        raise ValueError(
            f"{folder} is not empty and has no settings.json of a search: give another"
        )
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {record}: {error}") from error
    if found != wanted:
        raise ValueError(
            f"{folder} has the history of another search ({found}): wanted {wanted}, "
            "or another folder"
        )


@contextlib.contextmanager
def opened(
    path: Path, space: Space, num_steps: int, batch: int
) -> Iterator[tuple[IO[bytes], dict[int, dict[int, Evaluation]]]]:
    """The history, open to append and locked, and its evaluations by step and slot.

    Raises: `ValueError` for a line that is none, or if another process has the file.
    """
    try:
        file = open(path, "a+b")
    except OSError as error:
        raise ValueError(f"cannot use {path}: {error.strerror}") from error
    with file:
        _lock(file, path)
        file.seek(0)
        lines = file.read().split(b"\n")
        half = lines.pop()
        steps: dict[int, dict[int, Evaluation]] = {}

        def add(line: bytes) -> None:
            e = _parse(line, space)
            known = steps.get(e.step, {})
            if not (0 <= e.step < num_steps and 0 <= e.slot < batch) or e.slot in known:
                raise ValueError
            steps[e.step] = known | {e.slot: e}

        for number, line in enumerate(lines, 1):
            try:
                add(line)
            except _MALFORMED:
                raise ValueError(
                    f"line {number} of {path} is no evaluation of this search, or one "
                    "for the second time: remove it and all after it to go on from there"
                ) from None
        # What a killed process was writing, or a line that an editor did not end.
        try:
            add(half)
            file.write(b"\n")
        except _MALFORMED:
            file.truncate(sum(len(line) + 1 for line in lines))
        yield file, steps


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows, where two searches in one folder may mix
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(f"{path} is in use by another process") from None


def _parse(line: bytes, space: Space) -> Evaluation:
    """Raises one of `_MALFORMED` if the line is no evaluation."""
    fields = json.loads(line)
    score = math.nan if fields["score"] is None else float(fields["score"])
    found = Evaluation(**(fields | {"score": score}))
    if not all(map(isinstance, found, _TYPES)) or abs(score) > LARGEST:
        raise ValueError
    space.from_string(found.arch)
    return found


def append(file: IO[bytes], evaluation: Evaluation) -> None:
    """Writes a line that is on disk when this returns."""
    fields = evaluation._asdict()
    # JSON has no NaN.
    fields["score"] = None if math.isnan(evaluation.score) else evaluation.score
    file.write(json.dumps(fields).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
