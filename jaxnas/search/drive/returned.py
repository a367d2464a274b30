"""What an objective returned, as an evaluation: scores, costs, curves and metrics.

An objective returns a number, or a mapping of names to numbers: with "score", or with the
objectives of a search for several. A mapping that cannot be meant is refused, as it would
be returned for every architecture.
"""

from __future__ import annotations

import difflib
import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from jaxnas.pareto.objectives import Objective
from jaxnas.search.drive.history import MAX_SCORE, Evaluation
from jaxnas.types import as_score

# Names in a returned mapping that are not metrics.
RESERVED = ("score", "cost", "curve")


def with_score(evaluation: Evaluation, score: float) -> Evaluation:
    """Sets the score of an evaluation, or its error if the score cannot be used.

    Args:
      evaluation: without an error.
      score: higher is better. NaN, and absolute values above `MAX_SCORE`, are failures.
    """
    if abs(score) <= MAX_SCORE:  # False for NaN
        return evaluation._replace(score=score)
    return evaluation._replace(error=f"the score is {score}")


def with_returned(
    evaluation: Evaluation, returned: Any, objectives: tuple[Objective, ...] = ()
) -> Evaluation:
    """Fills in what the objective returned.

    Args:
      evaluation: without an error.
      returned: a number, or a mapping with "score"; for several objectives a mapping with
        a value for each, of which the first takes the place of "score".
      objectives: of a search for several.

    Returns: the evaluation, with an error if its score is missing or not finite.
    Raises: `ValueError` for anything else, for a mapping with none of the objectives, and
      for one that lacks an objective and has nearly its name, or the beginning of it.
    """
    if objectives:
        return _with_several(evaluation, returned, objectives)
    if not isinstance(returned, Mapping):
        return with_score(evaluation, _number(evaluation.arch, "", returned))
    if not returned:
        raise ValueError(
            f"the objective returned an empty mapping for {evaluation.arch}: wanted a "
            "'score'"
        )
    if "score" not in returned:
        raise ValueError(
            f"the objective returned a mapping without 'score' for {evaluation.arch}, only "
            f"{', '.join(map(str, returned))}"
        )
    return _with_mapping(evaluation, returned)


def _with_several(
    evaluation: Evaluation, returned: Any, objectives: tuple[Objective, ...]
) -> Evaluation:
    """Fills in a mapping with the objectives of a search for several."""
    arch, names = evaluation.arch, [objective.name for objective in objectives]
    wanted = f"wanted a mapping with {', '.join(names)}"
    if not isinstance(returned, Mapping):
        raise ValueError(
            f"the objective returned {type(returned).__name__} for {arch}: {wanted}"
        )
    missing = [name for name in names if name not in returned]
    given = ", ".join(map(str, returned)) or "nothing"
    if len(missing) == len(names) or _misspelt(missing, set(returned) - set(names)):
        raise ValueError(f"the objective returned {given} for {arch}: {wanted}")
    first = objectives[0]
    value = _number(arch, f" as {first.name}", returned.get(first.name, math.nan))
    score = as_score(first.target, value)
    evaluation = _with_mapping(evaluation, {**returned, "score": score})
    if first.name in returned:
        return evaluation
    return evaluation._replace(error=f"the objective returned {given}: {wanted}")


def _misspelt(missing: list[str], others: Set[Any]) -> bool:
    """Whether another name is that of a missing objective, misspelt or cut short."""
    given = [str(other).casefold() for other in others]
    # Not "test_accuracy" for "accuracy", which is a further number.
    near = functools.partial(difflib.get_close_matches, n=1, cutoff=0.85)
    short = tuple(name for name in given if len(name) > 2)  # "lat" for "latency"
    names = [name.casefold() for name in missing]
    return any(near(name, given) or name.startswith(short) for name in names)


def names_checked_once(
    history: Sequence[Evaluation], objectives: tuple[Objective, ...]
) -> Callable[[Any], None]:
    """Makes a function of events that warns if the objective has other names.

    It looks at the first evaluation with metrics of a search: if this lacks objectives and
    has other names, these may stand for them.

    Args:
      history: what the search has so far.
      objectives: of the search; none for one with a score.
    """
    names = {objective.name for objective in objectives}
    checked = any(e.metrics for e in history)

    def check(event: Any) -> None:
        nonlocal checked
        if checked or not isinstance(event, Evaluation) or not event.metrics:
            return
        checked = True
        missing, others = names - set(event.metrics), set(event.metrics) - names
        if missing and others:
            warnings.warn(
                f"the objective returned {', '.join(sorted(others))} for {event.arch} and "
                f"no {', '.join(sorted(missing))}, which counts as missing",
                stacklevel=2,
            )

    return check


def _with_mapping(evaluation: Evaluation, returned: Mapping[Any, Any]) -> Evaluation:
    """Fills in a mapping with "score"."""
    arch = evaluation.arch
    metrics = {
        str(name): _finite(_number(arch, f" as {name}", value))
        for name, value in returned.items()
        if name not in RESERVED
    }
    cost = _number(arch, " as cost", returned.get("cost", evaluation.cost))
    if not 0 <= cost < math.inf:
        raise ValueError(f"the objective returned a cost of {cost} for {arch}")
    curve = _curve(arch, returned.get("curve", ()))
    evaluation = evaluation._replace(cost=cost, curve=curve, metrics=metrics)
    return with_score(evaluation, _number(arch, " as score", returned["score"]))


def _curve(arch: str, values: Any) -> tuple[float, ...]:
    """A learning curve as floats, from any ordered collection of numbers."""
    try:
        if isinstance(values, str | bytes | Mapping | Set):
            raise TypeError  # iterable, but not as numbers in order
        listed = tuple(values)
    except Exception:  # iterating is the user's own code
        raise ValueError(
            f"the objective returned {type(values).__name__} as the curve of {arch}: "
            "wanted a list of numbers"
        ) from None
    return tuple(_finite(_number(arch, " in its curve", x)) for x in listed)


def _number(arch: str, where: str, value: Any) -> float:
    """A float, or `ValueError` that says where the objective returned something else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"the objective returned {type(value).__name__}{where} for {arch}: wanted a "
            "number, or a mapping of names to numbers with a 'score'"
        ) from None


def _finite(value: float) -> float:
    """The value, or NaN for an infinity: as a resumed search reads it from its history."""
    return value if math.isfinite(value) else math.nan
