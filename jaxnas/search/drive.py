"""Searching with a function of the user's, in Python, and never losing an evaluation.

The folder of a search holds `settings.json` and `history.jsonl`, a line for every
finished evaluation, on disk before the search is told of it. Asking and telling are pure,
so the lines are the whole state: a search that is taken up again is told them once more.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.search import history, workers
from jaxnas.search.base import Search, Stage, checked_stages
from jaxnas.search.history import Evaluation
from jaxnas.search.workers import Asked, Objective
from jaxnas.spaces.base import Space
from jaxnas.types import Array, Evaluate, Query, Result


class Together(NamedTuple):
    """An objective that is asked for a whole step at once, as a benchmark is."""

    evaluate: Evaluate  # (key, Query) -> Result


@jax.jit
def _apply(function: Callable, *args: Any) -> Any:
    """`function` is an argument, as the large arrays that it holds are data."""
    return function(*args)


def optimise(
    key: Array,
    search: Search,
    space: Space,
    objective: Objective | Together,
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
        the search asks for full training the epoch is `FULL_TRAINING`. `Together`
        takes the query of a step; what is known already has `start == epoch` in it.
        What it raises ends the search, which the same call takes up.
      folder: where the history is kept; made where it is missing.
      executor: evaluates the architectures of a step side by side: one of
        `concurrent.futures`, or anything with its `submit`. Default: one by one.
      tell: called with every new evaluation, once it is on disk.

    Returns: the history, in the order of steps and of slots in them.
    Raises: `ValueError` for a folder that holds something else, or the history of another
      space, key, length or batch (a history of another search of these, or of another
      objective, is taken up as it is), for a damaged history, or an objective that
      returns no number; `RuntimeError` if a worker process dies, see `workers`.
    """
    _check_arguments(key, search, space, objective, folder, executor)
    asked_for = jax.eval_shape(lambda key: search.ask(key, search.init(key)), key).arch
    _check_space(asked_for, space)
    stages = checked_stages(search, num_steps)
    _check_room(key, search, stages)
    path = Path(folder)
    identity = _identity(key, space, num_steps, batch=asked_for.shape[0])
    history.claim(path, identity)
    key_init, key_run = jax.random.split(key)
    all_done: list[Evaluation] = []
    opened = history.opened(path / "history.jsonl", space, num_steps, identity["batch"])
    with opened as (file, before), _told_how_to_go_on(path):
        state, begin = search.init(key_init), 0
        for end, every in stages:
            state = search.grow(state, end)
            for step in range(begin, end):
                if (step - begin) % every == 0:
                    state = _apply(search.refresh, state)
                # As in `run`, which draws the evaluation's randomness from the second.
                keys = jax.random.split(jax.random.fold_in(key_run, step))
                query = _apply(search.ask, keys[0], state)
                found = before.pop(step, {})
                _check_epochs(found, query, path)
                asked = [
                    one for one in _asked(query, space, step) if one.slot not in found
                ]
                if isinstance(objective, Together):
                    news = _at_once(objective, keys[1], query, asked)
                else:
                    news = workers.evaluate(asked, objective, executor, path)
                for new in news:
                    history.append(file, new)
                    found[new.slot] = new
                    tell(new)
                done = [found[slot] for slot in sorted(found)]
                query, result = _as_arrays(query, space, done)
                state = _apply(search.tell, state, query, result)
                all_done += done
            begin = end
    return all_done


def _at_once(
    objective: Together, key: Array, query: Query, asked: list[Asked]
) -> list[Evaluation]:
    """The evaluations of a step that are asked; those of its query that are not are
    marked, so that every query has the same shape."""
    if not asked:
        return []
    slots = np.array([one.slot for one in asked])
    start = np.asarray(query.epoch).copy()
    start[slots] = np.asarray(query.start)[slots]
    result = objective.evaluate(key, query._replace(start=jnp.asarray(start)))
    score, cost = (np.asarray(x, float) for x in (result.score, result.cost))
    if score.shape != start.shape or cost.shape != start.shape:
        raise ValueError(
            f"the evaluation returned scores {score.shape} and costs {cost.shape}: "
            f"wanted {start.shape} of each"
        )
    fair = np.abs(score) <= history.LARGEST  # nor is NaN
    return [
        Evaluation(*one, float(score[one.slot]), float(cost[one.slot]), "")
        if fair[one.slot]
        else Evaluation(*one, math.nan, 0.0, f"the score is {score[one.slot]}")
        for one in asked
    ]


def _check_arguments(
    key: Any, search: Any, space: Any, objective: Any, folder: Any, executor: Any
) -> None:
    for what, value, kind in (("search", search, Search), ("space", space, Space)):
        if not isinstance(value, kind):
            raise ValueError(f"the {what} must be a {kind.__name__}, not {value!r}")
    if isinstance(objective, Together):
        if executor is not None:
            raise ValueError("what is evaluated together has no executor")
        objective = objective.evaluate
    if not callable(objective):
        raise ValueError(f"the objective must be a function, not {objective!r}")
    try:
        takes = inspect.signature(objective)
    except (ValueError, TypeError):  # not every function says what it takes
        takes = inspect.signature(lambda *anything: None)
    try:
        takes.bind("architecture", 200)
    except TypeError as error:
        raise ValueError(
            f"the objective takes {takes}: wanted (architecture, epoch), or of what is "
            "evaluated together (key, query)"
        ) from error
    typed = jnp.issubdtype(getattr(key, "dtype", int), jax.dtypes.prng_key)
    if not typed or key.shape:
        raise ValueError(f"the key must be one of jax.random.key, not {key!r}")
    if not isinstance(folder, str | os.PathLike) or "\0" in str(folder):
        raise ValueError(f"the folder must have a name, not {folder!r}")
    if executor is not None and not hasattr(executor, "submit"):
        raise ValueError(
            f"the executor must be one of concurrent.futures, not {executor!r}"
        )


def _check_space(asked: Any, space: Space) -> None:
    if asked.shape[-1] != len(space.choices):
        raise ValueError(
            f"the search asks architectures of {asked.shape[-1]} choices, and those of "
            f"{space.name} have {len(space.choices)}: give the space of the search"
        )


def _check_room(key: Array, search: Search, stages: tuple[Stage, ...]) -> None:
    """Raises what the search raises for its size, before there is a folder."""
    state = jax.eval_shape(search.init, key)
    for end, _ in stages:
        state = jax.eval_shape(lambda state, end=end: search.grow(state, end), state)


def best(evaluations: list[Evaluation]) -> Evaluation:
    """The evaluation of highest score. Raises `ValueError` if all failed."""
    scored = [e for e in evaluations if not math.isnan(e.score)]
    if not scored:
        why = f": {evaluations[0].error}" if evaluations else ""
        raise ValueError(f"none of {len(evaluations)} evaluations has a score{why}")
    return max(scored, key=lambda e: e.score)


def _asked(query: Query, space: Space, step: int) -> list[Asked]:
    names = [space.to_string(arch) for arch in np.asarray(query.arch)]
    epochs = np.asarray(query.epoch).tolist()
    both = zip(names, epochs, strict=True)
    return [Asked(step, slot, *one) for slot, one in enumerate(both)]


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


def _check_epochs(found: dict[int, Evaluation], query: Query, path: Path) -> None:
    wanted = np.asarray(query.epoch)
    for e in found.values():
        if e.epoch != wanted[e.slot]:
            raise ValueError(
                f"{path} has the history of another search: step {e.step} there is to "
                f"epoch {e.epoch}, and {wanted[e.slot]} is wanted"
            )


def _identity(key: Array, space: Space, num_steps: int, batch: int) -> dict[str, Any]:
    """What a history belongs to: another key or length would ask something else."""
    return {
        "space": space.name,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "num_steps": int(num_steps),
        "batch": batch,
    }
