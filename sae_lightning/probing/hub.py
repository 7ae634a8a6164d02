"""The eight sets of SAEBench's sparse probing (Karvonen et al. 2025, arXiv 2503.09532), read through `datasets`.

As there: five classes of most sets, the two ratings of the sentiment set, the four of AG News; professions balanced by
gender, products by rating. Departures: rows are drawn from a shuffled stream, which downloads no more than it needs,
and where a set has no test split the rows after those for training are test.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

from typing_extensions import override

from sae_lightning.probing.task import Example, ExampleSets, ProbingTask, at_most, seed_of_draw

SetName: TypeAlias = Literal[
    "bias_in_bios_1",
    "bias_in_bios_2",
    "bias_in_bios_3",
    "amazon_product",
    "amazon_sentiment",
    "github_code",
    "ag_news",
    "europarl",
]

_SEED = 42
_SHUFFLED_TOGETHER = 10_000


@dataclass(frozen=True)
class HubSet:
    """Where a set lies and which examples of it are taken.

    Args:
        dataset: name on the hub.
        text: column of the text.
        label: column of the class.
        classes: values of that column.
        balance: a column, and its values of which each class gets equally many examples; none by default.
        has_test: whether there is a test split.
        pairs: for translations, the configuration that each class is read from; the class is then the language.
    """

    dataset: str
    text: str
    label: str
    classes: tuple[Any, ...]
    balance: tuple[str, tuple[Any, ...]] | None = None
    has_test: bool = True
    pairs: tuple[str, ...] = ()


_BIOS = ("LabHC/bias_in_bios", "hard_text", "profession")
_AMAZON = ("canrager/amazon_reviews_mcauley_1and5", "text")
HUB_SETS: dict[str, HubSet] = {
    "bias_in_bios_1": HubSet(*_BIOS, (0, 1, 2, 6, 9), ("gender", (0, 1))),
    "bias_in_bios_2": HubSet(*_BIOS, (11, 13, 14, 18, 19), ("gender", (0, 1))),
    "bias_in_bios_3": HubSet(*_BIOS, (20, 21, 22, 25, 26), ("gender", (0, 1))),
    "amazon_product": HubSet(*_AMAZON, "category", (1, 2, 3, 5, 6), ("rating", (1.0, 5.0))),
    "amazon_sentiment": HubSet(*_AMAZON, "rating", (1.0, 5.0)),
    "github_code": HubSet(
        "codeparrot/github-code", "code", "language", ("C", "Python", "HTML", "Java", "PHP"), has_test=False
    ),
    "ag_news": HubSet("fancyzhx/ag_news", "text", "label", (0, 1, 2, 3)),
    "europarl": HubSet(
        "Helsinki-NLP/europarl",
        "translation",
        "language",
        ("en", "fr", "de", "es", "nl"),
        has_test=False,
        pairs=("en-fr", "fr-it", "de-en", "es-fr", "nl-pt"),
    ),
}


class SAEBenchSet(ProbingTask):
    """One of the eight sets of SAEBench; needs a network or a local copy. It has no set out of distribution.

    Args:
        name: which; the three bias_in_bios have five professions each.
        folder: local copy of the dataset's repository on the hub. Default: the hub.
    """

    def __init__(self, name: SetName, folder: str | None = None) -> None:
        if folder is not None and not Path(folder).expanduser().is_dir():
            raise ValueError(f"folder={folder}: there is no such folder; expected a copy of {HUB_SETS[name].dataset}")
        self.name, self.folder = name, folder

    @override
    def load(self, n_train: int, n_test: int, draw: int = 0) -> ExampleSets:
        if HUB_SETS[self.name].has_test:
            train, test = self._first("train", n_train, draw), self._first("test", n_test, draw)
        else:
            n_drawn, train, test = Counter[str](), [], []
            for example in self._first("train", n_train + n_test, draw):
                n_drawn[example.label] += 1
                (train if n_drawn[example.label] <= n_train else test).append(example)
        train_texts = {example.text for example in train}
        test = [example for example in test if example.text not in train_texts]
        seed = seed_of_draw(self.name, draw)
        return ExampleSets(at_most(train, n_train, seed), at_most(test, n_test, seed))

    def _first(self, split: str, n: int, draw: int) -> list[Example]:
        """Take the first n of each class in the shuffled stream, as far as it goes."""
        hub_set = HUB_SETS[self.name]
        values = hub_set.balance[1] if hub_set.balance else (None,)
        # How many examples of each class and balanced value are still to come.
        missing = {cell: n // len(values) for cell in product(hub_set.classes, values)}
        examples: dict[str, Example] = {}
        parts: list[tuple[str | None, tuple[Any, ...]]] = [(None, hub_set.classes)]
        if hub_set.pairs:
            parts = [(pair, (language,)) for pair, language in zip(hub_set.pairs, hub_set.classes, strict=True)]
        for configuration, classes in parts:
            cells = [cell for cell in missing if cell[0] in classes]
            for label, value, text in self._rows(split, configuration, classes, draw):
                if missing.get((label, value)) and text not in examples and text.strip():
                    missing[label, value] -= 1
                    examples[text] = Example.whole(text, str(label))
                    if not any(missing[cell] for cell in cells):
                        break
        return list(examples.values())

    def _rows(
        self, split: str, configuration: str | None, classes: tuple[Any, ...], draw: int
    ) -> Iterator[tuple[Any, Any, str]]:
        """Yield class, balanced value and text of each row; of a translation the text in the only language."""
        import datasets

        hub_set = HUB_SETS[self.name]
        place = str(Path(self.folder).expanduser()) if self.folder else hub_set.dataset
        try:
            stream = datasets.load_dataset(place, configuration, split=split, streaming=True)
            for row in stream.shuffle(seed=_SEED + draw, buffer_size=_SHUFFLED_TOGETHER):
                if hub_set.pairs:
                    yield classes[0], None, row[hub_set.text][classes[0]]
                else:
                    value = row[hub_set.balance[0]] if hub_set.balance else None
                    yield row[hub_set.label], value, row[hub_set.text]
        except Exception as error:  # `datasets` and what it reads with have many kinds
            lines = str(error).splitlines() or [""]
            raise ValueError(
                f"name={self.name}: `datasets` cannot read {split} of {place} ({type(error).__name__}: {lines[0]}). "
                f"Without a network give folder, a copy of the repository {hub_set.dataset}, or use LabelledFiles"
            ) from error
