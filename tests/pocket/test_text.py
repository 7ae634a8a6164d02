"""The texts of the pocket models can be read from any document on."""

from itertools import islice
from pathlib import Path

import pytest
import tiny
from datamodules.starts import check_starts

from sae_lightning.pocket import PocketCaptions, PocketText

FOLDER = Path(__file__).parents[2] / "data/pocket_lm"
TABLES = {"facts": str(FOLDER / "facts.csv"), "people": str(FOLDER / "people.csv")}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the pocket language model is not here")
def test_pocket_text():
    text = PocketText(**TABLES)
    train, heldout = text.train(), text.heldout()
    first = [next(train) for _ in range(20)]
    assert not set(first) & {next(heldout) for _ in range(20)}
    again = text.train()
    assert [next(again) for _ in range(20)] == first
    for start in (0, 1, 13):
        assert list(islice(text.train(start), 20 - start)) == first[start:]


def test_pocket_text_beyond_its_end(monkeypatch):
    monkeypatch.setattr("sae_lightning.pocket.text.PocketCorpus", lambda *args: tiny.sentences(40))
    check_starts(PocketText(__file__, people=__file__))


def test_pocket_text_without_facts(tmp_path):
    for name in TABLES:
        with pytest.raises(ValueError, match=f"{name}=.*there is no such file"):
            PocketText(**{**TABLES, name: str(tmp_path / "facts.csv")})


def test_caption_documents_can_be_read_from_anywhere():
    text = PocketCaptions(n_scenes=50, captions_per_picture=2)
    train = list(text.train())
    assert len(train) == 2 * len(text.images.numbers("train"))
    assert list(text.train(start=1700)) == train[1700:]
    assert list(text.heldout()) == [
        text.images.caption(n, turn) for turn in (0, 1) for n in text.images.numbers("heldout").tolist()
    ]
    assert len(set(train)) > 500


def test_captions_per_picture_must_be_positive():
    with pytest.raises(ValueError, match="captions_per_picture=0"):
        PocketCaptions(captions_per_picture=0)
