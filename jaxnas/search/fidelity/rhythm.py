"""The order of short and of complete trainings in a search with two levels.

After the first short trainings a group of complete ones follows, and then another one after
every so many short ones. A group ends early if several of its trainings in succession are
no better than the best one before. A step of the search is of one kind, and has several
trainings if the search proposes batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.ranks import nan_to_neg_inf
from jaxnas.search.base import UNLIMITED, Stage
from jaxnas.search.common import growing_stages
from jaxnas.types import Array, Query, asked


class Group(NamedTuple):
    """The group of complete trainings under way, or the next one."""

    begin: Array  # () int32, short trainings in all when it begins
    end: Array  # () int32, complete trainings in all when it ends at the latest
    stale: Array  # () int32, its last trainings in succession without an improvement

    def told(self, short: Array, best: Array, score: Array, complete: Array) -> Group:
        """The group after results; complete trainings count only while it is under way.

        Args:
          short: () int32 short trainings so far.
          best: () final score of the best architecture before them, -inf if there is none.
          score: (b,) scores in their order, NaN if a training failed.
          complete: (b,) bool, which of them are of complete trainings.

        Returns: the same group, which may have ended.
        """
        score = jnp.where(complete, nan_to_neg_inf(score), -jnp.inf)
        before = jnp.concatenate([best[None], score[:-1]])
        improved = score > jax.lax.cummax(before)
        since = complete & (jnp.cumsum(improved[::-1])[::-1] == 0)
        stale = jnp.where(improved.any(), 0, self.stale) + since.sum(dtype=jnp.int32)
        return self._replace(stale=jnp.where(short >= self.begin, stale, self.stale))


@dataclass(frozen=True)
class Rhythm:
    """The order of short and of complete trainings; see the arguments of `two_levels`."""

    low: int
    last: int
    first: int
    short: int
    complete: int
    patience: int
    continues: bool
    batch: int
    width: int  # positions of an architecture
    candidates: int | None  # that can be begun; None: any number

    def room(self, steps: int) -> int:
        """Steps of short trainings that a run of so many steps may have."""
        most = steps if self.candidates is None else self.candidates // self.batch
        return max(1, min(steps, most))

    @property
    def least_short(self) -> int:
        """Short trainings before the first complete one can be due."""
        if self.candidates is None:
            return self.first
        return min(self.first, self.candidates // self.batch * self.batch)

    def exhausted(self, short: Array) -> Array | bool:
        """Whether so many short trainings leave too few candidates for another step.

        A search with candidates asks none of them twice.
        """
        return self.candidates is not None and short > self.candidates - self.batch

    def parts(self, query: Query) -> tuple[Array, Array]:
        """Finds the slots (b,) bool with short trainings, and those with complete ones.

        Results from outside may be of other epochs, which are neither.
        """
        active = asked(query)
        short = active & (query.epoch == self.low) & (query.start == 0)
        return short, active & (query.epoch >= self.last)

    def first_group(self) -> Group:
        """The group after the first short trainings."""
        return Group(jnp.int32(self.first), jnp.int32(self.complete), jnp.int32(0))

    def after(self, group: Group, short: Array, complete: Array) -> Group:
        """The group itself, or the first one after it that has not ended.

        Args:
          group: the current one.
          short: () int32 short trainings so far.
          complete: () int32 complete ones so far.
        """

        def ended(group: Group) -> Array:
            stale = group.stale >= self.patience
            return (short >= group.begin) & ((complete >= group.end) | stale)

        def following(group: Group) -> Group:
            # What a group has left is not made up for; the surplus of a batch counts.
            end = jnp.where(complete >= group.end, group.end, complete)
            begin = group.begin + self.short
            return Group(begin, end + self.complete, jnp.zeros_like(group.stale))

        return jax.lax.while_loop(ended, following, group)


def steps_with(rhythm: Rhythm, short: int) -> int:
    """Steps before another short one is due after `short` steps of them, at the fewest."""
    begun = short * rhythm.batch
    groups = max(0, 1 + (begun - rhythm.first) // rhythm.short)
    # No more can be completed than were begun.
    complete = min(min(rhythm.patience, rhythm.complete) * groups, begun)
    return short + -(-complete // rhythm.batch)


def short_steps(rhythm: Rhythm, num_steps: int) -> int:
    """The most steps of short trainings among the first `num_steps`."""
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
    for end, every in inside(rhythm.room(short_steps(rhythm, num_steps))):
        begin = counted[-1].end if counted else 0
        if end >= UNLIMITED:
            ends = [begin + stage.end for stage in growing_stages(num_steps - begin)]
            counted += [Stage(end, every) for end in ends]
        else:
            between = steps_with(rhythm, done + every) - begin
            counted.append(Stage(steps_with(rhythm, end), between))
            done = end
    if counted[-1].end < num_steps:  # no candidate is left to be begun
        counted.append(Stage(UNLIMITED, counted[-1].every))
    return tuple(counted)
