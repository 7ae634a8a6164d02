"""What the machine cannot do is said before data and model are built."""

import logging
import re

import pytest
import torch
from lightning.fabric import accelerators as fabric
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CUDAAccelerator

from sae_lightning.cli import main
from sae_lightning.commands.fit import SAECLI
from sae_lightning.commands.rehearsal import choose_machine, say_unused_devices
from sae_lightning.saes import TopK

VARIANTS = ("TopK", "BatchTopK", "JumpReLU", "ReLU", "Gated", "MatryoshkaBatchTopK")


def run(*args, model="TopK"):
    k = ("--model.k", "2") if "TopK" in model else ()
    data = ("--data", "SyntheticDataModule", "--data.d_in", "8", "--data.n_features", "16")
    main(["fit", "--model", model, "--model.d_sae", "16", *k, *data, *args])


@pytest.fixture
def nothing_is_built(monkeypatch):
    monkeypatch.setattr(SAECLI, "instantiate_classes", lambda self: pytest.fail("model and data were built"))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("accelerator", "gpu", "trainer.accelerator=gpu: No supported gpu backend.*no GPU that torch can use"),
        ("accelerator", "cuda", "trainer.accelerator=cuda.*not available.*no GPU that torch can use"),
        ("accelerator", "abacus", "trainer.accelerator=abacus.*invalid accelerator name"),
        ("devices", "0", "trainer.devices=0: .*not a valid input"),
        ("devices", "-1", "trainer.devices=-1: .*an int > 0"),
        ("devices", "[0, 1]", r"trainer.devices=\[0, 1\]: .*an int > 0"),
        ("num_nodes", "0", "trainer.num_nodes=0: expected a whole number, 1 or more"),
        ("strategy", "dpd", "trainer.strategy=dpd.*invalid strategy name"),
    ],
)
def test_devices_that_are_not_there(nothing_is_built, capsys, option, value, message):
    if torch.cuda.is_available():
        pytest.skip("a machine without a GPU is meant")
    with pytest.raises(SystemExit):
        run(f"--trainer.{option}", value)
    error = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in error
    assert re.search(message, error)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "transformer-engine"])
@pytest.mark.parametrize("model", VARIANTS)
def test_weights_in_half_precision_are_refused_for_every_variant(nothing_is_built, capsys, model, precision):
    with pytest.raises(SystemExit):
        run("--trainer.precision", precision, model=model)
    error = " ".join(capsys.readouterr().err.split())
    assert f"trainer.precision={precision} keeps the weights of SAEs in half precision" in error
    assert "Take trainer.precision=bf16-mixed" in error


class Settings(dict):
    __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__


def test_one_device_unless_asked(monkeypatch):
    seen = []
    monkeypatch.setattr(SAECLI, "instantiate_classes", lambda self: seen.append(self.settings.trainer.devices))
    monkeypatch.setattr(SAECLI, "_run_subcommand", lambda self, subcommand: None)
    run()
    run("--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert [int(n) for n in seen] == [1, 2]


def test_gpus_that_stay_unused_are_named(monkeypatch, caplog):
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    with caplog.at_level(logging.INFO):
        say_unused_devices(trainer)
        assert "GPUs is used" not in caplog.text
        monkeypatch.setattr(type(trainer), "accelerator", CUDAAccelerator())
        say_unused_devices(trainer)
    assert "1 of 8 GPUs is used. With --trainer.devices 8 --trainer.strategy ddp" in caplog.text


def test_a_device_without_float64_is_left_aside_and_refused_where_it_was_asked_for(monkeypatch):
    monkeypatch.setattr(fabric.MPSAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(fabric.CUDAAccelerator, "is_available", staticmethod(lambda: False))
    settings = Settings(accelerator="auto", devices=1)
    choose_machine(settings)
    assert settings.accelerator == "cpu"
    with pytest.raises(ValueError, match="trainer.accelerator=mps: metrics are sums in float64"):
        choose_machine(Settings(accelerator="mps", devices=1))


def test_an_sae_in_a_trainer_of_ones_own_refuses_a_device_without_float64(monkeypatch):
    trainer, sae = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), TopK(4, d_sae=8, k=2)
    monkeypatch.setattr(type(trainer.strategy), "root_device", torch.device("mps"))
    sae.trainer = trainer
    with pytest.raises(ValueError, match="trainer.accelerator=mps: metrics are sums in float64"):
        sae.setup("fit")
