"""Stop when another rank is gone, instead of waiting for it in a collective.

If a rank was killed, froze, or failed between two collectives, the others wait for it until the process group times
out, by Lightning's default after 30 minutes. A thread that is blocked there cannot be interrupted. So each rank writes
a heartbeat into the process group's key-value store, over a connection and from a thread of its own, and reads the
others'.
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed import TCPStore
from typing_extensions import override

from sae_lightning.checks import check_above
from sae_lightning.distributed import Ranks, world_size
from sae_lightning.trainer import run_folder

CONNECTION_LOST = ("Connection", "Broken pipe", "NCCL")
"""Words in the error that a collective raises when another rank is gone."""
GRACE_S = 5.0
"""Seconds for a failed rank to print its error before the others end, and with them the failed rank."""
SAVING = 4
"""How many times longer a rank may be silent while it saves a checkpoint: when Python copies, no other thread runs."""


class RankWatch(Callback):
    """Stop this rank with a message and exit code 1 when another one has failed, was killed or is frozen.

    Only whole processes are watched: a slow rank (in a long validation or checkpoint) keeps beating. The watch lasts
    from `setup`, once all ranks have begun, to `teardown`. With one process it does nothing.

    Args:
        timeout_s: seconds without a heartbeat after which a rank counts as gone. Default: 30.
    """

    def __init__(self, timeout_s: float = 30.0) -> None:
        check_above(0, timeout_s=timeout_s, hint="seconds, such as 30")
        self.timeout_s = timeout_s
        self._heartbeat: Heartbeat | None = None
        self._rank = 0
        self._run: Path | None = None
        self._launcher: Any = None
        self._has_reported = False

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if world_size(Ranks.ALL) == 1:
            return
        self._rank = trainer.global_rank
        self._run = run_folder(trainer) if stage == "fit" else None
        self._launcher = trainer.strategy.launcher
        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=self.timeout_s),
        )
        keys = trainer.strategy.broadcast(uuid.uuid4().hex)  # a store outlives a fit, and under torchrun a restart
        children = [child for child in getattr(self._launcher, "procs", []) if isinstance(child, subprocess.Popen)]
        self._heartbeat = Heartbeat(
            store, keys, self._rank, world_size(Ranks.ALL), self.timeout_s, self._give_up, children
        )
        self._heartbeat.start()

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return nothing: Lightning asks for it as it begins a checkpoint, before ranks gather their buffers."""
        if self._heartbeat is not None:
            self._heartbeat.saving = True
        return {}

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._heartbeat is not None:
            self._heartbeat.saving = False

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._heartbeat is not None:
            trainer.strategy.barrier("rank_watch")  # a rank that ends first would look like one that died
            self._heartbeat.stop()
            self._heartbeat = None

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._heartbeat is None:
            return
        # After an interruption all ranks stop together by a SystemExit, which is no failure.
        failure = None if isinstance(exception, SystemExit) else f"{type(exception).__name__}: {exception}"
        failed = self._heartbeat.stop(failure)
        self._heartbeat = None
        if isinstance(exception, RuntimeError) and any(sign in str(exception) for sign in CONNECTION_LOST):
            self._report(failed or "its connection to another rank broke: that rank was killed, or its machine is gone")

    def _report(self, reason: str) -> None:
        if not self._has_reported:
            self._has_reported = True
            sys.stderr.write(f"\n{describe_rank(self._rank, make_beat())} stops: {reason}\n{how_to_resume(self._run)}")
            sys.stderr.flush()

    def _give_up(self, reason: str, grace_s: float) -> None:
        self._report(reason)
        time.sleep(grace_s)
        if self._launcher is not None:
            with suppress(Exception):  # nothing may keep this process from ending
                self._launcher.kill(signal.SIGKILL)  # a frozen child of Lightning's launcher would stay forever
        os._exit(1)


class Heartbeat:
    """The heartbeat of one rank, which also listens to those of the others.

    Time is counted in beats of this rank, so that no rank seems lost when all were suspended together. `lost` is called
    from a thread other than the main one.

    Args:
        store: connection to the store of the process group, used by nothing else.
        name: prefix of the keys of this group of ranks, the same on all of them.
        rank: number of this process.
        n_ranks: number of processes.
        timeout_s: seconds without a beat after which a rank counts as gone.
        lost: called when a rank is gone, with the reason and the seconds to wait while it prints its error.
        children: processes of ranks that this one has started; Lightning kills this one soon after one of them dies.

    Attributes:
        saving: whether this rank is saving a checkpoint; the others then wait longer.
    """

    def __init__(
        self,
        store: TCPStore,
        name: str,
        rank: int,
        n_ranks: int,
        timeout_s: float,
        lost: Callable[[str, float], None],
        children: Sequence[subprocess.Popen] = (),
    ) -> None:
        self._store, self._keys, self._rank = store, [f"{name}/{rank}" for rank in range(n_ranks)], rank
        self._timeout_s, self._lost, self._children = timeout_s, lost, children
        self._interval = min(1.0, timeout_s / 10)
        self._limit = math.ceil(timeout_s / self._interval)
        self._heard = [b""] * n_ranks
        self._silent = [0] * n_ranks
        self._all_have_begun = False
        self._unanswered = 0
        self.saving = False
        self._failure: str | None = None
        self._failed: str | None = None
        self._stopped = threading.Event()
        # Two threads, since a call to a frozen store never returns.
        self._threads = [
            threading.Thread(target=run, name=f"rank-watch-{run.__name__}", daemon=True)
            for run in (self._exchange, self._count_unanswered)
        ]

    def start(self) -> None:
        """Start to beat and to listen."""
        for thread in self._threads:
            thread.start()

    def stop(self, failure: str | None = None) -> str | None:
        """Stop beating; if this rank has failed, report that to the others first.

        Args:
            failure: error of this rank, if it has failed.

        Returns:
            The failure that another rank has reported, if any.
        """
        self._failure = failure
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=GRACE_S)
        return self._failed

    def _exchange(self) -> None:
        with suppress(RuntimeError):  # `_count_unanswered` notices that the store is gone
            for number in range(sys.maxsize):
                stopping = self._stopped.wait(self._interval)
                self._store.set(self._keys[self._rank], make_beat(number, self.saving, self._failure))
                self._listen()
                self._unanswered = 0
                if stopping:
                    return
                if self._failed is not None:
                    self._lost(self._failed, GRACE_S)
                for child in self._children:
                    if child.poll():  # None while it runs
                        self._lost(f"the rank with pid {child.pid} ended with exit code {child.returncode}", GRACE_S)
                for rank, silent in enumerate(self._silent):
                    patience = SAVING if silent and json.loads(self._heard[rank])["saving"] else 1
                    if silent >= patience * self._limit:
                        who = describe_rank(rank, self._heard[rank])
                        self._lost(f"{who} has not been heard of for {patience * self._timeout_s:g} s", 0.0)

    def _listen(self) -> None:
        self._all_have_begun = self._all_have_begun or self._store.check(self._keys)
        if not self._all_have_begun:
            return
        for rank, beat in enumerate(self._store.multi_get(self._keys)):
            self._silent[rank] = 0 if beat != self._heard[rank] else self._silent[rank] + 1
            self._heard[rank] = beat
            if rank != self._rank and (failure := json.loads(beat)["failure"]):
                self._failed = f"{describe_rank(rank, beat)} failed with {failure}"

    def _count_unanswered(self) -> None:
        while not self._stopped.wait(self._interval):
            self._unanswered += 1
            if self._unanswered >= self._limit:
                who = describe_rank(0, self._heard[0])
                self._lost(f"{who}, or the launcher on its machine, has not answered for {self._timeout_s:g} s", 0.0)


def make_beat(number: int = 0, saving: bool = False, failure: str | None = None) -> str:
    """Return the text that a rank writes into the store: a changing number, its host and process, and its state."""
    who = {"host": socket.gethostname(), "pid": os.getpid()}
    return json.dumps({"beat": number, **who, "saving": saving, "failure": failure})


def describe_rank(rank: int, beat: str | bytes) -> str:
    """Name a rank, with the host and process of its last beat if there was one."""
    if not beat:
        return f"rank {rank}"
    sender = json.loads(beat)
    return f"rank {rank} ({sender['host']}, pid {sender['pid']})"


def how_to_resume(run: Path | None) -> str:
    """Return lines with the command that resumes a run from its latest checkpoint; empty without a folder."""
    if run is None:
        return ""
    config = run / "config.yaml"
    checkpoints = [path for path in (run / "checkpoints").glob("*.ckpt") if not path.is_symlink()]
    if not checkpoints:
        return f"there is no checkpoint yet; start again with\n  sae fit --config {config}\n"
    latest = max(checkpoints, key=lambda path: path.stat().st_mtime)
    return f"resume from the latest checkpoint with\n  sae fit --config {config} --ckpt_path {latest}\n"
