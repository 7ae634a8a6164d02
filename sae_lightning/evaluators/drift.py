"""How far did decoder directions move from their start?"""

from collections.abc import Iterator

from lightning.pytorch import Trainer

from sae_lightning.evaluators.base import Evaluator, log_histogram
from sae_lightning.evaluators.scores import Scores
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics import cosine_to_start
from sae_lightning.saes.module import SAEModule

MOVED = Question("drift", "How far did decoder directions move from their start?", order=200)
_QUANTILES = {"median": 0.5, "q10": 0.1, "min": 0.0}
_LABELS = {"mean": "mean", "median": "median", "q10": "lowest tenth", "min": "min"}


def cosine_metric(statistic: str) -> Metric:
    """Describe one statistic of the cosines."""
    return Metric(
        f"cosine_to_start_{statistic}",
        f"Cosine of directions to their start, {_LABELS[statistic]}",
        MOVED,
        floor="directions that did not move",
        computed=f"{_LABELS[statistic]} over latents of the cosine of a decoder direction to its start",
    )


class Drift(Evaluator):
    """Log the cosine of decoder directions to their start: mean, median, lowest tenth and minimum; draw them all.

    The floor is 1, that of an untrained SAE. References have no start, and are left out.

    Args:
        every_n_validations: 1 or more; the last validation always counts.
    """

    declares = tuple(map(cosine_metric, _LABELS))
    takes_split = True
    takes_transcoders = True
    takes_crosscoders = True

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Read the parameters."""
        cosines = {
            member: sae.mesh.whole(cosine_to_start(sae.W_dec.detach(), sae.W_dec_start), everywhere=True)
            for member, sae in module.trained_members.items()
        }
        if not cosines:
            return
        for member, values in cosines.items():
            log_histogram(trainer, stage, "cosine_to_start", member, values)
        yield Scores(cosine_metric("mean"), {member: values.mean() for member, values in cosines.items()}, 1.0)
        for statistic, q in _QUANTILES.items():
            quantiles = {member: values.quantile(q) for member, values in cosines.items()}
            yield Scores(cosine_metric(statistic), quantiles, 1.0)
