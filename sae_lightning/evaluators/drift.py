"""How far did decoder directions move from their start?"""

from lightning.pytorch import Trainer

from sae_lightning.evaluators.base import Evaluator, Scores, log_histogram
from sae_lightning.metrics import cosine_to_start
from sae_lightning.saes.module import SAEModule


class Drift(Evaluator):
    """Logs the cosine of decoder directions to their start: mean, median, lowest tenth and minimum; draws them all.

    The floor is 1, that of an untrained SAE.

    Args:
        every_n_validations: 1 or more; the last validation always counts.
    """

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Reads the parameters; they are the same on every rank."""
        cosines = {
            member: cosine_to_start(sae.W_dec.detach(), sae.W_dec_start) for member, sae in module.members.items()
        }
        for member, values in cosines.items():
            log_histogram(trainer, f"{stage}/cosine_to_start", member, values)
        quantiles = {"cosine_to_start_median": 0.5, "cosine_to_start_q10": 0.1, "cosine_to_start_min": 0.0}
        return {
            "cosine_to_start_mean": Scores({member: values.mean() for member, values in cosines.items()}, 1.0),
            **{
                name: Scores({member: values.quantile(q) for member, values in cosines.items()}, 1.0)
                for name, q in quantiles.items()
            },
        }
