"""Executors: which objects are usable as one, and how objectives reach their workers.

An executor is anything whose `submit(function, *args)` returns an object with `done()` and
`result()`: an executor of `concurrent.futures` or submitit, a `dask.distributed.Client`, or
Ray through `ray_executor`. `executors` runs tasks in one.
"""

from __future__ import annotations

import functools
import inspect
import os
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnas.search.drive.workers import Objective, Pickled, call, describe

# Modules of executors whose workers are other processes.
_REMOTE = ("distributed.", "submitit.", __name__, "concurrent.futures.process")


def _is_dask(executor: Any) -> bool:
    """Whether it is a Dask client, without importing Dask."""
    return any(
        c.__name__ == "Client" and c.__module__.startswith("distributed")
        for c in type(executor).__mro__
    )


def submit(executor: Any, *args: Any) -> Any:
    """Submits a function and its arguments, and returns the executor's future."""
    # Dask would return the result of the first attempt for an equal second one.
    return executor.submit(*args, **({"pure": False} if _is_dask(executor) else {}))


def require_executor(executor: Any, objective: Objective) -> None:
    """Checks an executor before anything is submitted.

    Args:
      executor: of any kind.
      objective: which it must be able to send to its workers.

    Raises: `ValueError` for an object without a usable `submit`, for one that is made for
      asyncio, and for an objective that other processes cannot import.
    """
    method = None if isinstance(executor, type) else getattr(executor, "submit", None)
    if not callable(method):
        hint = (
            ": give ray_executor()"
            if getattr(executor, "__name__", "") == "ray"
            else ""
        )
        raise ValueError(
            "the executor must be an object with submit(function, *args), such as one "
            f"of concurrent.futures or a dask Client, not {executor!r}{hint}"
        )
    if inspect.iscoroutinefunction(method) or getattr(executor, "asynchronous", False):
        raise ValueError(
            f"the executor ({type(executor).__name__}) is for asyncio: wanted one whose "
            "submit and result() can be called as they are"
        )
    try:
        inspect.signature(method).bind(call, objective)
    except ValueError:
        pass  # not every function has a signature
    except TypeError as error:
        raise ValueError(
            f"the executor's submit cannot be called with a function and its arguments: "
            f"{error}"
        ) from None
    portable(executor, objective)


def portable(executor: Any, objective: Objective) -> Objective | Pickled:
    """Converts an objective to what is sent to the workers of an executor.

    Other processes get bytes, which `workers.call` unpickles inside the task: an objective
    that cannot be unpickled there is then reported, and not taken for a failure of the
    architecture.

    Args:
      executor: whose kind says whether workers are other processes.
      objective: any callable.

    Raises: `ValueError` if the objective cannot be pickled.
    """
    if not any(c.__module__.startswith(_REMOTE) for c in type(executor).__mro__):
        return objective
    try:
        return Pickled(_pickle()(objective))
    except Exception as error:
        raise ValueError(
            "the executor cannot run the objective, which other processes must be able "
            f"to import: {describe(error)}"
        ) from None


def _pickle() -> Callable[[Any], bytes]:
    """The pickler: cloudpickle, if installed, also takes functions of a notebook."""
    try:
        import cloudpickle  # Dask, Ray and submitit depend on it
    except ImportError:
        return pickle.dumps
    return cloudpickle.dumps


def num_workers(executor: Any) -> int:
    """Finds how many tasks an executor runs at a time.

    Args:
      executor: of any kind; one that does not say counts as one worker for each core.
    """
    if _is_dask(executor):
        return max(1, sum(executor.nthreads().values()))
    for name in ("num_workers", "_max_workers"):
        number = getattr(executor, name, None)
        if isinstance(number, int) and number > 0:
            return number
    return os.cpu_count() or 1


class _Ray(NamedTuple):
    """Ray's tasks behind the interface of an executor."""

    options: dict[str, Any]  # of `ray.remote`

    @property
    def num_workers(self) -> int:
        """Tasks that the CPUs of the cluster can run at a time."""
        import ray  # pyright: ignore[reportMissingImports]

        cpus = self.options.get("num_cpus", 1) or 1
        return max(1, int(ray.cluster_resources().get("CPU", 1) / cpus))

    def submit(self, function: Callable, *args: Any) -> Any:
        """Starts a task, and returns it as a `concurrent.futures.Future`."""
        remote = _remote(function)
        if self.options:
            remote = remote.options(**self.options)
        return remote.remote(*args).future()


@functools.cache
def _remote(function: Callable) -> Any:
    """A remote function of Ray, exported to the cluster once."""
    import ray  # pyright: ignore[reportMissingImports]

    return ray.remote(function)


def ray_executor(**options: Any) -> Any:
    """Makes an executor of the Ray cluster that `ray.init` has connected to.

    Args:
      **options: of each task, as for `ray.remote`, such as `num_cpus=4`, `num_gpus=1` or
        `max_retries=1` (how often Ray itself repeats a task whose worker died).

    Raises: `ImportError` without Ray.
    """
    import ray  # noqa: F401 # pyright: ignore[reportMissingImports]

    return _Ray(options)
