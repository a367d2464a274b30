"""The history of a search on disk: events, one line of JSON with a checksum for each.

The events of a folder, in their order, are the whole state of its search: what was asked,
what came back, what was told in from outside. This module encodes and reads lines;
`journal` has the files.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnas.types import FULL_TRAINING, Query

# The largest absolute score: differences of such scores stay finite in single precision.
LARGEST = 1e30


class Evaluation(NamedTuple):
    """A finished evaluation, or a result that was told in from outside."""

    arch: str  # in the notation of the space
    score: float = math.nan  # NaN where it failed
    epoch: int | None = None  # None: trained in full, whatever that is
    start: int = 0  # the epoch from which it was trained
    seed: int = 0  # the repetition
    cost: float = 0.0  # seconds, or what the objective returned as cost
    curve: tuple[float, ...] = ()  # score by epoch, where the objective returned it
    metrics: Mapping[str, float] = {}  # what else the objective returned, by name
    worker: str = ""  # host and process
    begin: float = 0.0  # seconds since 1970, on the worker's clock
    end: float = 0.0
    error: str = ""  # why it failed; empty where it did not
    retries: int = 0  # failed attempts before this one
    step: int | None = None  # number of the query, from 0; None: told in from outside
    slot: int = 0  # place in the query


class Asked(NamedTuple):
    """The search has asked a query, as NumPy arrays."""

    step: int
    query: Query
    time: float


class Scale(NamedTuple):
    """A change of scale: the search sees (score - shift) / size from here on."""

    shift: float
    size: float


class Died(NamedTuple):
    """An executor broke while these (step, slot) were in flight."""

    tasks: tuple[tuple[int, int], ...]


Event = Evaluation | Asked | Scale | Died


def query_of(*columns: Any) -> Query:
    """A query of NumPy arrays."""
    return Query(*columns)


def encode(event: Event) -> bytes:
    """The line of an event, with its end.

    Raises: `ValueError` or `TypeError` for numbers that JSON does not have.
    """
    fields = _fields(event)
    return _canonical(fields | {"crc": zlib.crc32(_canonical(fields))}) + b"\n"


def decode(line: bytes) -> Event:
    """The event of a line.

    Raises: `ValueError` if the line is no event, or was changed.
    """
    if not line.strip():
        raise ValueError("it is blank")
    try:
        fields = json.loads(line.decode(), parse_constant=_refused)
        crc = fields.pop("crc")
        if crc != zlib.crc32(_canonical(fields)):
            raise ValueError("its checksum does not fit")
        return _READERS[fields.pop("event")](fields)
    # Whatever JSON of another form leads to.
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg})") from None  # without its place
    except KeyError as error:
        raise ValueError(f"it has no {error}") from None
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("it is no event of a search") from error


def _canonical(fields: Any) -> bytes:
    layout: Any = {"sort_keys": True, "separators": (",", ":")}
    return json.dumps(fields, allow_nan=False, **layout).encode()


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _fields(event: Event) -> dict[str, Any]:
    if isinstance(event, Asked):
        return _asked_fields(event)
    fields = event._asdict()
    if isinstance(event, Evaluation):
        fields["score"] = _or_null(event.score)
        fields["curve"] = [_or_null(x) for x in event.curve]
        fields["metrics"] = {k: _or_null(v) for k, v in event.metrics.items()}
    return {"event": type(event).__name__.lower()} | fields


def _asked_fields(asked: Asked) -> dict[str, Any]:
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
    }


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def _or_nan(value: Any) -> float:
    return math.nan if value is None else _number(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= FULL_TRAINING:
        raise ValueError(f"{value!r} is no whole number from 0 to {FULL_TRAINING}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _items(value: Any, kind: type = list) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value


def _read_evaluation(fields: dict[str, Any]) -> Evaluation:
    step, epoch, score = fields["step"], fields["epoch"], _or_nan(fields["score"])
    if abs(score) > LARGEST:
        raise ValueError(f"the score {score} is larger than {LARGEST}")
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
        raise ValueError("its lists are not of one length")
    arrays = [np.array(x, np.int32) for x in (arch, *columns)]
    return Asked(_whole(fields["step"]), query_of(*arrays), _number(fields["time"]))


def _read_scale(fields: dict[str, Any]) -> Scale:
    scale = Scale(_number(fields["shift"]), _number(fields["size"]))
    if not scale.size > 0:
        raise ValueError(f"the size {scale.size} is not positive")
    return scale


def _read_died(fields: dict[str, Any]) -> Died:
    tasks = [_items(pair) for pair in _items(fields["tasks"])]
    if any(len(pair) != 2 for pair in tasks):
        raise ValueError("its tasks are no pairs")
    return Died(tuple((_whole(step), _whole(slot)) for step, slot in tasks))


_READERS = {
    "evaluation": _read_evaluation,
    "asked": _read_asked,
    "scale": _read_scale,
    "died": _read_died,
}
