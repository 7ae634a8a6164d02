"""A model that knows two attributes of each entity, in dimensions of their own, and answers by them."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import one_hot
from transformers import PreTrainedTokenizerFast

from sae_lightning.causal import EntityPrompt, EntityPrompts
from sae_lightning.datamodules.packing import Packing
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.sources import ActivationSource

N_ENTITIES, N_VALUES, D_IN = 36, 3, 6
ENTITIES = [f"e{i}" for i in range(N_ENTITIES)]
VALUES = {"country": [i % 3 for i in range(N_ENTITIES)], "language": [i // 3 % 3 for i in range(N_ENTITIES)]}
WORDS = ["<s>", "the", "of", "is", "country", "language", "country0", "country1", "country2"]
WORDS += ["language0", "language1", "language2", *ENTITIES]


class ToyPrompts(EntityPrompts):
    """Half of the entities for each part, two wordings for each attribute."""

    def __init__(self, attributes=("country", "language")):
        self.attributes = attributes

    def prompts(self, split):
        half = range(N_ENTITIES // 2) if split == "train" else range(N_ENTITIES // 2, N_ENTITIES)
        return [
            prompt(wording, i, attribute)
            for attribute in self.attributes
            for wording in ("{} {} is", "the {1} of {0} is")
            for i in half
        ]


def prompt(wording, i, attribute):
    text = wording.format(ENTITIES[i], attribute)
    end = text.index(ENTITIES[i]) + len(ENTITIES[i])
    return EntityPrompt(text, ENTITIES[i], end, attribute, f" {attribute}{VALUES[attribute][i]}")


class ToySource(ActivationSource):
    """At the hook an entity is a one of three for each attribute; above it, what was seen so far is the answer."""

    device = torch.device("cpu")
    d_in, is_language_model, no_next_token = D_IN, True, ""

    def __init__(self, knows=True):
        self.table = torch.zeros(len(WORDS), D_IN)
        for i, entity in enumerate(ENTITIES):
            values = torch.tensor([VALUES["country"][i], VALUES["language"][i]])
            self.table[WORDS.index(entity)] = one_hot(values, N_VALUES).flatten().float() * (1 if knows else -1)
        self.hooks = []

    def capture(self, inputs):
        return self.table[inputs.input_ids], inputs.mask

    def replace(self, inputs, edit, hook=""):
        self.hooks.append(hook)
        seen = edit(self.table[inputs.input_ids]).cumsum(1)
        about_country = (inputs.input_ids == WORDS.index("country")).any(1)[:, None, None]
        zeros = torch.zeros_like(seen[..., :N_VALUES])
        answers = torch.where(
            about_country, torch.cat([seen[..., :3], zeros], -1), torch.cat([zeros, seen[..., 3:]], -1)
        )
        first = WORDS.index("country0")
        before, after = (seen.new_zeros(*seen.shape[:2], n) for n in (first, len(WORDS) - first - 6))
        return torch.cat([before, 5 * answers, after], -1)


class ToyData:
    """What `TextReader` wants of a datamodule."""

    def __init__(self, context_length=16, **source):
        vocab = {word: i for i, word in enumerate(WORDS)}
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<s>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.packing = Packing(PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>"), context_length)
        self.source, self.llm_batch_size, self.d_in = ToySource(**source), 16, D_IN

    @property
    def reader(self):
        return TextReader(self)
