"""Searching with a function of the user's, in Python, and never losing an evaluation.

The folder of a search holds `settings.json` and `history.jsonl`, a line for every
finished evaluation, on disk before the search is told of it. Asking and telling are pure,
so the lines are the whole state: a search that is taken up again is told them once more.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import checkpoints
from jaxnas.search.base import Search, checked_stages
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Query, Result

# (architecture in the space's notation, last epoch) -> score, higher is better.
Objective = Callable[[str, int], float]


class Evaluation(NamedTuple):
    """One line of the history."""

    step: int
    slot: int  # the place in its step's batch
    arch: str
    epoch: int
    score: float  # NaN where it failed
    seconds: float
    error: str  # why it failed; empty where it did not


_TYPES = (int, int, str, int, float, (int, float), str)


@jax.jit
def _apply(function: Callable, *args: Any) -> Any:
    """`function` is an argument, as the large arrays that it holds are data."""
    return function(*args)


def optimise(
    key: Array,
    search: Search,
    space: Space,
    objective: Objective,
    num_steps: int,
    folder: str | os.PathLike,
    *,
    executor: Executor | None = None,
    tell: Callable[[Evaluation], object] = lambda evaluation: None,
) -> list[Evaluation]:
    """Runs a search of `num_steps` steps, or goes on with the one that is in `folder`.

    It asks what `run` asks with the same key and the same scores. An objective that
    raises, or returns NaN or an infinity, has failed: the search is told NaN, and does
    not ask again. A process that is killed loses the evaluations in flight, which are
    asked again by the same call.

    Args:
      key: () PRNG key.  search: of `space`.
      objective: what is maximised, called with strings and epochs, such as 200; where
        the search asks for full training the epoch is `FULL_TRAINING`.
      folder: where the history is kept; made where it is missing.
      executor: evaluates the architectures of a step side by side: one of
        `concurrent.futures`, or anything with its `submit`. Default: one by one.
      tell: called with every new evaluation, once it is on disk.

    Returns: the history, in the order of steps and of slots in them.
    Raises: `ValueError` for a folder of another search, a damaged history, or an
      objective that returns no number.
    """
    stages = checked_stages(search, num_steps)
    path = Path(folder)
    _claim(path, _identity(key, search, space, num_steps))
    key_init, key_run = jax.random.split(key)
    history: list[Evaluation] = []
    with _opened(path / "history.jsonl") as (file, before), _told_how_to_go_on(path):
        state, begin = search.init(key_init), 0
        for end, every in stages:
            state = search.grow(state, end)
            for step in range(begin, end):
                if (step - begin) % every == 0:
                    state = _apply(search.refresh, state)
                # As in `run`, which draws the evaluation's randomness from the second.
                step_key = jax.random.split(jax.random.fold_in(key_run, step))[0]
                query = _apply(search.ask, step_key, state)
                found = {e.slot: e for e in before.pop(step, [])}
                for new in _evaluate(query, space, step, objective, executor, found):
                    _append(file, new)
                    found[new.slot] = new
                    tell(new)
                done = [found[slot] for slot in sorted(found)]
                query, result = _as_arrays(query, space, done)
                state = _apply(search.tell, state, query, result)
                history += done
            begin = end
    return history


def best(history: list[Evaluation]) -> Evaluation:
    """The evaluation of highest score. Raises `ValueError` if all failed."""
    scored = [e for e in history if not math.isnan(e.score)]
    if not scored:
        raise ValueError(f"none of {len(history)} evaluations has a score")
    return max(scored, key=lambda e: e.score)


def _as_arrays(
    query: Query, space: Space, done: list[Evaluation]
) -> tuple[Query, Result]:
    # What was evaluated, even if another version of the search would ask another.
    arch = jnp.asarray(np.stack([space.from_string(e.arch) for e in done]), jnp.int32)
    score = jnp.array([e.score for e in done], jnp.float32)
    cost = jnp.array([e.seconds for e in done], jnp.float32)
    return query._replace(arch=arch), Result(score, score[:, None], cost)


@contextlib.contextmanager
def _told_how_to_go_on(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: the same call goes on with what is in {folder}"
        ) from None


def _evaluate(
    query: Query,
    space: Space,
    step: int,
    objective: Objective,
    executor: Executor | None,
    found: dict[int, Evaluation],
) -> Iterator[Evaluation]:
    """The evaluations of a step that are not `found`, as they finish."""
    names = [space.to_string(arch) for arch in np.asarray(query.arch)]
    epochs = np.asarray(query.epoch).tolist()
    wanted = [slot for slot in range(len(names)) if slot not in found]
    if executor is None:
        for slot in wanted:
            score, seconds, error = _call(objective, names[slot], epochs[slot])
            yield Evaluation(
                step, slot, names[slot], epochs[slot], score, seconds, error
            )
        return
    running: dict[Future, int] = {
        executor.submit(_call, objective, names[slot], epochs[slot]): slot
        for slot in wanted
    }
    try:
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot = running.pop(future)
                score, seconds, error = _outcome(future)
                yield Evaluation(
                    step, slot, names[slot], epochs[slot], score, seconds, error
                )
    finally:
        for future in running:
            future.cancel()


def _outcome(future: Future) -> tuple[float, float, str]:
    """Of a call in another thread or process; a worker that died has failed."""
    try:
        return future.result()
    except ValueError:
        raise
    except Exception as error:
        return math.nan, 0.0, f"{type(error).__name__}: {error}"


def _call(objective: Objective, arch: str, epoch: int) -> tuple[float, float, str]:
    begin = time.perf_counter()
    try:
        score = objective(arch, epoch)
    except Exception as error:
        return math.nan, time.perf_counter() - begin, f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - begin
    try:
        score = float(score)
    except (TypeError, ValueError):
        raise ValueError(
            f"the objective returned {type(score).__name__} for {arch}: wanted a number"
        ) from None
    if not math.isfinite(score):
        return math.nan, seconds, f"the score is {score}"
    return score, seconds, ""


def _identity(
    key: Array, search: Search, space: Space, num_steps: int
) -> dict[str, Any]:
    """What a history belongs to: another key or length would ask something else."""
    query = jax.eval_shape(lambda key: search.ask(key, search.init(key)), key)
    return {
        "space": space.name,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "num_steps": num_steps,
        "batch": query.arch.shape[0],
    }


def _claim(folder: Path, wanted: dict[str, Any]) -> None:
    record = folder / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            if (folder / "history.jsonl").exists():
                raise ValueError(f"{folder} has a history and no settings.json")
            text = json.dumps(wanted, indent=1) + "\n"
            checkpoints.atomic_write(record, text.encode())
        found = json.loads(record.read_text())
    except OSError as error:
        raise ValueError(f"cannot use {folder}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"cannot read {record}: {error}") from error
    if found != wanted:
        raise ValueError(
            f"{folder} has the history of another search ({found}): wanted {wanted}, "
            "or another folder"
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], dict[int, list[Evaluation]]]]:
    """The history, open to append and locked, and its evaluations by step."""
    with open(path, "a+b") as file:
        _lock(file, path)
        file.seek(0)
        content = file.read()
        # A process that was killed may have left half a line, which nobody was told.
        whole = content[: content.rfind(b"\n") + 1]
        file.truncate(len(whole))
        steps: dict[int, list[Evaluation]] = {}
        for number, line in enumerate(whole.splitlines(), 1):
            evaluation = _parse(line, path, number)
            steps.setdefault(evaluation.step, []).append(evaluation)
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


def _parse(line: bytes, path: Path, number: int) -> Evaluation:
    try:
        fields = json.loads(line)
        score = math.nan if fields["score"] is None else float(fields["score"])
        found = Evaluation(**(fields | {"score": score}))
        if not all(map(isinstance, found, _TYPES)):
            raise TypeError
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"line {number} of {path} is no evaluation: remove it and all after it to "
            "go on from there"
        ) from None
    return found


def _append(file: IO[bytes], evaluation: Evaluation) -> None:
    fields = evaluation._asdict()
    # JSON has no NaN.
    fields["score"] = None if math.isnan(evaluation.score) else evaluation.score
    file.write(json.dumps(fields).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
