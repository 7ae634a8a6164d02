"""Facts that the pocket language model completes when an entity's residual stream is swapped for another's."""

import random
from collections import defaultdict
from collections.abc import Sequence

import torch
from measures import is_answer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sae_lightning.pocket.facts import Entity, FactPrompt, fact_prompts
from sae_lightning.pocket.library import Split


def entity_position(tokenizer: PreTrainedTokenizerBase, prompt: FactPrompt) -> int:
    """Return the index of the last token of the entity's name in the encoded prompt."""
    offsets = tokenizer(prompt.prompt, return_offsets_mapping=True)["offset_mapping"]
    return max(index for index, (start, end) in enumerate(offsets) if start < prompt.entity_end and end > start)


def swap_pairs(
    tokenizer: PreTrainedTokenizerBase, entities: Sequence[Entity], split: Split, number: int, seed: int
) -> list[tuple[FactPrompt, FactPrompt]]:
    """Draw pairs of prompts with the same wording, two entities and two answers: `number` for each attribute."""
    rng = random.Random(seed)
    by_wording: dict[str, dict[str, list[FactPrompt]]] = defaultdict(lambda: defaultdict(list))
    for prompt in fact_prompts(entities, split):
        by_wording[prompt.attribute][prompt.prompt.replace(prompt.entity, "{}")].append(prompt)
    pairs = []
    for groups in by_wording.values():
        wordings = list(groups.values())
        drawn = 0
        while drawn < number:
            base, source = rng.sample(rng.choice(wordings), 2)
            if base.answer != source.answer:
                pairs.append((base, source))
                drawn += 1
    return pairs


@torch.inference_mode()
def swap_share(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[FactPrompt, FactPrompt]],
    layer: int,
) -> dict[str, float]:
    """Return the share of pairs in which the source entity's residual stream gives the base prompt the source's answer.

    The residual stream is the output of the layer (counted from 0) at the last token of the entity's name.
    """
    hits: dict[str, list[bool]] = defaultdict(list)
    for base, source in pairs:
        states: list[torch.Tensor] = []
        source_ids = tokenizer(source.prompt, return_tensors="pt")["input_ids"]
        base_ids = tokenizer(base.prompt, return_tensors="pt")["input_ids"]
        source_at, base_at = entity_position(tokenizer, source), entity_position(tokenizer, base)

        def record(_module: torch.nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
            states.append(output[0, source_at].clone())  # noqa: B023 - called within this iteration only

        def swap(_module: torch.nn.Module, _inputs: tuple, output: torch.Tensor) -> torch.Tensor:
            if output.shape[1] > 1:
                output = output.clone()
                output[0, base_at] = states[0]  # noqa: B023
            return output

        block = model.get_decoder().layers[layer]
        handle = block.register_forward_hook(record)
        model(input_ids=source_ids, use_cache=False)
        handle.remove()
        handle = block.register_forward_hook(swap)
        most = len(tokenizer(f" {source.answer}")["input_ids"]) + 1
        new = model.generate(base_ids, attention_mask=torch.ones_like(base_ids), max_new_tokens=most, do_sample=False)
        handle.remove()
        text = tokenizer.decode(new[0, base_ids.shape[1] :], skip_special_tokens=True)
        hits[base.attribute].append(is_answer(text, source.answer))
    return {attribute: sum(values) / len(values) for attribute, values in hits.items()}
