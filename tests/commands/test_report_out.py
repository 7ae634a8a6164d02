"""``sae report --out`` writes over a page, and over nothing else."""

from pathlib import Path

import pytest

from sae_lightning.commands.report import _page_file


def test_only_a_page_is_written_over(tmp_path):
    page, notes = tmp_path / "page.html", tmp_path / "notes.txt"
    page.write_text("\n<!DOCTYPE html>\n<html>")
    notes.write_text("mine")
    assert _page_file(page, Path("run"), split=False) == page
    assert _page_file(tmp_path / "new.html", Path("run"), split=False) == tmp_path / "new.html"
    with pytest.raises(ValueError, match="notes.txt is another file, no page; it is not overwritten"):
        _page_file(notes, Path("run"), split=False)
