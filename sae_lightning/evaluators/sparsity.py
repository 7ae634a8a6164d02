"""How many latents fire on a sample, and which never do?"""

from collections.abc import Mapping

from lightning.pytorch import Trainer

from sae_lightning import metrics
from sae_lightning.evaluators.base import Evaluator, Items, Scores, log_histogram
from sae_lightning.saes.module import SAEModule, Step


class Sparsity(Evaluator):
    """Logs l0 and dead_fraction, a statement about `val_samples` activations, and draws the firing frequencies.

    The histogram is that of log10 of the frequency, over latents that fired. Floors: an SAE that does nothing has l0 0
    and only dead latents. The interval of dead_fraction is over latents.

    Args:
        every_n_validations: 1 or more; the last validation always counts.
    """

    def start(self, module: SAEModule) -> None:
        """Makes fresh metrics."""
        self._metrics = {
            member: metrics.Sparsity(sae.d_sae).to(module.device) for member, sae in module.members.items()
        }

    def update(self, steps: Mapping[str, Step]) -> None:
        """Takes in the latents of each member."""
        for member, step in steps.items():
            self._metrics[member].update(step.code)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Computes all metrics and draws the histogram."""
        sparsity = {member: metric.compute() for member, metric in self._metrics.items()}
        for member, values in sparsity.items():
            frequency = values["firing_frequency"]
            log_histogram(trainer, f"{stage}/log10_firing_frequency", member, frequency[frequency > 0].log10())
        dead = Items.mean({of: (values["firing_frequency"] == 0).double() for of, values in sparsity.items()}, False)
        shares = {of: values["dead_fraction"] for of, values in sparsity.items()}
        return {
            "l0": Scores({member: values["l0"] for member, values in sparsity.items()}, 0.0),
            "dead_fraction": Scores(shares, 1.0, "lower", dead),
        }
