"""Searches the best network for your own images, in the minutes that you have.

    python -m experiments.search_images --data photos --minutes 30
    python -m experiments.search_images --data images.npz --minutes 10 --size 16
    python -m experiments.search_images --data digits --minutes 5 --method random
        --out results/random
    python -m experiments.search_images --minutes 2 --out results/one
        --arch "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"

Cells of NAS-Bench-201 are scored untrained; the best-scored ones of those that the minutes
suffice for are searched by a Gaussian process, in batches of a k-DPP, with short
trainings; the best cells of those get longer ones; and the best of all is trained on the
images of training and validation and tested once. Everything is kept in --out: a run that
was killed goes on with the same command. Writes result.json, cell.png, curves.png,
curves.npz and the network, model/:

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
        "same command goes on from there",
    )
