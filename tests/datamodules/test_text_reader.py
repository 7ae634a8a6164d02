import pytest
import torch
from tiny import save_text, save_tiny_lm

from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.datamodules.file_text import FileText
from sae_lightning.datamodules.text_reader import TextReader


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    text = FileText(save_text(folder / "text.jsonl"))
    data = LanguageModelDataModule(
        save_tiny_lm(folder), "model.layers.0", text, context_length=8, batch_size=16, llm_batch_size=2,
        train_samples=64, val_samples=32, buffer_samples=64,
    )  # fmt: skip
    return TextReader(data)


def test_tokens_know_where_they_stand_in_the_text(reader):
    (reading,) = reader.read(["the cat  sat"])
    assert reading.input_ids[0] == reader.packing.start
    assert reading.mask.tolist() == [False, True, True, True]
    assert reading.spans.tolist() == [[0, 0], [0, 3], [4, 7], [9, 12]]
    assert [reading.token_at(i) for i in (0, 2, 3, 11, 12)] == [1, 1, None, 3, None]


def test_texts_are_cut_at_the_context_length(reader):
    (reading,) = reader.read(["the cat sat on a mat and dog ran to"])
    assert len(reading) == 8
    assert reading.token_at(100) is None


def test_activations_of_a_batch_are_those_of_each_text_alone(reader):
    readings = reader.read(["the cat", "dog ran", "a", "sat on", "red hill far green"])
    seen = {}
    for which, activations, mask in reader.activations(readings):
        assert len(which) <= 2
        assert activations.dtype == torch.float32
        for i, row, counts in zip(which, activations, mask, strict=True):
            seen[i] = row
            assert counts.equal(readings[i].mask)
    assert sorted(seen) == [0, 1, 2, 3, 4]
    for i, reading in enumerate(readings):
        ((_, alone, _),) = reader.activations([reading])
        torch.testing.assert_close(seen[i], alone[0])
