"""Independent pieces of work on several devices, from threads of one process."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Work = TypeVar("Work")
Done = TypeVar("Done")


def map_over_devices(
    work: Callable[[Work, int], Done], groups: Sequence[Work], devices: int
) -> list[Done]:
    """Distributes work over devices, one group at a time on each.

    Args:
      work: (group, index of a device) -> result; called from threads.
      groups: what to work on, for instance groups of architectures.
      devices: their number.

    Returns:
      the results, in the order of the groups. An exception of `work` is raised here, and
      groups that were not started are dropped.
    """
    free: queue.Queue[int] = queue.Queue()
    for index in range(devices):
        free.put(index)

    def one(group: Work) -> Done:
        index = free.get()
        try:
            return work(group, index)
        finally:
            free.put(index)

    pool = ThreadPoolExecutor(devices)
    try:
        return list(pool.map(one, groups))
    finally:
        pool.shutdown(cancel_futures=True)
