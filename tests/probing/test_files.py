"""Labelled files, and the sets of the hub from local folders."""

import csv
import json
import warnings

import pytest

from sae_lightning.probing import LabelledFiles, SAEBenchSet


def rows(n, label, start=0, **more):
    return [{"text": f"{label} text {i}", "label": label, **more} for i in range(start, start + n)]


def write(path, of):
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, list(of[0]))
            writer.writeheader()
            writer.writerows(of)
        else:
            file.writelines(json.dumps(row) + "\n" for row in of)
    return str(path)


def texts(examples):
    return {example.text for example in examples}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_random_split_shares_no_text_and_is_the_same_each_time(tmp_path, suffix):
    path = write(tmp_path / f"all{suffix}", rows(40, "pos") + rows(40, "neg") + rows(5, "pos"))
    found = LabelledFiles(path).load(100, 100)
    assert (len(found.train), len(found.test), found.ood) == (64, 16, [])
    assert not texts(found.train) & texts(found.test)
    assert all(example.label in example.text and example.span is None for example in found.train)
    assert LabelledFiles(path).load(100, 100) == found
    assert texts(LabelledFiles(path, seed=1).load(100, 100).test) != texts(found.test)
    few = LabelledFiles(path).load(7, 3)
    assert [sum(example.label == "pos" for example in of) for of in (few.train, few.test)] == [7, 3]


def test_a_column_can_say_the_split_and_a_folder_and_others_can_be_given(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "a.csv", rows(12, "pos", split="train") + rows(11, "neg", split="test", start=50))
    write(folder / "b.jsonl", rows(13, "odd", split="train") + rows(9, "pos", split="unused", start=90))
    other = write(tmp_path / "other.jsonl", rows(4, "pos", start=200) + rows(2, "pos"))
    found = LabelledFiles(str(folder), split="split", ood=other, classes=["pos", "neg"]).load(100, 100)
    assert texts(found.train) == {f"pos text {i}" for i in range(12)}
    assert texts(found.test) == {f"neg text {i}" for i in range(50, 61)}
    assert texts(found.ood) == {f"pos text {i}" for i in range(200, 204)}  # what is known already is left out


def test_wrong_files(tmp_path):
    with pytest.raises(ValueError, match="path=nowhere.csv: does not exist; expected a .csv or .jsonl file"):
        LabelledFiles("nowhere.csv")
    with pytest.raises(ValueError, match="ood=.*: the folder has no .csv or .jsonl files"):
        LabelledFiles(write(tmp_path / "a.csv", rows(1, "pos")), ood=str(tmp_path.mkdir.__self__ / ".."))
    with pytest.raises(ValueError, match="test_share=1.5: expected a number above 0 and below 1"):
        LabelledFiles(write(tmp_path / "a.csv", rows(1, "pos")), test_share=1.5)
    with pytest.raises(ValueError, match="line 2: nothing under text=review; the columns are text, label"):
        LabelledFiles(write(tmp_path / "a.csv", rows(1, "pos")), text="review").load(10, 10)
    (tmp_path / "b.jsonl").write_text('{"text": "a", "label": 1}\n[1]\n')
    with pytest.raises(ValueError, match="b.jsonl: cannot be read .line 2: expected one JSON object, found list"):
        LabelledFiles(str(tmp_path / "b.jsonl")).load(10, 10)


@pytest.fixture
def bios(tmp_path):
    """Professions 0 and 1 with 30 men and 12 women each, and one that is not asked for."""
    for split, start in (("train", 0), ("test", 1000)):
        of = [
            {"hard_text": f"{profession} {gender} {i}", "profession": profession, "gender": gender}
            for profession in (0, 1, 27)
            for gender, n in ((0, 30), (1, 12))
            for i in range(start, start + n)
        ]
        write(tmp_path / f"{split}.jsonl", of)
    return str(tmp_path)


def test_a_hub_set_from_a_local_folder_is_balanced_by_gender(bios):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries below `datasets`
        found = SAEBenchSet("bias_in_bios_1", bios).load(20, 10)
    for examples, n in ((found.train, 20), (found.test, 10)):
        for profession in ("0", "1"):
            of_class = [example.text.split() for example in examples if example.label == profession]
            assert len(of_class) == n
            assert sum(gender == "1" for _, gender, _ in of_class) == n // 2
        assert {example.label for example in examples} == {"0", "1"}
    assert not texts(found.train) & texts(found.test)


def test_a_hub_set_without_a_test_split_is_cut(tmp_path):
    languages = ("C", "Python", "HTML", "Java", "PHP", "Rust")
    write(tmp_path / "train.jsonl", [{"code": f"{of} {i}", "language": of} for of in languages for i in range(40)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = SAEBenchSet("github_code", str(tmp_path)).load(20, 15)
    assert (len(found.train), len(found.test)) == (100, 75)
    assert not texts(found.train) & texts(found.test)


def test_a_hub_set_that_cannot_be_read_says_what_to_give(tmp_path):
    with pytest.raises(ValueError, match="folder=nowhere: there is no such folder; expected a copy of fancyzhx"):
        SAEBenchSet("ag_news", "nowhere")
    write(tmp_path / "train.jsonl", rows(3, "pos"))
    with pytest.raises(ValueError, match=r"name=europarl: `datasets` cannot read train .* give folder, a copy of"):
        SAEBenchSet("europarl", str(tmp_path)).load(10, 10)


def test_other_tables_and_encodings(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "all").mkdir()
    of = rows(10, "pos") + rows(10, "neg")
    (tmp_path / "all" / "a.CSV").write_text(
        "text;label\r\n" + "".join(f"{row['text']} é;{row['label']}\r\n" for row in of), encoding="utf-16", newline=""
    )
    (tmp_path / "all" / "b.json").write_text(json.dumps([{**row, "text": row["text"] + " in json"} for row in of]))
    table = pa.table({"text": [row["text"] + " in parquet" for row in of], "label": [0, 1] * 10})
    pq.write_table(table, tmp_path / "all" / "c.parquet")
    (tmp_path / "all" / "README.md").write_text("about them")
    found = LabelledFiles(str(tmp_path / "all"), classes=["pos", "neg", "0"]).load(100, 100)
    assert len(found.train) + len(found.test) == 50
    assert "pos text 3 é" in texts(found.train) | texts(found.test)


def test_what_is_wrong_in_a_file_is_named_by_its_line(tmp_path):
    good = "text,label\n" + "".join(f"the cat {i},{i % 2}\n" for i in range(6))
    for name, content, message in [
        ("a.csv", good + "Hello, world,1\n", "a.csv: cannot be read .line 8: 3 cells, and 2 columns"),
        ("b.csv", good + '"the dog,1\n', "b.csv: cannot be read .line 8: a quote is opened and not closed"),
        ("c.csv", good.encode() + b"caf\xe9,1\n", "c.csv, line 8: byte 0xe9 at position .* is not UTF-8; convert"),
        ("d.csv", good + "alone\n", "d.csv, line 8: nothing under label=label; the columns are text, label"),
        (
            "e.jsonl",
            '{"text": 3, "label": 1, "body": "a"}',
            "line 1: text=text holds numbers, .* set text to one of: body",
        ),
        ("f.jsonl", b'{"text": "caf\xe9", "label": 1}\n{}', "f.jsonl: cannot be read .line 1: not valid UTF-8"),
        ("g.json", '[{"text": "a", "label": 1}, {"te', "g.json: cannot be read .line 1: not JSON"),
        ("h.parquet", b"PAR1 cut off", "h.parquet: cannot be read .no whole Parquet file"),
        ("i.csv", "text,label\n", "there are no texts"),
    ]:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match=message):
            LabelledFiles(str(tmp_path / name)).load(10, 10)
    (tmp_path / "plain.csv.txt").write_text("words")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name, message in (("plain.csv.txt", "is neither; expected a .csv"), ("image.csv", "looks like a PNG image")):
        with pytest.raises(ValueError, match=message):
            LabelledFiles(str(tmp_path / name))


def test_columns_that_choose_nothing_are_said(tmp_path):
    path = write(tmp_path / "a.csv", rows(4, "pos", part="Train") + rows(4, "neg", part="dev"))
    with pytest.raises(ValueError, match="split=part: no row says test or train; they say Train, dev"):
        LabelledFiles(path, split="part").load(10, 10)
    with pytest.raises(ValueError, match=r"there are no texts with a label that is one of classes=\['Pos'\]"):
        LabelledFiles(path, classes=["Pos"]).load(10, 10)
