"""``sae compare``: the SAE, its baselines and the floor side by side, and whether it beats them.

A row per metric, a column per freeze policy: the mean over seeds and its sample standard deviation, then the floor,
which is what an SAE that does nothing scores, and references that are no SAE. Runs whose model and data settings agree
up to seeds and freeze policies are one experiment: their values are put together. Other runs stand in tables of their
own. Under each table stands the verdict; that of a family is about each size by itself.
"""

import json
from argparse import ArgumentParser
from pathlib import Path

from sae_lightning.runs import experiments_of, read_runs
from sae_lightning.verdict import experiment_texts, experiments_as_json


def main(args: list[str]) -> None:
    """Print the table, or with ``--json`` the values behind it."""
    parser = ArgumentParser(prog="sae compare", description=__doc__, exit_on_error=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, lightning_logs/<name>/version_N")
    parser.add_argument(
        "--json", action="store_true", help='print {"metrics": ..., "floors": ..., "verdicts": ...} instead of tables'
    )
    options = parser.parse_args(args[1:])
    experiments = experiments_of(read_runs(options.runs))
    print(json.dumps(experiments_as_json(experiments)) if options.json else "\n\n".join(experiment_texts(experiments)))
