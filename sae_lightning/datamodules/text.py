"""Documents to read: a training part and a held-out part that share no document."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.cutting import cut_at_spaces, first_round, piece_size


class SourceError(ValueError):
    """Text that cannot be read any further; the run ends with a checkpoint."""


class Text(ABC):
    """Training and held-out documents; both can be read again from the beginning."""

    @abstractmethod
    def train(self, start: int = 0) -> Iterator[str]:
        """Iterate over training documents, without the first `start` of them."""

    @abstractmethod
    def heldout(self) -> Iterator[str]:
        """Iterate over held-out documents."""

    def check(self) -> None:  # noqa: B027
        """Look before training for what is wrong with the two parts."""


class SplitText(Text):
    """One sequence of documents; the first and every n-th after it are held out.

    Where documents are so few that one of the two parts would have next to nothing, they are cut into pieces, and the
    first piece and every n-th after it are held out.

    Args:
        heldout_every: one document in this many is held out, at least 2.
    """

    def __init__(self, heldout_every: int) -> None:
        check_whole(2, heldout_every=heldout_every, hint="for example 20 for 5 percent")
        self.heldout_every = heldout_every
        self._piece_size: int | None = None  # 0: documents stay whole; None: not known yet

    @abstractmethod
    def documents(self, start: int = 0) -> Iterable[str]:
        """Return all documents without the first `start` of them, in the same order each time."""

    def train(self, start: int = 0) -> Iterator[str]:
        """Iterate over the documents that are not held out, without the first `start` of them."""
        rounds, rest = divmod(start, self.heldout_every - 1)
        first = rounds * self.heldout_every + rest + 1  # number 0 of each round is held out
        return (text for i, text in self._numbered(first) if i % self.heldout_every)

    def heldout(self) -> Iterator[str]:
        """Iterate over the first document and every n-th after it."""
        return (text for i, text in self._numbered(0) if not i % self.heldout_every)

    def _numbered(self, first: int) -> Iterator[tuple[int, str]]:
        """Yield documents, or pieces of them, from number `first` on."""
        if self._piece_size is None:
            documents = iter(self.documents())
            beginning = first_round(documents, self.heldout_every)
            self._piece_size = piece_size(beginning, self.heldout_every)
            if not self._piece_size and first <= len(beginning):
                yield from enumerate(chain(beginning[first:], documents), first)  # what is open is not opened again
                return
        if not self._piece_size:
            yield from enumerate(self.documents(first), first)
            return
        pieces = (piece for document in self.documents() for piece in cut_at_spaces(document, self._piece_size))
        yield from islice(enumerate(pieces), first, None)
