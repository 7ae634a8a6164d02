import gzip
import json
import lzma
from pathlib import Path

import pytest
import tiny

from sae_lightning.datamodules import FileText, HubText, PocketText
from sae_lightning.datamodules.file_text import _DOCUMENT_CHARACTERS

FACTS = Path(__file__).parents[2] / "data/pocket_lm/facts.csv"


def test_jsonl_is_split_without_overlap(tmp_path):
    text = FileText(tiny.save_text(tmp_path / "a.jsonl", 40), heldout_every=10)
    train, heldout = list(text.train()), list(text.heldout())
    assert heldout == tiny.sentences(40)[::10]
    assert sorted(train + heldout) == sorted(tiny.sentences(40))
    assert list(text.train()) == train


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".xz", lzma.open)])
def test_packed_files(tmp_path, suffix, opener):
    with opener(tmp_path / f"a.jsonl{suffix}", "wt") as file:
        file.write(json.dumps({"body": "the cat"}) + "\n\n" + json.dumps({"body": "a dog"}) + "\n")
    assert list(FileText(str(tmp_path / f"a.jsonl{suffix}"), "body").documents()) == ["the cat", "a dog"]


def test_plain_text_is_cut_at_blank_lines(tmp_path):
    paragraphs = [("word " * 60 + "\n") * 3 + "\n" for _ in range(40)]
    (tmp_path / "b.txt").write_text("".join(paragraphs))
    documents = list(FileText(str(tmp_path / "*.txt")).documents())
    assert "".join(documents) == "".join(paragraphs)
    assert len(documents) > 5
    assert all(len(text) >= _DOCUMENT_CHARACTERS and text.endswith("\n\n") for text in documents[:-1])


def test_plain_text_without_blank_lines_is_cut_all_the_same(tmp_path):
    (tmp_path / "b.py").write_text("x = 1\n" * 20_000)
    assert max(len(text) for text in FileText(str(tmp_path / "b.py")).documents()) < 5 * _DOCUMENT_CHARACTERS


def test_heldout_files_of_their_own(tmp_path):
    text = FileText([tiny.save_text(tmp_path / "a.jsonl", 5)], heldout=tiny.save_text(tmp_path / "h.jsonl", 3, 100))
    assert list(text.train()) == tiny.sentences(5)
    assert list(text.heldout()) == tiny.sentences(3, 100)


def test_paths_are_found_at_once(tmp_path):
    (tmp_path / "empty.txt").touch()
    for paths, message in [
        (str(tmp_path / "no*.txt"), r"paths=.*no\*.txt: there is no such file"),
        (str(tmp_path / "empty.txt"), "empty.txt is empty"),
        (str(tmp_path), "is a folder; give files"),
        ([], "expected at least one file"),
    ]:
        with pytest.raises(ValueError, match=message):
            FileText(paths)
    with pytest.raises(ValueError, match="heldout=.*there is no such file"):
        FileText(tiny.save_text(tmp_path / "a.jsonl"), heldout=str(tmp_path / "b"))
    with pytest.raises(ValueError, match="heldout_every=1"):
        FileText(tiny.save_text(tmp_path / "a.jsonl"), heldout_every=1)


def test_wrong_column_and_broken_lines(tmp_path):
    path = tiny.save_text(tmp_path / "a.jsonl", 2, column="body")
    with pytest.raises(ValueError, match="a.jsonl, line 1: no text under column=text; set column to one of: body"):
        next(FileText(path).train())
    (tmp_path / "b.jsonl").write_text("not json\n")
    with pytest.raises(ValueError, match="b.jsonl, line 1: expected one JSON object"):
        next(FileText(str(tmp_path / "b.jsonl")).train())


@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_folder_as_dataset(tmp_path, streaming, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "texts"
    folder.mkdir()
    tiny.save_text(folder / "train.jsonl", 10)
    text = HubText(str(folder), heldout_every=5, streaming=streaming)
    assert list(text.heldout()) == tiny.sentences(10)[::5]
    assert len(list(text.train())) == 8
    with pytest.raises(ValueError, match="no text under column=body; set column to one of: text"):
        next(HubText(str(folder), column="body", streaming=streaming).train())
    with pytest.raises(ValueError, match="split=nosuch: `datasets` cannot load it"):
        next(HubText(str(folder), split="nosuch", streaming=streaming).train())


def test_hub_without_network(monkeypatch):
    import datasets

    def fail(*args, **kwargs):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(ValueError, match="dataset=a/b.*Couldn't reach.*FileText"):
        next(HubText("a/b").train())


@pytest.mark.skipif(not FACTS.is_file(), reason="the pocket language model is not here")
def test_pocket_text():
    text = PocketText(str(FACTS))
    train, heldout = text.train(), text.heldout()
    first = [next(train) for _ in range(20)]
    assert not set(first) & {next(heldout) for _ in range(20)}
    again = text.train()
    assert [next(again) for _ in range(20)] == first


def test_pocket_text_without_facts(tmp_path):
    with pytest.raises(ValueError, match="facts=.*there is no such file"):
        PocketText(str(tmp_path / "facts.csv"))
