"""``sae compare``: the SAE, its baselines and the floor side by side, and whether it beats them.

A row per metric, a column per freeze policy: the mean over seeds and its sample standard deviation, then the floor,
which is what an SAE that does nothing scores, and references that are no SAE. Runs in which all settings but the seeds
agree are one experiment: their values are put together, and those with other freeze policies stand beside them. Other
runs stand in tables of their own, and a line says in what they differ. The same SAE counts once, under whatever path it
is given, and a run that measured the SAEs of another one again adds its metrics to that. Under each table stands the
verdict; that of a family is about each size by itself. Where SeedAgreement and evaluators of single latents measured
the same SAEs, a last table says whether the latents that other seeds have too are the better ones.
"""

import json
from pathlib import Path

from sae_lightning.colours import coloured
from sae_lightning.commands.not_finite import say_not_finite
from sae_lightning.commands.parser import RUN_HELP, add_margin, make_parser, parse


def main(args: list[str]) -> None:
    """Print the table, or with ``--json`` the values behind it."""
    parser = make_parser("compare", __doc__)
    parser.add_argument("RUN", nargs="+", type=Path, help=RUN_HELP)
    add_margin(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help='Print {"metrics": ..., "floors": ..., "verdicts": ..., "stability": ..., "notes": ...}, not tables.',
    )
    parser.add_argument(
        "--all", action="store_true", help="Every metric, the ends of the intervals, and each baseline's share."
    )
    options = parse(parser, args[1:])
    from sae_lightning.runs import experiments_of, read_runs
    from sae_lightning.verdict import experiment_texts, experiments_as_json

    runs = read_runs(options.RUN)
    say_not_finite(runs)
    experiments = experiments_of(runs)
    if options.json:
        print(json.dumps(experiments_as_json(experiments, options.margin)))
    else:
        print(coloured("\n\n".join(experiment_texts(experiments, options.margin, not options.all))))
