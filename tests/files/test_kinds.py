"""Every kind of file by its content, and what is none of them."""

import bz2
import csv
import gzip
import json
import lzma
import os
import struct

import pytest

from sae_lightning.files import PlainFile, TableFile, open_file

TEXTS = [f"the cat sat on {i} mats, “é”\nand left" for i in range(300)]


def write_csv(path, separator):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(TEXTS))


def write_arrow(path, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=70)
        return
    new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, 70)


def rows():
    return [{"id": i, "text": text} for i, text in enumerate(TEXTS)]


WRITERS = {
    "JsonLines": {
        "a.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in rows())),
        "a.txt": lambda path: path.write_text("\n" + "".join(json.dumps(row) + "\r\n" for row in rows())),
        "a": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8-sig"),
    },
    "JsonValues": {
        "array.json": lambda path: path.write_text(json.dumps(rows(), ensure_ascii=False), encoding="utf-8"),
        "array.JSONL": lambda path: path.write_text(json.dumps(rows())),
        "pretty": lambda path: path.write_text(json.dumps(rows(), indent=1), encoding="utf-16"),
        "columns.json": lambda path: path.write_text(json.dumps({"id": [*range(len(TEXTS))], "text": TEXTS})),
        "nested.json": lambda path: path.write_text(json.dumps({"version": 1, "data": rows()})),
        "objects.json": lambda path: path.write_text("".join(json.dumps(row, indent=2) + "\n" for row in rows())),
        "strings.json": lambda path: path.write_text(json.dumps(TEXTS)),
    },
    "CsvTable": {
        "a.csv": lambda path: write_csv(path, ","),
        "semicolon.CSV": lambda path: write_csv(path, ";"),
        "a.tsv": lambda path: write_csv(path, "\t"),
    },
    "ParquetTable": {
        "a.parquet": lambda path: write_arrow(path, "parquet"),
        "b": lambda path: write_arrow(path, "parquet"),
    },
    "ArrowTable": {"a.arrow": lambda path: write_arrow(path, "stream"), "c": lambda path: write_arrow(path, "file")},
}
CASES = [(kind, name) for kind, writers in WRITERS.items() for name in writers]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_rows_of_every_kind(tmp_path, kind, name):
    WRITERS[kind][name](tmp_path / name)
    table = open_file(tmp_path / name)
    assert type(table).__name__ == kind
    for columns in (None, ["text"]):
        found = list(table.rows(columns))
        assert [row.cells["text"] for row in found] == TEXTS
        assert not any(row.problem for row in found)


def pack(path, packing):
    import pyarrow as pa

    if packing in ("zst", "lz4"):
        with pa.CompressedOutputStream(str(path.with_name("packed")), {"zst": "zstd"}.get(packing, packing)) as file:
            file.write(path.read_bytes())
    else:
        module = {"gz": gzip, "bz2": bz2, "xz": lzma}[packing]
        path.with_name("packed").write_bytes(module.compress(path.read_bytes()))


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst", "lz4"])
@pytest.mark.parametrize("name", ["a.jsonl", "array.json", "a.parquet", "a.arrow"])
def test_packed_files_without_a_name_that_says_so(tmp_path, packing, name):
    kind = next(kind for kind, other in CASES if other == name)
    WRITERS[kind][name](tmp_path / name)
    pack(tmp_path / name, packing)
    assert [row.cells["text"] for row in open_file(tmp_path / "packed").rows()] == TEXTS
    (tmp_path / "packed").rename(tmp_path / f"a.CSV.{packing}")
    assert type(open_file(tmp_path / f"a.CSV.{packing}")).__name__ == ("CsvTable" if kind.startswith("Json") else kind)


@pytest.mark.parametrize(
    "text",
    [
        "[Moby Dick by Herman Melville 1851]\n\n\nETYMOLOGY.",
        "[1] an introduction",
        '{"quoted"} words',
        "a,b,c\n1,2,3\n",
        "{\n  a block\n}",
        "# %PDF\n",
        "MZ is a name, and so is RIFF",
        "\x1b[31mred\x1b[0m \f page",
        "<html></html>",
    ],
)
def test_text_that_looks_like_something_else(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    file = open_file(tmp_path / "a.txt")
    assert isinstance(file, PlainFile)
    assert "".join(file.lines()) == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("é\r\nb\rc\n".encode(encoding))
    assert list(open_file(tmp_path / "a.txt", "ascii").lines()) == ["é\n", "b\n", "c\n"]
    (tmp_path / "b.txt").write_bytes(b"\xfe\xff" + "é\r\n".encode("utf-16-be"))
    assert list(open_file(tmp_path / "b.txt").lines()) == ["é\n"]


TENSORS = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.txt", b"%PDF-1.7\nwords", "a PDF document"),
        ("a.txt", b"\x89PNG\r\n\x1a\n", "a PNG image"),
        ("a.jsonl", b"\xff\xd8\xff\xe0", "a JPEG image"),
        ("a.md", b"PK\x03\x04words", "a zip archive"),
        ("a", b"\x7fELF\2\1\1", "a program"),
        ("a.parquet", struct.pack("<Q", len(TENSORS)) + TENSORS + b"\0" * 4, "tensors .safetensors"),
        ("a.txt", b"SQLite format 3\0", "an SQLite database"),
        ("a.csv", b"\x80\x04\x95abc", "a Python pickle"),
        ("a.txt", b"x" * 257 + b"ustar", "a tar archive"),
        ("a.txt", bytes(range(256)) * 4, "binary data"),
        ("a.bin", struct.pack("<100f", *range(100)), "binary data"),
        (
            "a.parquet",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            "a pointer of Git LFS.*git lfs pull",
        ),
        ("a.txt", "words of a text".encode("utf-16-le"), "text in utf-16-le, without a mark.*set encoding: utf-16-le"),
        ("a.txt", "words of a text".encode("utf-16-be"), "text in utf-16-be"),
    ],
)
def test_what_is_no_text_is_refused_by_name(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: it looks like {kind}"):
        open_file(tmp_path / name)


def test_a_name_that_promises_what_the_content_does_not_hold(tmp_path):
    for name in ("a.parquet", "a.ARROW", "a.feather"):
        (tmp_path / name).write_text("words")
        with pytest.raises(ValueError, match=r"its name ends in \.\w+ and its content does not"):
            open_file(tmp_path / name)
    for name in ("a.txt.gz", "a.zst", "a.jsonl.xz"):
        (tmp_path / name).write_text("words")
        with pytest.raises(ValueError, match=r"cannot be unpacked \(its name ends in"):
            open_file(tmp_path / name)


def problems(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    table = open_file(tmp_path / name)
    assert isinstance(table, TableFile)
    return [(row.number, row.problem or dict(row.cells)) for row in table.rows()]


def test_rows_that_cannot_be_read_have_a_number_and_a_reason(tmp_path):
    assert problems(tmp_path, "a.csv", 'text,label\n\nHello, world,1\n"two\nlines",2\n"a" b,3\nshort\n') == [
        (3, "3 cells, and 2 columns; put a cell with a separator in quotes"),
        (4, {"text": "two\nlines", "label": "2"}),
        (6, "not CSV (',' expected after '\"'); a quote inside quotes is written twice"),
        (7, {"text": "short", "label": None}),
    ]
    assert problems(tmp_path, "a.jsonl", '{"text": 1}\n\n[1]\n"plain"\n') == [
        (1, {"text": 1}),
        (3, "expected one JSON object, found list"),
        (4, {"text": "plain"}),
    ]


def test_a_list_in_a_row_is_no_table(tmp_path):
    row = {"text": "words", "marks": [{"a": 1}, {"a": 2}]}
    for content in ([row, row], [row], row):
        (tmp_path / "a.json").write_text(json.dumps(content, indent=1))
        assert [found.cells["text"] for found in open_file(tmp_path / "a.json").rows(["text"])] in (
            ["words"] * 2,
            ["words"],
        )


def test_memory_does_not_grow_with_an_array(tmp_path):
    row = json.dumps({"text": "x" * 10_000})
    (tmp_path / "a.json").write_text("[" + ",\n".join([row] * 3000) + "]")
    import tracemalloc

    tracemalloc.start()
    assert sum(1 for _ in open_file(tmp_path / "a.json").rows()) == 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert os.path.getsize(tmp_path / "a.json") > 30e6
    assert peak < 10e6
