"""``sae report``: make one HTML page of run folders, which opens from disk, offline, and can be mailed.

Its first screen answers whether the SAE beats random baselines; under it stand settings, training, and everything else
that the runs have measured; at its end latents can be looked at, those of the trained SAE beside those of baselines. Of
several runs the comparison comes first, and the latents are those of the first. A run that measured the SAEs of another
one again, as ``sae validate`` does, is one with it. For the latents the model reads some held-out data; with
``--latents 0`` nothing is run.
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from sae_lightning.commands.not_finite import say_not_finite
from sae_lightning.commands.parser import RUN_HELP, add_margin, make_parser, parse
from sae_lightning.metric import MARGIN
from sae_lightning.runs import Run, experiments_of, read_runs
from sae_lightning.whole_files import write_whole

_HEAD = 64
FILE_NAME, FOLDER_NAME, INDEX = "report.html", "report", "index.html"


def main(args: list[str]) -> None:
    """Write the page and print where it is."""
    options = parse(_parser(), args[1:])
    if options.latents < 0:
        raise ValueError(f"--latents {options.latents}: expected 0 or more")
    page_file = _page_file(options.out, options.RUN[0], options.split)
    from sae_lightning import cpu_settings

    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    runs = read_runs(options.RUN)
    say_not_finite(runs)
    write_page(runs, page_file, options.latents, options.margin, options.split)
    print(page_file)


def write_page(
    runs: Sequence[Run], page_file: Path, n_latents: int, margin: float = MARGIN, split: bool = False
) -> None:
    """Write the page of some runs.

    Args:
        runs: finished ones.
        page_file: where it is written.
        n_latents: latents of each SAE to look at, 0 for none.
        margin: see `verdict.decide`.
        split: whether latents lie in files beside the page.

    Raises:
        ValueError: if the latents cannot be read.
    """
    from sae_lightning.checking.section import check_sections
    from sae_lightning.report.explorer import explorer_of
    from sae_lightning.report.marks import styles_of
    from sae_lightning.report.page import page

    experiments = experiments_of(runs)
    if split:
        page_file.parent.mkdir(exist_ok=True)
    try:
        explorer = explorer_of(
            experiments[0].runs[0],
            n_latents,
            page_file.parent if split else None,
            styles_of(run for experiment in experiments for run in experiment.runs),
        )
    except ValueError as error:
        raise ValueError(f"{error}; --latents 0 makes the page without latents") from error
    write_whole(page_file, page(experiments, explorer, margin, check_sections))


def _parser() -> ArgumentParser:
    parser = make_parser("report", __doc__)
    parser.add_argument("RUN", nargs="+", type=Path, help=RUN_HELP)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help=f"The page, or with --split its folder. Default: {FILE_NAME}, or {FOLDER_NAME}, in the first RUN.",
    )
    parser.add_argument(
        "--latents", type=int, default=200, metavar="N", help="Latents of each SAE to look at, 0 for none."
    )
    add_margin(parser)
    parser.add_argument(
        "--split", action="store_true", help=f"A folder with {INDEX} and the latents beside it, for thousands of them."
    )
    return parser


def _page_file(out: Path | None, run: Path, split: bool) -> Path:
    """Return the path of the page; its folder is there, or with `split` the folder above that.

    Raises:
        ValueError: if the page cannot go where `out` says.
    """
    if out is None:
        return run / FOLDER_NAME / INDEX if split else run / FILE_NAME
    if split and out.is_file():
        raise ValueError(f"--out {out} is a file; with --split give a folder, such as {out.with_suffix('')}")
    if not split and out.is_dir():
        raise ValueError(f"--out {out} is a folder; give a file, such as {out / FILE_NAME}")
    if out.is_file() and not out.read_bytes()[:_HEAD].lstrip().lower().startswith(b"<!doctype html"):
        raise ValueError(f"--out {out} is another file, no page; it is not overwritten. Give another name")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first")
    return out / INDEX if split else out
