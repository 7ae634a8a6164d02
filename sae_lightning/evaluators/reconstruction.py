"""How close are reconstructions to the activations?"""

from collections.abc import Mapping

from lightning.pytorch import Trainer
from torchmetrics import Metric

from sae_lightning.evaluators.base import Evaluator, Scores
from sae_lightning.metrics import CosineSimilarity, ExplainedVariance, MeanPrediction, RelativeNorm
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

    def update(self, steps: Mapping[str, Step]) -> None:
        """Takes in x and x_hat of each member; all that read one part have the same x."""
        for members in self._metrics.values():
            for member, step in steps.items():
                members[member].update(step.x, step.x_hat)
        for part, member in self._firsts.items():
            self._mean_predictions[part].update(steps[member].x)

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
        explained = scores["explained_variance"].members
        scores["fvu"] = Scores({member: 1 - value for member, value in explained.items()}, 1.0)
        for null in getattr(trainer.datamodule, "null_parts", ()):  # type: ignore[attr-defined]
            beyond = {
                member: value - explained[f"{null}/{member}"]
                for member, value in explained.items()
                if not part_of(member)
            }
            scores[f"explained_variance_beyond_{null}"] = Scores(beyond, {"": 0.0}, better="higher")
        return scores
