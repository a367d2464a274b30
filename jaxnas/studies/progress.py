"""What a long run shows of itself: bars on a terminal, elsewhere a line at times."""

from __future__ import annotations

import time
from collections.abc import Sequence

import rich.progress
from rich.console import Console

# Where the output is no terminal, a line after so many seconds, and as a method ends.
SECONDS = 15.0


def duration(seconds: float) -> str:
    """A time in words: 42 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Progress:
    """Counts seeds and shows evaluations per second and the time left of each method.

    Speed is of what was computed here and now, without what was read from disk and,
    as soon as there is more, without the first chunk, in which a method is compiled.
    """

    def __init__(
        self, console: Console, methods: Sequence[str], num_seeds: int, evaluations: int
    ):
        self._console, self._num_seeds = console, num_seeds
        self._evaluations = evaluations
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=20),
            rich.progress.TextColumn("{task.completed:.0f} of {task.total:.0f} seeds"),
            rich.progress.TextColumn("{task.fields[speed]}"),
            rich.progress.SpinnerColumn(finished_text=" "),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._rows = {
            method: self._bars.add_task(
                method, visible=False, total=num_seeds, speed=""
            )
            for method in methods
        }

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *error) -> None:
        self._bars.stop()

    def begin(self, method: str) -> None:
        """The method's first chunk is next."""
        self._done = self._computed = 0
        self._warm = False
        self._from = self._shown = time.monotonic()
        self._bars.update(self._rows[method], visible=True)

    def advance(self, method: str, seeds: int, computed: bool) -> None:
        """So many seeds more are there, computed or read."""
        now = time.monotonic()
        self._done += seeds
        left = self._num_seeds - self._done
        speed = "read from disk"
        if computed:
            self._computed += seeds
            per_seed = (now - self._from) / self._computed
            speed = f"{self._evaluations / max(per_seed, 1e-9):,.0f} evaluations/s"
            speed += f", {duration(left * per_seed)} left" if left else ""
            if not self._warm and left:
                self._warm, self._computed, self._from = True, 0, now
        self._bars.update(self._rows[method], completed=self._done, speed=speed)
        due = now - self._shown > SECONDS or not left
        if due and not self._console.is_terminal:
            self._shown = now
            line = f"{method}: {self._done} of {self._num_seeds} seeds, {speed}"
            self._console.print(line, highlight=False, soft_wrap=True)
