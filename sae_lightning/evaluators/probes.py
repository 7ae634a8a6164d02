"""`Probing`: logistic probes on the few latents that tell a class best, beside probes that need no SAE.

What `SparseProbing` and `AttributeProbing` have in common: the features, the references, the floor, what the scores are
averaged over. They differ in what the model reads.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from scipy.sparse import csr_matrix
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.distributed import all_gather_object
from sae_lightning.evaluators.base import evaluate_across_ranks, evaluated_members
from sae_lightning.evaluators.probe_items import probe_items
from sae_lightning.evaluators.probed_latents import ProbedLatents, probed_latent_scores
from sae_lightning.evaluators.repeats import Repeated
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.evaluators.sizes import same_sizes
from sae_lightning.members import Member
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.probing.features import Tokens, activation_features, random_features, sae_features, scaled_by_part
from sae_lightning.probing.probe import Columns, Score, probe, top_columns
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
            floor=_CONTROLS,
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
            f"Dense probe on the reconstruction{of_other_data}, AUROC",
            HOLDS_CONCEPT,
            floor=_CONTROLS,
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
    documents: Sequence[Hashable]

    def capture(self, known: Any) -> Tokens:
        """Return activations of all examples; `known` keeps those that other draws of the task have read."""
        ...


@dataclass(frozen=True)
class ProbeScores:
    """How probes on a member or a reference do on one task.

    Args:
        probes: scores by probe, then by set.
        controls: those of the same probes on control labels.
        latents: which latents the probes on one latent read; None for a reference, or where there are no such probes.
    """

    probes: Mapping[Probe, Mapping[str, Score]]
    controls: Mapping[Probe, Mapping[str, Score]]
    latents: ProbedLatents | None = None


class Probing(Repeated):
    """An evaluator that fits probes to prepared tasks.

    Args:
        ks: how many latents a probe reads, each 1 or more.
        numbers: of examples by the name of their argument, each 20 or more.
        n_repeats: draws of examples and control labels.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    takes_split = True
    takes_transcoders = True
    takes_crosscoders = True
    declares = tuple(
        describe(probe, set_name)
        for describe in (accuracy_metric, auroc_metric)
        for set_name in _SETS
        for probe in (1, 5, "reconstruction")
    )

    def __init__(self, ks: Sequence[int], numbers: Mapping[str, int], n_repeats: int, every_n_validations: int) -> None:
        super().__init__(n_repeats, every_n_validations)
        for k in ks:
            check_whole(1, ks=k)
        if not ks or len(set(ks)) != len(ks):
            raise ValueError(f"ks={list(ks)}: expected numbers of latents, each 1 or more and once, such as [1, 2, 5]")
        check_whole(_MIN_EXAMPLES, hint="half of them positive", **numbers)
        self.ks = ks
        self._prepared: Sequence[Sequence[Task]] = []  # by task, then by draw

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are as many latents as a probe reads."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        d_sae = min(sae.d_sae for sae in pl_module.all_members.values())
        if max(self.ks) > d_sae:
            name = type(self).__name__
            raise ValueError(f"{name}: ks={list(self.ks)}: expected at most the number of latents, {d_sae}")

    @override
    def scores_by_repeat(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Iterator[Scores]]:
        """Run the model once over the texts of each task, then each SAE over the activations of each draw."""
        members = evaluated_members(trainer, module)
        # A task's activations are let go of before the next one's are read.
        results = [list(self._probe_draws(draws, module, members)) for draws in self._prepared]
        for repeat in range(self.n_repeats):
            tasks = [draws[repeat] for draws in results]
            probed = {
                member: [own for task in tasks if (own := task[member].latents) is not None] for member in members
            }
            self.latent_scores += probed_latent_scores(probed)
            yield self._scores_of(tasks, [draws[repeat] for draws in self._prepared])

    def _probe_draws(
        self, draws: Sequence[Task], module: SAEModule, members: Mapping[Member, SparseAutoencoder]
    ) -> Iterator[dict[Member, ProbeScores]]:
        known: dict[Any, Tensor] = {}
        for task in draws:
            yield self._probe_all(task, task.capture(known), module, members)

    def _probe_all(
        self, task: Task, captured: Tokens, module: SAEModule, members: Mapping[Member, SparseAutoencoder]
    ) -> dict[Member, ProbeScores]:
        """Probe every member and reference on one draw of a task."""

        def tokens_for(member: Member) -> Tokens:
            return Tokens(module.activations_for(member, captured.activations), captured.starts, captured.pooling)

        scores = evaluate_across_ranks(members, lambda member, sae: self._probe_sae(task, sae, tokens_for(member)))
        references: dict[Member, ProbeScores] = {}
        for size in same_sizes(module, members):
            own = next(sae for member, sae in members.items() if member.part == size.part)
            tokens = scaled_by_part(own, tokens_for(size.members[0]))
            if Member("dense_probe", 0, size.part) not in references:
                for name, scored in self._probe_activations(task, tokens).items():
                    references[Member(name, 0, size.part)] = scored
            blocks = random_features(
                random_dictionary(size.d_sae, tokens.activations.shape[1]).to(module.device), tokens
            )
            references[size.reference("random_directions")] = self._probe_columns(task, blocks)
        # Those of the first rank for all: another device may round otherwise.
        return scores | all_gather_object(references)[0]

    def _probe_sae(self, task: Task, sae: SparseAutoencoder, tokens: Tokens) -> ProbeScores:
        latents, x_hat = sae_features(sae, tokens)
        if np.isfinite(x_hat).all() and np.isfinite(latents.data).all():
            return self._probe_features(task, latents, x_hat)
        # Of an SAE that has diverged no probe can be fitted; a probe on constants has scores of the same form.
        constants = csr_matrix(latents.shape, dtype=np.float32), np.zeros_like(x_hat)
        scores = self._probe_features(task, *constants)
        return ProbeScores(_undefined(scores.probes), _undefined(scores.controls))

    def _probe_features(self, task: Task, latents: csr_matrix, x_hat: np.ndarray) -> ProbeScores:
        on_latents, on_all = self._probe_columns(task, [latents]), _probe_whole(task, x_hat)
        whole: Probe = "reconstruction"
        single = on_latents.probes.get(1, {}).get("test")
        return ProbeScores(
            {whole: on_all[0]} | dict(on_latents.probes),
            {whole: on_all[1]} | dict(on_latents.controls),
            None if single is None else ProbedLatents.of(latents, task.problems, single.by_problem),
        )

    def _probe_activations(self, task: Task, tokens: Tokens) -> dict[str, ProbeScores]:
        """Probe what needs no SAE and has no size: all of the activation, and its best dimensions."""
        x = activation_features(tokens)
        probes: tuple[Probe, ...] = (*self.ks, "reconstruction")
        dense, control = _probe_whole(task, x)
        return {
            "dense_probe": ProbeScores(dict.fromkeys(probes, dense), dict.fromkeys(probes, control)),
            "top_dimensions": self._probe_columns(task, [x]),
        }

    def _probe_columns(self, task: Task, blocks: Iterable[Columns]) -> ProbeScores:
        """Probe the best k of some columns, which are chosen for each problem, and anew for control labels."""
        columns = top_columns(blocks, [*task.problems, *task.controls], max(self.ks))
        n = len(task.problems)
        probes: dict[Probe, Mapping[str, Score]] = {}
        controls: dict[Probe, Mapping[str, Score]] = {}
        for k in self.ks:
            k_columns = [columns_of_problem[:, :k] for columns_of_problem in columns]
            probes[k], controls[k] = probe(task.problems, k_columns[:n]), probe(task.controls, k_columns[n:])
        return ProbeScores(probes, controls)

    def _scores_of(self, results: Sequence[Mapping[Member, ProbeScores]], prepared: Sequence[Task]) -> Iterator[Scores]:
        """Compute the scores of one repeat."""
        probes: tuple[Probe, ...] = (*self.ks, "reconstruction")
        for name in probes:
            for set_name in _SUFFIXES:
                yield from self._scores_of_probe(results, prepared, name, set_name)

    def _scores_of_probe(
        self,
        results: Sequence[Mapping[Member, ProbeScores]],
        prepared: Sequence[Task],
        name: Probe,
        set_name: SetName,
    ) -> Iterator[Scores]:
        """Compute accuracy and AUROC of one probe on one set; nothing where no task has the set."""
        tasks = {
            number: scores
            for number, scores in enumerate(results)
            if scores and set_name in next(iter(scores.values())).probes[name]
        }
        if not tasks:
            return
        members = [member for member, first in next(iter(tasks.values())).items() if name in first.probes]
        by_member = {member: [scores[member].probes[name][set_name] for scores in tasks.values()] for member in members}
        controls = {
            member: [scores[member].controls[name].get(set_name) for scores in tasks.values()] for member in members
        }

        def scores_of(metric: Metric, value: Callable[[Score], float], items: Items | None) -> Scores:
            means = {member: float(np.mean([value(score) for score in scores])) for member, scores in by_member.items()}
            floors = {
                # Labels that are the same for all examples of a set are guessed.
                member: float(np.mean([0.5 if score is None else value(score) for score in scores]))
                for member, scores in controls.items()
            }
            return Scores(metric, means, floors, items)

        items = probe_items(by_member, {number: prepared[number].documents for number in tasks})
        yield scores_of(accuracy_metric(name, set_name), lambda score: score.accuracy, items)
        yield scores_of(auroc_metric(name, set_name), lambda score: score.auroc, None)


def _probe_whole(task: Task, x: np.ndarray) -> tuple[Mapping[str, Score], Mapping[str, Score]]:
    """Return the scores of probes on all columns, and those on control labels."""
    return probe(task.problems, [x] * len(task.problems)), probe(task.controls, [x] * len(task.controls))


def _undefined(scores: Mapping[Probe, Mapping[str, Score]]) -> dict[Probe, dict[str, Score]]:
    """Return scores that are no numbers, of the same examples."""
    return {
        name: {
            set_name: replace(score, accuracy=np.nan, auroc=np.nan, correct=score.correct * np.nan)
            for set_name, score in of_sets.items()
        }
        for name, of_sets in scores.items()
    }
