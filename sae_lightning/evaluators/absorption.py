"""Does a latent for a concept fire wherever the concept is, or have more special latents absorbed it?

Feature absorption (Chanin et al. 2024, arXiv 2409.14507) with the two scores of SAEBench (Karvonen et al. 2025, arXiv
2503.09532). The concepts are the first letters of words, which need no data set. For each letter:

    p = direction of a logistic probe on the activations, of length 1
    M = main latents of the letter: the k on which a k-sparse probe has its F1 score (`probing.k_sparse`)
    W = held-out words with the letter for which the probe answers yes
    score = mean over W of the absorption of the word (`metrics.absorption`), then over letters

Letters whose probe on the activations has an F1 score below 0.6 on held-out words are left out.

Departures from SAEBench: the probe is logistic regression on standardised dimensions and not trained by gradient steps;
latents are ranked by the difference of means and not by an L1 probe (`probing.k_sparse`); texts and words are those of
`probing.letters`; what a latent adds is a_i (d_i . p), which is a_i cos(d_i, p) for decoder directions of length 1; and
an SAE whose main latents do not tell letters has no score, since one without latents for letters absorbs nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.distributed import all_gather_object
from sae_lightning.evaluators.base import evaluate_across_ranks, evaluated_members, evaluated_parts
from sae_lightning.evaluators.letter_latents import MIN_F1, LetterScores, Probed, WordLatents, letter_scores
from sae_lightning.evaluators.repeats import Repeated
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.evaluators.text_evaluator import TextEvaluator
from sae_lightning.members import Member
from sae_lightning.metric import Metric, Question
from sae_lightning.probing.letters import MIN_LETTERS, LetterReader
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.module import SAEModule

Measured: TypeAlias = Mapping[Member, tuple[LetterScores, LetterScores]]
"""Scores of each member, and of random directions in its place."""

FIRES_EVERYWHERE = Question(
    "absorption",
    "Does a latent fire wherever its concept is?",
    order=55,
    title="Feature absorption",
    lead="A latent for words with a certain first letter should fire on all of them. Where it does not, latents of "
    "single words may have absorbed the letter.",
)
_FLOOR = "as many random directions, of which as many fire"
_WITHHELD = "withheld where random directions tell letters as well, since latents that know no letter absorb none"
FRACTION = Metric(
    "absorption_fraction",
    "Absorbed share of first letters",
    FIRES_EVERYWHERE,
    better="lower",
    floor=_FLOOR,
    computed="share of the letter that up to three other latents than the main ones hold, of their and its main "
    f"latents' projection on a probe; mean over held-out words, then over letters; {_WITHHELD}",
    is_headline=True,
)
FULL_RATE = Metric(
    "absorption_full_rate",
    "Words whose first letter is absorbed altogether",
    FIRES_EVERYWHERE,
    better="lower",
    floor=_FLOOR,
    computed="share of held-out words on which no main latent of the letter fires and one other latent alone has 40 % "
    f"of the projection on a probe; mean over letters; {_WITHHELD}",
)
F1 = Metric(
    "letter_f1",
    "Main latents tell the first letter, F1",
    FIRES_EVERYWHERE,
    better="higher",
    floor=_FLOOR,
    computed="F1 score, on held-out words, of a logistic probe on the main latents of a letter; mean over letters",
)
N_MAIN = Metric(
    "letter_main_latents",
    "Main latents of a first letter",
    FIRES_EVERYWHERE,
    unit="latents",
    floor=_FLOOR,
    computed="latents that a k-sparse probe reads until another one adds no more than 0.03 to its F1 score; mean over "
    "letters; more than one is feature splitting",
)
N_LETTERS = Metric(
    "letters_told",
    "First letters that the activations tell",
    FIRES_EVERYWHERE,
    unit="letters",
    computed="letters whose probe on all of the activation has an F1 score of 0.6 or more on held-out words; the other "
    "metrics are of these",
)


class Absorption(TextEvaluator, Repeated):
    """Log how much of the first letters of words other latents have absorbed than the main latents of the letters.

    - absorption_fraction: what other latents do of the work of the main ones, 0 to 1; lower is better.
    - absorption_full_rate: share of words on which no main latent fires and one other latent does the work; lower is
      better.
    - letter_f1: how well the main latents tell the letter, F1 score on held-out words; higher is better.
    - letter_main_latents: their number; more than one is feature splitting.
    - letters_told: letters that a probe on the activations tells, with an F1 score of 0.6 or more. All metrics are
      means over these letters, and withheld where there are fewer than 5.

    Read the first two beside letter_f1: an SAE without latents for letters has nothing that could be absorbed. Both are
    withheld where the main latents tell letters no better than random directions do (a sign test over letters, at 5 %).

    Words are the tokens of the model's own vocabulary that are whole words, read after other words with their first
    letters. Floors: the same for as many random directions as there are latents, of which as many fire on a word.
    Beside the SAEs, letter_f1 has dense_probe, the probes on all of the activation.

    Thresholds are those of SAEBench, set for an activation of 2304 dimensions. Random directions have larger cosines
    in fewer dimensions; the floor shows what that alone is worth.

    Args:
        max_k: main latents of a letter at most, 1 or more.
        train_words: of a letter, that probes are fitted to, at most; 20 or more.
        test_words: held-out words of a letter, at most; 10 or more.
        n_examples: words with their first letters that stand before the first word that is read.
        n_repeats: draws of words; values are means over them.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    declares = (FRACTION, FULL_RATE, F1, N_MAIN, N_LETTERS)

    metrics = (FRACTION, FULL_RATE, F1, N_MAIN, N_LETTERS)

    def __init__(
        self,
        max_k: int = 10,
        train_words: int = 150,
        test_words: int = 75,
        n_examples: int = 5,
        n_repeats: int = 1,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(n_repeats, every_n_validations)
        check_whole(1, max_k=max_k)
        check_whole(20, train_words=train_words)
        check_whole(10, test_words=test_words)
        check_whole(0, n_examples=n_examples)
        self.max_k, self.train_words, self.test_words, self.n_examples = max_k, train_words, test_words, n_examples
        self._probed: list[dict[str, Probed]] = []  # by draw, then by part

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask before training whether there are words, and whether the activations tell their first letters."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        if reason := self.datamodule.source.no_next_token:
            raise ValueError(
                f"Absorption needs a causal language model, which reads a word before its first letter: {reason}; "
                "take another model, or leave out Absorption"
            )
        if self._probed:
            return
        try:
            reader = LetterReader(self.reader, self.train_words, self.test_words, self.n_examples)
            draws = [reader.read(draw) for draw in range(self.n_repeats)]
        except ValueError as error:
            raise ValueError(f"Absorption: {error}") from None
        parts = evaluated_parts(trainer, pl_module)
        for words in draws:
            own = {part: pl_module.activations_for(member, words.activations) for part, member in parts.items()}
            # Those of the first rank for all: another device may round otherwise.
            self._probed.append(
                all_gather_object({part: Probed.fit(words.with_activations(x)) for part, x in own.items()})[0]
            )
        if not any(probed.has_letters for probed in self._probed[0].values()):
            n_told = max(len(probed.probes) for probed in self._probed[0].values())
            raise ValueError(
                f"Absorption: the activations tell {n_told} of {len(draws[0].alphabet)} first letters (F1 of a probe "
                f"{MIN_F1} or more), and {MIN_LETTERS} are needed: take another layer or a larger model, or leave out "
                "Absorption"
            )

    @override
    def scores_by_repeat(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[list[Scores]]:
        """Measure every member on the words of each draw."""
        members = evaluated_members(trainer, module)
        for by_part in self._probed:
            yield list(_scores(by_part, self._measure(by_part, members)))

    def _measure(self, by_part: Mapping[str, Probed], members: Mapping[Member, SparseAutoencoder]) -> Measured:
        at_random: dict[tuple[str, int, int], LetterScores] = {}

        def measure(member: Member, sae: SparseAutoencoder) -> tuple[LetterScores, LetterScores]:
            probed = by_part[member.part]
            latents = WordLatents.of_sae(sae, probed.words.activations)
            k = min(max(round(latents.l0), 1), sae.d_sae)
            if (key := (member.part, sae.d_sae, k)) not in at_random:
                random = WordLatents.at_random(sae.d_sae, k, probed.words.activations)
                at_random[key] = letter_scores(probed, random, self.max_k)
            return letter_scores(probed, latents, self.max_k), at_random[key]

        return evaluate_across_ranks(members, measure)


def _scores(by_part: Mapping[str, Probed], measured: Measured) -> Iterator[Scores]:
    """Compute the metrics of one draw."""
    told = {member: by_part[member.part] for member in measured}
    dense = {Member("dense_probe", 0, part): probed for part, probed in by_part.items()}
    has_letters = {member: 1.0 if probed.has_letters else np.nan for member, probed in (told | dense).items()}
    knows = {
        member: has_letters[member] if own.is_above(chance) else np.nan for member, (own, chance) in measured.items()
    }
    too_few = f"the activations tell fewer than {MIN_LETTERS} first letters"
    no_better = f"the main latents tell letters no better than random directions do, or {too_few}"

    def over_words(metric: Metric, values: Mapping[Member, np.ndarray], floors: Mapping[Member, np.ndarray]) -> Scores:
        weights = {member: told[member].weights() for member in values}
        names = {member: told[member].names() for member in values}
        counted = {member: each * knows[member] for member, each in values.items()}
        return _mean(metric, counted, weights, names, floors, no_better)

    def over_letters(
        metric: Metric, values: Mapping[Member, np.ndarray], floors: Mapping[Member, np.ndarray]
    ) -> Scores:
        weights = {member: np.full(len(each), 1 / max(len(each), 1)) for member, each in values.items()}
        names = {member: list((told | dense)[member].probes) for member in values}
        counted = {member: each * has_letters[member] for member, each in values.items()}
        return _mean(metric, counted, weights, names, floors, too_few)

    own = {member: scores for member, (scores, _) in measured.items()}
    chance = {member: scores for member, (_, scores) in measured.items()}
    yield over_words(FRACTION, *({m: each.fraction for m, each in side.items()} for side in (own, chance)))
    yield over_words(FULL_RATE, *({m: each.is_full for m, each in side.items()} for side in (own, chance)))
    of_dense = {member: np.array(list(probed.f1.values())) for member, probed in dense.items()}
    f1, f1_chance = ({m: each.f1 for m, each in side.items()} for side in (own, chance))
    yield over_letters(F1, f1 | of_dense, f1_chance)
    yield over_letters(N_MAIN, *({m: each.n_main for m, each in side.items()} for side in (own, chance)))
    yield Scores(N_LETTERS, {member: float(len(probed.probes)) for member, probed in told.items()}, None)


def _mean(
    metric: Metric,
    values: Mapping[Member, np.ndarray],
    weights: Mapping[Member, np.ndarray],
    names: Mapping[Member, Sequence[str]],
    floors: Mapping[Member, np.ndarray],
    undefined: str,
) -> Scores:
    """Return weighted means, and what they are made of; nan where a value is, or there is none."""
    numerators = {member: torch.from_numpy(each * weights[member]) for member, each in values.items()}
    means = {member: float(each.sum()) if len(each) else np.nan for member, each in numerators.items()}
    own_floors = {member: float(each @ weights[member]) if len(each) else np.nan for member, each in floors.items()}
    denominators = {member: torch.from_numpy(each) for member, each in weights.items()}
    return Scores(metric, means, own_floors, Items(numerators, denominators, names=names), undefined=undefined)
