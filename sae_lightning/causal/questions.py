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
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.sources.tokens import TokenBatch


@dataclass(frozen=True)
class EntityQuestion:
    """Tokens of a prompt about an entity, and of the answer that is looked for.

    Args:
        input_ids: [seq].
        entity_at: index of the last token of the entity.
        answer_at: index of the first token of the answer.
    """

    input_ids: Int64[Tensor, " seq"]
    entity_at: int
    answer_at: int


def read_questions(
    reader: TextReader, prompts: Sequence[EntityPrompt], answers: Sequence[str]
) -> list[EntityQuestion | None]:
    """Make the question whether the model continues each prompt with its answer.

    Args:
        reader: of texts.
        prompts: before an answer.
        answers: one for each prompt.

    Returns:
        A question for each prompt; None where none can be asked: the text is longer than the context, a token has part
        of the prompt and part of the answer, as the model would not generate it, or the entity ends at a position that
        is not valid (`skip_first_positions`).
    """
    texts = [prompt.text + answer for prompt, answer in zip(prompts, answers, strict=True)]
    questions: list[EntityQuestion | None] = []
    for prompt, text, reading in zip(prompts, texts, reader.read(texts), strict=True):
        begins, ends = reading.spans.T
        in_answer = ends > len(prompt.text)
        straddles = bool((in_answer & (begins < len(prompt.text))).any())
        if straddles or int(ends.max()) < len(text):
            questions.append(None)
            continue
        in_entity = (begins < prompt.entity_end) & (ends >= prompt.entity_end)
        last = int(in_entity.nonzero()[-1, 0])  # a letter of several tokens has several that end with it
        if not reading.mask[last]:
            questions.append(None)
            continue
        questions.append(EntityQuestion(reading.input_ids, last, int(in_answer.nonzero()[0, 0])))
    return questions


def ask(
    source: Any, questions: Sequence[EntityQuestion], edited: Float[Tensor, "n d_in"] | None = None, hook: str = ""
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Ask the model, with an edited activation at the last token of each entity.

    Args:
        source: a LanguageModelSource or CachedSource.
        questions: read in one batch.
        edited: what stands at the hook at the entity's last token; by default what the model has there.
        hook: name of the hook, where there are several.

    Returns:
        Mean cross-entropy of the answer's tokens in nats, differentiable in `edited`, and whether each of them is the
        most likely one.
    """
    # All tokens of all answers in one row: the question that each belongs to, and the position that predicts it.
    lengths = torch.tensor([len(question.input_ids) - question.answer_at for question in questions])
    rows = torch.repeat_interleave(torch.arange(len(questions)), lengths)
    before = torch.cat([torch.arange(question.answer_at, len(question.input_ids)) for question in questions]) - 1
    positions, place_of = before.unique(return_inverse=True)
    batch, entity_at = _padded(questions, positions)

    def edit(activations: Tensor) -> Tensor:
        if edited is None:
            return activations
        place = tuple(index.to(activations.device) for index in (torch.arange(len(questions)), entity_at))
        return activations.index_put(place, edited.to(activations))

    logits = source.replace(batch, edit, hook)
    columns = place_of if logits.shape[1] == len(positions) else before
    targets, rows, columns, lengths = (
        index.to(logits.device) for index in (batch.input_ids[rows, before + 1], rows, columns, lengths)
    )
    predicted = logits[rows, columns].float()
    losses = F.cross_entropy(predicted, targets, reduction="none")
    is_token = (predicted.argmax(-1) == targets) & ~losses.isnan()  # of numbers that are none the first is the largest
    loss = losses.new_zeros(len(questions)).index_add(0, rows, losses) / lengths
    return loss, torch.zeros_like(lengths).index_add(0, rows, is_token.long()) == lengths


@torch.no_grad()
def is_correct(
    source: Any,
    questions: Sequence[EntityQuestion],
    batch_size: int,
    edited: Callable[[Tensor], Tensor] | None = None,
    hook: str = "",
) -> Bool[Tensor, " n"]:
    """Return whether the model gives the answer that each question looks for, on the CPU.

    Args:
        source: a LanguageModelSource or CachedSource.
        questions: any number.
        batch_size: how many are read at once.
        edited: given the numbers of some questions, what stands at the hook at their entities' last tokens; by default
            what the model has there.
        hook: name of the hook, where there are several.
    """
    correct = torch.zeros(len(questions), dtype=torch.bool)
    for which in _by_length(questions, batch_size):
        vectors = None if edited is None else edited(which)
        correct[which] = ask(source, [questions[i] for i in which], vectors, hook)[1].cpu()
    return correct


@torch.no_grad()
def entity_activations(source: Any, questions: Sequence[EntityQuestion], batch_size: int) -> Float[Tensor, "n d_in"]:
    """Return float32 activations at the last token of each entity, of all hooks side by side, on the model's device."""
    return _at_entities(source, questions, batch_size)[0]


@torch.no_grad()
def can_be_edited(source: Any, questions: Sequence[EntityQuestion], batch_size: int) -> Bool[Tensor, " n"]:
    """Return whether the activation at the last token of each entity is read by SAEs, on the CPU.

    A massive one that is left out is not, and edits pass it by.
    """
    return _at_entities(source, questions, batch_size)[1].cpu()


def _at_entities(source: Any, questions: Sequence[EntityQuestion], batch_size: int) -> tuple[Tensor, Tensor]:
    parts, masks, order = [], [], []
    for which in _by_length(questions, batch_size):
        batch, entity_at = _padded([questions[i] for i in which])
        activations, mask = source.capture(batch)
        place = torch.arange(len(which)), entity_at
        parts.append(activations[place].float())
        masks.append(mask[place])
        order.append(which)
    back = torch.cat(order).argsort()
    return torch.cat(parts)[back], torch.cat(masks)[back]


def _by_length(questions: Sequence[EntityQuestion], batch_size: int) -> Sequence[Tensor]:
    """Split the numbers of questions into batches of similar length, which need little padding."""
    return torch.tensor([len(question.input_ids) for question in questions]).argsort(stable=True).split(batch_size)


def _padded(
    questions: Sequence[EntityQuestion], positions: Tensor | None = None
) -> tuple[TokenBatch, Int64[Tensor, " n"]]:
    """Return one batch, padded at the end, where no causal model looks, and where the entities end."""
    input_ids = pad_sequence([question.input_ids for question in questions], batch_first=True)
    batch = TokenBatch(input_ids, torch.ones_like(input_ids, dtype=torch.bool), positions)
    return batch, torch.tensor([question.entity_at for question in questions])
