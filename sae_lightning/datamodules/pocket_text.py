"""The text of the pocket language model; needs no network and no files but its table of facts."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from typing_extensions import override

from sae_lightning.datamodules.text import Text


class PocketText(Text):
    """The Python standard library and sentences about world facts, as the pocket language model was trained on.

    Args:
        facts: table of facts, facts.csv in the folder of the pocket language model.
        seed: order of the documents and wording of the facts.
    """

    def __init__(self, facts: str = "data/pocket_lm/facts.csv", seed: int = 0) -> None:
        if not Path(facts).is_file():
            raise ValueError(
                f"facts={facts}: there is no such file; give facts.csv of the pocket language model's folder"
            )
        self.facts, self.seed = facts, seed

    @override
    def train(self, start: int = 0) -> Iterator[str]:
        """Training documents, without the first `start` of them."""
        from sae_lightning.sources.pocket_corpus import PocketCorpus

        return islice(PocketCorpus("train", self.facts, self.seed), start, None)

    @override
    def heldout(self) -> Iterator[str]:
        """Held-out documents."""
        from sae_lightning.sources.pocket_corpus import PocketCorpus

        return iter(PocketCorpus("heldout", self.facts, self.seed))
