"""The measurement of all sections, on the terminal and in files."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console

from experiments.bench import timing
from experiments.bench.config import PACKAGES, TORCH, Config, validate
from experiments.bench.timing import Row
from jaxnas.io import files
from jaxnas.studies import cli


def main(config: Config) -> list[Row]:
    """Measures, prints and writes.

    Raises: `ValueError` for bad input, before anything is compiled or written.
    """
    validate(config)
    # They load libraries that read the environment: not before `cli.command`.
    from experiments.bench import distances, dpp, memory, search, transport

    out = cli.folder(config.out, "bench.csv")
    machine, rows, console = timing.machine(tuple(PACKAGES)), [], Console()
    console.print(machine, highlight=False, soft_wrap=True)
    sections = {
        "search": search.search,
        "distances": distances.distances,
        "dpp": dpp.kdpp,
        "transport": transport.transport,
        "memory": memory.memory,
    }
    if not TORCH.isdisjoint(config.sections):
        from experiments.bench import proxies, training

        sections |= {
            "proxies": proxies.proxies,
            "training": training.steps,
        }
    for name in config.sections:
        with console.status(f"measuring: {name}"), timing.compiling():
            rows += sections[name](config)
    timing.show(console, rows)
    files.atomic_write(out / "bench.csv", timing.as_csv(rows).encode())
    # JSON has no NaN.
    plain = [{k: None if v != v else v for k, v in r._asdict().items()} for r in rows]
    described = {"machine": machine, "settings": asdict(config), "rows": plain}
    text = json.dumps(described, indent=1, allow_nan=False) + "\n"
    files.atomic_write(out / "bench.json", text.encode())
    console.print(f"{out}: bench.csv, bench.json", highlight=False, soft_wrap=True)
    return rows
