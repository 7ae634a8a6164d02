"""``sae report``: run folders become one HTML page that opens from disk, offline, and can be mailed.

Its first screen answers whether the SAE beats random baselines; under it stand settings, training, and everything else
that the runs have measured. Of several runs the comparison comes first. No model is run.
"""

from argparse import ArgumentParser
from pathlib import Path

FILE_NAME = "report.html"


def main(args: list[str]) -> None:
    """Write the page and print where it is."""
    parser = ArgumentParser(prog="sae report", description=__doc__, exit_on_error=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, lightning_logs/<name>/version_N")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"the page (default: {FILE_NAME} in the first RUN)")
    options = parser.parse_args(args[1:])
    out = options.out or options.runs[0] / FILE_NAME
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; give a file, such as {out / FILE_NAME}")
    if not out.absolute().parent.is_dir() and options.out:
        raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first")

    from sae_lightning.report.page import page
    from sae_lightning.report.run import read

    runs = [read(folder) for folder in {folder.resolve(): folder for folder in options.runs}.values()]
    out.write_text(page(runs), encoding="utf-8", errors="replace")
    print(out)
