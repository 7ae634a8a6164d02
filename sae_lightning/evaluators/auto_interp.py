"""Can one tell from examples when a latent fires, and be right about texts that one has not seen?

Automatic interpretation (Paulo, Mallen, Juang, Belrose 2025; settings of Korznikov et al. 2026, arXiv 2602.14111): a
judge is shown the texts on which a latent fires most strongly, explains it, and then says of other texts, half of which
make it fire, whether they do. The score of a latent is the share of right answers; chance is 0.5.

Departures: excerpts have a fixed place in the text and are not centred on what they show, and scores stand beside the
share of latents that had any: a member with few of them is scored on its survivors.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from sae_lightning.evaluators.base import Items, Scores, share_members
from sae_lightning.evaluators.text_evaluator import TextEvaluator
from sae_lightning.interpretation import Interpretation, Judge, LexicalJudge, interpret
from sae_lightning.interpretation.excerpts import Excerpts
from sae_lightning.interpretation.firings import TextCodes
from sae_lightning.interpretation.questions import Question, QuestionSettings, choose_latents, make_question
from sae_lightning.interpretation.scoring import CHANCE
from sae_lightning.run_folder import run_folder
from sae_lightning.saes.module import SAEModule

FILE_NAME = "interpretation.jsonl"
_INTERPRETABLE = 0.7
_DENSE = 0.1


class AutoInterp(TextEvaluator):
    """Logs how well explanations of latents predict on which texts they fire, and how many latents could be sampled.

    - interp_accuracy: mean over the sampled latents, chance 0.5.
    - interp_accuracy_weighted: the same weighted by firing frequency, since a plain mean hides latents that fire often
      and mean nothing.
    - interp_share_above_0.7: share of the sampled latents with an accuracy above 0.7.
    - interp_dense_fraction: share of all latents that fire on over 10 % of tokens.
    - interp_alive_fraction: share of all latents that could be sampled.

    Without any latent to sample the first three are nan. Half of the text is for showing and half for judging. What
    was shown, explained and scored is kept in interpretation.jsonl of the run, a line a latent, from the last time.
    With a judge that asks a paid service take `sae validate` on a checkpoint: a service that fails stops the run.

    Args:
        judge: who explains and predicts: LexicalJudge, ChatJudge or TransformersJudge. Default: LexicalJudge.
        n_latents: latents of each member, or as many as are alive; the same numbers for all as far as they are.
        n_shown: texts on which the latent fires most, from which it is explained; at most these.
        n_judged: texts that make it fire and are judged, from strong to weak, and as many that do not; at most these.
        excerpt_length: tokens in a text, at most context_length.
        n_tokens: held-out tokens that are read twice, or as many as there are; 2000000 for a large model.
        min_frequency: a latent that fires on this share of tokens or less is not sampled.
        min_excerpts: a latent that fires in fewer texts to show, or in fewer to judge, is not sampled.
        every_n_validations: the last validation always counts; 0 for that one alone.
    """

    def __init__(
        self,
        judge: Judge | None = None,
        n_latents: int = 200,
        n_shown: int = 15,
        n_judged: int = 50,
        excerpt_length: int = 32,
        n_tokens: int = 100_000,
        min_frequency: float = 1e-6,
        min_excerpts: int = 10,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(every_n_validations)
        counts = {"n_latents": n_latents, "n_shown": n_shown, "n_judged": n_judged, "n_tokens": n_tokens}
        for name, value in (counts | {"excerpt_length": excerpt_length, "min_excerpts": min_excerpts}).items():
            if value < 1:
                raise ValueError(f"{name}={value}: expected at least 1")
        if not 0 <= min_frequency < 1:
            raise ValueError(f"min_frequency={min_frequency}: expected a share of tokens, 0 or more and less than 1")
        self.judge = LexicalJudge() if judge is None else judge
        self.n_latents, self.n_shown, self.n_judged = n_latents, n_shown, n_judged
        self.excerpt_length, self.n_tokens = excerpt_length, n_tokens
        self.min_frequency, self.min_excerpts = min_frequency, min_excerpts

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there is text, that excerpts fit into a row, and that the judge can answer."""
        super().setup(trainer, pl_module, stage)
        context_length = trainer.datamodule.packing.context_length  # type: ignore[attr-defined]
        if self.excerpt_length > context_length:
            raise ValueError(
                f"AutoInterp: excerpt_length={self.excerpt_length}: expected at most data.context_length="
                f"{context_length}, the tokens of a row"
            )
        self.judge.check()

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Reads the text twice, then has each member interpreted on one rank."""
        datamodule, members = trainer.datamodule, self.asked(trainer, module)  # type: ignore[attr-defined]
        excerpts = Excerpts(datamodule.heldout_rows(self.n_tokens), self.excerpt_length, datamodule.packing.tokenizer)
        codes = TextCodes(datamodule, module, members, excerpts)
        settings = QuestionSettings(self.n_latents, self.n_shown, self.n_judged, self.min_excerpts, self.min_frequency)
        counts = codes.count()
        chosen = {member: choose_latents(of, settings) for member, of in counts.items()}
        found = {
            "interp_dense_fraction": Scores(
                {member: float((of.frequency > _DENSE).double().mean()) for member, of in counts.items()}, 0.0
            ),
            "interp_alive_fraction": Scores({member: alive for member, (_, alive) in chosen.items()}, 0.0, "higher"),
        }
        firings = codes.firings({member: latents for member, (latents, _) in chosen.items()})

        def questions(member: str) -> Iterator[Question]:
            for column, latent in enumerate(chosen[member][0]):
                yield make_question(latent, column, counts[member], firings[member], excerpts, settings)

        if not self.judge.begin(question for member in members for question in questions(member)):
            return found
        interpretations = share_members(
            members, lambda member, _: [interpret(self.judge, question) for question in questions(member)]
        )
        self._warn_of_answers(interpretations)
        self._write(run_folder(trainer), trainer.is_global_zero, interpretations)
        return accuracy_scores(interpretations) | found

    def _warn_of_answers(self, interpretations: Mapping[str, Sequence[Interpretation]]) -> None:
        lost, n = (
            sum(count(one) for of in interpretations.values() for one in of)
            for count in (lambda one: one.n_not_understood, lambda one: one.n_judged)
        )
        if lost:
            rank_zero_warn(
                f"{lost} of {n} answers of {type(self.judge).__name__} could not be understood and count as "
                '"does not fire"; interpretation.jsonl has their number for each latent'
            )

    @staticmethod
    def _write(run: Path | None, is_first: bool, interpretations: Mapping[str, Sequence[Interpretation]]) -> None:
        if run is None or not is_first:
            return
        run.mkdir(parents=True, exist_ok=True)
        new = run / f"{FILE_NAME}.tmp"
        with new.open("w", encoding="utf-8") as file:
            for member, of in interpretations.items():
                file.writelines(json.dumps(one.line(member), ensure_ascii=False) + "\n" for one in of)
        new.replace(run / FILE_NAME)
        rank_zero_info(f"What latents stand for, and how well that predicts: {run / FILE_NAME}")


def accuracy_scores(interpretations: Mapping[str, Sequence[Interpretation]]) -> dict[str, Scores]:
    """Metrics of accuracy with a latent as an item."""

    def of_members(value: Callable[[Interpretation], float]) -> dict[str, Tensor]:
        return {
            member: torch.tensor([value(one) for one in of], dtype=torch.float64)
            for member, of in interpretations.items()
        }

    accuracy = of_members(lambda one: one.accuracy)
    weights = of_members(lambda one: one.frequency)
    weighted = {member: weights[member] * of for member, of in accuracy.items()}
    above = of_members(lambda one: float(one.accuracy > _INTERPRETABLE))
    return {
        "interp_accuracy": _score(Items.mean(accuracy, paired=False), CHANCE),
        "interp_accuracy_weighted": _score(Items(weighted, weights, paired=False), CHANCE),
        f"interp_share_above_{_INTERPRETABLE:g}": _score(Items.mean(above, paired=False), 0.0),
    }


def _score(items: Items, floor: float) -> Scores:
    members: dict[str, Any] = {
        member: float(of.sum() / items.denominators[member].sum()) for member, of in items.numerators.items()
    }
    return Scores(members, floor, "higher", items)
