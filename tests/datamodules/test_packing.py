import copy

import numpy as np
import pytest
import tiny
import torch

from sae_lightning.datamodules.packing import PackedRows, Packing
from sae_lightning.sources.checkpoint import load_tokenizer

BOS = 1


@pytest.fixture(scope="module")
def tokenizer(tiny_lm):
    return load_tokenizer(tiny_lm)


@pytest.fixture(scope="module")
def without_bos(tmp_path_factory):
    return load_tokenizer(tiny.save_tiny_lm(tmp_path_factory.mktemp("lm"), bos=False))


def all_rows(packing, documents):
    rows, left = packing.cut(packing.tokenise(documents))
    return np.stack(rows), left


@pytest.mark.parametrize("bos_in_every_row", [True, False])
def test_rows_hold_the_documents_in_order(tokenizer, bos_in_every_row):
    packing = Packing(tokenizer, 8, bos_in_every_row)
    documents = tiny.sentences(30)
    rows, left = all_rows(packing, documents)
    valid = torch.from_numpy(rows)[packing.mask(torch.from_numpy(rows))].tolist()
    left = [token for token in left.tolist() if token != BOS]
    expected = [token for text in documents for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert valid + left == expected
    flat = rows.reshape(-1)
    assert not ((rows[:, :-1] == BOS) & (rows[:, 1:] == BOS)).any()
    if bos_in_every_row:
        assert (rows[:, 0] == BOS).all()
    else:
        assert (flat == BOS).sum() <= 30
        assert (rows[:, 0] != BOS).any()


def test_each_document_begins_with_bos(tokenizer):
    tokens = Packing(tokenizer, 8).tokenise(["the cat", "dog"])
    assert tokens.tolist() == [BOS, *tokenizer("the cat", add_special_tokens=False)["input_ids"], BOS, tokens[-1]]


def test_special_tokens_are_not_valid_and_unknown_words_are(tokenizer):
    packing = Packing(tokenizer, 8)
    unk, bos, eos, pad = 0, 1, 2, 3
    assert packing.mask(torch.tensor([[unk, bos, eos, pad, 4]])).tolist() == [[True, False, False, False, True]]


def test_a_bos_that_is_also_unk_is_not_valid(tokenizer):
    class Gpt2:
        bos_token_id = eos_token_id = unk_token_id = 0  # an id of 0 is an id
        all_special_ids = (0,)

    packing = Packing(Gpt2(), 8)
    assert packing.bos_in_every_row
    assert packing.mask(torch.tensor([[0, 1]])).tolist() == [[False, True]]


def test_without_bos(without_bos):
    packing = Packing(without_bos, 8)
    assert not packing.bos_in_every_row
    rows, _ = all_rows(packing, tiny.sentences(5))
    assert packing.mask(torch.from_numpy(rows)).all()


def test_rows_of_an_encoder_begin_with_its_cls_token(without_bos):
    encoder = copy.deepcopy(without_bos)
    encoder.add_special_tokens({"cls_token": "the"})
    packing = Packing(encoder, 8)
    rows, _ = all_rows(packing, tiny.sentences(30))
    assert (rows[:, 0] == encoder.cls_token_id).all()
    assert not packing.mask(torch.from_numpy(rows))[:, 0].any()


def test_the_text_begins_again_without_its_last_incomplete_row(tokenizer):
    packing = Packing(tokenizer, 8)
    passes = []
    rows = PackedRows(packing, lambda start: tiny.sentences(10)[start:], passes.append)
    expected, _ = all_rows(packing, tiny.sentences(10))
    n = len(expected)
    taken = torch.cat([rows.take(5) for _ in range(n)]).numpy()
    assert (taken == np.concatenate([expected] * 5)).all()
    assert passes == [2, 3, 4, 5]


@pytest.mark.parametrize("taken", [0, 1, 17, 60])
def test_state_is_exact_and_skipped_documents_are_not_tokenised(tokenizer, taken, monkeypatch):
    monkeypatch.setattr("sae_lightning.datamodules.packing._DOCUMENTS_AT_ONCE", 7)
    packing = Packing(tokenizer, 8)

    def make():
        return PackedRows(packing, lambda start: iter(tiny.sentences(20)[start:]))

    whole, resumed = make(), make()
    if taken:
        whole.take(taken)
    resumed.load_state_dict(whole.state_dict())
    expected = whole.take(100)
    assert torch.equal(resumed.take(100), expected)


def test_too_short_a_text(tokenizer):
    with pytest.raises(ValueError, match="3 tokens, less than one row of context_length=8"):
        PackedRows(Packing(tokenizer, 8), lambda start: ["the cat"][start:]).take(1)
    with pytest.raises(ValueError, match="0 tokens"):
        PackedRows(Packing(tokenizer, 8), lambda start: []).take(1)


def test_context_length(tokenizer):
    with pytest.raises(ValueError, match="context_length=1"):
        Packing(tokenizer, 1)


def test_a_long_document_is_tokenised_in_parts(tokenizer, monkeypatch):
    documents = [*tiny.sentences(3), " ".join(tiny.sentences(60)), *tiny.sentences(3, 100)]
    packing = Packing(tokenizer, 8)
    expected, _ = all_rows(packing, documents)
    monkeypatch.setattr("sae_lightning.datamodules.packing._CHARACTERS_AT_ONCE", 500)
    longest = []
    monkeypatch.setattr(
        packing,
        "tokenise",
        lambda texts, **k: longest.append(max(map(len, texts))) or Packing.tokenise(packing, texts, **k),
    )
    rows = PackedRows(packing, lambda start: documents[start:])
    assert rows.take(len(expected)).tolist() == expected.tolist()
    assert max(longest) <= 500
    for n in (1, 20, 40, len(expected) - 3):
        first = PackedRows(packing, lambda start: documents[start:])
        first.take(n)
        again = PackedRows(packing, lambda start: documents[start:])
        again.load_state_dict(first.state_dict())
        assert again.take(len(expected) - n).tolist() == expected[n:].tolist()
