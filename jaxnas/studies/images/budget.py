"""A budget of minutes that outlives the process: time spent and what was decided.

Decisions that depend on the clock are made once and kept, so that a run that was killed
goes on with them. Time is counted while a process works; what a killed one had not
noted is not counted.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnas.io import run_folder

FORMAT = 1  # of the file


class Ledger:
    """The file `path`, and a clock that runs from now."""

    def __init__(self, path: Path, seconds: float):
        self._path, self.seconds = path, seconds
        self._kept: dict[str, Any] = {"spent": 0.0, "decided": {}}
        self._lock = threading.Lock()
        if path.exists():
            content = run_folder.read_record(path, FORMAT)
            try:
                self._kept = {
                    "spent": float(content["spent"]),
                    "decided": dict(content["decided"]),
                }
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"cannot read {path}: remove its folder") from error
        self._before, self._begun = self._kept["spent"], time.monotonic()

    def spent(self) -> float:
        """Seconds, those of earlier processes included."""
        return self._before + time.monotonic() - self._begun

    def left(self, share: float = 1.0) -> float:
        """Seconds until this share of the budget is spent; negative after it."""
        return share * self.seconds - self.spent()

    def save(self) -> None:
        """Notes the time."""
        with self._lock:
            self._kept["spent"] = self.spent()
            run_folder.write_record(self._path, self._kept, FORMAT)

    def __contains__(self, name: str) -> bool:
        """Whether there is a decision of that name."""
        return name in self._kept["decided"]

    def once(self, name: str, decide: Callable[[], Any]) -> Any:
        """What `decide` returned, a plain JSON value, the first time it was called."""
        if name not in self:
            decision = json.loads(json.dumps(decide()))
            self._kept["decided"][name] = decision
            self.save()
        return self._kept["decided"][name]
