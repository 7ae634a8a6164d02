"""`TextEvaluator`: an evaluator with texts of its own."""

from lightning.pytorch import LightningModule, Trainer

from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.evaluators.base import Evaluator, data_name, datamodule_of


class TextEvaluator(Evaluator):
    """An evaluator with texts of its own, which it reads with the model of the run.

    It costs passes of the model, so as a rule it asks at the last validation alone (`every_n_validations: 0`).

    Attributes:
        datamodule: of the run, once that is set up.
        reader: reads texts with the model of the run, once that is set up.
    """

    datamodule: ActivationDataModule
    reader: TextReader

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is a model that reads text."""
        super().setup(trainer, pl_module, stage)
        datamodule, name = datamodule_of(trainer), type(self).__name__
        if datamodule is None or datamodule.packing is None or not datamodule.source.is_language_model:
            raise ValueError(
                f"{name} needs a language model, and data={data_name(trainer)} has none: "
                f"take LanguageModelDataModule or CachedActivations, or leave out {name}"
            )
        self.datamodule, self.reader = datamodule, TextReader(datamodule)
