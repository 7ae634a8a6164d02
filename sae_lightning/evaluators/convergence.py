"""Had the training loss come to rest when the run ended?"""

from collections.abc import Iterator

from lightning.pytorch import Trainer

from sae_lightning.distributed import all_gather_object
from sae_lightning.evaluators.base import Evaluator
from sae_lightning.evaluators.scores import Scores
from sae_lightning.metric import Metric, Question
from sae_lightning.saes.module import SAEModule

CONVERGED = Question(
    "convergence",
    "Had training come to an end?",
    order=190,
    lead="By what share of itself the training loss still fell in a tenth of the run. A baseline that still learns has "
    "not shown what it can do.",
)
LOSS_FALL = Metric(
    "loss_fall",
    "Fall of the training loss in a tenth of the run",
    CONVERGED,
    computed="1 - mean training loss of a tenth of the run / that of the tenth before it, where the learning rate was "
    "last at its highest; at the end of the run where its schedule falls all along",
)


class Convergence(Evaluator):
    """Log loss_fall, by what share of itself the training loss of each member still falls in a tenth of the run.

    There is none before two tenths of the run, nor for a run whose number of steps is not known.

    Args:
        every_n_validations: 1 or more; the last validation always counts.
    """

    declares = (LOSS_FALL,)
    takes_split = True
    takes_transcoders = True
    takes_crosscoders = True

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Read the losses of training; those of the first rank speak for all."""
        falls = module.loss_curve.fall() if module.loss_curve is not None else None
        if falls is not None:
            falls = all_gather_object(falls.cpu())[0]
            yield Scores(LOSS_FALL, dict(zip(module.trained_members, falls, strict=True)), None)
