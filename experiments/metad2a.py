"""Proposes architectures for your own images by MetaD2A, in seconds.

    python -m experiments.metad2a --data photos
    python -m experiments.metad2a --data photos --minutes 10 --out results/photos
    python -m experiments.metad2a --data photos --generator results/metad2a/generator
    python -m experiments.metad2a --generator ckpt_400.pt --features cifar10bylabel.pt

Computes features of the images, generates different cells of NAS-Bench-201, and ranks them
by predicted accuracy. Prints the best with their predictions and the spread of these over
subsets of the images and members of the predictor; validity, uniqueness, novelty and edge
accuracy of the generator's samples; and the time of each part. With --minutes the best cell
is trained, and tested on images that nothing before has seen, as
`experiments.search_images --arch` does.

Writes result.json, cells.csv, cell_1.png, cell_2.png and so on, in place of those of an
earlier run; the folder training/ resumes, and refuses a training of other settings.
"""

from jaxnas.studies import cli
from jaxnas.studies.metad2a import Config
from jaxnas.studies.metad2a import propose as main

__all__ = ["Config", "main"]

INTERRUPTED = "interrupted: the same command starts anew, and resumes a training"

if __name__ == "__main__":
    cli.command(main, Config, description=__doc__, interrupted=INTERRUPTED)
