"""``sae report``: run folders become one HTML page that opens from disk, offline, and can be mailed.

Its first screen answers whether the SAE beats random baselines; under it stand settings, training, and everything else
that the runs have measured; at its end latents can be looked at, those of the trained SAE beside those of baselines. Of
several runs the comparison comes first, and the latents are those of the first. For the latents the model reads some
held-out data; with ``--latents 0`` nothing is run.
"""

from argparse import ArgumentParser
from pathlib import Path

from sae_lightning import startup

FILE_NAME, FOLDER_NAME, INDEX = "report.html", "report", "index.html"


def main(args: list[str]) -> None:
    """Write the page and print where it is."""
    parser = ArgumentParser(prog="sae report", description=__doc__, exit_on_error=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, lightning_logs/<name>/version_N")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"the page, or with --split its folder (default: {FILE_NAME}, or {FOLDER_NAME}, in the first RUN)",
    )
    parser.add_argument(
        "--latents",
        type=int,
        default=200,
        metavar="N",
        help="latents of each SAE to look at, 0 for none (default: 200)",
    )
    parser.add_argument(
        "--split", action="store_true", help=f"a folder with {INDEX} and the latents beside it, for thousands of them"
    )
    options = parser.parse_args(args[1:])
    if options.latents < 0:
        raise ValueError(f"--latents {options.latents}: expected 0 or more")
    page_file = _page_file(options.out, options.runs[0], options.split)

    startup.silence_known_noise()
    startup.speed_up_cpu()
    from sae_lightning.report.explorer import explorer_of
    from sae_lightning.report.page import page
    from sae_lightning.report.run import read

    runs = [read(folder) for folder in {folder.resolve(): folder for folder in options.runs}.values()]
    if options.split:
        page_file.parent.mkdir(exist_ok=True)
    explorer = explorer_of(runs[0].folder, options.latents, page_file.parent if options.split else None)
    page_file.write_text(page(runs, explorer), encoding="utf-8", errors="replace")
    print(page_file)


def _page_file(out: Path | None, run: Path, split: bool) -> Path:
    """Where the page goes; its folder is there, or with `split` the folder above that."""
    if out is None:
        return run / FOLDER_NAME / INDEX if split else run / FILE_NAME
    if split and out.is_file():
        raise ValueError(f"--out {out} is a file; with --split give a folder, such as {out.with_suffix('')}")
    if not split and out.is_dir():
        raise ValueError(f"--out {out} is a folder; give a file, such as {out / FILE_NAME}")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first")
    return out / INDEX if split else out
