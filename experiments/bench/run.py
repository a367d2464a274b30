"""The benchmark program: measures all sections, prints a table and writes files."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console

from experiments.bench import timing
from experiments.bench.config import PACKAGES, SEARCHES, TORCH, Config, validate
from experiments.bench.timing import Measurement
from jaxnas.io import files
from jaxnas.studies import cli


def main(config: Config) -> list[Measurement]:
    """Measures, prints, and writes bench.csv and bench.json.

    Returns: the measurements of all sections.
    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    validate(config)
    # These load libraries that read the environment, which `cli.command` sets first.
    from experiments.bench import (
        distances,
        dpp,
        memory,
        objectives,
        search,
        transport,
        trees,
    )

    out = cli.folder(config.out, "bench")
    packages = PACKAGES | (SEARCHES if "suggestions" in config.sections else {})
    machine, rows, console = timing.machine(tuple(packages)), [], Console()
    console.print(machine, highlight=False, soft_wrap=True)
    sections = {
        "search": search.search,
        "objectives": objectives.objectives,
        "distances": distances.distances,
        "dpp": dpp.kdpp,
        "transport": transport.transport,
        "trees": trees.chains,
        "memory": memory.memory,
    }
    if not TORCH.isdisjoint(config.sections):
        from experiments.bench import proxies, training

        sections |= {
            "proxies": proxies.proxies,
            "training": training.steps,
        }
    if "suggestions" in config.sections:
        from experiments.bench import suggestions

        sections["suggestions"] = suggestions.suggestions
    for name in config.sections:
        with console.status(f"measuring: {name}"), timing.compiling():
            rows += sections[name](config)
    timing.show(console, rows)
    timing.write_csv(out / "bench.csv", rows)
    # JSON has no NaN.
    plain = [{k: None if v != v else v for k, v in r._asdict().items()} for r in rows]
    described = {"machine": machine, "settings": asdict(config), "rows": plain}
    text = json.dumps(described, indent=1, allow_nan=False) + "\n"
    files.atomic_write(out / "bench.json", text.encode())
    console.print(f"{out}: bench.csv, bench.json", highlight=False, soft_wrap=True)
    return rows
