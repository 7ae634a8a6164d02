"""``sae scoreboard``: one table of the SAEs that ``sae check`` has checked, here or elsewhere.

Reads check.json files and runs nothing. An SAE is a row; for each headline metric there is its value, and for each
control the difference at the same l0, with interval and word. What read other text, or was measured at other settings,
is refused, or with ``--split`` stands in a table of its own. An SAE that was checked twice at the same settings counts
once. Prints Markdown; ``--csv`` and ``--html`` write files instead.
"""

import json
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from sae_lightning.commands.parser import make_parser, parse
from sae_lightning.whole_files import write_whole

_HEAD = 64


def main(args: list[str]) -> None:
    """Print the table, or write it and print where."""
    options = parse(_parser(), args[1:])
    _check_outputs(options)
    from sae_lightning.checking.scoreboard import read_boards, refuse_several
    from sae_lightning.checking.scoreboard_text import as_csv, as_json, as_markdown

    boards = read_boards(options.CHECK)
    if not options.split:
        refuse_several(boards)
    if options.csv:
        write_whole(options.csv, as_csv(boards))
    if options.html:
        from sae_lightning.checking.scoreboard_page import page

        write_whole(options.html, page(boards))
    if options.json:
        print(json.dumps(as_json(boards), allow_nan=False))
    elif options.csv or options.html:
        print(*filter(None, (options.csv, options.html)), sep="\n")
    else:
        print(as_markdown(boards), end="")


def _check_outputs(options: Namespace) -> None:
    """Refuse to write over what is no scoreboard, and into what is no folder.

    Raises:
        ValueError: says which option, and what to give instead.
    """
    if options.csv and options.csv == options.html:
        raise ValueError(f"--csv and --html are both {options.csv}: give two names")
    _check_output("--csv", options.csv, "table,sae,", "table of sae scoreboard")
    _check_output("--html", options.html, "<!doctype html", "page")


def _check_output(option: str, path: Path | None, start: str, kind: str) -> None:
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder; give a file, such as {path / 'scoreboard'}.{option[2:]}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {path.parent}; make it first")
    if path.is_file() and not path.read_bytes()[:_HEAD].lstrip().lower().startswith(start.encode()):
        raise ValueError(f"{option} {path} is another file, no {kind}; it is not overwritten. Give another name")


def _parser() -> ArgumentParser:
    parser = make_parser("scoreboard", __doc__)
    parser.add_argument(
        "CHECK",
        nargs="+",
        type=Path,
        help="A file that sae check wrote, a run folder with one, or a folder, in which files are looked for at every "
        "depth whose names end in check.json.",
    )
    parser.add_argument(
        "--split", action="store_true", help="A table for each group of checks on the same text at the same settings."
    )
    parser.add_argument("--csv", type=Path | None, default=None, metavar="FILE", help="Write a table for programs.")
    parser.add_argument("--html", type=Path | None, default=None, metavar="FILE", help="Write a page, to open offline.")
    parser.add_argument("--json", action="store_true", help="Print all that is known as JSON instead.")
    return parser
