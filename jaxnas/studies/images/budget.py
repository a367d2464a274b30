"""A budget of minutes that outlives the process: the time spent, and decisions.

Decisions that depend on the clock, such as how many epochs there is time for, are made
once and kept, so that a resumed run follows them. Only the time in which a
process works counts; what a killed process had not yet saved is lost. A larger budget than
that of the file continues its run: decisions that ended a stage are made again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jaxnas.io import records

FORMAT = 2  # of the file
# Decisions about the length of a stage, which a larger budget makes again.
LENGTHS = ("plan", "searched", "finalists", "final")
CLOCKS = {"wall": time.monotonic, "cpu": time.process_time}


Decision = TypeVar("Decision", bound=NamedTuple)


class TimeBudget:
    """A number of seconds, of which the part spent is kept in a file.

    The clock runs from the construction on. Methods may be called from several threads.
    """

    def __init__(
        self,
        path: Path,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts the clock, or continues from the time in the file.

        Args:
          path: the JSON file; its folder must exist before `save`.
          seconds: the whole budget, at least that of the file.
          clock: seconds since a fixed moment, one of `CLOCKS`.

        Raises: `ValueError` for a damaged file, and for a smaller budget than it has.
        """
        self._path, self.seconds, self.clock = path, seconds, clock
        self._kept: dict[str, Any] = {
            "spent": 0.0,
            "seconds": seconds,
            "decided": {},
        }
        # A decision may take minutes, in which other threads save the time; and may rest
        # on another decision.
        self._saving, self._deciding = threading.Lock(), threading.RLock()
        if path.exists():
            content = records.read_record(path, FORMAT)
            try:
                self._kept = {
                    "spent": float(content["spent"]),
                    "seconds": float(content["seconds"]),
                    "decided": dict(content["decided"]),
                }
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"cannot read {path}: {records.DAMAGED}") from error
        self._lengthen()
        self._before, self._begun = self._kept["spent"], clock()

    def _lengthen(self) -> None:
        """Forgets how long the stages were to be under a smaller budget."""
        before, decided = self._kept["seconds"], self._kept["decided"]
        if self.seconds < before:
            raise ValueError(
                f"{self._path.parent} was given {before / 60:g} minutes, and can be given "
                f"more but not less: --minutes is {self.seconds / 60:g}"
            )
        if self.seconds > before:
            self._kept["seconds"] = self.seconds
            self._kept["decided"] = {
                name: decision
                for name, decision in decided.items()
                if name not in LENGTHS
            }

    def spent(self) -> float:
        """Returns the seconds spent, those of earlier processes included."""
        return self._before + self.clock() - self._begun

    def left(self, share: float = 1.0) -> float:
        """Returns the seconds until a share of the budget is spent; negative after it."""
        return share * self.seconds - self.spent()

    def save(self) -> None:
        """Writes the time spent and the decisions, atomically."""
        with self._saving:
            self._kept["spent"] = self.spent()
            records.write_record(self._path, self._kept, FORMAT)

    def __contains__(self, name: str) -> bool:
        """Returns whether there is a decision of that name."""
        return name in self._kept["decided"]

    def once(self, name: str, decide: Callable[[], Any]) -> Any:
        """Makes a decision once, also across threads and processes.

        Args:
          name: of the decision, in the file.
          decide: called if there is none of that name; returns a plain JSON value, which
            is saved before it is used. No other thread decides anything meanwhile.

        Returns: the decision, as JSON gives it back: tuples become lists.
        """
        with self._deciding:
            if name not in self:
                decision = records.plain(decide())
                with self._saving:
                    self._kept["decided"][name] = decision
                self.save()
            return self._kept["decided"][name]

    def once_as(
        self, kind: Callable[..., Decision], name: str, decide: Callable[[], Decision]
    ) -> Decision:
        """Makes a decision once, as `once`, that is a NamedTuple.

        Args:
          kind: the NamedTuple.
          name: of the decision, in the file.
          decide: called if there is none of that name.

        Raises: `ValueError` if the file has other fields.
        """
        fields = self.once(name, lambda: decide()._asdict())
        try:
            return kind(**fields)
        except TypeError as error:
            reason = f"cannot read {name!r} of {self._path}: {records.DAMAGED}"
            if isinstance(fields, dict) and fields:
                reason = (
                    f"{name!r} of {self._path} has other fields than in this version of "
                    f"jaxnas: {records.OTHER_VERSION}"
                )
            raise ValueError(reason) from error
