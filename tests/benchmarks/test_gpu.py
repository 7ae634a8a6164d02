"""The script for a GPU: what of it can be had without one."""

import json

import pytest
import torch

from benchmarks import gpu, gpu_parts
from benchmarks.peers import CASES


def part(code, limit=30):
    return gpu.Part("a", "does it run", limit, ("-c", code))


def test_nothing_is_run_without_a_gpu(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 0
    assert "no GPU" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_what_a_part_prints_as_json_is_its_result():
    found = gpu.run(part("print('words'); print('{\"ms\": 1.5}'); print('{no json')"), 30)
    assert found["results"] == [{"ms": 1.5}]
    assert "error" not in found
    assert "1.5" in gpu.table("a", found)


@pytest.mark.parametrize(
    ("code", "limit", "error"),
    [
        ("print('{\"ms\": 1}'); raise SystemExit(3)", 30, "exit code 3"),
        ("import time; print('{\"ms\": 1}', flush=True); time.sleep(60)", 2, "more than 2 s"),
    ],
)
def test_a_part_that_fails_keeps_what_it_found(code, limit, error):
    found = gpu.run(part(code), limit)
    assert found["error"] == error
    assert found["results"] == [{"ms": 1}]
    assert error in gpu.table("a", found)


def test_all_parts_are_written_even_if_one_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "machine", dict)
    parts = (part("raise SystemExit(1)"), gpu.Part("b", "", 30, ("-c", "print('{\"n\": 2}')")))
    monkeypatch.setattr(gpu, "PARTS", parts)
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 1
    found = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert found["a"]["error"] == "exit code 1"
    assert found["b"]["results"] == [{"n": 2}]


def test_every_part_is_one_that_there_is():
    own = [each.command[2] for each in gpu.PARTS if each.command[1] == "benchmarks.gpu_parts"]
    assert sorted(own) == sorted(gpu_parts.PARTS)


@pytest.mark.parametrize("name", ["profile", "collectives"])
def test_a_part_runs_on_a_cpu(name):
    results = list(gpu_parts.PARTS[name](CASES["tiny"], torch.device("cpu")))
    assert results[0]["what"] in ("a step", "tensors that differ")
    assert results[0].get("n", 0) == 0
