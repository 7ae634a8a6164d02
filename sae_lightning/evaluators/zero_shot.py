"""How much of what a CLIP model tells of pictures survives when it reads the reconstruction instead of its activation?

    zero_shot_recovered_zero = (accuracy_reconstruction - accuracy_zero) / (accuracy_clean - accuracy_zero)
    zero_shot_ce_recovered_zero = (CE_zero - CE_reconstruction) / (CE_zero - CE_clean)

and `_mean` with the mean activation in place of zero, where accuracy and CE are of zero-shot answers (Radford et al.
2021, arXiv 2103.00020): the counterpart of `LossRecovered` for models that answer with embeddings.
"""

import re
from typing import Any, TypeAlias

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from sae_lightning.distributed import all_gather_object, rank, world_size
from sae_lightning.evaluators.base import Evaluator, Items, Scores
from sae_lightning.evaluators.edits import ABLATIONS, check_one_hook, edited_outputs, edits_by_part
from sae_lightning.evaluators.labelled_pictures import LabelledPictures
from sae_lightning.images import Images
from sae_lightning.metrics.functional import recovered_compute
from sae_lightning.saes.module import SAEModule

Answers: TypeAlias = dict[tuple[str, str], Tensor]
"""By part and by what stands at the hook: [n_pictures, n_attributes, 2], see `LabelledPictures.answers`."""

_UNEDITED = ("clean", *ABLATIONS)


class ZeroShotRecovered(Evaluator):
    """Logs zero_shot_accuracy and how much of it is recovered: zero_shot_recovered_zero, zero_shot_recovered_mean.

    For each attribute of the pictures, such as colour, the model answers by the caption that is nearest; accuracy is
    the share of right answers on held-out pictures that the attribute applies to, and all values are means over
    attributes. zero_shot_accuracy_<attribute> is that of one. zero_shot_clean, zero_shot_zero and zero_shot_mean are
    accuracies without an SAE, the same for every member. zero_shot_ce_recovered_zero and zero_shot_ce_recovered_mean
    are of the cross-entropy, which tells more than the accuracy where few answers change.

    Floors are the scores of mean ablation, where the SAE that does nothing stands. chance is the mean over attributes
    of 1 / number of values. Positions that do not count keep their activation. On the text tower it is the captions
    that are read through the SAE, and pictures that are embedded untouched. SAEs of null activations are left out.

    Args:
        images: pictures with attributes; by default those that the data read. Needed on the text tower.
        n_images: held-out pictures for each attribute, or as many as there are.
        min_gap_accuracy: a ratio of accuracies is withheld (nan) where the ablation costs less than this, above 0.
        min_gap_nats: the same for cross-entropies, in nats an answer, above 0.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`. One costs 3 passes of
            the model over the pictures (on the text tower: over the captions of all values), and one for each SAE.
    """

    def __init__(
        self,
        images: Images | None = None,
        n_images: int = 512,
        min_gap_accuracy: float = 0.05,
        min_gap_nats: float = 0.05,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(every_n_validations)
        if n_images < 1:
            raise ValueError(f"n_images={n_images}: expected at least 1")
        for name, gap in (("min_gap_accuracy", min_gap_accuracy), ("min_gap_nats", min_gap_nats)):
            if gap <= 0:
                raise ValueError(f"{name}={gap}: expected more than 0, for example 0.05")
        self.images, self.n_images = images, n_images
        self.min_gap_accuracy, self.min_gap_nats = min_gap_accuracy, min_gap_nats
        self._has_warned = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there is a CLIP model, and that something is known of the pictures."""
        super().setup(trainer, pl_module, stage)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        self._pictures = LabelledPictures("ZeroShotRecovered", datamodule, self.images)
        self._numbers = self._pictures.numbers("heldout", self.n_images)
        check_one_hook("ZeroShotRecovered", datamodule, pl_module)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Runs the model once for each thing that can stand at the hook."""
        answers = self._answers(trainer.datamodule, module)  # type: ignore[attr-defined]
        applies = ~next(iter(answers.values()))[..., 0].isnan()
        present = applies.any(0)
        of_attribute = applies.double() / applies.sum(0).clamp(min=1)  # whose sum over pictures is 1
        weights = of_attribute / present.sum()
        n_values = [len(self._pictures.images.values[name]) for name in self._pictures.attributes]
        chances = torch.tensor([1 / n for n in n_values], dtype=torch.float64)
        found = {"zero_shot_accuracy": self._accuracy(answers, weights, float(chances[present].mean()))}
        for name in _UNEDITED:
            found[f"zero_shot_{name}"] = self._unedited(answers, weights, name)
        found |= self._recovered(answers, weights)
        for i in present.nonzero()[:, 0].tolist():
            alone = torch.zeros_like(weights).index_copy(1, torch.tensor([i]), of_attribute[:, [i]])
            name = re.sub(r"\W+", "_", self._pictures.attributes[i])
            found[f"zero_shot_accuracy_{name}"] = self._accuracy(answers, alone, float(chances[i]))
        return found

    def _answers(self, datamodule: Any, module: SAEModule) -> Answers:
        """The answers for all pictures, the same on every rank: each reads a part of the pictures."""
        source, pictures = datamodule.source, self._pictures
        edits = {
            (part, name): edit
            for part, of in edits_by_part(datamodule, module).items()
            for name, edit in {"clean": lambda x: x, **of}.items()
        }
        own: dict[tuple[str, str], list[Tensor]] = {key: [] for key in edits}
        clean = pictures.zero_shot()
        captions = {
            (part, name): clean if source.reads_images else pictures.zero_shot(edit, part)
            for (part, name), edit in edits.items()
        }
        for batch in pictures.batches(self._numbers[rank() :: world_size()]):
            untouched = None if source.reads_images else source.embed_images(batch.pixels)
            for (part, name), edit in edits.items():
                embeddings = edited_outputs(source, batch, edit, part) if untouched is None else untouched
                own[part, name].append(pictures.answers(captions[part, name], embeddings, batch.numbers))
        empty = torch.zeros(0, len(pictures.attributes), 2, dtype=torch.float64)  # a rank may have no picture
        ranks = all_gather_object({key: torch.cat([empty, *of]) for key, of in own.items()})
        return {key: torch.cat([of_rank[key] for of_rank in ranks]) for key in own}

    def _accuracy(self, answers: Answers, weights: Tensor, chance: float) -> Scores:
        """Share of right answers of each member, the picture's weights as items."""
        right = {key: (weights * (1 - table[..., 0]).nan_to_num()).sum(1) for key, table in answers.items()}
        of_members = {name: of for (_, name), of in right.items() if name not in _UNEDITED}
        values = {name: of.sum() for name, of in of_members.items()}
        parts = dict.fromkeys(part for part, _ in answers)
        return Scores(
            {**values, **{reference(part, "chance"): chance for part in parts}},
            {part: right[part, "mean"].sum() for part in parts},
            items=Items(of_members, dict.fromkeys(of_members, weights.sum(1))),
        )

    def _unedited(self, answers: Answers, weights: Tensor, name: str) -> Scores:
        """Accuracy without an SAE, for every member."""
        of_part = {
            part: (weights * (1 - table[..., 0]).nan_to_num()).sum()
            for (part, of), table in answers.items()
            if of == name
        }
        members = {member: of_part[part] for part, member in answers if member not in _UNEDITED}
        return Scores(members, of_part)

    def _recovered(self, answers: Answers, weights: Tensor) -> dict[str, Scores]:
        """What share of the loss by an ablation is not lost by the reconstruction, in accuracy and cross-entropy."""
        found = {}
        for column, kind, min_gap in ((0, "", self.min_gap_accuracy), (1, "ce_", self.min_gap_nats)):
            lost = {key: (weights * table[..., column].nan_to_num()).sum(1) for key, table in answers.items()}
            for ablation in ABLATIONS:
                metric = f"zero_shot_{kind}recovered_{ablation}"
                values, numerators, denominators = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
                floors = {}
                for (part, name), of in lost.items():
                    ablated, clean = lost[part, ablation], lost[part, "clean"]
                    value = recovered_compute(of.sum(), ablated.sum(), clean.sum(), min_gap)
                    if name == "mean":
                        floors[part] = value
                        self._warn_of_small_gap(metric, float((ablated - clean).sum()), min_gap)
                    if name not in _UNEDITED:
                        values[name], numerators[name], denominators[name] = value, ablated - of, ablated - clean
                # Both ablations ask one question: a verdict is given on that whose floor is 0.
                found[metric] = Scores(
                    values, floors, "higher" if ablation == "mean" else None, Items(numerators, denominators)
                )
        return found

    def _warn_of_small_gap(self, metric: str, gap: float, min_gap: float) -> None:
        if not gap >= min_gap and not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"{metric} is withheld (nan): the ablation costs {gap:.4g}, less than the {min_gap} asked for. Read "
                "the accuracies themselves, take more pictures (n_images) or another hook"
            )
