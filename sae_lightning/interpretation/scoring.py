"""How well an explanation predicts: the score of one latent, and the line that is kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sae_lightning.interpretation.excerpts import Example
from sae_lightning.interpretation.judge import Judge
from sae_lightning.interpretation.tasks import InterpretationTask
from sae_lightning.members import Member

CHANCE = 0.5


@dataclass(frozen=True)
class Interpretation:
    """A latent's explanation and how well it predicts.

    Args:
        latent: its number.
        frequency: share of tokens on which it fires.
        shown: the examples that it was explained from.
        explanation: of the judge, in words.
        accuracy: share of correct answers; chance where there was no text to judge.
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

    def line(self, member: Member) -> dict[str, Any]:
        """Return what is kept in `interpretation.jsonl`."""
        return {
            "member": str(member),
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


def interpret(judge: Judge, task: InterpretationTask) -> Interpretation:
    """Have a judge explain one latent, and score its explanation on texts that it has not seen.

    The latent fires in half of these texts, so any constant answer has accuracy 0.5. A latent that fires in every text
    leaves nothing to judge, and has 0.5 as well.
    """
    explanation = judge.explain(task.shown, task.contrast)
    answers = judge.judge(explanation, task.judged) if task.judged else []
    correct = [bool(answer) == fires for answer, fires in zip(answers, task.fires, strict=True)]
    return Interpretation(
        task.latent,
        task.frequency,
        task.shown,
        explanation.text,
        sum(correct) / len(correct) if correct else CHANCE,
        len(answers),
        sum(answer is None for answer in answers),
    )
