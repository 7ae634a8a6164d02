"""What the model knows of a city, at the last token of the city's name."""

import random
from collections import defaultdict
from typing import Literal

from typing_extensions import override

from sae_lightning.pocket.city_templates import CITIES
from sae_lightning.pocket.facts import Entity, check_facts_files, fact_prompts, read_facts
from sae_lightning.pocket.library import Split
from sae_lightning.probing.task import Example, ExampleSets, ProbingTask, at_most, seed_of_draw

_MIN_CITIES = 15
_TEST_SHARE = 0.3
_WORDINGS_PER_CITY = 8
_SEED = 42


class CityAttribute(ProbingTask):
    """On which continent, or of which language, is the city just named? Classes with fewer than 15 cities are left out.

    Three tenths of the cities of each class are held out. Test has these in the wordings of training, out of
    distribution has them in wordings that neither the probe nor the pocket language model was trained on.

    Args:
        attribute: what is asked.
        facts: table of facts, facts.csv in the folder of the pocket language model.
    """

    def __init__(
        self,
        attribute: Literal["continent", "language", "country", "currency"] = "continent",
        facts: str = "data/pocket_lm/facts.csv",
    ) -> None:
        check_facts_files(facts=facts)
        self.attribute, self.facts = attribute, facts

    @override
    def load(self, n_train: int, n_test: int, draw: int = 0) -> ExampleSets:
        by_class: defaultdict[str, list[Entity]] = defaultdict(list)
        for city in read_facts(self.facts, [CITIES]):
            by_class[city.values[self.attribute]].append(city)
        known, held_out = [], []
        for label, cities in sorted(by_class.items()):
            if len(cities) >= _MIN_CITIES:
                random.Random(seed_of_draw(f"{label} {_SEED}", draw)).shuffle(cities)
                n = round(_TEST_SHARE * len(cities))
                held_out += cities[:n]
                known += cities[n:]
        return ExampleSets(
            at_most(self._examples(known, "train"), n_train, seed_of_draw("train", draw)),
            at_most(self._examples(held_out, "train"), n_test, seed_of_draw("test", draw)),
            at_most(self._examples(held_out, "heldout"), n_test, seed_of_draw("ood", draw)),
        )

    def _examples(self, cities: list[Entity], split: Split) -> list[Example]:
        """Return each city in some wordings, which end with its name."""
        labels = {city.name: city.values[self.attribute] for city in cities}
        # A dictionary for its keys: a set would put the wordings in another order each time.
        wordings: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for prompt in fact_prompts(cities, split):
            wordings[prompt.entity][prompt.prompt[: prompt.entity_end]] = None
        rng = random.Random(f"{split} {_SEED}")
        return [
            Example(text, labels[city], city, city, (len(text) - len(city), len(text)))
            for city, texts in wordings.items()
            for text in rng.sample(list(texts), min(len(texts), _WORDINGS_PER_CITY))
        ]
