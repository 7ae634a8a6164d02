import json
from pathlib import Path

import torch

from sae_lightning.callbacks.metrics_file import MetricsFile, collect, forget_after


def test_names_are_sorted_by_metric_policy_and_seed():
    logged = {
        "val/fvu/trained/0": torch.tensor(0.25),
        "val/fvu/trained/1": torch.tensor(float("nan")),
        "val/fvu/floor": torch.tensor(1.0),
        "val/ce/floor": torch.tensor(float("inf")),
        "train/mse/trained/0": torch.tensor(3.0),
        "test/fvu/trained/0": torch.tensor(0.75),
        "val/loss": torch.tensor(3.0),
    }
    assert collect(logged, "val") == {
        "metrics": {"fvu": {"trained": {"0": 0.25, "1": None}}},
        "floors": {"fvu": 1.0, "ce": None},
    }
    assert collect(logged, "test")["metrics"] == {"fvu": {"trained": {"0": 0.75}}}


def test_a_restart_forgets_what_it_will_write_again(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (10, 20, 30)) + '{"step": 4')
    forget_after(path, 20)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20]
    assert list(tmp_path.iterdir()) == [path]


def test_counters_survive_a_restart():
    first, second = MetricsFile(), MetricsFile()
    first.load_state_dict({"samples": 64, "seconds": 2.5})
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {"samples": 64, "seconds": 2.5}
