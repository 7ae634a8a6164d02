import pytest
from tiny import save_text, save_tiny_lm
from tiny_models import MODELS, save

from sae_lightning.datamodules import FileText, LanguageModelDataModule
from sae_lightning.evaluators import LossRecovered, TextEvaluator
from sae_lightning.saes import TopK


def test_an_encoder_reads_text_though_it_predicts_none(tmp_path, trainer):
    model, _ = save(tmp_path / "bert", "BertModel", MODELS["BertModel"][0])
    words = save_tiny_lm(tmp_path / "words")
    text = FileText(save_text(tmp_path / "text.jsonl"))
    data = LanguageModelDataModule(
        model, "encoder.layer.0", text, tokenizer=words, context_length=8, batch_size=16, train_samples=32,
        val_samples=32, loss_samples=32, buffer_samples=64, llm_batch_size=2
    )  # fmt: skip

    class Asks(TextEvaluator):
        def scores(self, trainer, module, stage):
            (_, activations, _), *_ = self.reader.activations(self.reader.read(["the cat sat"]))
            assert activations.shape == (1, 4, 16)
            return []

    sae = TopK(16, k=2, d_sae=32)
    trainer(Asks(), max_steps=2).fit(sae, data)
    with pytest.raises(ValueError, match="LossRecovered asks for the next token.*BertModel is a model without a"):
        trainer(LossRecovered()).fit(sae, data)


def test_data_without_a_model_are_refused(sae, data, trainer):
    class Asks(TextEvaluator):
        def scores(self, trainer, module, stage):
            raise AssertionError

    with pytest.raises(ValueError, match="Asks needs a language model, and data=Activations has none"):
        trainer(Asks()).fit(sae, data)
