"""TensorBoard with every policy of a panel in one chart, in one colour and order.

TensorBoard draws one curve per *run folder* in the chart of a tag, lists folders by name, and gives its seven colours
to them in the order in which they were made. So the mean over seeds of ``val/fvu`` is written with that tag into a
folder a policy, ``P01_trained``, ``P02_frozen_decoder``, ..., in the order of every table and chart, and the floor into
``floor``; all of them are made before anything else. What is of one seed is in a folder of its own: with several seeds
``val/fvu/trained/1`` has the tag ``val_by_seed/fvu`` in the folder ``trained-1``, which has histograms and images, too.
What people look at first, explained variance, the recovered loss and l0, is under ``headline/``, the first group on the
screen. Names of any other form go to the run folder itself.
"""

from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from typing_extensions import override

from sae_lightning.evaluators import LossRecovered, Reconstruction, ZeroShotRecovered
from sae_lightning.evaluators.sparsity import L0
from sae_lightning.members import FLOOR, LoggedName, Member, in_order
from sae_lightning.runs.next_folder import next_number, take_next_number
from sae_lightning.saes.module import SAEModule

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HEADLINE = "headline"
"""Group of the charts that TensorBoard shows first: groups are in the order of the alphabet."""
_FIRST = {L0.name} | {
    metric.name
    for evaluator in (Reconstruction, LossRecovered, ZeroShotRecovered)
    for metric in evaluator.declares
    if metric.is_headline
}
_N_BINS = 40


class MemberTensorBoardLogger(TensorBoardLogger):
    """Write the curves of all policies of a panel into one TensorBoard chart per metric.

    Args:
        save_dir: folder of all experiments. Default: ``lightning_logs``.
        name: folder of this experiment in it. Default: ``runs``.
        version: folder of this run in that: a number ``N`` for ``version_N``, or a name. Default: the next free number.
    """

    def __init__(self, save_dir: str = "lightning_logs", name: str = "runs", version: int | str | None = None) -> None:
        super().__init__(save_dir, name=name, version=version, default_hp_metric=False)
        self._writers: dict[str, SummaryWriter] = {}
        self._folders: dict[str, str] = {}
        self._has_seeds = False

    @override
    def _get_next_version(self) -> int:
        return _number_of_run(Path(self.root_dir))

    def writer(self, folder: str | None) -> "SummaryWriter":
        """Return the writer of one curve, such as ``trained-0``, or for None that of the run; only on rank zero."""
        if folder is None:
            return self.experiment
        if folder not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[folder] = SummaryWriter(log_dir=str(Path(self.log_dir) / folder))
        return self._writers[folder]

    @override
    @rank_zero_only
    def log_graph(self, model: nn.Module, input_array: Tensor | None = None) -> None:
        """Make the folders of all policies, before anything is logged: Lightning gives its module here."""
        if isinstance(model, SAEModule):
            self._know(model.all_members)

    def _know(self, members: Iterable[Member]) -> None:
        """Give each new policy a number, and make the folders in the order of these; a resumed run has its own."""
        members = list(members)
        self._has_seeds |= any(member.seed != members[0].seed for member in members)
        for policy in in_order(member.policy for member in members):
            if policy not in self._folders:
                names = (folder.name for folder in Path(self.log_dir).glob("P*_*"))
                before = next((name for name in names if name.partition("_")[2] == policy), None)
                self._folders[policy] = before or f"P{len(self._folders) + 1:02}_{policy}"
                self.writer(self._folders[policy])
        self.writer(FLOOR)

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars: of members the mean over seeds of each policy, and each seed by itself."""
        named = {name: LoggedName.parse(name) for name in metrics}
        if members := [logged.member for logged in named.values() if logged is not None and logged.member is not None]:
            self._know(members)
        of_seeds: dict[tuple[str, str], list[float]] = {}
        for name, logged in named.items():
            if logged is None:
                chart = f"train/{name}" if name == "epoch" else name  # Lightning's; a group of its own would be first
                self.writer(None).add_scalar(chart, metrics[name], step)
            elif logged.member is None:
                self.writer(FLOOR).add_scalar(chart_of(logged), metrics[name], step)
            else:
                of_seeds.setdefault((chart_of(logged), logged.member.policy), []).append(float(metrics[name]))
                if self._has_seeds:
                    chart = f"{logged.stage}_by_seed/{logged.tag}"
                    self.writer(logged.member.folder).add_scalar(chart, metrics[name], step)
        for (chart, policy), values in of_seeds.items():
            self.writer(self._folders[policy]).add_scalar(chart, fmean(values), step)

    @rank_zero_only
    def log_histogram(self, name: LoggedName, values: Tensor, step: int) -> None:
        """Write a histogram of values of one member, in bins of one width from the least to the largest value.

        Args:
            name: name of the values and their member.
            values: tensor of any shape; what is not finite is left out.
            step: optimizer step at which they were measured.
        """
        assert name.member is not None
        if len(values := values[torch.isfinite(values)]):
            # TensorBoard's own bins grow by a tenth each: all cosines from .9 to 1 would be in one of them.
            edges = np.histogram_bin_edges(values.cpu().double().numpy(), _N_BINS)
            self.writer(name.member.folder).add_histogram(name.chart, values, step, bins=edges)

    @rank_zero_only
    def log_image(self, chart: str, member: Member | None, image: np.ndarray, step: int) -> None:
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
        for writer in (self.experiment, *self._writers.values()):
            writer.flush()

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the event files; a run that was refused before it began has none, and leaves no folder."""
        if self._experiment is None and not self._writers:
            return
        super().finalize(status)
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_writers": {}}


def chart_of(logged: LoggedName) -> str:
    """Return the tag of a chart; of what people look at first that of the headlines.

    >>> chart_of(LoggedName.parse("val/explained_variance/floor")), chart_of(LoggedName.parse("train/l0/trained/0"))
    ('headline/explained_variance', 'train/l0')
    """
    is_first = logged.stage != "train" and logged.tag.metric in _FIRST
    return f"{HEADLINE}/{logged.tag}" if is_first else logged.chart


def _number_of_run(experiment: Path) -> int:
    """Return the number of the folder of this run, which rank zero makes; other ranks are told by Lightning."""
    is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    return take_next_number(experiment) if is_first else next_number(experiment)


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
        self._experiment, self._version = Path(save_dir) / name, version

    @property
    @override
    def save_dir(self) -> str:
        """The run folder: Lightning takes it for that where a logger is not one of its own."""
        if self._version is None:
            self._version = _number_of_run(self._experiment)
        version = self._version
        return str(self._experiment / (version if isinstance(version, str) else f"version_{version}"))

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
