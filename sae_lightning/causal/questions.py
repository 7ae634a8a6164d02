"""Does a language model continue a prompt with an answer, also when the activation of its entity is edited?

The greedy continuation is the answer if and only if, with the answer read after the prompt, each of its tokens is the
most likely one: one forward tells, without generating.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from sae_lightning.causal.prompts import EntityPrompt
from sae_lightning.sources.tokens import TokenBatch, check_logits


@dataclass(frozen=True)
class Question:
    """Tokens of a prompt and of the answer that is looked for.

    Args:
        input_ids: [seq].
        entity_at: index of the last token of the entity.
        answer_at: index of the first token of the answer.
    """

    input_ids: Int64[Tensor, " seq"]
    entity_at: int
    answer_at: int


def read_questions(reader: Any, prompts: Sequence[EntityPrompt], answers: Sequence[str]) -> list[Question | None]:
    """The question whether each prompt is continued with its answer.

    None where none can be asked: the text is longer than the context, or a token has part of the prompt and part of
    the answer, as the model would not generate it.

    Args:
        reader: a TextReader.
        prompts: before an answer.
        answers: one for each prompt.
    """
    texts = [prompt.text + answer for prompt, answer in zip(prompts, answers, strict=True)]
    questions: list[Question | None] = []
    for prompt, text, reading in zip(prompts, texts, reader.read(texts), strict=True):
        begins, ends = reading.spans.T
        in_answer = ends > len(prompt.text)
        straddles = bool((in_answer & (begins < len(prompt.text))).any())
        if straddles or int(ends.max()) < len(text):
            questions.append(None)
            continue
        in_entity = (begins < prompt.entity_end) & (ends >= prompt.entity_end)
        last = int(in_entity.nonzero()[-1, 0])  # a letter of several tokens has several that end with it
        questions.append(Question(reading.input_ids, last, int(in_answer.nonzero()[0, 0])))
    return questions


def ask(
    source: Any, questions: Sequence[Question], edited: Float[Tensor, "n d_in"] | None = None, hook: str = ""
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Mean cross-entropy of the answer's tokens in nats, and whether each of them is the most likely one.

    Differentiable in `edited`.

    Args:
        source: a LanguageModelSource or CachedSource.
        questions: read in one batch.
        edited: what stands at the hook at the entity's last token; by default what the model has there.
        hook: name of the hook, where there are several.
    """
    batch, entity_at = _padded(questions)

    def edit(activations: Tensor) -> Tensor:
        if edited is None:
            return activations
        place = tuple(index.to(activations.device) for index in (torch.arange(len(questions)), entity_at))
        return activations.index_put(place, edited.to(activations))

    logits = source.replace(batch, edit, hook)
    check_logits(logits, batch.input_ids, "CausalEditing")
    lengths = torch.tensor([len(question.input_ids) - question.answer_at for question in questions])
    of = torch.repeat_interleave(torch.arange(len(questions)), lengths)
    at = torch.cat([torch.arange(question.answer_at, len(question.input_ids)) for question in questions])
    targets, of, at, lengths = (index.to(logits.device) for index in (batch.input_ids[of, at], of, at, lengths))
    predicted = logits[of, at - 1].float()
    losses, is_token = F.cross_entropy(predicted, targets, reduction="none"), predicted.argmax(-1) == targets
    loss = losses.new_zeros(len(questions)).index_add(0, of, losses) / lengths
    return loss, torch.zeros_like(lengths).index_add(0, of, is_token.long()) == lengths


@torch.no_grad()
def are_right(
    source: Any,
    questions: Sequence[Question],
    batch_size: int,
    edited: Callable[[Tensor], Tensor] | None = None,
    hook: str = "",
) -> Bool[Tensor, " n"]:
    """Whether each question is answered as it should be, on the CPU.

    Args:
        source: a LanguageModelSource or CachedSource.
        questions: any number.
        batch_size: how many are read at once.
        edited: given the numbers of some questions, what stands at the hook at their entities' last tokens; by default
            what the model has there.
        hook: name of the hook, where there are several.
    """
    right = torch.zeros(len(questions), dtype=torch.bool)
    for which in _by_length(questions, batch_size):
        vectors = None if edited is None else edited(which)
        right[which] = ask(source, [questions[i] for i in which], vectors, hook)[1].cpu()
    return right


@torch.no_grad()
def entity_activations(source: Any, questions: Sequence[Question], batch_size: int) -> Float[Tensor, "n d_in"]:
    """Activations float32 at the last token of each entity, of all hooks side by side, on the model's device."""
    parts, order = [], []
    for which in _by_length(questions, batch_size):
        batch, entity_at = _padded([questions[i] for i in which])
        activations, _ = source.capture(batch)
        parts.append(activations[torch.arange(len(which)), entity_at].float())
        order.append(which)
    return torch.cat(parts)[torch.cat(order).argsort()]


def _by_length(questions: Sequence[Question], batch_size: int) -> Sequence[Tensor]:
    """Numbers of questions, those of similar length together: little padding."""
    return torch.tensor([len(question.input_ids) for question in questions]).argsort(stable=True).split(batch_size)


def _padded(questions: Sequence[Question]) -> tuple[TokenBatch, Int64[Tensor, " n"]]:
    """One batch, padded at the end, where no causal model looks; and where the entities end."""
    input_ids = pad_sequence([question.input_ids for question in questions], batch_first=True)
    batch = TokenBatch(input_ids, torch.ones_like(input_ids, dtype=torch.bool))
    return batch, torch.tensor([question.entity_at for question in questions])
