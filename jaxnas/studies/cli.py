"""The frame of a command: cores, command line, checks of flags, errors, Ctrl-C.

A driver has a frozen `Config`, whose fields are its flags, and a `main(config)` that raises
`ValueError` for bad input before it computes or writes; `command(main, Config)` runs it.
"""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import docstring_parser
import jax
import rich.console
import tyro

from jaxnas.io import run_folder
from jaxnas.io.run_folder import Kind

OUT = Kind(option="--out")


def num_cores() -> int:
    """Returns the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def use_all_cores() -> None:
    """Makes each core a device, so that `simulate` spreads its runs over all of them.

    Settings in the environment (`NPROC`, `JAX_NUM_CPU_DEVICES`, `XLA_FLAGS`) win. Has no
    effect after jax has started its devices.
    """
    cores = num_cores()
    # The programs of all devices share one pool of threads: without one to spare, each
    # of their small steps waits for the others, which takes twice the time.
    _threads(cores + 1 if cores > 1 else 1)
    chosen = "JAX_NUM_CPU_DEVICES" in os.environ
    if not chosen and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores)


def use_one_core() -> None:
    """Gives jax one device and one thread, before it has started its devices."""
    _threads(1)


def _threads(num: int) -> None:
    """Sets the size of XLA's pool of threads, unless the environment has it."""
    os.environ.setdefault("NPROC", str(num))
    # jax's linear algebra runs on a BLAS that is loaded later; its idle threads spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def positive(config: Any, *names: str) -> None:
    """Checks that flags are at least 1.

    Args:
      config: the settings of a driver.
      names: fields of `config`; None, for a flag with a default that depends, is valid.

    Raises: `ValueError` that names the first flag below 1.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be at least 1, not {value}")


def at_most(config: Any, **limits: int) -> None:
    """Checks that flags are not above their limits.

    Sizes far above any use would end in failed allocations, or run silently for days.

    Args:
      config: the settings of a driver.
      **limits: the largest value of fields of `config`.

    Raises: `ValueError` that names the first flag above its limit.
    """
    for name, most in limits.items():
        if (value := getattr(config, name)) > most:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be at most {most}, not {value}")


def require_names(
    names: Sequence[str], available: Collection[str], what: str
) -> tuple[str, ...]:
    """Checks names that a flag takes.

    Args:
      names: the values of the flag, at least one.
      available: the valid names, which the error lists.
      what: the noun for the error, such as "method".

    Returns: the names.
    Raises: `ValueError` that lists the unknown names, or those given twice.
    """
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise ValueError(f"{what} {', '.join(twice)} is given twice")
    unknown = [name for name in names if name not in available]
    if unknown or not names:
        commas = " (separate names by spaces)" if "," in "".join(unknown) else ""
        raise ValueError(
            f"no {what} {', '.join(unknown) or 'given'}{commas}: choose from "
            f"{', '.join(available)}"
        )
    return tuple(names)


def minutes(config: Any) -> None:
    """Raises `ValueError` unless `--minutes` is above 0 and below a year."""
    if not 0 < config.minutes < 60 * 24 * 365:
        raise ValueError(
            f"--minutes must be above 0 and below a year, not {config.minutes}"
        )


def seed(config: Any, name: str = "base_seed") -> None:
    """Raises `ValueError` unless a field of the config is a seed, 0 to 2^32 - 1."""
    if not 0 <= (value := getattr(config, name)) < 2**32:
        flag = name.replace("_", "-")
        raise ValueError(f"--{flag} must be 0 to 2^32 - 1, not {value}")


def named(path: str | Path) -> Path:
    """The folder of `--out`; `ValueError` where it has no name."""
    if not str(path):
        raise ValueError("--out is empty: wanted the name of a folder")
    return Path(path)


def folder(path: str, driver: str) -> Path:
    """Makes the folder of a report, whose files every run of the driver replaces.

    Args:
      path: the folder, as given by `--out`.
      driver: the module that writes it, which is the identity of the folder.

    Raises: `ValueError` if it cannot be written, or belongs to something else.
    """
    return run_folder.open_or_create(named(path), {"driver": driver}, OUT).path


def command(
    main: Callable[[Any], Any],
    config_type: type,
    *,
    description: str | None = None,
    interrupted: str | None = None,
    at_once: bool = True,
    cores: Callable[[], None] = use_all_cores,
) -> None:
    """Runs a driver from the command line.

    Bad input ends in one line and exit code 2, Ctrl-C in one line and exit code 130, and a
    standard output that cannot be written, of a full disk say, in one line and exit code 1.

    Args:
      main: the driver; it takes the config and raises `ValueError` for bad input.
      config_type: a dataclass, whose fields become flags and their docstrings the help.
      description: for `--help`; default: the docstring of the module of `main`.
      interrupted: the line after Ctrl-C; default: that the same command resumes.
      at_once: Ctrl-C also ends a compiled program, and nothing is cleaned up.
      cores: `use_all_cores` or `use_one_core`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without the sign ± shows another; errors do so by default.
        sys.stdout.reconfigure(errors="replace")
    about = description or sys.modules[main.__module__].__doc__
    parsed = tyro.cli(_with_help(config_type), prog=_program(), description=about)
    names = (field.name for field in dataclasses.fields(config_type))
    config = config_type(**{name: getattr(parsed, name) for name in names})
    message = interrupted or (
        f"interrupted: what is finished is kept in {config.out}, "
        "and the same command resumes from there"
    )
    if at_once:
        _end_on_interrupt(message)
    cores()
    try:
        main(config)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{message}\n")
        sys.exit(130)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except (OSError, SystemExit) as error:
        reason = _output_error(error)
        if reason is None:
            raise
        kept = f"; what is finished is in {out}" if (out := _out(config)) else ""
        what = f"cannot write to the standard output: {reason}"
        sys.stderr.write(f"error: {what}{kept}\n")
        sys.exit(1)


def _program() -> str | None:
    """How the command was called, without the path of its file; None for a script."""
    spec = sys.modules["__main__"].__spec__
    return spec and f"python -m {spec.name.removesuffix('.__main__')}"


def _out(config: Any) -> str:
    """The folder of `--out`; empty for a driver without it."""
    return getattr(config, "out", None) or ""


def _output_error(error: OSError | SystemExit) -> str | None:
    """The cause, if the standard output is what cannot be written, and silences it."""
    if isinstance(error, SystemExit):
        # What rich raises where the reader of a pipe is gone.
        cause = error.__context__
        return cause.strerror if isinstance(cause, BrokenPipeError) else None
    if error.filename is not None or sys.stdout is None:
        return None
    try:
        # Where the output is not at fault, a line is left empty before the traceback.
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as again:
        # Or the interpreter would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return again.strerror
    return None


def _with_help(config_type: type) -> type:
    """Adds to a dataclass the help of its flags, for `tyro`.

    Docstrings of fields are wrapped for the source; tyro would show their line breaks and
    those of the terminal.

    Returns: a dataclass of the same fields, each with its docstring on one line.
    """
    texts: dict[str, str] = {}
    for cls in reversed(config_type.__mro__[:-1]):
        for field in docstring_parser.parse_from_object(cls).params:
            texts[field.arg_name] = " ".join((field.description or "").split())
    types = get_type_hints(config_type, include_extras=True)
    annotated = [
        (
            field.name,
            Annotated[types[field.name], tyro.conf.arg(help=texts.get(field.name))],
            dataclasses.field(default=field.default),
        )
        for field in dataclasses.fields(config_type)
    ]
    return dataclasses.make_dataclass(config_type.__name__, annotated, frozen=True)


def _end_on_interrupt(message: str) -> None:
    """Ends the process on SIGINT, at any moment, as all files are written atomically.

    Python runs its own handler only when the main thread is back from compiled code,
    which can take minutes, so a thread waits for the signal.
    """
    ignored = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    if ignored or not hasattr(signal, "sigwait"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def wait() -> None:
        signal.sigwait({signal.SIGINT})
        rich.console.Console(stderr=True).show_cursor()
        sys.stderr.write(f"\n{message}\n")
        sys.stderr.flush()
        os._exit(130)

    threading.Thread(target=wait, daemon=True).start()
