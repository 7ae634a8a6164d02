"""The standard library as text: which files, in which split, and what cannot be read."""

from itertools import islice
from pathlib import Path

import pytest

from sae_lightning.pocket import library
from sae_lightning.pocket.library import standard_library_documents


def test_library_files_are_split_once_and_for_all() -> None:
    train, heldout = (dict(library.library_files(split)) for split in ("train", "heldout"))
    assert set(train) & set(heldout) == {"pydoc_data/topics.py"}
    assert 0.01 < len(heldout) / len(train) < 0.15
    assert not [name for name in {**train, **heldout} if "site-packages" in name or name.startswith("test/")]


def test_train_documents_are_none_of_the_heldout_ones() -> None:
    heldout = set(standard_library_documents("heldout"))
    train = list(islice(standard_library_documents("train"), 1000))
    # Licence headers and other shared passages may be pieces of their own; whole files are not.
    assert sum(document in heldout for document in train) < 0.01 * len(train)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.sysconfig, "get_path", lambda _name: str(tmp_path))
    library.library_files.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match="no Python sources"):
            next(standard_library_documents("train"))
    finally:
        library.library_files.cache_clear()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"def broken(:\n" * 50, b"x = '\0'\n" * 50])
def test_unreadable_files_are_passed_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.py"
    path.write_bytes(content)
    assert list(library._file_documents("odd.py", path, "train")) == []
