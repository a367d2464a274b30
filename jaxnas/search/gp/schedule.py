"""Schedule of a Gaussian-process search: random steps, growth of the state, and refits.

The searches over pools and over sampled candidates share it. A run begins with a few
steps of random architectures. Then the state, whose arrays have static sizes, grows in a
few stages, each of which is compiled once, and the hyperparameters are fitted anew a few
times in each stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax

from jaxnas.search.base import Stage
from jaxnas.search.common import History, require_capacity
from jaxnas.types import Array


class Schedule(NamedTuple):
    """Sizes that determine the schedule of a run."""

    init_steps: int  # steps of random architectures
    batch: int  # architectures in each step
    capacity: int | None  # evaluations the state has room for; None: it grows by stages

    @property
    def num_random(self) -> int:
        """Evaluations of random architectures, a multiple of `batch`."""
        return self.init_steps * self.batch


S = TypeVar("S", bound=History)


def make_schedule(init: int, batch: int, capacity: int | None) -> Schedule:
    """Schedule with at least `init` random evaluations, in whole batches."""
    return Schedule(-(-init // batch), batch, capacity)


def stages(
    schedule: Schedule, num_steps: int, size: int | None, owner: str
) -> tuple[Stage, ...]:
    """Stages of a run that asks no architecture twice.

    Args:
      schedule: sizes of the run.
      num_steps: length of the run.
      size: number of architectures; None if it is unlimited.
      owner: name of the pool or space that holds them, for the error message.

    Raises: `ValueError` for a run that is longer than a fixed capacity, than there are
      architectures, or than `refit_stages` allows.
    """
    if schedule.capacity is not None:
        require_capacity(schedule.capacity, schedule.batch, num_steps)
    if size is not None and num_steps * schedule.batch > size:
        raise ValueError(
            f"{owner} has {size} architectures: not enough for {num_steps} steps of "
            f"{schedule.batch}"
        )
    return refit_stages(schedule.init_steps, num_steps)


def grow(schedule: Schedule, pad: Callable[[S, int], S], state: S, num_steps: int) -> S:
    """Pads a state to `num_steps` steps, unless its capacity is fixed.

    Args:
      schedule: sizes of the run.
      pad: (state, size) -> state with room for at least `size` evaluations.
      state: of the search.
      num_steps: steps that the state needs room for.
    """
    if schedule.capacity is not None:
        return state
    return pad(state, num_steps * schedule.batch)


def may_fit(schedule: Schedule, state: History) -> bool:
    """Whether a state has room for more than the random evaluations; static."""
    return state.score.shape[0] > schedule.num_random


def refresh(schedule: Schedule, refit: Callable[[S], S], state: S) -> S:
    """Refits a state once the random evaluations are finished.

    Args:
      schedule: sizes of the run.
      refit: state -> state with hyperparameters fitted to its history.
      state: of the search; with too few evaluations, as after idle steps, it is returned
        as it is.
    """
    if not may_fit(schedule, state):
        return state
    enough = state.count >= schedule.num_random
    return jax.lax.cond(enough, refit, lambda state: state, state)


def random_or_learned(
    schedule: Schedule,
    state: History,
    fitted: Array,
    random: Callable[[], Array],
    learned: Callable[[], Array],
) -> Array:
    """Calls `learned` if the model is `fitted` () and `random` before that.

    A state without room for learned evaluations does not compile `learned` at all.
    """
    if not may_fit(schedule, state):
        return random()
    return jax.lax.cond(fitted, learned, random)


# Steps for which the state has room, one stage after another. The factor is three at
# first, and smaller later, as a fit takes the cube of them.
_ROOM = (4, 8, 20, 60, 150, 200, 300, 500, 800, 1200, 2000, 3000, 5000, 8000, 12000)


def refit_stages(init_steps: int, num_steps: int) -> tuple[Stage, ...]:
    """Stages of growing room with 1 to 5 refits each, after the random steps.

    Every stage is compiled, so they are few; the first ends after at least twice the
    random steps. Their ends do not depend on the length of the run. There are 5 refits
    in each of the first stages, and then for each factor of 4 in the number of steps.

    Args:
      init_steps: steps of random architectures, the first stage.
      num_steps: length of the run.

    Raises: `ValueError` for a run of more than 12,000 steps.
    """
    if num_steps > _ROOM[-1]:
        raise ValueError(f"num_steps must be at most {_ROOM[-1]}, not {num_steps}")
    stages = [Stage(init_steps, init_steps)]
    for end in (end for end in _ROOM if end >= 2 * init_steps):
        if stages[-1].end >= num_steps:
            break
        first = stages[-1].end
        # Early refits cost next to nothing, and batches learn the most from them.
        refits = 5 if end <= 20 else max(1, round(5 * math.log(end / first, 4)))
        stages.append(Stage(end, -(-(end - first) // refits)))
    return tuple(stages)
