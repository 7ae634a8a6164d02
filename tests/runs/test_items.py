import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from sae_lightning.evaluators import Items, Scores
from sae_lightning.members import Member, Tag
from sae_lightning.metric import undescribed
from sae_lightning.runs.items import ITEMS_FILE, read_items, write_items

MEMBER, OF_PART = Member("trained", 0), Member("trained", 0, "early")


def test_items_come_back_from_the_file(tmp_path: Path):
    items = Items({MEMBER: torch.tensor([1.0, 2.0])}, {MEMBER: torch.tensor([2.0, 4.0])})
    own = Items.mean({OF_PART: torch.tensor([3.0])}, paired=False)
    measured = [
        Scores(undescribed("ev"), {}, 0.0, items),
        Scores(undescribed("probe"), {}, 0.0, own),
        Scores(undescribed("l0"), {}, 0.0),
    ]
    write_items(tmp_path, 7, measured)
    result = read_items(tmp_path, 7)
    assert set(result) == {Tag("ev"), Tag("probe", "early")}
    assert result[Tag("ev")].paired
    assert not result[Tag("probe", "early")].paired
    assert [values.tolist() for values in result[Tag("ev")].members[MEMBER]] == [[1.0, 2.0], [2.0, 4.0]]
    assert list(result[Tag("probe", "early")].members) == [OF_PART]
    assert read_items(tmp_path, 8) == {}, "of another validation"
    assert read_items(tmp_path / "none", 7) == {}


def test_items_of_an_older_version_have_no_format(tmp_path: Path):
    tensors = {f"ev/trained/0/{kind}": np.ones(2) for kind in ("numerators", "denominators")}
    save_file(tensors, tmp_path / ITEMS_FILE, metadata={"step": "7", "paired": json.dumps(["ev"])})
    assert read_items(tmp_path, 7)[Tag("ev")].paired


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"garbage", "cannot be read"), (None, "it has format 99, and this version reads up to")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, expected: str):
    if content is None:
        save_file({}, tmp_path / ITEMS_FILE, metadata={"format": "99", "step": "7", "paired": "[]"})
    else:
        (tmp_path / ITEMS_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=f"{ITEMS_FILE} cannot be read: .*{'' if content else expected}"):
        read_items(tmp_path, 7)
