"""Settings of the benchmark driver."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, NamedTuple

from jaxnas.spaces.nasbench201 import SPACE
from jaxnas.studies import cli
from jaxnas.studies.comparison import methods

MODULES = {
    "jax": "jax",
    "scipy": "scipy",
    "threadpoolctl": "threadpoolctl",
    "scikit-learn": "sklearn",
    "POT": "ot",
    "DPPy": "dppy",
    "ott-jax": "ott",
    "lightgbm": "lightgbm",
    "torch": "torch",
    "optuna": "optuna",
    "DEHB": "dehb",
    "syne-tune": "syne_tune",
}
"""The module of each package that a section needs, by the name it is installed by."""

ALWAYS = "jax", "scipy", "threadpoolctl"


class Section(NamedTuple):
    """A part of the benchmark."""

    function: str  # MODULE.FUNCTION in this package, from the config to measurements
    packages: tuple[str, ...] = ()  # that it needs besides `ALWAYS`
    extra: str = "dev"  # of jaxnas, which has them


SECTIONS = {
    "search": Section("search.search", ("scikit-learn", "POT")),
    "objectives": Section("objectives.objectives"),
    "distances": Section("distances.distances", ("scikit-learn", "POT")),
    "transport": Section("transport.transport", ("POT", "ott-jax")),
    "dpp": Section("dpp.kdpp", ("DPPy",)),
    "trees": Section("trees.chains", ("lightgbm",)),
    "fits": Section("fits.fits"),
    "memory": Section("memory.memory"),
    "proxies": Section("proxies.proxies", ("torch",), "torch"),
    "training": Section("training.steps", ("torch",), "torch"),
    "suggestions": Section(
        "suggestions.suggestions",
        ("optuna", "DEHB", "syne-tune"),
        "peers (docs/multi_fidelity.md)",
    ),
}


@dataclass(frozen=True)
class Config:
    """What to measure, at which sizes."""

    sections: tuple[
        Literal[
            "search",
            "objectives",
            "distances",
            "transport",
            "dpp",
            "trees",
            "fits",
            "memory",
            "proxies",
            "training",
            "suggestions",
        ],
        ...,
    ] = (
        "search",
        "distances",
        "transport",
        "dpp",
        "trees",
    )
    """Which parts, in which order; memory is the peak of the main comparison; proxies and
    training need PyTorch, of the extra `torch`, suggestions Optuna, DEHB and
    Syne Tune."""
    ngrams: tuple[int, ...] = (1, 2)
    """Orders of the operation n-grams of the tree-Wasserstein distance."""
    candidates: int = SPACE.size
    """How many cells of NAS-Bench-201 are candidates, and have distances."""
    repeats: int = 5
    """Timed runs of each call, after a first one."""
    runs: int = 8
    """Runs of one search in a timed call."""
    evaluations: int = 150
    """Evaluations of one run."""
    init: int = 10
    """Random evaluations among them; times are per evaluation after these."""
    at: tuple[int, ...] = (20, 80, 140)
    """Observations at which a step of the scikit-learn loop is timed."""
    block: int = 128
    """Cells in a block of distances."""
    peer_cells: int = 512
    """Cells whose distances to all others scipy computes; jaxnas computes those of all."""
    pairs: int = 500
    """Pairs of cells for loops that take one pair at a time."""
    items: int = 200
    """Items of a k-DPP."""
    subset: int = 5
    """Items in one of its draws."""
    draws: int = 1000
    """Draws from one kernel."""
    trees: int = 3000
    """Trees of each of the five regressors of a chain."""
    fitted_curves: int = 1000
    """Learning curves that parametric families are fitted to."""
    peer_fits: int = 3
    """Curves among them that SciPy fits."""
    transport_pairs: int = 4096
    """Pairs of cells for the transport solvers of jaxnas; POT solves --pairs of them."""
    ott_pairs: int = 64
    """Pairs for ott-jax, all at once; 0 leaves it out, as it compiles for a minute."""
    networks: int = 24
    """Random cells that are scored and trained."""
    cells_per_stage: tuple[int, ...] = (1, 5)
    """Cells in each stage of their networks."""
    images: int = 32
    """Images in the batch that they are scored on."""
    steps: int = 8
    """Training steps of each cell."""
    suggestions: int = 600
    """Suggestions of each multi-fidelity search."""
    consecutive: int = 20
    """Suggestions of one of them before the next one's turn. With 1 each finds caches
    filled by another package, as between trainings, and its time depends on the order."""
    memory_seeds: int = 2
    """Runs of each method in the measurement of memory."""
    memory_evaluations: int = 200
    """Evaluations of each of these runs."""
    memory_methods: tuple[str, ...] = ()
    """Methods of these runs; default: those of the main comparison."""
    out: str = "results/bench"
    """Folder for the results."""


def validate(config: Config) -> None:
    """Raises `ValueError` for sizes out of range and for peers that are not installed."""
    names = (
        "candidates",
        "repeats",
        "runs",
        "evaluations",
        "block",
        "peer_cells",
        "pairs",
    )
    cli.positive(config, *names, "memory_seeds", "memory_evaluations", "draws")
    cli.positive(config, "transport_pairs", "networks", "images", "trees")
    cli.positive(config, "steps", "fitted_curves", "peer_fits")
    cli.positive(config, "suggestions", "consecutive")
    if config.memory_methods:
        methods.validate_methods(config.memory_methods)
    if not 1 <= config.subset <= config.items:
        raise ValueError(
            f"--subset must be between 1 and --items = {config.items}, "
            f"not {config.subset}"
        )
    if not 2 <= config.init < config.evaluations < config.candidates <= SPACE.size:
        raise ValueError(
            "wanted 2 <= --init < --evaluations < --candidates <= "
            f"{SPACE.size}, not {config.init}, {config.evaluations}, {config.candidates}"
        )
    if not config.at or not all(2 <= t <= config.evaluations for t in config.at):
        raise ValueError(
            f"--at must be between 2 and --evaluations = {config.evaluations}, "
            f"not {config.at}"
        )
    if not config.ngrams or min(config.ngrams) < 1:
        raise ValueError(f"--ngrams must be at least 1, not {config.ngrams}")
    if not config.sections:
        raise ValueError(f"--sections needs one of {', '.join(SECTIONS)}")
    if not config.cells_per_stage or min(config.cells_per_stage) < 1:
        raise ValueError(
            f"--cells-per-stage must be at least 1, not {config.cells_per_stage}"
        )
    for name in config.sections:
        _, packages, extra = SECTIONS[name]
        needed = (*ALWAYS, *packages)
        if missing := [p for p in needed if not find_spec(MODULES[p])]:
            raise ValueError(
                f"{' and '.join(missing)} not installed: --sections {name} needs the "
                f"extra {extra}"
            )
