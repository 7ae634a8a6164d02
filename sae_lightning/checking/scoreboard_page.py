"""A scoreboard as one HTML file in the look of ``sae report``: nothing in it is loaded from elsewhere."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader

from sae_lightning import __version__
from sae_lightning.checking.scoreboard import Board
from sae_lightning.checking.scoreboard_text import notes, tables
from sae_lightning.report.page import inline
from sae_lightning.verdict import WORDS

_ENVIRONMENT = Environment(
    loader=PackageLoader("sae_lightning.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def page(boards: Sequence[Board]) -> str:
    """Make the page: a section for each board, whose tables are sorted by a click on the head of a column."""
    context = {
        "boards": [{"tables": list(tables(board)), "notes": notes(board)} for board in boards],
        "n_saes": sum(len(board.rows) for board in boards),
        "version": __version__,
        "inline": inline,
        "word_of": word_of,
    }
    return _ENVIRONMENT.get_template("scoreboard.html.j2").render(context)


def word_of(cell: str) -> str:
    """Return the word of the verdict that a cell ends with; empty where there is none.

    >>> word_of("+0.25 [+0.20, +0.30] beats"), word_of("0.25")
    ('beats', '')
    """
    word = cell.rpartition(" ")[2]
    return word if word in WORDS else ""
