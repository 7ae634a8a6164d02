"""How much of a language model's predictions survives when it reads the reconstruction instead of its activation?

    ce_recovered_zero = (CE_zero - CE_reconstruction) / (CE_zero - CE_clean)
    kl_recovered_zero = (KL_zero - KL_reconstruction) / KL_zero             (OrtSAE, arXiv 2509.22033, app. D)

and `_mean` with the mean activation in place of zero. A transcoder stands in for all that is between its two hooks: it
reads at one, and its answer stands at the other; `_linear` is with the best linear map in its place. See `TokenLoss`
for the losses and the tokens they are averaged over.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.checks import check_above
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.evaluators.base import Evaluator, data_name, datamodule_of
from sae_lightning.evaluators.edits import ABLATIONS, check_one_hook, edits_by_part, reconstruction
from sae_lightning.evaluators.linear_maps import LinearMaps, fit_by_part
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.members import LINEAR_MAP, Member
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics import TokenLoss
from sae_lightning.metrics.functional import recovered_compute
from sae_lightning.metrics.linear_map import LinearMap
from sae_lightning.saes.data import columns_by_part
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.transcoder import part_read_by
from sae_lightning.sources.replacing import Edit, answered_outputs, edited_outputs
from sae_lightning.sources.tokens import TokenBatch, check_next_token
from sae_lightning.trainer import callbacks_of

Kind: TypeAlias = Literal["ce", "kl"]
Losses: TypeAlias = Mapping[str | Member, Mapping[str, Tensor]]
"""What `TokenLoss` computes, by what stands at the hook: `clean`, the name of an ablation, or a member."""

STILL_WORKS = Question("loss", "Does the model still work through it?", order=20)
_MEAN_ABLATION = "an SAE that answers with the mean of the data"
_LOSS_LABELS = {"ce": "Cross-entropy", "kl": "KL divergence"}
_RECOVERED_LABELS = {"ce": "Loss recovered", "kl": "Predictions recovered (KL)"}
_LOSSES = {
    "ce": "mean over tokens of the cross-entropy of the next token",
    "kl": "mean over tokens of the KL divergence of the predictions from those of the model as it is",
}
_AT_THE_HOOK = {
    "reconstruction": "with the reconstruction at the hook",
    "clean": "of the model as it is",
    "zero": "with zeros at the hook",
    "mean": "with the mean activation at the hook",
    "linear": "with the answer of the best linear map at the hook, of a transcoder",
}
_KINDS: tuple[Kind, ...] = ("ce", "kl")
MOST_LOGITS = 2**28
"""Logits of one forward, unless one row has more: a gigabyte of float32, of which a measurement holds a few."""


def loss_metric(kind: Kind, name: str) -> Metric:
    """Describe a loss with something at the hook: `reconstruction`, `clean`, `zero` or `mean`."""
    return Metric(
        f"{kind}_{name}",
        f"{_LOSS_LABELS[kind]}, {name} (nats)",
        STILL_WORKS,
        unit="nats a token",
        floor=_MEAN_ABLATION if name == "reconstruction" else "any SAE: none takes part",
        computed=f"{_LOSSES[kind]}, {_AT_THE_HOOK[name]}",
    )


def recovered_metric(kind: Kind, ablation: str, headline: Kind = "ce") -> Metric:
    """Describe the share of the loss by an ablation that the reconstruction does not lose.

    Args:
        kind: of the loss.
        ablation: `mean`, `zero` or `linear`.
        headline: the kind of loss that decides the question: `kl` of transcoders, since without one MLP a model may
            lose too little cross-entropy to divide by, while its predictions change.
    """
    name = kind.upper()
    clean = f"{name}_{ablation} - CE_clean" if kind == "ce" else f"{name}_{ablation}"
    is_linear = ablation == "linear"
    return Metric(
        f"{kind}_recovered_{ablation}",
        f"{_RECOVERED_LABELS[kind]}, over {'the best linear map' if is_linear else f'{ablation} ablation'}",
        STILL_WORKS,
        # Mean and zero ask one question: a verdict is given on that whose floor is 0.
        better=None if ablation == "zero" else "higher",
        floor="the linear map of full rank, by ridge regression" if is_linear else _MEAN_ABLATION,
        computed=f"({name}_{ablation} - {name}_reconstruction) / ({clean}), each a mean over held-out tokens",
        is_headline=(kind, ablation) == (headline, "mean"),
    )


class LossRecovered(Evaluator):
    """Log ce_recovered_zero, ce_recovered_mean, kl_recovered_zero, kl_recovered_mean, and the losses they come from.

    The losses: ce_clean, ce_reconstruction, ce_zero, ce_mean, kl_reconstruction, kl_zero, kl_mean, in nats a token;
    those without an SAE are the same for every member. Positions that are not valid (special tokens) keep their
    activation. The SAE that does nothing answers with the mean, so floors are the scores of mean ablation: 0 for
    `_mean`, as a rule above 0 for `_zero`. SAEs of null activations are left out: of noise there is no loss to recover,
    a rotation loses nothing, and a model that was never trained predicts nothing.

    Of transcoders also ce_recovered_linear and kl_recovered_linear, with the floor 0, and ce_linear and kl_linear: what
    is recovered of what the best linear map from source to target loses (see `LinearMaps`). What that map, linear_map,
    recovers stands beside the transcoders. Their headline is kl_recovered_mean: without one MLP a model may lose too
    little cross-entropy to divide by.

    Args:
        min_gap_nats: a ratio whose denominator is below this is withheld (nan), in nats a token, above 0.
        every_n_validations: 1 or more; the last validation always counts. One costs 4 model passes over the held-out
            text, and one for each SAE.
    """

    declares = (
        *(recovered_metric(kind, ablation) for ablation in ("mean", "zero", "linear") for kind in _KINDS),
        *(loss_metric("ce", name) for name in _AT_THE_HOOK),
        *(loss_metric("kl", name) for name in _AT_THE_HOOK if name != "clean"),
    )
    takes_split = True
    takes_transcoders = True

    def __init__(self, min_gap_nats: float = 0.05, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        check_above(0, min_gap_nats=min_gap_nats, hint="for example 0.05")
        self.min_gap_nats = min_gap_nats
        self._is_tried_out = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is held-out text and a model to read it."""
        super().setup(trainer, pl_module, stage)
        datamodule = datamodule_of(trainer)
        if datamodule is None or not datamodule.source.is_language_model:
            raise ValueError(
                f"LossRecovered needs a language model with held-out text, and data={data_name(trainer)} has "
                "none: take LanguageModelDataModule, or leave out LossRecovered"
            )
        check_next_token(datamodule.source, "LossRecovered")
        check_one_hook("LossRecovered", datamodule, pl_module)
        self._datamodule = datamodule
        self._linear: dict[str, dict[str, LinearMap]] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Try out once, after the first step, when the optimizer has its memory; a CPU's memory is not that scarce."""
        if not self._is_tried_out and trainer.global_step and pl_module.device.type != "cpu":
            self.try_out(pl_module)

    @torch.no_grad()
    def try_out(self, pl_module: LightningModule) -> None:
        """Measure a few rows with one SAE, and drop the result: memory that a validation lacks is missed now.

        Raises:
            ValueError: if there is too little.
        """
        self._is_tried_out = True
        assert isinstance(pl_module, SAEModule)
        member = next((one for one in pl_module.members if one.part not in self._datamodule.null_parts), None)
        inputs = next(_blocks(self._datamodule), None)
        if member is None or inputs is None:
            return
        sae, loss = pl_module.members[member], TokenLoss().to(pl_module.device)
        was_training = sae.training
        sae.eval()
        losses: dict[str, dict[str | Member, TokenLoss]] = {member.part: {member: loss}}
        edits: dict[str, dict[str | Member, Edit]] = {member.part: {member: partial(reconstruction, sae=sae)}}
        try:
            _measure(self._datamodule, inputs, losses, edits, pl_module)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"LossRecovered: {len(inputs.input_ids)} of the rows of {inputs.input_ids.shape[1]} tokens, with "
                f"{self._datamodule.source.vocabulary} logits each, do not fit into memory beside training: lower "
                "data.context_length, or leave it out and ask it of the checkpoint, with sae validate"
            ) from error
        finally:
            sae.train(was_training)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Run the model over the held-out text, once for each thing that can stand at the hook."""
        if module.targets and not self._linear:
            beside = (own.maps for own in callbacks_of(trainer) if isinstance(own, LinearMaps))
            self._linear = next(beside, {}) or fit_by_part(self._datamodule, module, {LINEAR_MAP: None})
        linear = {part: maps[LINEAR_MAP] for part, maps in self._linear.items()}
        by_part = {
            part: list(self._scores_of_part(part, {name: loss.compute() for name, loss in losses.items()}))
            for part, losses in token_losses(self._datamodule, module, linear).items()
        }
        for scores in zip(*by_part.values(), strict=True):
            yield _joined(dict(zip(by_part, scores, strict=True)))

    def _scores_of_part(self, part: str, losses: Losses) -> Iterator[Scores]:
        """Compute the scores of one part of the activations; the linear map of transcoders stands beside them."""
        members = [name for name in losses if isinstance(name, Member)]
        ablations = [name for name in (*ABLATIONS, "linear") if name in losses]
        for column, kind in enumerate(_KINDS):
            loss = {name: values[kind] for name, values in losses.items()}
            texts = {name: values["texts"][:, column] for name, values in losses.items()}
            yield Scores(
                loss_metric(kind, "reconstruction"), {member: loss[member] for member in members}, loss["mean"]
            )
            for name in ("clean", *ablations):
                if (kind, name) != ("kl", "clean"):  # 0 by definition
                    yield Scores(loss_metric(kind, name), dict.fromkeys(members, loss[name]), loss[name])
            for ablation in ablations:
                metric = recovered_metric(kind, ablation, "kl" if "linear" in losses else "ce")
                gap = float(loss[ablation] - loss["clean"])
                recovered = {
                    name: recovered_compute(value, loss[ablation], loss["clean"], self.min_gap_nats)
                    for name, value in loss.items()
                }
                measured: dict[Member, str | Member] = {member: member for member in members}
                if "linear" in losses and ablation != "linear":
                    measured[Member(LINEAR_MAP, 0, part)] = "linear"
                items = Items(
                    {member: texts[ablation] - texts[name] for member, name in measured.items()},
                    dict.fromkeys(measured, texts[ablation] - texts["clean"]),
                )
                yield Scores(
                    metric,
                    {member: recovered[name] for member, name in measured.items()},
                    recovered["linear" if ablation == "linear" else "mean"],
                    items,
                    undefined=f"the ablation costs {gap:.4g} nats a token, less than min_gap_nats={self.min_gap_nats}. "
                    "Read the losses themselves, evaluate on more text, or take another layer"
                    if gap < self.min_gap_nats
                    else Scores.undefined,
                )


def token_losses(
    datamodule: ActivationDataModule, module: SAEModule, linear: Mapping[str, LinearMap] | None = None
) -> dict[str, dict[str | Member, TokenLoss]]:
    """Measure the losses by part of the activations, and by what stands at its hook.

    Args:
        datamodule: of a language model.
        module: whose members are measured.
        linear: linear maps of transcoders by the part that is read, to be measured as `linear`.
    """
    edits = edits_by_part(datamodule, module)
    for part in edits:
        edits[part] |= {"linear": linear[part]} if linear else {}
    if not edits:  # the members of this rank read nulls
        return {}
    losses: dict[str, dict[str | Member, TokenLoss]] = {
        part: {name: TokenLoss().to(module.device) for name in ("clean", *edits_of_part)}
        for part, edits_of_part in edits.items()
    }
    for inputs in _blocks(datamodule):
        _measure(datamodule, inputs, losses, edits, module)
    return losses


def _blocks(datamodule: ActivationDataModule) -> Iterator[TokenBatch]:
    """Iterate over this rank's held-out text, so many rows at a time that their logits are few enough."""
    for inputs in datamodule.validation_inputs():
        yield from inputs.split(max(1, MOST_LOGITS // (inputs.input_ids.shape[1] * datamodule.source.vocabulary)))


def _measure(
    datamodule: ActivationDataModule,
    inputs: TokenBatch,
    losses: Mapping[str, Mapping[str | Member, TokenLoss]],
    edits: Mapping[str, Mapping[str | Member, Edit]],
    module: SAEModule,
) -> None:
    """Add the losses of a few rows; those of the model as it is where they are asked for.

    Args:
        datamodule: of a language model.
        inputs: rows of held-out text.
        losses: by part and by what stands at its hook.
        edits: in the same way, without the model as it is.
        module: whose members are measured.
    """
    source, columns, targets = datamodule.source, columns_by_part(datamodule.widths), module.targets
    with source.same_inputs():
        clean = edited_outputs(source, inputs, lambda x: x, next(iter(edits)))
        captured = source.capture(inputs) if targets else None
        for part, losses_of_part in losses.items():
            for name, loss in losses_of_part.items():
                edit = edits[part].get(name)
                if edit is None:
                    logits = clean
                elif captured is None:
                    logits = edited_outputs(source, inputs, edit, part)
                else:
                    read = part_read_by(name, module.members[name], targets) if isinstance(name, Member) else part
                    logits = answered_outputs(source, inputs, edit, captured, columns[read], targets[part])
                loss.update(logits, clean, inputs.input_ids, inputs.mask)


def _joined(parts: Mapping[str, Scores]) -> Scores:
    """Join the scores of one metric that were computed for each part of the activations."""
    first, *_ = parts.values()
    items = [scores.items for scores in parts.values() if scores.items is not None]
    return Scores(
        first.metric,
        {member: value for scores in parts.values() for member, value in scores.members.items()},
        {part: scores.floor for part, scores in parts.items()},
        Items(
            {member: values for each in items for member, values in each.numerators.items()},
            {member: values for each in items for member, values in each.denominators.items()},
        )
        if items
        else None,
        undefined=next((scores.undefined for scores in parts.values() if scores.not_finite()), first.undefined),
    )
