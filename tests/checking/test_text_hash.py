"""The hash of a text says of its source, and nothing of who reads it."""

import hashlib
from types import SimpleNamespace

import pytest

from sae_lightning.checking.text_hash import source_sha256
from sae_lightning.datamodules import FileText, HubText
from sae_lightning.pocket import PocketText


def test_files_are_known_by_their_contents_in_order(tmp_path):
    (tmp_path / "one.txt").write_text("Ships sail.\n\nBirds fly.\n\n" * 50)
    (tmp_path / "two.txt").write_text("Trees grow.\n\nFish swim.\n\n" * 50)
    (tmp_path / "moved.txt").write_bytes((tmp_path / "one.txt").read_bytes())
    one, two, moved = (str(tmp_path / f"{name}.txt") for name in ("one", "two", "moved"))
    alone = source_sha256(FileText(one))
    assert alone == hashlib.sha256((tmp_path / "one.txt").read_bytes()).hexdigest()
    assert alone == source_sha256(FileText(moved, heldout_every=2))
    both = [source_sha256(FileText(paths)) for paths in ([one, two], [moved, two], [two, one])]
    assert both[0] == both[1]
    assert len({alone, *both}) == 3


@pytest.mark.parametrize("change", [{"dataset": "b/c"}, {"name": "en"}, {"split": "test"}, {"heldout_split": "dev"}])
def test_a_dataset_of_the_hub_is_known_by_name_configuration_and_splits(change):
    assert source_sha256(HubText(**{"dataset": "a/b", "retries": 3})) == source_sha256(HubText("a/b"))
    assert source_sha256(HubText(**{"dataset": "a/b", **change})) != source_sha256(HubText("a/b"))


def test_and_by_its_revision_where_that_is_known():
    text = HubText("a/b")
    before = source_sha256(text)
    revision = "0123456789" * 4
    checksums = {f"hf://datasets/a/b@{revision}/data/train.parquet": {}}
    text._loaded["train"] = SimpleNamespace(info=SimpleNamespace(download_checksums=checksums))
    assert text.revision == revision
    assert source_sha256(text) != before


def test_any_other_text_is_known_by_its_arguments():
    assert source_sha256(PocketText()) == source_sha256(PocketText())
    assert len(source_sha256(PocketText())) == 64
