"""Two ranks that share each batch train the SAE that one process trains, up to the order of sums."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_text, save_tiny_lm

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parent)}
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for launcher, devices in (([sys.executable], "1"), (ranks, "2")):
        done = subprocess.run(
            [*launcher, str(SCRIPT), str(folder), devices], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", ["topk", "batch_topk", "relu", "jump_relu", "panel"])
def test_two_ranks_train_what_one_process_trains(folder, name):
    one, two = (torch.load(folder / f"{name}-{devices}.pt", weights_only=True) for devices in (1, 2))
    assert one["dead"] == two["dead"]
    if name in ("topk", "batch_topk", "panel"):
        assert one["dead"] > 0, "AuxK must have had something to do"
    for key, tensor in one["state"].items():
        if key.endswith("samples_since_fired"):
            assert torch.equal(tensor, two["state"][key]), key
        else:
            torch.testing.assert_close(two["state"][key], tensor, rtol=1e-3, atol=2e-5, msg=key)


RUN = """
model: {class_path: BatchTopK, init_args: {d_sae: 32, k: 4, scale_input: true, lr_scheduler: WarmupDecay}}
data:
  class_path: LanguageModelDataModule
  init_args:
    model: lm
    hook: model.layers.0
    text: {class_path: FileText, init_args: {paths: text.jsonl}}
    context_length: 16
    batch_size: 32
    train_samples: 1280
    val_samples: 64
    buffer_samples: 256
    llm_batch_size: 4
trainer:
  accelerator: cpu
  strategy: ddp
  devices: 2
  val_check_interval: 10
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {filename: "{step}", save_top_k: -1}
    - class_path: LossRecovered
      init_args: {min_gap_nats: 1.0e-9}
"""


def test_two_ranks_go_on_where_they_stopped(tmp_path):
    save_tiny_lm(tmp_path / "lm")
    save_text(tmp_path / "text.jsonl", 400)
    (tmp_path / "run.yaml").write_text(RUN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def fit(*arguments):
        command = [sys.executable, "-m", "sae_lightning", "fit", "--config", "run.yaml", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]

    fit("--name", "whole")
    fit("--name", "resumed", "--ckpt_path", "lightning_logs/whole/version_0/checkpoints/step=10.ckpt")
    whole, resumed = (
        load_file(tmp_path / "lightning_logs" / name / "version_0/saes/trained/0/sae.safetensors")
        for name in ("whole", "resumed")
    )
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    assert not torch.equal(whole["W_dec"], whole["W_dec_start"])
