"""Paths, patterns and folders."""

import os

import pytest

from sae_lightning.files import find_files


def make(folder, *names, content="words"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def names(folder, *patterns):
    return [str(path.relative_to(folder)) for path in find_files("paths", [str(folder / p) for p in patterns])]


def test_a_path_that_exists_is_no_pattern(tmp_path):
    make(tmp_path, "set [v1]/a.txt", "what?.txt", "whatx.txt", "set v/b.txt")
    assert names(tmp_path, "set [v1]/a.txt") == ["set [v1]/a.txt"]
    assert names(tmp_path, "set [v1]") == ["set [v1]/a.txt"]
    assert names(tmp_path, "what?.txt") == ["what?.txt"]
    assert names(tmp_path, "set [v]/*.txt") == ["set v/b.txt"]


def test_a_folder_is_read_whole_and_in_order(tmp_path, monkeypatch):
    make(tmp_path, "f/b/2.txt", "f/b/10.txt", "f/a.txt", "f/.hidden", "f/.git/x", "f/c.txt")
    assert names(tmp_path, "f/**") == ["f/a.txt", "f/b/10.txt", "f/b/2.txt", "f/c.txt"]
    assert names(tmp_path, "f/*") == ["f/a.txt", "f/b/10.txt", "f/b/2.txt", "f/c.txt"]
    os.symlink(tmp_path / "f", tmp_path / "f" / "b" / "loop")
    assert names(tmp_path, "f") == ["f/a.txt", "f/b/10.txt", "f/b/2.txt", "f/c.txt"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_files("paths", "~/f/a.txt") == [tmp_path / "f/a.txt"]


def test_empty_files_among_others_are_left_out_with_a_word(tmp_path):
    make(tmp_path, "f/a.txt", "f/c.txt")
    make(tmp_path, "f/b.txt", "g/a", "g/b", content="")
    (tmp_path / "h").mkdir()
    with pytest.warns(UserWarning, match="paths=.*f: 1 of 3 files are empty and left out, such as .*b.txt"):
        assert names(tmp_path, "f") == ["f/a.txt", "f/c.txt"]
    for pattern, message in [
        ("g", "all 2 files are empty"),
        ("g/a", "g/a is empty"),
        ("h", "the folder holds no files"),
        ("no", "there is no such file or folder; give"),
        ("no*", "there is no such file, and nothing matches it as a pattern"),
    ]:
        with pytest.raises(ValueError, match=f"paths=.*: .*{message}"):
            names(tmp_path, pattern)


def test_a_file_given_twice_is_read_once(tmp_path):
    make(tmp_path, "a.txt", "b.txt")
    os.symlink(tmp_path / "a.txt", tmp_path / "link.txt")
    with pytest.warns(UserWarning, match="1 of its files are given twice, such as .*link.txt; each is read once"):
        assert names(tmp_path, "a.txt", "link.txt", "b.txt") == ["a.txt", "b.txt"]


def test_what_can_be_read_only_once_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: it is no file that can be read twice"):
        names(tmp_path, "pipe")


def test_what_save_to_disk_wrote(tmp_path):
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_dict({"text": [f"words {i}" for i in range(20)]})
    rows.save_to_disk(tmp_path / "one", num_shards=2)
    DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "two")
    DatasetDict({"train": rows}).save_to_disk(tmp_path / "only")
    shards = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    assert names(tmp_path, "one") == [f"one/{shard}" for shard in shards]
    assert names(tmp_path, "two/test") == ["two/test/data-00000-of-00001.arrow"]
    assert names(tmp_path, "only") == ["only/train/data-00000-of-00001.arrow"]
    with pytest.raises(ValueError, match="it holds a dataset of the splits train, test; give one of them, .*two/train"):
        names(tmp_path, "two")
