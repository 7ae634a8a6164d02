"""Ranks, and commands that go on from a run, leave out the same massive activations."""

import json

import pytest
import tiny
import yaml
from fit_in_server import fit, run

from sae_lightning.datamodules.norms import FILE_NAME
from sae_lightning.members import Member, Tag
from sae_lightning.runs.metrics_lines import read_validations

SIZES = {"batch_size": 32, "train_samples": 640, "val_samples": 320, "buffer_samples": 128, "context_length": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    tiny.save_sink_lm(folder / "lm")
    for name, start in (("text", 0), ("other", 500)):
        tiny.save_text(folder / f"{name}.jsonl", 400, start)
    sizes = SIZES | {"llm_batch_size": 4, "loss_samples": 64}
    text = {"class_path": "FileText", "init_args": {"paths": "text.jsonl"}}
    data = {"model": "lm", "hook": "transformer.drop", "text": text, **sizes}
    config = {
        "model": {"class_path": "TopK", "init_args": {"d_sae": 32, "k": 4, "scale_input": True}},
        "data": {"class_path": "massive_ranks.Disagreeing", "init_args": data},
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 5},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    return folder


def scores(run):
    last = read_validations(run / "metrics.jsonl")[-1]
    names = ("explained_variance", "massive_fraction")
    return {name: last.values[Tag(name, "")][Member("trained", 0)] for name in names}


def test_ranks_and_validation_go_by_the_number_of_the_first_rank(folder):
    logs = folder / "lightning_logs"
    parallel = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    assert fit(folder, "run.yaml", "--name", "two", *parallel, ranks=2) == [0, 0]
    limits = [float((folder / f"limit-{rank}.txt").read_text()) for rank in range(2)]
    norms = json.loads((logs / "two/version_0" / FILE_NAME).read_text())
    assert limits == [10 * norms["norms"][""]["median"]] * 2
    output = (folder / "output-0.txt").read_text()
    assert output.count("Massive activations: ") == 1
    assert "Left out as massive by this process: " in output

    checkpoint = ["--ckpt_path", str(logs / "two/version_0/checkpoints/last.ckpt")]
    other = ["--data.text.paths", "other.jsonl"]
    for name, arguments, ranks in (("one", [], 1), ("both", parallel, 2), ("other", other, 1)):
        options = ["--name", name, *checkpoint, *arguments]
        assert run(folder, "validate", "--config", "run.yaml", *options, ranks=ranks) == [0] * ranks
        assert json.loads((logs / name / "version_0" / FILE_NAME).read_text()) == norms
    one, both = (scores(logs / name / "version_0") for name in ("one", "both"))
    assert both["explained_variance"] == pytest.approx(one["explained_variance"], abs=0.02)
    assert both["massive_fraction"] == pytest.approx(one["massive_fraction"], rel=0.1)
    assert one["massive_fraction"] == pytest.approx(1 / 15, rel=0.1)
