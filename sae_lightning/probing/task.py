"""`ProbingTask`: labelled examples for probes, in three sets: training, test, and test out of distribution."""

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from inspect import signature


@dataclass(frozen=True)
class Example:
    """A text, or a place in one, and its class.

    Args:
        text: what the model reads.
        label: the class.
        unit: what the example is a case of, such as the word. A control gives each unit one label of its own.
        document: where the example comes from. Examples of one document are not independent.
        span: first character of the place in the text and the one after its last; the example is the last token in
            it. None where the example is the whole text, over whose tokens is pooled.
    """

    text: str
    label: str
    unit: str
    document: str
    span: tuple[int, int] | None = None

    @classmethod
    def whole(cls, text: str, label: str) -> "Example":
        """Make an example of a whole text, which is a case of itself alone."""
        return cls(text, label, unit=text, document=text)


@dataclass(frozen=True)
class ExampleSets:
    """The examples of a task.

    Args:
        train: what probes are fitted to.
        test: other examples of the same kind.
        ood: examples of another kind with the same classes; empty where there are none.
    """

    train: list[Example]
    test: list[Example]
    ood: list[Example] = field(default_factory=list)


class ProbingTask(ABC):
    """Where labelled examples come from. A subclass keeps each argument under the argument's name."""

    @abstractmethod
    def load(self, n_train: int, n_test: int, draw: int = 0) -> ExampleSets:
        """Return examples in random order, the same each time.

        A task of your own may leave out `draw`; it then cannot be repeated with other examples (`n_repeats`).

        Args:
            n_train: training examples of one class at most.
            n_test: test examples of one class at most, and as many out of distribution.
            draw: number of the draw; another takes other examples, and splits them otherwise where the task does.

        Raises:
            ValueError: if the data are not there or not as expected.
        """

    def parts(self) -> "list[ProbingTask]":
        """Return the tasks that this one stands for: itself, unless a subclass stands for several."""
        return [self]

    def load_draw(self, n_train: int, n_test: int, draw: int) -> ExampleSets:
        """Load a draw; the first needs nothing of a task but `load(n_train, n_test)`.

        Raises:
            ValueError: if the task draws the same examples each time.
        """
        if not draw:
            return self.load(n_train, n_test)
        if "draw" not in signature(self.load).parameters:
            raise ValueError(
                f"{self} draws the same examples each time: for n_repeats above 1 its load needs a third argument, "
                "draw, the number of the draw"
            )
        return self.load(n_train, n_test, draw)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in signature(type(self)).parameters)
        return f"{type(self).__name__}({arguments})"


def seed_of_draw(seed: str, draw: int) -> str:
    """Return the seed of a draw; the first has the seed itself.

    >>> seed_of_draw("train", 0), seed_of_draw("train", 1)
    ('train', 'train, draw 1')
    """
    return f"{seed}, draw {draw}" if draw else seed


def at_most(examples: Iterable[Example], n: int, seed: str) -> list[Example]:
    """Take up to n random examples of each class, in random order."""
    shuffled = list(examples)
    random.Random(seed).shuffle(shuffled)
    taken: Counter[str] = Counter()
    kept = []
    for example in shuffled:
        if taken[example.label] < n:
            taken[example.label] += 1
            kept.append(example)
    return kept
