"""How long do searches, distances, transport, k-DPPs and trees take, and what memory?

    python -m experiments.bench
    python -m experiments.bench --sections search --repeats 9

Takes several minutes on two cores. Every peer runs in turn with jaxnas, so that ratios hold
while the machine's speed drifts. Writes bench.csv and bench.json to --out. Needs the
packages of the extra `dev`.
"""

from experiments.bench.config import Config
from experiments.bench.run import main
from jaxnas.studies import cli

if __name__ == "__main__":
    cli.command(
        main,
        Config,
        description=__doc__,
        interrupted="interrupted: nothing was written",
        cores=cli.use_one_core,
    )
