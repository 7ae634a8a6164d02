"""`train`: a fit from Python, which leaves the folder that `sae fit` leaves; and the callbacks of every run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar

from sae_lightning import cpu_settings
from sae_lightning.callbacks import (
    Checkpoints,
    ExportSAEs,
    Interrupt,
    MetricsFile,
    Opening,
    RankWatch,
    Speed,
    ThroughputBar,
    WholeFiles,
)
from sae_lightning.checks import check_kind
from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.datamodules.norms import write_norms
from sae_lightning.evaluators import Convergence, Drift, Reconstruction, Sparsity
from sae_lightning.loggers import MemberTensorBoardLogger
from sae_lightning.messages import own_messages
from sae_lightning.runs import Run
from sae_lightning.saes import SAEModule
from sae_lightning.trainer import run_folder
from sae_lightning.verdict import write_verdict

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 1,  # an epoch of a datamodule is all of its `train_samples`
    "devices": 1,  # of several GPUs Lightning would take all, and with them a batch as many times as large
    "num_sanity_val_steps": 0,  # evaluators skip the sanity check, so it would check nothing
    "enable_model_summary": False,  # a run says itself what is trained
}


def train(
    model: SAEModule,
    data: ActivationDataModule,
    name: str = "runs",
    callbacks: Sequence[Callback] = (),
    **trainer: Any,
) -> Run:
    """Train an SAE or a panel, measure it, and return the run.

    What is measured beside explained variance, sparsity and drift, evaluators among the callbacks say. Beside
    `config.yaml`, which only a command has, the folder has every file that `sae fit` writes.

    Args:
        model: a SanityPanel, or an SAE; a lone SAE takes its freeze policy among the callbacks.
        data: activations of its width.
        name: folder of the experiment in `lightning_logs/`.
        callbacks: evaluators and others of yours; one of a kind that every run has takes its place.
        trainer: arguments of a Lightning Trainer, such as `max_epochs=2`; by default one epoch on one device.

    Returns:
        The run, with the files that it left.

    Raises:
        ValueError: if model and data do not fit together, or the arguments cannot work.
    """
    check_kind(SAEModule, "an SAE or a SanityPanel", model=model)
    check_kind(ActivationDataModule, "a datamodule, such as ActivationTensors(activations)", data=data)
    check_kind(Sequence, "a list of callbacks, such as [SeedAgreement()]", callbacks=callbacks)
    given = {f"callbacks[{number}]": callback for number, callback in enumerate(callbacks)}
    check_kind(Callback, "a callback, such as SeedAgreement()", **given)
    if data.d_in != model.width:
        raise ValueError(f"the data have d_in={data.d_in} and the model d_in={model.width}: make it with data.d_in")
    cpu_settings.silence_known_noise()
    arguments = {**TRAINER_DEFAULTS, "logger": MemberTensorBoardLogger(name=name), "plugins": [WholeFiles()], **trainer}
    added = default_callbacks(
        arguments.get("enable_progress_bar") is not False, arguments.get("enable_checkpointing") is not False
    )
    own = list(callbacks)
    own += [default for default, kind in added if not any(isinstance(callback, kind) for callback in own)]
    with own_messages():
        runner = Trainer(callbacks=own, **arguments)
    folder = run_folder(runner)
    if folder is None:
        raise ValueError("this run has no folder: leave out logger=False and fast_dev_run, or use a Trainer by itself")
    with _fast_products(), own_messages():
        runner.fit(model, datamodule=data)
    if data.massive is not None:
        write_norms(folder, data.massive)
    run = Run(folder)
    write_verdict(run)
    return run


@contextmanager
def _fast_products() -> Iterator[None]:
    """Use the fast products of this machine, and leave those of the caller's own code as they were."""
    precision = torch.get_float32_matmul_precision()
    cpu_settings.choose_products()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def default_callbacks(has_progress_bar: bool, has_checkpoints: bool) -> list[tuple[Callback, type]]:
    """Return the callbacks of every run, each with the class of which another one takes its place."""
    evaluators = [Reconstruction(), Sparsity(), Drift(), Convergence()]
    defaults: list[tuple[Callback, type]] = [(evaluator, type(evaluator)) for evaluator in evaluators]
    defaults.append((Speed(), Speed))
    if has_progress_bar:
        defaults += [(Opening(), Opening), (ThroughputBar(), ProgressBar)]
    defaults.append((MetricsFile(), MetricsFile))
    defaults.append((ExportSAEs(), ExportSAEs))
    defaults.append((RankWatch(), RankWatch))
    if has_checkpoints:
        defaults += [(Checkpoints(), ModelCheckpoint), (Interrupt(), Interrupt)]
    return defaults
