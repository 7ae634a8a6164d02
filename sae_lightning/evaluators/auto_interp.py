"""Can one tell from examples when a latent fires, and predict it on texts that one has not seen?

Automatic interpretation (Paulo, Mallen, Juang, Belrose 2025; settings of Korznikov et al. 2026, arXiv 2602.14111): a
judge sees the texts on which a latent fires most strongly, explains it, and then predicts for other texts, half of
which make it fire, whether they do. The score of a latent is the share of correct answers; chance is 0.5.

Departures: excerpts have a fixed place in the text and are not centred on what they show, and scores stand beside the
share of latents that had any: a member with few of them is scored on its survivors.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from math import comb
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from sae_lightning.checks import check_between, check_whole
from sae_lightning.distributed import join_members
from sae_lightning.evaluators.base import evaluate_across_ranks, evaluated_members
from sae_lightning.evaluators.latent_scores import LatentScores
from sae_lightning.evaluators.repeats import Repeated, seed_of
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.evaluators.text_evaluator import TextEvaluator
from sae_lightning.interpretation import Interpretation, Judge, LexicalJudge, interpret
from sae_lightning.interpretation.excerpts import Excerpts
from sae_lightning.interpretation.firings import TextCodes
from sae_lightning.interpretation.scoring import CHANCE
from sae_lightning.interpretation.tasks import SEED, InterpretationTask, TaskSettings, choose_latents, make_task
from sae_lightning.members import Member
from sae_lightning.metric import Metric, Question
from sae_lightning.saes.module import SAEModule
from sae_lightning.trainer import run_folder

FILE_NAME = "interpretation.jsonl"
_INTERPRETABLE = 0.7
_DENSE = 0.1

CAN_BE_TOLD = Question(
    "interpretation",
    "Can one tell from texts when a latent fires?",
    order=90,
    title="Interpretation",
    lead="A judge explains a latent from texts on which it fires, and predicts on which others it does.",
)
_GUESSES = "a judge that guesses"
ACCURACY = Metric(
    "interp_accuracy",
    "Accuracy of explanations, predicting where latents fire",
    CAN_BE_TOLD,
    better="higher",
    floor=_GUESSES,
    computed="share of held-out texts, half of which make a latent fire, for which a judge predicts from its "
    "explanation whether they do; mean over sampled latents",
    is_headline=True,
)
ACCURACY_WEIGHTED = Metric(
    "interp_accuracy_weighted",
    "Explanations predict, weighted by firing frequency",
    CAN_BE_TOLD,
    better="higher",
    floor=_GUESSES,
    computed="mean over sampled latents of the accuracy of the judge, weighted by firing frequency",
)
SHARE_ABOVE = Metric(
    f"interp_share_above_{_INTERPRETABLE:g}",
    f"Latents explained with an accuracy above {_INTERPRETABLE:g}",
    CAN_BE_TOLD,
    better="higher",
    floor=_GUESSES,
    computed="share of sampled latents with an accuracy above the threshold",
)
DENSE_FRACTION = Metric(
    "interp_dense_fraction",
    "Latents that fire on over 10 % of tokens",
    CAN_BE_TOLD,
    floor="no latent fires",
    computed="share of all latents that fire on over 10 % of the held-out tokens",
)
ALIVE_FRACTION = Metric(
    "interp_alive_fraction",
    "Latents that could be sampled",
    CAN_BE_TOLD,
    better="higher",
    floor="no latent fires",
    computed="share of all latents that fire on more than min_frequency of the tokens, and in min_excerpts texts to "
    "show and as many to judge",
)


class AutoInterp(Repeated, TextEvaluator):
    """Log how well explanations of latents predict on which texts they fire, and how many latents could be sampled.

    - interp_accuracy: mean over the sampled latents, chance 0.5.
    - interp_accuracy_weighted: the same weighted by firing frequency, since a plain mean hides latents that fire often
      and mean nothing.
    - interp_share_above_0.7: share of the sampled latents with an accuracy above 0.7.
    - interp_dense_fraction: share of all latents that fire on over 10 % of tokens.
    - interp_alive_fraction: share of all latents that could be sampled.

    Without any latent to sample the first three are nan. Half of the text is for showing and half for judging. Floors
    of the first three are those of a judge that guesses, of the share for each SAE by the number of its answers.
    Examples, explanation and score of each latent, from the last time, are kept in interpretation.jsonl of the run.
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
        n_repeats: draws of latents, of what is shown and what is judged, and of the texts to judge; values are means
            over them. interpretation.jsonl keeps the first. A paid judge costs so many times as much.
        every_n_validations: the last validation always counts; 0 for that one alone.
    """

    declares = (ACCURACY, ACCURACY_WEIGHTED, SHARE_ABOVE, DENSE_FRACTION, ALIVE_FRACTION)
    takes_transcoders = True
    takes_crosscoders = True

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
        n_repeats: int = 1,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(n_repeats, every_n_validations)
        check_whole(1, n_latents=n_latents, n_shown=n_shown, n_judged=n_judged, n_tokens=n_tokens)
        check_whole(1, excerpt_length=excerpt_length, min_excerpts=min_excerpts)
        check_between(0, 1, min_frequency=min_frequency, hint="a share of tokens")
        if min_frequency == 1:
            raise ValueError(f"min_frequency={min_frequency}: expected a share of tokens below 1, such as 1e-6")
        self.judge = LexicalJudge() if judge is None else judge
        self.n_latents, self.n_shown, self.n_judged = n_latents, n_shown, n_judged
        self.excerpt_length, self.n_tokens = excerpt_length, n_tokens
        self.min_frequency, self.min_excerpts = min_frequency, min_excerpts

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is text, that excerpts fit into a row, and that the judge can answer."""
        super().setup(trainer, pl_module, stage)
        context_length = self.reader.packing.context_length
        if self.excerpt_length > context_length:
            raise ValueError(
                f"AutoInterp: excerpt_length={self.excerpt_length}: expected at most data.context_length="
                f"{context_length}, the tokens of a row"
            )
        self.judge.check()

    def scores_by_repeat(self, trainer: Trainer, module: SAEModule, stage: str) -> list[list[Scores]]:
        """Read the text twice, then have each member interpreted on one rank."""
        members = evaluated_members(trainer, module)
        excerpts = Excerpts(self.datamodule.heldout_rows(self.n_tokens), self.excerpt_length, self.reader.tokenizer)
        codes = TextCodes(self.reader, module, members, excerpts)
        settings = TaskSettings(self.n_latents, self.n_shown, self.n_judged, self.min_excerpts, self.min_frequency)
        seeds = [seed_of(SEED, repeat) for repeat in range(self.n_repeats)]
        halves = [excerpts, *(excerpts.with_other_halves(seed) for seed in seeds[1:])]
        counts = codes.count_all(halves)
        chosen = [
            {member: choose_latents(of_member, settings, seed) for member, of_member in of_draw.items()}
            for of_draw, seed in zip(counts, seeds, strict=True)
        ]
        drawn = {member: sorted({latent for of_draw in chosen for latent in of_draw[member][0]}) for member in members}
        firings = codes.firings(drawn)

        def tasks(member: Member, repeat: int) -> Iterator[InterpretationTask]:
            for latent in chosen[repeat][member][0]:
                column, of_draw = drawn[member].index(latent), counts[repeat][member]
                yield make_task(latent, column, of_draw, firings[member], halves[repeat], settings, seeds[repeat])

        def interpret_all(repeat: int) -> dict[Member, list[Interpretation]]:
            own = evaluate_across_ranks(
                members, lambda member, _: [interpret(self.judge, task) for task in tasks(member, repeat)]
            )
            of_all = join_members(own)
            return {member: of_all[member] for member in module.all_members if member in of_all}

        repeats = range(self.n_repeats)
        interpretations: list[dict[Member, list[Interpretation]]] = []
        if self.judge.begin(task for repeat in repeats for member in members for task in tasks(member, repeat)):
            interpretations = [interpret_all(repeat) for repeat in repeats]
            self._warn_of_answers(interpretations)
            self._write(run_folder(trainer), trainer.is_global_zero, interpretations[0])
            d_sae = {member: sae.d_sae for member, sae in module.all_members.items()}
            self.latent_scores += [latent_accuracy(of_draw, d_sae) for of_draw in interpretations]
        dense = {member: float((each.frequency > _DENSE).double().mean()) for member, each in counts[0].items()}
        scores = [list(accuracy_scores(of_draw)) for of_draw in interpretations] or [[] for _ in repeats]
        for repeat in repeats:
            scores[repeat].append(Scores(DENSE_FRACTION, dense, 0.0))
            alive = {member: share for member, (_, share) in chosen[repeat].items()}
            scores[repeat].append(Scores(ALIVE_FRACTION, alive, 0.0))
        return scores

    def _warn_of_answers(self, interpretations: Sequence[Mapping[Member, Sequence[Interpretation]]]) -> None:
        all_of_them = [each for of_draw in interpretations for interpreted in of_draw.values() for each in interpreted]
        if lost := sum(each.n_not_understood for each in all_of_them):
            rank_zero_warn(
                f"{lost} of {sum(each.n_judged for each in all_of_them)} answers of {type(self.judge).__name__} could "
                'not be understood and count as "does not fire"; interpretation.jsonl has their number for each latent'
            )

    @staticmethod
    def _write(run: Path | None, is_first: bool, interpretations: Mapping[Member, Sequence[Interpretation]]) -> None:
        if run is None or not is_first:
            return
        run.mkdir(parents=True, exist_ok=True)
        new = run / f"{FILE_NAME}.tmp"
        with new.open("w", encoding="utf-8") as file:
            for member, interpreted in interpretations.items():
                file.writelines(json.dumps(each.line(member), ensure_ascii=False) + "\n" for each in interpreted)
        new.replace(run / FILE_NAME)
        rank_zero_info(f"What latents stand for, and how well that predicts: {run / FILE_NAME}")


def accuracy_scores(interpretations: Mapping[Member, Sequence[Interpretation]]) -> Iterator[Scores]:
    """Compute metrics of accuracy, with a latent as an item."""

    def values(value: Callable[[Interpretation], float]) -> dict[Member, Tensor]:
        return {
            member: torch.tensor([value(each) for each in interpreted], dtype=torch.float64)
            for member, interpreted in interpretations.items()
        }

    accuracy, weights = values(lambda each: each.accuracy), values(lambda each: each.frequency)
    weighted = {member: weights[member] * accuracies for member, accuracies in accuracy.items()}
    above = values(lambda each: float(each.accuracy > _INTERPRETABLE))
    guessed = values(lambda each: share_of_lucky_guesses(each.n_judged))
    names = {member: [each.latent for each in interpreted] for member, interpreted in interpretations.items()}
    yield _ratio_scores(ACCURACY, Items.mean(accuracy, False, names), CHANCE)
    yield _ratio_scores(ACCURACY_WEIGHTED, Items(weighted, weights, False, names), CHANCE)
    yield _ratio_scores(
        SHARE_ABOVE,
        Items.mean(above, False, names),
        {member: float(shares.mean()) for member, shares in guessed.items()},
    )


def latent_accuracy(
    interpretations: Mapping[Member, Sequence[Interpretation]], d_sae: Mapping[Member, int]
) -> LatentScores:
    """Return the accuracy of each latent that was sampled.

    Args:
        interpretations: of one draw.
        d_sae: number of latents of each member.
    """
    members = {member: torch.full((d_sae[member],), torch.nan, dtype=torch.float64) for member in interpretations}
    for member, interpreted in interpretations.items():
        for each in interpreted:
            members[member][each.latent] = each.accuracy
    return LatentScores("interp_accuracy", "accuracy of its explanation", members)


@cache
def share_of_lucky_guesses(n: int) -> float:
    """Return how probable it is that more than `_INTERPRETABLE` of n guesses are correct.

    >>> share_of_lucky_guesses(4), share_of_lucky_guesses(0)
    (0.3125, 0.0)
    """
    return sum(comb(n, k) for k in range(n + 1) if n and k / n > _INTERPRETABLE) / 2**n


def _ratio_scores(metric: Metric, items: Items, floor: float | Mapping[Member, float]) -> Scores:
    """Make scores of items; nan without any."""
    values = {
        member: float(numerators.sum() / items.denominators[member].sum())
        for member, numerators in items.numerators.items()
    }
    return Scores(metric, values, floor, items, undefined="no latent fires often enough to be sampled (min_excerpts)")
