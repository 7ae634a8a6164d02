import pytest

from sae_lightning.evaluators import TextEvaluator


def test_data_without_a_model_are_refused(sae, data, trainer):
    class Asks(TextEvaluator):
        def scores(self, trainer, module, stage):
            raise AssertionError

    with pytest.raises(ValueError, match="Asks needs a language model, and data=Activations has none"):
        trainer(Asks()).fit(sae, data)
