"""One process for each impl: it builds the impl, then takes turns with the others when it is told to.

A worker that waits for its turn reads from a pipe and costs nothing: the threads of its OpenMP pool spin for some
milliseconds after a product and then sleep (9 ms of CPU time in 2 s of waiting), so no OMP_WAIT_POLICY is set.
"""

import importlib
import logging
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.peers import Begin, Task

LABELS = ("sae::encode", "sae::select", "sae::decode", "sae::optimizer")


def resident_mb(peak: bool = False) -> float:
    """Resident memory of this process in MiB, now or at its peak.

    The peak is `ru_maxrss`, read from where it does not include that of the process that started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    name = "VmHWM:" if peak else "VmRSS:"
    return next(float(line.split()[1]) / 2**10 for line in status.read_text().splitlines() if line.startswith(name))


class Stages:
    """Splits steps: around `Tensor.backward` by the clock, inside a forward by the labels `sae::...`."""

    def __init__(self, now: Callable[[], float], cuda: bool) -> None:
        self.now, self.cuda, self.rows = now, cuda, list[tuple[float, ...]]()
        self.before = self.after = self.optimizer_done = 0.0
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the profiler announces itself there
        activity = torch.profiler.ProfilerActivity
        self.profiler = torch.profiler.profile(activities=[activity.CPU, *([activity.CUDA] if cuda else [])])
        self.original = torch.Tensor.backward
        torch.Tensor.backward = lambda *args, **kwargs: self._backward(*args, **kwargs)  # type: ignore[method-assign]
        self.profiler.start()

    def _backward(self, *args: Any, **kwargs: Any) -> None:
        self.before = self.now()
        self.original(*args, **kwargs)
        self.after = self.now()

    def step_done(self, started: float, now: float) -> None:
        """Takes down one step."""
        if self.after > started:
            done = max(self.optimizer_done, self.after) if self.optimizer_done > started else now
            self.rows.append((self.before - started, self.after - self.before, done - self.after, now - started))

    def result(self, n: int) -> dict[str, float]:
        """Milliseconds a step, by stage."""
        self.profiler.stop()
        torch.Tensor.backward = self.original  # type: ignore[method-assign]
        labelled: dict[str, float] = {}
        for event in self.profiler.events() or []:
            if event.name in LABELS and event.device_type == torch.autograd.DeviceType.CPU:
                spent = (event.device_time_total if self.cuda else event.cpu_time_total) / n / 1e3
                labelled[event.name] = labelled.get(event.name, 0.0) + spent
                around = event.cpu_parent
                while around is not None and around.name not in LABELS:
                    around = around.cpu_parent
                if around is not None:  # a stage inside another does not count for both
                    labelled[around.name] = labelled.get(around.name, 0.0) - spent
        stages = {name.removeprefix("sae::"): labelled[name] for name in LABELS if name in labelled}
        if self.rows:
            forward, backward, optimizer, total = (1e3 * sum(row) / n for row in zip(*self.rows, strict=True))
            if stages:
                stages |= {"backward": backward, "optimizer": optimizer}
                stages["other"] = max(0.0, total - sum(stages.values()))
            else:
                stages = {"forward": forward, "backward": backward, "optimizer": optimizer}
        return {name: round(ms, 3) for name, ms in stages.items()}


class Turns:
    """Times steps when it is this worker's turn, and waits for it in between."""

    def __init__(self, connection: Connection, task: Task) -> None:
        self.connection, self.cuda = connection, task.device == "cuda"
        self.stages: Stages | None = None
        self.what, self.left, self.times, self.started = "", 0, list[float](), 0.0

    @property
    def over(self) -> bool:
        """Whether no more steps are wanted."""
        return self.what == "stop"

    def now(self) -> float:
        """Seconds, when everything asked of the device is done."""
        if self.cuda:
            torch.cuda.synchronize()
        return perf_counter()

    def ready(self, begin: Begin) -> None:
        """Tells how this impl starts and waits for the first turn."""
        self.connection.send(begin)
        self._wait()

    def _wait(self) -> None:
        self.what, self.left = self.connection.recv()
        self.times = []
        self.stages = Stages(self.now, self.cuda) if self.what == "stages" else None
        self.started = self.now()

    def step_done(self) -> None:
        """Ends a step, and after the last of a turn waits for the next turn; waiting does not count."""
        now = self.now()
        self.times.append(now - self.started)
        if self.stages:
            self.stages.step_done(self.started, now)
        self.started = now
        self.left -= 1
        if self.left == 0:
            peak = torch.cuda.max_memory_allocated() / 2**20 if self.cuda else resident_mb(peak=True)
            self.connection.send(self.stages.result(len(self.times)) if self.stages else (self.times, peak))
            self._wait()


def fit(task: Task, turns: Turns, data: list[Tensor]) -> None:
    """Trains one of our SAEs, or a panel of four, as `sae fit` would."""
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

    from sae_lightning.callbacks import MetricsFile, ThroughputBar
    from sae_lightning.loggers import MemberTensorBoardLogger
    from sae_lightning.panel import SanityPanel

    class Loader:
        def __len__(self) -> int:
            return 10**9  # sized, so that Lightning fetches a batch when it needs one

        def __iter__(self) -> Iterator[Tensor]:
            while True:
                yield from data

    class InMemory(LightningDataModule):
        d_in, batch_size = task.size.d_in, task.size.batch

        def train_dataloader(self) -> Loader:
            return Loader()

    class Clock(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            peers.slow_down(trainer.optimizers[0])
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
    if task.kind == "panel" and task.impl == "ours":
        module: Any = SanityPanel(task.size.d_in, lambda d_in: peers.our_sae(task, start))
        state = peers.our_sae(task, start).state_dict()
        for member in module.members.values():
            member.load_state_dict(state)
        del state
    else:
        module = peers.our_sae(task, start)
    del start
    module.optimizer_step = optimizer_step
    trainer = Trainer(
        max_epochs=1,
        accelerator="gpu" if task.device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if task.impl == "ours_bf16" else "32-true",
        gradient_clip_val=1.0,
        logger=MemberTensorBoardLogger(save_dir=task.folder),
        callbacks=[ThroughputBar(), MetricsFile(), Clock()],
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=InMemory())


def work(connection: Connection, task: Task) -> None:
    """The life of a worker process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print does not mix with the results
    warnings.filterwarnings("ignore")
    try:
        from sae_lightning import startup

        if task.settings:
            startup.speed_up_cpu()
        for module in peers.MODULES.get(peers.library(task.impl), ()):
            importlib.import_module(module)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        connection.send(resident_mb())
        connection.recv()  # workers import side by side but build one after the other, which takes less memory
        turns = Turns(connection, task)
        data = peers.batches(task)
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
    except (EOFError, KeyboardInterrupt):
        pass  # the script has ended
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        connection.send(f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})")
