"""Prompts about the facts that the pocket language model knows."""

from typing_extensions import override

from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts, Split
from sae_lightning.pocket.facts import check_facts_file, fact_prompts, read_facts

_TEST_EVERY = 3


class PocketFacts(EntityPrompts):
    """Country, continent, language and currency of cities, in the wordings of the pocket language model's text.

    Every third city is for testing, in the wordings that the model was not trained on; the others are for training.

    Args:
        facts: table of facts, facts.csv in the folder of the pocket language model.
    """

    def __init__(self, facts: str = "data/pocket_lm/facts.csv") -> None:
        check_facts_file(facts)
        self.facts = facts

    @override
    def prompts(self, split: Split) -> list[EntityPrompt]:
        """Return the prompts about the cities of this part."""
        facts = [fact for i, fact in enumerate(read_facts(self.facts)) if (i % _TEST_EVERY == 0) == (split == "test")]
        return [
            EntityPrompt(prompt.prompt, prompt.city, prompt.city_end, prompt.attribute, f" {prompt.answer}")
            for prompt in fact_prompts(facts, "heldout" if split == "test" else "train")
        ]
