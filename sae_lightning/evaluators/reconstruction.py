"""How close are reconstructions to the activations?"""

from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics import Metric

from sae_lightning.distributed import all_gather_object
from sae_lightning.evaluators.base import Evaluator, Items, Scores
from sae_lightning.metrics import CosineSimilarity, ExplainedVariance, MeanPrediction, RelativeNorm
from sae_lightning.metrics.functional import moments_merge, moments_update
from sae_lightning.saes.module import SAEModule, Step, part_of


class Reconstruction(Evaluator):
    """Logs explained_variance, fvu, cosine and relative_norm; floors are those of predicting the mean of the data.

    Where the data have null versions, also explained_variance_beyond_<null> for the SAEs of the real activations: how
    much more is explained of these than the same policy and seed explains of the null. At equal l0, as TopK and
    BatchTopK have, what is explained beyond Gaussian noise of equal mean and covariance is owed to structure beyond
    second order. Its floor is 0; it may be negative.

    Args:
        every_n_validations: 1 or more; the last validation always counts.
    """

    def start(self, module: SAEModule) -> None:
        """Makes fresh metrics."""
        self._metrics: dict[str, dict[str, Metric]] = {"explained_variance": {}, "cosine": {}, "relative_norm": {}}
        self._mean_predictions: dict[str, MeanPrediction] = {}
        self._firsts: dict[str, str] = {}
        for member, sae in module.members.items():
            if part_of(member) not in self._firsts:
                self._firsts[part_of(member)] = member
                self._mean_predictions[part_of(member)] = MeanPrediction(sae.d_in).to(module.device)
            self._metrics["explained_variance"][member] = ExplainedVariance(sae.d_in).to(module.device)
            self._metrics["cosine"][member] = CosineSimilarity().to(module.device)
            self._metrics["relative_norm"][member] = RelativeNorm().to(module.device)
        self._errors: dict[str, list[Tensor]] = {member: [] for member in module.members}
        self._moments: dict[str, list[Tensor]] = {part: [] for part in self._firsts}

    def update(self, steps: Mapping[str, Step]) -> None:
        """Takes in x and x_hat of each member; all that read one part have the same x."""
        for member, step in steps.items():
            for members in self._metrics.values():
                members[member].update(step.x, step.x_hat)
            # Of all batches so far; what each adds is told apart at the end.
            self._errors[member].append(self._metrics["explained_variance"][member].squared_error)  # type: ignore[arg-type]
        for part, member in self._firsts.items():
            self._mean_predictions[part].update(steps[member].x)
            self._moments[part].append(moments_update(steps[member].x))

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Computes all four metrics, and the differences to nulls."""
        floors = {part: metric.compute() for part, metric in self._mean_predictions.items()}
        scores = {
            name: Scores(
                {member: metric.compute() for member, metric in members.items()},
                {part: of.get(name, 0.0) for part, of in floors.items()},  # 0: explained variance
            )
            for name, members in self._metrics.items()
        }
        explained = scores["explained_variance"]
        scores["explained_variance"] = Scores(explained.members, explained.floor, "higher", self._items())
        scores["fvu"] = Scores({member: 1 - value for member, value in explained.members.items()}, 1.0)
        for null in getattr(trainer.datamodule, "null_parts", ()):  # type: ignore[attr-defined]
            beyond = {
                member: value - explained.members[f"{null}/{member}"]
                for member, value in explained.members.items()
                if not part_of(member)
            }
            scores[f"explained_variance_beyond_{null}"] = Scores(beyond, {"": 0.0}, better="higher")
        return scores

    def _items(self) -> Items:
        """Explained variance by batches, whose activations follow one another in the text."""
        errors = {of: torch.stack(sums).diff(prepend=sums[0].new_zeros(1)).cpu() for of, sums in self._errors.items()}
        moments = {part: torch.stack(of).cpu() for part, of in self._moments.items()}
        ranks = all_gather_object((errors, moments))
        deviations = {}
        for part in moments:
            of_batches = torch.cat([of_rank[part] for _, of_rank in ranks])
            mean = moments_merge(of_batches)[2:]
            deviations[part] = of_batches[:, 1] + of_batches[:, 0] * (of_batches[:, 2:] - mean).square().sum(1)
        denominators = {member: deviations[part_of(member)] for member in errors}
        return Items(
            {of: denominators[of] - torch.cat([of_rank[of] for of_rank, _ in ranks]) for of in errors}, denominators
        )
