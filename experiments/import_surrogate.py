"""Converts a published surrogate of learning curves to one npz file.

    python -m experiments.import_surrogate --source checkpoints/nb311-v0.5
        --out nb311.npz

Reads the folders of NAS-Bench-x11 (nb111, nb211, nb311 and nbnlp-v0.5: boosted trees on
components of an SVD) and of NAS-Bench-301 (lgb_runtime_v1.0 and others of LightGBM or
XGBoost), without scikit-learn, SciPy or those libraries and without running anything in
the files. `jaxnas.benchmarks.load_ensemble` loads the folder and the file alike.

The reader was tested on folders that the published programs wrote and on files of the same
size, not on the published ones. A member of 15,000 trees of 40 leaves, 85 MB, took 1.4 s
and 225 MB on one busy core, and its file has 30 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from jaxnas.benchmarks import released_files
from jaxnas.benchmarks.importers import x11
from jaxnas.benchmarks.importers.x11 import Released
from jaxnas.studies import cli


@dataclass(frozen=True)
class Config:
    """What to convert."""

    source: str
    """The folder that has the members' files surrogate_model.model."""
    out: str
    """The file (.npz) to write; it appears when it is complete."""


def main(config: Config) -> Released:
    """Converts one surrogate.

    Args:
      config: from where, and to where.

    Returns: the surrogate that was written.
    Raises: `ValueError` for a folder that cannot be read, and if the file cannot be
      written.
    """
    if Path(config.out).suffix != ".npz":
        raise ValueError(f"wanted a name that ends in .npz, found {config.out}")
    released = x11.read(config.source)
    released_files.save(config.out, released)
    Console().print(describe(config.out, released), highlight=False, soft_wrap=True)
    return released


def describe(out: str, released: Released) -> str:
    """One line about a surrogate.

    Args:
      out: the file that has it.
      released: the surrogate.
    """
    kind, distinct = released.kind, released.members or released.regressors
    what = f"curves of {kind.epochs} epochs" if kind.epochs else "one number"
    text = (
        f"{out}: {kind.name}, {released.model}, {what} in {kind.unit}, "
        f"{released.num_files} members, {len(distinct)} of them distinct"
    )
    kernel = released.members[0].kernel if released.members else None
    return text if kernel is None else f"{text}, {len(kernel.rows):,} residuals"


if __name__ == "__main__":
    cli.command(main, Config, interrupted="interrupted: nothing was written")
