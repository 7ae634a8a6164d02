"""Automatic interpretation of latents: examples, judges who explain and predict, and how well they predict."""

from sae_lightning.interpretation.chat import ChatJudge
from sae_lightning.interpretation.judge import Explanation, Judge
from sae_lightning.interpretation.lexical import LexicalJudge
from sae_lightning.interpretation.local import TransformersJudge
from sae_lightning.interpretation.scoring import Interpretation, interpret

__all__ = [
    "ChatJudge",
    "Explanation",
    "Interpretation",
    "Judge",
    "LexicalJudge",
    "TransformersJudge",
    "interpret",
]
