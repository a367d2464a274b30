"""Progress of long runs: bars on a terminal, elsewhere a line every 15 seconds.

`Counter` counts the finished units of a task and renders them, as "12 of 40 seeds,
3.1 evaluations/s, 2 min left". `Progress` shows counters, one task after another; a log
with lines of its own prints the text of a `Counter` whenever `Throttle` says that a line
is due.
"""

from __future__ import annotations

import time

import rich.progress
from rich.console import Console

# Between two lines of a long run where the output is not a terminal.
SECONDS = 15.0


def duration(seconds: float) -> str:
    """Formats a time: 0.06 s, 42 s, 12 min (from 100 seconds), 3.5 h (100 minutes)."""
    if 0 < seconds < 0.995:
        return f"{seconds:.1g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def rate(number: float, seconds: float, unit: str) -> str:
    """Formats a speed: 1,200 seeds/s, 3.1 seeds/s, and below one a second 12 s per seed.

    Args:
      number: units that are finished, above 0.
      seconds: that they took, above 0.
      unit: its singular; "MiB" has no plural.
    """
    if number >= seconds:
        speed = number / seconds
        return f"{speed:,.{int(speed < 10)}f} {_plural(unit)}/s"
    each = seconds / number
    return f"{each:.2g} s per {unit}" if each < 99 else f"{duration(each)} per {unit}"


def _plural(unit: str) -> str:
    return unit if unit == "MiB" else f"{unit}s"


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


class Counter:
    """Counts the finished units of a task, and estimates its speed and the time left.

    The speed is that of this process: units that were read from disk do not count, nor,
    as soon as others are computed, does the first batch, which includes compilation.

    Attributes:
      done: finished units.
      total: units in all.
    """

    def __init__(
        self,
        total: float,
        unit: str,
        *,
        work: tuple[float, str] | None = None,
    ):
        """Starts the clock, before the first unit.

        Args:
          total: units in all.
          unit: its singular, as "seed".
          work: the work in a unit and its singular, as (200, "evaluation"), of which the
            speed is shown; default: the speed is that of units.
        """
        self.done, self.total = 0.0, total
        self._unit, self._work = unit, work or (1.0, unit)
        self._start = time.monotonic()
        self._computed, self._seconds = 0.0, 0.0  # on which the speed is based
        self._warm = False

    def add(
        self, num: float, *, computed: bool = True, now: float | None = None
    ) -> None:
        """Adds finished units.

        Args:
          num: how many.
          computed: whether they were computed now, rather than read from disk.
          now: the time by `time.monotonic`; default: read from the clock.
        """
        now = time.monotonic() if now is None else now
        self.done += num
        if not computed or not num:
            return
        if not self._warm and self._computed:
            self._warm, self._computed = True, 0.0
            self._start += self._seconds
        self._computed += num
        self._seconds = now - self._start

    def text(self, time_left: bool = True) -> str:
        """Renders the count and, as far as they are known, the speed and the time left.

        Args:
          time_left: whether to estimate it; not for tasks that may end before `total`.
        """
        unit = self._unit if self.total == 1 else _plural(self._unit)
        text = f"{self.done:,.0f} of {self.total:,.0f} {unit}"
        if self.done and not self._computed:
            return f"{text}, read from disk"
        if self._seconds <= 0:
            return text
        size, unit = self._work
        text += f", {rate(size * self._computed, self._seconds, unit)}"
        left = (self.total - self.done) * self._seconds / self._computed
        return f"{text}, {duration(left)} left" if time_left and left > 0 else text


class Progress:
    """Shows the counters of tasks that follow each other.

    Use it as a context manager: `begin` a task, then `advance` it piece by piece. Where
    the output is not a terminal, a line is printed every 15 seconds and at the end.
    """

    def __init__(self, console: Console):
        """Shows nothing until a task begins.

        Args:
          console: the output; bars if it is a terminal, else lines.
        """
        self._console = console
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=20),
            rich.progress.TextColumn("{task.fields[text]}"),
            rich.progress.SpinnerColumn(finished_text=" "),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *error) -> None:
        self._bars.stop()

    @property
    def done(self) -> float:
        """Finished units of the task that was begun."""
        return self._counter.done

    def begin(self, name: str, counter: Counter, *, then: str = "") -> None:
        """Begins a task.

        Args:
          name: of the task.
          counter: of its units, made just now; `advance` adds to it.
          then: what follows its last unit, if that takes long; shown at the end.
        """
        self._name, self._then = name, f", {then}" if then else ""
        self._counter, self._throttle = counter, Throttle(SECONDS)
        total, text = counter.total, counter.text()
        self._bar = self._bars.add_task(name, total=total, text=text)

    def advance(
        self, num: float, *, computed: bool = True, total: float | None = None
    ) -> None:
        """Adds finished units of the task that was begun, and shows them.

        Args:
          num: how many.
          computed: whether they were computed now, rather than read from disk.
          total: units in all, where they are known only now.
        """
        now, counter = time.monotonic(), self._counter
        counter.total = counter.total if total is None else total
        counter.add(num, computed=computed, now=now)
        ended = counter.done >= counter.total
        text = counter.text() + (self._then if ended else "")
        self._bars.update(
            self._bar, completed=counter.done, total=counter.total, text=text
        )
        if (self._throttle.due(now) or ended) and not self._console.is_terminal:
            self._throttle.restart(now)
            line = f"{self._name}: {text}"
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)
