"""The benchmark runs, reports what it says, and refuses to compare what does not compute the same."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks import train_step
from benchmarks.peers import CASES, Begin, Dense, OursBare, Task, batches, weights

KEYS = {"case", "kind", "impl", "samples_per_s", "ms", "spread", "peak_mb", "import_mb", "floor_ratio", "stages"}


def test_one_line_a_measurement(capsys):
    case = ["--case", "tiny", "--kind", "topk", "--impl", "ours", "dense", "--device", "cpu", "--json"]
    assert train_step.main([*case, "--steps", "2", "--rounds", "2"]) == 0, capsys.readouterr().err
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["kind"], r["impl"]) for r in records] == [("topk", impl) for impl in ("ours", "dense", "floor")]
    for record in records:
        assert set(record) == KEYS
        low, high = record["spread"]
        assert 0 < low <= record["ms"] <= high
        assert record["samples_per_s"] == pytest.approx(1e3 * CASES["tiny"].batch / record["ms"], rel=1e-2)
        assert 0 < record["import_mb"] < record["peak_mb"]
        # The SAE and its batches take 2 MB; torch's compiler, which its optimizers import, 75 that count as imported.
        assert record["peak_mb"] - record["import_mb"] < 40
        assert record["floor_ratio"] > 0
        assert all(ms >= 0 for ms in record["stages"].values())
    stages = {record["impl"]: set(record["stages"]) for record in records}
    assert stages["dense"] == {"forward", "backward", "optimizer"}
    assert {"encode", "select", "decode", "backward", "optimizer", "other"} >= stages["ours"] >= {"backward", "other"}


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "relu", "relu_start", "jumprelu"])
def test_a_wrong_weight_is_found(kind):
    task = Task("tiny", kind, "dense")
    x = batches(task, 1)[0]
    ours, dense = (impl(task, weights(task, x)) for impl in (OursBare, Dense))
    with torch.no_grad():
        begins = {"ours": ours.begin(x), "dense": dense.begin(x)}
        train_step.check_agreement(begins, "here")
        dense.p["W_dec"][:10] *= 2
        begins["dense"] = dense.begin(x)
    with pytest.raises(train_step.BenchmarkError, match=f"{begins['dense'].loss:.6g}.*{begins['ours'].loss:.6g}"):
        train_step.check_agreement(begins, "here")
    with pytest.raises(train_step.BenchmarkError, match="l0"):
        train_step.check_agreement({"ours": Begin(1.0, 8.0), "dense": Begin(1.0, 8.1)}, "here")


@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
def test_where_relu_and_jumprelu_start(kind):
    task = Task("tiny", kind, "ours_bare")
    x = batches(task, 1)[0]
    assert x.square().sum(1).mean().item() == pytest.approx(1, rel=0.05)
    with torch.no_grad():
        assert OursBare(task, weights(task, x)).begin(x).l0 == pytest.approx(64, rel=0.1)


@pytest.mark.parametrize("impl", [OursBare, Dense])
def test_aux_k_has_work(impl):
    task = Task("tiny", "topk_aux", "dense")
    x = batches(task, 1)[0]
    sae = impl(task, weights(task, x))
    before = sae.sae.W_dec.clone() if impl is OursBare else sae.p["W_dec"].detach().clone()
    for _ in range(2):
        sae.step(x)
    after = sae.sae.W_dec if impl is OursBare else sae.p["W_dec"]
    assert (before != after)[task.dead].any(1).all()  # they fire in no sample, so only AuxK moves them


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--impl", "theirs"], "invalid choice: 'theirs'"),
        (["--case", "z"], "invalid choice: 'z'"),
        (["--rounds", "0"], "expected 1 or more"),
        (["--plot", "figure.txt"], "ends in .svg or .png"),
    ],
)
def test_errors_are_reported_in_a_line(args, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        train_step.main(args)
    assert message in capsys.readouterr().err


def test_nothing_to_measure(capsys):
    assert train_step.main(["--case", "tiny", "--kind", "panel", "--impl", "dense"]) == 1
    assert "nothing to measure" in capsys.readouterr().err


def test_the_case_for_a_gpu_is_left_out_without_one(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train_step.main(["--case", "e", "--impl", "ours"]) == 0
    assert "python -m benchmarks.train_step --case e" in capsys.readouterr().err


def test_workers_end_with_the_process_that_started_them():
    code = (
        "from benchmarks import peers, turns, worker\n"
        "started = turns.Worker(peers.Task('tiny', 'topk', 'dense'), worker.job)\n"
        "started.build()\n"
        "print('building is done', flush=True)\n"
        "started.turn(10**9)\n"
    )
    script = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert script.stdout is not None
    assert script.stdout.readline() == "building is done\n"
    script.kill()
    script.communicate(timeout=20)  # the worker writes to the same stderr: it stays open as long as one of them lives
