import json

import pytest
import torch

from sae_lightning.cli import main
from sae_lightning.evaluators import Convergence
from sae_lightning.evaluators.convergence import LOSS_FALL
from sae_lightning.runs import Run

COMMAND = ["--data=SyntheticDataModule", "--data.d_in=8", "--data.n_features=32", "--data.batch_size=32"]
COMMAND += ["--data.train_samples=1280", "--data.val_samples=64", "--model=SanityPanel", "--model.sae=BatchTopK"]
COMMAND += ["--model.sae.k=4", "--model.sae.expansion_factor=2", "--trainer.accelerator=cpu"]
COMMAND += ["--trainer.enable_progress_bar=false", "--trainer.val_check_interval=20"]
COMMAND += ["--trainer.log_every_n_steps=10"]


def test_it_says_of_every_member_how_far_its_loss_falls(panel, synthetic, trainer):
    evaluator = Convergence()
    run = trainer(evaluator)
    run.fit(panel, synthetic)
    falls = panel.loss_curve.fall()
    for member, fall in zip(panel.members, falls, strict=True):
        assert run.callback_metrics[f"val/loss_fall/{member}"] == pytest.approx(fall.item())
    assert evaluator.measured["loss_fall"].metric is LOSS_FALL
    assert LOSS_FALL.better is None


def test_without_training_it_says_nothing(panel, synthetic, trainer):
    run = trainer(Convergence())
    run.validate(panel, synthetic, verbose=False)
    assert not any("loss_fall" in name for name in run.callback_metrics)


def test_a_run_says_it_and_so_does_its_checkpoint(tmp_path, capsys):
    where = f"--trainer.logger.save_dir={tmp_path}"
    main(["fit", *COMMAND, where, "--name=run"])
    run = tmp_path / "run/version_0"
    falls = {tag: value for tag, value in Run(run).measurements.values.items() if tag.metric == "loss_fall"}
    [members] = falls.values()
    assert len(members) == 4
    assert all(value is not None for value in members.values())
    capsys.readouterr()
    main(["compare", str(run), "--all"])
    assert "loss_fall" in capsys.readouterr().out
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss_fall" in line["metrics"]] == [20, 40]
    checkpoint = run / "checkpoints/last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["loss_curve"]["n_steps"] == 40
    main(["validate", *COMMAND, where, "--name=again", f"--ckpt_path={checkpoint}"])
    again = Run(next((tmp_path / "again").iterdir())).measurements.values
    assert again[next(iter(falls))] == pytest.approx(members)
