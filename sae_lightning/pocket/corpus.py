"""The corpus that the pocket language model was trained on: the Python standard library and facts, mixed."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from sae_lightning.pocket.facts import fact_documents, read_facts
from sae_lightning.pocket.library import Split, standard_library_documents


class PocketCorpus:
    """The documents of one split, library and facts mixed; iterating again gives the same documents.

    Args:
        split: ``"train"`` or ``"heldout"``.
        tables: Paths of the facts tables.
        seed: Sets the order of documents and the wording of facts.
        fact_share: Share of the characters that are about facts, at least 0 and below 1.
    """

    def __init__(self, split: Split, tables: Sequence[Path | str], seed: int = 0, fact_share: float = 0.55) -> None:
        if split not in ("train", "heldout"):
            raise ValueError(f"split must be 'train' or 'heldout', not {split!r}")
        if not 0 <= fact_share < 1:
            raise ValueError(f"fact_share must be at least 0 and below 1, not {fact_share}")
        self.split: Split = split
        self.entities = [entity for table in tables for entity in read_facts(table)]
        self.seed, self.fact_share = seed, fact_share

    def __iter__(self) -> Iterator[str]:
        """Yield one pass over the library, with facts in between."""
        rng = random.Random(f"{self.split} mix {self.seed}")
        facts = fact_documents(self.entities, self.split, self.seed)
        missing = 0.0  # characters about facts, until they have their share
        for document in standard_library_documents(self.split, self.seed):
            yield document
            missing += len(document) * self.fact_share / (1 - self.fact_share) * rng.uniform(0.5, 1.5)
            while missing > 0:
                yield (paragraph := next(facts))
                missing -= len(paragraph)
