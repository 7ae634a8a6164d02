"""TensorBoard with every member of a panel in one chart.

TensorBoard draws one curve per *run folder* in the chart of a tag. So ``val/fvu/trained/0`` is written with the tag
``val/fvu`` into the folder ``trained-0`` of the run, ``val/fvu/floor`` into its folder ``floor``; names of any other
form go to the run folder itself. The chart ``val/fvu`` then holds all members and the floor, a colour each.
"""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from typing_extensions import override

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch import Trainer
    from torch.utils.tensorboard import SummaryWriter

STAGES = ("train", "val", "test")


def split_member(name: str) -> tuple[str, str | None]:
    """Split a logged name into the chart and the curve in it.

    Args:
        name: ``<stage>/<metric>/<policy>/<seed>``, ``<stage>/<metric>/floor``, or anything else.

    Returns:
        The tag of the chart, and the folder of the curve or None for the run itself.

    >>> split_member("val/fvu/trained/0")
    ('val/fvu', 'trained-0')
    >>> split_member("val/fvu/floor")
    ('val/fvu', 'floor')
    >>> split_member("train/learning_rate")
    ('train/learning_rate', None)
    """
    match name.split("/"):
        case [stage, metric, policy, seed] if stage in STAGES:
            return f"{stage}/{metric}", f"{policy}-{seed}"
        case [stage, metric, "floor"] if stage in STAGES:
            return f"{stage}/{metric}", "floor"
    return name, None


def run_folder(trainer: "Trainer") -> Path | None:
    """Return the folder of this run, or None when it keeps no files (no logger, or a fast development run).

    Every rank has to ask, since the answer is broadcast from the first.
    """
    if not trainer.loggers or getattr(trainer, "fast_dev_run", False):
        return None
    return Path(trainer.log_dir) if trainer.log_dir else None


class MemberTensorBoardLogger(TensorBoardLogger):
    """Write the curves of all members of a panel into one TensorBoard chart per metric.

    Args:
        save_dir: folder of all runs. Default: ``lightning_logs``.
        name: folder of this experiment in it. Default: ``runs``.
        version: folder of this run in that: a number ``N`` for ``version_N``, or a name. Default: the next free number.
    """

    def __init__(self, save_dir: str = "lightning_logs", name: str = "runs", version: int | str | None = None) -> None:
        super().__init__(save_dir, name=name, version=version, default_hp_metric=False)
        self._member_writers: dict[str, SummaryWriter] = {}

    def writer(self, member: str | None) -> "SummaryWriter":
        """Return the event file of one curve, such as ``trained-0``; None is the run's own. Only on rank zero."""
        if member is None:
            return self.experiment
        if member not in self._member_writers:
            from torch.utils.tensorboard import SummaryWriter

            self._member_writers[member] = SummaryWriter(log_dir=str(Path(self.log_dir) / member))
        return self._member_writers[member]

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars, each into the curve that its name asks for."""
        for name, value in metrics.items():
            tag, member = split_member(name)
            self.writer(member).add_scalar(tag, value, step)

    @rank_zero_only
    def log_histogram(self, name: str, member: str, values: Tensor, step: int) -> None:
        """Write the distribution of some values of one member.

        Args:
            name: the chart, such as ``val/firing_frequency``.
            member: ``<policy>/<seed>``.
            values: tensor of any shape, finite.
            step: the optimizer step they were measured at.
        """
        self.writer(member.replace("/", "-")).add_histogram(name, values, step)

    @rank_zero_only
    def log_image(self, name: str, member: str | None, image: "np.ndarray", step: int) -> None:
        """Write a picture of one member, or of the run.

        Args:
            name: the chart, such as ``val/latent_pictures``.
            member: ``<policy>/<seed>``; None for the run.
            image: [height, width, 3] from 0 to 255.
            step: the optimizer step it belongs to.
        """
        self.writer(member and member.replace("/", "-")).add_image(name, image, step, dataformats="HWC")

    @override
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Write nothing: ``config.yaml`` of the run holds every setting."""

    @override
    @rank_zero_only
    def save(self) -> None:
        """Flush what was logged, so that TensorBoard shows it now."""
        for writer in (self.experiment, *self._member_writers.values()):
            writer.flush()

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the event files."""
        super().finalize(status)
        for writer in self._member_writers.values():
            writer.close()
        self._member_writers.clear()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_member_writers": {}}
