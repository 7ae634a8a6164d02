"""A process for each impl: it builds the impl and then takes turns with the others.

A worker that waits for its turn reads from a pipe and costs nothing: the threads of its OpenMP pool spin for a few
milliseconds after a product and then sleep (9 ms of CPU time in 2 s of waiting), so OMP_WAIT_POLICY need not be set.
"""

import importlib
import logging
import multiprocessing
import os
import resource
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.peers import Task
from benchmarks.report import BenchmarkError
from sae_lightning import cpu_settings

PROFILED = 3  # steps for the stages
LABELS = ("sae::encode", "sae::select", "sae::decode", "sae::optimizer")


def resident_mb(peak: bool = False) -> float:
    """Return the resident memory of this process in MiB, now or at its peak.

    On Linux it is read from /proc, since the peak in `ru_maxrss` includes that of the process that started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    name = "VmHWM:" if peak else "VmRSS:"
    return next(float(line.split()[1]) / 2**10 for line in status.read_text().splitlines() if line.startswith(name))


class Stages:
    """Times of the stages of steps: around `Tensor.backward` by the clock, in a forward by the labels `sae::...`."""

    def __init__(self, now: Callable[[], float], cuda: bool) -> None:
        self.now, self.cuda, self.rows = now, cuda, list[tuple[float, ...]]()
        self.before = self.after = self.optimizer_done = 0.0
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the profiler writes to stderr when it starts
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
        """Record one step."""
        if self.after > started:
            done = max(self.optimizer_done, self.after) if self.optimizer_done > started else now
            self.rows.append((self.before - started, self.after - self.before, done - self.after, now - started))

    def result(self, n: int) -> dict[str, float]:
        """Return the milliseconds of a step by stage."""
        self.profiler.stop()
        torch.Tensor.backward = self.original  # type: ignore[method-assign]
        labelled: dict[str, float] = {}
        for event in self.profiler.events() or []:
            if event.name in LABELS and event.device_type == torch.autograd.DeviceType.CPU:
                spent = (event.device_time_total if self.cuda else event.cpu_time_total) / n / 1e3
                labelled[event.name] = labelled.get(event.name, 0.0) + spent
                outer = event.cpu_parent
                while outer is not None and outer.name not in LABELS:
                    outer = outer.cpu_parent
                if outer is not None:  # a stage inside another counts for the inner one alone
                    labelled[outer.name] = labelled.get(outer.name, 0.0) - spent
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
    """Clock of a worker: it times the steps of a turn, and waits between turns."""

    def __init__(self, connection: Connection, task: Task) -> None:
        self.connection, self.cuda, self.settings = connection, task.device == "cuda", task.settings
        self.stages: Stages | None = None
        self.what, self.left, self.times, self.started = "", 0, list[float](), 0.0

    @property
    def over(self) -> bool:
        """Whether no more steps are wanted."""
        return self.what == "stop"

    def now(self) -> float:
        """Return the time in seconds, once the device has done its work."""
        if self.cuda:
            torch.cuda.synchronize()
        return perf_counter()

    def ready(self, begin: Any) -> None:
        """Report how this impl starts, and wait for the first turn; what was built stays in memory, as in `sae fit`."""
        if self.settings:
            cpu_settings.keep_freed_memory()
        self.connection.send(begin)
        self._wait()

    def _wait(self) -> None:
        self.what, self.left = self.connection.recv()
        self.times = []
        self.stages = Stages(self.now, self.cuda) if self.what == "stages" else None
        self.started = self.now()

    def step_done(self) -> None:
        """End a step; after the last step of a turn wait for the next turn, which is not timed."""
        now = self.now()
        self.times.append(now - self.started)
        if self.stages:
            self.stages.step_done(self.started, now)
        self.started = now
        self.left -= 1
        if self.left == 0:
            self.connection.send(self.stages.result(len(self.times)) if self.stages else self.answer())
            self._wait()

    def answer(self) -> tuple[Any, ...]:
        """Return what is reported of a turn: the seconds of its steps and the peak of memory in MiB."""
        return self.times, torch.cuda.max_memory_allocated() / 2**20 if self.cuda else resident_mb(peak=True)


class StopStepsError(Exception):
    """Raised to leave a library's training loop when no more steps are wanted."""


Job = Callable[[Any, Connection], None]


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however that ended.

    Otherwise a worker would notice at its next report, after disturbing other measurements for minutes.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def work(connection: Connection, task: Task, job: Job) -> None:
    """Run a worker process: import, wait, build the impl and take turns; errors are sent to the script."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # keeps the output of libraries out of the results
    warnings.filterwarnings("ignore")
    try:
        if task.settings:
            cpu_settings.choose_products()
            cpu_settings.separate_large_tensors()
        if task.device == "cpu":  # beside an installed Triton sparsify would look for a GPU, when it is imported
            os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
        for module in task.modules:
            importlib.import_module(module)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        torch.optim.Adam([torch.zeros(1)])  # torch imports its compiler with the first optimizer, in every impl
        connection.send(resident_mb())
        connection.recv()  # workers import at the same time but build one after the other, which takes less memory
        job(task, connection)
    except (EOFError, KeyboardInterrupt, StopStepsError):
        pass  # the script has ended
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        connection.send(f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})")


class Worker:
    """A process that measures one impl."""

    def __init__(self, task: Task, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.task = task
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, task, job), daemon=True)
        self.process.start()
        theirs.close()
        self.times: list[float] = []
        self.import_mb = self.peak_mb = 0.0
        self.begin: Any = None

    def build(self) -> None:
        """Wait for the imports, and let the process build its impl."""
        self.import_mb = self._receive()
        self.connection.send("build")
        self.begin = self._receive()

    def _receive(self) -> Any:
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            raise BenchmarkError(
                f"{self.task.where}: the process of {self.task.impl} ended (exit code {self.process.exitcode}); "
                "if memory ran out, measure fewer impls at once with --impl"
            ) from None
        if isinstance(answer, str):
            raise BenchmarkError(f"{self.task.where}, {self.task.impl}: {answer}")
        return answer

    def turn(self, n: int, timed: bool = True) -> None:
        """Make n steps; the times of an untimed turn are not kept."""
        self.connection.send(("steps", n))
        times, self.peak_mb = self._receive()
        self.times += times if timed else []

    def stages(self) -> dict[str, float]:
        """Return milliseconds of a step by stage; the first profiled step, with the profiler's start, is dropped."""
        for n in (1, PROFILED):
            self.connection.send(("stages", n))
            stages = self._receive()
        return stages

    def stop(self) -> None:
        """End the process."""
        try:
            self.connection.send(("stop", 0))
            self.process.join(10)
        except OSError:
            pass
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
