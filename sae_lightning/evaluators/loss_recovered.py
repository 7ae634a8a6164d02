"""How much of what a language model does survives when it reads the reconstruction instead of its activation?

    ce_recovered_zero = (CE_zero - CE_reconstruction) / (CE_zero - CE_clean)
    kl_recovered_zero = (KL_zero - KL_reconstruction) / KL_zero             (OrtSAE, arXiv 2509.22033, app. D)

and `_mean` with the mean activation in place of zero. See `TokenLoss` for the losses and the tokens they are averaged
over.
"""

from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from sae_lightning.evaluators.base import Evaluator, Items, Scores
from sae_lightning.evaluators.edits import ABLATIONS, check_one_hook, edits_by_part
from sae_lightning.evaluators.reading import predicts_tokens
from sae_lightning.metrics import TokenLoss
from sae_lightning.metrics.functional import recovered_compute
from sae_lightning.saes.module import SAEModule
from sae_lightning.sources.replacing import edited_outputs
from sae_lightning.sources.tokens import check_logits


class LossRecovered(Evaluator):
    """Logs ce_recovered_zero, ce_recovered_mean, kl_recovered_zero, kl_recovered_mean, and the losses they come from.

    The losses: ce_clean, ce_reconstruction, ce_zero, ce_mean, kl_reconstruction, kl_zero, kl_mean, in nats a token;
    those without an SAE are the same for every member. Positions that do not count (special tokens) keep their
    activation. The SAE that does nothing answers with the mean, so floors are the scores of mean ablation: 0 for
    `_mean`, as a rule above 0 for `_zero`. SAEs of null activations are left out: of noise there is no loss to recover,
    a rotation loses nothing, and a model that was never trained predicts nothing.

    Args:
        min_gap_nats: a ratio whose denominator is below this is withheld (nan), in nats a token, above 0.
        every_n_validations: 1 or more; the last validation always counts. One costs 4 model passes over the held-out
            text, and one for each SAE.
    """

    def __init__(self, min_gap_nats: float = 0.05, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        if min_gap_nats <= 0:
            raise ValueError(f"min_gap_nats={min_gap_nats}: expected more than 0, for example 0.05")
        self.min_gap_nats = min_gap_nats
        self._has_warned = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there is held-out text and a model to read it."""
        super().setup(trainer, pl_module, stage)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if not (hasattr(datamodule, "validation_inputs") and predicts_tokens(datamodule)):
            raise ValueError(
                f"LossRecovered needs a language model with held-out text, and data={type(datamodule).__name__} has "
                "none: take LanguageModelDataModule, or leave out LossRecovered"
            )
        check_one_hook("LossRecovered", datamodule, pl_module)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Runs the model over the held-out text, once for each thing that can stand at the hook."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        edits = edits_by_part(datamodule, module)
        losses = {part: {name: TokenLoss().to(module.device) for name in ("clean", *of)} for part, of in edits.items()}
        for inputs in datamodule.validation_inputs():
            clean = edited_outputs(datamodule.source, inputs, lambda x: x, next(iter(edits)))
            check_logits(clean, inputs.input_ids, "LossRecovered")
            for part, of in edits.items():
                losses[part]["clean"].update(clean, clean, inputs.input_ids, inputs.mask)
                for name, edit in of.items():
                    logits = edited_outputs(datamodule.source, inputs, edit, part)
                    losses[part][name].update(logits, clean, inputs.input_ids, inputs.mask)
        by_part = {
            part: self._ratios(
                {name: loss.compute() for name, loss in of.items()}, [name for name in of if name in module.members]
            )
            for part, of in losses.items()
        }
        return {
            name: Scores(
                {member: value for of in by_part.values() for member, value in of[name].members.items()},
                {part: of[name].floor for part, of in by_part.items()},
                first.better,
                None if first.items is None else _together([of[name].items for of in by_part.values()]),
            )
            for name, first in next(iter(by_part.values())).items()
        }

    def _ratios(self, losses: dict[str, dict[str, Tensor]], members: list[str]) -> dict[str, Scores]:
        """Scores of one part of the activations."""
        scores = {}
        for column, kind in enumerate(("ce", "kl")):
            loss = {name: values[kind] for name, values in losses.items()}
            of_texts = {name: values["texts"][:, column] for name, values in losses.items()}
            scores[f"{kind}_reconstruction"] = Scores({member: loss[member] for member in members}, loss["mean"])
            for name in ("clean", *ABLATIONS):
                scores[f"{kind}_{name}"] = Scores(dict.fromkeys(members, loss[name]), loss[name])
            for ablation in ABLATIONS:
                self._warn_of_small_gap(f"{kind}_recovered_{ablation}", float(loss[ablation] - loss["clean"]))
                recovered = {
                    name: recovered_compute(loss[name], loss[ablation], loss["clean"], self.min_gap_nats)
                    for name in ("mean", *members)
                }
                floor = recovered.pop("mean")
                items = Items(
                    {name: of_texts[ablation] - of_texts[name] for name in members},
                    dict.fromkeys(members, of_texts[ablation] - of_texts["clean"]),
                )
                # Both ablations ask one question: a verdict is given on that whose floor is 0.
                scores[f"{kind}_recovered_{ablation}"] = Scores(
                    recovered, floor, "higher" if ablation == "mean" else None, items
                )
        del scores["kl_clean"]  # 0 by definition
        return scores

    def _warn_of_small_gap(self, metric: str, gap: float) -> None:
        if not gap >= self.min_gap_nats and not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"{metric} is withheld (nan): the ablation costs {gap:.4g} nats a token, less than min_gap_nats="
                f"{self.min_gap_nats}. Read the losses themselves, evaluate on more text, or take another layer"
            )


def _together(parts: Sequence[Items | None]) -> Items:
    """The items of all parts of the activations."""
    present = [part for part in parts if part is not None]
    numerators = {member: values for part in present for member, values in part.numerators.items()}
    return Items(numerators, {member: values for part in present for member, values in part.denominators.items()})
