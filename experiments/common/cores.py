"""Jobs side by side, each on cores of its own."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def available_cores() -> list[int]:
    """Lists the cores that this process may use; empty if the system cannot tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def run_on_cores(
    run: Callable[[tuple[str, int]], float],
    jobs: list[tuple[str, int]],
    together: int,
    report: Callable[[str, int, float], None],
) -> list[float]:
    """Runs jobs side by side, each on cores of its own.

    Args:
      run: runs a method with a seed; returns its accuracy.
      jobs: methods and seeds.
      together: jobs at the same time.
      report: called with method, seed and accuracy as each job ends.

    Returns: the accuracies, in the order of the jobs.
    """
    shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    for part in range(together):
        shares.put(set(available_cores()[part::together]))

    def run_on_share(job: tuple[str, int]) -> float:
        share = shares.get()
        try:
            if share:  # of this thread, and of the process that it starts
                os.sched_setaffinity(0, share)
            accuracy = run(job)
        finally:
            shares.put(share)
        report(*job, accuracy)
        return accuracy

    with ThreadPoolExecutor(together) as pool:
        futures = [pool.submit(run_on_share, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)
