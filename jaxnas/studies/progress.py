"""Progress of long runs: bars on a terminal, elsewhere a line every 15 seconds.

`Throttle` decides when a line is due and `time_left` estimates the rest; everything that
reports progress uses them. `Progress` shows the seeds of several methods, which is what
`seed_store.run_chunks` computes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import rich.progress
from rich.console import Console

# Between two lines of a long run where the output is not a terminal.
SECONDS = 15.0


def duration(seconds: float) -> str:
    """Formats a time: 42 s below 100 seconds, 12 min below 100 minutes, else 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def time_left(elapsed: float, done: float, total: float) -> str:
    """Estimates the time left from the speed so far, as ", 12 min left".

    Args:
      elapsed: seconds that `done` took.
      done: units that are finished, in any unit.
      total: units in all.

    Returns: the text, to be appended to a line; empty if nothing is left.
    """
    if done >= total:
        return ""
    return f", {duration(elapsed * (total - done) / max(done, 1))} left"


class Throttle:
    """Limits lines of progress to one every so many seconds.

    `due` asks, `restart` is called after a line was printed, so that lines that are
    printed for another reason count too. The first one is due after the interval.
    """

    def __init__(self, seconds: float, now: float | None = None):
        """Starts the interval.

        Args:
          seconds: between two lines; nothing is held back if it is negative.
          now: the time by `time.monotonic`; default: read from the clock.
        """
        self._seconds = seconds
        self.restart(now)

    def due(self, now: float | None = None) -> bool:
        """Returns whether the interval is over; changes nothing."""
        return (time.monotonic() if now is None else now) - self._last > self._seconds

    def restart(self, now: float | None = None) -> None:
        """Starts the interval again."""
        self._last = time.monotonic() if now is None else now


class Progress:
    """Counts seeds and shows evaluations per second and the time left of each method.

    The speed is that of this process: seeds that were read from disk do not count, nor,
    as soon as others are computed, does the first chunk, in which a method is compiled.
    Use it as a context manager: `begin` a method, then `advance` it chunk by chunk.
    """

    def __init__(
        self, console: Console, methods: Sequence[str], num_seeds: int, evaluations: int
    ):
        """Prepares one bar for each method, shown once it begins.

        Args:
          console: the output; bars if it is a terminal, else lines.
          methods: their names, in the order of the bars.
          num_seeds: seeds of each method.
          evaluations: of one seed.
        """
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
        self._tasks = {
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
        """Starts the clock of a method, before its first chunk."""
        self._done = self._computed = 0
        self._warm = False
        self._start = time.monotonic()
        self._throttle = Throttle(SECONDS, self._start)
        self._bars.update(self._tasks[method], visible=True)

    def advance(self, method: str, seeds: int, computed: bool) -> None:
        """Adds finished seeds to the method that was begun, and shows them.

        Args:
          method: its name.
          seeds: how many are added.
          computed: whether they were computed now, rather than read from disk.
        """
        now = time.monotonic()
        self._done += seeds
        left = self._num_seeds - self._done
        speed = "read from disk"
        if computed:
            self._computed += seeds
            per_seed = (now - self._start) / self._computed
            speed = f"{self._evaluations / max(per_seed, 1e-9):,.0f} evaluations/s"
            speed += f", {duration(left * per_seed)} left" if left else ""
            if not self._warm and left:
                self._warm, self._computed, self._start = True, 0, now
        self._bars.update(self._tasks[method], completed=self._done, speed=speed)
        if (self._throttle.due(now) or not left) and not self._console.is_terminal:
            self._throttle.restart(now)
            line = f"{method}: {self._done} of {self._num_seeds} seeds, {speed}"
            self._console.print(line, highlight=False, soft_wrap=True)
