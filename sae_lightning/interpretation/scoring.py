"""How well explanations predict: one latent's answer sheet, and the line that is kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sae_lightning.interpretation.excerpts import Example
from sae_lightning.interpretation.judge import Judge
from sae_lightning.interpretation.questions import Question

CHANCE = 0.5


@dataclass(frozen=True)
class Interpretation:
    """A latent's explanation and how well it predicts.

    Args:
        latent: its number.
        frequency: share of tokens on which it fires.
        shown: the examples that it was explained from.
        explanation: of the judge, in words.
        accuracy: share of right answers; chance where there was no text to judge.
        n_judged: answers.
        n_not_understood: answers that could not be understood; they count as "does not fire".
    """

    latent: int
    frequency: float
    shown: Sequence[Example]
    explanation: str
    accuracy: float
    n_judged: int
    n_not_understood: int

    def line(self, member: str) -> dict[str, Any]:
        """What is kept in `interpretation.jsonl`."""
        return {
            "member": member,
            "latent": self.latent,
            "frequency": self.frequency,
            "explanation": self.explanation,
            "score": self.accuracy,
            "n_judged": self.n_judged,
            "n_not_understood": self.n_not_understood,
            "examples": [
                {"tokens": example.excerpt.tokens, "activations": [float(f"{a:.4g}") for a in example.activations]}
                for example in self.shown
            ],
        }


def interpret(judge: Judge, question: Question) -> Interpretation:
    """Has one latent explained, and the explanation tried on texts that the judge has not seen.

    Where half of the texts are such that the latent fires, any constant answer has accuracy 0.5. A latent that fires in
    every text leaves nothing to judge, and has 0.5 as well.
    """
    explanation = judge.explain(question.shown, question.contrast)
    answers = judge.judge(explanation, question.judged) if question.judged else []
    right = [bool(answer) == fires for answer, fires in zip(answers, question.fires, strict=True)]
    return Interpretation(
        question.latent,
        question.frequency,
        question.shown,
        explanation.text,
        sum(right) / len(right) if right else CHANCE,
        len(answers),
        sum(answer is None for answer in answers),
    )
