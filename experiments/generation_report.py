"""Quality of the samples of MetaD2A's generator, and the time that one dataset takes.

    python -m experiments.generation_report --generator ckpt_400.pt
    python -m experiments.generation_report --generator ckpt_400.pt
        --features cifar10bylabel.pt --predictor predictor.pt

Draws --samples graphs and prints their statistics before any selection: validity,
uniqueness by strings and by functions, accuracy of the edges. Also generates --distinct
different cells, predicts each on --draws subsets of the images, and prints the seconds of
the first run, which compiles, and the median of five more: CPU time of one thread, or wall
time on a GPU, where the features are in its memory.

Weights are published checkpoints, files of torch.save. Without --predictor the predictor
has random weights, which take the same time. Without --features the features are random
numbers for --classes classes of --images images, and describe no dataset.

Takes about 20 seconds of one core. The published generator on random features gives
uniqueness 0.74 to 0.79 and validity 0.999 or 1; 500 cells of 10 classes with 10
predictions each take 1.1 seconds.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import jax
import numpy as np
from rich.console import Console

from jaxnas import models
from jaxnas.models import config as sizes
from jaxnas.models.features import ClassFeatures
from jaxnas.models.model import Model
from jaxnas.studies import cli
from jaxnas.studies.metad2a.config import MAX_CELLS, MAX_DRAWS, MAX_SAMPLES
from jaxnas.studies.metad2a.inputs import check_flag

_REPEATS = 5
_MOST_IMAGES = 1_000_000  # of all classes: 2 GB of features
# Mean and standard deviation of the published predictor's training accuracies, in percent.
_ACCURACY = 71.5715, 6.6932


@dataclass(frozen=True)
class Config:
    """Weights, images, and numbers of graphs."""

    generator: str
    """Checkpoint of a generator of NAS-Bench-201, a file of torch.save."""
    predictor: str | None = None
    """Checkpoint of a predictor; default: random weights of the published sizes."""
    features: str | None = None
    """Features by class, NAMEbylabel.pt; default: random numbers."""
    classes: int = 10
    """Classes of the random features."""
    images: int = 5000
    """Images of each class of the random features."""
    samples: int = 1000
    """Graphs for the statistics."""
    distinct: int = 500
    """Different cells whose accuracies are predicted."""
    draws: int = 10
    """Predictions of each cell."""
    base_seed: int = 0
    """Seed of everything that is random."""


def main(config: Config) -> dict[str, float]:
    """Prints and returns the figures of the report by name.

    Raises: `ValueError` for bad input, before anything is computed.
    """
    cli.positive(config, "classes", "images", "samples", "distinct", "draws")
    cli.at_most(config, classes=1000, images=_MOST_IMAGES, samples=MAX_SAMPLES)
    cli.at_most(config, distinct=MAX_CELLS, draws=MAX_DRAWS)
    if (images := config.classes * config.images) > _MOST_IMAGES:
        raise ValueError(
            f"--classes times --images must be at most {_MOST_IMAGES}, not {images}"
        )
    cli.seed(config)
    generator, predictor, features = _inputs(config)
    key_count, *keys = jax.random.split(jax.random.key(config.base_seed), _REPEATS + 2)
    seconds, on_cpu = [], jax.default_backend() == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    if not on_cpu:
        features = dataclasses.replace(features, x=jax.device_put(features.x))
    for key in keys:
        start = clock()
        cells = models.generate(generator, key, features, config.distinct).arch
        models.predict(predictor, key, features, cells, draws=config.draws)
        seconds.append(clock() - start)
    samples = models.sample_graphs(generator, key_count, features, config.samples)
    figures = models.sample_statistics(generator, samples)._asdict()
    del figures["novelty"]  # the training set is not given
    figures["first_seconds"] = seconds[0]
    figures["seconds"] = float(np.median(seconds[1:]))
    console = Console(highlight=False)
    for name, value in figures.items():
        console.print(f"{name:21} {value:.4g}")
    return figures


def _inputs(config: Config) -> tuple[Model, Model, ClassFeatures]:
    """Reads generator, predictor and features.

    Raises: `ValueError` for files with other contents.
    """
    generator = models.read_published(config.generator)
    check_flag("generator", config.generator, generator, models.Generator)
    key = jax.random.key(config.base_seed)
    if config.predictor is None:
        predictor = models.init(models.Predictor(sizes.NB201_PREDICTOR), key)
    else:
        predictor = models.read_published(config.predictor)
        check_flag("predictor", config.predictor, predictor, models.Predictor)
    predictor = models.with_accuracy(predictor, *_ACCURACY)
    if config.features is not None:
        return generator, predictor, models.read_by_label(config.features)
    rng = np.random.default_rng(config.base_seed)
    kind = generator.network.config.features
    shape = config.images, kind.width
    # Non-negative, as the outputs of a rectifier, around a centre for each class.
    centres = abs(rng.normal(size=(config.classes, kind.width)))
    classes = [np.maximum(c + 0.5 * rng.normal(size=shape), 0) for c in centres]
    return generator, predictor, models.join_classes(classes, kind)


if __name__ == "__main__":
    nothing = "interrupted: nothing was written"
    cli.command(main, Config, interrupted=nothing, cores=cli.use_one_core)
