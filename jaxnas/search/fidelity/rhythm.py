"""The order of short and of complete trainings in a search with two levels.

After the first short trainings a group of complete ones follows, and then another one after
every so many short ones. A step of the search is of one kind, and has several trainings if
the search proposes batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxnas.search.base import UNLIMITED, Stage
from jaxnas.search.common import growing_stages
from jaxnas.types import Array


@dataclass(frozen=True)
class Rhythm:
    """The order of short and of complete trainings; see the arguments of `two_levels`."""

    low: int
    last: int
    first: int
    short: int
    complete: int
    continues: bool
    batch: int
    width: int  # positions of an architecture

    def due(self, short: Array | int, complete: Array | int) -> Array | bool:
        """Whether the next training is a complete one, () bool.

        Args:
          short: short trainings so far.
          complete: complete ones so far.
        """
        rounds = 1 + (short - self.first) // self.short
        return (short >= self.first) & (complete < self.complete * rounds)


def steps_with(rhythm: Rhythm, short: int) -> int:
    """Steps until after `short` steps of short trainings another one is due."""
    rounds = 1 + (short * rhythm.batch - rhythm.first) // rhythm.short
    complete = rhythm.complete * max(0, rounds) if rounds > 0 else 0
    return short + -(-complete // rhythm.batch)


def short_steps(rhythm: Rhythm, num_steps: int) -> int:
    """Steps of short trainings among the first `num_steps`."""
    low, high = 0, num_steps
    while low < high:  # the number of s from 1 on whose step begins before the end
        middle = (low + high + 1) // 2
        begins = steps_with(rhythm, middle - 1)
        low, high = (middle, high) if begins < num_steps else (low, middle - 1)
    return low


def stages(
    rhythm: Rhythm, inside: Callable[[int], tuple[Stage, ...]], num_steps: int
) -> tuple[Stage, ...]:
    """The stages of a two-level search, counted in steps of all trainings.

    Args:
      rhythm: of the trainings.
      inside: the stages of the wrapped search, by the number of its steps.
      num_steps: of all trainings.
    """
    counted: list[Stage] = []
    done = 0
    for end, every in inside(short_steps(rhythm, num_steps)):
        begin = counted[-1].end if counted else 0
        if end >= UNLIMITED:
            ends = [begin + stage.end for stage in growing_stages(num_steps - begin)]
            counted += [Stage(end, every) for end in ends]
        else:
            between = steps_with(rhythm, done + every) - begin
            counted.append(Stage(steps_with(rhythm, end), between))
            done = end
    return tuple(counted)
