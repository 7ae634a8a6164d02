"""What `FileText` makes of files: encodings, columns, an only document, and held-out text that is training text."""

import json
import warnings

import pytest
import tiny
from datamodules.starts import check_starts

from sae_lightning.datamodules import FileText, SourceError
from sae_lightning.datamodules.cutting import DOCUMENT_CHARACTERS, cut_at_spaces, documents_of_lines, piece_size
from sae_lightning.files.plain import LONGEST_LINE

WORDS = " ".join(f"word{i}" for i in range(20_000))


def save_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


# Encodings
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_no_mark_and_no_carriage_return_stays_in_the_text(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("café\r\nof\n\ufeffjoined".encode(encoding))
    (document,) = FileText(str(tmp_path / "a.txt")).documents()
    assert document.replace("\n", " ").startswith("café of")
    assert "\ufeff" not in document
    (tmp_path / "b.jsonl").write_text('{"text": "\ufeffthe cat"}\n', encoding=encoding)
    assert list(FileText(str(tmp_path / "b.jsonl")).documents()) == ["the cat"]


def test_bytes_in_another_encoding_are_named_by_line_and_byte(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x\n" * 50_000 + b"caf\xe9 au lait\n")
    text = FileText(str(path))  # its beginning is UTF-8
    place = "a.txt, line 50001: byte 0xe9 at position 100003 is not UTF-8; give the encoding of the files, for example"
    for read in (text.check, lambda: list(text.documents())):
        with pytest.raises(SourceError, match=place):
            read()
    assert "café au lait" in "".join(FileText(str(path), encoding="cp1252").documents())
    with pytest.warns(UserWarning, match="replaced bytes that are not UTF-8 in 1 of 50001 lines, first line 50001"):
        assert "caf\ufffd" in "".join(FileText(str(path), encoding_errors="replace").documents())
    (tmp_path / "b.txt").write_bytes("без меток".encode("utf-16-le"))
    assert list(FileText(str(tmp_path / "b.txt"), encoding="utf-16-le").documents()) == ["без меток"]
    for encoding in ("klingon", "hex"):
        with pytest.raises(ValueError, match=f"encoding={encoding}: there is no such encoding"):
            FileText(str(path), encoding=encoding)


# Columns
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": None, "body": "a", "n": 1}] * 3,
            "nothing but null under column=text in the first 3 rows; set column to one of: body$",
        ),
        (
            [{"text": 3, "body": "a"}],
            "line 1: column=text holds numbers, such as 3, and no text; set column to one of: body",
        ),
        (
            [{"text": ["a"], "n": 2}],
            "column=text holds lists, such as .*, and no text, nor in any other column: n .numbers.$",
        ),
        (
            [{"messages": [1], "n": None}],
            "no text under column=text, nor in any other column: messages .lists., n .null.",
        ),
        (
            [{"n": 1, "title": "a", "body": None}, {"body": "b"}],
            "no text under column=text; set column to one of: title, body$",
        ),
    ],
)
def test_columns_that_hold_text_are_named(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        FileText(save_rows(tmp_path / "a.jsonl", rows))


def test_rows_without_text_are_skipped_and_counted(tmp_path):
    path = save_rows(tmp_path / "a.jsonl", [{"text": None}, {"text": "a"}, {"text": 1}, {"text": None}, {"text": "b"}])
    message = "skipped 3 of 5 lines .*, first line 1: null under column=text; 2 of them have null under column=text"
    with pytest.warns(UserWarning, match=message):
        assert list(FileText(path).documents()) == ["a", "b"]


def test_a_folder_of_tables_and_other_text_is_refused(tmp_path):
    save_rows(tmp_path / "a.jsonl", [{"text": "a"}])
    (tmp_path / "README.md").write_text("about it")
    with pytest.raises(ValueError, match=r"tables .1, such as a.jsonl. and other text .1, such as README.md.*\*.jsonl"):
        FileText(str(tmp_path))
    assert list(FileText(str(tmp_path / "*")).documents()) == ["about it", "a"]  # as it was told


def test_files_without_text_are_refused_before_training(tmp_path):
    (tmp_path / "a.txt").write_text(" \n\n")
    (tmp_path / "b.csv").write_text("text,label\n")
    for name in ("a.txt", "b.csv"):
        with pytest.raises(ValueError, match="there is no text in"):
            FileText(str(tmp_path / name)).check()


def test_damage_in_the_middle_is_named_and_the_rest_is_left_out(tmp_path):
    rows = [{"text": f"the cat {i}"} for i in range(10)]
    (tmp_path / "a.json").write_text(json.dumps(rows)[:-20])
    with pytest.warns(UserWarning, match="a.json: damaged after row 9 .*; what comes after it is left out"):
        assert len(list(FileText(str(tmp_path / "a.json")).documents())) == 9
    (tmp_path / "b.csv").write_text('text\nthe cat\n"sat\non a mat\n')
    with pytest.warns(UserWarning, match="b.csv: damaged after line 2 .line 3: a quote is opened and not closed."):
        assert list(FileText(str(tmp_path / "b.csv")).documents()) == ["the cat"]


# An only document
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text8", "a.json", "a.jsonl", "two.jsonl"])
def test_one_document_is_enough(tmp_path, name):
    rows = {"a.json": [{"text": WORDS}], "a.jsonl": {"text": WORDS}}
    content = json.dumps(rows[name]) if name in rows else WORDS
    if name == "two.jsonl":
        content = json.dumps({"text": "A title"}) + "\n" + json.dumps({"text": WORDS})
    (tmp_path / name).write_text(content)
    text = FileText(str(tmp_path / name), heldout_every=10)
    train, heldout = check_starts(text), list(text.heldout())
    assert sum(map(len, heldout)) / (sum(map(len, train)) + sum(map(len, heldout))) == pytest.approx(0.1, abs=0.03)
    words = [word for piece in train + heldout for word in piece.split()]
    assert sorted(words) == sorted(("A title " * (name == "two.jsonl") + WORDS).split())  # no word twice, none cut
    assert list(FileText(str(tmp_path / name), heldout_every=10).train(5)) == train[5:]


def test_a_short_document_is_cut_finely(tmp_path):
    (tmp_path / "a.txt").write_text(WORDS[:1000])
    text = FileText(str(tmp_path / "a.txt"))
    assert 30 < len("".join(text.heldout())) < 100
    assert "".join([*text.heldout(), *text.train()]) == WORDS[:1000]


@pytest.mark.parametrize(
    "lengths", [[500] * 20, [1] + [5000] * 19, [5000, 300], [300, 5000, 5000], [2_000_000, 1_500_000]]
)
def test_documents_that_make_two_parts_stay_whole(lengths):
    assert piece_size(["x" * length for length in lengths], 20) == 0


@pytest.mark.parametrize(("lengths", "size"), [([1, 10_000], 501), ([90_000, 1000, 1000], 4000), ([10], 1), ([], 0)])
def test_documents_of_which_a_part_would_have_next_to_nothing_are_cut(lengths, size):
    assert piece_size(["x" * length for length in lengths], 20) == size


def test_a_line_without_end_is_cut_at_spaces():
    line = (WORDS + " ") * 15  # more than is read at once
    assert len(line) > 2 * LONGEST_LINE
    parts = [line[begin : begin + LONGEST_LINE] for begin in range(0, len(line), LONGEST_LINE)]
    documents = list(documents_of_lines(parts))
    assert "".join(documents) == line
    assert max(map(len, documents)) < 3 * DOCUMENT_CHARACTERS
    assert {word for text in documents for word in text.split()} == {*WORDS.split()}
    assert ["".join(cut_at_spaces(text, 7)) for text in ("", "a" * 50, " \n ")] == ["", "a" * 50, " \n "]


def test_a_line_that_can_be_read_at_once_stays_whole():
    lines = [f"{'x' * 50_000} {i}\n" for i in range(3)]
    assert list(documents_of_lines(lines)) == lines


# Held-out text that is training text
# ----------------------------------------------------------------------------------------------------


def test_heldout_files_that_are_training_files_are_refused(tmp_path):
    path = tiny.save_text(tmp_path / "a.jsonl")
    (tmp_path / "link.jsonl").symlink_to(path)
    (tmp_path / "copy.txt").write_bytes((tmp_path / "a.jsonl").read_bytes())
    other = tiny.save_text(tmp_path / "b.jsonl", start=1000)
    for heldout, message in [
        ("a.jsonl", "is a file of paths"),
        ("link.jsonl", "is a file of paths"),
        ("copy.txt", "is a copy of"),
    ]:
        with pytest.raises(ValueError, match=f"heldout: .*{heldout} {message}"):
            FileText([other, path], heldout=[str(tmp_path / heldout)])


def test_a_share_of_heldout_text_in_the_training_text_is_said(tmp_path):
    stories = [" ".join(f"story{i}word{j}" for j in range(100)) for i in range(40)]
    train = save_rows(tmp_path / "train.jsonl", [{"text": text} for text in stories[:30]])
    (tmp_path / "heldout.txt").write_text("\n\n".join(text.replace(" ", "\n") for text in stories[25:]))
    with pytest.warns(UserWarning, match="3[0-9]% of the held-out text is, word for word, also in the training text"):
        FileText(train, heldout=str(tmp_path / "heldout.txt")).check()
    with pytest.warns(UserWarning, match="100% of the held-out text"):
        FileText(save_rows(tmp_path / "twice.jsonl", [{"text": text} for text in stories for _ in range(2)])).check()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FileText(train).check()
