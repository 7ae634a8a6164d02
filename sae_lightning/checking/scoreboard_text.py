"""A scoreboard as Markdown, CSV and JSON: an SAE is a row everywhere."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sae_lightning.checking.scoreboard import Board, Row, short_hash
from sae_lightning.checking.words import place_in_words, variant_in_words
from sae_lightning.figures.chart import Table
from sae_lightning.tables import number_format
from sae_lightning.verdict.statistics import LEVEL

FORMAT, FORMAT_VERSION = "sae_lightning scoreboard", 1
FIRST_COLUMN = "table"
NOTHING = "-"
HOW_TO_READ = (
    f"A cell of a control is the SAE minus that control at the same l0, its {LEVEL:.0%} interval, which holds for all "
    "controls of the SAE at once, and the word: beats or loses, the interval leaves out 0; equivalent, it lies within "
    "the margin; unclear, these data cannot tell; unknown, there is no interval."
)
_DESCRIBED = ("variant", "d_sae", "l0", "model", "hook")
_BUDGETS = {
    "nulls": "nothing trained",
    "tokens": "a re-make and its twins trained on {tokens:,} tokens",
    "minutes": "a re-make and its twins trained for {minutes:g} minutes",
}


def tables(board: Board) -> Iterator[Table]:
    """Yield the words on each question, then for each headline metric the values and the cells of the controls."""
    noun = board.noun
    head = [noun, *_DESCRIBED, *board.questions]
    yield Table(f"Does each {noun} beat its controls?", head, list(_word_rows(board)))
    for metric, label in board.metrics.items():
        controls = board.controls(metric)
        rows = [row for row in board.rows if metric in row.metrics]
        show = number_format(_values(rows, metric))
        cells = [[row.name, *_cells(row.metrics[metric], controls, show)] for row in rows]
        yield Table(f"{label} ({metric})", [noun, "value", "floor", *controls.values()], cells)
    if remade := [row for row in board.rows if row.remake]:
        cells = [[row.name, *(row.remake_words.get(name, NOTHING) for name in board.questions)] for row in remade]
        yield Table("Does a re-make of each beat its trained twins?", [noun, *board.questions], cells)


def notes(board: Board) -> list[str]:
    """Return what stands under the tables: the questions, how cells are read, settings, hardware and budget."""
    asked = [f"{name}: {text}" for name, text in board.questions.items()]
    return [*asked, HOW_TO_READ, _settings(board.settings), *_provenance(board), *board.notes]


def as_markdown(boards: Sequence[Board]) -> str:
    """Lay out each board as tables of Markdown with its notes as a list."""
    parts = []
    for number, board in enumerate(boards, 1):
        parts += [f"# Table {number}"] if len(boards) > 1 else []
        parts += map(_markdown_table, tables(board))
        parts.append("\n".join(f"- {_escaped(note)}" for note in notes(board)))
    return "\n\n".join(parts) + "\n"


def as_csv(boards: Sequence[Board]) -> str:
    """Lay out all boards as one table, whose first column is the number of the board; a cell that is not is empty."""
    rows = [{FIRST_COLUMN: number} | flat(row, board) for number, board in enumerate(boards, 1) for row in board.rows]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def as_json(boards: Sequence[Board]) -> dict[str, Any]:
    """Return the boards for programs, with all that their files say of each SAE but of the files' inspection."""
    tables = [
        {"settings": board.settings, "saes": [_entry(row) for row in board.rows], "notes": list(board.notes)}
        for board in boards
    ]
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "level": LEVEL, "tables": tables}


def flat(row: Row, board: Board) -> dict[str, Any]:
    """Return an SAE with a value for each column: the difference to a control stands in METRIC/CONTROL."""
    cells: dict[str, Any] = {"sae": row.name, "where": row.sae["where"], "fingerprint": row.sae["fingerprint"]}
    cells |= _described(row) | {f"word/{name}": word for name, word in row.words.items()}
    for name, metric in row.metrics.items():
        cells |= {name: metric["value"], f"{name}/floor": metric["floor"]}
        for control, one in metric["controls"].items():
            low, high = one["interval"] or (None, None)
            column = f"{name}/{control}"
            cells |= {column: one["difference"], f"{column}/low": low, f"{column}/high": high}
            cells |= {f"{column}/word": one["verdict"]}
    cells |= {f"remake/word/{name}": word for name, word in row.remake_words.items()}
    cells |= {"hardware": hardware(row), "budget": budget(row), "seconds": row.check["seconds"]}
    return cells | dict(board.settings) | {"file": str(row.path)}


def hardware(row: Row) -> str:
    """Return what an SAE was checked on.

    An accelerator is named before the processor.
    """
    machine = row.check["hardware"]
    cores = f"{machine['cores']} core{'' if machine['cores'] == 1 else 's'} of {machine['processor']}"
    return f"{machine['accelerator']}, {cores}" if machine["accelerator"] else cores


def budget(row: Row) -> str:
    """Return in words what was trained for a check."""
    own = row.check["budget"]
    try:
        return _BUDGETS[own["kind"]].format_map(own)
    except (KeyError, ValueError):  # of a kind that a later version of this format may have
        return ", ".join(f"{name} {value}" for name, value in own.items())


def _word_rows(board: Board) -> Iterator[list[str]]:
    for row in board.rows:
        l0 = row.sae["l0"]
        described = _described(row) | {"d_sae": f"{row.sae['d_sae']:,}", "l0": NOTHING if l0 is None else f"{l0:.4g}"}
        words = [row.words.get(name, NOTHING) for name in board.questions]
        yield [row.name, *(NOTHING if cell is None else str(cell) for cell in described.values()), *words]


def _described(row: Row) -> dict[str, Any]:
    data = row.check["data"]
    known = {name: row.sae[name] if name in row.sae else data[name] for name in _DESCRIBED}
    return known | {"variant": variant_in_words(row.sae), "hook": place_in_words(data["hook"], data.get("target"))}


def _values(rows: Sequence[Row], metric: str) -> Iterator[float | None]:
    for row in rows:
        yield row.metrics[metric]["value"]
        yield from (one["difference"] for one in row.metrics[metric]["controls"].values())


def _cells(metric: Mapping[str, Any], controls: Mapping[str, str], show: str) -> Iterator[str]:
    yield _number(metric["value"], show)
    yield _number(metric["floor"], show)
    for name in controls:
        yield cell(metric["controls"][name], show) if name in metric["controls"] else NOTHING


def cell(control: Mapping[str, Any], show: str) -> str:
    """Return difference, interval and word.

    Args:
        control: an entry of ``controls`` of a metric.
        show: format of its numbers.

    >>> cell({"difference": 0.25, "interval": [0.2, 0.3], "verdict": "beats"}, ".2f")
    '+0.25 [+0.20, +0.30] beats'
    """
    low, high = control["interval"] or (None, None)
    interval = f" [{_number(low, '+' + show)}, {_number(high, '+' + show)}]" if control["interval"] else ""
    return f"{_number(control['difference'], '+' + show)}{interval} {control['verdict']}"


def _number(value: float | None, show: str) -> str:
    return NOTHING if value is None else format(value, show)


def _settings(settings: Mapping[str, str]) -> str:
    return "Measured with " + "; ".join(f"{name} {short_hash(value)}" for name, value in settings.items()) + "."


def _provenance(board: Board) -> Iterator[str]:
    """Yield a line for each file: its SAEs, hardware, budget, minutes, and how close the l0 of the controls came."""
    for path in dict.fromkeys(row.path for row in board.rows):
        rows = [row for row in board.rows if row.path == path]
        minutes = rows[0].check["seconds"] / 60
        off = [abs(one["l0_off"]) for row in rows for one in row.sae.get("controls", {}).values() if one.get("l0_off")]
        l0 = f"; l0 of controls within {max(off):.1%}" if off else ""
        names = ", ".join(row.name for row in rows)
        yield f"{names}: {hardware(rows[0])}; {budget(rows[0])}; {minutes:.1f} minutes{l0}; {path}."


def _markdown_table(table: Table) -> str:
    rule = ["---", *("---:" for _ in table.head[1:])]
    lines = [" | ".join(map(_escaped, row)) for row in (table.head, rule, *table.rows)]
    return "\n".join([f"**{_escaped(table.caption)}**", "", *(f"| {line} |" for line in lines)])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _entry(row: Row) -> dict[str, Any]:
    kept = {name: value for name, value in row.sae.items() if name != "inspection"}
    about = {"file": str(row.path), "data": row.check["data"], "hardware": row.check["hardware"]}
    return {**kept, "name": row.name, **about, "budget": row.check["budget"], "seconds": row.check["seconds"]}
