"""The line at the bottom of a terminal, and what takes its place elsewhere."""

import io
import sys
import types

import pytest

from sae_lightning import moving_line
from sae_lightning.colours import coloured
from sae_lightning.moving_line import MovingLine, wrapped
from sae_lightning.tables import lay_out

LONG = "3,148,000 tokens/s  17:01:17 left  loss 0.488  explained 0.512  l0 24.8"


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(moving_line.time, "monotonic", lambda: now[0])
    return now


def test_on_a_terminal_it_moves_within_80_columns_and_makes_room(monkeypatch: pytest.MonkeyPatch, clock: list[float]):
    monkeypatch.setattr(moving_line.sys, "stderr", terminal := Terminal())
    line = MovingLine()
    line.show("nobody asked", 1, 2)
    assert terminal.getvalue() == ""
    clock[0] = 1
    with line.on():
        for done in range(3):
            clock[0] += 1
            line.show("training", done, 2, LONG)
        line.say("kept")
    frames = terminal.getvalue().split("\r")
    assert max(map(len, frames)) < 80
    assert [f"{share:3}% |" in frames[1 + i] for i, share in enumerate((0, 50, 100))] == [True] * 3
    assert frames[-1] == "kept\n"
    assert frames[-2].strip() == "", "the line was wiped before"


def test_off_a_terminal_a_line_every_half_minute(monkeypatch: pytest.MonkeyPatch, clock: list[float]):
    monkeypatch.setattr(moving_line.sys, "stderr", stream := io.StringIO())
    line = MovingLine()
    with line.on():
        for seconds in range(0, 70, 5):
            clock[0] = seconds
            line.show("filling the buffer", seconds, 70)
    assert stream.getvalue() == "filling the buffer 43%\nfilling the buffer 86%\n"


class Cell:
    """The output of a cell of a notebook: text, and displays that can be changed."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, str]] = []

    def display(self, data: dict[str, str], raw: bool, display_id: bool) -> "Cell":
        assert raw
        assert display_id
        self.outputs.append(dict(data))
        return self

    def update(self, data: dict[str, str], raw: bool) -> None:
        assert raw
        self.outputs[-1] = dict(data)


def test_in_a_notebook_nothing_of_it_stays(monkeypatch: pytest.MonkeyPatch, clock: list[float]):
    cell, shown = Cell(), []
    monkeypatch.setattr(moving_line, "_is_notebook", lambda: True)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=cell.display))
    monkeypatch.setattr(moving_line.sys, "stdout", stream := Terminal())
    line = MovingLine()
    for number in range(2):
        with line.on():
            for done in range(3):
                clock[0] += 1
                line.show("training", done, 2)
                shown.append(cell.outputs[-1]["text/plain"])
                line.say("kept")
        nothing = {"text/plain": "", "text/html": ""}
        assert cell.outputs == [nothing] * (number + 1), "an output for each cell, empty in the end"
    assert [f"{share}% |" in text for share, text in zip((0, 50, 100) * 2, shown, strict=True)] == [True] * 6
    assert stream.getvalue() == "kept\n" * 6


def test_words_of_the_verdict_are_coloured_on_a_terminal_unless_nobody_wants_it(monkeypatch: pytest.MonkeyPatch):
    cell = "beats +0.5  it beats"
    assert coloured(cell) == cell
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert coloured(cell) == "\x1b[32mbeats\x1b[0m +0.5  it beats"
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured(cell) == cell


def test_text_and_tables_take_80_columns_where_nothing_says_how_wide_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert max(map(len, wrapped("word " * 50, 2).splitlines())) <= 80
    table = lay_out([["", *(f"column_{i}" for i in range(12))], ["row", *"abcdefghijkl"]])
    assert max(map(len, table.splitlines())) <= 80
    assert all(letter in table.split() for letter in "abcdefghijkl")
