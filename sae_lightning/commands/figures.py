"""``sae figures``: draw what finished runs measured.

Of each run:

- headlines: the headline metric of each question, the trained SAE and every baseline from the floor up. Runs that
  differ in seeds alone are one.
- cosine_to_start: how far did the directions of decoder and encoder move from their start?
- training: explained variance, recovery and the cosine to the start, over the samples of the training.
- recovery_by_frequency: which features are recovered, and how often do those fire?
- best_cosines: how near is the nearest decoder direction to each feature?
- meta_latents: of a meta-SAE, which meta-latents is a latent made of, and which others are made of them?
- novel_by_size: how many latents of a larger SAE lower the error of a smaller one? Of what sae stitch compared in it,
  which draws its other figures itself.

Of all runs:

- metrics_vs_l0: the headline metrics against the measured l0, for runs that differ in sparsity or variant alone.
- soft_freeze: the same against the limit of a soft freeze, where there are several.
- training_length: the same, and how far seeds agree, for runs that differ in the length of training alone.
- explained_variance_vs_recovery: does an SAE that explains more recover more?

Each is written as PNG and into TensorBoard, and a line says what is missing for the others. What speaks of features
needs data whose features are known.
"""

import sys
from pathlib import Path

from sae_lightning.commands.parser import RUN_HELP, make_parser, parse


def main(args: list[str]) -> None:
    """Draw the figures of the runs, and print the paths of the files."""
    parser = make_parser("figures", __doc__)
    parser.add_argument("RUN", nargs="+", type=Path, help=RUN_HELP)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="For figures of all runs. Default: figures/ of the first run."
    )
    options = parse(parser, args[1:])
    from sae_lightning.figures.runs import FOLDER, draw
    from sae_lightning.moving_line import wrapped
    from sae_lightning.runs import read_runs
    from sae_lightning.stitching.figures import draw_sizes

    out = options.out or options.RUN[0] / FOLDER
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder, which is made if needed")
    runs = read_runs(options.RUN)
    written, skipped = draw(runs, out)
    written += [path for run in runs for path in draw_sizes(run.folder, run.folder / FOLDER)]
    if not written:
        raise ValueError("nothing to draw: " + "; ".join(skipped))
    for line in skipped:
        print(wrapped(f"left out {line}", 4), file=sys.stderr)
    print(*written, sep="\n")
