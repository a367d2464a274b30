"""The benchmark program: measures all sections, prints a table and writes files."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import import_module

from rich.console import Console

from experiments.bench import timing
from experiments.bench.config import ALWAYS, SECTIONS, Config, validate
from experiments.bench.timing import Measurement
from jaxnas.io import files
from jaxnas.studies import cli


def main(config: Config) -> list[Measurement]:
    """Measures, prints, and writes bench.csv and bench.json.

    Returns: the measurements of all sections.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    validate(config)
    out = cli.folder(config.out, "bench")
    chosen = {name: SECTIONS[name] for name in config.sections}
    packages = dict.fromkeys(p for section in chosen.values() for p in section.packages)
    machine, rows, console = timing.machine((*ALWAYS, *packages)), [], Console()
    console.print(machine, highlight=False, soft_wrap=True)
    for name, section in chosen.items():
        # Loaded now: libraries read the environment, which `cli.command` sets first.
        module, function = section.function.split(".")
        measure = getattr(import_module(f"experiments.bench.{module}"), function)
        with console.status(f"measuring: {name}"), timing.compiling():
            rows += measure(config)
    timing.show(console, rows)
    timing.write_csv(out / "bench.csv", rows)
    # JSON has no NaN.
    plain = [{k: None if v != v else v for k, v in r._asdict().items()} for r in rows]
    described = {"machine": machine, "settings": asdict(config), "rows": plain}
    text = json.dumps(described, indent=1, allow_nan=False) + "\n"
    files.atomic_write(out / "bench.json", text.encode())
    console.print(f"{out}: bench.csv, bench.json", highlight=False, soft_wrap=True)
    return rows
