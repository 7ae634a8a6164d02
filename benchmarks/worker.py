"""The work of a worker of `benchmarks.train_step`: steps of one impl on batches in memory."""

from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.peers import Task
from benchmarks.turns import Turns


def job(task: Task, connection: Connection) -> None:
    """Train until no more steps are wanted."""
    turns, data = Turns(connection, task), peers.batches(task)
    if task.impl in peers.IN_LIGHTNING:
        fit(task, turns, data)
        return
    impl = peers.CLASSES[task.name](task, peers.weights(task, data[0]))
    with torch.no_grad():
        begin = impl.begin(data[0])
    turns.ready(begin)
    n_steps = 0
    while not turns.over:
        impl.step(data[n_steps % len(data)])
        turns.step_done()
        n_steps += 1


def fit(task: Task, turns: Turns, data: list[Tensor]) -> None:
    """Train one of our SAEs, or a panel of several, as `sae fit` does."""
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

    from sae_lightning.freeze import NoFreeze
    from sae_lightning.panel import SanityPanel

    class Loader:
        def __len__(self) -> int:
            return 10**9  # with a length, so that Lightning fetches each batch only when it needs it

        def __iter__(self) -> Iterator[Tensor]:
            while True:
                yield from data

    class InMemory(LightningDataModule):
        d_in, batch_size = task.size.d_in, task.size.batch

        def train_dataloader(self) -> Loader:
            return Loader()

    class Clock(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            peers.slow_down(trainer.optimizers[0], task.lr)
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                begin = peers.our_begin(next(iter(pl_module.members.values())), data[0])
            turns.ready(begin)

        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            turns.step_done()
            trainer.should_stop = turns.over

    def optimizer_step(*args: Any, **kwargs: Any) -> None:
        type(module).optimizer_step(module, *args, **kwargs)
        if turns.stages:
            turns.stages.optimizer_done = turns.now()

    start = peers.weights(task, data[0])
    if task.members > 1 or (task.kind == "panel" and task.impl == "ours"):
        alike: dict[str, Any] = {"policies": {"trained": NoFreeze()}, "seeds": range(task.members)}
        module: Any = SanityPanel(
            task.size.d_in, lambda d_in: peers.our_sae(task, start), **(alike if task.members > 1 else {})
        )
        state = peers.our_sae(task, start).state_dict()
        for member in module.members.values():
            member.load_state_dict(state)
        del state
    else:
        module = peers.our_sae(task, start)
    del start
    module.optimizer_step = optimizer_step
    run_trainer(task, module, InMemory(), Clock())


def run_trainer(task: Task, module: Any, data: Any, clock: Any) -> None:
    """Run the Trainer of `sae fit`, with a callback that takes turns."""
    from lightning.pytorch import Trainer

    from sae_lightning.callbacks import MetricsFile, ThroughputBar
    from sae_lightning.loggers import MemberTensorBoardLogger

    trainer = Trainer(
        max_epochs=1,
        accelerator="gpu" if task.device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if task.impl == "ours_bf16" else "32-true",
        gradient_clip_val=1.0,
        logger=MemberTensorBoardLogger(save_dir=task.folder),
        callbacks=[ThroughputBar(), MetricsFile(), clock],
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data)
