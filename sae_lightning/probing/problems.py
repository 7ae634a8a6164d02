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
        rows: by set, which examples are asked.
        positive: by set, which of these are positive.
    """

    rows: Mapping[str, Int64[np.ndarray, " n"]]
    positive: Mapping[str, Bool[np.ndarray, " n"]]


def one_vs_rest(labels: Sequence[str], sets: Sequence[str]) -> dict[str, Problem]:
    """A balanced problem for each class of the training examples; a class without test examples has none.

    Args:
        labels: class of each example.
        sets: name of the set that each example is in.
    """
    of_label, of_set = np.array(labels), np.array(sets)
    problems = {}
    for label in sorted(set(of_label[of_set == "train"])):
        rows = {name: balanced_rows(of_label, np.flatnonzero(of_set == name), label) for name in SETS}
        if len(rows["train"]) and len(rows["test"]):
            problems[str(label)] = Problem(rows, {name: of_label[of] == label for name, of in rows.items()})
    return problems


def balanced_rows(labels: np.ndarray, rows: Int64[np.ndarray, " n"], label: str) -> Int64[np.ndarray, " m"]:
    """Rows of the class and as many others, the same number of every other class as far as they go."""
    positives = rows[labels[rows] == label]
    turns = []
    for other in np.unique(labels[rows]):
        if other != label:
            of_other = rows[labels[rows] == other]
            turns += list(zip(range(len(of_other)), of_other, strict=True))
    negatives = np.array([row for _, row in sorted(turns, key=lambda turn: turn[0])], dtype=np.int64)
    n = min(len(positives), len(negatives))
    return np.sort(np.concatenate([positives[:n], negatives[:n]]))


def control(problem: Problem, units: Sequence[str], generator: np.random.Generator) -> Problem:
    """The same examples with labels that depend on the unit alone; of the new units of each set half are positive.

    Args:
        problem: whose examples.
        units: of all examples.
        generator: tosses the coins.
    """
    coins: dict[str, bool] = {}
    positive = {}
    for name in SETS:
        of_rows = [units[row] for row in problem.rows[name]]
        new = sorted(set(of_rows) - set(coins))
        coins |= {new[at]: turn % 2 == 0 for turn, at in enumerate(generator.permutation(len(new)))}
        positive[name] = np.array([coins[unit] for unit in of_rows], dtype=bool)
    return Problem(problem.rows, positive)
