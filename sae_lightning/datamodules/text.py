"""Documents to read: a training part and a held-out part that share no document."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator


class Text(ABC):
    """Training and held-out documents; both can be read again from the beginning."""

    @abstractmethod
    def train(self) -> Iterator[str]:
        """Training documents."""

    @abstractmethod
    def heldout(self) -> Iterator[str]:
        """Held-out documents."""


class SplitText(Text):
    """One sequence of documents, of which every n-th is held out, beginning with the first.

    Args:
        heldout_every: one document in this many is held out, at least 2.
    """

    def __init__(self, heldout_every: int) -> None:
        if heldout_every < 2:
            raise ValueError(f"heldout_every={heldout_every}: expected at least 2, for example 20 for 5 percent")
        self.heldout_every = heldout_every

    @abstractmethod
    def documents(self) -> Iterable[str]:
        """All documents, in the same order each time."""

    def train(self) -> Iterator[str]:
        """The documents that are not held out."""
        return (text for i, text in enumerate(self.documents()) if i % self.heldout_every)

    def heldout(self) -> Iterator[str]:
        """The first document and every n-th after it."""
        return (text for i, text in enumerate(self.documents()) if not i % self.heldout_every)
