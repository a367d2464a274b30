"""Checks of the arguments of `optimise`, before a folder is made or anything runs.

Every function raises `ValueError` in words for what cannot work. Shapes are found by
`jax.eval_shape`, which computes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.pareto.objectives import Objective, validate_objectives
from jaxnas.search.base import Search, require_objectives
from jaxnas.search.common import query_shape, require_space
from jaxnas.search.drive import batch_objective, clusters
from jaxnas.search.drive.batch_objective import BatchObjective
from jaxnas.search.drive.returned import RESERVED
from jaxnas.search.drive.search_state import Plan, SearchProgress
from jaxnas.search.drive.workers import Parameters, required_parameters
from jaxnas.spaces.base import Space
from jaxnas.types import FULL_TRAINING, Array, Query, Result, asked


class Arguments(NamedTuple):
    """Values derived from the validated arguments."""

    space: Space
    batch: int  # architectures of a query
    parameters: Parameters  # of the objective


def check_arguments(key: Any, search: Any, objective: Any, folder: Any) -> Arguments:
    """Checks the positional arguments of `optimise`.

    Args:
      key: must be one typed PRNG key.
      search: must know its space, and ask for architectures of its number of choices.
      objective: must be a function, or a `BatchObjective`, of a usable signature.
      folder: must be a path.

    Raises: `ValueError` for the first invalid argument.
    """
    if not isinstance(search, Search):
        raise ValueError(f"the search must be a Search, not {search!r}")
    space = require_space(search)
    parameters = _check_objective(objective)
    typed = jnp.issubdtype(getattr(key, "dtype", int), jax.dtypes.prng_key)
    if not typed or key.shape:
        raise ValueError(f"the key must be one of jax.random.key, not {key!r}")
    if not isinstance(folder, str | os.PathLike) or "\0" in str(folder):
        raise ValueError(f"the folder must have a name, not {folder!r}")
    batch, width = query_shape(search)
    if width != len(space.choices):
        raise ValueError(
            f"the search asks for architectures of {width} choices: its space "
            f"{space.name} has {len(space.choices)}"
        )
    return Arguments(space, batch, parameters)


def _check_objective(objective: Any) -> Parameters:
    """The parameters of an objective; `ValueError` if it cannot be called with them."""
    in_batches = isinstance(objective, BatchObjective)
    function = objective.evaluate if in_batches else objective
    if not callable(function):
        raise ValueError(f"the objective must be a function, not {function!r}")
    if not in_batches:
        return required_parameters(function)
    batch_objective.require_signature(objective)
    return Parameters(("query",), ())


def named_objectives(objectives: Any, search: Search) -> tuple[Objective, ...]:
    """Checks the named objectives of a search; none for a search with one score.

    Raises: `ValueError` as `validate_objectives` does, for a name that the mapping of an
      objective function has another meaning for, and for objectives that differ from as
      many that the search was made for (another number of them is refused by its `tell`).
    """
    if not objectives:
        return ()
    for objective in validate_objectives(objectives):
        if objective.name in RESERVED:
            raise ValueError(
                f"an objective cannot be called {objective.name}: {', '.join(RESERVED)} "
                "have meanings of their own"
            )
    objectives = validate_objectives(objectives)
    require_objectives(search, objectives)
    return objectives


def require_told(plan: Plan, progress: SearchProgress, query: Query) -> None:
    """Fails early if `tell` of the search refuses the named objectives of the results.

    Args:
      plan: with the objectives.
      progress: the search before its first `tell`.
      query: the first one of the search.
    """
    if plan.points == 0:
        return  # the length of its curves is known once a batch is evaluated
    num, dtype = len(query.epoch), jnp.zeros(0).dtype
    columns = [(num,), (num, plan.points), (num,)]
    columns += [(num, len(plan.objectives))] if plan.objectives else []
    shapes: list[Any] = [jax.ShapeDtypeStruct(shape, dtype) for shape in columns]
    jax.eval_shape(plan.search.tell, progress.state, query, Result(*shapes))


def queries_in_flight(executor: Any, objective: Any, workers: Any, batch: int) -> int:
    """Checks the executor, and returns the largest number of queries in flight.

    Args:
      executor: None, or an object as `clusters` describes it.
      objective: the function that it runs.
      workers: largest number of evaluations in flight; None: the number that the
        executor runs at a time.
      batch: architectures of a query. With more than 1 the executor distributes the
        batch, and one query is in flight.

    Raises: `ValueError` for workers without an executor or for a search in batches, for a
      `BatchObjective` with an executor, and for an executor that cannot be used.
    """
    if executor is None:
        if workers not in (None, 1):
            raise ValueError(f"{workers} workers need an executor")
        return 1
    if isinstance(objective, BatchObjective):
        raise ValueError("a BatchObjective runs in this process: it takes no executor")
    clusters.require_executor(executor, objective)
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers must be a whole number from 1, not {workers!r}")
    if batch > 1:
        if workers is not None:
            raise ValueError(
                f"the search asks for {batch} architectures at a time, which the executor "
                "distributes: workers are for a search with a batch of 1"
            )
        return 1
    return workers or clusters.num_workers(executor)


def whole_number(name: str, value: Any, least: int) -> int:
    """Converts an integer of any type, but no bool, to an int.

    Args:
      name: of the argument, for the message.
      value: of the argument.
      least: smallest value that is allowed.

    Raises: `ValueError` if it is not a whole number from `least`.
    """
    kinds = int, np.integer
    if isinstance(value, kinds) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")


def require_capacity(key: Array, plan: Plan) -> None:
    """Fails early if the state cannot grow to all steps of the plan.

    Args:
      key: any key of the search.
      plan: whose stages the state grows through.
    """
    state = jax.eval_shape(plan.search.init, key)
    for end, _ in plan.stages:
        grown = lambda state, end=end: plan.search.grow(state, end + plan.ahead)  # noqa: E731
        state = jax.eval_shape(grown, state)


def require_epochs(query: Query, parameters: Parameters) -> None:
    """Raises `ValueError` if the objective takes an epoch and the search has none.

    Args:
      query: the first one of the search, of NumPy arrays.
      parameters: of the objective.
    """
    full = (query.epoch == FULL_TRAINING) & np.asarray(asked(query))
    if full.any() and "epoch" in parameters:
        raise ValueError(
            "the objective takes an epoch, and the search was made without one: make it "
            "with epoch=..., or let the objective take the architecture alone"
        )


def require_same_epochs(recorded: Query, query: Query, path: Path) -> None:
    """Raises `ValueError` if a history begins with a query to other epochs.

    Args:
      recorded: the first query of the history.
      query: the first query that the search asks now.
      path: the folder.
    """
    pairs = zip(recorded.epoch.tolist(), query.epoch.tolist(), strict=True)
    for before, now in pairs:
        if before != now:
            before, now = (
                "the last" if e == FULL_TRAINING else e for e in (before, now)
            )
            raise ValueError(
                f"{path} has the history of another search: step 0 there is to epoch "
                f"{before}, and {now} is asked now"
            )
