"""One class against the rest, with as many examples of either, and the same with control labels.

The control (Hewitt and Liang 2019, arXiv 1909.03368) gives each unit, such as a word, a label by the toss of a coin,
the same wherever the unit occurs, and keeps everything else: examples, their number, how often units occur. What a
probe scores on it, it owes to the choice among many latents and to units that it has seen before, not to the class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

SETS = ("train", "test", "ood")


@dataclass(frozen=True)
class Problem:
    """A question with two answers.

    Args:
        rows: by set, which examples it is about.
        positive: by set, which of these are positive.
    """

    rows: Mapping[str, Int64[np.ndarray, " n"]]
    positive: Mapping[str, Bool[np.ndarray, " n"]]


def one_vs_rest(labels: Sequence[str], sets: Sequence[str]) -> dict[str, Problem]:
    """Make a balanced problem for each class of the training examples; a class without test examples has none.

    Args:
        labels: class of each example.
        sets: name of the set that each example is in.
    """
    label_array, set_array = np.array(labels), np.array(sets)
    problems = {}
    for label in sorted(set(label_array[set_array == "train"])):
        rows = {name: balanced_rows(label_array, np.flatnonzero(set_array == name), label) for name in SETS}
        if len(rows["train"]) and len(rows["test"]):
            problems[str(label)] = Problem(rows, {name: label_array[each] == label for name, each in rows.items()})
    return problems


def balanced_rows(labels: np.ndarray, rows: Int64[np.ndarray, " n"], label: str) -> Int64[np.ndarray, " m"]:
    """Return rows of the class and as many others, equally many of every other class as far as they go."""
    positives = rows[labels[rows] == label]
    turns = []
    for other in np.unique(labels[rows]):
        if other != label:
            other_rows = rows[labels[rows] == other]
            turns += list(zip(range(len(other_rows)), other_rows, strict=True))
    # The other classes take turns: first the first row of each, then the second of each.
    negatives = np.array([row for _, row in sorted(turns, key=lambda turn: turn[0])], dtype=np.int64)
    n = min(len(positives), len(negatives))
    return np.sort(np.concatenate([positives[:n], negatives[:n]]))


def control(problem: Problem, units: Sequence[str], generator: np.random.Generator) -> Problem:
    """Give the same examples labels that depend on the unit alone; of the new units of each set half are positive.

    Args:
        problem: whose examples.
        units: of all examples.
        generator: tosses the coins.
    """
    coins: dict[str, bool] = {}
    positive = {}
    for name in SETS:
        row_units = [units[row] for row in problem.rows[name]]
        new = sorted(set(row_units) - set(coins))
        coins |= {new[i]: turn % 2 == 0 for turn, i in enumerate(generator.permutation(len(new)))}
        positive[name] = np.array([coins[unit] for unit in row_units], dtype=bool)
    return Problem(problem.rows, positive)
