"""How many latents fire on a sample, and which never do?"""

from collections.abc import Iterator, Mapping

from lightning.pytorch import Trainer

from sae_lightning import metrics
from sae_lightning.evaluators.base import Evaluator, log_histogram
from sae_lightning.evaluators.reconstruction import EXPLAINS
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.members import Member
from sae_lightning.metric import Metric
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.step import Step

_FLOOR = "no latent fires"
L0 = Metric(
    "l0",
    "Active latents a sample",
    EXPLAINS,
    unit="latents",
    floor=_FLOOR,
    computed="mean number of latents of a sample that are not zero",
)
DEAD_FRACTION = Metric(
    "dead_fraction",
    "Dead latents",
    EXPLAINS,
    better="lower",
    floor=_FLOOR,
    computed="share of latents that fire on none of the held-out samples",
)


class Sparsity(Evaluator):
    """Log l0 and dead_fraction, a statement about `val_samples` activations, and draw the firing frequencies.

    The histogram is that of log10 of the frequency, over latents that fired. Floors: an SAE that does nothing has l0 0
    and only dead latents. The interval of dead_fraction is over latents.

    Args:
        every_n_validations: 1 or more; the last validation always counts.
    """

    declares = (L0, DEAD_FRACTION)
    takes_split = True
    takes_transcoders = True
    takes_crosscoders = True

    def start(self, module: SAEModule) -> None:
        """Make fresh metrics."""
        self._metrics = {
            member: metrics.Sparsity(sae.d_sae).to(module.device) for member, sae in module.members.items()
        }

    def update(self, steps: Mapping[Member, Step]) -> None:
        """Take in the latents of each member."""
        for member, step in steps.items():
            self._metrics[member].update(step.code)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Compute both metrics and draw the histogram."""
        sparsity = {member: metric.compute() for member, metric in self._metrics.items()}
        for member, values in sparsity.items():
            # torchmetrics returns the frequency of one latent as a number.
            frequency = values["firing_frequency"] = values["firing_frequency"].reshape(-1)
            log_histogram(trainer, stage, "log10_firing_frequency", member, frequency[frequency > 0].log10())
        yield Scores(L0, {member: values["l0"] for member, values in sparsity.items()}, 0.0)
        # A control without latents has one that writes nothing, of which no share is dead.
        with_latents = {member: values for member, values in sparsity.items() if module.members[member].W_dec.any()}
        dead = {member: (values["firing_frequency"] == 0).double() for member, values in with_latents.items()}
        shares = {member: values["dead_fraction"] for member, values in with_latents.items()}
        yield Scores(DEAD_FRACTION, shares, 1.0, Items.mean(dead, paired=False))
