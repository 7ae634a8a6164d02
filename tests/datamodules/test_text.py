import gzip
import hashlib
import json
import lzma
import re
import time
from itertools import islice

import pytest
import tiny
from datamodules.starts import check_starts

from sae_lightning.datamodules import FileText, HubText, SourceError, hub_text
from sae_lightning.datamodules.cutting import DOCUMENT_CHARACTERS


def hash_of(i):
    """Letters that do not compress well, the same each time."""
    return hashlib.sha256(str(i).encode()).hexdigest()


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
    assert all(len(text) >= DOCUMENT_CHARACTERS and text.endswith("\n\n") for text in documents[:-1])


def test_plain_text_without_blank_lines_is_cut_all_the_same(tmp_path):
    (tmp_path / "b.py").write_text("x = 1\n" * 20_000)
    assert max(len(text) for text in FileText(str(tmp_path / "b.py")).documents()) < 5 * DOCUMENT_CHARACTERS


def test_heldout_files_of_their_own(tmp_path):
    text = FileText([tiny.save_text(tmp_path / "a.jsonl", 5)], heldout=tiny.save_text(tmp_path / "h.jsonl", 3, 100))
    assert list(text.train()) == tiny.sentences(5)
    assert list(text.heldout()) == tiny.sentences(3, 100)


def test_paths_are_found_at_once(tmp_path):
    (tmp_path / "empty.txt").touch()
    for paths, message in [
        (str(tmp_path / "no*.txt"), r"paths=.*no\*.txt: there is no such file"),
        (str(tmp_path / "empty.txt"), "empty.txt is empty"),
        (str(tmp_path), "empty.txt is empty"),
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
    (tmp_path / "b.jsonl").write_text("\n \nnot json\n")
    with pytest.raises(ValueError, match="b.jsonl, line 3: expected one JSON object"):
        FileText([tiny.save_text(tmp_path / "good.jsonl"), str(tmp_path / "b.jsonl")])
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match="c.jsonl, line 1: not valid UTF-8; convert the file"):
        FileText(tiny.save_text(tmp_path / "good.jsonl"), heldout=str(tmp_path / "c.jsonl"))


@pytest.fixture
def broken_lines(tmp_path):
    """39 good lines and 6 that are no document, in two files; of the second the damage is in the middle."""
    good = [json.dumps({"text": text}).encode() for text in tiny.sentences(39)]
    bad = [
        b"cut off {",
        b'["a list"]',
        b'{"body": 1}',
        b'{"text": null}',
        b'{"text": "caf\xe9"}',
        b'{"text": "\\ud800"}',
    ]
    bad.append(b"[" * 100_000)
    first, second = good[:20], good[20:]
    for i, line in enumerate(bad[:4]):
        first.insert(3 + 4 * i, line)
    second[5:5] = [b"", *bad[4:], b" "]
    (tmp_path / "1.jsonl").write_bytes(b"\n".join(first))
    (tmp_path / "2.jsonl").write_bytes(b"\n".join(second) + b"\n")
    return [str(tmp_path / "1.jsonl"), str(tmp_path / "2.jsonl")]


def test_unreadable_lines_are_skipped_and_reported_once(broken_lines):
    text = FileText(broken_lines, heldout_every=4)
    with pytest.warns(UserWarning, match="jsonl: skipped") as caught:
        train = list(text.train())
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "1.jsonl: skipped 4 of 24 lines that cannot be read, first line 4: expected one JSON object" in messages[0]
    assert "2.jsonl: skipped 3 of 24 lines that cannot be read, first line 7: not valid UTF-8" in messages[1]
    assert train == [line for i, line in enumerate(tiny.sentences(39)) if i % 4]
    assert list(text.train()) == train  # warnings are errors: it does not warn again
    assert list(text.heldout()) == tiny.sentences(39)[::4]


def test_bytes_that_are_not_utf8_are_replaced_in_plain_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("naïve\n".encode() + b"caf\xe9 \xe2\x82\nx\xff\r\nend")
    with pytest.raises(ValueError, match="a.txt, line 2: byte 0xe9 at position 10 is not UTF-8; give the encoding"):
        FileText(str(tmp_path / "a.txt"))
    text = FileText(str(tmp_path / "a.txt"), encoding_errors="replace")
    with pytest.warns(UserWarning, match=r"a.txt: replaced bytes that are not UTF-8 in 2 of 4 lines, first line 2$"):
        assert list(text.documents()) == ["naïve\ncaf\ufffd \ufffd\nx\ufffd\nend"]
    assert len(list(text.documents())) == 1


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip), (".xz", lzma)])
@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_damaged_packed_files_are_read_up_to_the_damage(tmp_path, suffix, opener, damage):
    documents = [f"{i} {hash_of(i)}" for i in range(3000)]
    packed = opener.compress("".join(json.dumps({"text": text}) + "\n" for text in documents).encode())
    half = len(packed) // 2
    packed = packed[:half] if damage == "cut off" else packed[:half] + b"\0" * 200 + packed[half + 200 :]
    (tmp_path / f"a.jsonl{suffix}").write_bytes(packed)
    text = FileText([str(tmp_path / f"a.jsonl{suffix}"), tiny.save_text(tmp_path / "b.jsonl", 30)])
    with pytest.warns(UserWarning, match="a.jsonl.*: (damaged|skipped)") as caught:
        read = list(text.documents())
    damaged = [str(warning.message) for warning in caught if ": damaged after" in str(warning.message)]
    assert len(damaged) == 1
    assert re.search(r"damaged after line \d+ \(.+\); what comes after it is left out$", damaged[0])
    n = len(read) - 30
    assert 0 < n < 3000
    # What is overwritten may pass for text until the unpacker notices.
    assert read[: n // 2] == documents[: n // 2]
    assert read[n:] == tiny.sentences(30)
    assert damage == "overwritten" or (len(caught) == 1 and read[:n] == documents[:n])
    assert list(text.documents()) == read

    (tmp_path / f"c.txt{suffix}").write_bytes(b"not packed at all")
    with pytest.raises(ValueError, match="c.txt.*: cannot be unpacked .*; give a file that is whole"):
        FileText(str(tmp_path / f"c.txt{suffix}"))


def test_a_file_that_is_gone_ends_the_run(tmp_path):
    text = FileText([tiny.save_text(tmp_path / "a.jsonl", 3), tiny.save_text(tmp_path / "b.jsonl", 3)])
    (tmp_path / "b.jsonl").unlink()
    documents = iter(text.documents())
    assert list(islice(documents, 3)) == tiny.sentences(3)
    with pytest.raises(SourceError, match="b.jsonl: cannot be read on after line 0"):
        next(documents)


@pytest.mark.filterwarnings("ignore:.*jsonl. skipped")
@pytest.mark.parametrize("heldout_every", [2, 4, None])
def test_files_continue_at_a_document(tmp_path, broken_lines, heldout_every):
    options = (
        {"heldout_every": heldout_every} if heldout_every else {"heldout": tiny.save_text(tmp_path / "h.jsonl", 3)}
    )
    assert len(check_starts(FileText(broken_lines, **options))) == {2: 19, 4: 29, None: 39}[heldout_every]


def test_plain_files_continue_at_a_document(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{i} {'word ' * 30}\n\n" for i in range(2000)))
    assert len(check_starts(FileText(str(tmp_path / "a.txt"), heldout_every=3))) > 20


@pytest.mark.parametrize("heldout", [{"heldout_every": 2}, {"heldout_every": 5}, {"heldout_split": "test"}])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_dataset_continues_at_a_document(tmp_path, streaming, heldout, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(hub_text, "_ROWS_AT_ONCE", 8)
    folder = tmp_path / "texts"
    folder.mkdir()
    for file in range(3):
        tiny.save_text(folder / f"train-{file}.jsonl", 20, start=20 * file)
    tiny.save_text(folder / "test-0.jsonl", 3)
    check_starts(HubText(str(folder), streaming=streaming, **heldout))
    for start in (0, 19, 20, 21, 45, 100):  # nothing is known from before
        text = HubText(str(folder), streaming=streaming, heldout_split="test")
        assert list(text.train(start)) == tiny.sentences(60)[start:]


class Hub:
    """Stands for `datasets.load_dataset`: 3 files of 10 documents that break as often as `breaks[row]` has errors."""

    def __init__(self, monkeypatch):
        import datasets

        self.breaks, self.waits, self.opened = {}, [], []
        monkeypatch.setattr(datasets, "load_dataset", self.load)
        monkeypatch.setattr(time, "sleep", self.waits.append)
        monkeypatch.setattr(hub_text, "_ROWS_AT_ONCE", 4)

    def load(self, *args, split, streaming):
        from datasets import IterableDataset

        if errors := self.breaks.get(split):
            raise errors.pop()
        return IterableDataset.from_generator(self.rows, gen_kwargs={"files": [0, 1, 2]})

    def rows(self, files):
        for file in files:
            self.opened.append(file)
            for row in range(10 * file, 10 * file + 10):
                if errors := self.breaks.get(row):
                    raise errors.pop()
                yield {"text": tiny.sentences(30)[row]}


def errors():
    import aiohttp
    from huggingface_hub.utils import httpx

    return [
        ConnectionError("Server Disconnected\nand more"),
        TimeoutError(),
        FileNotFoundError("hf://datasets/a/b/train-1.parquet"),
        httpx.ReadTimeout("The read operation timed out"),
        aiohttp.ClientPayloadError("Response payload is not completed"),
        RuntimeError("Cannot send a request, as the client has been closed."),
        EOFError("Compressed file ended before the end-of-stream marker was reached"),
        http_error(503),
    ]


def http_error(status):
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx

    response = httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/a"))
    return HfHubHTTPError(f"{status} error", response=response)


@pytest.mark.parametrize("start", [0, 6, 17])
@pytest.mark.parametrize("heldout_every", [3, None])
def test_a_stream_that_breaks_continues_with_the_same_document(monkeypatch, start, heldout_every):
    hub = Hub(monkeypatch)
    split = {"heldout_every": heldout_every} if heldout_every else {"heldout_split": "test"}
    expected = list(HubText("a/b", **split).train(start))
    for row, error in zip((0, 7, 10, 19, 20, 25, 28, 29), errors(), strict=True):
        hub.breaks[row] = [error]
    with pytest.warns(UserWarning, match="retry"):
        assert list(HubText("a/b", **split).train(start)) == expected
    assert not any(hub.breaks.values())
    assert len(hub.waits) == 8


def test_after_a_break_only_its_own_file_is_opened_again(monkeypatch):
    hub = Hub(monkeypatch)
    hub.breaks[25] = [ConnectionError(), ConnectionError()]
    with pytest.warns(UserWarning, match="retry") as caught:
        assert len(list(HubText("a/b").heldout())) == 2
    assert hub.opened == [0, 1, 2, 2, 2]
    assert [str(warning.message) for warning in caught] == [
        f"dataset=a/b, split=train, document 24: ConnectionError; retry {n} of 8 in {n} s" for n in (1, 2)
    ]


def test_a_stream_that_stays_broken_ends_the_run(monkeypatch):
    hub = Hub(monkeypatch)
    hub.breaks[5] = [ConnectionError("Server Disconnected\nand more") for _ in range(20)]
    hub.breaks[2] = [TimeoutError()]  # documents came after it: it does not count
    reader = HubText("a/b", heldout_split="test").train()
    with pytest.warns(UserWarning, match="document 0: TimeoutError; retry 1 of 8 in 1 s"):
        read = list(islice(reader, 4))
    failure = "dataset=a/b, split=train, document 4: given up after 8 retries .ConnectionError: Server Disconnected.$"
    with pytest.warns(UserWarning, match="document 4"), pytest.raises(SourceError, match=failure) as raised:
        list(reader)
    assert read == tiny.sentences(4)
    assert isinstance(raised.value.__cause__, ConnectionError)
    assert hub.waits == [1, 1, 2, 4, 8, 16, 32, 60, 60]


def test_what_no_retry_can_cure_is_not_retried(monkeypatch):
    hub = Hub(monkeypatch)
    hub.breaks[9] = [KeyError("text")]
    with pytest.raises(SourceError, match="dataset=a/b, split=train, document 8: cannot be read .KeyError: 'text'"):
        list(HubText("a/b").train())
    with pytest.raises(ValueError, match="no text under column=body; set column to one of: text"):
        list(HubText("a/b", column="body").train())
    hub.breaks["train"] = [http_error(401)]
    with pytest.raises(ValueError, match="dataset=a/b.*cannot load it .HfHubHTTPError: 401 error"):
        list(HubText("a/b").train())
    hub.breaks[3] = [ConnectionError()]
    with pytest.raises(SourceError, match="document 0: given up after 0 retries"):
        list(HubText("a/b", retries=0).train())
    assert hub.waits == []
    with pytest.raises(ValueError, match="retries=-1: expected a whole number, 0 or more"):
        HubText("a/b", retries=-1)


def test_opening_a_dataset_of_a_busy_hub_is_retried(monkeypatch):
    hub = Hub(monkeypatch)
    hub.breaks["train"] = [http_error(429), http_error(502)]
    with pytest.warns(UserWarning, match="document 0: HfHubHTTPError: .* error; retry"):
        assert len(list(HubText("a/b").heldout())) == 2
    hub.breaks["train"] = [http_error(500) for _ in range(3)]
    with pytest.warns(UserWarning, match="retry"), pytest.raises(SourceError, match="given up after 1 retries"):
        list(HubText("a/b", retries=1).heldout())


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


def test_a_row_without_text_is_an_empty_document(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": null}\n{"text": "b"}\n')
    text = HubText(str(tmp_path), heldout_split="test")
    with pytest.warns(UserWarning, match="split=train: rows have null under column=text; they are read as empty"):
        assert list(text.train()) == ["a", "", "b"]
    assert list(text.train(2)) == ["b"]


def test_hub_without_network(monkeypatch):
    import datasets

    def fail(*args, **kwargs):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(ValueError, match="dataset=a/b.*Couldn't reach.*FileText"):
        next(HubText("a/b").train())


@pytest.mark.parametrize("streaming", [True, False])
def test_one_document_of_a_dataset_is_enough(tmp_path, monkeypatch, streaming):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "texts").mkdir()
    words = " ".join(tiny.sentences(200))
    (tmp_path / "texts" / "train.jsonl").write_text(json.dumps({"text": words}) + "\n")
    text = HubText(str(tmp_path / "texts"), streaming=streaming)
    train, heldout = list(text.train()), list(text.heldout())
    assert sorted(" ".join(train + heldout).split()) == sorted(words.split())
    assert 0 < len("".join(heldout)) < len(words) / 5
    assert list(HubText(str(tmp_path / "texts"), streaming=streaming).train(2)) == train[2:]


def test_what_save_to_disk_wrote_is_a_dataset(tmp_path):
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_dict({"text": tiny.sentences(60), "n": range(60)})
    rows.save_to_disk(tmp_path / "one", num_shards=2)
    DatasetDict({"train": rows, "test": rows.select(range(3))}).save_to_disk(tmp_path / "two")
    assert list(HubText(str(tmp_path / "one")).heldout()) == tiny.sentences(60)[::20]
    text = HubText(str(tmp_path / "two"), heldout_split="test")
    assert list(text.train(7)) == tiny.sentences(60)[7:]
    assert list(text.heldout()) == tiny.sentences(3)
    with pytest.raises(ValueError, match="it has no split dev; expected one of train, test"):
        list(HubText(str(tmp_path / "two"), split="dev").train())
    with pytest.raises(ValueError, match="column=n holds numbers, such as 0, and no text; set column to one of: text"):
        list(HubText(str(tmp_path / "one"), column="n").train())


@pytest.mark.parametrize(
    ("split", "heldout"), [("train", "train"), ("train", "train[:5%]"), ("train[:9]", "train[:9]")]
)
def test_a_split_cannot_be_held_out_from_itself(split, heldout):
    with pytest.raises(ValueError, match=r"heldout_split=train.*: it is training text, split=train"):
        HubText("a/b", split=split, heldout_split=heldout)
    HubText("a/b", split="train[:95%]", heldout_split="train[95%:]")
