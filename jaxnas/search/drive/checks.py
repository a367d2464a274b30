"""What a driven search refuses, before there is a folder or anything runs."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.search.base import Search
from jaxnas.search.drive import executors
from jaxnas.search.drive.progress import Plan
from jaxnas.search.drive.workers import Takes, takes
from jaxnas.spaces.base import Space
from jaxnas.types import FULL_TRAINING, Array, Evaluate, Query, asked


class BatchObjective(NamedTuple):
    """An objective that is asked for a whole step at once, as a benchmark is.

    Slots of the query with `epoch == start` ask for nothing.
    """

    evaluate: Evaluate  # (key, Query) -> Result


def arguments(
    key: Any, search: Any, objective: Any, folder: Any
) -> tuple[Space, int, Takes]:
    """The space, how many architectures a query has, and what the objective takes."""
    if not isinstance(search, Search):
        raise ValueError(f"the search must be a Search, not {search!r}")
    space = search.space
    if space is None:
        raise ValueError("the search does not know its space: make it with space=...")
    function = (
        objective.evaluate if isinstance(objective, BatchObjective) else objective
    )
    if not callable(function):
        raise ValueError(f"the objective must be a function, not {function!r}")
    called = Takes(("query",), ())
    if isinstance(objective, BatchObjective):
        _check_together(function)
    else:
        called = takes(function)
    typed = jnp.issubdtype(getattr(key, "dtype", int), jax.dtypes.prng_key)
    if not typed or key.shape:
        raise ValueError(f"the key must be one of jax.random.key, not {key!r}")
    if not isinstance(folder, str | os.PathLike) or "\0" in str(folder):
        raise ValueError(f"the folder must have a name, not {folder!r}")
    ask = jax.eval_shape(lambda key: search.ask(key, search.init(key)), key).arch
    if ask.shape[-1] != len(space.choices):
        raise ValueError(
            f"the search asks architectures of {ask.shape[-1]} choices, and those of "
            f"its space {space.name} have {len(space.choices)}"
        )
    return space, ask.shape[0], called


def _check_together(function: Callable) -> None:
    try:
        parameters = inspect.signature(function)
    except (ValueError, TypeError):  # not every function says what it takes
        return
    try:
        parameters.bind("key", "query")
    except TypeError as error:
        raise ValueError(
            f"what is evaluated together takes {parameters}: wanted (key, query)"
        ) from error


def num_workers(executor: Any, objective: Any, workers: Any, batch: int) -> int:
    """How many queries are in flight at a time."""
    if executor is None:
        if workers not in (None, 1):
            raise ValueError(f"{workers} workers need an executor")
        return 1
    if isinstance(objective, BatchObjective):
        raise ValueError("what is evaluated together has no executor")
    executors.require_executor(executor, objective)
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers must be a whole number from 1, not {workers!r}")
    if batch > 1:
        if workers is not None:
            raise ValueError(
                f"the search asks {batch} architectures at a time, which the executor "
                "shares out: workers are for a search with a batch of 1"
            )
        return 1
    return workers or executors.num_workers(executor)


def whole(name: str, value: Any, least: int) -> int:
    """`value` as an int, or `ValueError` if it is no whole number from `least`."""
    kinds = int, np.integer
    if isinstance(value, kinds) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")


def room(key: Array, plan: Plan) -> None:
    """Raises what the search raises for its size, before there is a folder."""
    state = jax.eval_shape(plan.search.init, key)
    for end, _ in plan.stages:
        grown = lambda state, end=end: plan.search.grow(state, end + plan.ahead)  # noqa: E731
        state = jax.eval_shape(grown, state)


def epochs(query: Query, called: Takes) -> None:
    """Raises `ValueError` if the objective takes an epoch that the search does not have."""
    full = (query.epoch == FULL_TRAINING) & np.asarray(asked(query))
    if full.any() and "epoch" in called:
        raise ValueError(
            "the objective takes an epoch, and the search was made without one: make it "
            "with epoch=..., or let the objective take the architecture alone"
        )


def same_epochs(found: Query, wanted: Query, path: Path) -> None:
    """Raises `ValueError` if a history begins with a query to other epochs."""
    for there, here in zip(found.epoch.tolist(), wanted.epoch.tolist(), strict=True):
        if there != here:
            there, here = (
                "the last" if e == FULL_TRAINING else e for e in (there, here)
            )
            raise ValueError(
                f"{path} has the history of another search: step 0 there is to epoch "
                f"{there}, and {here} is wanted"
            )
