"""What the accuracy of probes is made of: documents, or tasks where there are many.

Documents of a task are independent, and an interval over them is about other texts of the same tasks. It says nothing
of other tasks, between which an SAE's lead differs more than chance among texts explains. That is all there is to be
had of three tasks, and the lesser question of forty.
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sae_lightning.evaluators.scores import Items
from sae_lightning.members import Member
from sae_lightning.probing.probe import Score

MANY_TASKS = 20
"""From so many tasks on, each is an item: a t interval over fewer is wide, and they are fewer kinds of question."""


def probe_items(by_member: Mapping[Member, Sequence[Score]], documents: Mapping[int, Sequence[Hashable]]) -> Items:
    """Split the accuracy of probes by documents of all tasks together, or by tasks from `MANY_TASKS` on.

    Args:
        by_member: scores of each task.
        documents: [n_examples] by the number of each task, the document of each example.
    """
    if len(documents) < MANY_TASKS:
        return _by_document(by_member, documents)
    values = {
        member: torch.tensor([score.accuracy for score in scores], dtype=torch.float64)
        for member, scores in by_member.items()
    }
    return Items.mean(values, names=dict.fromkeys(by_member, list(documents)))


def _by_document(by_member: Mapping[Member, Sequence[Score]], documents: Mapping[int, Sequence[Hashable]]) -> Items:
    places: dict[tuple[int, Hashable], int] = {}
    numbers = [
        np.array([places.setdefault((task, name), len(places)) for name in names], dtype=np.int64)
        for task, names in documents.items()
    ]
    correct = {m: _sums([score.correct for score in scores], numbers) for m, scores in by_member.items()}
    weights = {m: _sums([score.weights for score in scores], numbers) for m, scores in by_member.items()}
    in_set = next(iter(weights.values())) > 0  # the other documents are of other sets
    names = [name for name, place in places.items() if in_set[place]]
    return Items(
        {member: sums[in_set] for member, sums in correct.items()},
        {member: sums[in_set] for member, sums in weights.items()},
        names=dict.fromkeys(by_member, names),
    )


def _sums(values: Sequence[np.ndarray], documents: Sequence[np.ndarray]) -> Tensor:
    """Sum the values of examples over each document, each task with the same weight.

    Args:
        values: [n_examples] for each task.
        documents: [n_examples] for each task, the number of the document of each example among those of all tasks.

    Returns:
        [n_documents of all tasks].
    """
    n = 1 + max(int(numbers.max()) for numbers in documents)
    sums = [np.bincount(numbers, of_task, n) for of_task, numbers in zip(values, documents, strict=True)]
    return torch.from_numpy(np.sum(sums, 0) / len(sums))
