"""`Probing`: logistic probes on the few latents that tell a class best, beside probes that need no SAE.

What `SparseProbing` and `AttributeProbing` have in common: the features, the references, the floor, what the scores are
averaged over. They differ in what the model reads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.distributed import all_gather_object
from sae_lightning.evaluators.base import Evaluator, Items, Scores, evaluate_across_ranks, evaluated_members
from sae_lightning.members import Member, by_part
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.probing.features import Tokens, activation_features, random_features, sae_features
from sae_lightning.probing.probe import Score, probe, top_columns
from sae_lightning.probing.problems import Problem
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.module import SAEModule

_MIN_EXAMPLES = 20

HOLDS_CONCEPT = Question(
    "probing",
    "Do a few latents hold a concept?",
    order=50,
    title="Probing",
    lead="A probe reads the few latents that tell most of a concept, and beside them directions nobody learned.",
)
SetName: TypeAlias = Literal["test", "ood"]
Probe: TypeAlias = int | Literal["reconstruction"]
"""A probe on so many latents, or one on the whole reconstruction."""

_SUFFIXES: dict[SetName, str] = {"test": "", "ood": "_ood"}
_CONTROLS = "the same probes where each word, text, city or image has a random label"
_SETS: dict[SetName, str] = {"test": "held-out examples", "ood": "examples of another kind than the training examples"}


def accuracy_metric(name: Probe, set_name: SetName) -> Metric:
    """Describe the accuracy of a probe on one set of examples."""
    suffix, where = _SUFFIXES[set_name], _SETS[set_name]
    computed = f"mean over classes, then over tasks, of the balanced accuracy on {where}"
    if name == "reconstruction":
        of_other_data = " of other data" if set_name == "ood" else ""
        return Metric(
            f"probe_reconstruction_accuracy{suffix}",
            f"Dense probe on the reconstruction{of_other_data}, accuracy",
            HOLDS_CONCEPT,
            better="higher",
            floor="guessing",
            computed=f"{computed}, of a logistic probe on all of the reconstruction",
        )
    if set_name == "test":
        label = f"Probe on the best {'single latent' if name == 1 else f'{name} latents'}, accuracy"
    else:
        label = f"Probe on {'one latent' if name == 1 else f'{name} latents'}, other data than it was fitted on"
    return Metric(
        f"probe_accuracy{suffix}_k{name}",
        label,
        HOLDS_CONCEPT,
        better="higher",
        floor=_CONTROLS,
        computed=f"{computed}, of a logistic probe on the {name} latents whose means differ most between the class "
        "and others",
        is_headline=name == 1 and set_name == "test",
    )


def auroc_metric(name: Probe, set_name: SetName) -> Metric:
    """Describe the area under the ROC curve of a probe on one set of examples.

    It has no better way, since it asks what the accuracy asks, and a verdict asks once.
    """
    suffix, where = _SUFFIXES[set_name], _SETS[set_name]
    computed = f"mean over classes, then over tasks, of the area under the ROC curve on {where}"
    if name == "reconstruction":
        of_other_data = " of other data" if set_name == "ood" else ""
        return Metric(
            f"probe_reconstruction_auroc{suffix}",
            f"Dense probe on the reconstruction{of_other_data}, auroc",
            HOLDS_CONCEPT,
            floor="guessing",
            computed=f"{computed}, of a logistic probe on all of the reconstruction",
        )
    return Metric(
        f"probe_auroc{suffix}_k{name}",
        f"Probe on {name} latents, AUROC{' on other data' if set_name == 'ood' else ''}",
        HOLDS_CONCEPT,
        floor=_CONTROLS,
        computed=f"{computed}, of a logistic probe on the {name} latents whose means differ most between the class "
        "and others",
    )


@runtime_checkable
class Task(Protocol):
    """Problems, and the activations that probes are fitted to.

    Attributes:
        problems: what probes classify.
        controls: the same with labels that say nothing.
        documents: [n_examples] where each example comes from; those of one document are not independent.
    """

    problems: list[Problem]
    controls: list[Problem]
    documents: np.ndarray

    def capture(self) -> Tokens:
        """Return activations of all examples."""
        ...


@dataclass(frozen=True)
class ProbeScores:
    """How probes on a member or a reference do on one task.

    Args:
        probes: scores by probe, then by set.
        controls: those on control labels, by number of latents; references have none.
    """

    probes: Mapping[Probe, Mapping[str, Score]]
    controls: Mapping[Probe, Mapping[str, Score]] = field(default_factory=dict)


class Probing(Evaluator):
    """An evaluator that fits probes to prepared tasks.

    Args:
        ks: how many latents a probe reads, each 1 or more.
        numbers: of examples by the name of their argument, each 20 or more.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    def __init__(self, ks: Sequence[int], numbers: Mapping[str, int], every_n_validations: int) -> None:
        super().__init__(every_n_validations)
        for k in ks:
            check_whole(1, ks=k)
        if not ks or len(set(ks)) != len(ks):
            raise ValueError(f"ks={list(ks)}: expected numbers of latents, each 1 or more and once, such as [1, 2, 5]")
        check_whole(_MIN_EXAMPLES, hint="half of them positive", **numbers)
        self.ks = ks
        self._prepared: Sequence[Task] = []

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are as many latents as a probe reads."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        d_sae = min(sae.d_sae for sae in pl_module.members.values())
        if max(self.ks) > d_sae:
            name = type(self).__name__
            raise ValueError(f"{name}: ks={list(self.ks)}: expected at most the number of latents, {d_sae}")

    @override
    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Run the model once for each task, then each SAE over its activations."""
        members = evaluated_members(trainer, module)
        results = [self._probe_all(task, module, members) for task in self._prepared]
        probes: tuple[Probe, ...] = (*self.ks, "reconstruction")
        for name in probes:
            for set_name in _SUFFIXES:
                yield from self._scores(results, name, set_name, list(members))

    def _probe_all(
        self, task: Task, module: SAEModule, members: Mapping[Member, SparseAutoencoder]
    ) -> dict[Member, ProbeScores]:
        """Probe every member and reference on one task."""
        captured = task.capture()

        def tokens_for(member: Member) -> Tokens:
            return Tokens(module.activations_for(member, captured.activations), captured.starts, captured.pooling)

        scores = evaluate_across_ranks(members, lambda member, sae: self._probe_sae(task, sae, tokens_for(member)))
        for part, members_of_part in by_part(members).items():
            first = members_of_part[0]
            references = self._probe_references(task, tokens_for(first), members[first].d_sae, module.device)
            # Those of the first rank for all: another device may round otherwise.
            for name, scores_of_reference in all_gather_object(references)[0].items():
                scores[Member(name, 0, part)] = scores_of_reference
        return scores

    def _probe_sae(self, task: Task, sae: SparseAutoencoder, tokens: Tokens) -> ProbeScores:
        latents, x_hat = sae_features(sae, tokens)
        probes: dict[Probe, Mapping[str, Score]] = {
            "reconstruction": probe(task.problems, [x_hat] * len(task.problems))
        }
        controls: dict[Probe, Mapping[str, Score]] = {}
        columns = top_columns([latents], [*task.problems, *task.controls], max(self.ks))
        for k in self.ks:
            k_columns = [columns_of_problem[:, :k] for columns_of_problem in columns]
            probes[k] = probe(task.problems, k_columns[: len(task.problems)])
            controls[k] = probe(task.controls, k_columns[len(task.problems) :])
        return ProbeScores(probes, controls)

    def _probe_references(self, task: Task, tokens: Tokens, d_sae: int, device: torch.device) -> dict[str, ProbeScores]:
        """Probe what needs no SAE: all of the activation, its best dimensions, the best of random directions."""
        x = activation_features(tokens)
        dense = probe(task.problems, [x] * len(task.problems))
        references = {"dense_probe": ProbeScores(dict.fromkeys([*self.ks, "reconstruction"], dense))}
        directions = random_dictionary(d_sae, x.shape[1]).to(device)
        candidates = {"top_dimensions": [x], "random_directions": random_features(directions, tokens)}
        for name, blocks in candidates.items():
            columns = top_columns(blocks, task.problems, max(self.ks))
            references[name] = ProbeScores(
                {
                    k: probe(task.problems, [columns_of_problem[:, :k] for columns_of_problem in columns])
                    for k in self.ks
                }
            )
        return references

    def _scores(
        self,
        results: Sequence[Mapping[Member, ProbeScores]],
        name: Probe,
        set_name: SetName,
        members: Sequence[Member],
    ) -> Iterator[Scores]:
        """Compute accuracy and AUROC of one probe on one set; nothing where no task has the set."""
        tasks = [
            (scores, task.documents)
            for scores, task in zip(results, self._prepared, strict=True)
            if scores and set_name in next(iter(scores.values())).probes[name]
        ]
        if not tasks:
            return
        by_member = {
            member: [scores[member].probes[name][set_name] for scores, _ in tasks]
            for member, first in tasks[0][0].items()
            if name in first.probes
        }
        controls = {
            part: [
                scores[member].controls.get(name, {}).get(set_name) for scores, _ in tasks for member in members_of_part
            ]
            for part, members_of_part in by_part(members).items()
        }

        def scores_of(metric: Metric, value: Callable[[Score], float], items: Items | None) -> Scores:
            means = {member: float(np.mean([value(score) for score in scores])) for member, scores in by_member.items()}
            floors = {
                part: float(np.mean([0.5 if score is None else value(score) for score in scores]))
                for part, scores in controls.items()
            }
            return Scores(metric, means, floors, items)

        items = _items_by_document(by_member, [documents for _, documents in tasks])
        yield scores_of(accuracy_metric(name, set_name), lambda score: score.accuracy, items)
        yield scores_of(auroc_metric(name, set_name), lambda score: score.auroc, None)


def _items_by_document(by_member: Mapping[Member, Sequence[Score]], documents: Sequence[np.ndarray]) -> Items:
    """Split the accuracy by documents, of all tasks together."""
    correct = {m: by_document([score.correct for score in scores], documents) for m, scores in by_member.items()}
    weights = {m: by_document([score.weights for score in scores], documents) for m, scores in by_member.items()}
    in_set = next(iter(weights.values())) > 0  # the other documents are of other sets
    return Items(
        {member: sums[in_set] for member, sums in correct.items()},
        {member: sums[in_set] for member, sums in weights.items()},
    )


def by_document(values: Sequence[np.ndarray], documents: Sequence[np.ndarray]) -> Tensor:
    """Sum the values of examples over each document, each task with the same weight.

    Args:
        values: [n_examples] for each task.
        documents: [n_examples] for each task, the number of the document of each example.

    Returns:
        [n_documents of all tasks].
    """
    sums = [np.bincount(numbers, of_task) for of_task, numbers in zip(values, documents, strict=True)]
    return torch.from_numpy(np.concatenate(sums) / len(sums))
