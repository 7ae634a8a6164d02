"""Beats through a real store; that a run whose rank is killed stops is tested in test_two_processes.py."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from lightning.pytorch import LightningModule, Trainer
from torch.distributed import TCPStore

from sae_lightning.callbacks import RankWatch
from sae_lightning.callbacks.rank_watch import Heartbeat, how_to_resume

TIMEOUT_S = 1.0


@pytest.fixture
def server():
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def client(port):
    return TCPStore("127.0.0.1", port, wait_for_workers=False, timeout=timedelta(seconds=5))


def beating(port, rank, lost, n_ranks=2, timeout_s=TIMEOUT_S):
    heartbeat = Heartbeat(client(port), "group", rank, n_ranks, timeout_s, lambda reason, grace_s: lost.append(reason))
    heartbeat.start()
    return heartbeat


def hear_each_other(ranks):
    """Whether every rank has heard all: a store is asked twice, whether all have begun and then for their beats."""
    return all(all(rank._heard) for rank in ranks)


def until(condition, seconds=60.0):
    """Wait for what comes at once on an idle machine, and later on one with other work."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_ranks_that_beat_hear_each_other(server):
    lost = []
    ranks = [beating(server.port, rank, lost, n_ranks=3) for rank in range(3)]
    assert until(lambda: hear_each_other(ranks))
    time.sleep(2 * TIMEOUT_S)
    assert [rank.stop() for rank in ranks] == [None] * 3
    assert lost == []


def test_a_rank_that_has_not_begun_is_waited_for(server):
    lost = []
    rank = beating(server.port, 0, lost)
    time.sleep(2 * TIMEOUT_S)
    rank.stop()
    assert lost == []


def test_a_rank_that_falls_silent_is_named(server):
    lost = []
    ranks = [beating(server.port, rank, lost) for rank in range(2)]
    assert until(lambda: hear_each_other(ranks))
    began = time.monotonic()
    ranks[1].stop()
    assert until(lambda: lost)
    assert time.monotonic() - began > 0.5 * TIMEOUT_S
    ranks[0].stop()
    assert lost[0].startswith("rank 1 (")
    assert lost[0].endswith("has not been heard of for 1 s")


def test_a_rank_that_saves_may_be_silent_for_longer(server):
    lost = []
    ranks = [beating(server.port, rank, lost) for rank in range(2)]
    assert until(lambda: hear_each_other(ranks))
    ranks[1].saving = True
    ranks[1].stop()
    time.sleep(2 * TIMEOUT_S)
    assert lost == []
    assert until(lambda: lost)
    ranks[0].stop()
    assert lost[0].endswith("has not been heard of for 4 s")


def test_a_failure_is_told_at_once(server):
    lost = []
    ranks = [beating(server.port, rank, lost, timeout_s=1000.0) for rank in range(2)]
    assert until(lambda: hear_each_other(ranks))
    ranks[1].stop("ValueError: loss is nan")
    assert until(lambda: lost), "long before it would count as silent"
    assert "rank 1 (" in lost[0]
    assert "failed with ValueError: loss is nan" in lost[0]
    assert "ValueError: loss is nan" in ranks[0].stop()


def test_a_child_that_was_killed_is_told(server):
    lost = []
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    heartbeat = Heartbeat(client(server.port), "group", 0, 1, TIMEOUT_S, lambda reason, _: lost.append(reason), [child])
    heartbeat.start()
    time.sleep(TIMEOUT_S / 2)
    assert lost == []
    child.kill()
    assert until(lambda: lost)
    heartbeat.stop()
    assert lost[0] == f"the rank with pid {child.pid} ended with exit code -9"


SERVER = "import sys, time; from torch.distributed import TCPStore; store = TCPStore('127.0.0.1', 0, is_master=True, \
wait_for_workers=False); print(store.port, flush=True); time.sleep(60)"


@pytest.mark.parametrize("end", ["SIGKILL", "SIGSTOP"])
def test_a_store_that_does_not_answer_is_told(end):
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        lost = []
        ranks = [beating(port, rank, lost) for rank in range(2)]
        assert until(lambda: hear_each_other(ranks))
        process.send_signal(getattr(signal, end))
        # A thread that got no time just then may have been taken for silent before.
        assert until(lambda: any("has not answered for 1 s" in reason and "rank 0 (" in reason for reason in lost))
    finally:
        process.kill()  # frees those who wait for an answer
        process.wait()
        process.stdout.close()
    for rank in ranks:
        rank.stop()


def test_one_process_is_not_watched():
    before = threading.active_count()
    trainer, module = MagicMock(spec=Trainer), LightningModule()
    watch = RankWatch()
    watch.setup(trainer, module, "fit")
    watch.on_exception(trainer, module, RuntimeError("Connection"))
    watch.teardown(trainer, module, "fit")
    assert threading.active_count() == before
    assert trainer.mock_calls == []


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_time_that_is_none_is_refused(timeout_s):
    with pytest.raises(ValueError, match="expected a finite number above 0, seconds"):
        RankWatch(timeout_s)


@pytest.mark.parametrize(
    ("exception", "told"),
    [
        (SystemExit(143), None),
        (ValueError("loss is nan"), "ValueError: loss is nan"),
    ],
)
def test_an_interruption_all_ranks_know_of_is_not_told(exception, told):
    watch = RankWatch()
    heard = []
    watch._heartbeat = SimpleNamespace(stop=heard.append)
    watch.on_exception(MagicMock(spec=Trainer), LightningModule(), exception)
    assert heard == [told]


def test_a_broken_connection_is_explained(capsys):
    watch = RankWatch()
    watch._heartbeat = SimpleNamespace(stop=lambda failure: None)
    watch.on_exception(MagicMock(spec=Trainer), LightningModule(), RuntimeError("Connection reset by peer"))
    assert "its connection to another rank broke" in capsys.readouterr().err


def test_the_latest_checkpoint_is_named(tmp_path):
    assert how_to_resume(None) == ""
    assert "there is no checkpoint yet" in how_to_resume(tmp_path)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for age, name in ((20, "step=10.ckpt"), (10, "step=20.ckpt")):
        (folder / name).touch()
        os.utime(folder / name, (1_000_000_000 - age,) * 2)
    (folder / "last.ckpt").symlink_to(folder / "step=20.ckpt")
    assert f"--config {tmp_path / 'config.yaml'} --ckpt_path {folder / 'step=20.ckpt'}\n" in how_to_resume(tmp_path)


def test_patience_begins_before_ranks_gather_their_buffers():
    """Lightning asks callbacks for their state before the datamodule for its own."""
    watch = RankWatch()
    assert watch.state_dict() == {}
    watch._heartbeat = SimpleNamespace(saving=False)
    assert watch.state_dict() == {}
    assert watch._heartbeat.saving
