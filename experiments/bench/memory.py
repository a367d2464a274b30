"""Peak memory of the main comparison."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from experiments.bench.config import Config
from experiments.bench.timing import Measurement

# A process in between, as the peak of a child begins at that of its parent.
_PEAK = """
import resource, subprocess, sys, time
wall = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
wall = time.perf_counter() - wall
if done.returncode:
    sys.exit(done.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
unit = 2**20 if sys.platform == "darwin" else 2**10
print(used.ru_maxrss / unit, wall, used.ru_utime + used.ru_stime)
"""


def memory(config: Config) -> list[Measurement]:
    """Measures the peak resident memory of the main comparison, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        job = [
            *(sys.executable, "-m", "experiments.tw_sequential", "--out", folder),
            *("--seeds", str(config.memory_seeds)),
            *("--evaluations", str(config.memory_evaluations)),
        ]
        if config.memory_methods:
            job += ["--methods", *config.memory_methods]
        mebibytes, wall, cpu = peak(job)
    runs = f"{config.memory_seeds} runs of {config.memory_evaluations} evaluations"
    group = f"the main comparison with {runs}, start and compilation included"
    return [
        _single(group, "peak memory", "MiB", mebibytes, math.nan),
        _single(f"{group}: time", "wall time", "s", wall, cpu),
    ]


def _single(group: str, what: str, unit: str, value: float, cpu: float) -> Measurement:
    nan = math.nan
    return Measurement(group, what, unit, nan, value, value, value, cpu, nan, nan)


def peak(job: Sequence[str]) -> tuple[float, float, float]:
    """Runs a command to its end.

    Args:
      job: the program and its arguments.

    Returns: its peak resident memory in MiB, wall seconds and processor seconds.
    Raises: `ValueError` with the last line of its output if it fails.
    """
    process = [sys.executable, "-c", _PEAK, *job]
    # The job uses all cores, whatever this process is restricted to.
    environment = {k: v for k, v in os.environ.items() if k != "NPROC"}
    done = subprocess.run(process, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise ValueError(f"the job whose memory is measured failed: {last}")
    mebibytes, wall, cpu = map(float, done.stdout.split())
    return mebibytes, wall, cpu
