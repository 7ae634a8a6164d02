"""Prompts to a language model that judges, and how its answers are read."""

import re
from abc import abstractmethod
from collections.abc import Sequence

from typing_extensions import override

from sae_lightning.interpretation.excerpts import Example, Excerpt
from sae_lightning.interpretation.judge import Explanation, Judge

EXPLANATION_TOKENS, ANSWER_TOKENS = 100, 10
NO_EXPLANATION = "(no explanation was given)"

_MARKED = 0.3  # of the strongest activation in any example
_ANSWER = re.compile(r"\W*(?:answer\W+)?(yes|no)\b", re.IGNORECASE)

_EXPLAIN = """\
One unit inside a language model becomes active on some tokens of a text and stays silent on others. Below are texts \
on which it was most active. The tokens that activated it stand between << and >>; after each text they are listed \
with a strength from 1 to 10.

{examples}

What do the marked tokens, or the places where they stand, have in common? Describe in one sentence of at most 25 \
words what activates this unit, so that somebody could tell from it which other texts do. Be specific, do not speak of \
"the unit", "tokens" or "texts", and answer with the sentence alone."""

_JUDGE = """\
One unit inside a language model becomes active on some tokens of a text. It is described like this:

{explanation}

Here is a piece of text, cut from a longer one:

=====
{text}
=====

Is there at least one token in this piece on which the unit becomes active? Answer with one word: yes or no."""


class PromptJudge(Judge):
    """A judge that asks a language model in words: once for each explanation, once for each text."""

    @abstractmethod
    def ask(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """Return the model's answer to each prompt, of up to max_tokens."""

    @override
    def explain(self, shown: Sequence[Example], contrast: Sequence[Excerpt]) -> Explanation:
        (answer,) = self.ask([explanation_prompt(shown)], EXPLANATION_TOKENS)
        return read_explanation(answer)

    @override
    def judge(self, explanation: Explanation, excerpts: Sequence[Excerpt]) -> list[bool | None]:
        answers = self.ask([judgement_prompt(explanation, excerpt) for excerpt in excerpts], ANSWER_TOKENS)
        return [read_judgement(answer) for answer in answers]


def explanation_prompt(shown: Sequence[Example]) -> str:
    """Write the prompt for an explanation."""
    peak = max(max(example.activations) for example in shown)
    return _EXPLAIN.format(examples="\n\n".join(_marked(i, example, peak) for i, example in enumerate(shown, 1)))


def judgement_prompt(explanation: Explanation, excerpt: Excerpt) -> str:
    """Write the question whether the latent fires in an excerpt."""
    return _JUDGE.format(explanation=explanation.text, text=excerpt.text)


def read_explanation(answer: str) -> Explanation:
    """Read an explanation: the answer on one line."""
    return Explanation(" ".join(answer.split()) or NO_EXPLANATION)


def read_judgement(answer: str) -> bool | None:
    """Read yes or no; None where it is neither.

    >>> read_judgement(" **Yes.**"), read_judgement("no, since"), read_judgement("nothing")
    (True, False, None)
    """
    match = _ANSWER.match(answer)
    return None if match is None else match[1].lower() == "yes"


def _marked(number: int, example: Example, peak: float) -> str:
    """Write an example with its strongest tokens marked and listed."""
    tokens, activations = example.excerpt.tokens, example.activations
    # The strongest token of a text is marked even where another text has stronger ones.
    least = min(_MARKED * peak, max(activations))
    marked = [(token, a) for token, a in zip(tokens, activations, strict=True) if a >= least]
    text = "".join(f"<<{token}>>" if a >= least else token for token, a in zip(tokens, activations, strict=True))
    strengths = ", ".join(f"{token!r} {max(1, round(10 * a / peak))}" for token, a in marked)
    return f"Text {number}:\n{text}\nActive: {strengths}"
