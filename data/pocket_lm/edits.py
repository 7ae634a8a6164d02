"""Edits of one attribute inside the pocket language model, and what they do to an entity's other attributes."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sae_lightning.causal import ask_what_is_known
from sae_lightning.causal.knowledge import Answers
from sae_lightning.causal.questions import entity_activations, is_correct
from sae_lightning.causal.swaps import known_prompts
from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.pocket import PocketFacts, PocketText

TRAIN_PROMPTS, TEST_PROMPTS = 1024, 512  # of each attribute


@dataclass(frozen=True)
class EditShares:
    """What edits of one attribute do.

    Args:
        cause: share of prompts about the attribute that are then completed with the other entity's value.
        isolation: share of prompts about the other attributes that are still completed with the own value.
    """

    cause: float
    isolation: float


def mean_edits(folder: Path, tables: tuple[Path, Path], table: Path, layer: int, n_pairs: int) -> dict[str, EditShares]:
    """Edit each attribute by adding the difference between the means of two values to the residual stream.

    Means are over training entities and wordings; edited are others, at the last token of the entity's name. Values
    that no training entity has are left out.

    Args:
        folder: of the model.
        tables: cities and people, which its text is about.
        table: the one whose entities are edited.
        layer: whose output is edited, counted from 0.
        n_pairs: of base and source, of each kind, for each attribute.
    """
    text = PocketText(str(tables[0]), people=str(tables[1]))
    reader = TextReader(LanguageModelDataModule(str(folder), f"model.layers.{layer}", text))
    prompts = PocketFacts(str(table))
    train = ask_what_is_known(reader, prompts, TRAIN_PROMPTS, 0, "", "train")
    test = ask_what_is_known(reader, prompts, TEST_PROMPTS, 0, "", "test")
    pairs = known_prompts(reader, test, list(test.there), n_pairs, seed=0)
    x = entity_activations(reader.source, pairs.questions, reader.batch_size)
    shares = {}
    for attribute, means in value_means(reader, train).items():
        swaps = pairs.swaps[attribute]
        values = [test.values.get((prompt.entity, attribute), "") for prompt in pairs.prompts]
        has_mean = torch.tensor([value in means for value in values])
        mean = torch.stack([means.get(value, torch.zeros_like(x[0])) for value in values])
        edited = x[swaps.base] + mean[swaps.source] - mean[swaps.base]
        correct = is_correct(reader.source, swaps.questions, reader.batch_size, edited.__getitem__).double()
        correct[~(has_mean[swaps.base] & has_mean[swaps.source])] = torch.nan
        shares[attribute] = EditShares(
            correct[: swaps.n_cause].nanmean().item(), correct[swaps.n_cause :].nanmean().item()
        )
    return shares


def value_means(reader: TextReader, answers: Answers) -> dict[str, dict[str, Tensor]]:
    """Return the mean activation [d_in] of the entities that have a value, by attribute and value."""
    x = entity_activations(reader.source, [question for _, question in answers.known], reader.batch_size)
    means: dict[str, dict[str, Tensor]] = {}
    for attribute in answers.there:
        rows: dict[str, list[Tensor]] = defaultdict(list)
        for (prompt, _), row in zip(answers.known, x, strict=True):
            rows[answers.values[prompt.entity, attribute]].append(row)
        means[attribute] = {value: torch.stack(group).mean(0) for value, group in rows.items()}
    return means
