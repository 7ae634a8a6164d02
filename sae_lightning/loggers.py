"""TensorBoard with every member of a panel in one chart.

TensorBoard draws one curve per *run folder* in the chart of a tag. So ``val/fvu/trained/0`` is written with the tag
``val/fvu`` into the folder ``trained-0`` of the run, and ``val/fvu/floor`` into its folder ``floor``; names of any
other form go to the run folder itself. The chart ``val/fvu`` then shows all members and the floor in a colour each.
"""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from typing_extensions import override

from sae_lightning.members import LoggedName, Member

if TYPE_CHECKING:
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter


class MemberTensorBoardLogger(TensorBoardLogger):
    """Write the curves of all members of a panel into one TensorBoard chart per metric.

    Args:
        save_dir: folder of all experiments. Default: ``lightning_logs``.
        name: folder of this experiment in it. Default: ``runs``.
        version: folder of this run in that: a number ``N`` for ``version_N``, or a name. Default: the next free number.
    """

    def __init__(self, save_dir: str = "lightning_logs", name: str = "runs", version: int | str | None = None) -> None:
        super().__init__(save_dir, name=name, version=version, default_hp_metric=False)
        self._curve_writers: dict[str, SummaryWriter] = {}

    def writer(self, curve: str | None) -> "SummaryWriter":
        """Return the writer of one curve, such as ``trained-0``, or for None that of the run; only on rank zero."""
        if curve is None:
            return self.experiment
        if curve not in self._curve_writers:
            from torch.utils.tensorboard import SummaryWriter

            self._curve_writers[curve] = SummaryWriter(log_dir=str(Path(self.log_dir) / curve))
        return self._curve_writers[curve]

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars, each into the curve of its name."""
        for name, value in metrics.items():
            logged = LoggedName.parse(name)
            chart, curve = (name, None) if logged is None else (logged.chart, logged.folder)
            self.writer(curve).add_scalar(chart, value, step)

    @rank_zero_only
    def log_histogram(self, name: LoggedName, values: Tensor, step: int) -> None:
        """Write a histogram of values of one member.

        Args:
            name: name of the values and their member.
            values: tensor of any shape; what is not finite is left out.
            step: optimizer step at which they were measured.
        """
        if len(values := values[torch.isfinite(values)]):
            self.writer(name.folder).add_histogram(name.chart, values, step)

    @rank_zero_only
    def log_image(self, chart: str, member: Member | None, image: "np.ndarray", step: int) -> None:
        """Write an image of one member, or of the run.

        Args:
            chart: name of the image, such as ``val/latent_pictures``.
            member: member that the image shows; None for an image of the run.
            image: [height, width, 3] from 0 to 255.
            step: optimizer step at which it was made.
        """
        self.writer(None if member is None else member.folder).add_image(chart, image, step, dataformats="HWC")

    @override
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Write nothing: ``config.yaml`` of the run holds every setting."""

    @override
    @rank_zero_only
    def save(self) -> None:
        """Flush the event files, so that TensorBoard shows everything logged so far."""
        for writer in (self.experiment, *self._curve_writers.values()):
            writer.flush()

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the event files; a run that was refused before it began has none, and leaves no folder."""
        if self._experiment is None and not self._curve_writers:
            return
        super().finalize(status)
        for writer in self._curve_writers.values():
            writer.close()
        self._curve_writers.clear()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_curve_writers": {}}


class RunFolder(Logger):
    """The folder of a run that writes no curves, or leaves them to a logger without folders of its own.

    ``sae fit`` puts it first where ``trainer.logger`` is false, or does not say by itself where a run lies.

    Args:
        save_dir: folder of all experiments. Default: ``lightning_logs``.
        name: folder of this experiment in it. Default: ``runs``.
        version: folder of this run in that: a number ``N`` for ``version_N``, or a name. Default: the next free number.
    """

    def __init__(self, save_dir: str = "lightning_logs", name: str = "runs", version: int | str | None = None) -> None:
        super().__init__()
        experiment = Path(save_dir) / name
        if version is None:
            numbers = [path.name.removeprefix("version_") for path in experiment.glob("version_*")]
            version = max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1
        self._folder = experiment / (version if isinstance(version, str) else f"version_{version}")

    @property
    @override
    def save_dir(self) -> str:
        """The run folder: Lightning takes it for that where a logger is not one of its own."""
        return str(self._folder)

    @property
    @override
    def name(self) -> str:
        return ""

    @property
    @override
    def version(self) -> str:
        return ""

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write nothing."""

    @override
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Write nothing."""
