"""The history of a search on disk: events, one line of JSON with a checksum for each.

The events of a folder, in their order, are the whole state of its search: the queries
that were asked, the evaluations that came back, and results from outside. This module
encodes and decodes single lines; `journal` reads and writes the files.

A line is a JSON object with sorted keys and no spaces. `event` is the type, `crc` the
CRC-32 of the line without it. JSON has no NaN: a failed score is `null`, as is the epoch
of a full training. A line that a killed process wrote in part fails its checksum.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnas.types import FULL_TRAINING, Query

# Largest absolute score: differences of such scores stay finite in single precision.
MAX_SCORE = 1e30


class Evaluation(NamedTuple):
    """A finished evaluation, or a result that was given from outside."""

    arch: str  # in the notation of the space, `Space.to_string`
    score: float = math.nan  # NaN if the evaluation failed
    epoch: int | None = None  # None: a full training, however long that is
    start: int = 0  # epoch from which the training went on
    seed: int = 0  # number of the repetition, as in `Query.seed`
    cost: float = 0.0  # seconds, or what the objective returned as cost
    curve: tuple[
        float, ...
    ] = ()  # score by epoch; empty if the objective returned none
    metrics: Mapping[str, float] = {}  # further numbers of the objective, by name
    worker: str = ""  # host and process
    begin: float = 0.0  # seconds since 1970, on the worker's clock
    end: float = 0.0
    error: str = ""  # why the evaluation failed; empty if it succeeded
    retries: int = 0  # failed attempts before this one
    step: int | None = None  # number of the query, from 0; None: a result from outside
    slot: int = 0  # position in the query


class Asked(NamedTuple):
    """The search asked a query.

    Queries are numbered from 0 in the order in which they were asked.
    """

    step: int
    query: Query  # NumPy arrays
    time: float  # seconds since 1970
    seconds: float = 0.0  # taken by `tell` of all that had finished, and by `ask`


class Scale(NamedTuple):
    """A change of scale: from here on `tell` receives (score - shift) / size.

    `scale.fitting_scale` chooses it; the history itself keeps scores as they are.
    """

    shift: float
    size: float
    objective: str = ""  # one of several, by name; empty: the score


class Died(NamedTuple):
    """An executor broke while the evaluations of these (step, slot) were in flight.

    At least one of them may have killed its worker.
    """

    tasks: tuple[tuple[int, int], ...]


Event = Evaluation | Asked | Scale | Died


def numpy_query(*columns: Any) -> Query:
    """Makes a query of NumPy arrays, in the order of the fields of `Query`."""
    return Query(*columns)


def encode(event: Event) -> bytes:
    """Encodes an event as a line with its checksum.

    Args:
      event: with finite numbers, but for scores, curves and metrics, which may be NaN.

    Returns: the line, which ends with a newline.
    Raises: `ValueError` or `TypeError` for values that JSON cannot hold.
    """
    fields = _fields(event)
    return _canonical(fields | {"crc": zlib.crc32(_canonical(fields))}) + b"\n"


def decode(line: bytes) -> Event:
    """Decodes the event of a line that `encode` wrote.

    Args:
      line: with or without its newline.

    Raises: `ValueError`, with a message that completes "..., as", if the line is not an
      event of a search, or does not match its checksum.
    """
    if not line.strip():
        raise ValueError("it is blank")
    try:
        fields = json.loads(line.decode(), parse_constant=_refuse_constant)
        crc = fields.pop("crc")
        if crc != zlib.crc32(_canonical(fields)):
            raise ValueError("its checksum does not match")
        return _READERS[fields.pop("event")](fields)
    # Exceptions that a malformed line can raise while parsing.
    except json.JSONDecodeError as error:
        raise ValueError(
            f"it is not JSON ({error.msg})"
        ) from None  # without the position
    except KeyError as error:
        raise ValueError(f"it has no {error}") from None
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("it is not an event of a search") from error


def _canonical(fields: Any) -> bytes:
    """The one JSON text of these fields, over which the checksum is computed."""
    layout: Any = {"sort_keys": True, "separators": (",", ":")}
    return json.dumps(fields, allow_nan=False, **layout).encode()


def _refuse_constant(constant: str) -> Any:
    """Refuses NaN and infinities, which Python's JSON parser accepts."""
    raise ValueError(f"{constant} is not JSON")


def _fields(event: Event) -> dict[str, Any]:
    """The fields of a line, without the checksum, as JSON values."""
    if isinstance(event, Asked):
        return _asked_fields(event)
    fields = event._asdict()
    if isinstance(event, Evaluation):
        fields["score"] = _or_null(event.score)
        fields["curve"] = [_or_null(x) for x in event.curve]
        fields["metrics"] = {k: _or_null(v) for k, v in event.metrics.items()}
    return {"event": type(event).__name__.lower()} | fields


def _asked_fields(asked: Asked) -> dict[str, Any]:
    """The fields of a query: lists by slot, with null for an epoch of full training."""
    query = asked.query
    epochs = [
        None if e == FULL_TRAINING else e for e in np.asarray(query.epoch).tolist()
    ]
    return {
        "event": "asked",
        "step": asked.step,
        "arch": np.asarray(query.arch).tolist(),
        "epoch": epochs,
        "start": np.asarray(query.start).tolist(),
        "seed": None if query.seed is None else np.asarray(query.seed).tolist(),
        "time": asked.time,
        "seconds": asked.seconds,
    }


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def _or_nan(value: Any) -> float:
    return math.nan if value is None else _number(value)


def _number(value: Any) -> float:
    """A finite number; the readers below raise `ValueError` for other values."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _whole(value: Any) -> int:
    """A whole number of the range of int32, from 0."""
    if type(value) is not int or not 0 <= value <= FULL_TRAINING:
        raise ValueError(f"{value!r} is not a whole number from 0 to 2^31 - 1")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _items(value: Any, kind: type = list) -> Any:
    """A JSON list, or with `kind=dict` an object."""
    if not isinstance(value, kind):
        raise ValueError(f"{value!r} is not a {kind.__name__}")
    return value


def _read_evaluation(fields: dict[str, Any]) -> Evaluation:
    """The evaluation of a line, after a check of every field."""
    step, epoch, score = fields["step"], fields["epoch"], _or_nan(fields["score"])
    if abs(score) > MAX_SCORE:
        raise ValueError(f"the score {score} is larger than {MAX_SCORE}")
    numbers = {name: _number(fields[name]) for name in ("cost", "begin", "end")}
    wholes = {name: _whole(fields[name]) for name in ("start", "seed", "retries")}
    metrics = _items(fields["metrics"], dict)
    return Evaluation(
        _text(fields["arch"]),
        score,
        None if epoch is None else _whole(epoch),
        curve=tuple(_or_nan(x) for x in _items(fields["curve"])),
        metrics={k: _or_nan(v) for k, v in metrics.items()},
        worker=_text(fields["worker"]),
        error=_text(fields["error"]),
        step=None if step is None else _whole(step),
        slot=_whole(fields["slot"]),
        **numbers,
        **wholes,
    )


def _read_asked(fields: dict[str, Any]) -> Asked:
    """The query of a line: arch (b, d) and columns (b,), as int32 arrays."""
    arch = [[_whole(c) for c in _items(row)] for row in _items(fields["arch"])]
    epoch = [FULL_TRAINING if e is None else _whole(e) for e in _items(fields["epoch"])]
    start = [_whole(s) for s in _items(fields["start"])]
    seed = fields["seed"]
    seeds = None if seed is None else [_whole(s) for s in _items(seed)]
    columns = [epoch, start, *([] if seeds is None else [seeds])]
    if (
        any(len(c) != len(arch) for c in columns)
        or len({len(row) for row in arch}) != 1
    ):
        raise ValueError("its lists differ in length")
    arrays = [np.array(x, np.int32) for x in (arch, *columns)]
    return Asked(
        _whole(fields["step"]),
        numpy_query(*arrays),
        _number(fields["time"]),
        _number(fields.get("seconds", 0.0)),  # histories of 0.1.0 may lack it
    )


def _read_scale(fields: dict[str, Any]) -> Scale:
    """The scale of a line, whose size must be positive."""
    objective = _text(fields.get("objective", ""))  # histories of 0.1.0 lack it
    scale = Scale(_number(fields["shift"]), _number(fields["size"]), objective)
    if not scale.size > 0:
        raise ValueError(f"the size {scale.size} is not positive")
    return scale


def _read_died(fields: dict[str, Any]) -> Died:
    """The (step, slot) that were in flight when an executor broke."""
    tasks = [_items(task) for task in _items(fields["tasks"])]
    if any(len(task) != 2 for task in tasks):
        raise ValueError("its tasks are not pairs")
    return Died(tuple((_whole(step), _whole(slot)) for step, slot in tasks))


_READERS = {
    "evaluation": _read_evaluation,
    "asked": _read_asked,
    "scale": _read_scale,
    "died": _read_died,
}
