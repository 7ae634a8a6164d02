"""Prompts about the facts that the pocket language model knows."""

from typing_extensions import override

from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts, Split
from sae_lightning.pocket.facts import check_facts_files, fact_prompts, read_facts

_TEST_EVERY = 3


class PocketFacts(EntityPrompts):
    """What the pocket language model knows of people, or of cities, in the wordings of its training text.

    Birthplace, profession, instrument and decade of birth of invented people were drawn independently, so an edit can
    change one and leave the others alone. The country of a city decides most of its continent, language and currency.

    Every third entity is for testing, in the wordings that the model was not trained on; the others are for training.

    Args:
        facts: table of facts, people.csv or facts.csv (cities) in the folder of the pocket language model.
    """

    def __init__(self, facts: str = "data/pocket_lm/people.csv") -> None:
        check_facts_files(facts=facts)
        self.facts = facts

    @override
    def prompts(self, split: Split) -> list[EntityPrompt]:
        """Return the prompts about the entities of this part."""
        every = read_facts(self.facts)
        entities = [entity for i, entity in enumerate(every) if (i % _TEST_EVERY == 0) == (split == "test")]
        return [
            EntityPrompt(prompt.prompt, prompt.entity, prompt.entity_end, prompt.attribute, f" {prompt.answer}")
            for prompt in fact_prompts(entities, "heldout" if split == "test" else "train")
        ]
