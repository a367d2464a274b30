"""Searches for the best network for your own images, in the minutes that you have.

    python -m experiments.search_images --data photos --minutes 30
    python -m experiments.search_images --data images.npz --minutes 10 --size 16
    python -m experiments.search_images --data digits --minutes 5 --method random
        --out results/random
    python -m experiments.search_images --data photos --latency 1.5 --out results/fast
    python -m experiments.search_images --minutes 2 --out results/one
        --arch "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"

Scores the untrained cells of NAS-Bench-201; searches the best-scored ones that can be
trained in time by a Gaussian process, in batches of a k-DPP, with short trainings; trains
the best of these for longer; and trains the best of all on the images of training and
validation, and tests it once. With --prior, accuracies of the cells on other images decide
the order, and few cells are trained, or none; --latency and --macs are bounds on the
network. Everything is kept in --out: the same command resumes a run that was killed, and
continues a finished one if it has more --minutes. Writes result.json, cell.png, curves.png,
curves.npz, with a bound front.png, and the network, model/:

    predict = jaxnas.load("results/search_images/model")
"""

from jaxnas.studies import cli
from jaxnas.studies.images.search import Config
from jaxnas.studies.images.search import search_images as main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    cli.command(
        main,
        Config,
        description=__doc__,
        interrupted="interrupted: the best so far is in result.json of --out, and the "
        "same command resumes from there",
    )
