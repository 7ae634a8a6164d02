"""How much of what a CLIP model tells of images survives when it reads the reconstruction instead of its activation?

    zero_shot_recovered_zero = (accuracy_reconstruction - accuracy_zero) / (accuracy_clean - accuracy_zero)
    zero_shot_ce_recovered_zero = (CE_zero - CE_reconstruction) / (CE_zero - CE_clean)

and `_mean` with the mean activation in place of zero, where accuracy and CE are of zero-shot answers (Radford et al.
2021, arXiv 2103.00020): the counterpart of `LossRecovered` for models that answer with embeddings.
"""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.checks import check_above, check_whole
from sae_lightning.datamodules.labelled_images import LabelledImages
from sae_lightning.distributed import all_gather_object, rank, world_size
from sae_lightning.evaluators.edits import ABLATIONS, check_one_hook, edits_by_part
from sae_lightning.evaluators.image_evaluator import clip_data
from sae_lightning.evaluators.repeats import Repeated
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.images.base import Images
from sae_lightning.members import Member
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics.functional import recovered_compute
from sae_lightning.saes.module import SAEModule
from sae_lightning.sources.replacing import Edit, edited_outputs

Score: TypeAlias = Literal["accuracy", "ce"]

Answers: TypeAlias = dict[tuple[str, str | Member], Tensor]
"""By part and by what stands at the hook, `clean`, the name of an ablation or a member: [n_images, n_attributes, 2],
see `LabelledImages.answers`."""

NAMES_WHAT_IT_SEES = Question("zero_shot", "Does the model still name what it sees?", order=40)
_MEAN_ABLATION = "an SAE that answers with the mean of the data"
ACCURACY = Metric(
    "zero_shot_accuracy",
    "Zero-shot accuracy through the reconstruction",
    NAMES_WHAT_IT_SEES,
    floor=_MEAN_ABLATION,
    computed="share of correct zero-shot answers on held-out images with the reconstruction at the hook; "
    "mean over attributes",
)
_AT_THE_HOOK = {
    "clean": "of the model as it is",
    "zero": "with zeros at the hook",
    "mean": "with the mean activation at the hook",
}
_COLUMNS: dict[Score, int] = {"accuracy": 0, "ce": 1}


def accuracy_of(attribute: str) -> Metric:
    """Describe the accuracy of answers about one attribute."""
    name = re.sub(r"\W+", "_", attribute)
    return Metric(
        f"zero_shot_accuracy_{name}",
        f"Zero-shot accuracy, {name}",
        NAMES_WHAT_IT_SEES,
        floor=_MEAN_ABLATION,
        computed=f"share of correct zero-shot answers about {name} with the reconstruction at the hook",
    )


def unedited_accuracy(name: str) -> Metric:
    """Describe the accuracy without an SAE: of the `clean` model, or with `zero` or `mean` ablation."""
    return Metric(
        f"zero_shot_{name}",
        f"Zero-shot accuracy of the model, {name}",
        NAMES_WHAT_IT_SEES,
        floor="any SAE: none takes part",
        computed=f"share of correct zero-shot answers {_AT_THE_HOOK[name]}, on held-out images; mean over attributes",
    )


def recovered_metric(score: Score, ablation: str) -> Metric:
    """Describe the share of what an ablation loses that the reconstruction does not lose."""
    is_accuracy = score == "accuracy"
    loss = "E" if is_accuracy else "CE"
    meaning = "the share of wrong zero-shot answers" if is_accuracy else "the cross-entropy of zero-shot answers"
    return Metric(
        f"zero_shot_recovered_{ablation}" if is_accuracy else f"zero_shot_ce_recovered_{ablation}",
        f"Zero-shot {'accuracy' if is_accuracy else 'loss'} recovered, over {ablation} ablation",
        NAMES_WHAT_IT_SEES,
        # Both ablations ask one question: a verdict is given on that whose floor is 0.
        better="higher" if ablation == "mean" else None,
        floor=_MEAN_ABLATION,
        computed=f"({loss}_{ablation} - {loss}_reconstruction) / ({loss}_{ablation} - {loss}_clean), where {loss} is "
        f"{meaning} on held-out images, mean over attributes",
        is_headline=(score, ablation) == ("ce", "mean"),
    )


class ZeroShotRecovered(Repeated):
    """Log zero_shot_accuracy and how much of it is recovered: zero_shot_recovered_zero, zero_shot_recovered_mean.

    For each attribute of the images, such as colour, the model answers by the caption that is nearest; accuracy is the
    share of correct answers on held-out images that the attribute applies to, and all values are means over attributes.
    zero_shot_accuracy_<attribute> is that of one. zero_shot_clean, zero_shot_zero and zero_shot_mean are accuracies
    without an SAE, the same for every member. zero_shot_ce_recovered_zero and zero_shot_ce_recovered_mean are of the
    cross-entropy, which tells more than the accuracy where few answers change.

    Floors are the scores of mean ablation, where the SAE that does nothing stands. chance is the mean over attributes
    of 1 / number of values. Positions that are not valid keep their activation. On the text tower it is the captions
    that are read through the SAE, and images that are embedded untouched. SAEs of null activations are left out.

    Args:
        images: images with attributes; by default those that the data read. Needed on the text tower.
        n_images: held-out images for each attribute, or as many as there are.
        min_gap_accuracy: a ratio of accuracies is withheld (nan) where the ablation costs less than this, above 0.
        min_gap_nats: the same for cross-entropies, in nats an answer, above 0.
        n_repeats: draws of images, where there are more than n_images; values are means over them.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`. One costs 3 passes of
            the model over the images (on the text tower: over the captions of all values), and one for each SAE.
    """

    declares = (
        *(recovered_metric(score, ablation) for ablation in ("mean", "zero") for score in _COLUMNS),
        ACCURACY,
        accuracy_of("ATTRIBUTE"),
        *map(unedited_accuracy, _AT_THE_HOOK),
    )

    def __init__(
        self,
        images: Images | None = None,
        n_images: int = 512,
        min_gap_accuracy: float = 0.05,
        min_gap_nats: float = 0.05,
        n_repeats: int = 1,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(n_repeats, every_n_validations)
        check_whole(1, n_images=n_images)
        check_above(0, min_gap_accuracy=min_gap_accuracy, min_gap_nats=min_gap_nats, hint="for example 0.05")
        self.images, self.n_images = images, n_images
        self.min_gap_accuracy, self.min_gap_nats = min_gap_accuracy, min_gap_nats

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is a CLIP model, and that something is known of the images."""
        super().setup(trainer, pl_module, stage)
        self._datamodule = clip_data(self, trainer)
        self._images = LabelledImages("ZeroShotRecovered", self._datamodule, self.images)
        self._numbers = [self._images.numbers("heldout", self.n_images, repeat) for repeat in range(self.n_repeats)]
        check_one_hook("ZeroShotRecovered", self._datamodule, pl_module)

    def scores_by_repeat(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[list[Scores]]:
        """Run the model once for each thing that can stand at the hook, over the images of all repeats."""
        answers, read = self._answers(module)
        rows = {number: row for row, number in enumerate(read.tolist())}
        for numbers in self._numbers:
            own = [rows[number] for number in numbers.tolist() if number in rows]  # that could be decoded
            names = dict.fromkeys(module.members, read[own].tolist())
            scores = self._scores_of({key: table[own] for key, table in answers.items()})
            yield [_with_names(each, names) for each in scores]

    def _scores_of(self, answers: Answers) -> Iterator[Scores]:
        """Compute the scores of one repeat."""
        applies = ~next(iter(answers.values()))[..., 0].isnan()
        present = applies.any(0)
        # Weights of the answers, which sum to 1 over the images of each attribute, and then over all answers.
        in_attribute = applies.double() / applies.sum(0).clamp(min=1)
        weights = in_attribute / present.sum()
        n_values = [len(self._images.images.values[name]) for name in self._images.attributes]
        chances = torch.tensor([1 / n for n in n_values], dtype=torch.float64)
        yield _accuracy(ACCURACY, answers, weights, float(chances[present].mean()))
        for name in ("clean", *ABLATIONS):
            yield _unedited(unedited_accuracy(name), answers, weights, name)
        scores: tuple[tuple[Score, float], ...] = (("accuracy", self.min_gap_accuracy), ("ce", self.min_gap_nats))
        for score, min_gap in scores:
            for ablation in ABLATIONS:
                yield self._recovered(answers, weights, score, ablation, min_gap)
        for i in present.nonzero()[:, 0].tolist():
            alone = torch.zeros_like(weights).index_copy(1, torch.tensor([i]), in_attribute[:, [i]])
            yield _accuracy(accuracy_of(self._images.attributes[i]), answers, alone, float(chances[i]))

    def _answers(self, module: SAEModule) -> tuple[Answers, Tensor]:
        """Return the answers for the images of all repeats, and their numbers; each rank reads a part of them."""
        source, images = self._images.source, self._images
        edits: dict[tuple[str, str | Member], Edit] = {}
        for part, edits_of_part in edits_by_part(self._datamodule, module).items():
            edits[part, "clean"] = _leave
            edits |= {(part, name): edit for name, edit in edits_of_part.items()}
        own: dict[tuple[str, str | Member], list[Tensor]] = {key: [] for key in edits}
        clean = images.zero_shot()
        captions = {
            (part, name): clean if source.reads_images else images.zero_shot(edit, part)
            for (part, name), edit in edits.items()
        }
        read: list[Tensor] = [torch.zeros(0, dtype=torch.int64)]
        seen = torch.zeros(len(images.labels), dtype=torch.bool)
        for numbers in self._numbers:
            new = numbers[~seen[numbers]]
            seen[new] = True
            for batch in images.batches(new[rank() :: world_size()]):
                untouched = None if source.reads_images else source.embed_images(batch.pixels)
                read.append(batch.numbers.cpu())
                for (part, name), edit in edits.items():
                    embeddings = edited_outputs(source, batch, edit, part) if untouched is None else untouched
                    own[part, name].append(images.answers(captions[part, name], embeddings, batch.numbers))
        empty = torch.zeros(0, len(images.attributes), 2, dtype=torch.float64)  # a rank may have no image
        tables = {key: torch.cat([empty, *of_rank]) for key, of_rank in own.items()}
        ranks = all_gather_object((tables, torch.cat(read)))
        return (
            {key: torch.cat([answers_of_rank[key] for answers_of_rank, _ in ranks]) for key in own},
            torch.cat([read_of_rank for _, read_of_rank in ranks]),
        )

    def _recovered(self, answers: Answers, weights: Tensor, score: Score, ablation: str, min_gap: float) -> Scores:
        """Return the share of the loss by an ablation that the reconstruction does not lose."""
        metric = recovered_metric(score, ablation)
        # Where an attribute does not apply the table has nan; a loss that is none, of an SAE that has diverged, stays.
        lost = {
            key: torch.where(weights > 0, weights * table[..., _COLUMNS[score]], 0).sum(1)
            for key, table in answers.items()
        }
        values, numerators, denominators = dict[Member, Tensor](), dict[Member, Tensor](), dict[Member, Tensor]()
        floors, gaps = {}, []
        for (part, name), lost_here in lost.items():
            ablated, clean = lost[part, ablation], lost[part, "clean"]
            value = recovered_compute(lost_here.sum(), ablated.sum(), clean.sum(), min_gap)
            if isinstance(name, Member):
                values[name], numerators[name], denominators[name] = value, ablated - lost_here, ablated - clean
            elif name == "mean":
                floors[part] = value
                gaps.append(float((ablated - clean).sum()))
        return Scores(
            metric,
            values,
            floors,
            Items(numerators, denominators),
            undefined=f"the ablation costs {min(gaps):.4g}, less than the {min_gap} asked for. Read the accuracies "
            "themselves, take more images (n_images) or another hook"
            if min(gaps) < min_gap
            else Scores.undefined,
        )


def _with_names(scores: Scores, names: Mapping[Member, Sequence[Hashable]]) -> Scores:
    return scores if scores.items is None else replace(scores, items=replace(scores.items, names=names))


def _accuracy(metric: Metric, answers: Answers, weights: Tensor, chance: float) -> Scores:
    """Return the share of correct answers of each member; items are images with their weights."""
    correct = {key: _weighted_correct(table, weights).sum(1) for key, table in answers.items()}
    of_members = {name: shares for (_, name), shares in correct.items() if isinstance(name, Member)}
    values: dict[Member, Tensor | float] = {member: shares.sum() for member, shares in of_members.items()}
    for part, _ in answers:
        values[Member("chance", 0, part)] = chance
    floors = {part: correct[part, "mean"].sum() for part, _ in answers}
    return Scores(metric, values, floors, Items(of_members, dict.fromkeys(of_members, weights.sum(1))))


def _unedited(metric: Metric, answers: Answers, weights: Tensor, name: str) -> Scores:
    """Return the accuracy without an SAE, for every member."""
    by_part = {part: _weighted_correct(answers[part, name], weights).sum() for part, _ in answers}
    members = {member: by_part[part] for part, member in answers if isinstance(member, Member)}
    return Scores(metric, members, by_part)


def _weighted_correct(table: Tensor, weights: Tensor) -> Tensor:
    """Return the weight [n_images, n_attributes] of each answer that is correct, else 0."""
    return weights * (1 - table[..., 0]).nan_to_num()


def _leave(x: Tensor) -> Tensor:
    return x
