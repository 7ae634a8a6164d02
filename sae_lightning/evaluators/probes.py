"""`Probing`: logistic probes on the few latents that tell a class best, beside what probes tell without an SAE.

What `SparseProbing` and `AttributeProbing` have in common: the features, the references, the floor, what the scores are
averaged over. They differ in what the model reads.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from sae_lightning.distributed import all_gather_object
from sae_lightning.evaluators.base import Evaluator, Items, Scores, share_members
from sae_lightning.members import by_part
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.probing.features import Tokens, activation_features, random_features, sae_features
from sae_lightning.probing.prepared import PreparedTask
from sae_lightning.probing.prepared_images import PreparedImages
from sae_lightning.probing.probe import Score, probe, top_columns
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.module import SAEModule

Task: TypeAlias = PreparedTask | PreparedImages

ProbeScores: TypeAlias = dict[str, dict[str, Score]]
"""By probe (`k1`, `control_k1`, `reconstruction`), then by set."""

_LEAST_EXAMPLES = 20
_SUFFIXES = {"test": "", "ood": "_ood"}


class Probing(Evaluator):
    """An evaluator that fits probes to prepared tasks.

    Args:
        ks: how many latents a probe reads, each 1 or more.
        numbers: of examples by the name of their argument, each 20 or more.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    def __init__(self, ks: Sequence[int], numbers: Mapping[str, int], every_n_validations: int) -> None:
        super().__init__(every_n_validations)
        if not ks or min(ks) < 1 or len(set(ks)) != len(ks):
            raise ValueError(f"ks={list(ks)}: expected numbers of latents, each 1 or more and once, such as [1, 2, 5]")
        for name, n in numbers.items():
            if n < _LEAST_EXAMPLES:
                raise ValueError(f"{name}={n}: expected at least {_LEAST_EXAMPLES}, half of them positive")
        self.ks = ks
        self._prepared: Sequence[Task] = []

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there are as many latents as a probe reads."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        d_sae = min(sae.d_sae for sae in pl_module.members.values())
        if max(self.ks) > d_sae:
            name = type(self).__name__
            raise ValueError(f"{name}: ks={list(self.ks)}: expected at most the number of latents, {d_sae}")

    @override
    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Runs the model once for each task, then each SAE over what it gave."""
        asked = self.asked(trainer, module)
        found = [self._of_task(task, module, asked) for task in self._prepared]
        metrics: dict[str, Scores] = {}
        for of_probe in (*(f"k{k}" for k in self.ks), "reconstruction"):
            for of_set in _SUFFIXES:
                metrics |= self._metrics(found, of_probe, of_set, list(asked))
        return metrics

    def _of_task(self, task: Task, module: SAEModule, asked: Mapping[str, SparseAutoencoder]) -> dict[str, ProbeScores]:
        """By member or reference."""
        captured = task.capture()

        def read_by(member: str) -> Tokens:
            return Tokens(module.read_by(member, captured.activations), captured.starts, captured.pooling)

        found = share_members(asked, lambda member, sae: self._of_member(task, sae, read_by(member)))
        for part, members in by_part(asked).items():
            d_sae = asked[members[0]].d_sae
            of_part = self._of_references(task, read_by(members[0]), d_sae, module.device)
            found |= {reference(part, name): scores for name, scores in all_gather_object(of_part)[0].items()}
        return found

    def _of_member(self, task: Task, sae: SparseAutoencoder, tokens: Tokens) -> ProbeScores:
        latents, x_hat = sae_features(sae, tokens)
        found = {"reconstruction": probe(task.problems, [x_hat] * len(task.problems))}
        columns = top_columns([latents], [*task.problems, *task.controls], max(self.ks))
        for k in self.ks:
            of_k = [of_problem[:, :k] for of_problem in columns]
            found[f"k{k}"] = probe(task.problems, of_k[: len(task.problems)])
            found[f"control_k{k}"] = probe(task.controls, of_k[len(task.problems) :])
        return found

    def _of_references(self, task: Task, tokens: Tokens, d_sae: int, device: torch.device) -> dict[str, ProbeScores]:
        x = activation_features(tokens)
        dense = probe(task.problems, [x] * len(task.problems))
        directions = random_dictionary(d_sae, x.shape[1]).to(device)
        found: dict[str, ProbeScores] = {"dense_probe": dict.fromkeys([f"k{k}" for k in self.ks], dense)}
        found["dense_probe"]["reconstruction"] = dense
        candidates = {"top_dimensions": [x], "random_directions": random_features(directions, tokens)}
        for name, blocks in candidates.items():
            columns = top_columns(blocks, task.problems, max(self.ks))
            found[name] = {
                f"k{k}": probe(task.problems, [of_problem[:, :k] for of_problem in columns]) for k in self.ks
            }
        return found

    def _metrics(
        self, found: Sequence[Mapping[str, ProbeScores]], of_probe: str, of_set: str, members: Sequence[str]
    ) -> dict[str, Scores]:
        """Accuracy and AUROC of one probe on one set; nothing where no task has the set."""
        pairs = [
            (views, task.documents)
            for views, task in zip(found, self._prepared, strict=True)
            if views and of_set in next(iter(views.values()))[of_probe]
        ]
        if not pairs:
            return {}
        by_view = {
            view: [views[view][of_probe][of_set] for views, _ in pairs]
            for view, probes in pairs[0][0].items()
            if of_probe in probes
        }
        floors: dict[str, dict[str, float]] = {"accuracy": {}, "auroc": {}}
        for part, of_part in by_part(members).items():
            controls = [
                views[member].get(f"control_{of_probe}", {}).get(of_set) for views, _ in pairs for member in of_part
            ]
            for name, floor in floors.items():
                floor[part] = float(np.mean([0.5 if score is None else getattr(score, name) for score in controls]))
        values = {
            name: {view: float(np.mean([getattr(score, name) for score in scores])) for view, scores in by_view.items()}
            for name in floors
        }
        documents = [of_task for _, of_task in pairs]
        correct, weights = (
            {
                view: by_document([getattr(score, name) for score in scores], documents)
                for view, scores in by_view.items()
            }
            for name in ("correct", "weights")
        )
        asked = next(iter(weights.values())) > 0  # the other documents are of other sets
        items = Items(
            {view: of[asked] for view, of in correct.items()}, {view: of[asked] for view, of in weights.items()}
        )
        return {
            metric_name(of_probe, "accuracy", of_set): Scores(values["accuracy"], floors["accuracy"], "higher", items),
            # It asks what the accuracy asks, and a verdict asks once.
            metric_name(of_probe, "auroc", of_set): Scores(values["auroc"], floors["auroc"]),
        }


def by_document(of_tasks: Sequence[np.ndarray], documents: Sequence[np.ndarray]) -> Tensor:
    """[n_documents of all tasks] sums over the examples of each document, each task with the same weight."""
    sums = [np.bincount(document, values) for values, document in zip(of_tasks, documents, strict=True)]
    return torch.from_numpy(np.concatenate(sums) / len(sums))


def metric_name(of_probe: str, score: str, of_set: str) -> str:
    """`probe_accuracy_ood_k1`, `probe_reconstruction_auroc`."""
    suffix = _SUFFIXES[of_set]
    return f"probe_{score}{suffix}_{of_probe}" if of_probe[0] == "k" else f"probe_{of_probe}_{score}{suffix}"
